"""The paper's preference without its threshold: the lower the rank, the more weight."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar

import numpy as np

from activeselect.selection.strategy import (
    Selection,
    SelectionContext,
    Strategy,
    draw,
    expect_positive,
    ranks,
)


class PreMemorizationRank(Strategy):
    """Prefer low pre-memorization accuracy softly: weight falls with the rank.

    Prefers: low premem; weight exp(-rank / temperature), where the rank of an example is the share
        of the scored ones below it, ties counted half. New examples get the mean weight of the
        scored ones near them, so that each group counts by its candidates; `premem` counts the
        ones near a group that are not understood.
    Helps: when the level of premem drifts between rounds, or no threshold suits all of the data.
    Hurts: where all examples are understood alike, it still ranks noise; on data with wrong answers
        it buys those, more gently than `premem`.
    Costs: sampled completions of the train examples, as `premem`.
    Source: a soft variant of Kang et al., arXiv 2411.07681; ours.

    Args:
        temperature: the rank at which the weight has fallen to 1/e, above 0; large means random.
    """

    name: ClassVar[str] = "premem-rank"
    requires: tuple[str, ...] = ("premem",)
    citation: ClassVar[str] = "arXiv:2411.07681"
    favours: Mapping[str, str] = MappingProxyType({"premem": "low"})

    def __init__(self, temperature: float = 0.25) -> None:
        expect_positive(temperature=temperature)
        self.temperature = temperature

    def select(self, context: SelectionContext, budget: int, rng: np.random.Generator) -> Selection:
        weight = np.exp(-ranks(context.latest("premem")) / self.temperature)
        return draw(context, context.carry(weight), budget, rng)
