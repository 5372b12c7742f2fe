"""Saturation: once the train set is memorized, is test accuracy still moving?

Nobody should train on because a curve might rise late, or stop because it might not: the monitor
says since when the train set is saturated and what test accuracy has done since.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from activeselect.arrays import FloatArray
from activeselect.audit.measures import interval, mean

#: A trace counts as memorized from here on (nats per token), if its loss moves less than that.
EPSILON, DELTA = 0.1, 0.05
#: Share of examples memorized from which the train set counts as saturated.
SATURATED = 0.95


def memorized_since(loss: FloatArray, epsilon: float = EPSILON, delta: float = DELTA) -> FloatArray:
    """First round of each example after which its loss stays low and still, float64 ``[N]``.

    Low: under ``epsilon`` in this and all later rounds. Still: it moves less than ``delta`` between
    any two of them. NaN where there is no such round, or it is the last one, after which nothing
    was seen.

    Args:
        loss: mean NLL of each reference trace, nats per token, float64 ``[R, N]``.

    Source: after arXiv 2506.21551.

    Example:
        >>> memorized_since(np.array([[0.5, 0.5], [0.05, 0.5], [0.04, 0.01]])).tolist()
        [1.0, nan]
    """
    rounds, examples = loss.shape
    found = np.full(examples, np.nan)
    low, high = np.full(examples, np.inf), np.full(examples, -np.inf)
    stays = np.ones(examples, dtype=bool)
    for r in range(rounds - 1, -1, -1):
        low, high = np.fmin(low, loss[r]), np.fmax(high, loss[r])
        stays &= (loss[r] < epsilon) & (high - low < delta)
        if r < rounds - 1:
            found[stays] = r
    return found


def saturated_since(loss: FloatArray, share: float = SATURATED) -> int | None:
    """First round from which this share of the examples is memorized; None if there is none."""
    since = memorized_since(loss)
    for r in range(len(loss)):
        if (since <= r).mean() >= share:
            return r
    return None


def since_saturation(then: FloatArray, now: FloatArray, rng: np.random.Generator) -> dict[str, Any]:
    """Test accuracy now less at saturation, paired over test problems, with a verdict.

    Args:
        then, now: 1 where a test problem was and is answered rightly, float64 ``[E]``.

    Returns:
        value, low, high (95%) and verdict: ``still rising``, ``flat`` or ``falling``.

    Example:
        >>> then, now = np.zeros(50), np.arange(50) % 2.0
        >>> found = since_saturation(then, now, np.random.default_rng(0))
        >>> found["value"], found["verdict"]
        (0.5, 'still rising')
    """
    difference = {"x": now - then}
    low, high = interval(lambda a: mean(a["x"]), difference, rng)
    verdict = "still rising" if low > 0 else "falling" if high < 0 else "flat"
    ends = {name: None if np.isnan(end) else end for name, end in (("low", low), ("high", high))}
    return {"value": mean(difference["x"]), **ends, "verdict": verdict}
