"""The mixture of the target questions: the control where the test is not mixed as the pool is."""

from __future__ import annotations

import heapq
from typing import ClassVar

import numpy as np

from activeselect.selection.strategy import (
    FloatArray,
    IntArray,
    Selection,
    SelectionContext,
    Strategy,
    StrategyError,
    draw,
    draw_quota,
)


class TargetMixture(Strategy):
    """Bring the train set to the mixture of the target questions; look at nothing else.

    Groups are the data's own, or regions (``rounds.regions``) where it has none. With ``filter``
    it makes any other strategy follow the target questions (docs/guide/strategies.md).

    Prefers: groups whose share of the train set is furthest below their share of the target
        questions (``data.target``); within a group every candidate is equally likely.
    Helps: where the test asks for another mixture than the pool offers; as the control there,
        since it costs nothing.
    Hurts: where what the test asks for is mastered already, or cannot be learned.
    Costs: nothing; no signal is measured. A few unlabelled questions.
    Source: stratified sampling to a target mixture; importance resampling (Xie et al., arXiv
        2302.03169) does it with features of the text.
    """

    name: ClassVar[str] = "target-mixture"
    requires: tuple[str, ...] = ()
    needs_target: bool = True

    def select(self, context: SelectionContext, budget: int, rng: np.random.Generator) -> Selection:
        share = context.target
        if share is None:
            raise StrategyError("Strategy 'target-mixture' needs target questions: data.target.")
        members = context.groups[context.candidates]
        room = np.bincount(members, minlength=len(share))
        if context.reweights:  # nothing can be added: every group gets its share of the weight
            return draw(context, share[members] / room[members], budget, rng)
        have = np.bincount(context.groups[context.train], minlength=len(share))
        quota = complete(have, share, room, min(budget, len(members)))
        reason = "share of its group that brings all groups to their shares of the target"
        return draw_quota(context, quota, rng, reason=reason)


def complete(have: IntArray, share: FloatArray, room: IntArray, budget: int) -> IntArray:
    """Examples to add so that the groups end as near to their shares as their candidates allow.

    Each goes to the group that is furthest behind: the one with the smallest (n + 1/2) / share,
    n its examples so far (the divisor method of Sainte-Lague).

    Args:
        have: examples per group in the train set, int64 ``[G]``.
        share: what they should be in proportion to, positive where there is room, ``[G]``.
        room: candidates per group, int64 ``[G]``.
        budget: at most the sum of ``room``.

    Returns:
        int64 ``[G]``, at most ``room``, adding up to ``budget``.

    Example:
        >>> have, room = np.array([6, 0, 0]), np.array([9, 9, 1])
        >>> complete(have, np.array([0.2, 0.6, 0.2]), room, 6).tolist()
        [0, 5, 1]
    """
    quota: IntArray = np.zeros(len(have), dtype=np.int64)
    behind = [((have[g] + 0.5) / share[g], g) for g in np.flatnonzero(room).tolist()]
    heapq.heapify(behind)
    for _ in range(budget):
        _, group = behind[0]
        quota[group] += 1
        if quota[group] == room[group]:
            heapq.heappop(behind)
        else:
            further = (have[group] + quota[group] + 0.5) / share[group]
            heapq.heapreplace(behind, (further, group))
    return quota
