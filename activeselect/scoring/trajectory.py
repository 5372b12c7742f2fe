"""What is believed about each example's accuracy, round by round, from a few samples (numpy).

The log-odds of an example's accuracy start near a line on the log of its mean NLL (and on features
of its text, where known) and move from round to round by a drift, again such a line, and a random
walk. Samples are binomial. The lines and both standard deviations, at the start and of the walk,
are those under which the samples of the round are likeliest: a run fits them to itself.

Beliefs are distributions on a grid of log-odds, so the posterior of the accuracy, and of the
*maximum over noisy rounds* that pre-memorization accuracy is made of, are sums and not
approximations: the maximum has none of the upward bias of a maximum over sampled shares.

A round in which an example was not measured does not exist for it: the first measured one is its
first. Only the fits are shared between examples.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.stats import binom

from activeselect.arrays import BoolArray, FloatArray, IntArray
from activeselect.scoring.walk import (
    ACCURACY,
    LOG_ODDS,
    fit_line,
    likeliest,
    likelihood,
    move,
    walk,
)

SPREAD = 2.0  # usual sd of the log-odds around the first round's line
WALK = 1.2  # usual sd of the random walk from round to round
_Line = tuple[FloatArray, float]
_Units = tuple[FloatArray, FloatArray]
LOWEST_NLL = 1e-4
_FEATURE = 0.3  # log-odds that a standard deviation of a feature is expected to move
_EQUAL = 1e-9  # deviation of a column that is constant but for rounding
_ENOUGH = 20_000  # examples to fit a line and a standard deviation to
_ROWS = 1 << 13  # examples at a time, so that what is worked on stays in the cache


@dataclass(frozen=True)
class Counts:
    """What has been measured of N examples in R rounds, the current one last.

    Attributes:
        right: completions with the right answer, int ``[R, N]``.
        sampled: completions sampled, int ``[R, N]``.
        mean_nll: of the reference trace, nats per token, ``[R, N]``; NaN where the example was not
            measured in that round (then it must not be sampled either).
        features: of the texts, ``[N, F]``, standardized
            (:func:`activeselect.scoring.text_features.text_features`); None where unknown.

    Raises:
        ValueError: if the shapes differ, a count is impossible, an NLL is infinite, a feature is no
            finite number, or an example was sampled without its NLL.
    """

    right: IntArray
    sampled: IntArray
    mean_nll: FloatArray
    features: FloatArray | None = None

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
        if self.features is not None:
            if self.features.ndim != 2 or len(self.features) != shapes[0][1]:
                raise ValueError(
                    f"features must be [{shapes[0][1]}, F]; received {self.features.shape}"
                )
            if not np.all(np.isfinite(self.features)):
                raise ValueError("features must be finite; received NaN or inf")

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
        known = (self.right[:round], self.sampled[:round], self.mean_nll[:round])
        return Counts(*known, self.features)


@dataclass(frozen=True)
class Step:
    """The fits of one round: shifts ``[N]`` and standard deviations."""

    shift: FloatArray
    spread: float  # of examples that are new, around their line
    walk: float  # of the others


def beliefs(counts: Counts, start: FloatArray | None = None, *, fit: bool = True) -> FloatArray:
    """Distribution of each example's accuracy after the last round, ``[N, G]`` on ``ACCURACY``.

    Args:
        counts: measurements, R rounds.
        start: the same of the first R - 1 rounds, to save the walk through them.
        fit: the last round's standard deviations too; else the usual ones are taken.
    """
    last = len(counts.right) - 1
    if start is None:
        start = _unknown(counts.right.shape[1])
        for round in range(last):
            start, _ = advance(start, counts, round)
    return advance(start, counts, last, fit=fit)[0]


def advance(
    belief: FloatArray, counts: Counts, round: int, *, fit: bool = True
) -> tuple[FloatArray, Step]:
    """The belief after one more round, ``[N, G]``, and what was fitted in it."""
    right, sampled, x = counts.right[round], counts.sampled[round], _covariates(counts, round)
    after, shift, sds = belief.copy(), np.zeros(len(right)), [SPREAD, WALK]
    for kind, which in enumerate(newcomers(counts, round)):
        at = np.flatnonzero(which)
        if not len(at):
            continue
        known = _spread_out(at[sampled[at] > 0], counts.mean_nll[round])
        columns = slice(None, None if kind else -1)  # a new example has no earlier NLL
        units = _units(x[at, columns], counts)

        def line(
            sd: float, at: IntArray = known, columns: slice = columns, units: _Units = units
        ) -> _Line:
            return fit_line(x[at, columns], walk(belief[at], sd), right[at], sampled[at], units)

        if fit and len(known):
            sds[kind] = likeliest(sds[kind], line)
        shift[at] = x[at, columns] @ line(sds[kind])[0]
        for rows in _chunks(at):
            posterior = move(walk(belief[rows], sds[kind]), shift[rows])
            posterior *= likelihood(right[rows], sampled[rows])
            after[rows] = posterior / posterior.sum(axis=1, keepdims=True)
    return after, Step(shift, *sds)


def newcomers(counts: Counts, round: int) -> tuple[BoolArray, BoolArray]:
    """Examples measured in ``round`` for the first time, and those measured again, ``[N]`` each."""
    now, seen = counts.measured[round], counts.measured[:round].any(axis=0)
    return now & ~seen, now & seen


def best_open(counts: Counts, tau: float, samples: int) -> tuple[FloatArray, FloatArray]:
    """Expected best accuracy over rounds that are not memorized, and the last belief.

    Of the joint distribution of (best so far, accuracy now) the walk keeps
    ``P(best <= k / samples, accuracy)``, so that a maximum is a product with a distribution
    function.

    Args:
        counts: measurements.
        tau: memorization threshold, nats per token.
        samples: the best of what this many samples per round would show. A maximum depends on
            it, and a protocol with other counts is comparable only at the same one.

    Returns:
        the expectation ``[N]``, 0 where no round was open, and the belief ``[N, G]``.
    """
    belief, steps = _unknown(counts.right.shape[1]), []
    for round in range(len(counts.right)):
        belief, step = advance(belief, counts, round)
        steps.append(step)
    expected = np.zeros(len(belief))
    for rows in _chunks(np.flatnonzero((counts.mean_nll >= tau).any(axis=0))):
        expected[rows] = _best_of(counts, rows, steps, tau, samples)
    return expected, belief


def _best_of(
    counts: Counts, rows: IntArray, steps: list[Step], tau: float, samples: int
) -> FloatArray:
    """:func:`best_open` of some examples, from fits of all."""
    levels = binom.cdf(np.arange(samples + 1)[:, None], samples, ACCURACY[None, :])
    opened, sampled = counts.mean_nll[:, rows] >= tau, counts.sampled[:, rows]
    matters = (opened | (sampled > 0))[::-1].cumsum(axis=0)[::-1] > 0  # now or later
    best = np.repeat(_unknown(len(rows))[:, None, :], samples + 1, axis=1)
    for round, step in enumerate(steps):
        for which, sd in zip(newcomers(counts, round), (step.spread, step.walk), strict=True):
            here = np.flatnonzero(which[rows] & matters[round])
            moved = move(walk(best[here], sd), step.shift[rows[here]])
            moved *= likelihood(counts.right[round, rows[here]], sampled[round, here])[:, None]
            best[here] = moved / moved[:, -1].sum(axis=1)[:, None, None]
        best[opened[round]] *= levels
    below: FloatArray = best[:, :-1].sum(axis=2) / best[:, -1:].sum(axis=2)
    expected: FloatArray = 1 - below.mean(axis=1)
    return expected


def _unknown(size: int) -> FloatArray:
    """Where examples start from before they are measured, ``[N, G]``: even odds."""
    return np.repeat((LOG_ODDS == 0).astype(np.float64)[None, :], size, axis=0)


def _spread_out(rows: IntArray, mean_nll: FloatArray) -> IntArray:
    """All rows, or enough for a fit, spread evenly over the NLLs."""
    order = rows[np.argsort(mean_nll[rows], kind="stable")]
    return order[:: -(-len(rows) // _ENOUGH)] if len(rows) > _ENOUGH else rows


def _chunks(rows: IntArray) -> Iterator[IntArray]:
    for start in range(0, len(rows), _ROWS):
        yield rows[start : start + _ROWS]


def _covariates(counts: Counts, round: int) -> FloatArray:
    """One row per example; the last column, the NLL's change, is 0 where there is none before."""
    nll = np.log(np.maximum(counts.mean_nll[round], LOWEST_NLL))
    columns = [np.ones(len(nll)), nll - np.log(0.3)]  # centred where traces start out
    if counts.features is not None:
        columns.extend(counts.features.T)
    change = np.zeros(len(nll))
    if round:
        before = counts.before(round)
        change = nll - np.log(np.maximum(before.latest(before.mean_nll), LOWEST_NLL))
    columns.append(np.nan_to_num(change))
    return np.column_stack(columns)


def _units(x: FloatArray, counts: Counts) -> _Units:
    """Middle of each column ``[p]``, and how large its coefficient is expected to be.

    So large that the column moves as much as log-odds usually differ, a feature a little. NLLs may
    lie close together and yet tell all; a penalty on the bare coefficient would forbid such a line.
    """
    moves = np.full(x.shape[1], SPREAD)
    if counts.features is not None:
        moves[2 : 2 + counts.features.shape[1]] = _FEATURE
    middle, deviation = x.mean(axis=0), x.std(axis=0)
    middle[0] = 0.0  # the intercept
    return middle, moves / np.where(deviation > _EQUAL, deviation, 1.0)
