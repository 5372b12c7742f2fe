"""Asking one part of a composition: on fewer candidates, with a part of the budget."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from activeselect.selection.strategy import (
    FloatArray,
    IntArray,
    Neighbourhood,
    Selection,
    SelectionContext,
    Strategy,
)


class _Part:
    """The neighbourhood of some of the candidates."""

    def __init__(self, near: Neighbourhood, where: IntArray) -> None:
        self.near, self.where = near, where

    def spread(self, weight: FloatArray) -> FloatArray:
        return self.near.spread(weight)[self.where]

    def average(self, value: FloatArray) -> FloatArray:
        return self.near.average(value)[self.where]


def among(context: SelectionContext, index: IntArray) -> SelectionContext:
    """The same situation with these candidates only."""
    where = np.flatnonzero(np.isin(context.candidates, index))
    candidates = context.candidates[where]
    train = candidates if context.reweights else context.train
    return replace(context, candidates=candidates, train=train, near=_Part(context.near, where))


def ask(
    part: Strategy, context: SelectionContext, budget: int, rng: np.random.Generator
) -> Selection:
    """What a part selects, its promises checked; nothing where nothing is asked of it."""
    budget = min(budget, len(context.candidates))
    if budget == 0:
        return Selection.of([])
    return part.select(context, budget, rng).validated(context.candidates, budget, name=part.name)


def probe(
    part: Strategy, context: SelectionContext, budget: int, rng: np.random.Generator
) -> Selection:
    """What a part probes; nothing where it does not."""
    if "prequential" not in part.requires or budget == 0:
        return Selection.of([])
    return part.probe(context, budget, rng).validated(context.candidates, budget, name=part.name)


def apportion(shares: FloatArray, total: int) -> IntArray:
    """Whole numbers that add up to ``total``, nearest to the shares (largest remainders).

    Example:
        >>> apportion(np.array([0.2, 0.3, 0.5]), 7).tolist()
        [1, 2, 4]
    """
    exact = shares / shares.sum() * total
    quota: IntArray = np.floor(exact + 1e-9).astype(np.int64)
    rest = np.argsort(quota - exact, kind="stable")[: total - int(quota.sum())]
    quota[rest] += 1
    return quota
