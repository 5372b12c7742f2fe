"""The oracle: the allocation over groups that measured learning curves say is best.

Pure arrays in, pure arrays out; the curves are measured by
``python -m research.benchmark_tuning oracle``.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import pairwise

import numpy as np

from activeselect.arrays import FloatArray, IntArray
from activeselect.errors import ConfigError
from activeselect.selection.compose import apportion
from activeselect.study.curves import monotone

#: Part of the informed oracle's new examples that goes to what is mastered already.
REHEARSAL = 0.3


def dense_curve(examples: Sequence[float], accuracy: Sequence[float], size: int) -> FloatArray:
    """Accuracy for 0, 1, ... ``size`` examples: monotone, linear in log(1 + n) between points.

    Beyond the last measured point nothing more is gained (flat), so nothing is promised there.

    Args:
        examples: measured numbers of examples, ascending from 0, ``[M]``.
        accuracy: mean test accuracy at each, ``[M]``.

    Returns:
        float64 ``[size + 1]``, non-decreasing.
    """
    points = np.log1p(np.asarray(examples, dtype=np.float64))
    return np.interp(np.log1p(np.arange(size + 1)), points, monotone(accuracy))


def allocate(curves: FloatArray, mass: FloatArray, have: IntArray, budget: int) -> IntArray:
    """Spend a budget where the expected test accuracy grows most (water-filling).

    Each step goes to the group whose best average gain per example, over any number of further
    examples, is largest; for concave curves this is the optimum, and on others it looks past a
    flat start.

    Args:
        curves: accuracy per group for 0, 1, ... examples, float64 ``[G, S + 1]``.
        mass: share of each group in the test, float64 ``[G]``.
        have: examples per group already in the train set, int64 ``[G]``.
        budget: examples to add.

    Returns:
        Examples per group after spending, int64 ``[G]``.

    Example:
        >>> steep, flat = np.array([0.0, 0.5, 0.9, 1.0]), np.array([0.9, 0.95, 0.97, 0.98])
        >>> allocate(np.stack([steep, flat]), np.array([0.5, 0.5]), np.array([0, 0]), 3).tolist()
        [3, 0]
    """
    counts = have.copy()
    size = curves.shape[1] - 1
    left = budget
    while left > 0:
        rates, lengths = np.zeros(len(counts)), np.ones(len(counts), dtype=np.int64)
        for group, n in enumerate(counts):
            ahead = curves[group, n + 1 : min(n + left, size) + 1] - curves[group, min(n, size)]
            if len(ahead):
                average = mass[group] * ahead / np.arange(1, len(ahead) + 1)
                lengths[group] = int(np.argmax(average)) + 1
                rates[group] = average[lengths[group] - 1]
        if rates.max() <= 0:  # all curves are flat from here: spread by test mass
            counts += apportion(mass, left)
            break
        best = int(np.argmax(rates))
        counts[best] += lengths[best]
        left -= int(lengths[best])
    return counts


def oracle_targets(
    measured: Mapping[str, Mapping[str, Sequence[float]]],
    pool_mass: Mapping[str, float],
    test_mass: Mapping[str, float],
    budgets: Sequence[int],
) -> dict[str, dict[str, int]]:
    """Examples per group at every train-set size, the first of which is drawn as the pool is.

    Args:
        measured: per group ``{"examples": [...], "accuracy": [...]}``; groups that are not in the
            test may be absent.
        pool_mass, test_mass: share of each group in pool and test.
        budgets: train-set sizes, ascending.

    Raises:
        ConfigError: if a group of the test was not measured.
    """
    names = sorted(set(pool_mass) | set(test_mass))
    unmeasured = [name for name in test_mass if name not in measured]
    if unmeasured:
        raise ConfigError(
            f"There are no learning curves for {', '.join(unmeasured)}; measure them with "
            "`python -m research.benchmark_tuning oracle`."
        )
    size = int(max(budgets))
    curves = np.stack(
        [
            dense_curve(measured[name]["examples"], measured[name]["accuracy"], size)
            if name in measured
            else np.zeros(size + 1)
            for name in names
        ]
    )
    mass = np.array([test_mass.get(name, 0.0) for name in names])
    counts = apportion(np.array([pool_mass.get(name, 0.0) for name in names]), int(budgets[0]))
    targets = {str(budgets[0]): dict(zip(names, counts.tolist(), strict=True))}
    for before, after in pairwise(budgets):
        counts = allocate(curves, mass, counts, after - before)
        targets[str(after)] = dict(zip(names, counts.tolist(), strict=True))
    return targets


def informed_targets(
    pool_mass: Mapping[str, float],
    test_mass: Mapping[str, float],
    mastered: Collection[str],
    budgets: Sequence[int],
) -> dict[str, dict[str, int]]:
    """Examples per group of an oracle that knows what is mastered, and no learning curve.

    New examples go to the groups of the test that are not mastered, in proportion to the square
    root of their share (what is asked twice as often needs less than twice the examples), but
    for :data:`REHEARSAL`, which keeps the mastered ones from being forgotten.

    Args:
        pool_mass, test_mass: share of each group in pool and test.
        mastered: groups that the model answers before any training.
        budgets: train-set sizes, ascending; the first is drawn as the pool is.

    Example:
        >>> shares = {"easy": 0.8, "hard": 0.2}
        >>> informed_targets(shares, shares, ["easy"], (100, 200))
        {'100': {'easy': 80, 'hard': 20}, '200': {'easy': 110, 'hard': 90}}
    """
    names = sorted(set(pool_mass) | set(test_mass))
    known = np.array([name in mastered for name in names])
    root = np.sqrt([test_mass.get(name, 0.0) for name in names])
    counts = apportion(np.array([pool_mass.get(name, 0.0) for name in names]), int(budgets[0]))
    targets = {str(budgets[0]): dict(zip(names, counts.tolist(), strict=True))}
    rehearsed = bool(root[known].any()) * (REHEARSAL if root[~known].any() else 1.0)
    weight = np.zeros(len(names))
    for part, share in ((known, rehearsed), (~known, 1 - rehearsed)):
        if share:
            weight[part] = share * root[part] / root[part].sum()
    for before, after in pairwise(budgets):
        counts = counts + apportion(weight, after - before)
        targets[str(after)] = dict(zip(names, counts.tolist(), strict=True))
    return targets
