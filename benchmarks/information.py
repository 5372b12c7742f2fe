"""What a selector's scores tell about what the model can do, in rank correlation and in bits."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.stats import spearmanr

from activeselect.training.run import ActiveRun

RESAMPLES = 400
#: One selection: scores of the examples looked at, their groups, test accuracy of every group.
Decision = tuple[np.ndarray, np.ndarray, np.ndarray]


def bits(rho: float) -> float:
    """Mutual information of two normal variables with this correlation."""
    return -0.5 * math.log2(1 - min(rho * rho, 1 - 1e-12))


def by_group(run: ActiveRun, correct: np.ndarray) -> np.ndarray:
    """Test accuracy of each of the pool's groups, float64 ``[G]``; NaN if it is not tested."""
    pool, test = run.data.pool, run.data.test
    assert test is not None
    of = np.array([pool.group_names.index(test.group_names[g]) for g in test.groups])
    right = np.bincount(of, correct.astype(float), len(pool.group_names))
    with np.errstate(invalid="ignore"):
        return right / np.bincount(of, minlength=len(pool.group_names))


def correlation(decisions: Sequence[Decision]) -> tuple[float, float, float] | None:
    """Mean rank correlation over the selections, and its 95% interval over resampled groups."""
    if not decisions:
        return None
    groups = len(decisions[0][2])
    rng = np.random.default_rng(0)
    drawn = [_mean(decisions, rng.integers(0, groups, groups)) for _ in range(RESAMPLES)]
    low, high = np.nanquantile(drawn, [0.025, 0.975])
    return _mean(decisions, np.arange(groups)), float(low), float(high)


def _mean(decisions: Sequence[Decision], chosen: np.ndarray) -> float:
    found = []
    for score, group, accuracy in decisions:
        times = np.bincount(chosen, minlength=len(accuracy))[group]
        rows = np.repeat(np.arange(len(group)), times)
        x, y = score[rows], accuracy[group[rows]]
        known = np.isfinite(x) & np.isfinite(y)
        x, y = x[known], y[known]
        if len(x) < 2 or np.ptp(x) == 0 or np.ptp(y) == 0:
            found.append(0.0 if len(x) else np.nan)  # a constant tells nothing
        else:
            found.append(float(spearmanr(x, y).statistic))
    return float(np.mean(found))
