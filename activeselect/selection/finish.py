"""How a strategy ends: weights or scores of examples become a selection."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from activeselect.selection.context import Selection, SelectionContext
from activeselect.selection.draw import weighted_choice

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]


def choose(
    context: SelectionContext, weight: FloatArray, budget: int, rng: np.random.Generator
) -> Selection:
    """Finish a score-only strategy: weights on the train set become a selection.

    Args:
        weight: finite and non-negative, one per train example, float64 ``[T]``.

    Returns:
        When the run reweights: the examples of positive weight with their weights (a weighted
        draw of ``budget`` of them if there are more). When it acquires: ``budget`` candidates
        drawn without replacement with the weights spread to them, each of weight 1. Where all
        weights are 0 nothing is preferred and all count the same.
    """
    return draw(context, context.spread(weight), budget, rng)


def draw(
    context: SelectionContext, weight: FloatArray, budget: int, rng: np.random.Generator
) -> Selection:
    """Finish a strategy that weighs the candidates: weights become a selection.

    Args:
        weight: non-negative, one per candidate, float64 ``[C]``. NaN (nothing is known) counts as
            the mean of the others, so that what was never scored is neither sought nor avoided.

    Returns:
        As :func:`choose`.
    """
    unknown = np.isnan(weight)
    if unknown.any():
        weight = np.where(unknown, 1.0 if unknown.all() else weight[~unknown].mean(), weight)
    if not weight.any():
        weight = np.ones(len(context.candidates))
    if context.reweights:
        if len(weight) <= budget and weight.all():
            return Selection.of(context.candidates, weight)
        keep = np.flatnonzero(weight)
        if len(keep) > budget:
            keep = keep[weighted_choice(weight[keep], budget, rng)]
        return Selection.of(context.candidates[keep], weight[keep])
    drawn = weighted_choice(weight, min(budget, len(weight)), rng)
    return Selection.of(context.candidates[drawn])


def draw_top(
    context: SelectionContext,
    score: FloatArray,
    budget: int,
    rng: np.random.Generator,
    *,
    keep: float = 1.0,
) -> Selection:
    """Finish a strategy that ranks the candidates: the highest scores first, ties at random.

    Args:
        score: one per candidate, float64 ``[C]``; NaN (nothing is known) comes last.
        keep: share of the candidates to train on when the run reweights, where the budget alone
            would keep them all.

    Returns:
        At most ``budget`` candidates, each of weight 1.
    """
    size = min(budget, len(score))
    if context.reweights:
        size = min(size, math.ceil(keep * len(score)))
    return Selection.of(context.candidates[_highest(score, size, rng)])


def draw_best(
    context: SelectionContext,
    value: FloatArray,
    budget: int,
    rng: np.random.Generator,
    *,
    keep: float = 0.5,
) -> Selection:
    """Finish a strategy that ranks scored examples: the best of them, or new ones near the best.

    Candidates that have values of their own are ranked (:func:`draw_top`). Where none has, they
    would all look like the mean of their neighbourhood, and the whole budget would go to a single
    one; so the best ``keep`` of the train set are marked, and candidates are drawn in proportion
    to how much of what is near them is marked.

    Args:
        value: worth of examples, float64 ``[N]``; NaN where nothing is known.
        keep: share of the examples that count as the best, in (0, 1].

    Returns:
        At most ``budget`` candidates.
    """
    if context.reweights or not np.isnan(value[context.candidates]).all():
        return draw_top(context, context.carry(value), budget, rng, keep=keep)
    known = context.train[~np.isnan(value[context.train])]
    marked = np.full(len(value), np.nan)
    marked[known] = 0.0
    marked[known[_highest(value[known], math.ceil(keep * len(known)), rng)]] = 1.0
    return draw(context, context.carry(marked), budget, rng)


def _highest(score: FloatArray, size: int, rng: np.random.Generator) -> IntArray:
    """Positions of the ``size`` highest scores, ascending; ties at random, NaN last."""
    if size == 0 or size >= len(score):
        return np.arange(min(size, len(score)))
    worth = np.where(np.isnan(score), -np.inf, score)
    least = np.partition(worth, len(worth) - size)[len(worth) - size]
    chosen = worth > least
    ties = np.flatnonzero(worth == least)
    missing = size - np.count_nonzero(chosen)
    if missing < len(ties):
        ties = ties[np.argpartition(rng.random(len(ties)), missing)[:missing]]
    chosen[ties] = True
    return np.flatnonzero(chosen)
