"""Equal numbers of every group: the control that costs nothing."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from activeselect.selection.strategy import (
    IntArray,
    Selection,
    SelectionContext,
    Strategy,
    draw,
    draw_quota,
)


class Balanced(Strategy):
    """Bring all groups to the same number of examples; look at nothing else.

    Groups are the data's own, or regions (``rounds.regions``) where it has none. Where the data
    is one group this is random selection.

    Prefers: groups that the train set has fewest examples of; within a group every candidate is
        equally likely.
    Helps: as a control: what a stratified draw reaches, no measurement has earned. Also where
        small groups are the ones that are not mastered.
    Hurts: where the test asks for what is frequent, or a rare group cannot be learned.
    Costs: nothing; no signal is measured.
    Source: stratified sampling with equal allocation (Neyman, 1934, discusses both).
    """

    name: ClassVar[str] = "balanced"
    requires: tuple[str, ...] = ()

    def select(self, context: SelectionContext, budget: int, rng: np.random.Generator) -> Selection:
        members = context.groups[context.candidates]
        size = int(context.groups.max(initial=0)) + 1
        room = np.bincount(members, minlength=size)
        if context.reweights:  # nothing can be added: every group gets the same part of the weight
            return draw(context, 1 / room[members], budget, rng)
        have = np.bincount(context.groups[context.train], minlength=size)
        quota = level(have, room, min(budget, len(members)), rng)
        reason = "share of its group that brings all groups to one size"
        return draw_quota(context, quota, rng, reason=reason)


def level(have: IntArray, room: IntArray, budget: int, rng: np.random.Generator) -> IntArray:
    """Examples to add so that the groups end as equal as their candidates allow.

    Args:
        have: examples per group in the train set, int64 ``[G]``.
        room: candidates per group, int64 ``[G]``.
        budget: at most the sum of ``room``.
        rng: decides which groups get what is left over of a full layer.

    Returns:
        int64 ``[G]``, at most ``room``, adding up to ``budget``.

    Example:
        >>> have, room = np.array([5, 0, 1]), np.array([9, 2, 9])
        >>> level(have, room, 6, np.random.default_rng(0)).tolist()
        [0, 2, 4]
    """
    low, high = int(have.min(initial=0)), int((have + room).max(initial=0))
    while high - low > 1:  # the highest level that the budget pays for
        middle = (low + high) // 2
        paid = int(np.clip(middle - have, 0, room).sum()) <= budget
        low, high = (middle, high) if paid else (low, middle)
    quota: IntArray = np.clip(low - have, 0, room)
    open_groups = np.flatnonzero((quota < room) & (have + quota == low))
    rest = budget - int(quota.sum())
    quota[rng.permutation(open_groups)[:rest]] += 1
    return quota
