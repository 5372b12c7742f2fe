"""Spend the budget where the learning curves, fitted as the run goes, promise the most: ours."""

from __future__ import annotations

from itertools import product
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from activeselect.selection.strategy import (
    FloatArray,
    IntArray,
    Selection,
    SelectionContext,
    Strategy,
    draw,
    draw_quota,
    expect_share,
    weighted_choice,
)

# The curves that a group may have: accuracy before any example and after very many, the number of
# examples that makes half the way, and how suddenly that happens. Coarse, as the measurements are.
_STARTS = (0.01, 0.1, 0.3, 0.5, 0.7, 0.9)
_CEILINGS = (0.3, 0.6, 0.99)
_SCALES = tuple(2.0**power for power in range(13))
_STEEPNESS = (1.0, 2.0)
#: How many groups the prior weighs as much as, when the groups' common prior is learned.
_PRIOR_GROUPS = 2.0


class Allocate(Strategy):
    """Learn each group's learning curve from prequential accuracy; spend where it rises most.

    A part of every acquisition is drawn at random (as the target questions are mixed, where there
    are any) and answered by the current model before it is
    trained on. These answers, and all earlier ones, say what accuracy each group had with how many
    train examples. A Bayesian fit of saturating curves (whose prior the groups share and learn
    together; a group may also turn out not to rise at all) predicts what further examples bring,
    and the rest of the budget goes, by water-filling, where the expected number of newly
    answered problems of the pool, or share of newly answered target questions, per example is
    largest.

    Prefers: groups that are large, not yet mastered, and rising or still unknown; within a group
        every candidate is equally likely.
    Helps: when the data falls into groups of which some are mastered, or some cannot be learned.
    Hurts: in the first acquisition on a pool with noise, as nothing tells a hard group from one
        that cannot be learned before a first training; with many groups of a few examples each.
        Where the pool is one group it is random selection.
    Costs: sampled completions of every example once, before it is trained on; no pass over the
        train set.
    Source: this project; water-filling over learning curves with a hierarchical grid posterior.

    Args:
        probe_share: part of each acquisition that is drawn at random and measured first, in
            [0, 1]; also the floor that keeps every group in the train set. 1 is random selection.
        unlearnable: prior probability that a group cannot be learned, in [0, 1).
        trust: how far a group's share of the pool is believed to be its share of the test: the
            exponent of that share, in [0, 1]. 1 believes it, 0 counts all groups alike. In between
            a large group that may be useless, or absent from the test, is a smaller risk. Where
            there are target questions, their shares count as they are, and this does not.
    """

    name: ClassVar[str] = "allocate"
    requires: tuple[str, ...] = ("prequential",)

    def __init__(
        self, probe_share: float = 0.3, unlearnable: float = 0.5, trust: float = 0.5
    ) -> None:
        expect_share(zero=True, probe_share=probe_share, unlearnable=unlearnable, trust=trust)
        if unlearnable == 1:
            raise ValueError("unlearnable: expected a share below 1; with 1 nothing is worth more")
        self.probe_share = probe_share
        self.unlearnable = unlearnable
        self.trust = trust

    def probe(self, context: SelectionContext, budget: int, rng: np.random.Generator) -> Selection:
        size = min(round(self.probe_share * budget), len(context.candidates))
        if context.target is not None:  # a group is measured as often as it will be asked
            members = context.groups[context.candidates]
            share = context.target[members] / np.bincount(members)[members]
            return Selection.of(context.candidates[weighted_choice(share, size, rng)])
        return Selection.of(rng.choice(context.candidates, size=size, replace=False))

    def select(self, context: SelectionContext, budget: int, rng: np.random.Generator) -> Selection:
        quota = self.quota(context, min(budget, len(context.candidates)))
        if context.reweights:  # nothing can be added: the same shares as sampling weights
            members = context.groups[context.candidates]
            times = quota / np.maximum(np.bincount(members, minlength=len(quota)), 1)
            weight = self.probe_share + (1 - self.probe_share) * times[members]
            return draw(context, weight, budget, rng)
        return draw_quota(context, quota, rng, reason="share of its group that is worth buying")

    def quota(self, context: SelectionContext, budget: int) -> IntArray:
        """How many of the next ``budget`` examples each group should get, int64 ``[G]``."""
        size = int(context.groups.max(initial=0)) + 1
        have = np.bincount(context.groups[context.train], minlength=size)
        room = np.bincount(context.groups[context.candidates], minlength=size)
        whole = have if context.reweights else have + room
        if context.reweights:
            room = np.where(room > 0, budget, 0)  # an example may be seen more than once
        seen, trials, right = evidence(context.history("prequential"), context.groups, size)
        curves, prior = curve_family(self.unlearnable)
        belief = posterior(curves, prior, seen, trials, right)
        steps = np.unique(np.geomspace(1, budget + 1, 64).round().astype(np.int64)) - 1
        accuracy = np.stack(
            [p @ curve(curves, n + steps).T for p, n in zip(belief, have, strict=True)]
        )
        mass = whole**self.trust if context.target is None else context.target[:size]
        gain = mass[:, None] * (accuracy - accuracy[:, :1])
        return water_fill(gain, steps, room, budget)


