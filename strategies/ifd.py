"""Traces that their question hardly makes easier: instruction-following difficulty."""

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


class InstructionFollowingDifficulty(Strategy):
    """Prefer examples whose question helps the model least to write the trace.

    Prefers: a high ratio of the trace's loss given the question to its loss alone, below 1; at 1
        and above the question misleads, and the example comes last. The paper scores a pool once,
        with a model trained for one epoch on a small part, and keeps 5-15%; we score what is
        trained, with the model as it is, in every round.
    Helps: on instruction data of mixed quality, with a pretrained model.
    Hurts: for reasoning traces whose wording is generic; the ratio says little about the answer.
    Costs: two forward passes per example and round.
    Source: Li et al., From Quantity to Quality, arXiv 2308.12032.

    Args:
        keep: share of the train set that counts as the best, in (0, 1]: a reweighting run goes on
            with it, an acquiring one looks for more like it.
    """

    name: ClassVar[str] = "ifd"
    requires: tuple[str, ...] = ("ifd",)
    citation: ClassVar[str] = "arXiv:2308.12032"
    favours: Mapping[str, str] = MappingProxyType({"ifd": "high"})

    def __init__(self, keep: float = 0.5) -> None:
        expect_share(keep=keep)
        self.keep = keep

    def select(self, context: SelectionContext, budget: int, rng: np.random.Generator) -> Selection:
        ratio = context.latest("ifd")
        aligned = np.where(ratio >= 1, -1.0, ratio)
        return draw_best(context, aligned, budget, rng, keep=self.keep)
