"""The training loss: next-token likelihood of the target, of all its tokens or of some."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

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
