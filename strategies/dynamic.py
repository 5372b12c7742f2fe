"""Neither all right nor all wrong."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from activeselect.selection.strategy import (
    Selection,
    SelectionContext,
    Strategy,
    draw,
    expect_share,
)


class Dynamic(Strategy):
    """Drop examples whose sampled answers are all right or all wrong.

    Prefers: examples that are solved sometimes, all alike. The paper (for reinforcement
        learning, where the others have no gradient) samples on until a batch is full of them; we
        draw from those of the last scored round, and a new example counts by the share of them
        near it.
    Helps: as a cheap filter in front of another strategy; noise that is never right is dropped.
    Hurts: with few samples; in supervised training, where all wrong is what a trace can teach.
    Costs: sampled completions of the train examples in every round.
    Source: Yu et al., DAPO, arXiv 2503.14476.

    Args:
        floor: weight of the dropped relative to the others, in [0, 1].
    """

    name: ClassVar[str] = "dynamic"
    requires: tuple[str, ...] = ("accuracy",)
    citation: ClassVar[str] = "arXiv:2503.14476"

    def __init__(self, floor: float = 0.0) -> None:
        expect_share(floor=floor, zero=True)
        self.floor = floor
        self.favours = {"accuracy": "middle"} if floor < 1 else {}

    def select(self, context: SelectionContext, budget: int, rng: np.random.Generator) -> Selection:
        p = context.latest("accuracy")
        weight = np.where((p > 0) & (p < 1), 1.0, self.floor)
        weight[np.isnan(p)] = np.nan
        return draw(context, context.carry(weight), budget, rng)
