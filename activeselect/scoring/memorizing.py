"""When an example will be memorized, from how NLLs fall (numpy)."""

from __future__ import annotations

import numpy as np
from scipy.stats import norm

from activeselect.arrays import FloatArray
from activeselect.scoring.trajectory import LOWEST_NLL, Counts

FALL = 1.0  # of log NLL in an epoch, and its standard deviation, before any is known


def memorized_next(counts: Counts, tau: float) -> FloatArray:
    """Chance that an example is memorized after one more round, ``[N]``; 0 where not measured.

    Log NLLs fall by a normal amount, with mean and deviation of the last round's among the examples
    that were open before.
    """
    log = np.log(np.maximum(counts.mean_nll, LOWEST_NLL))
    fall, sd = FALL, FALL
    if len(log) > 1:
        both = (counts.mean_nll[-2] >= tau) & counts.measured[-1]
        if both.sum() > 1:
            falls = (log[-2] - log[-1])[both]
            fall, sd = float(falls.mean()), max(float(falls.std()), 0.05)
    chance: FloatArray = norm.cdf((np.log(max(tau, LOWEST_NLL)) - log[-1] + fall) / sd)
    return np.nan_to_num(chance)
