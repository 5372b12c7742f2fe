"""Sampled completions: batched, with a KV cache, and reproducible per example.

Each completion draws from a random stream of its own, a pure function of (seed, round, example,
sample number). So what an example is answered does not depend on which examples share its batch,
on the number of ranks, or on where a scoring pass was interrupted (up to float rounding).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import DynamicCache

from activeselect.data.prompts import batches_by_tokens
from activeselect.errors import ModelError
from activeselect.scoring.families import (
    context_length,
    fills_cache,
    reads_padding,
    rereads_after,
)
from activeselect.scoring.memory import run_batches

IntArray = NDArray[np.int64]
#: Tokens after which completions are looked at for stop texts.
CHECK_EVERY = 8
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def stream_keys(
    index: IntArray, samples: int, *, seed: int, round: int, offset: IntArray | int = 0
) -> NDArray[np.uint64]:
    """One random-stream key per completion, uint64 ``[B, samples]``.

    Args:
        offset: completions that each example has in this round already, int ``[B]``: those that
            follow are the ones it would have been given at once.
    """
    base = np.random.SeedSequence([seed, round, 3]).generate_state(1, np.uint64)[0]
    with np.errstate(over="ignore"):
        rows = _mix(base + index.astype(np.uint64) * _GOLDEN)[:, None]
        number = np.arange(1, samples + 1) + np.reshape(offset, (-1, 1))
        return _mix(rows + number.astype(np.uint64) * _GOLDEN)


def uniforms(keys: NDArray[np.uint64], step: int) -> NDArray[np.float64]:
    """The ``step``-th number of each stream, uniform in [0, 1) (splitmix64, Steele et al. 2014)."""
    with np.errstate(over="ignore"):
        bits = _mix(keys + np.uint64(step + 1) * _GOLDEN)
    uniform: NDArray[np.float64] = (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53
    return uniform


def _mix(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@torch.inference_mode()
def generate(
    model: Any,
    prompts: Sequence[NDArray[np.int32]],
    *,
    samples: int,
    temperature: float,
    top_p: float,
    max_new_tokens: int,
    keys: NDArray[np.uint64],
    end_tokens: Sequence[int],
    pad_token: int,
    batch_tokens: int,
    stopped: Callable[[list[list[int]]], list[bool]] | None = None,
    log_probs: dict[int, list[float]] | None = None,
) -> list[list[list[int]]]:
    """Complete every prompt ``samples`` times.

    A prompt is read once and its cache shared by its samples; rows that have ended leave the
    batch; batches hold prompts of similar length, or of one length where the model's family needs
    it (:mod:`activeselect.scoring.families`).

    Args:
        model: a transformers causal LM in eval mode.
        prompts: token ids per prompt.
        temperature: 0 means greedy.
        keys: random stream of each completion, uint64 ``[len(prompts), samples]``.
        end_tokens: a completion stops at (and does not contain) any of these.
        batch_tokens: largest (prompt + new tokens) x rows of a batch.
        stopped: told the new tokens of each row every :data:`CHECK_EVERY` tokens; says which rows
            need no more.
        log_probs: for each prompt in it, what its first completion's tokens were given by the
            model is put there: log-probabilities at temperature 1, nats.

    Returns:
        ``completions[prompt][sample]``, lists of token ids; one that was cut has the length
        :func:`longest_completion`.

    Raises:
        ModelError: if the model predicts NaN (its training diverged).
    """
    stops = [longest_completion(model, prompt, max_new_tokens) for prompt in prompts]
    # what a row may grow to decides the batch, once per completion of the prompt
    lengths = [(len(p) + stop) * samples for p, stop in zip(prompts, stops, strict=True)]
    cached = bool(prompts) and fills_cache(model)
    rereads = rereads_after(model.config)
    crosses = rereads is not None and max(lengths, default=0) > rereads * samples
    together = cached and not crosses and reads_padding(model.config)
    kinds = None if together else [len(prompt) for prompt in prompts]
    out: list[list[list[int]]] = [[] for _ in prompts]

    def complete(batch: IntArray) -> None:
        done = _generate_batch(
            _Reader(model, *_left_padded([prompts[i] for i in batch], pad_token), cached, rereads),
            keys[batch],
            temperature,
            top_p,
            torch.tensor([stops[i] for i in batch], device=model.device),
            torch.tensor(end_tokens, dtype=torch.long, device=model.device),
            stopped,
            {row: log_probs[int(i)] for row, i in enumerate(batch) if int(i) in log_probs}
            if log_probs
            else {},
        )
        for row, i in enumerate(batch):
            out[i] = done[row * samples : (row + 1) * samples]

    run_batches(batches_by_tokens(lengths, batch_tokens, kinds), lengths, complete)
    return out


def longest_completion(model: Any, prompt: NDArray[np.int32], max_new_tokens: int) -> int:
    """Tokens after which a completion is cut: the limit, or where the model's context ends."""
    context = context_length(model.config) or len(prompt) + max_new_tokens
    return max(1, min(max_new_tokens, context - len(prompt)))


