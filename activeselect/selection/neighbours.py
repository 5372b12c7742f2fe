"""Neighbours: how scores of examples reach the candidates that are most like them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from activeselect.arrays import FloatArray, IntArray
from activeselect.data.pool import Pool
from activeselect.errors import ConfigError
from activeselect.selection.carry_over import CarryOver, Features, Way, by_regression
from activeselect.selection.strategy import Neighbourhood
from activeselect.selection.vectors import unit


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
        """Mean of the known values in each candidate's group, ``[C]``; NaN where none is known."""
        known = np.flatnonzero(~np.isnan(value))
        total = np.bincount(self.groups[known], weights=value[known], minlength=self._size)
        members = np.bincount(self.groups[known], minlength=self._size)
        return _ratio(total, members, np.nan)[self.groups[self.candidates]]

    def error(self, value: FloatArray) -> FloatArray:
        """Standard deviation of the known values of its group, ``[C]``."""
        return _deviation(self, value)


def _deviation(near: Neighbourhood, value: FloatArray) -> FloatArray:
    """Standard deviation of the known values near each candidate, ``[C]``."""
    centred = value - np.nanmean(value) if not np.isnan(value).all() else value
    square = near.average(centred**2) - near.average(centred) ** 2
    return np.asarray(np.sqrt(np.maximum(square, 0.0)))


def _ratio(total: NDArray[Any], members: NDArray[np.int64], empty: float) -> FloatArray:
    share: FloatArray = np.full(len(total), empty)
    np.divide(total, members, out=share, where=members > 0)
    return share


class NearestNeighbourhood(ABC):
    """Near are the ``neighbours`` examples of the highest cosine.

    Args:
        train: positions of the train set, int64 ``[T]``.
        candidates: positions of the candidates, int64 ``[C]``.
        neighbours: how many are near.
    """

    def __init__(self, train: IntArray, candidates: IntArray, *, neighbours: int = 16) -> None:
        self.train, self.candidates, self.neighbours = train, candidates, neighbours

    def spread(self, weight: FloatArray) -> FloatArray:
        """Each weight ``[T]`` divided equally among the nearest candidates, ``[C]``."""
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
        """Mean of the known values among each candidate's nearest examples, ``[C]``."""
        known = np.flatnonzero(~np.isnan(value))
        if len(known) == 0 or len(self.candidates) == 0:
            return np.full(len(self.candidates), np.nan)
        near = self._nearest(known, self.candidates)
        if near is None:
            return np.full(len(self.candidates), value[known].mean())
        mean: FloatArray = value[known][near].mean(axis=1)
        return mean

    def error(self, value: FloatArray) -> FloatArray:
        """Standard deviation of the known values of its neighbours, ``[C]``."""
        return _deviation(self, value)

    @abstractmethod
    def _nearest(self, among: IntArray, of: IntArray) -> IntArray | None:
        """Rows of ``among`` nearest to each of ``of``, ``[len(of), k]``; None if all are near."""


class TextNeighbourhood(NearestNeighbourhood):
    """Near are the questions with the most similar words, for pools without groups.

    Nearness is the cosine of TF-IDF word vectors (scikit-learn), numbers and single letters
    included. Where the texts have no words at all, all are near.
    """

    def __init__(
        self, pool: Pool, train: IntArray, candidates: IntArray, *, neighbours: int = 16
    ) -> None:
        super().__init__(train, candidates, neighbours=neighbours)
        self.pool = pool

    def _nearest(self, among: IntArray, of: IntArray) -> IntArray | None:
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


#: Examples up to which nearest neighbours are searched exactly.
EXACT = 20_000


class EmbeddingNeighbourhood(NearestNeighbourhood):
    """Near are the examples whose embeddings have the highest cosine.

    Exact (scikit-learn) among at most :data:`EXACT` examples, approximate (an inverted file of
    faiss) among more.

    Args:
        vectors: embeddings, float32 ``[N, D]``; finite for the train set, the candidates and
            whatever has a score.
        exact: examples up to which the search is exact.
    """

    def __init__(
        self,
        vectors: NDArray[np.float32],
        train: IntArray,
        candidates: IntArray,
        *,
        neighbours: int = 16,
        exact: int = EXACT,
    ) -> None:
        super().__init__(train, candidates, neighbours=neighbours)
        self.vectors, self.exact = vectors, exact

    def _nearest(self, among: IntArray, of: IntArray) -> IntArray | None:
        search = _exact if len(among) <= self.exact else _approximate
        k = min(self.neighbours, len(among))
        return search(unit(self.vectors[among]), unit(self.vectors[of]), k)


