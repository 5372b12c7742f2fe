"""Weighted draws without replacement, in one pass over the weights."""

from __future__ import annotations

import math

import numpy as np

from activeselect.arrays import FloatArray, IntArray
from activeselect.selection.context import Selection, SelectionContext

# --- Percentiles of scores


def ranks(values: FloatArray) -> FloatArray:
    """Share of the other known values that lie below each one, ties counted half.

    Args:
        values: float64 ``[N]``; NaN = not known.

    Returns:
        float64 ``[N]`` in [0, 1]; NaN where the value is NaN, 0.5 where there is no other.

    Example:
        >>> ranks(np.array([0.3, 0.1, np.nan, 0.3, 0.9])).tolist()
        [0.5, 0.0, nan, 0.5, 1.0]
    """
    known = len(values) - int(np.count_nonzero(np.isnan(values)))
    order = np.argsort(values)[:known]  # what is not known comes last
    ascending = values[order]
    starts = np.ones(known, dtype=bool)
    np.not_equal(ascending[1:], ascending[:-1], out=starts[1:])
    if starts.all():
        below = np.arange(known, dtype=np.float64)
    else:
        first = np.flatnonzero(starts)
        ties = np.diff(first, append=known)
        below = np.repeat(first + (ties - 1) / 2, ties)
    share: FloatArray = np.full(len(values), np.nan)
    share[order] = below / (known - 1) if known > 1 else 0.5
    return share


_BLOCK = 2**16  # weights that are given their keys together


def weighted_choice(
    weight: FloatArray, size: int, rng: np.random.Generator, *, block: int = _BLOCK
) -> IntArray:
    """Draw ``size`` distinct positions with probability proportional to ``weight``.

    Successive weighted draws without replacement, done at once by exponential keys (Efraimidis
    and Spirakis, 2006). Positions of weight 0 are taken, uniformly, only once all others are.
    Beyond the weights it needs memory for what is drawn, not for what is drawn from.

    Args:
        weight: finite and non-negative, float64 ``[C]``.
        size: at most ``C``.
        block: weights that are given their keys together; what is drawn does not depend on it.

    Returns:
        int64 ``[size]``, in order of drawing.

    Raises:
        ValueError: if ``size`` exceeds ``C`` or a weight is negative or not finite.

    Example:
        >>> weighted_choice(np.array([0.0, 1.0, 1.0]), 2, np.random.default_rng(0)).tolist()
        [2, 1]
    """
    if not 0 <= size <= len(weight):
        raise ValueError(f"size must lie between 0 and {len(weight)}; received {size}")
    if len(weight) and not (weight.min() >= 0 and weight.max() < np.inf):
        raise ValueError("weight must be finite and at least 0")
    positives = int(np.count_nonzero(weight))
    largest = weight.max(initial=0.0)
    drawn = _Smallest(min(size, positives), block)
    fillers = _Smallest(size - drawn.size, block)
    for start in range(0, len(weight), block):
        part = weight[start : start + block]
        keys = rng.exponential(size=len(part))
        rows = np.flatnonzero(part)
        # Relative to the largest, and no smaller than what a key can be divided by.
        if drawn.size:
            drawn.offer(keys[rows] / np.maximum(part[rows] / largest, 1e-300), start + rows)
        if fillers.size:
            rows = np.flatnonzero(part == 0)
            fillers.offer(keys[rows], start + rows)
    return np.concatenate([drawn.sorted(), fillers.sorted()])


class _Smallest:
    """The positions of the ``size`` smallest keys of a stream; holds at most twice as many."""

    def __init__(self, size: int, block: int) -> None:
        self.size, self.block = size, block
        self._limit = np.inf  # a larger key is not among the smallest
        self._held = 0
        self._keys: list[FloatArray] = []
        self._positions: list[IntArray] = []

    def offer(self, keys: FloatArray, positions: IntArray) -> None:
        if self._limit < np.inf:
            near = np.flatnonzero(keys < self._limit)
            keys, positions = keys[near], positions[near]
        self._keys.append(keys)
        self._positions.append(positions)
        self._held += len(keys)
        if self._held > 2 * self.size + self.block:
            self._shrink()

    def sorted(self) -> IntArray:
        """Their positions, the smallest key first, int64 ``[size]``."""
        if self.size == 0:
            return np.empty(0, dtype=np.int64)
        keys, positions = self._shrink()
        return positions[np.argsort(keys, kind="stable")]

    def _shrink(self) -> tuple[FloatArray, IntArray]:
        """Keep the smallest keys and their positions alone."""
        keys, positions = np.concatenate(self._keys), np.concatenate(self._positions)
        if len(keys) > self.size:
            kept = np.argpartition(keys, self.size)[: self.size]
            keys, positions = keys[kept], positions[kept]
            self._limit = keys.max(initial=0.0)
        self._keys, self._positions, self._held = [keys], [positions], len(keys)
        return keys, positions


# --- Selections from weights and scores


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
            return Selection.of(context.candidates, weight, score=weight, reason="weighed")
        keep = np.flatnonzero(weight)
        if len(keep) > budget:
            keep = keep[weighted_choice(weight[keep], budget, rng)]
        kept = weight[keep]
        return Selection.of(context.candidates[keep], kept, score=kept, reason="weighed")
    drawn = weighted_choice(weight, min(budget, len(weight)), rng)
    return Selection.of(
        context.candidates[drawn], score=weight[drawn], reason="drawn in proportion to its weight"
    )


def draw_quota(
    context: SelectionContext, quota: IntArray, rng: np.random.Generator, *, reason: str
) -> Selection:
    """Finish a strategy that thinks in groups and acquires: so many of each, at random within it.

    Args:
        quota: candidates to draw of each group, at most as many as it has, int64 ``[G]``.
        reason: why a group gets its number, for the record.
    """
    members = context.groups[context.candidates]
    order = rng.permutation(len(members))
    order = order[np.argsort(members[order], kind="stable")]
    first = np.searchsorted(members[order], np.arange(len(quota)))
    place = np.arange(len(order)) - first[members[order]]  # within its group, at random
    chosen = order[place < quota[members[order]]]
    share = quota[members[chosen]] / np.bincount(members, minlength=len(quota))[members[chosen]]
    return Selection.of(context.candidates[chosen], score=share, reason=reason)


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
    top = _highest(score, size, rng)
    return Selection.of(context.candidates[top], score=score[top], reason="among the highest")


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
