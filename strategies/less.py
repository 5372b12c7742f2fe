"""What pulls the model where a target set would pull it: similar gradients."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from activeselect.selection.strategy import (
    Selection,
    SelectionContext,
    Strategy,
    StrategyError,
    draw_top,
    expect_one_of,
    expect_share,
    unit,
)


class Less(Strategy):
    """Prefer examples whose loss gradient points the way of a target set's mean gradient.

    The score of an example is the largest (or mean) cosine of its projected gradient and the
    mean gradient of each target group. Gradients are of unit length before they are averaged,
    so that short traces, whose gradients are large, do not decide. The target is the first train
    set of the run, each of its groups a task; an example in the target is compared with itself
    too. Unlike the paper's, gradients are those of the current model, not preconditioned by
    Adam, and of one checkpoint instead of a sum over several.

    Prefers: examples that lower the loss on the target groups most, to first order.
    Helps: when the first train set (or some of its groups) is like the test and the pool is not.
    Hurts: as a measure of quality: what is similar to the target is often what is known already;
        it favours one direction and buys near-copies of it.
    Costs: a forward and a backward pass for each train example and candidate.
    Source: Xia et al., arXiv 2402.04333.

    Args:
        targets: names of the groups that are the target; default: all groups of the first train
            set.
        reduce: ``max`` (the paper's) or ``mean`` over the target groups.
        keep: share of the train set that is kept when the run reweights, in (0, 1].
    """

    name: ClassVar[str] = "less"
    requires: tuple[str, ...] = ("gradient",)
    citation: ClassVar[str] = "arXiv:2402.04333"

    def __init__(
        self, targets: tuple[str, ...] | None = None, reduce: str = "max", keep: float = 0.5
    ) -> None:
        expect_one_of(("max", "mean"), reduce=reduce)
        expect_share(keep=keep)
        if targets is not None and (isinstance(targets, str) or not targets):
            raise ValueError(f"targets: expected a list of group names; received {targets!r}")
        self.targets = targets
        self.reduce = reduce
        self.keep = keep
        self._first: np.ndarray | None = None

    def select(self, context: SelectionContext, budget: int, rng: np.random.Generator) -> Selection:
        if self._first is None:
            self._first = context.train.copy()
        gradients = context.vectors("gradient")
        target = self._target(context, gradients)
        if not len(target):  # nothing was measured: nothing is preferred
            return draw_top(context, np.zeros(len(context.candidates)), budget, rng, keep=self.keep)
        rows = unit(gradients[context.candidates])
        cosine = rows @ target.T
        score = cosine.max(axis=1) if self.reduce == "max" else cosine.mean(axis=1)
        score = np.where(rows.any(axis=1), score.astype(np.float64), np.nan)
        return draw_top(context, score, budget, rng, keep=self.keep)

    def _target(self, context: SelectionContext, gradients: np.ndarray) -> np.ndarray:
        """Unit mean gradient of each target group that was measured, float32 ``[G, P]``."""
        first = self._first if self._first is not None else context.train
        group = context.groups[first]
        wanted = np.unique(group)
        if self.targets is not None:
            names = list(context.group_names)
            absent = [name for name in self.targets if name not in names]
            if absent:
                raise StrategyError(
                    f"Strategy 'less': there is no group '{absent[0]}' in the pool; targets may "
                    f"name {', '.join(names)}."
                )
            wanted = np.array([names.index(name) for name in self.targets])
        rows = unit(gradients[first])
        means = [rows[group == code].mean(axis=0) for code in wanted if (group == code).any()]
        target = unit(np.stack(means)) if means else np.zeros((0, rows.shape[1]), np.float32)
        return target[target.any(axis=1)]

    def state_dict(self) -> dict[str, Any]:
        return {} if self._first is None else {"first": self._first.tolist()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        first = state.get("first")
        self._first = None if first is None else np.array(first, dtype=np.int64)
