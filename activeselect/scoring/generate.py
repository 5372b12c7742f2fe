"""Sampled completions: batched, with a KV cache, and reproducible per example.

Each completion draws from a random stream of its own, a pure function of (seed, round, example,
sample number). So what an example is answered does not depend on which examples share its batch,
on the number of ranks, or on where a scoring pass was interrupted (up to float rounding).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import DynamicCache

from activeselect.data.prompts import batches_by_tokens
from activeselect.errors import ModelError

IntArray = NDArray[np.int64]
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def stream_keys(index: IntArray, samples: int, *, seed: int, round: int) -> NDArray[np.uint64]:
    """One random-stream key per completion, uint64 ``[B, samples]``."""
    base = np.random.SeedSequence([seed, round, 3]).generate_state(1, np.uint64)[0]
    with np.errstate(over="ignore"):
        rows = _mix(base + index.astype(np.uint64) * _GOLDEN)[:, None]
        return _mix(rows + (np.arange(samples, dtype=np.uint64) + np.uint64(1)) * _GOLDEN)


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
) -> list[list[list[int]]]:
    """Complete every prompt ``samples`` times.

    A prompt is read once and its cache shared by its samples; rows that have ended leave the
    batch; batches hold prompts of similar length.

    Args:
        model: a transformers causal LM in eval mode.
        prompts: token ids per prompt.
        temperature: 0 means greedy.
        keys: random stream of each completion, uint64 ``[len(prompts), samples]``.
        end_tokens: a completion stops at (and does not contain) any of these.
        batch_tokens: largest (prompt + new tokens) x rows of a batch.

    Returns:
        ``completions[prompt][sample]``, lists of token ids; one that was cut has the length
        :func:`longest_completion`.

    Raises:
        ModelError: if the model predicts NaN (its training diverged).
    """
    stops = [longest_completion(model, prompt, max_new_tokens) for prompt in prompts]
    # what a row may grow to decides the batch, once per completion of the prompt
    lengths = [(len(p) + stop) * samples for p, stop in zip(prompts, stops, strict=True)]
    out: list[list[list[int]]] = [[] for _ in prompts]
    for batch in batches_by_tokens(lengths, batch_tokens):
        done = _generate_batch(
            model,
            [prompts[i] for i in batch],
            keys[batch],
            temperature,
            top_p,
            torch.tensor([stops[i] for i in batch], device=model.device),
            torch.tensor(end_tokens, dtype=torch.long, device=model.device),
            pad_token,
        )
        for row, i in enumerate(batch):
            out[i] = done[row * samples : (row + 1) * samples]
    return out


def longest_completion(model: Any, prompt: NDArray[np.int32], max_new_tokens: int) -> int:
    """Tokens after which a completion is cut: the limit, or where the model's context ends."""
    context = getattr(model.config, "max_position_embeddings", None) or len(prompt) + max_new_tokens
    return max(1, min(max_new_tokens, context - len(prompt)))


def _generate_batch(
    model: Any,
    prompts: Sequence[NDArray[np.int32]],
    keys: NDArray[np.uint64],
    temperature: float,
    top_p: float,
    stops: Tensor,
    end_tokens: Tensor,
    pad_token: int,
) -> list[list[int]]:
    samples = keys.shape[1]
    ids, mask = _left_padded(prompts, pad_token, model.device)
    cache = DynamicCache(config=model.config)
    positions = (mask.cumsum(dim=1) - 1).clamp(min=0)
    out = model(
        input_ids=ids,
        attention_mask=mask,
        position_ids=positions,
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
    )
    if out.logits.isnan().any():
        raise ModelError(
            "The model predicts NaN: its training diverged. Lower recipe.learning_rate, or set "
            "recipe.clip or recipe.precision."
        )
    logits = out.logits[:, -1].repeat_interleave(samples, dim=0)
    cache.batch_repeat_interleave(samples)
    mask = mask.repeat_interleave(samples, dim=0)
    position = (positions[:, -1] + 1).repeat_interleave(samples)
    active = torch.arange(len(mask), device=model.device)  # row -> completion
    streams = keys.reshape(-1)
    lengths = stops.repeat_interleave(samples)
    longest = int(lengths.max())
    tokens = torch.full((len(mask), longest), pad_token, device=model.device)
    for step in range(longest):
        drawn = uniforms(streams[active.cpu().numpy()], step) if temperature > 0 else None
        token = _sample(logits, drawn, temperature, top_p)
        ended = torch.isin(token, end_tokens)
        tokens[active, step] = token
        lengths[active[ended]] = step
        keep = (step + 1 < lengths[active]).nonzero().squeeze(1)
        if len(keep) == 0:
            break
        if len(keep) < len(active):
            cache.batch_select_indices(keep)
            active, mask, token, position = active[keep], mask[keep], token[keep], position[keep]
        mask = torch.cat([mask, mask.new_ones(len(mask), 1)], dim=1)
        logits = model(
            input_ids=token[:, None],
            attention_mask=mask,
            position_ids=position[:, None],
            past_key_values=cache,
            use_cache=True,
        ).logits[:, -1]
        position = position + 1
    return [
        row[:stop] for row, stop in zip(tokens.cpu().tolist(), lengths.cpu().tolist(), strict=True)
    ]


def _left_padded(
    prompts: Sequence[NDArray[np.int32]], pad_token: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    length = max(len(prompt) for prompt in prompts)
    ids = np.full((len(prompts), length), pad_token, dtype=np.int64)
    mask = np.zeros_like(ids)
    for row, prompt in enumerate(prompts):
        ids[row, length - len(prompt) :] = prompt
        mask[row, length - len(prompt) :] = 1
    return torch.from_numpy(ids).to(device), torch.from_numpy(mask).to(device)


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
