"""The training loss: next-token likelihood of the target, of all its tokens or of some."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from activeselect.data.prompts import IGNORED


def target_loss(logits: Tensor, labels: Tensor, share: float = 1.0) -> tuple[Tensor, Tensor]:
    """Summed negative log-likelihood of the labels, and how many of them count.

    With ``share`` below 1 only that share of each row's labels counts, the ones whose prediction
    has the highest entropy, at least one. The choice is per row (the source: per batch), so that a
    step does not depend on how its batch is cut into parts.

    Args:
        logits: ``[B, L, V]``; those at position ``i`` predict the label at ``i + 1``.
        labels: int64 ``[B, L]``, :data:`IGNORED` where there is no loss.
        share: in (0, 1].

    Returns:
        the sum in nats (float32 scalar, with gradient) and the count (int64 scalar).

    Source:
        Wang et al., "Beyond the 80/20 Rule", arXiv 2506.01939.
    """
    losses, counts = [], []
    # row by row: a float32 copy of all logits would be the largest tensor of the run
    for row, wanted in zip(logits[:, :-1], labels[:, 1:], strict=True):
        kept = (wanted != IGNORED).nonzero().squeeze(1)
        predictions = row[kept].float()
        if share < 1:
            chosen = highest_entropy(predictions.detach(), share)
            kept, predictions = kept[chosen], predictions[chosen]
        losses.append(functional.cross_entropy(predictions, wanted[kept], reduction="sum"))
        counts.append(kept.numel())
    return torch.stack(losses).sum(), torch.tensor(sum(counts), device=logits.device)


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
