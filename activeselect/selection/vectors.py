"""Vector tools that strategies share: unit length, and leaves of a tree that keep work linear."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from activeselect.arrays import IntArray

Vectors = NDArray[np.float32]

#: Rows that decide where a node is split.
_SAMPLE = 256


def unit(vectors: NDArray[np.floating]) -> Vectors:
    """Rows scaled to length 1, float32 ``[B, D]``; rows of length 0 or with NaN become 0.

    Example:
        >>> unit(np.array([[3.0, 4.0], [np.nan, 1.0], [0.0, 0.0]])).tolist()
        [[0.6000000238418579, 0.800000011920929], [0.0, 0.0], [0.0, 0.0]]
    """
    scaled = np.array(vectors, dtype=np.float32)
    largest = np.abs(scaled).max(axis=1, keepdims=True, initial=0)  # squares cannot overflow
    usable = np.isfinite(largest) & (largest > 0)
    np.divide(scaled, largest, out=scaled, where=usable)
    scaled[~usable[:, 0]] = 0
    length = np.sqrt(np.einsum("ij,ij->i", scaled, scaled))[:, None]
    np.divide(scaled, length, out=scaled, where=length > 0)
    return scaled


def leaves(vectors: Vectors, size: int, rng: np.random.Generator) -> list[IntArray]:
    """Split rows into leaves of similar vectors, each of at most ``size`` rows.

    A tree of cuts: each node is cut half-way between two means of a sample of its rows (as in
    Annoy), or at the median where that would leave less than a quarter on one side. Two similar
    rows usually share a leaf, not always; another generator gives another tree. Time is of order
    ``B log(B / size) D``.

    Args:
        vectors: finite, float32 ``[B, D]``.
        size: at least 1.

    Returns:
        Rows of each leaf, int64, disjoint and exhaustive; nothing for no rows.

    Example:
        >>> rows = np.array([[0, 1], [1, 0], [0, 1.1], [1.1, 0]], np.float32)
        >>> sorted(sorted(leaf.tolist()) for leaf in leaves(rows, 2, np.random.default_rng(0)))
        [[0, 2], [1, 3]]
    """
    done: list[IntArray] = []
    todo = [np.arange(len(vectors))] if len(vectors) else []
    while todo:
        rows = todo.pop()
        if len(rows) <= size:
            done.append(rows)
            continue
        left = _cut(vectors, rows, rng)
        todo += [rows[left], rows[~left]]
    return done


def _cut(vectors: Vectors, rows: IntArray, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Which rows of a node go to one side, bool ``[B]``; never fewer than a quarter of them."""
    sample = vectors[rng.choice(rows, min(_SAMPLE, len(rows)), replace=False)]
    first, second = sample[0], sample[-1]
    for _ in range(3):
        nearer = sample @ (first - second) > (first @ first - second @ second) / 2
        if nearer.all() or not nearer.any():
            break
        first, second = sample[nearer].mean(axis=0), sample[~nearer].mean(axis=0)
    along = vectors[rows] @ (first - second)
    left: NDArray[np.bool_] = along > (first @ first - second @ second) / 2
    if min(left.sum(), (~left).sum()) < len(rows) / 4:
        order = rng.permutation(len(rows))  # of one projection some go left, not the first ones
        left[:] = False
        left[order[np.argpartition(along[order], len(rows) // 2)[: len(rows) // 2]]] = True
    return left
