"""Priority to what the model has not understood: the paper's rule."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from activeselect.selection.strategy import (
    Selection,
    SelectionContext,
    Strategy,
    choose,
    draw,
)

_REWEIGHTING = 0.25  # with 0 the fit ends 1 to 2 points below uniform (docs/research/log.md)


class PreMemorization(Strategy):
    """Prefer examples (or new ones near them) of low pre-memorization accuracy.

    Prefers: examples whose premem is at most ``threshold``, all alike; the others get ``floor``
        times that weight. An example that was never scored counts as not understood. When it
        acquires, a candidate that was scored itself (``scoring.candidates``) counts by its own
        score, and every other one by the expected weight of its kind.
    Helps: when the model masters much of the data already and the rest can be learned.
    Hurts: on data with wrong or unlearnable answers, whose premem stays low for ever; it then
        buys noise.
    Costs: sampled completions of the train examples, several times per training run.
    Source: Kang et al., arXiv 2411.07681, section on data curation.

    Args:
        threshold: highest premem that still counts as not understood, in [0, 1].
        floor: weight of the understood examples relative to the others, in [0, 1]; default: 0.25
            when reweighting, where an example of weight 0 is not read again and forgotten, and 0
            when acquiring, where the train set keeps what it has.
    """

    name: ClassVar[str] = "premem"
    requires: tuple[str, ...] = ("premem",)
    citation: ClassVar[str] = "arXiv:2411.07681"

    def __init__(self, threshold: float = 0.6, floor: float | None = None) -> None:
        if not 0 <= threshold <= 1 or not 0 <= (floor or 0) <= 1:
            raise ValueError(
                f"threshold and floor must lie in [0, 1]; received {threshold} and {floor}"
            )
        self.threshold = threshold
        self.floor = floor
        self.favours = {"premem": "low"} if threshold < 1 and (floor or 0) < 1 else {}

    def select(self, context: SelectionContext, budget: int, rng: np.random.Generator) -> Selection:
        premem = context.latest("premem")
        # not understood where premem is NaN
        floor = self.floor
        if floor is None:
            floor = _REWEIGHTING if context.reweights else 0.0
        weight = np.where(premem > self.threshold, floor, 1.0)
        measured = ~np.isnan(premem[context.candidates])
        if context.reweights or not measured.any():
            return choose(context, weight[context.train], budget, rng)
        known = ~np.isnan(premem)
        known[context.train] = True
        weight[~known] = np.nan
        return draw(context, context.carry(weight), budget, rng)
