"""Weighted draws without replacement."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]


def weighted_choice(weight: FloatArray, size: int, rng: np.random.Generator) -> IntArray:
    """Draw ``size`` distinct positions with probability proportional to ``weight``.

    Successive weighted draws without replacement, done at once by exponential keys (Efraimidis
    and Spirakis, 2006). Positions of weight 0 are taken, uniformly, only once all others are.

    Args:
        weight: finite and non-negative, float64 ``[C]``.
        size: at most ``C``.

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
    keys = rng.exponential(size=len(weight))
    positive = np.flatnonzero(weight)
    drawn = positive[:0]
    if len(positive):
        # Relative to the largest, and no smaller than what a key can be divided by.
        relative = np.maximum(weight[positive] / weight.max(), 1e-300)
        drawn = positive[_smallest(keys[positive] / relative, min(size, len(positive)))]
    if size > len(positive):
        empty = np.flatnonzero(weight == 0)
        drawn = np.concatenate([drawn, empty[_smallest(keys[empty], size - len(positive))]])
    return drawn.astype(np.int64)


def _smallest(keys: FloatArray, size: int) -> IntArray:
    if size == 0:
        return np.empty(0, dtype=np.int64)
    part = np.argpartition(keys, size - 1)[:size] if size < len(keys) else np.arange(len(keys))
    return part[np.argsort(keys[part], kind="stable")].astype(np.int64)
