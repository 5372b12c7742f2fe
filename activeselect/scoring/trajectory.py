"""What is believed about each example's accuracy, round by round, from a few samples (numpy).

The log-odds of an example's accuracy start near a line on the log of its mean NLL (and of its
length, where known) and move from round to round by a drift, again such a line, and a random walk.
Samples are binomial. Beliefs are distributions on a grid of log-odds, so the posterior of the
accuracy, and of the *maximum over noisy rounds* that pre-memorization accuracy is made of, are sums
and not approximations: the maximum has none of the upward bias of a maximum over sampled shares.

A round in which an example was not measured does not exist for it: the first measured one is its
first. Only the lines are shared between examples.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit
from scipy.stats import binom

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

LOG_ODDS: FloatArray = np.linspace(-6.0, 6.0, 25)
ACCURACY: FloatArray = expit(LOG_ODDS)
SPREAD = 2.0  # sd of the log-odds around the first round's line
WALK = 1.6  # sd of the random walk from round to round (docs/sampling.md)
_STEP = float(LOG_ODDS[1] - LOG_ODDS[0])
_RIDGE = 1.0  # of the lines: one unit of information against each coefficient
_LOWEST_NLL = 1e-4


@dataclass(frozen=True)
class Counts:
    """What has been measured of N examples in R rounds, the current one last.

    Attributes:
        right: completions with the right answer, int ``[R, N]``.
        sampled: completions sampled, int ``[R, N]``.
        mean_nll: of the reference trace, nats per token, ``[R, N]``; NaN where the example was not
            measured in that round (then it must not be sampled either).
        tokens: of the reference trace, ``[N]``; None where unknown.

    Raises:
        ValueError: if the shapes differ, a count is impossible, an NLL is infinite, or an example
            was sampled without its NLL.
    """

    right: IntArray
    sampled: IntArray
    mean_nll: FloatArray
    tokens: FloatArray | None = None

    def __post_init__(self) -> None:
        shapes = [self.right.shape, self.sampled.shape, self.mean_nll.shape]
        if len(set(shapes)) > 1 or len(shapes[0]) != 2 or not shapes[0][0]:
            raise ValueError(
                f"right, sampled and mean_nll must be [rounds, examples]; received {shapes}"
            )
        if np.any((self.right < 0) | (self.right > self.sampled)):
            raise ValueError("expected 0 <= right <= sampled; received counts outside")
        if np.any(np.isinf(self.mean_nll)):
            raise ValueError("mean_nll must be finite, or NaN where not measured; received inf")
        if np.any(self.sampled[np.isnan(self.mean_nll)] > 0):
            raise ValueError("expected the mean_nll of every sampled example; received NaN")

    @property
    def measured(self) -> BoolArray:
        """Where the NLL is known, ``[R, N]``."""
        return ~np.isnan(self.mean_nll)

    def latest(self, values: FloatArray) -> FloatArray:
        """Of ``values`` ``[R, N]`` the one of each example's last measured round; NaN if none."""
        last = np.full(values.shape[1], np.nan)
        for known, row in zip(self.measured, values, strict=True):
            last[known] = row[known]
        return last

    @property
    def accuracy(self) -> FloatArray:
        """Share of right completions, ``[R, N]``; NaN where none was sampled."""
        known = self.sampled > 0
        return np.where(known, self.right / np.maximum(self.sampled, 1), np.nan)

    def before(self, round: int) -> Counts:
        """The rounds before ``round``."""
        return Counts(self.right[:round], self.sampled[:round], self.mean_nll[:round], self.tokens)


def beliefs(counts: Counts, start: FloatArray | None = None, *, walk: float = WALK) -> FloatArray:
    """Distribution of each example's accuracy after the last round, ``[N, G]`` on ``ACCURACY``.

    Args:
        counts: measurements, R rounds.
        start: the same of the first R - 1 rounds, to save the walk through them.
        walk: standard deviation of the random walk.
    """
    rounds = len(counts.right)
    if start is not None:
        return advance(start, counts, rounds - 1, walk)[0]
    belief = advance(None, counts, 0, walk)[0]
    for round in range(1, rounds):
        belief = advance(belief, counts, round, walk)[0]
    return belief