class _Reader:
    """Gives the logits after the texts so far, from its cache where the model's family has one."""

    def __init__(
        self, model: Any, ids: Tensor, mask: Tensor, cached: bool, rereads: int | None
    ) -> None:
        self.model, self.cached, self.rereads = model, cached, rereads
        self.ids, self.mask = ids.to(model.device), mask.to(model.device)
        self.cache: DynamicCache | None = None

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, rows: Tensor) -> None:
        """Go on with these rows only; a row may be taken several times."""
        self.ids, self.mask = self.ids[rows], self.mask[rows]
        if self.cache is not None:
            self.cache.reorder_cache(rows)  # type: ignore[arg-type]  # any length, int64

    def append(self, token: Tensor) -> None:
        self.ids = torch.cat([self.ids, token[:, None]], dim=1)
        self.mask = torch.cat([self.mask, self.mask.new_ones(len(token), 1)], dim=1)

    def logits(self) -> Tensor:
        """Of the next token, ``[rows, V]``."""
        new = 1
        if self.cache is None or self.ids.shape[1] - 1 == self.rereads:
            self.cache, new = DynamicCache(config=self.model.config), self.ids.shape[1]
        positions = (self.mask.cumsum(dim=1) - 1).clamp(min=0)
        out = self.model(
            input_ids=self.ids[:, -new:],
            attention_mask=self.mask,
            position_ids=positions[:, -new:],
            past_key_values=self.cache if self.cached else None,
            use_cache=self.cached,
            logits_to_keep=1,
        )
        if not self.cached:
            self.cache = None
        logits: Tensor = out.logits[:, -1]
        return logits


def _generate_batch(
    reader: _Reader,
    keys: NDArray[np.uint64],
    temperature: float,
    top_p: float,
    stops: Tensor,
    end_tokens: Tensor,
    stopped: Callable[[list[list[int]]], list[bool]] | None,
    watched: dict[int, list[float]],
) -> list[list[int]]:
    samples = keys.shape[1]
    for found in watched.values():
        found.clear()  # of an attempt that memory was too small for
    logits = reader.logits()
    if logits.isnan().any():
        raise ModelError(
            "The model predicts NaN: its training diverged. Lower recipe.learning_rate, or set "
            "recipe.clip or recipe.precision."
        )
    first = torch.arange(len(reader), device=stops.device).repeat_interleave(samples)
    reader.take(first)
    logits, lengths = logits[first], stops[first]
    active = torch.arange(len(first), device=stops.device)  # row -> completion
    streams = keys.reshape(-1)
    longest = int(lengths.max())
    tokens = torch.zeros((len(first), longest), dtype=torch.long, device=stops.device)
    for step in range(longest):
        drawn = uniforms(streams[active.cpu().numpy()], step) if temperature > 0 else None
        token = _sample(logits, drawn, temperature, top_p)
        ended = torch.isin(token, end_tokens)
        tokens[active, step] = token
        _watch(watched, samples, active, logits, token)
        lengths[active[ended]] = step
        if stopped is not None and (step + 1) % CHECK_EVERY == 0:
            hit = torch.tensor(stopped(tokens[active, : step + 1].tolist()), device=active.device)
            lengths[active[hit & ~ended]] = step + 1
        keep = (step + 1 < lengths[active]).nonzero().squeeze(1)
        if len(keep) == 0:
            break
        if len(keep) < len(active):
            reader.take(keep)
            active, token = active[keep], token[keep]
        reader.append(token)
        logits = reader.logits()
    for row, found in watched.items():
        del found[int(lengths[row * samples]) :]  # the end token, which is not in the completion
    return [
        row[:stop] for row, stop in zip(tokens.cpu().tolist(), lengths.cpu().tolist(), strict=True)
    ]


def _watch(
    watched: dict[int, list[float]], samples: int, active: Tensor, logits: Tensor, token: Tensor
) -> None:
    """Append the log-probability of the newest token of each watched prompt's first completion."""
    for row, found in watched.items():
        place = (active == row * samples).nonzero()
        if len(place):
            i = int(place)
            found.append(float(torch.log_softmax(logits[i].float(), dim=-1)[token[i]]))


def _left_padded(prompts: Sequence[NDArray[np.int32]], pad_token: int) -> tuple[Tensor, Tensor]:
    length = max(len(prompt) for prompt in prompts)
    ids = np.full((len(prompts), length), pad_token, dtype=np.int64)
    mask = np.zeros_like(ids)
    for row, prompt in enumerate(prompts):
        ids[row, length - len(prompt) :] = prompt
        mask[row, length - len(prompt) :] = 1
    return torch.from_numpy(ids), torch.from_numpy(mask)


def _sample(
    logits: Tensor, drawn: NDArray[np.float64] | None, temperature: float, top_p: float
) -> Tensor:
    """Next token per row by inversion of the nucleus' distribution; ``drawn`` None = greedy."""
    if drawn is None:
        return logits.argmax(dim=-1)
    probabilities = torch.softmax(logits.float() / temperature, dim=-1)
    ordered, token = probabilities.sort(dim=-1, descending=True, stable=True)
    mass = ordered.cumsum(dim=-1)
    # the nucleus: the smallest set of most likely tokens whose mass reaches top_p
    kept = (mass - ordered < top_p).sum(dim=-1, keepdim=True)
    nucleus = mass.gather(1, kept - 1)
    target = torch.from_numpy(drawn).to(logits.device, nucleus.dtype)[:, None] * nucleus
    # a draw that rounds up to the whole mass takes the last token that added to it
    last = torch.searchsorted(mass, nucleus)
    choice = torch.searchsorted(mass, target, right=True).minimum(last)
    return token.gather(1, choice).squeeze(1)
