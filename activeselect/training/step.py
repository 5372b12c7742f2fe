"""Training step: examples go through the model with no padding where it can be, few logits.

What a step learns is a sum over target tokens, so its examples may be laid out in any way:

- packed into one row (:mod:`activeselect.training.step`), where the model reads that;
- else sorted by length and cut into parts of similar length, padded on the right: whatever is
  causal, recurrent layers included, sees no padding before its text and needs no mask.

The output layer is asked for predictions of target tokens alone, and a plain linear one is made
one with its loss (:func:`activeselect.training.step.linear_loss`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from activeselect.data.prompts import IGNORED, parts_by_length
from activeselect.scoring.families import (
    length_kinds,
    probe_output_layer,
    reads_padding,
    replaced,
    rereads_after,
)

# --- Training loss


#: Logits that exist at a time, and the least rows of them: few enough for a processor's cache,
#: enough for a matrix product to be fast; an accelerator reads all weights for each chunk.
_LOGITS, _ROWS, _ROWS_ELSEWHERE = 2**18, 128, 1024


def target_loss(
    logits: Tensor, wanted: Tensor, rows: Sequence[int], share: float = 1.0
) -> tuple[Tensor, int]:
    """Summed negative log-likelihood of the wanted tokens, and how many of them count.

    With ``share`` below 1 only that share of each example's tokens counts, the ones whose
    prediction has the highest entropy, at least one. The choice is per example (the source: per
    batch), so that a step does not depend on how its batch is cut into parts.

    Args:
        logits: of K predictions, ``[K, V]``.
        wanted: what should have been predicted, int64 ``[K]``.
        rows: how many predictions belong to each example, in order; K in sum.
        share: in (0, 1].

    Returns:
        the sum in nats (float32 scalar, with gradient) and the count.

    Source:
        Wang et al., "Beyond the 80/20 Rule", arXiv 2506.01939.
    """
    if not len(wanted):
        return logits.sum(dtype=torch.float32), 0  # 0 with a gradient, which other ranks wait for
    losses, count = [], 0
    # one by one: a float32 copy of all logits would be the largest tensor of the run
    sizes = list(rows)
    for row, labels in zip(torch.split(logits, sizes), torch.split(wanted, sizes), strict=True):
        predictions = row.float()
        if share < 1:
            chosen = highest_entropy(predictions.detach(), share)
            predictions, labels = predictions[chosen], labels[chosen]
        losses.append(functional.cross_entropy(predictions, labels, reduction="sum"))
        count += len(labels)
    return torch.stack(losses).sum(), count


def highest_entropy(logits: Tensor, share: float) -> Tensor:
    """Positions of the ``share`` of predictions with the highest entropy, ascending, at least one.

    Args:
        logits: ``[T, V]``.

    Example:
        >>> highest_entropy(torch.tensor([[9.0, 0.0], [0.0, 0.0], [1.0, 0.0], [5.0, 0.0]]), 0.5)
        tensor([1, 2])
    """
    log = torch.log_softmax(logits, dim=-1)
    entropy = -torch.special.xlogy(log.exp(), log.exp()).sum(dim=-1)
    number = max(1, round(share * len(entropy)))
    chosen: Tensor = entropy.argsort(descending=True, stable=True)[:number].sort().values
    return chosen


def linear_loss(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, wanted: Tensor, chunk: int | None = None
) -> Tensor:
    """Summed negative log-likelihood of tokens under a linear output layer, without its logits.

    Logits are made ``chunk`` rows at a time, and turned into gradients before the next ones, so
    that memory is ``chunk * V`` numbers and not three times ``K * V``.

    Args:
        hidden: inputs of the output layer, ``[K, D]``.
        weight, bias: of the output layer, ``[V, D]`` and ``[V]``.
        wanted: int64 ``[K]``.
        chunk: default: as many as have 2^18 logits, at least 128 (1024 on an accelerator).

    Returns:
        nats, float32 scalar.

    Source:
        Hsu et al., "Liger Kernel", arXiv 2410.10989 (the same order of work, as one kernel).

    Example:
        >>> hidden, weight, wanted = torch.ones(2, 3), torch.zeros(4, 3), torch.tensor([0, 3])
        >>> round(float(linear_loss(hidden, weight, None, wanted)), 4)  # 2 log 4
        2.7726
    """
    least = _ROWS if hidden.device.type == "cpu" else _ROWS_ELSEWHERE
    given = (hidden, weight, bias, wanted, chunk or max(least, _LOGITS // len(weight)))
    total: Tensor = _LinearLoss.apply(*given)  # type: ignore[no-untyped-call]
    return total


class _LinearLoss(torch.autograd.Function):
    """The gradient is at hand as soon as the loss is, and is only scaled in the backward pass."""

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, wanted: Tensor, chunk: int
    ) -> Tensor:
        kind = hidden.device.type
        mixed = torch.is_autocast_enabled(kind)
        numbers = torch.get_autocast_dtype(kind) if mixed else weight.dtype
        wide = torch.promote_types(numbers, torch.float32)
        of_weight, of_bias = ctx.needs_input_grad[1], bias is not None and ctx.needs_input_grad[2]
        with torch.autocast(kind, enabled=False):
            inputs, matrix = hidden.to(numbers), weight.to(numbers)
            offset = None if bias is None else bias.to(numbers)
            total = torch.zeros((), dtype=wide, device=hidden.device)
            d_hidden = torch.empty_like(inputs)
            d_weight = torch.zeros_like(matrix, dtype=wide) if of_weight else None
            d_bias = torch.zeros_like(matrix[:, 0], dtype=wide) if of_bias else None
            for start in range(0, len(wanted), chunk):
                rows = slice(start, start + chunk)
                logits = functional.linear(inputs[rows], matrix, offset).to(wide)
                target = wanted[rows, None]
                normal = logits.logsumexp(dim=1, keepdim=True)
                total += (normal - logits.gather(1, target)).sum()
                error = logits.sub_(normal).exp_()  # probabilities minus one-hot targets
                error.scatter_add_(1, target, error.new_full(target.shape, -1.0))
                if d_bias is not None:
                    d_bias += error.sum(dim=0)
                error = error.to(numbers)
                torch.mm(error, matrix, out=d_hidden[rows])
                if d_weight is not None:
                    _add_product(d_weight, error, inputs[rows])
        ctx.save_for_backward(d_hidden, d_weight, d_bias)
        ctx.types = hidden.dtype, weight.dtype
        return total

    @staticmethod
    def backward(ctx: Any, scale: Tensor) -> tuple[Tensor | None, ...]:
        d_hidden, d_weight, d_bias = ctx.saved_tensors
        of_hidden, of_weight = ctx.types
        # one scale for all of them; a fresh tensor, as the saved ones may be asked for again
        return (
            (d_hidden * scale.to(d_hidden.dtype)).to(of_hidden),
            None if d_weight is None else (d_weight * scale).to(of_weight),
            None if d_bias is None else (d_bias * scale).to(of_weight),
            None,
            None,
        )


def _add_product(total: Tensor, error: Tensor, inputs: Tensor) -> None:
    """``total += error.T @ inputs``, summed in the type of ``total``."""
    if total.dtype == error.dtype:
        total.addmm_(error.T, inputs)
    else:
        total += error.T @ inputs


# --- Packing
#
# Layers that work token by token do not notice; attention is computed example by example. Which
# tokens belong together travels in the place of the attention mask, as the lengths of the examples,
# int64 ``[1, 1, 1, B]`` on the CPU: any attention but ours fails on such a mask instead of looking
# from one example into another.


#: What transformers calls our attention.
_NAME = "activeselect-packed"
#: Largest difference, in units of the largest logit, that is rounding: in 32 bits and in 16.
_ROUNDING, _COARSE = 1e-4, 5e-2


def _attend(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Any, **options: Any
) -> tuple[Tensor, None]:
    """Causal attention within each example; heads are ``[1, H, T, D]``, the result [1, T, H, D]."""
    if not isinstance(attention_mask, Tensor) or attention_mask.dtype != torch.int64:
        raise TypeError("expected the lengths of packed examples in the place of a mask")
    lengths = attention_mask.flatten().tolist()
    window = options.get("sliding_window")
    options = {**options, "is_causal": True}
    kind, given = query.device.type, query.dtype
    if kind == "cpu" and given.itemsize == 2:
        # the 16-bit kernel of a CPU makes many small products, and takes longer than the 32-bit one
        # (benchmarks/sixteen_bits.py)
        with torch.autocast(kind, enabled=False):
            wide = query.float(), key.float(), value.float()
            return _attend_each(module, *wide, lengths, window, options).to(given), None
    return _attend_each(module, query, key, value, lengths, window, options), None


def _attend_each(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    lengths: list[int],
    window: int | None,
    options: dict[str, Any],
) -> Tensor:
    # split, not slices: its backward pass is one concatenation
    heads = zip(*(torch.split(part, lengths, dim=2) for part in (query, key, value)), strict=True)
    found = []
    for length, (q, k, v) in zip(lengths, heads, strict=True):
        mask = _band(length, window, query.device)
        found.append(sdpa_attention_forward(module, q, k, v, mask, **options)[0])
    return torch.cat(found, dim=1)


def _band(length: int, window: int | None, device: torch.device) -> Tensor | None:
    """Mask of a window that is shorter than the text, bool ``[1, 1, L, L]``."""
    if window is None or length <= window:
        return None
    place = torch.arange(length, device=device)
    distance = place[:, None] - place[None]
    return ((distance >= 0) & (distance < window))[None, None]


AttentionInterface.register(_NAME, _attend)


@contextmanager
def packed_attention(model: Any) -> Iterator[None]:
    """Inside, forward and backward passes of the model are over packed examples."""
    config = model.config.get_text_config(decoder=True)
    before = config._attn_implementation
    config._attn_implementation = _NAME
    try:
        yield
    finally:
        config._attn_implementation = before


def packed_inputs(tokens: Tensor, lengths: Tensor) -> dict[str, Tensor]:
    """What the model is given for B examples with T tokens in all.

    Args:
        tokens: int64 ``[T]``, one example after the other.
        lengths: int64 ``[B]``.

    Example:
        >>> packed_inputs(torch.tensor([7, 8, 9]), torch.tensor([2, 1]))["position_ids"]
        tensor([[0, 1, 0]])
    """
    on_cpu = lengths.cpu()  # read in every layer
    places = torch.cat([torch.arange(length) for length in on_cpu.tolist()])
    return {
        "input_ids": tokens[None],
        "position_ids": places.to(tokens.device)[None],
        "attention_mask": on_cpu.view(1, 1, 1, -1),
    }


def reads_packed(model: Any) -> bool:
    """Whether a model gives packed examples the logits that it gives each of them alone.

    Read off its settings where they say no (recurrent layers, chunked attention, positions that
    depend on the longest text, another attention than torch's), else tried on three short texts:
    neither may depend on its neighbours, and each has to come out as it does alone.
    """
    config = model.config.get_text_config(decoder=True)
    if (
        config._attn_implementation != "sdpa"
        or not reads_padding(config)
        or rereads_after(config) is not None
        or getattr(config, "attention_chunk_size", None) is not None
    ):
        return False
    training = model.training
    model.eval()
    try:
        return _tried(model, getattr(config, "sliding_window", None) or 0)
    except (TypeError, ValueError, RuntimeError, IndexError, AttributeError):
        return False  # it reads its mask or its positions in a way of its own
    finally:
        model.train(training)


@torch.no_grad()
def _tried(model: Any, window: int) -> bool:
    vocabulary, device = model.get_input_embeddings().num_embeddings, model.device
    texts = [
        (torch.arange(length, device=device) * step + step) % vocabulary
        for length, step in ((6, 3), (min(window, 24) + 5, 7), (4, 5))
    ]
    lengths = torch.tensor([len(text) for text in texts])

    def middle(first: Tensor, last: Tensor) -> Tensor:
        inputs = packed_inputs(torch.cat([first, texts[1], last]), lengths)
        with packed_attention(model):
            logits = model(**inputs, use_cache=False).logits
        found: Tensor = logits.split(lengths.tolist(), dim=1)[1].float()
        return found

    packed = middle(texts[0], texts[2])
    others = middle((texts[0] + 1) % vocabulary, (texts[2] + 1) % vocabulary)
    alone = model(input_ids=texts[1][None], use_cache=False).logits.float()
    unit = alone.abs().max()
    exact = model.dtype in (torch.float32, torch.float64)
    # in 16 bits a small leak would pass for rounding: there, not a bit may change
    apart = torch.allclose(packed, others, rtol=0, atol=_ROUNDING * unit if exact else 0)
    far = (packed - alone).abs().max()
    return bool(apart and far <= (_ROUNDING if exact else _COARSE) * unit)


#: Padded tokens that cost about as much as a forward pass more.
_WASTE = 256


class BatchLoss:
    """Sums the loss of batches from ``activeselect.data.prompts.collate``.

    Args:
        model: a transformers causal LM.
        share: of the target tokens that count (``recipe.tokens.share``).
        at_once: never read a batch in parts (ranks with sharded weights go in step).
        pack: pack where the model can.
    """

    def __init__(
        self, model: Any, *, share: float = 1.0, at_once: bool = False, pack: bool = True
    ) -> None:
        self.model, self.share, self.at_once = model, share, at_once
        self.packs = pack and reads_packed(model)
        self.head = model.get_output_embeddings()
        self.trims, last = probe_output_layer(model)
        self.fuses = last and share == 1 and type(self.head) is torch.nn.Linear

    def attention(self) -> Any:
        """Context of the forward passes and, where activations are computed again, of backward."""
        return packed_attention(self.model) if self.packs else nullcontext()

    def loss(self, batch: dict[str, Tensor]) -> tuple[Tensor, int]:
        """Sum of the loss over the target tokens of a batch, nats, and how many they are."""
        parts = [self._part(inputs, keep, batch) for inputs, keep in self._parts(batch)]
        return torch.stack([nats for nats, _ in parts]).sum(), sum(count for _, count in parts)

    def _parts(self, batch: dict[str, Tensor]) -> Iterator[tuple[dict[str, Tensor], Tensor]]:
        """Inputs of each forward pass, and where in the batch its tokens lie, int64 ``[L, 2]``."""
        mask = batch["attention_mask"].bool()
        if self.packs:
            inputs = packed_inputs(batch["input_ids"][mask], mask.sum(dim=1))
            yield inputs, mask.nonzero()
            return
        lengths = mask.sum(dim=1).tolist()
        kinds = length_kinds(self.model.config, lengths)
        whole = [np.arange(len(lengths))]
        for rows in whole if self.at_once else parts_by_length(lengths, kinds, _WASTE):
            longest = max(lengths[row] for row in rows)
            index = torch.from_numpy(rows).to(mask.device)
            places = torch.arange(longest, device=mask.device)
            at = torch.cartesian_prod(index, places).view(-1, 2)
            yield {"input_ids": batch["input_ids"][index, :longest]}, at

    def _part(
        self, inputs: dict[str, Tensor], at: Tensor, batch: dict[str, Tensor]
    ) -> tuple[Tensor, int]:
        labels = batch["labels"]
        # the label of a position is the token after it
        following = torch.cat([labels[:, 1:], labels.new_full((len(labels), 1), IGNORED)], dim=1)
        wanted = following[at[:, 0], at[:, 1]]
        keep = (wanted != IGNORED).nonzero().squeeze(1)
        wanted = wanted[keep]
        with (
            self.attention(),
            replaced(self.head if self.trims else None, self._answer(keep, wanted)),
        ):
            output = self.model(**inputs, use_cache=False).logits
        if self.fuses:
            return output, len(wanted)
        logits = output[0] if self.trims else output.flatten(0, 1)[keep]
        rows = torch.unique_consecutive(at[keep, 0], return_counts=True)[1].tolist()
        return target_loss(logits, wanted, rows, self.share)

    def _answer(self, keep: Tensor, wanted: Tensor) -> Callable[[Tensor], Tensor]:
        """The output layer, for target tokens alone: their loss, or else their logits."""
        plain = getattr(self.head, "forward", None)

        def answer(hidden: Tensor) -> Tensor:
            chosen = hidden.flatten(0, 1)[keep]
            if self.fuses:
                return linear_loss(chosen, self.head.weight, self.head.bias, wanted)
            logits: Tensor = plain(chosen[None])  # type: ignore[misc]
            return logits

        return answer
