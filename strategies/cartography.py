"""A region of the data map: ambiguous, hard or easy."""

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
)


class Cartography(Strategy):
    """Prefer one region of the map that training dynamics draw of the data.

    Prefers: `ambiguous`, high variability of the trace's probability over the rounds; `hard`, low
        mean probability; or `easy`, high mean probability. The paper maps a finished run and
        trains a second model on the region (a third of the data); we map while we train.
    Helps: ambiguous: generalization out of distribution, in the paper; hard: to find wrong labels.
    Hurts: with fewer than three scored rounds variability says little; hard and ambiguous regions
        collect wrong answers; easy alone teaches nothing new.
    Costs: one forward pass per example and round.
    Source: Swayamdipta et al., Dataset Cartography, arXiv 2009.10795.

    Args:
        region: ``ambiguous``, ``hard`` or ``easy``.
        keep: share of the train set that counts as the best, in (0, 1]: a reweighting run goes on
            with it, an acquiring one looks for more like it.
    """

    name: ClassVar[str] = "cartography"
    citation: ClassVar[str] = "arXiv:2009.10795"

    def __init__(self, region: str = "ambiguous", keep: float = 0.5) -> None:
        expect_one_of(tuple(_REGIONS), region=region)
        expect_share(keep=keep)
        self.region = region
        self.keep = keep
        signal, favoured = _REGIONS[region]
        self.requires = (signal,)
        self.favours = {signal: favoured}

    def select(self, context: SelectionContext, budget: int, rng: np.random.Generator) -> Selection:
        signal, favoured = _REGIONS[self.region]
        value = context.latest(signal)
        if favoured == "low":
            value = -value
        return draw_best(context, value, budget, rng, keep=self.keep)


#: Region -> the signal that shows it, and which values.
_REGIONS = {
    "ambiguous": ("variability", "high"),
    "hard": ("confidence", "low"),
    "easy": ("confidence", "high"),
}
