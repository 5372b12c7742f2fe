"""Logits where they are wanted alone: with many words, making them is most of a forward pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from activeselect.scoring.families import uncompiled


@contextmanager
def replaced(layer: Any, forward: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """The layer, if any, computes something else inside."""
    if layer is None:
        yield
        return
    before = vars(layer).get("forward")
    layer.forward = forward
    try:
        yield
    finally:
        if before is None:
            del layer.forward
        else:
            layer.forward = before


@torch.no_grad()
def probe_output_layer(model: Any) -> tuple[bool, bool]:
    """Whether the output layer may be asked for less, and whether nothing follows it.

    Tried on two tokens. Some models scale or cap their logits after the layer.
    """
    layer = model.get_output_embeddings()
    if layer is None:
        return False, False
    made: list[Tensor] = []
    plain = layer.forward

    def answer(hidden: Tensor) -> Tensor:
        made.append(plain(hidden[:, :1]))
        return made[-1]

    ids = torch.zeros((1, 2), dtype=torch.long, device=model.device)
    training = model.training
    model.eval()
    try:
        with uncompiled(model), replaced(layer, answer):
            output = model(input_ids=ids, use_cache=False).logits
    except (TypeError, ValueError, RuntimeError, IndexError, AttributeError):
        return False, False  # it gives its output layer something else than hidden states
    finally:
        model.train(training)
    trims = len(made) == 1 and output.shape == made[0].shape
    return trims, trims and output is made[0]


class TargetLogits:
    """A model's logits at chosen positions, a row of the batch at a time.

    Args:
        model: a transformers causal LM.
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        self.trims, self.last = probe_output_layer(model)

    def __call__(self, ids: Tensor, keep: Tensor, counts: Sequence[int]) -> Iterator[Tensor]:
        """One forward pass; the logits are made as they are asked for, if they can be.

        Args:
            ids: texts padded on the right, int64 ``[B, L]``. What is causal sees no padding before
                its text, so that no mask is needed.
            keep: wanted positions of the flattened batch, ascending, int64 ``[K]``.
            counts: how many of them are in each row; K in sum.

        Returns:
            logits of each row's positions, ``[T, V]``.
        """
        layer = self.model.get_output_embeddings() if self.trims else None
        plain: Any = getattr(layer, "forward", None)
        chosen: list[Tensor] = []

        def answer(hidden: Tensor) -> Tensor:
            chosen.append(hidden.flatten(0, 1)[keep])
            logits: Tensor = plain(hidden[:, :1] if self.last else chosen[0][None])
            return logits

        with uncompiled(self.model), replaced(layer, answer):
            logits = self.model(input_ids=ids, use_cache=False).logits
        sizes = list(counts)
        if self.last:
            return (plain(hidden[None])[0] for hidden in torch.split(chosen[0], sizes))
        made = logits[0] if self.trims else logits.flatten(0, 1)[keep]
        return iter(torch.split(made, sizes))
