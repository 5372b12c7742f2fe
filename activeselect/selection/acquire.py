"""Growing the train set: how knowledge about scored examples reaches the candidates near them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from activeselect.data.pool import Pool
from activeselect.selection.strategy import Neighbourhood

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]


class GroupNeighbourhood:
    """Near is what belongs to the same group.

    Args:
        groups: group of each example, int32 ``[N]``.
        train: positions of the train set, int64 ``[T]``.
        candidates: positions of the candidates, int64 ``[C]``.

    Example:
        >>> groups = np.array([0, 1, 0, 0], np.int32)
        >>> near = GroupNeighbourhood(groups, train=np.array([0, 1]), candidates=np.array([2, 3]))
        >>> near.spread(np.array([1.0, 5.0])).tolist()  # nothing is left of group 1
        [0.5, 0.5]
        >>> near.average(np.array([0.8, 0.1, np.nan, np.nan])).tolist()
        [0.8, 0.8]
    """

    def __init__(self, groups: NDArray[np.int32], train: IntArray, candidates: IntArray) -> None:
        self.groups, self.train, self.candidates = groups, train, candidates
        self._size = int(groups.max(initial=0)) + 1

    def spread(self, weight: FloatArray) -> FloatArray:
        """Weight of a group without candidates is lost: there is nothing left to draw there."""
        total = np.bincount(self.groups[self.train], weights=weight, minlength=self._size)
        members = np.bincount(self.groups[self.candidates], minlength=self._size)
        return _ratio(total, members, 0.0)[self.groups[self.candidates]]

    def average(self, value: FloatArray) -> FloatArray:
        known = np.flatnonzero(~np.isnan(value))
        total = np.bincount(self.groups[known], weights=value[known], minlength=self._size)
        members = np.bincount(self.groups[known], minlength=self._size)
        return _ratio(total, members, np.nan)[self.groups[self.candidates]]


def _ratio(total: NDArray[Any], members: NDArray[np.int64], empty: float) -> FloatArray:
    share: FloatArray = np.full(len(total), empty)
    np.divide(total, members, out=share, where=members > 0)
    return share


class TextNeighbourhood:
    """Near are the questions with the most similar words, for pools without groups.

    Nearness is the cosine of TF-IDF word vectors (scikit-learn), numbers and single letters
    included. Where the texts have no words at all, all are near.
    """

    def __init__(
        self, pool: Pool, train: IntArray, candidates: IntArray, *, neighbours: int = 16
    ) -> None:
        self.pool, self.train, self.candidates = pool, train, candidates
        self.neighbours = neighbours

    def spread(self, weight: FloatArray) -> FloatArray:
        anchors = np.flatnonzero(weight)
        if len(anchors) == 0 or len(self.candidates) == 0:
            return np.zeros(len(self.candidates))
        near = self._nearest(self.candidates, self.train[anchors])
        if near is None:
            return np.full(len(self.candidates), weight.sum() / len(self.candidates))
        k = near.shape[1]
        shared = np.repeat(weight[anchors] / k, k)
        carried = np.bincount(near.ravel(), shared, len(self.candidates))
        return carried.astype(np.float64)

    def average(self, value: FloatArray) -> FloatArray:
        known = np.flatnonzero(~np.isnan(value))
        if len(known) == 0 or len(self.candidates) == 0:
            return np.full(len(self.candidates), np.nan)
        near = self._nearest(known, self.candidates)
        if near is None:
            return np.full(len(self.candidates), value[known].mean())
        mean: FloatArray = value[known][near].mean(axis=1)
        return mean

    def _nearest(self, among: IntArray, of: IntArray) -> IntArray | None:
        """Rows of ``among`` that are nearest to each of ``of``, int64 ``[len(of), k]``."""
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.neighbors import NearestNeighbors

        vectoriser = TfidfVectorizer(sublinear_tf=True, token_pattern=r"\w+")
        try:
            words = vectoriser.fit_transform(self._questions(among))
        except ValueError:  # scikit-learn: "empty vocabulary"
            return None
        k = min(self.neighbours, len(among))
        index = NearestNeighbors(n_neighbors=k, metric="cosine").fit(words)
        nearest: IntArray = index.kneighbors(
            vectoriser.transform(self._questions(of)), return_distance=False
        )
        return nearest

    def _questions(self, index: IntArray) -> list[str]:
        return list(self.pool.dataset.select_columns("question")[index.tolist()]["question"])


def neighbourhood_of(pool: Pool, train: IntArray, candidates: IntArray) -> Neighbourhood:
    """By group where the pool has groups, else by text."""
    if len(pool.group_names) > 1:
        return GroupNeighbourhood(pool.groups, train, candidates)
    return TextNeighbourhood(pool, train, candidates)