def evidence(
    prequential: FloatArray, groups: NDArray[np.int32], size: int
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """What was measured per group and model.

    What a row measures, no earlier model had been trained on: the model of row r was trained on
    the examples of the rows before it.

    Args:
        prequential: share of right answers, NaN where not measured, float64 ``[R, N]``.
        groups: int32 ``[N]``.
        size: number of groups G.

    Returns:
        For each group and each of the M rows with measurements, float64 ``[G, M]``: examples of
        the group the model was trained on, examples it was measured on, and the sum of their
        shares.
    """
    rows = [(np.flatnonzero(~np.isnan(row)), row) for row in prequential]
    rows = [(index, row) for index, row in rows if len(index)]
    if not rows:
        nothing = np.zeros((size, 0))
        return nothing, nothing, nothing
    trials, right = np.zeros((2, size, len(rows)))
    for column, (index, row) in enumerate(rows):
        trials[:, column] = np.bincount(groups[index], minlength=size)
        right[:, column] = np.bincount(groups[index], row[index], size)
    return np.cumsum(trials, axis=1) - trials, trials, right


def curve_family(unlearnable: float) -> tuple[FloatArray, FloatArray]:
    """All curves that a group may have, and their prior.

    Returns:
        start, ceiling, scale and steepness of each, float64 ``[H, 4]``, and probabilities that
        sum to 1, float64 ``[H]``: ``unlearnable`` for the flat curves together, the rest equal
        per start and ceiling.
    """
    flat = [(start, start, 1.0, 1.0) for start in _STARTS]
    weight = [unlearnable / len(_STARTS)] * len(flat)
    rising: list[tuple[float, float, float, float]] = []
    for start in _STARTS:
        own = list(product([c for c in _CEILINGS if c > start], _SCALES, _STEEPNESS))
        rising += [(start, *rest) for rest in own]
        weight += [(1 - unlearnable) / len(_STARTS) / len(own)] * len(own)
    return np.array(flat + rising), np.array(weight)


def curve(curves: FloatArray, examples: FloatArray | IntArray) -> FloatArray:
    """Accuracy after n examples: start + (ceiling - start) / (1 + (scale / n)^steepness).

    Args:
        curves: float64 ``[H, 4]``.
        examples: ``[M]``.

    Returns:
        float64 ``[M, H]``.

    Example:
        >>> curve(np.array([[0.0, 1.0, 16.0, 2.0]]), np.array([0, 16, 48])).ravel().tolist()
        [0.0, 0.5, 0.9]
    """
    start, ceiling, scale, steepness = curves.T
    progress = (np.asarray(examples, dtype=np.float64)[:, None] / scale) ** steepness
    accuracy: FloatArray = start + (ceiling - start) * (progress / (1 + progress))
    return accuracy


def posterior(
    curves: FloatArray,
    prior: FloatArray,
    seen: FloatArray,
    trials: FloatArray,
    right: FloatArray,
    *,
    rounds: int = 20,
) -> FloatArray:
    """How likely each curve is for each group, given what was measured.

    An example counts as one trial however many completions were sampled: they agree too much to
    count as independent. The groups' common prior is learned with them (empirical Bayes, by
    expectation maximization with ``prior`` worth two groups), so that a group with few
    measurements is believed to be like the others.

    Args:
        seen, trials, right: see :func:`evidence`, float64 ``[G, M]``.

    Returns:
        float64 ``[G, H]``, rows sum to 1.
    """
    fit = np.empty((len(seen), len(curves)))
    for group, (n, total, correct) in enumerate(zip(seen, trials, right, strict=True)):
        accuracy = curve(curves, n)
        fit[group] = correct @ np.log(accuracy) + (total - correct) @ np.log1p(-accuracy)
    likelihood = np.exp(fit - fit.max(axis=1, keepdims=True))
    measured = trials.any(axis=1)
    common: FloatArray = prior
    belief: FloatArray = likelihood
    for _ in range(rounds):
        belief = likelihood * common
        belief /= belief.sum(axis=1, keepdims=True)
        common = _PRIOR_GROUPS * prior + belief[measured].sum(axis=0)
        common /= common.sum()
    return belief


def water_fill(gain: FloatArray, steps: IntArray, room: IntArray, budget: int) -> IntArray:
    """Spend a budget where the average gain per example, over any further number, is largest.

    Args:
        gain: expected gain of each group at each step, float64 ``[G, S]``; 0 at step 0.
        steps: numbers of examples, ascending from 0, ``[S]``.
        room: examples that each group has, ``[G]``.
        budget: at most the sum of ``room``.

    Returns:
        Examples per group, int64 ``[G]``, at most ``room``, adding up to ``budget``.

    Example:
        >>> steep, late = [0.0, 5.0, 6.0, 6.5], [0.0, 0.0, 0.0, 9.0]
        >>> room = np.array([3, 3])
        >>> water_fill(np.array([steep, late]), np.arange(4), room, 4).tolist()
        [1, 3]
    """
    slopes, parts = [], []
    for group, limit in enumerate(room):
        ends = np.union1d(steps[steps < limit], limit)
        value = np.interp(ends, steps, gain[group])
        at = 0
        while at < len(ends) - 1:  # the least concave curve above: its pieces have falling slopes
            slope = (value[at + 1 :] - value[at]) / (ends[at + 1 :] - ends[at])
            best = at + 1 + int(np.argmax(slope))
            slopes.append(slope[best - at - 1])
            parts.append((group, int(ends[best] - ends[at])))
            at = best
    quota = np.zeros(len(room), dtype=np.int64)
    for piece in np.argsort(-np.array(slopes), kind="stable"):
        group, length = parts[piece]
        quota[group] += min(length, budget - int(quota.sum()))
    return quota
