"""A band of perplexity: low, middle or high."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from activeselect.selection.strategy import (
    Selection,
    SelectionContext,
    Strategy,
    draw_best,
    expect_one_of,
    expect_share,
    ranks,
)


class Perplexity(Strategy):
    """Keep a band of perplexity: by default the middle.

    Prefers: traces of middle perplexity (or low, or high) among the scored ones. The paper prunes a
        pretraining corpus once, by the perplexity under a separate model; name it as `reference`
        for that. Without it, the model in training is asked, in every round.
    Helps: to drop both what is known and what is broken.
    Hurts: where the hard end is what should be learned; on the middle of a memorized set.
    Costs: one forward pass per example and round; with `reference`, one per example and run.
    Source: Marion et al., When Less is More, arXiv 2309.04564.

    Args:
        band: ``low``, ``middle`` or ``high``.
        keep: share of the train set that counts as the best, in (0, 1]: a reweighting run goes on
            with it, an acquiring one looks for more like it.
        reference: path or hub id of the model that judges; None = the model in training.
    """

    name: ClassVar[str] = "perplexity"
    citation: ClassVar[str] = "arXiv:2309.04564"

    def __init__(
        self, band: str = "middle", keep: float = 0.5, reference: str | None = None
    ) -> None:
        expect_one_of(("low", "middle", "high"), band=band)
        expect_share(keep=keep)
        self.band = band
        self.keep = keep
        self.reference = reference
        self.requires = ("reference_loss" if reference else "mean_nll",)
        self.favours = {self.requires[0]: band}

    def select(self, context: SelectionContext, budget: int, rng: np.random.Generator) -> Selection:
        place = ranks(context.latest(self.requires[0]))  # perplexity is exp(mean NLL): same ranks
        score = {"low": -place, "middle": -abs(place - 0.5), "high": place}[self.band]
        return draw_best(context, score, budget, rng, keep=self.keep)