#: Queries that are searched at once.
_BLOCK = 65_536
#: Cells of the inverted file that are looked into for one query, of about sqrt(N) cells.
_PROBES = 16


def _exact(among: NDArray[np.float32], of: NDArray[np.float32], k: int) -> IntArray:
    from sklearn.neighbors import NearestNeighbors

    index = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(among)
    nearest: IntArray = index.kneighbors(of, return_distance=False)
    return nearest


def _approximate(
    among: NDArray[np.float32], of: NDArray[np.float32], k: int, *, probes: int = _PROBES
) -> IntArray:
    try:
        import faiss
    except ImportError as error:
        raise ConfigError(
            f"rounds.near: embedding searches among {len(among)} examples; so many need faiss: "
            "pip install 'activeselect[ann]', or set rounds.near to text."
        ) from error
    cells = faiss.IndexFlatIP(among.shape[1])
    index = faiss.IndexIVFFlat(
        cells, among.shape[1], int(np.sqrt(len(among))), faiss.METRIC_INNER_PRODUCT
    )
    index.cp.min_points_per_centroid = 1  # else it warns on standard error
    index.train(among)
    index.add(among)
    index.nprobe = probes
    found = [index.search(of[at : at + _BLOCK], k)[1] for at in range(0, len(of), _BLOCK)]
    nearest: IntArray = np.concatenate([np.empty((0, k), np.int64), *found])
    # fewer than k in the cells that were looked into: the nearest one stands for the rest
    return np.where(nearest < 0, np.maximum(nearest[:, :1], 0), nearest)


def neighbourhood_of(
    pool: Pool,
    train: IntArray,
    candidates: IntArray,
    *,
    near: str = "auto",
    embedding: NDArray[np.float32] | None = None,
) -> Neighbourhood:
    """What is near what, as ``rounds.near`` says.

    Args:
        near: ``group``, ``text``, ``embedding``, ``regression``, or ``auto``: whichever of them
            predicts held-out values best (:class:`activeselect.selection.carry_over.CarryOver`).
        embedding: float32 ``[N, D]``, for ``embedding``; where there is one, ``auto`` and
            ``regression`` use it, too.

    Raises:
        ConfigError: if the pool has no groups, and near is ``group``.
    """
    grouped = len(pool.group_names) > 1
    if near == "group" and not grouped:
        raise ConfigError(
            "rounds.near: expected a pool with groups; this one has none. Name a column in "
            "data.group, set rounds.regions, or set rounds.near to text or embedding."
        )
    if near == "embedding":
        if embedding is None:
            raise ConfigError("rounds.near: embedding needs embeddings; none were measured.")
        return EmbeddingNeighbourhood(embedding, train, candidates)
    if near == "text":
        return TextNeighbourhood(pool, train, candidates)
    if near == "group":
        return GroupNeighbourhood(pool.groups, train, candidates)
    return _best_of(pool, train, candidates, embedding, regression_only=near == "regression")


def _best_of(
    pool: Pool,
    train: IntArray,
    candidates: IntArray,
    embedding: NDArray[np.float32] | None,
    *,
    regression_only: bool,
) -> CarryOver:
    nearest: dict[str, Callable[[IntArray], Neighbourhood]] = {}
    if not regression_only:
        if len(pool.group_names) > 1:
            nearest["group"] = lambda of: GroupNeighbourhood(pool.groups, train, of)
        nearest["text"] = lambda of: TextNeighbourhood(pool, train, of)
        if embedding is not None:
            nearest["embedding"] = lambda of: EmbeddingNeighbourhood(embedding, train, of)
    features: list[Features] = []

    def regress(value: FloatArray, of: IntArray) -> FloatArray:
        if not features:  # texts are read once something is to be carried over
            features.append(Features.of(pool, vectors=embedding))
        return by_regression(features[0])(value, of)

    ways: dict[str, Way] = {
        name: lambda value, of, make=make: make(of).average(value)  # type: ignore[misc]
        for name, make in nearest.items()
    }
    return CarryOver({**ways, "regression": regress}, train, candidates, nearest=nearest)
