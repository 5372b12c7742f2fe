"""Groups as arms of a bandit: DUMP."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from activeselect.selection.strategy import (
    Selection,
    SelectionContext,
    Strategy,
    draw,
    expect_positive,
)


class GroupBandit(Strategy):
    """Spend on the groups where answers vary most, and on those little is known about.

    Prefers: groups by softmax(U / temperature), where U is the mean of 2 sqrt(p (1 - p)) over a
        group's examples (the expected size of the normalised advantage, for a success rate p) in
        the last rounds, plus exploration * sqrt(2 ln(n + 1) / (n_g + 1)) for n_g of n samples
        trained. Inside a group all are alike. The paper counts and averages rollouts of
        reinforcement learning; we count examples trained and average over scored rounds.
    Helps: with many groups of different difficulty; it explores on its own.
    Hurts: with one group it is random; groups mastered by memorizing look finished, and hopeless
        ones get the exploration bonus only. The formula expects thousands of samples per group:
        with a few dozen the bonus decides alone (a smaller `exploration` or a larger
        `temperature` helps).
    Costs: sampled completions of the train examples in every round.
    Source: Wang et al., DUMP, arXiv 2504.09710.

    Args:
        temperature: of the softmax over groups, above 0.
        exploration: factor of the bonus for groups that little was trained on, at least 0.
        window: scored rounds that the mean goes back, at least 1.
    """

    name: ClassVar[str] = "group-bandit"
    requires: tuple[str, ...] = ("accuracy",)
    citation: ClassVar[str] = "arXiv:2504.09710"
    favours: Mapping[str, str] = MappingProxyType({"accuracy": "middle"})

    def __init__(self, temperature: float = 0.1, exploration: float = 1.0, window: int = 3) -> None:
        expect_positive(temperature=temperature)
        expect_positive(exploration=exploration, zero=True)
        if not (isinstance(window, int) and window >= 1):
            raise ValueError(f"window: expected a whole number of at least 1; received {window!r}")
        self.temperature = temperature
        self.exploration = exploration
        self.window = window

    def select(self, context: SelectionContext, budget: int, rng: np.random.Generator) -> Selection:
        if not len(context.candidates):
            return Selection.of([])
        p = context.history("accuracy")[-self.window :]
        rows, examples = np.nonzero(~np.isnan(p))
        known = p[rows, examples]
        advantage = _per_group(context, examples, 2 * np.sqrt(known * (1 - known)))
        measured = _per_group(context, examples, np.ones(len(examples)))
        mean = advantage / np.maximum(measured, 1)
        trained = np.bincount(context.groups, context.times_seen, len(mean))
        bonus = np.sqrt(2 * np.log(trained.sum() + 1) / (trained + 1))

        group = context.groups[context.candidates]
        members = np.bincount(group, minlength=len(mean))
        worth = (mean + self.exploration * bonus) / self.temperature
        worth[members == 0] = -np.inf  # nothing is left to draw there
        share = np.exp(worth - worth.max())
        return draw(context, (share / np.maximum(members, 1))[group], budget, rng)


def _per_group(
    context: SelectionContext, examples: NDArray[np.int64], values: NDArray[Any]
) -> NDArray[np.float64]:
    """Sum of the examples' values per group, float64 ``[G]``."""
    size = int(context.groups.max(initial=0)) + 1
    return np.bincount(context.groups[examples], values, size).astype(np.float64)
