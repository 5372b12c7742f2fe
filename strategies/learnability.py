"""What is solved sometimes: p (1 - p)."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from activeselect.selection.strategy import (
    Selection,
    SelectionContext,
    Strategy,
    draw,
    expect_positive,
    expect_share,
)


class Learnability(Strategy):
    """Prefer examples that the model solves about half of the time.

    Prefers: a high variance of success, p (1 - p), where p is the share of sampled answers that are
        right. The paper (for reinforcement learning) fills a part of each batch from the examples
        of highest variance and the rest at random; we draw in proportion to it, and a
        `mixture` with `random` gives the rest.
    Helps: between mastered and hopeless; noise that is never right gets nothing.
    Hurts: with few samples p is coarse, and 0 out of 4 is not hopeless (`floor`); in supervised
        training the hopeless can be learned too, from the trace.
    Costs: sampled completions of the train examples in every round.
    Source: Foster et al., Learning to Reason at the Frontier of Learnability, arXiv 2502.12272.

    Args:
        sharpness: exponent of 4 p (1 - p), above 0; large keeps p = 1/2 alone.
        floor: least weight relative to the greatest, in [0, 1].
    """

    name: ClassVar[str] = "learnability"
    requires: tuple[str, ...] = ("accuracy",)
    citation: ClassVar[str] = "arXiv:2502.12272"

    def __init__(self, sharpness: float = 1.0, floor: float = 0.0) -> None:
        expect_positive(sharpness=sharpness)
        expect_share(floor=floor, zero=True)
        self.sharpness = sharpness
        self.floor = floor
        self.favours = {"accuracy": "middle"} if floor < 1 else {}

    def select(self, context: SelectionContext, budget: int, rng: np.random.Generator) -> Selection:
        p = context.latest("accuracy")
        variance = (4 * p * (1 - p)) ** self.sharpness
        weight = self.floor + (1 - self.floor) * variance
        return draw(context, context.carry(weight), budget, rng)
