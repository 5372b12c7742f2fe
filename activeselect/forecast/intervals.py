"""How wide a prediction interval has to be, when whole runs are the independent units.

Every run is left out once; its absolute errors, over the scale ``sqrt(p(1-p))`` of a share p, are
the scores (one per checkpoint). The half width is, on that scale,

* the conformal quantile of all n scores: the ``ceil(level (n + 1))``-th smallest. If a new run's
  errors are like these runs' errors, the interval holds about ``level`` of its checkpoints *on
  average over new runs*. Errors of one run go together, so a run may be inside throughout or
  outside throughout, and few runs estimate the width only roughly: this is not a promise for the
  single run, and none at all for runs of another kind (model, task, recipe) than those seen;
* Student's t interval around errors with mean 0, K - 1 degrees of freedom for K runs, where n is
  too small for that quantile to exist (below 9 for 90%): that assumes normal errors;
* the wider of the two with fewer than `FEW_RUNS` runs, where a quantile over checkpoints would
  pretend to know more than so few runs tell.
"""

from __future__ import annotations

import math
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
        "Distribution-free prediction sets for two-layer hierarchical models", on why the run is the
        unit.

    Example:
        >>> half_width([[0.01, 0.02]] * 5, level=0.9)
        0.02
        >>> round(half_width([[0.01, 0.02]] * 2, level=0.9), 3)
        0.1
    """
    runs = len(scores)
    if runs < 2:
        raise ValueError(f"expected scores of at least 2 runs; received {runs}")
    pooled = np.sort(np.concatenate([np.asarray(run, dtype=np.float64) for run in scores]))
    rank = math.ceil(level * (len(pooled) + 1))
    exists = rank <= len(pooled)
    conformal = float(pooled[rank - 1]) if exists else 0.0
    if exists and runs >= FEW_RUNS:
        return conformal
    spread = float(np.sqrt(np.mean(pooled**2)))
    return max(conformal, float(stats.t.ppf((1 + level) / 2, runs - 1)) * spread)
