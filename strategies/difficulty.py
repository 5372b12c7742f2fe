"""A difficulty known beforehand: a column of the data, or the trace's length."""

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


class Difficulty(Strategy):
    """Prefer the hard (or easy, or middle) end of a difficulty known beforehand.

    Prefers: examples at one end of the data's difficulty column, or of the traces' lengths.
    Helps: as a control, and where the column means something (MATH's levels, a solve rate).
    Hurts: since it never looks at the model: what was hard stays preferred when it is mastered.
    Costs: nothing; it is known for all of the pool, trained on or not.
    Source: the heuristic of curriculum learning (Bengio et al., 2009), in one stage.

    Args:
        by: ``difficulty`` (the column) or ``length`` (tokens of the trace).
        direction: ``hard``, ``easy`` or ``middle``.
        keep: share of the train set that counts as the best, in (0, 1]: a reweighting run goes on
            with it, an acquiring one looks for more like it.
    """

    name: ClassVar[str] = "difficulty"

    def __init__(self, by: str = "difficulty", direction: str = "hard", keep: float = 0.5) -> None:
        expect_one_of(("difficulty", "length"), by=by)
        expect_one_of(tuple(_FAVOURED), direction=direction)
        expect_share(keep=keep)
        self.by = by
        self.direction = direction
        self.keep = keep
        self.requires = (by,)
        self.favours = {by: _FAVOURED[direction]}

    def select(self, context: SelectionContext, budget: int, rng: np.random.Generator) -> Selection:
        value = context.latest(self.by)
        if self.direction == "easy":
            value = -value
        elif self.direction == "middle":
            value = -abs(ranks(value) - 0.5)
        return draw_best(context, value, budget, rng, keep=self.keep)


_FAVOURED = {"hard": "high", "easy": "low", "middle": "middle"}
