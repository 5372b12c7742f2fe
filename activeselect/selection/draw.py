"""Weighted draws without replacement, in one pass over the weights."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]

_BLOCK = 2**16  # weights that are given their keys together


def weighted_choice(weight: FloatArray, size: int, rng: np.random.Generator) -> IntArray:
    """Draw ``size`` distinct positions with probability proportional to ``weight``.

    Successive weighted draws without replacement, done at once by exponential keys (Efraimidis
    and Spirakis, 2006). Positions of weight 0 are taken, uniformly, only once all others are.
    Beyond the weights it needs memory for what is drawn, not for what is drawn from.

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
    positives = int(np.count_nonzero(weight))
    largest = weight.max(initial=0.0)
    drawn = _Smallest(min(size, positives))
    fillers = _Smallest(size - drawn.size)
    for start in range(0, len(weight), _BLOCK):
        part = weight[start : start + _BLOCK]
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

    def __init__(self, size: int) -> None:
        self.size = size
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
        if self._held > 2 * self.size + _BLOCK:
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
