"""Sampled completions: batched, with a KV cache, and reproducible per example.

Each completion draws from a random stream of its own (:func:`stream_keys`). So what
an example is answered does not depend on which examples share its batch, on the number of ranks, or
on where a scoring pass was interrupted (up to float rounding).

Rows whose completions have ended make room for waiting prompts (continuous batching, as in Orca, Yu
et al. 2022). The batch is as large as the texts are now, not as they might become: where they
outgrow the memory, the youngest rows wait, and are read again later, prompt and tokens so far.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from activeselect.arrays import IntArray
from activeselect.data.prompts import Encoded
from activeselect.scoring.batch import Batch
from activeselect.scoring.cache import Reader
from activeselect.scoring.families import (
    context_length,
    fills_cache,
    keeps_all,
    reads_padding,
    rereads_after,
    uncompiled,
)
from activeselect.scoring.memory import give_back
from activeselect.streams import Stream

# --- Special tokens


def before_stop(text: str, stop: Sequence[str]) -> str:
    """The text up to the first of the stop texts.

    Example:
        >>> before_stop("It is 7.\\nDone. And", ["And", "\\nDone."])
        'It is 7.'
    """
    return text[: min((text.index(end) for end in stop if end in text), default=len(text))]


def pad_token_of(tokenizer: Any) -> int:
    """The pad token, or the end token where the tokenizer has none (padding is masked anyway)."""
    pad = tokenizer.pad_token_id
    return int(tokenizer.eos_token_id if pad is None else pad)


def start_token_of(tokenizer: Any) -> int:
    """The token that stands before a text, or the end token where the tokenizer has none."""
    begin = tokenizer.bos_token_id
    return int(tokenizer.eos_token_id if begin is None else begin)


def end_tokens_of(model: Any, tokenizer: Any, items: Sequence[Encoded]) -> set[int]:
    """What ends a completion: the model's, the tokenizer's, and the targets' own end."""
    configured = getattr(model.generation_config, "eos_token_id", None)
    ends = configured if isinstance(configured, list) else [configured]
    ends = [*ends, tokenizer.eos_token_id, *(item.ids[-1] for item in items)]
    return {int(end) for end in ends if end is not None}


# --- Random streams


_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def stream_keys(index: IntArray, samples: int, *, seed: int, round: int) -> NDArray[np.uint64]:
    """One random-stream key per completion, uint64 ``[B, samples]``."""
    base = np.random.SeedSequence([seed, round, Stream.COMPLETIONS]).generate_state(1, np.uint64)[0]
    with np.errstate(over="ignore"):
        rows = _mix(base + index.astype(np.uint64) * _GOLDEN)[:, None]
        number = np.arange(1, samples + 1)
        return _mix(rows + number.astype(np.uint64) * _GOLDEN)


