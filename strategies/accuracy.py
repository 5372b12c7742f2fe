"""Priority to what the model answers wrongly now: the paper's rule without its mask."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from activeselect.selection.strategy import (
    Selection,
    SelectionContext,
    Strategy,
    choose,
    expect_share,
)

_REWEIGHTING = 0.25  # as in premem, whose control this is


class Accuracy(Strategy):
    """Prefer examples (or new ones near them) whose sampled answers are mostly wrong.

    The control for ``premem``: the same rule, threshold and schedule, with the accuracy as it is.
    Where the two select alike, the mask of memorized traces has not acted.

    Prefers: examples whose latest accuracy is at most ``threshold``, all alike; the others get
        ``floor`` times that weight. An example that was never scored counts as not understood.
    Helps: when the model masters much of the data already and the rest can be learned, measured
        before answers are memorized (``rounds.score_until``).
    Hurts: measured late, as every example of the train set then looks understood; and on data
        with wrong or unlearnable answers.
    Costs: sampled completions of the train examples, as often as they are scored.
    Source: the control for Kang et al., arXiv 2411.07681, section on data curation.

    Args:
        threshold: highest accuracy that still counts as not understood, in [0, 1].
        floor: weight of the understood examples relative to the others, in [0, 1]; default: as
            ``premem``, 0.25 when reweighting and 0 when acquiring.
    """

    name: ClassVar[str] = "accuracy"
    requires: tuple[str, ...] = ("accuracy",)

    def __init__(self, threshold: float = 0.6, floor: float | None = None) -> None:
        expect_share(zero=True, threshold=threshold, floor=floor or 0.0)
        self.threshold = threshold
        self.floor = floor
        self.favours = {"accuracy": "low"} if threshold < 1 and (floor or 0) < 1 else {}

    def select(self, context: SelectionContext, budget: int, rng: np.random.Generator) -> Selection:
        accuracy = context.latest("accuracy")[context.train]
        understood = accuracy > self.threshold  # False where it is NaN
        floor = self.floor
        if floor is None:
            floor = _REWEIGHTING if context.reweights else 0.0
        return choose(context, np.where(understood, floor, 1.0), budget, rng)
