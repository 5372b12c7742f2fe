"""Large errors first: the length of the error vector."""

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


class EL2N(Strategy):
    """Prefer examples with large prediction errors (EL2N).

    Prefers: a high mean length of the error vector, probabilities minus the right token, over the
        trace. The paper averages over ten networks early in training; we take the newest
        measurement of the model in training, and tokens instead of classes.
    Helps: early in training, to drop what is easy.
    Hurts: with wrong answers, which have the largest errors (`skip` leaves the top out, as the
        paper suggests); late in training, when errors are memorized away.
    Costs: one forward pass per example and round.
    Source: Paul et al., Deep Learning on a Data Diet, arXiv 2107.07075.

    Args:
        keep: share of the train set that counts as the best, in (0, 1]: a reweighting run goes on
            with it, an acquiring one looks for more like it.
        skip: share of the candidates left out above them, in [0, 1); against noise.
    """

    name: ClassVar[str] = "el2n"
    requires: tuple[str, ...] = ("el2n",)
    citation: ClassVar[str] = "arXiv:2107.07075"

    def __init__(self, keep: float = 0.5, skip: float = 0.0) -> None:
        expect_share(keep=keep)
        if not 0 <= skip < 1:
            raise ValueError(f"skip: expected a share in [0, 1); received {skip!r}")
        self.keep = keep
        self.skip = skip
        self.favours = {} if skip else {"el2n": "high"}

    def select(self, context: SelectionContext, budget: int, rng: np.random.Generator) -> Selection:
        value = context.latest("el2n")
        if self.skip:
            value = np.where(ranks(value) > 1 - self.skip, -1.0, value)
        return draw_best(context, value, budget, rng, keep=self.keep)
