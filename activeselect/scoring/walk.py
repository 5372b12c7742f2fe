"""Beliefs on a grid of log-odds: how they move, and what samples say about them (numpy)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.special import expit

from activeselect.arrays import FloatArray, IntArray

LOG_ODDS: FloatArray = np.linspace(-6.0, 6.0, 25)
ACCURACY: FloatArray = expit(LOG_ODDS)
_STEP = float(LOG_ODDS[1] - LOG_ODDS[0])
_RIDGE = 1.0  # of the lines: one unit of information against each coefficient, in its scale
_STEPS, _LONGEST, _CLOSE = 20, 2.0, 0.02  # the last step is made too; Newton's squares the error
_FACTORS: FloatArray = 1.7 ** np.arange(-3.0, 3.0)  # of the usual standard deviation, tried
_DOUBT = 0.7  # sd of the logarithm of a standard deviation around the usual one


def walk(belief: FloatArray, sd: float) -> FloatArray:
    """Distributions ``[..., G]`` after a normal step of the log-odds, cut at the ends."""
    log = -0.5 * ((LOG_ODDS[None, :] - LOG_ODDS[:, None]) / sd) ** 2
    kernel = np.exp(log)
    walked: FloatArray = belief @ (kernel / kernel.sum(axis=1, keepdims=True))
    return walked


def move(belief: FloatArray, shift: FloatArray) -> FloatArray:
    """Distributions ``[N, ..., G]`` shifted by ``[N]``; the ends absorb."""
    grid = np.arange(len(LOG_ODDS))
    source = np.clip(grid[None, :] + shift[:, None] / _STEP, 0, len(LOG_ODDS) - 1)
    low = np.minimum(np.floor(source).astype(np.int64), len(LOG_ODDS) - 2)
    part = source - low
    out = np.zeros_like(belief)
    rows = np.arange(len(belief))
    for column in grid:  # spread each grid point's mass over the two points around its new place
        mass = belief[..., column]
        share = part[:, column].reshape(-1, *[1] * (mass.ndim - 1))
        out[rows, ..., low[:, column]] += mass * (1 - share)
        out[rows, ..., low[:, column] + 1] += mass * share
    return out


def fit_line(
    x: FloatArray,
    belief: FloatArray,
    right: IntArray,
    sampled: IntArray,
    units: tuple[FloatArray, FloatArray] | None = None,
) -> tuple[FloatArray, float]:
    """Line on ``x`` by which the log-odds of ``belief`` shift, by penalized maximum likelihood.

    The likelihood is the marginal one of each example's samples together. How many were asked for
    may depend on how the first turned out; treating them one by one would be biased by that.
    Newton's steps with the outer product of the scores (Berndt et al. 1974).

    Args:
        x: covariates ``[N, p]``.
        belief: before the shift, ``[N, G]`` or ``[1, G]``.
        right: right completions, ``[N]``.
        sampled: completions, ``[N]``.
        units: middle of each column of ``x``, the intercept's (the first) 0, and size of its
            coefficient to expect, ``[p]`` each; the penalty counts in them.

    Returns:
        coefficients ``[p]`` and the log-likelihood less the penalty.
    """
    weights: FloatArray = np.zeros(x.shape[1])
    middle, scale = units or (np.zeros(x.shape[1]), np.ones(x.shape[1]))
    x = (x - middle) * scale

    def looked_at(weights: FloatArray) -> tuple[float, FloatArray]:
        log_odds = LOG_ODDS + (x @ weights)[:, None]
        wrong = expit(-log_odds)
        log = right[:, None] * log_odds + sampled[:, None] * np.log(wrong)
        top = log.max(axis=1)
        joint = belief * np.exp(log - top[:, None])
        total = joint.sum(axis=1)
        evidence = float((np.log(total) + top).sum() - _RIDGE / 2 * weights @ weights)
        return evidence, right - sampled * (1 - (joint * wrong).sum(axis=1) / total)

    evidence, score = looked_at(weights)
    for _ in range(_STEPS):
        step = np.linalg.solve(
            (x.T * score**2) @ x + _RIDGE * np.eye(len(weights)), x.T @ score - _RIDGE * weights
        )
        step = step * (_LONGEST / max(np.abs(step).max(), _LONGEST))
        # scores of few samples may say nothing of the curvature: steps too long would go in circles
        tried, there = looked_at(weights + step)
        while tried < evidence and np.abs(step).max() >= _CLOSE:
            step = step / 2
            tried, there = looked_at(weights + step)
        if tried < evidence:
            break
        weights, evidence, score = weights + step, tried, there
        if np.abs(step).max() < _CLOSE:
            break
    weights = weights * scale
    weights[0] -= weights @ middle
    return weights, evidence


def likelihood(right: IntArray, sampled: IntArray) -> FloatArray:
    """Of each accuracy of the grid, ``[N, G]``, scaled to at most 1."""
    log = right[:, None] * np.log(ACCURACY) + (sampled - right)[:, None] * np.log1p(-ACCURACY)
    likelihood: FloatArray = np.exp(log - log.max(axis=1, keepdims=True))
    return likelihood


def likeliest(usual: float, fit: Callable[[float], tuple[FloatArray, float]]) -> float:
    """Standard deviation with the highest log evidence plus a weak normal prior on its logarithm.

    ``fit`` gives coefficients and log evidence. A parabola through the best of a grid and its
    neighbours makes the result smooth in the data.
    """
    at = np.log(_FACTORS)
    value = np.array([fit(usual * float(f))[1] for f in _FACTORS]) - 0.5 * (at / _DOUBT) ** 2
    i = int(np.clip(np.argmax(value), 1, len(at) - 2))
    low, mid, high = value[i - 1 : i + 2]
    bend = low - 2 * mid + high
    shift = 0.5 * (low - high) / bend if bend < 0 else np.sign(high - low)
    return usual * float(np.exp(at[i] + np.clip(shift, -1, 1) * (at[1] - at[0])))
