"""Drop near-duplicates, then the most prototypical examples; the rest is drawn at random."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from sklearn.cluster import MiniBatchKMeans

from activeselect.selection.strategy import (
    Selection,
    SelectionContext,
    Strategy,
    draw_top,
    expect_count,
    expect_share,
    leaves,
    unit,
)

#: Rows that k-means learns its clusters from.
_SAMPLE = 50_000
_BLOCK = 16_384
#: Ranks: what is kept, above prototypes (minus a cosine), above duplicates (3 less).
_KEEP = 2.0
_DUPLICATE = 3.0


class Dedup(Strategy):
    """SemDeDup followed by the diversification of D4.

    Candidates whose embedding has a cosine above ``threshold`` with an earlier one (or, when the
    run acquires, with a train example) are duplicates. Of the others, the share ``prototypes``
    nearest to their k-means centre is left out. Among the rest all are alike. Only where too few
    remain does the budget go on to prototypes, the least typical first, then to duplicates, the
    least similar first.

    Prefers: what is neither a copy nor typical; when reweighting, copies and prototypes leave the
        train set.
    Helps: with scraped, templated or augmented pools that repeat themselves.
    Hurts: where repetition is frequency in the test too; too low a threshold removes variations
        (the same story with other numbers) that teach.
    Costs: one forward pass over the question of each train example and candidate.
    Source: SemDeDup, Abbas et al., arXiv 2303.09540; D4, Tirumala et al., arXiv 2308.12284.

    Args:
        threshold: cosine above which two examples are duplicates, in [-1, 1].
        prototypes: share of the others that is left out as prototypical, in [0, 1].
        clusters: of k-means; default: one per 100 examples, at most 256.
        leaf: largest number of examples that are compared with one another. A larger pool is cut
            twice into leaves of similar examples; duplicates that never share one are missed.
    """

    name: ClassVar[str] = "dedup"
    requires: tuple[str, ...] = ("embedding",)
    citation: ClassVar[str] = "arXiv:2308.12284"

    def __init__(
        self,
        threshold: float = 0.95,
        prototypes: float = 0.2,
        clusters: int | None = None,
        leaf: int = 1024,
    ) -> None:
        if not -1 <= threshold <= 1:
            raise ValueError(f"threshold: expected a cosine in [-1, 1]; received {threshold!r}")
        expect_share(zero=True, prototypes=prototypes)
        expect_count(2, leaf=leaf)
        expect_count(clusters=1 if clusters is None else clusters)
        self.threshold = threshold
        self.prototypes = prototypes
        self.clusters = clusters
        self.leaf = leaf

    def select(self, context: SelectionContext, budget: int, rng: np.random.Generator) -> Selection:
        known = context.train[:0] if context.reweights else context.train
        if min(budget, len(context.candidates)) == 0:
            return Selection.of([])
        shuffled = rng.permutation(len(context.candidates))  # of two copies the earlier is kept
        order = np.concatenate([known, context.candidates[shuffled]])
        vectors = unit(context.vectors("embedding")[order])
        twin = self._twin(vectors, rng)[len(known) :]
        single = np.flatnonzero(twin <= self.threshold)
        rank = -twin - _DUPLICATE
        rank[single] = self._rank(vectors[len(known) :][single], rng)
        score = np.empty(len(rank))
        score[shuffled] = rank
        if context.reweights:
            budget = min(budget, max(1, int((rank == _KEEP).sum())))
        return draw_top(context, score, budget, rng)

    def _twin(self, vectors: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Largest cosine of each row and an earlier one, -1 where there is none, ``[B]``."""
        twin: np.ndarray = np.full(len(vectors), -1.0)
        for _ in range(2 if len(vectors) > self.leaf else 1):
            for members in leaves(vectors, self.leaf, rng):
                cosine = vectors[members] @ vectors[members].T
                cosine[np.triu_indices(len(members))] = -1.0
                twin[members] = np.maximum(twin[members], cosine.max(axis=1, initial=-1.0))
        return twin.clip(max=1.0)

    def _rank(self, vectors: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """``_KEEP``, or less for the share of prototypes, the most typical least, ``[B]``."""
        rank = np.full(len(vectors), _KEEP)
        out = int(self.prototypes * len(vectors))
        if not out:
            return rank
        count = self.clusters or min(256, 1 + len(vectors) // 100)
        sample = vectors[rng.permutation(len(vectors))[:_SAMPLE]]
        means = MiniBatchKMeans(
            min(count, len(np.unique(sample, axis=0))),
            random_state=int(rng.integers(2**31)),
            n_init=1,
            max_iter=20,
            compute_labels=False,
        ).fit(sample)
        centres = unit(means.cluster_centers_)
        typical = np.concatenate(
            [
                (vectors[start : start + _BLOCK] @ centres.T).max(axis=1)
                for start in range(0, len(vectors), _BLOCK)
            ]
        )
        prototypes = np.argpartition(-typical, out - 1)[:out]
        rank[prototypes] = -typical[prototypes]
        return rank
