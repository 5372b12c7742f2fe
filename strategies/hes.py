"""Traces with many open decisions: high-entropy sum."""

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
    expect_share,
)


class HighEntropySum(Strategy):
    """Prefer traces whose most uncertain tokens carry much entropy.

    Prefers: a high sum of the entropies of the trace's most uncertain tokens (their share is
        `scoring.entropy_share`, 0.5% in the paper). The paper scores long chains of
        thought once, with a fixed model, and keeps the top 20%; we score with the model in
        training.
    Helps: on long traces of mixed quality: forks in the reasoning instead of boilerplate.
    Hurts: on short traces, where the sum is one token; with wrong or garbled traces, which
        are uncertain too.
    Costs: one forward pass per example and round.
    Source: Li et al., Unified Data Selection for LLM Reasoning, arXiv 2605.22389.

    Args:
        keep: share of the train set that counts as the best, in (0, 1]: a reweighting run goes on
            with it, an acquiring one looks for more like it.
    """

    name: ClassVar[str] = "hes"
    requires: tuple[str, ...] = ("hes",)
    citation: ClassVar[str] = "arXiv:2605.22389"
    favours: Mapping[str, str] = MappingProxyType({"hes": "high"})

    def __init__(self, keep: float = 0.5) -> None:
        expect_share(keep=keep)
        self.keep = keep

    def select(self, context: SelectionContext, budget: int, rng: np.random.Generator) -> Selection:
        return draw_best(context, context.latest("hes"), budget, rng, keep=self.keep)
