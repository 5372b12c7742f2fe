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
    known = len(values) - int(np.count_nonzero(np.isnan(values)))
    order = np.argsort(values)[:known]  # what is not known comes last
    ascending = values[order]
    starts = np.ones(known, dtype=bool)
    np.not_equal(ascending[1:], ascending[:-1], out=starts[1:])
    if starts.all():
        below = np.arange(known, dtype=np.float64)
    else:
        first = np.flatnonzero(starts)
        ties = np.diff(first, append=known)
        below = np.repeat(first + (ties - 1) / 2, ties)
    share: FloatArray = np.full(len(values), np.nan)
    share[order] = below / (known - 1) if known > 1 else 0.5
    return share
