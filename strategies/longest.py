"""The longest traces first: the control that is hard to beat."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar

import numpy as np

from activeselect.selection.strategy import (
    Selection,
    SelectionContext,
    Strategy,
    draw_top,
    expect_share,
)


class Longest(Strategy):
    """Prefer the longest reference traces.

    Prefers: traces of many tokens.
    Helps: as a control: a score that grows with length has to beat it; the paper found the 1,000
        longest responses of an instruction set to beat curated ones.
    Hurts: where length is verbosity, or says nothing about what is left to learn.
    Costs: nothing; lengths are known for all of the pool, trained on or not.
    Source: Zhao et al., Long Is More for Alignment, arXiv 2402.04833.

    Args:
        keep: share of the train set that a reweighting run goes on with, in (0, 1].
    """

    name: ClassVar[str] = "longest"
    requires: tuple[str, ...] = ("length",)
    citation: ClassVar[str] = "arXiv:2402.04833"
    favours: Mapping[str, str] = MappingProxyType({"length": "high"})

    def __init__(self, keep: float = 0.5) -> None:
        expect_share(keep=keep)
        self.keep = keep

    def select(self, context: SelectionContext, budget: int, rng: np.random.Generator) -> Selection:
        return draw_top(context, context.scores("length"), budget, rng, keep=self.keep)
