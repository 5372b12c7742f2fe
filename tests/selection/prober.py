"""A strategy that probes, remembers how it went, and is used by the tests of compositions."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from activeselect.selection.strategy import Selection, SelectionContext, Strategy, draw


class Prober(Strategy):
    """Probe a third of the budget, then avoid the groups that are answered already.

    Prefers: groups of low prequential accuracy. Helps: tests. Hurts: nobody.
    Costs: a probe. Source: none.
    """

    name: ClassVar[str] = "prober"
    requires: tuple[str, ...] = ("prequential",)

    def __init__(self) -> None:
        self.probes = 0

    def probe(self, context: SelectionContext, budget: int, rng: np.random.Generator) -> Selection:
        self.probes += 1
        size = min(budget // 3, len(context.candidates))
        return Selection.of(rng.choice(context.candidates, size, replace=False))

    def select(self, context: SelectionContext, budget: int, rng: np.random.Generator) -> Selection:
        wrong = 1 - context.scores("prequential")
        return draw(context, wrong + self.probes % 2, budget, rng)

    def state_dict(self) -> dict[str, Any]:
        return {"probes": self.probes}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.probes = state.get("probes", 0)
