"""Sampled completions: batched, with a KV cache, and reproducible per example.

Each completion draws from a random stream of its own (:mod:`activeselect.scoring.streams`). So what
an example is answered does not depend on which examples share its batch, on the number of ranks, or
on where a scoring pass was interrupted (up to float rounding).

Rows whose completions have ended make room for waiting prompts (continuous batching, as in Orca, Yu
et al. 2022). The batch is as large as the texts are now, not as they might become: where they
outgrow the memory, the youngest rows wait, and are read again later, prompt and tokens so far.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from activeselect.scoring.batch import Batch
from activeselect.scoring.families import (
    context_length,
    fills_cache,
    keeps_all,
    reads_padding,
    rereads_after,
    uncompiled,
)
from activeselect.scoring.nucleus import draw
from activeselect.scoring.reader import Reader
from activeselect.scoring.streams import uniforms

IntArray = NDArray[np.int64]


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

    A prompt is read once for all its samples; rows that have ended make room for others; texts of
    similar length run together, or of one length where the model's family needs it
    (:mod:`activeselect.scoring.families`).

    Args:
        model: a transformers causal LM in eval mode.
        prompts: token ids per prompt.
        temperature: 0 means greedy.
        keys: random stream of each completion, uint64 ``[len(prompts), samples]``.
        end_tokens: a completion stops at (and does not contain) any of these.
        batch_tokens: most tokens that the cache holds, padding and room included; the samples of
            one prompt run together whatever it is.
        stopped: told the new tokens of each row every ``CHECK_EVERY`` (of
            :mod:`activeselect.scoring.batch`) tokens; says which rows need no more.
        log_probs: for each prompt in it, what its first completion's tokens were given by the
            model is put there: log-probabilities at temperature 1, nats.

    Returns:
        ``completions[prompt][sample]``, lists of token ids; one that was cut has the length
        :func:`longest_completions`.

    Raises:
        ModelError: if the model predicts NaN (its training diverged), or memory is too small.
    """
    lengths = np.array([len(prompt) for prompt in prompts], np.int64)
    limits = longest_completions(model, lengths, max_new_tokens)
    with uncompiled(model):
        cached = bool(prompts) and fills_cache(model)
    rereads = rereads_after(model.config)
    longest = int((lengths + limits).max(initial=0))
    crosses = rereads is not None and longest > rereads
    padded = cached and not crosses and reads_padding(model.config)
    blocks = padded and keeps_all(model.config)
    batch = Batch(
        lambda: Reader(model, pad_token, cached=cached, rereads=rereads, blocks=blocks),
        prompts,
        np.repeat(limits, samples),
        memory=batch_tokens,
        joins=blocks,
        padded=padded,
        watched={i * samples: found for i, found in (log_probs or {}).items()},
    )
    streams, ends = keys.reshape(-1), np.array(end_tokens, dtype=np.int64)
    with uncompiled(model):
        while batch.goes_on():
            with batch.memory_permitting():
                logits, rows = batch.make_room(), batch.active
                uniform = uniforms(streams[rows], batch.counts[rows]) if temperature > 0 else None
                batch.append(draw(logits, uniform, temperature, top_p), ends, stopped)
    return batch.completions()


def longest_completions(model: Any, prompts: IntArray, max_new_tokens: int) -> IntArray:
    """Tokens after which completions are cut: the limit, or where the model's context ends.

    Args:
        model: a transformers causal LM.
        prompts: tokens of each prompt, int ``[B]``.
        max_new_tokens: the limit.
    """
    context = context_length(model.config)
    if context is None:
        return np.full(len(prompts), max(1, max_new_tokens))
    return np.clip(context - prompts, 1, max(1, max_new_tokens))
