"""Represent the pool: every example should have a similar one in the train set."""

from __future__ import annotations

import heapq
import math
from typing import ClassVar

import numpy as np
from scipy import sparse

from activeselect.selection.strategy import (
    Selection,
    SelectionContext,
    Strategy,
    expect_count,
    expect_share,
    leaves,
    unit,
)


class FacilityLocation(Strategy):
    """Maximise the summed similarity of each candidate to the nearest chosen (or train) example.

    ``f(S) = sum_i max_{j in S} cos(i, j)`` over the candidates i; j may be a train example or a
    chosen one, and similarities below 0 count as 0. Lazy greedy, exact on the graph of each
    example's ``neighbours`` nearest ones; these are searched in the leaves of ``trees`` trees,
    so that the work is near-linear in the pool. What that loses against the greedy rule over all
    pairs is measured by ``benchmarks/selection.py --quality`` (docs/research/performance.md).

    Prefers: the middle of dense regions that the train set does not represent yet; when
        reweighting, a representative share.
    Helps: when the pool is distributed like the test and budgets are small.
    Hurts: when rare regions matter (their sum is small) and where density means boilerplate; it
        knows nothing of what the model has understood.
    Costs: one forward pass over the question of each train example and candidate.
    Source: Mirchandani and Francis, Discrete Location Theory, 1990; lazy greedy: Minoux, 1978;
        sparse neighbours: Lindgren, Wu and Dimakis, NIPS 2016.

    Args:
        keep: share of the train set that is kept when the run reweights, in (0, 1].
        neighbours: nearest examples that can stand for one.
        leaf: largest number of examples that are compared with one another; a pool of at most
            that many is searched exactly.
        trees: how often a larger pool is cut into leaves, each time differently.
    """

    name: ClassVar[str] = "facility-location"
    requires: tuple[str, ...] = ("embedding",)
    citation: ClassVar[str] = "doi:10.1007/BFb0006528"

    def __init__(
        self, keep: float = 0.5, neighbours: int = 64, leaf: int = 512, trees: int = 4
    ) -> None:
        expect_share(keep=keep)
        expect_count(neighbours=neighbours, leaf=leaf, trees=trees)
        self.keep = keep
        self.neighbours = neighbours
        self.leaf = leaf
        self.trees = trees

    def select(self, context: SelectionContext, budget: int, rng: np.random.Generator) -> Selection:
        size, known = min(budget, len(context.candidates)), context.train
        if context.reweights:
            size, known = min(size, math.ceil(self.keep * len(context.candidates))), known[:0]
        if size == 0:
            return Selection.of([])
        candidates = rng.permutation(context.candidates)  # ties fall at random
        vectors = unit(context.vectors("embedding")[np.concatenate([candidates, known])])
        near = _nearest(vectors, self.neighbours, self.leaf, self.trees, rng)
        count = len(candidates)
        covered = near[:count, count:].max(axis=1).toarray().ravel() if len(known) else None
        chosen = _greedy(near[:count, :count], size, covered)
        index, early = candidates[chosen], np.arange(len(chosen), 0, -1.0)
        order = np.argsort(index)
        return Selection.of(index[order], score=early[order], reason="the earlier, the higher")


def _nearest(
    vectors: np.ndarray, neighbours: int, leaf: int, trees: int, rng: np.random.Generator
) -> sparse.csr_array:
    """Cosine of each row and its nearest ones (itself among them), ``[B, B]``; others are 0."""
    graph = sparse.csr_array((len(vectors), len(vectors)), dtype=np.float32)
    for _ in range(trees if len(vectors) > leaf else 1):
        rows, columns, values = [], [], []
        for members in leaves(vectors, leaf, rng):
            members = members.astype(np.int32)  # half the memory
            cosine = np.maximum(vectors[members] @ vectors[members].T, 0)
            k = min(neighbours, len(members))
            best = np.argpartition(-cosine, k - 1, axis=1)[:, :k]
            rows.append(np.repeat(members, k))
            columns.append(members[best].ravel())
            values.append(np.take_along_axis(cosine, best, axis=1).ravel())
        found = (np.concatenate(values), (np.concatenate(rows), np.concatenate(columns)))
        graph = graph.maximum(sparse.csr_array(found, shape=graph.shape))
    return graph


def _greedy(near: sparse.csr_array, size: int, covered: np.ndarray | None) -> list[int]:
    """Columns that together cover the rows of ``near`` best, by lazy greedy.

    Args:
        near: similarity of row i to column j, ``[C, C]``.
        covered: similarity of each row to what is there already, ``[C]``; None = 0.
    """
    table = near.tocsc()
    starts, rows, values = table.indptr, table.indices, table.data
    cover = np.zeros(near.shape[0], np.float32) if covered is None else covered.astype(np.float32)
    columns = np.repeat(np.arange(near.shape[1]), np.diff(starts))
    gains = np.bincount(columns, np.maximum(values - cover[rows], 0), near.shape[1])
    queue = list(zip((-gains).tolist(), range(len(gains)), strict=True))
    heapq.heapify(queue)
    chosen: list[int] = []
    current = np.zeros(len(gains), dtype=np.int64)  # number of choices that the gain allows for
    while len(chosen) < size:
        _, best = queue[0]
        part = slice(starts[best], starts[best + 1])
        reached = rows[part]
        better = values[part] - cover[reached]
        if current[best] == len(chosen):
            heapq.heappop(queue)
            np.maximum.at(cover, reached, values[part])
            chosen.append(best)
        else:
            current[best] = len(chosen)
            gain = float(better[better > 0].sum())
            heapq.heapreplace(queue, (-gain, best))
    return chosen