def uniforms(keys: NDArray[np.uint64], step: int | IntArray) -> NDArray[np.float64]:
    """The ``step``-th number of each stream, uniform in [0, 1) (splitmix64, Steele et al. 2014).

    Args:
        keys: the streams.
        step: of all streams, or of each.
    """
    with np.errstate(over="ignore"):
        bits = _mix(keys + np.asarray(step + 1).astype(np.uint64) * _GOLDEN)
    uniform: NDArray[np.float64] = (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53
    return uniform


def _mix(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


# --- Nucleus sampling (Holtzman et al. 2020)
#
# Sorting the vocabulary costs more than a small model's forward pass. The nucleus is mostly a few
# tokens, so the likeliest are looked at first, and a row is sorted only where they do not settle
# it.


#: Tokens that are looked at, in turn, before a row is sorted; most nuclei are smaller.
LOOKED_AT = (32, 512)


def draw(
    logits: Tensor, uniform: NDArray[np.float64] | None, temperature: float, top_p: float
) -> Tensor:
    """Next token per row by inversion of the nucleus' distribution, int64 ``[rows]``.

    Tokens are ordered by probability, equal ones by number; the nucleus is the smallest set of the
    likeliest whose mass reaches ``top_p``.

    Args:
        logits: ``[rows, V]``.
        uniform: a number in [0, 1) per row; None: greedy.
        temperature: that the logits are divided by.
        top_p: share of the mass, in (0, 1].
    """
    if uniform is None:
        return logits.argmax(dim=-1)
    probability = torch.softmax(logits.float() / temperature, dim=-1)
    numbers = torch.from_numpy(uniform).to(logits.device, probability.dtype)[:, None]
    rows = torch.arange(len(logits), device=logits.device)  # whose token is not settled
    chosen = torch.empty_like(rows)
    for many in LOOKED_AT if top_p < 1 else ():
        if len(rows) == 0 or logits.shape[-1] <= 2 * many:
            break
        likeliest, token = _in_order(*probability.topk(many, dim=-1))
        chosen[rows] = _invert(likeliest, token, numbers, top_p)
        left = (~_settled(likeliest, top_p)).nonzero().squeeze(1)
        rows, probability, numbers = rows[left], probability[left], numbers[left]
    if len(rows):
        ordered, token = probability.sort(dim=-1, descending=True, stable=True)
        chosen[rows] = _invert(ordered, token, numbers, top_p)
    return chosen


def _in_order(likeliest: Tensor, token: Tensor) -> tuple[Tensor, Tensor]:
    """Equal probabilities by token number; ``topk`` leaves their order open."""
    if not (likeliest[:, 1:] == likeliest[:, :-1]).any():
        return likeliest, token
    token, by = token.sort(dim=-1)
    likeliest, after = likeliest.gather(1, by).sort(dim=-1, descending=True, stable=True)
    return likeliest, token.gather(1, after)


def _settled(likeliest: Tensor, top_p: float) -> Tensor:
    """Rows whose whole nucleus is likelier than the last token that was looked at."""
    mass = likeliest.cumsum(dim=-1)
    last = (mass < top_p).sum(dim=-1, keepdim=True).clamp(max=mass.shape[-1] - 1)
    return likeliest.gather(1, last).squeeze(1) > likeliest[:, -1]


def _invert(ordered: Tensor, token: Tensor, numbers: Tensor, top_p: float) -> Tensor:
    """The token at a share of the nucleus' mass, tokens in falling order of probability."""
    mass = ordered.cumsum(dim=-1)
    kept = (mass - ordered < top_p).sum(dim=-1, keepdim=True)
    nucleus = mass.gather(1, kept - 1)
    # a draw that rounds up to the whole mass takes the last token that added to it
    last = torch.searchsorted(mass, nucleus)
    choice = torch.searchsorted(mass, numbers * nucleus, right=True).minimum(last)
    return token.gather(1, choice).squeeze(1)


class Engine(Protocol):
    """Completes prompts with the model as it is now; :func:`generate` is the one that is shipped.

    Another one is a function with these arguments, given to
    :class:`~activeselect.scoring.scorer.LiveScorer`. One that holds weights of its own has to load
    those of ``model`` first. The scorer compares the log-probabilities that it reports with the
    model in training, and refuses a pass with stale weights (``scoring.largest_gap``).
    """

    def __call__(
        self,
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
        """Complete every prompt ``samples`` times; arguments and result as for ``generate``."""
        ...


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
        log_probs: for each completion in it (``prompt * samples + sample``), what its tokens were
            given by the model is put there: log-probabilities at temperature 1, nats.

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
        watched=log_probs or {},
    )
    streams, ends = keys.reshape(-1), np.array(end_tokens, dtype=np.int64)
    with uncompiled(model):
        while batch.goes_on():
            with batch.memory_permitting():
                logits, rows = batch.make_room(), batch.active
                uniform = uniforms(streams[rows], batch.counts[rows]) if temperature > 0 else None
                batch.append(draw(logits, uniform, temperature, top_p), ends, stopped)
    completions = batch.completions()
    del batch
    give_back()
    return completions


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
