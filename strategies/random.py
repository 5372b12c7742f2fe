"""Independent, identically distributed draws: the baseline."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from activeselect.selection.strategy import Selection, SelectionContext, Strategy


class Random(Strategy):
    """Random selection, the baseline every other strategy has to beat.

    Prefers: nothing; every candidate is equally likely.
    Helps: when all regions of the data are about equally hard, or scores cannot be trusted.
    Hurts: when most of the data is mastered already; it keeps buying what is known.
    Costs: nothing; no signal is measured.
    Source: the i.i.d. baseline of any acquisition experiment.
    """

    name: ClassVar[str] = "random"
    requires: tuple[str, ...] = ()

    def select(self, context: SelectionContext, budget: int, rng: np.random.Generator) -> Selection:
        size = min(budget, len(context.candidates))
        return Selection.of(rng.choice(context.candidates, size=size, replace=False))
