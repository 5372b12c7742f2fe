"""Distributed scoring: chunks, dealt to ranks and kept one by one; a stop changes nothing.

The chunks follow from the examples' lengths alone. So an example is measured in the same batch, to
the same bits, whichever rank does it, whatever the number of ranks, and whether or not the pass
was stopped in between.
"""

from __future__ import annotations

import hashlib
import heapq
import json
import os
import shutil
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist

from activeselect.arrays import IntArray
from activeselect.data.prompts import batches_by_tokens
from activeselect.errors import ActiveSelectError
from activeselect.files import explained
from activeselect.scoring.pace import Pace
from activeselect.scoring.scorer import Scores, joined

# --- Processes
#
# Every process ("rank") runs the same program. What all have to know is gathered; what must happen
# once happens on rank 0, and the others are told its result, or its error.


T = TypeVar("T")


def rank() -> int:
    """Number of this process, from 0."""
    return dist.get_rank() if _several() else 0


def world_size() -> int:
    """How many processes there are."""
    return dist.get_world_size() if _several() else 1


def gathered(value: T) -> list[T]:
    """The values of all ranks, in their order, on every rank."""
    if not _several():
        return [value]
    values: list[Any] = [None] * world_size()
    dist.all_gather_object(values, value)
    return values


def together(work: Callable[[], T]) -> list[T]:
    """Let every rank do its part; returns all results, or raises the first error, on every rank.

    Without this a rank that fails would leave the others waiting for it.

    Raises:
        Exception: what ``work`` raised on this rank, or else an ActiveSelectError that says what it
            raised on another one.
    """
    if not _several():
        return [work()]
    result, mine = None, None
    try:
        result = work()
    except Exception as error:
        mine = error
    outcomes = gathered((result, None if mine is None else _portable(mine)))
    if mine is not None:
        if isinstance(mine, ActiveSelectError):
            mine.elsewhere = rank() > 0
        raise mine
    for _, theirs in outcomes:
        if theirs is not None:
            theirs.elsewhere = rank() > 0
            raise theirs
    return [outcome for outcome, _ in outcomes]  # type: ignore[misc]


def once(work: Callable[[], T]) -> T:
    """Let rank 0 do something; every rank returns its result, or raises its error."""
    return together(lambda: work() if rank() == 0 else None)[0]  # type: ignore[return-value]


def _several() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def _portable(error: Exception) -> ActiveSelectError:
    """The error as other processes can read it."""
    if isinstance(error, ActiveSelectError):
        return type(error)(str(error))
    return ActiveSelectError(f"Rank {rank()} failed ({type(error).__name__}: {error}).")


def deal(costs: Sequence[float], world_size: int) -> list[list[int]]:
    """Share out work so that all finish at about the same time.

    The longest first, each to the rank with the least so far (Graham's LPT rule, 1969: the last to
    finish needs at most 4/3 of the best possible time).

    Returns:
        positions in ``costs`` for each rank.

    Example:
        >>> deal([4, 9, 3, 5], 2)
        [[1, 2], [3, 0]]
    """
    loads = [(0.0, rank) for rank in range(world_size)]
    shares: list[list[int]] = [[] for _ in range(world_size)]
    for item in sorted(range(len(costs)), key=lambda item: -costs[item]):
        load, rank = heapq.heappop(loads)
        shares[rank].append(item)
        heapq.heappush(loads, (load + costs[item], rank))
    return shares


