"""What the model once got right and lost again."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar

import numpy as np

from activeselect.selection.strategy import (
    Selection,
    SelectionContext,
    Strategy,
    draw_best,
    expect_one_of,
    expect_share,
)


class Forgetting(Strategy):
    """Prefer examples that were forgotten often: right once, wrong later.

    Prefers: many changes from right to wrong (accuracy of 0.5 and more counts as right) between
        measurements. What was never right counts as forgotten most, as in the paper; the paper
        looks at every batch of a classifier, we at every scored round.
    Helps: over many rounds, to drop what is learned once and kept.
    Hurts: with few rounds nearly everything ties, then it is close to random; with wrong answers,
        which are never right (`unlearned: last` turns that round).
    Costs: sampled completions of the train examples in every round.
    Source: Toneva et al., arXiv 1812.05159.

    Args:
        keep: share of the train set that counts as the best, in (0, 1]: a reweighting run goes on
            with it, an acquiring one looks for more like it.
        unlearned: where examples that were never right come: ``first`` or ``last``.
    """

    name: ClassVar[str] = "forgetting"
    requires: tuple[str, ...] = ("forgetting", "accuracy")
    citation: ClassVar[str] = "arXiv:1812.05159"
    favours: Mapping[str, str] = MappingProxyType({"forgetting": "high"})

    def __init__(self, keep: float = 0.5, unlearned: str = "first") -> None:
        expect_share(keep=keep)
        expect_one_of(("first", "last"), unlearned=unlearned)
        self.keep = keep
        self.unlearned = unlearned

    def select(self, context: SelectionContext, budget: int, rng: np.random.Generator) -> Selection:
        count = context.latest("forgetting")
        learned = (context.history("accuracy") >= 0.5).any(axis=0)
        most = np.nanmax(count, initial=0.0) + 1
        unlearned = most if self.unlearned == "first" else -1.0
        count = np.where(learned | np.isnan(count), count, unlearned)
        return draw_best(context, count, budget, rng, keep=self.keep)
