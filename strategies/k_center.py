"""Cover the pool: the next example is the one farthest from all that are chosen."""

from __future__ import annotations

import heapq
import math
from typing import ClassVar

import numpy as np

from activeselect.selection.strategy import (
    Selection,
    SelectionContext,
    Strategy,
    expect_count,
    expect_share,
    leaves,
    unit,
)

#: The first choices are compared with the whole pool, later ones with the leaves around them.
_WIDE = 64
_AROUND = 4
#: Train examples that the whole pool is compared with; the others count in the leaves around them.
_KNOWN = 256
#: Distance of what was not measured: below that of a duplicate, above that of what is taken.
_UNKNOWN = -1.0


class KCenter(Strategy):
    """Greedy k-center: repeatedly the example farthest from the train set and the ones chosen.

    Distances are between embeddings of unit length. A pool of at most ``leaf`` examples is
    covered by the exact greedy rule; a larger one is cut into leaves of similar examples, and a
    chosen example is compared with its own leaf and the four nearest ones only (the first 64
    with all). That is linear in the pool and in the budget; what it loses against the exact rule
    is measured by ``benchmarks/selection.py --quality`` (docs/research/performance.md).

    Prefers: what is unlike anything in the train set; when reweighting, a spread-out share.
    Helps: when the pool is redundant and all its regions matter.
    Hurts: with outliers and broken rows, which are far from everything and are bought first; it
        knows nothing of what the model has understood.
    Costs: one forward pass over the question of each train example and candidate.
    Source: Sener and Savarese, arXiv 1708.00489 (the greedy part).

    Args:
        keep: share of the train set that is kept when the run reweights, in (0, 1].
        leaf: largest number of examples that are compared with one another.
    """

    name: ClassVar[str] = "k-center"
    requires: tuple[str, ...] = ("embedding",)
    citation: ClassVar[str] = "arXiv:1708.00489"

    def __init__(self, keep: float = 0.5, leaf: int = 2048) -> None:
        expect_share(keep=keep)
        expect_count(leaf=leaf)
        self.keep = keep
        self.leaf = leaf

    def select(self, context: SelectionContext, budget: int, rng: np.random.Generator) -> Selection:
        candidates = context.candidates
        size = min(budget, len(candidates))
        known = context.train
        if context.reweights:
            known = known[:0]
            size = min(size, math.ceil(self.keep * len(candidates)))
        if size == 0:
            return Selection.of([])
        vectors = unit(context.vectors("embedding")[np.concatenate([candidates, known])])
        cover = _Cover(vectors, len(candidates), self.leaf, rng)
        index, early = candidates[cover.choose(size)], np.arange(size, 0, -1.0)
        order = np.argsort(index)
        return Selection.of(index[order], score=early[order], reason="the earlier, the higher")


class _Cover:
    """Squared distance of each candidate to the nearest centre; candidates lie leaf by leaf.

    Args:
        vectors: unit rows, candidates first, then the examples that are centres already; rows of
            0 were not measured and are chosen last, at random.
        count: number of candidates.
    """

    def __init__(
        self, vectors: np.ndarray, count: int, leaf: int, rng: np.random.Generator
    ) -> None:
        parts = [rng.permutation(part) for part in leaves(vectors, leaf, rng)]
        self.middle = np.stack([vectors[part].mean(axis=0) for part in parts])
        known = [vectors[part[part >= count]] for part in parts]
        parts = [part[part < count] for part in parts]
        self.edges = np.cumsum([0, *(len(part) for part in parts)])
        self.place = np.concatenate(parts)
        self.rows = vectors[self.place]
        self.distance = np.full(count, np.inf, np.float32)
        self.rng = rng
        if len(vectors) > count:
            some = rng.choice(len(vectors) - count, min(_KNOWN, len(vectors) - count), False)
            for at in range(len(parts)):
                self._compare(self._leaf(at), vectors[count + some])
                for near in self._around(self.middle[at]):
                    self._compare(self._leaf(at), known[near])
        self.distance[~self.rows.any(axis=1)] = _UNKNOWN

    def choose(self, size: int) -> np.ndarray:
        """Places of ``size`` candidates, the greedy choices one after the other."""
        chosen: list[int] = []
        if self.distance.max() == np.inf:  # no centre yet
            chosen.append(self._take(int(self.rng.choice(np.flatnonzero(self.distance > 0)))))
        queue = [(-self._farthest(at)[0], at) for at in range(len(self.edges) - 1)]
        heapq.heapify(queue)
        while len(chosen) < size:
            was, at = queue[0]
            distance, place = self._farthest(at)
            if -distance == was:  # else a centre nearby has covered it since
                chosen.append(self._take(place, None if len(chosen) < _WIDE else at))
                distance, _ = self._farthest(at)
            heapq.heapreplace(queue, (-distance, at))
        return self.place[chosen]

    def _leaf(self, at: int) -> slice:
        return slice(self.edges[at], self.edges[at + 1])

    def _farthest(self, at: int) -> tuple[float, int]:
        """Largest distance in a leaf, and where it is."""
        leaf = self._leaf(at)
        if leaf.start == leaf.stop:
            return -np.inf, -1
        place = int(leaf.start + self.distance[leaf].argmax())
        return float(self.distance[place]), place

    def _take(self, place: int, at: int | None = None) -> int:
        """Make a row a centre, known to the leaves around its own, or to all."""
        centre = self.rows[place]
        if centre.any():
            around = [] if at is None else {at, *self._around(centre).tolist()}
            for leaf in [self._leaf(near) for near in around] or [slice(None)]:
                self._compare(leaf, centre[None])
        self.distance[place] = -np.inf
        return place

    def _around(self, centre: np.ndarray) -> np.ndarray:
        if len(self.middle) <= _AROUND:
            return np.arange(len(self.middle))
        gap: np.ndarray = ((self.middle - centre) ** 2).sum(axis=1)
        return np.argpartition(gap, _AROUND)[:_AROUND]

    def _compare(self, leaf: slice, centres: np.ndarray) -> None:
        """Let the rows of a leaf know of new centres."""
        if len(centres):
            nearest = 2.0 - 2.0 * (self.rows[leaf] @ centres.T).max(axis=1)
            np.minimum(self.distance[leaf], nearest, out=self.distance[leaf])