def advance(
    belief: FloatArray | None, counts: Counts, round: int, walk: float
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """One round further: the belief after it, and the shift and likelihood that led there.

    Returns:
        belief ``[N, G]``, shift of the log-odds ``[N]``, likelihood ``[N, G]``.
    """
    right, sampled = counts.right[round], counts.sampled[round]
    first, later = newcomers(counts, round)
    x = _covariates(counts, round)
    shift = np.zeros(len(right))
    start = _normal(LOG_ODDS[None, :], SPREAD)
    expected = np.repeat(start, len(right), axis=0) if belief is None else belief.copy()
    if first.any():
        at, level = np.flatnonzero(first), x[first, :-1]  # no earlier NLL to compare with
        prior = np.full(len(at), SPREAD**2)
        shift[at] = _line(level, np.zeros(len(at)), prior, right[at], sampled[at])
        expected[at] = _normal(LOG_ODDS[None, :] - shift[at, None], SPREAD)
    if later.any():
        at, moved = np.flatnonzero(later), expected[later]
        mean = moved @ LOG_ODDS
        variance = moved @ LOG_ODDS**2 - mean**2 + walk**2
        shift[at] = _line(x[at], mean, variance, right[at], sampled[at])
        expected[at] = move(moved, shift[at], walk)
    likelihood = _likelihood(right, sampled)
    posterior = expected * likelihood
    return posterior / posterior.sum(axis=1, keepdims=True), shift, likelihood


def newcomers(counts: Counts, round: int) -> tuple[BoolArray, BoolArray]:
    """Examples measured in ``round`` for the first time, and those measured again, ``[N]`` each."""
    now, seen = counts.measured[round], counts.measured[:round].any(axis=0)
    return now & ~seen, now & seen


def move(belief: FloatArray, shift: FloatArray, walk: float) -> FloatArray:
    """Random walk and shift of distributions ``[N, ..., G]`` by ``[N]``; the ends absorb."""
    walked = belief @ _normal(LOG_ODDS[None, :] - LOG_ODDS[:, None], walk)
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


def best_open(
    counts: Counts, tau: float, samples: int, *, walk: float = WALK
) -> tuple[FloatArray, FloatArray]:
    """Expected best accuracy over rounds that are not memorized, and the last belief.

    Of the joint distribution of (best so far, accuracy now) the walk keeps
    ``P(best <= k / samples, accuracy)``, so that a maximum is a product with a distribution
    function.

    Args:
        counts: measurements.
        tau: memorization threshold, nats per token.
        samples: the best of what this many samples per round would show. A maximum depends on
            it, and a protocol with other counts is comparable only at the same one.
        walk: standard deviation of the random walk.

    Returns:
        the expectation ``[N]``, 0 where no round was open, and the belief ``[N, G]``.
    """
    levels = binom.cdf(np.arange(samples + 1)[:, None], samples, ACCURACY[None, :])
    belief: FloatArray | None = None
    best = np.zeros((counts.right.shape[1], samples + 1, len(ACCURACY)))
    for round in range(len(counts.right)):
        belief, shift, likelihood = advance(belief, counts, round, walk)
        first, later = newcomers(counts, round)
        best[first] = belief[first, None, :]
        moved = move(best[later], shift[later], walk) * likelihood[later, None, :]
        best[later] = moved / moved[:, -1].sum(axis=1)[:, None, None]
        best[counts.mean_nll[round] >= tau] *= levels
    assert belief is not None
    ever = (counts.mean_nll >= tau).any(axis=0)
    expected = (1 - best[:, :-1].sum(axis=2)).sum(axis=1) / samples
    return np.where(ever, expected, 0.0), belief


def _covariates(counts: Counts, round: int) -> FloatArray:
    """One row per example; the last column, the NLL's change, is 0 where there is none before."""
    nll = np.log(np.maximum(counts.mean_nll[round], _LOWEST_NLL))
    columns = [np.ones(len(nll)), nll - np.log(0.3)]  # centred where traces start out
    if counts.tokens is not None:
        columns.append(np.log(np.maximum(counts.tokens, 1)) - np.log(100))
    change = np.zeros(len(nll))
    if round:
        before = counts.before(round)
        change = nll - np.log(np.maximum(before.latest(before.mean_nll), _LOWEST_NLL))
    columns.append(np.nan_to_num(change))
    return np.column_stack(columns)


def _line(
    x: FloatArray, mean: FloatArray, variance: FloatArray, right: IntArray, sampled: IntArray
) -> FloatArray:
    """Shift of the log-odds ``[N]`` as a line on ``x``, by penalized logistic regression.

    The mean of ``expit`` over a normal is close to ``expit(mean / sqrt(1 + pi * variance / 8))``
    (MacKay 1992), which makes the marginal likelihood a logistic regression with an offset.
    """
    shrink = 1 / np.sqrt(1 + np.pi * variance / 8)
    design, offset = x * shrink[:, None], mean * shrink
    weights = np.zeros(x.shape[1])
    for _ in range(8):
        p = expit(offset + design @ weights)
        gradient = design.T @ (right - sampled * p) - _RIDGE * weights
        curvature = (design.T * (sampled * p * (1 - p))) @ design + _RIDGE * np.eye(len(weights))
        weights = weights + np.clip(np.linalg.solve(curvature, gradient), -2, 2)
    shift: FloatArray = x @ weights
    return shift


def _likelihood(right: IntArray, sampled: IntArray) -> FloatArray:
    log = right[:, None] * np.log(ACCURACY) + (sampled - right)[:, None] * np.log1p(-ACCURACY)
    likelihood: FloatArray = np.exp(log - log.max(axis=1, keepdims=True))
    return likelihood


def _normal(distance: FloatArray, sd: float) -> FloatArray:
    log = -0.5 * (distance / sd) ** 2
    density: FloatArray = np.exp(log - log.max(axis=-1, keepdims=True))
    density /= density.sum(axis=-1, keepdims=True)
    return density