def score_in_chunks(
    score: Callable[[IntArray], Scores],
    index: IntArray,
    lengths: IntArray,
    *,
    batch_tokens: int,
    chunks: Chunks,
    key: Sequence[Any],
    tell: Callable[[Pace], None] | None = None,
) -> Scores:
    """Measure every example once, over all ranks.

    Args:
        score: measures some positions of the pool with the model as it is now.
        index: positions, distinct, int64 ``[B]``.
        lengths: what each costs, in tokens, int64 ``[B]``.
        batch_tokens: tokens per chunk; a longer example is a chunk of its own.
        chunks: keeps finished chunks until the pass is over.
        key: what the results depend on besides ``index``; JSON-ready.
        tell: told how far this process is, before the first chunk and after each.

    Returns:
        the same on every rank, in the order of ``index``.
    """
    started = time.perf_counter()
    batches = batches_by_tokens(lengths, batch_tokens) or [np.arange(0)]
    name = _hash([*key, index.tolist(), lengths.tolist(), batch_tokens])
    done = chunks.of(name)
    before = set().union(*gathered(set(done)))
    todo = [chunk for chunk in range(len(batches)) if chunk not in before]
    share = deal([int(lengths[batches[i]].sum()) for i in todo], world_size())[rank()]

    mine = [todo[i] for i in share]
    work_of = {chunk: int(lengths[batches[chunk]].sum()) for chunk in mine}

    def report(parts: Sequence[int]) -> None:
        if tell is not None:
            ready = sum(work_of[chunk] for chunk in parts) / max(sum(work_of.values()), 1)
            count, of = (sum(len(batches[chunk]) for chunk in some) for some in (parts, mine))
            tokens = sum(done[chunk].tokens_generated for chunk in parts)
            tell(Pace(count, of, ready, tokens, time.perf_counter() - started))

    def work() -> dict[int, Scores]:
        report([])
        for number, chunk in enumerate(mine):
            done[chunk] = score(index[batches[chunk]])
            chunks.keep(name, chunk, done[chunk])
            report(mine[: number + 1])
        return done

    found: dict[int, Scores] = {}
    for some in together(work):
        found |= some
    spent = sum(found[chunk].seconds for chunk in before) / world_size()
    scores = joined([found[chunk] for chunk in range(len(batches))])
    back = np.argsort(np.concatenate(batches))
    return replace(scores.take(back), seconds=spent + time.perf_counter() - started)


class Chunks:
    """Finished chunks of passes whose round is not stored yet, one small JSON file each.

    A file that a stop left incomplete is ignored: its checksum does not fit.

    Args:
        folder: where they lie; None keeps nothing.
        shared: where runs that measure the same weights, with the same settings, find each
            other's; these stay.

    Attributes:
        seconds_taken: what measuring took that other runs had done.
    """

    def __init__(self, folder: Path | None, shared: Path | None = None) -> None:
        self.folder, self.shared = folder, shared
        self.seconds_taken = 0.0

    def of(self, name: str) -> dict[int, Scores]:
        """Chunks of a pass that are finished, by number."""
        own, others = _read(self.folder, name), _read(self.shared, name)
        self.seconds_taken += sum(others[chunk].seconds for chunk in others.keys() - own.keys())
        return {**others, **own}

    def keep(self, name: str, chunk: int, scores: Scores) -> None:
        """Keep one chunk; not synced, for a lost one is only measured again."""
        content = json.dumps(scores.to_plain())
        for folder in filter(None, (self.folder, self.shared)):
            file = folder / f"{name}-{chunk}.json"
            with explained(file):
                folder.mkdir(parents=True, exist_ok=True)
                temporary = file.with_suffix(f".{os.getpid()}.tmp")  # others may write it, too
                seal = _hash(f"{name}-{chunk}\n{content}")
                temporary.write_text(f"{seal}\n{content}", encoding="utf-8")
                temporary.replace(file)

    def clear(self) -> None:
        """Forget all: what they led to is on the disk."""
        if self.folder is not None and rank() == 0:
            shutil.rmtree(self.folder, ignore_errors=True)


def _read(folder: Path | None, name: str) -> dict[int, Scores]:
    found: dict[int, Scores] = {}
    for file in folder.glob(f"{name}-*.json") if folder else ():
        text = file.read_bytes().decode("utf-8", errors="replace")
        seal, _, content = text.partition("\n")
        if _hash(f"{file.stem}\n{content}") == seal:  # the name says which chunk of which pass
            found[int(file.stem.partition("-")[2])] = Scores.from_plain(json.loads(content))
    return found


def weights_hash(named: Iterable[tuple[str, Any]]) -> str:
    """Content hash of tensors, given as (name, tensor); about a second per gigabyte."""
    digest = hashlib.sha256()
    for name, tensor in named:
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        # a copy: numpy's view of a tensor would pin the storage that sharding has to give back
        flat = tensor.detach().to("cpu", copy=True).contiguous().reshape(-1)
        digest.update(memoryview(flat.view(torch.uint8).numpy()))
    return digest.hexdigest()[:16]


def _hash(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
