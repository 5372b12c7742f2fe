"""Beliefs on a grid of log-odds: how they move, and what samples say about them (numpy)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]

LOG_ODDS: FloatArray = np.linspace(-6.0, 6.0, 25)
ACCURACY: FloatArray = expit(LOG_ODDS)
_STEP = float(LOG_ODDS[1] - LOG_ODDS[0])
_RIDGE = 1.0  # of the lines: one unit of information against each coefficient
_FACTORS: FloatArray = 1.7 ** np.arange(-3.0, 3.0)  # of the usual standard deviation, tried
_DOUBT = 0.7  # sd of the logarithm of a standard deviation around the usual one


def move(belief: FloatArray, shift: FloatArray, walk: float) -> FloatArray:
    """Random walk and shift of distributions ``[N, ..., G]`` by ``[N]``; the ends absorb."""
    walked = belief @ normal(LOG_ODDS[None, :] - LOG_ODDS[:, None], walk)
    grid = np.arange(len(LOG_ODDS))
    source = np.clip(grid[None, :] + shift[:, None] / _STEP, 0, len(LOG_ODDS) - 1)
    low = np.minimum(np.floor(source).astype(np.int64), len(LOG_ODDS) - 2)
    part = source - low
    out = np.zeros_like(walked)
    rows = np.arange(len(walked))
    for column in grid:  # spread each grid point's mass over the two points around its new place
        mass = walked[..., column]
        share = part[:, column].reshape(-1, *[1] * (mass.ndim - 1))
        out[rows, ..., low[:, column]] += mass * (1 - share)
        out[rows, ..., low[:, column] + 1] += mass * share
    return out


def fit_line(
    x: FloatArray, mean: FloatArray, variance: FloatArray, right: IntArray, sampled: IntArray
) -> FloatArray:
    """Coefficients ``[p]`` of the log-odds' shift on ``x``, by penalized logistic regression.

    The mean of ``expit`` over a normal is close to ``expit(mean / sqrt(1 + pi * variance / 8))``
    (MacKay 1992), which makes the marginal likelihood a logistic regression with an offset.
    """
    shrink = 1 / np.sqrt(1 + np.pi * variance / 8)
    design, offset = x * shrink[:, None], mean * shrink
    weights: FloatArray = np.zeros(x.shape[1])
    for _ in range(8):
        p = expit(offset + design @ weights)
        gradient = design.T @ (right - sampled * p) - _RIDGE * weights
        curvature = (design.T * (sampled * p * (1 - p))) @ design + _RIDGE * np.eye(len(weights))
        weights = weights + np.clip(np.linalg.solve(curvature, gradient), -2, 2)
    return weights


def likelihood(right: IntArray, sampled: IntArray) -> FloatArray:
    """Of each accuracy of the grid, ``[N, G]``, scaled to at most 1."""
    log = right[:, None] * np.log(ACCURACY) + (sampled - right)[:, None] * np.log1p(-ACCURACY)
    likelihood: FloatArray = np.exp(log - log.max(axis=1, keepdims=True))
    return likelihood


def normal(distance: FloatArray, sd: float) -> FloatArray:
    """Of each distance, summing to 1 over the last axis."""
    log = -0.5 * (distance / sd) ** 2
    density: FloatArray = np.exp(log - log.max(axis=-1, keepdims=True))
    density /= density.sum(axis=-1, keepdims=True)
    return density


def likeliest(usual: float, evidence: Callable[[float], float]) -> float:
    """Standard deviation with the highest log evidence plus a weak normal prior on its logarithm.

    A parabola through the best of a grid and its neighbours, so that it is smooth in the data.
    """
    at = np.log(_FACTORS)
    value = np.array([evidence(usual * float(f)) for f in _FACTORS]) - 0.5 * (at / _DOUBT) ** 2
    i = int(np.clip(np.argmax(value), 1, len(at) - 2))
    low, mid, high = value[i - 1 : i + 2]
    bend = low - 2 * mid + high
    shift = 0.5 * (low - high) / bend if bend < 0 else np.sign(high - low)
    return usual * float(np.exp(at[i] + np.clip(shift, -1, 1) * (at[1] - at[0])))
