"""Reducible holdout loss: learnable, worth learning, not yet learned."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar

import numpy as np

from activeselect.selection.strategy import (
    Selection,
    SelectionContext,
    Strategy,
    draw_best,
    expect_share,
)


class RhoLoss(Strategy):
    """Prefer examples with much loss that a reference model does not have.

    Prefers: high loss minus the loss under a model that was trained on other data (the irreducible
        part). The paper takes the top tenth of every large batch; we rank once per round.
    Helps: on noisy data: wrong answers have high loss under both models and cancel.
    Hurts: with a reference that has seen the train set, or that is too weak to know what can be
        learned; the difference is then memorization or noise.
    Costs: one forward pass per example and round, one of the reference per example and run, and
        the training of the reference.
    Source: Mindermann et al., Prioritized Training on Points that are Learnable, Worth Learning,
        and not yet Learnt, arXiv 2206.07137.

    Args:
        reference: path or hub id of the reference model.
        keep: share of the train set that counts as the best, in (0, 1]: a reweighting run goes on
            with it, an acquiring one looks for more like it.
    """

    name: ClassVar[str] = "rho-loss"
    requires: tuple[str, ...] = ("loss", "reference_loss")
    citation: ClassVar[str] = "arXiv:2206.07137"
    favours: Mapping[str, str] = MappingProxyType({"loss": "high", "reference_loss": "low"})

    def __init__(self, reference: str | None = None, keep: float = 0.5) -> None:
        if not reference:
            raise ValueError(
                "reference: expected the path or hub id of a model trained on other data of the "
                f"same kind; received {reference!r}. A run with `save_model: true` writes one"
            )
        expect_share(keep=keep)
        self.reference = reference
        self.keep = keep

    def select(self, context: SelectionContext, budget: int, rng: np.random.Generator) -> Selection:
        reducible = context.latest("loss") - context.latest("reference_loss")
        return draw_best(context, reducible, budget, rng, keep=self.keep)
