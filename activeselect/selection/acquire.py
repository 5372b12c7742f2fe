"""Growing the train set: how weight on scored examples reaches candidates near them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from activeselect.data.pool import Pool
from activeselect.selection.strategy import Spread

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]


def spread_by_group(groups: NDArray[np.int32], train: IntArray, candidates: IntArray) -> Spread:
    """Each train example shares its weight equally among the candidates of its group.

    Args:
        groups: group of each example, int32 ``[N]``.

    Returns:
        A function from weights ``[T]`` to weights ``[C]``. Weight of a group without candidates
        is lost, as there is nothing left to draw there.

    Example:
        >>> groups = np.array([0, 1, 0, 0], np.int32)
        >>> spread = spread_by_group(groups, train=np.array([0, 1]), candidates=np.array([2, 3]))
        >>> spread(np.array([1.0, 5.0])).tolist()
        [0.5, 0.5]
    """

    def spread(weight: FloatArray) -> FloatArray:
        size = int(groups.max(initial=0)) + 1
        total = np.bincount(groups[train], weights=weight, minlength=size)
        members = np.bincount(groups[candidates], minlength=size)
        share = np.divide(total, members, out=np.zeros(size), where=members > 0)
        carried: FloatArray = share[groups[candidates]]
        return carried

    return spread


def spread_by_text(
    pool: Pool, train: IntArray, candidates: IntArray, *, neighbours: int = 16
) -> Spread:
    """Each train example shares its weight equally among its nearest candidates by question text.

    Nearness is the cosine of TF-IDF word vectors (scikit-learn), numbers and single letters
    included; for pools without groups. Where the candidates have no words at all, all are near.
    """

    def spread(weight: FloatArray) -> FloatArray:
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.neighbors import NearestNeighbors

        anchors = np.flatnonzero(weight)
        if len(anchors) == 0 or len(candidates) == 0:
            return np.zeros(len(candidates))
        vectoriser = TfidfVectorizer(sublinear_tf=True, token_pattern=r"\w+")
        try:
            words = vectoriser.fit_transform(_questions(pool, candidates))
        except ValueError:  # scikit-learn: "empty vocabulary"
            return np.full(len(candidates), weight.sum() / len(candidates))
        k = min(neighbours, len(candidates))
        index = NearestNeighbors(n_neighbors=k, metric="cosine").fit(words)
        near = index.kneighbors(
            vectoriser.transform(_questions(pool, train[anchors])), return_distance=False
        )
        shared = np.repeat(weight[anchors] / k, k)
        carried: FloatArray = np.bincount(near.ravel(), shared, len(candidates)).astype(np.float64)
        return carried

    return spread


def _questions(pool: Pool, index: IntArray) -> list[str]:
    return list(pool.dataset.select_columns("question")[index.tolist()]["question"])


def spread_for(pool: Pool, train: IntArray, candidates: IntArray) -> Spread:
    """By group where the pool has groups, else by text."""
    if len(pool.group_names) > 1:
        return spread_by_group(pool.groups, train, candidates)
    return spread_by_text(pool, train, candidates)
