"""The best allocation over groups that measured learning curves allow: the ceiling."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from activeselect.selection.strategy import (
    Selection,
    SelectionContext,
    Strategy,
    StrategyError,
    weighted_choice,
)


class Oracle(Strategy):
    """Steer the train set towards a given number of examples per group.

    Prefers: the groups that are furthest below their target share for the new train-set size.
    Helps: as the ceiling in a comparison; no strategy without test labels can know the targets.
    Hurts: where the targets were measured under another recipe or model.
    Costs: nothing in the run; the learning curves behind the targets were measured beforehand.
    Source: water-filling over per-group learning curves
    (``python -m research.benchmark_tuning oracle``).

    Args:
        targets: for each train-set size (as text or number) the number of examples per group;
            the sizes must include every budget of the run.
    """

    name: ClassVar[str] = "oracle"
    requires: tuple[str, ...] = ()
    knows_groups: ClassVar[bool] = True

    def __init__(self, targets: Mapping[str, Mapping[str, float]]) -> None:
        if not all(str(size).isdigit() for size in targets):
            raise ValueError(f"the keys of targets must be train-set sizes; received {[*targets]}")
        self.targets = targets

    def select(self, context: SelectionContext, budget: int, rng: np.random.Generator) -> Selection:
        size = len(context.train) + budget
        wanted = {int(key): value for key, value in self.targets.items()}
        if size not in wanted:
            raise StrategyError(
                f"Strategy 'oracle' has targets for train-set sizes {sorted(wanted)}; this run "
                f"needs {size}. Add it to `targets`, or use budgets that have targets."
            )
        target = np.array([wanted[size].get(name, 0.0) for name in context.group_names])
        have = np.bincount(context.groups[context.train], minlength=len(target))
        missing = np.maximum(target - have, 0.0)
        quota = _drawn_quota(missing, budget, rng)
        groups = context.groups[context.candidates]
        chosen: list[np.ndarray] = []
        for group in np.flatnonzero(quota):
            members = np.flatnonzero(groups == group)
            take = min(int(quota[group]), len(members))
            chosen.append(rng.choice(members, size=take, replace=False))
        picked = np.concatenate(chosen) if chosen else np.empty(0, dtype=np.int64)
        if len(picked) < budget:  # a group ran out: the rest is random
            rest = np.ones(len(groups))
            rest[picked] = 0.0
            extra = min(budget, len(groups)) - len(picked)
            picked = np.concatenate([picked, weighted_choice(rest, extra, rng)])
        return Selection.of(
            context.candidates[picked],
            score=missing[groups[picked]],
            reason="examples that its group lacks",
        )


def _drawn_quota(weight: np.ndarray, total: int, rng: np.random.Generator) -> np.ndarray:
    """Whole numbers that sum to ``total``, ``weight`` their shares; what is left over is drawn."""
    share = weight / weight.sum() if weight.any() else np.full(len(weight), 1 / len(weight))
    quota: np.ndarray = np.floor(share * total).astype(np.int64)
    for group in rng.choice(len(share), size=total - int(quota.sum()), p=share):
        quota[group] += 1
    return quota
