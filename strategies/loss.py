"""High loss first, softly: selective backprop."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from activeselect.selection.strategy import (
    Selection,
    SelectionContext,
    Strategy,
    draw,
    expect_positive,
    ranks,
)


class Loss(Strategy):
    """Prefer examples whose reference trace the model finds unlikely.

    Prefers: high loss; weight (rank of the loss) ** sharpness, as selective backprop takes an
        example with a power of its percentile among recent losses. We rank once per round among
        all scored examples instead of in every batch, and weigh instead of skipping.
    Helps: when loss is high because something is left to learn.
    Hurts: with wrong answers, typos and rare wording: their loss stays the highest; long training,
        where what is memorized has no loss and is not understood either.
    Costs: one forward pass per example and round.
    Source: Jiang et al., Accelerating Deep Learning by Focusing on the Biggest Losers,
        arXiv 1910.00762.

    Args:
        sharpness: exponent of the rank; 0 is random, 1 draws in proportion to the rank.
    """

    name: ClassVar[str] = "loss"
    requires: tuple[str, ...] = ("loss",)
    citation: ClassVar[str] = "arXiv:1910.00762"

    def __init__(self, sharpness: float = 1.0) -> None:
        expect_positive(sharpness=sharpness, zero=True)
        self.sharpness = sharpness
        self.favours = {"loss": "high"} if sharpness else {}

    def select(self, context: SelectionContext, budget: int, rng: np.random.Generator) -> Selection:
        weight = ranks(context.latest("loss")) ** self.sharpness
        return draw(context, context.carry(weight), budget, rng)
