"""How wide a prediction interval has to be, when whole runs are the independent units.

Every run is left out once; its absolute errors, over the scale ``sqrt(p(1-p))`` of a share p, are
the scores (one per checkpoint). The half width is, on that scale,

* the quantile of the scores in which every run weighs the same, however many checkpoints it has:
  cross-conformal by run, with the runs' distributions pooled. If a new run's errors are like these
  runs' errors, the interval holds about ``level`` of its checkpoints *on average over new runs*.
  Errors of one run go together, so a run may be inside throughout or outside throughout. The
  correction that would make this a guarantee at any number of runs (weight 1/(K+1) for the unseen
  run) makes every 90% interval infinite below 9 runs and the largest error ever seen at 9; it is
  left out, so the coverage is approximate, and measured in docs/forecast.md;
* the wider of that and Student's t interval around errors with mean 0 (K - 1 degrees of freedom for
  K runs) with fewer than `FEW_RUNS` runs, or with too few checkpoints for a quantile of that level
  (below 9 for 90%): that assumes normal errors, and few runs estimate their size only roughly.

Neither says anything about runs of another kind (model, task, recipe) than those seen.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import stats

FloatArray = NDArray[np.float64]

FEW_RUNS = 5


def scale_of(values: FloatArray, in_unit_interval: bool) -> FloatArray:
    """Return the scale that errors are measured in, per value ``[n]``.

    Args:
        values: forecasts, ``[n]``.
        in_unit_interval: whether they are shares; other quantities have scale 1.

    Example:
        >>> scale_of(np.array([0.5, 0.1]), in_unit_interval=True).round(2).tolist()
        [0.5, 0.3]
    """
    if not in_unit_interval:
        return np.ones_like(values)
    share = np.clip(values, 0.01, 0.99)
    return np.asarray(np.sqrt(share * (1 - share)))


def half_width(scores: Sequence[Sequence[float]], level: float) -> float:
    """Return the half width of the interval in units of the scale.

    Args:
        scores: absolute held-out errors over their scale, one sequence per run.
        level: share of a new run's checkpoints to hold, in (0, 1).

    Raises:
        ValueError: with fewer than two runs.

    Source:
        Vovk (2015), "Cross-conformal predictors"; Dunn, Wasserman, Ramdas (2022),
        "Distribution-free prediction sets for two-layer hierarchical models" (pooling CDFs).

    Example:
        >>> round(half_width([[0.01, 0.02]] * 5, level=0.9), 3)
        0.02
        >>> round(half_width([[0.01, 0.02]] * 2, level=0.9), 3)
        0.1
    """
    runs = len(scores)
    if runs < 2:
        raise ValueError(f"expected scores of at least 2 runs; received {runs}")
    pooled = np.concatenate([np.asarray(run, dtype=np.float64) for run in scores])
    quantile = _weighted_quantile(pooled, [len(run) for run in scores], level)
    if runs >= FEW_RUNS and len(pooled) >= level * (len(pooled) + 1):
        return quantile
    spread = float(np.sqrt(np.mean(pooled**2)))
    return max(quantile, float(stats.t.ppf((1 + level) / 2, runs - 1)) * spread)


def _weighted_quantile(values: FloatArray, sizes: Sequence[int], level: float) -> float:
    """Quantile of runs' values laid end to end, each run with weight one."""
    weight = np.concatenate([np.full(size, 1 / size) for size in sizes]) / len(sizes)
    order = values.argsort(kind="stable")
    middle = np.cumsum(weight[order]) - weight[order] / 2
    return float(np.interp(level, middle, values[order]))
