"""Ranks of scores that have ties and gaps."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


def ranks(values: FloatArray) -> FloatArray:
    """Share of the other known values that lie below each one, ties counted half.

    Args:
        values: float64 ``[N]``; NaN = not known.

    Returns:
        float64 ``[N]`` in [0, 1]; NaN where the value is NaN, 0.5 where there is no other.

    Example:
        >>> ranks(np.array([0.3, 0.1, np.nan, 0.3, 0.9])).tolist()
        [0.5, 0.0, nan, 0.5, 1.0]
    """
    share: FloatArray = np.full(len(values), np.nan)
    known = np.flatnonzero(~np.isnan(values))
    order = known[np.argsort(values[known])]
    ascending = values[order]
    first = np.flatnonzero(np.append(True, ascending[1:] != ascending[:-1])[: len(order)])
    ties = np.diff(np.append(first, len(order)))
    below = np.repeat(first + (ties - 1) / 2, ties)
    share[order] = below / (len(order) - 1) if len(order) > 1 else 0.5
    return share
