"""No selection at all: everything that the budget allows."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from activeselect.selection.strategy import Selection, SelectionContext, Strategy


class Full(Strategy):
    """All the data, each example alike: the control that costs the most training.

    Prefers: nothing. A reweighting run trains on its whole train set in every round; an acquiring
        run takes every candidate, and a random part of them where the budget does not reach.
    Helps: as the ceiling or the sanity check of a comparison (one budget, the whole pool).
    Hurts: the bill; and on data with wrong answers, which it trains on like all others.
    Costs: nothing is measured.
    Source: the control of any data-selection experiment.
    """

    name: ClassVar[str] = "full"
    requires: tuple[str, ...] = ()

    def select(self, context: SelectionContext, budget: int, rng: np.random.Generator) -> Selection:
        if len(context.candidates) <= budget:
            return Selection.of(context.candidates)
        return Selection.of(rng.choice(context.candidates, size=budget, replace=False))
