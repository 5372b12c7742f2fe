"""Large gradients first."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from activeselect.selection.strategy import (
    Selection,
    SelectionContext,
    Strategy,
    draw_best,
    expect_share,
    ranks,
)


class GraNd(Strategy):
    """Prefer examples with a large gradient of the loss (GraNd).

    Prefers: a high norm of the gradient, here that of the output layer alone; the paper takes all
        weights, and the mean over ten networks at the start of training.
    Helps: early in training, to drop what changes nothing.
    Hurts: with wrong answers, which have the largest gradients (`skip` leaves the top out); with
        traces of very different length, since the norm grows with the tokens.
    Costs: one forward pass per example and round; no backward pass.
    Source: Paul et al., Deep Learning on a Data Diet, arXiv 2107.07075.

    Args:
        keep: share of the train set that counts as the best, in (0, 1]: a reweighting run goes on
            with it, an acquiring one looks for more like it.
        skip: share of the candidates left out above them, in [0, 1); against noise.
    """

    name: ClassVar[str] = "grand"
    requires: tuple[str, ...] = ("grand",)
    citation: ClassVar[str] = "arXiv:2107.07075"

    def __init__(self, keep: float = 0.5, skip: float = 0.0) -> None:
        expect_share(keep=keep)
        if not 0 <= skip < 1:
            raise ValueError(f"skip: expected a share in [0, 1); received {skip!r}")
        self.keep = keep
        self.skip = skip
        self.favours = {} if skip else {"grand": "high"}

    def select(self, context: SelectionContext, budget: int, rng: np.random.Generator) -> Selection:
        value = context.latest("grand")
        if self.skip:
            value = np.where(ranks(value) > 1 - self.skip, -1.0, value)
        return draw_best(context, value, budget, rng, keep=self.keep)
