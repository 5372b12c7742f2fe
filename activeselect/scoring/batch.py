"""Batches of completions: rows leave and join, and the memory limit is never exceeded."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from activeselect.arrays import IntArray
from activeselect.errors import ModelError
from activeselect.scoring.cache import Reader, closed_up
from activeselect.scoring.memory import is_out_of_memory, too_small, warn_of_halves

#: Tokens after which completions are looked at for stop texts.
CHECK_EVERY = 8
#: Columns that blocks get beyond the longest text: at least so many, and a share of its length.
ROOM, ROOM_SHARE = 8, 8


@dataclass(frozen=True)
class Waiting:
    """A text to be read, and the completions that go on from it."""

    text: NDArray[np.int32]
    rows: IntArray


class Batch:
    """Completions under way. Those of one prompt are neighbours: ``prompt * samples + sample``.

    Args:
        reader: makes an empty reader.
        prompts: token ids per prompt.
        limits: most tokens of each completion, int64 ``[prompts * samples]``.
        memory: most tokens that the cache holds.
        joins: whether rows may join others that are under way.
        padded: whether texts of different length may share a batch.
        watched: the log-probabilities of these completions' tokens are put here.
    """

    def __init__(
        self,
        reader: Callable[[], Reader],
        prompts: Sequence[NDArray[np.int32]],
        limits: IntArray,
        *,
        memory: int,
        joins: bool,
        padded: bool,
        watched: dict[int, list[float]],
    ) -> None:
        self._new_reader, self._prompts, self._limits = reader, prompts, limits
        self._memory, self._joins, self._padded = memory, joins, padded
        self._watched = watched
        self._is_watched = np.zeros(len(limits), dtype=bool)
        self._is_watched[list(watched)] = True
        self._samples = max(1, len(limits) // max(1, len(prompts)))
        self._reader = reader()
        self._logits: Tensor | None = None
        self._size = (0, 0)  # rows and columns that the cache was last given
        self._tokens = np.zeros((len(limits), int(limits.max(initial=0))), dtype=np.int32)
        self._ended = np.zeros(len(limits), dtype=bool)
        self.counts = np.zeros(len(limits), dtype=np.int64)
        self.active = np.zeros(0, dtype=np.int64)
        self._waiting: list[Waiting] = []
        self._wait(
            [
                Waiting(prompt, np.arange(i * self._samples, (i + 1) * self._samples))
                for i, prompt in enumerate(prompts)
            ]
        )

    def goes_on(self) -> bool:
        """Whether a completion is under way or waits."""
        return bool(len(self.active) or self._waiting)

    def completions(self) -> list[list[list[int]]]:
        """The tokens of each prompt's completions."""
        for row, found in self._watched.items():
            del found[int(self.counts[row]) :]  # the end token, which is not in the completion
        rows = [row[:n].tolist() for row, n in zip(self._tokens, self.counts, strict=True)]
        return [rows[i : i + self._samples] for i in range(0, len(rows), self._samples)]

    @contextmanager
    def memory_permitting(self) -> Iterator[None]:
        """What is done inside is done again with half the cache where memory runs out.

        Raises:
            ModelError: if memory is too small for the completions of a single prompt.
        """
        try:
            yield
            return
        except (MemoryError, RuntimeError) as error:  # torch.OutOfMemoryError is a RuntimeError
            if not is_out_of_memory(error):
                raise
        rows, columns = self._size
        if rows <= self._samples:
            raise too_small(rows * columns)
        warn_of_halves(rows * columns)
        self._memory = rows * columns // 2
        self._interrupt(np.ones(len(self.active), dtype=bool))
        self._reader, self._logits = self._new_reader(), None
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def make_room(self) -> Tensor:
        """Let rows wait or join as the memory allows; logits of the next token, ``[rows, V]``."""
        if not self._joins:
            if not len(self.active):
                self._join(self._alone())
        elif self._reader.is_full() or (
            self._waiting and len(self.active) <= 3 / 4 * self._size[0]
        ):
            self._crowd_out()
            self._join(self._fitting())
        assert self._logits is not None
        return self._logits

    def append(
        self,
        token: Tensor,
        ends: IntArray,
        stopped: Callable[[list[list[int]]], list[bool]] | None,
    ) -> None:
        """Give each row its next token; those that end with it leave."""
        rows, new = self.active, token.cpu().numpy()
        at_end = np.isin(new, ends)
        self._watch(new)
        self._tokens[rows, self.counts[rows]] = new
        self.counts[rows] += ~at_end
        done = at_end | (self.counts[rows] >= self._limits[rows])
        if stopped is not None:
            look = np.flatnonzero(~done & (self.counts[rows] % CHECK_EVERY == 0))
            if len(look):
                done[look] = stopped(
                    [self._tokens[r, : self.counts[r]].tolist() for r in rows[look]]
                )
        self._ended[rows[done]] = True
        if done.any():
            token = token[torch.from_numpy(self._keep(~done)).to(token.device)]
        self._logits = self._reader.step(token) if len(self.active) else None

    def _keep(self, stays: NDArray[np.bool_]) -> IntArray:
        order = closed_up(stays)
        self.active = self.active[order]
        if len(order):
            self._reader.take(order)
        else:
            self._reader = self._new_reader()
        return order

    def _wait(self, more: list[Waiting]) -> None:
        """Long texts first: those of similar length run together."""
        self._waiting = sorted(self._waiting + more, key=lambda work: -len(work.text))

    def _interrupt(self, rows: NDArray[np.bool_]) -> None:
        """Let some active rows wait, with the tokens that they have so far."""
        waiting = []
        for row in self.active[rows]:
            so_far = self._tokens[row, : self.counts[row]]
            text = np.concatenate([self._prompts[row // self._samples], so_far])
            waiting.append(Waiting(text, np.array([row])))
        self._wait(waiting)
        self.active = self.active[~rows]

    def _crowd_out(self) -> None:
        """Let the youngest rows wait where the next columns would exceed the memory."""
        most = max(self._samples, self._memory // _with_room(self._reader.width))
        if len(self.active) > most:
            youngest = np.lexsort((self.active, -self.counts[self.active]))
            leaves = np.zeros(len(self.active), dtype=bool)
            leaves[youngest[most:]] = True
            before, order = self.active, closed_up(~leaves)
            self._interrupt(leaves)
            self.active = before[order]
            self._reader.take(order)
            assert self._logits is not None
            self._logits = self._logits[torch.from_numpy(order).to(self._logits.device)]

    def _alone(self) -> list[Waiting]:
        """What may run together from here to the end."""
        chosen: list[Waiting] = []
        rows = columns = 0
        for work in self._waiting:
            rows += len(work.rows)
            columns = max(columns, len(work.text) + int(self._left(work.rows).max()))
            alike = self._padded or not chosen or len(work.text) == len(chosen[0].text)
            if chosen and not (alike and rows * columns <= self._memory):
                break
            chosen.append(work)
            self._size = rows, columns
        return chosen

    def _fitting(self) -> list[Waiting]:
        """What may join now, so that the texts fit when they are as long as those before them."""
        ended, now = self.counts[self._ended], self.counts[self.active]
        likely = max(ended.mean(), now.mean() if len(now) else 0) if len(ended) else np.inf
        chosen: list[Waiting] = []
        rows = len(self.active)
        columns = _with_room(self._reader.width) if rows else 0
        for work in self._waiting:
            ahead = np.minimum(self._left(work.rows), likely - self.counts[work.rows]).max()
            columns = max(columns, _with_room(len(work.text)), len(work.text) + int(ahead))
            if rows and (rows + len(work.rows)) * columns > self._memory:
                break
            rows += len(work.rows)
            chosen.append(work)
        return chosen

    def _join(self, chosen: list[Waiting]) -> None:
        self._waiting = self._waiting[len(chosen) :]
        joined = np.concatenate([self.active, *(work.rows for work in chosen)])
        if self._joins:
            self._size = len(joined), self._columns(joined)
        if not chosen:
            self._reader.lay(*self._size)
            return
        copies = np.array([len(work.rows) for work in chosen])
        try:
            new = self._reader.add([work.text for work in chosen], copies, *self._size)
        except BaseException:
            self._waiting = chosen + self._waiting
            raise
        if new.isnan().any():
            raise ModelError(
                "The model predicts NaN: its training diverged. Lower recipe.learning_rate, or "
                "set recipe.clip or recipe.precision."
            )
        self._logits = new if self._logits is None else torch.cat([self._logits, new])
        self.active = joined

    def _columns(self, rows: IntArray) -> int:
        """Columns of the blocks: with room, but for no more tokens than the texts may have."""
        lengths = self.counts[rows] + [len(self._prompts[row // self._samples]) for row in rows]
        whole = int((lengths + self._left(rows)).max())
        roomy = _with_room(int(lengths.max()))
        if not self._waiting:  # nobody else wants the memory
            roomy = max(roomy, self._memory // len(rows))
        return min(whole, roomy)

    def _left(self, rows: IntArray) -> IntArray:
        left: IntArray = self._limits[rows] - self.counts[rows]
        return left

    def _watch(self, token: IntArray) -> None:
        """Append the log-probability of the newest token of each watched completion."""
        assert self._logits is not None
        places = np.flatnonzero(self._is_watched[self.active])
        if not len(places):
            return
        logits = self._logits[torch.from_numpy(places).to(self._logits.device)].float()
        chosen = torch.from_numpy(token[places].astype(np.int64)).to(logits.device)
        given = torch.log_softmax(logits, dim=-1).gather(1, chosen[:, None])[:, 0].tolist()
        for row, value in zip(self.active[places].tolist(), given, strict=True):
            found = self._watched[row]
            del found[int(self.counts[row]) :]
            found.append(value)


def _with_room(width: int) -> int:
    return width + max(ROOM, width // ROOM_SHARE)
