"""Where loss has fallen since the last measurement: learning progress."""

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


class DeltaLoss(Strategy):
    """Prefer examples whose loss fell most between their last two measurements.

    Prefers: progress; weight (rank of the fall in loss) ** sharpness. DataFlex's `delta_loss`
        slides a window over the same ranking from the smallest to the largest change in the course
        of a run and measures the change on the whole pool; we stay with the largest and measure
        what is trained.
    Helps: to stay with what is being learned: neither mastered nor hopeless, noise included.
    Hurts: where loss falls by memorizing; at the start, when one measurement is no difference yet
        (then it is random); examples that were not trained lately look finished.
    Costs: one forward pass per example and round; two rounds before it can prefer anything.
    Source: learning progress, Graves et al., arXiv 1704.03003; `delta_loss` of DataFlex.

    Args:
        sharpness: exponent of the rank; 0 is random, 1 draws in proportion to the rank.
    """

    name: ClassVar[str] = "delta-loss"
    requires: tuple[str, ...] = ("delta_loss",)
    citation: ClassVar[str] = "arXiv:1704.03003"

    def __init__(self, sharpness: float = 1.0) -> None:
        expect_positive(sharpness=sharpness, zero=True)
        self.sharpness = sharpness
        self.favours = {"delta_loss": "high"} if sharpness else {}

    def select(self, context: SelectionContext, budget: int, rng: np.random.Generator) -> Selection:
        weight = ranks(context.latest("delta_loss")) ** self.sharpness
        return draw(context, context.carry(weight), budget, rng)
