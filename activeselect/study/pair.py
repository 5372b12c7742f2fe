"""A strategy beside the baseline, measured and resampled, on one axis of cost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from activeselect.study.curve_set import CurveSet
from activeselect.study.curves import FloatArray
from activeselect.study.resampling import Draws, means

Row = dict[str, Any]


@dataclass(frozen=True)
class Pair:
    """A strategy and the baseline: measured and resampled, on the axis of the curves."""

    curves: CurveSet
    name: str
    baseline: str
    drawn: Draws | None
    level: float

    def both(self, function: Callable[..., FloatArray]) -> tuple[FloatArray, FloatArray | None]:
        """``function(spent, ours, theirs, spent by the baseline)``, measured and resampled."""
        point = means(self.curves)
        spent = (self.curves.mean_spent(self.name), self.curves.mean_spent(self.baseline))
        same = self.curves.spent is None
        value = function(
            spent[0], point[self.name], point[self.baseline], None if same else spent[1]
        )
        if self.drawn is None:
            return value, None
        accuracy, costs = self.drawn.accuracy, self.drawn.spent
        ours, theirs = accuracy[self.name], accuracy[self.baseline]
        if costs is None:
            return value, function(spent[0], ours, theirs, None)
        return value, function(costs[self.name], ours, theirs, costs[self.baseline])

    def swapped(self) -> Pair:
        return replace(self, name=self.baseline, baseline=self.name)

    @property
    def common(self) -> Row:
        """What every row of the pair begins with."""
        return {"strategy": self.name, "baseline": self.baseline, "cost": self.curves.cost}

    def distinct(self) -> list[int]:
        """Budgets with different answers; at the shared initial set the model is the very same."""
        ours, theirs = self.curves.correct[self.name], self.curves.correct[self.baseline]
        pairs = range(self.curves.budgets.size)
        return [i for i in pairs if not np.array_equal(ours[:, i], theirs[:, i])]
