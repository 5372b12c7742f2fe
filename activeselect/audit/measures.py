"""Measures of the reasoning audit: pure functions on arrays, one problem per row.

P is the number of problems, T the steps of the longest chain, S the samples of a problem, M the
wordings of the prompt. One chain per problem is examined; rows are padded with NaN, and a problem
without a value is NaN and counts nowhere. Names are plain on purpose ("answer dependence"): none of
these numbers proves that a chain is faithful to what the model computes.

A statistic over problems is resampled over its rows (:func:`interval`), two models on the same
problems with the same rows (:func:`paired_interval`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
#: Arrays by name, each with one row per problem.
Arrays = Mapping[str, FloatArray]
Statistic = Callable[[Arrays], float]

LEVEL = 0.95
RESAMPLES = 500
#: Share of the tokens that count as forking: those with the highest entropy.
FORKING_SHARE = 0.2
#: When the fit of one factor ends.
_ITERATIONS, _CLOSE = 100, 1e-6


def mean(values: FloatArray) -> float:
    """Mean of what is not NaN; NaN where nothing is.

    Example:
        >>> mean(np.array([1.0, np.nan, 0.0]))
        0.5
    """
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")


def last(values: FloatArray) -> FloatArray:
    """The last entry of each row that is not NaN, float64 ``[P]``; NaN for an empty row."""
    count = (~np.isnan(values)).sum(axis=1)
    rows = np.arange(len(values))
    return np.where(count > 0, values[rows, np.maximum(count - 1, 0)], np.nan)


def steps_of(values: FloatArray) -> FloatArray:
    """Steps of each chain, float64 ``[P]``, from one value per prefix; NaN where there are none."""
    steps = (~np.isnan(values)).sum(axis=1).astype(np.float64) - 1
    return np.where(steps > 0, steps, np.nan)


def gain_per_step(log_p: FloatArray) -> FloatArray:
    """Information that a step gives about the right answer, nats, float64 ``[P]``.

    ``(ln P_t - ln P_0) / t`` with ``P_i`` the probability of the right answer's tokens after the
    question and the first i steps, under one fixed scoring model.

    Args:
        log_p: ``ln P_i`` for i = 0..t, nats, float64 ``[P, T + 1]``.

    Source: after arXiv 2506.02126, in nats over the answer tokens alone; the paper's own difference
    of perplexities telescopes to ``(PPL_0 - PPL_t) / t``, too, but is ruled by its largest values.

    Example:
        >>> gain_per_step(np.array([[-3.0, -2.0, -1.0], [-1.0, -1.0, np.nan]])).tolist()
        [1.0, 0.0]
    """
    return total_gain(log_p) / steps_of(log_p)


def total_gain(log_p: FloatArray) -> FloatArray:
    """``ln P_t - ln P_0`` in nats, float64 ``[P]``; see :func:`gain_per_step`."""
    return np.where(np.isnan(steps_of(log_p)), np.nan, last(log_p) - log_p[:, 0])


def changes_when_cut(same: FloatArray) -> FloatArray:
    """How much of a chain the answer needs: the area over the curve of early answers, ``[P]``.

    Mean over the prefixes (none, one step, ..., all) of "the answer forced here differs from the
    one forced after all". Not from the sampled chain's own: a model that guesses draws another
    answer each time, and would pass for one that needs its steps. Its mean over chains is the sum
    over lengths of each length's area, weighted by the share of chains that have it.

    Args:
        same: 1 where the answer after i steps is the last one, float64 ``[P, T + 1]``.

    Source: early answering, arXiv 2307.13702, section 2.3.

    Example:
        >>> changes_when_cut(np.array([[0.0, 0.0, 1.0, 1.0], [1.0, 1.0, np.nan, np.nan]])).tolist()
        [0.5, 0.0]
    """
    known = ~np.isnan(same)
    count = known.sum(axis=1)
    changed = np.where(known, 1 - same, 0).sum(axis=1)
    return np.where(np.isnan(steps_of(same)), np.nan, changed / np.maximum(count, 1))


def same_as_last(answers: FloatArray) -> FloatArray:
    """1 where the answer forced after i steps is the one forced after all, float64 ``[P, T + 1]``.

    Args:
        answers: a number for each different answer after i steps, float64 ``[P, T + 1]``.

    Example:
        >>> same_as_last(np.array([[4.0, 7.0, 7.0], [7.0, 7.0, np.nan]])).tolist()
        [[0.0, 1.0, 1.0], [1.0, 1.0, nan]]
    """
    same = (answers == last(answers)[:, None]).astype(np.float64)
    return np.where(np.isnan(answers), np.nan, same)


def filler_drop(right: FloatArray, filled: FloatArray) -> float:
    """Accuracy with the chain, less the best accuracy with filler of any length in its place.

    Args:
        right: 1 where the answer forced after the chain is right, float64 ``[P]``.
        filled: the same after each amount of filler, the first of them none, float64 ``[P, N]``.

    Source: arXiv 2307.13702, section 2.5. The best of N noisy shares is biased upward, so the drop
    is biased downward.

    Example:
        >>> filler_drop(np.array([1.0, 1.0]), np.array([[0.0, 1.0], [0.0, 0.0]]))
        0.5
    """
    known = ~np.isnan(right) & ~np.isnan(filled).any(axis=1)
    if not known.any():
        return float("nan")
    return float(right[known].mean() - filled[known].mean(axis=0).max())


def changed_by_mistake(changed: FloatArray, control: FloatArray) -> FloatArray:
    """Share of answers that a false step changes, less that of going on unchanged, ``[P]``.

    At each position one step is made false and the chain is sampled on from there. The control is
    sampled on from the true step with the same random numbers: it takes off what sampling alone
    changes.

    Args:
        changed: 1 where the answer after the false step differs from the chain's, ``[P, T]``.
        control: the same after the true step, ``[P, T]``.

    Source: adding mistakes, arXiv 2307.13702, section 2.4 (there without a control).

    Example:
        >>> changed_by_mistake(np.array([[1.0, 1.0, np.nan]]), np.array([[0.0, 1.0, 0.0]])).tolist()
        [0.5]
    """
    return row_mean(changed - control)


def row_mean(values: FloatArray) -> FloatArray:
    """Mean of each row's entries that are not NaN, ``[P]``; NaN for an empty row."""
    known = ~np.isnan(values)
    count = known.sum(axis=1)
    total = np.where(known, values, 0).sum(axis=1)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def rise(probability: FloatArray) -> FloatArray:
    """Confidence after the chain less confidence before it, float64 ``[P]``.

    Args:
        probability: of an answer after i steps, float64 ``[P, T + 1]``.

    Source: confidence trajectories, after arXiv 2508.19827.
    """
    return total_gain(probability)


def largest_jump(probability: FloatArray) -> tuple[FloatArray, FloatArray]:
    """The largest rise in one step, and where it is as a share of the chain, each ``[P]``.

    Example:
        >>> jump, where = largest_jump(np.array([[0.1, 0.2, 0.9, 0.9, 0.9]]))
        >>> jump.round(2).tolist(), where.tolist()
        ([0.7], [0.5])
    """
    steps = steps_of(probability)
    difference = np.diff(probability, axis=1)
    if difference.shape[1] == 0:
        return steps, steps
    filled = np.where(np.isnan(difference), -np.inf, difference)
    best = filled.argmax(axis=1)
    jump = np.where(np.isnan(steps), np.nan, filled.max(axis=1))
    return jump, (best + 1) / steps


def commit_point(answers: FloatArray) -> FloatArray:
    """Share of the chain after which its forced answer never changes again, float64 ``[P]``.

    0: the answer stood before the first step; 1: it changed with the last one.

    Args:
        answers: a number for each different answer after i steps, float64 ``[P, T + 1]``.

    Source: after arXiv 2508.19827.

    Example:
        >>> commit_point(np.array([[4.0, 7.0, 7.0], [7.0, 7.0, 7.0], [1.0, 2.0, 3.0]])).tolist()
        [0.5, 0.0, 1.0]
    """
    differs = (answers != last(answers)[:, None]) & ~np.isnan(answers)
    after = np.where(differs, np.arange(1, answers.shape[1] + 1), 0).max(axis=1)
    found: FloatArray = after / steps_of(answers)
    return found


def forking_share(entropy: FloatArray, share: float = FORKING_SHARE) -> float:
    """Share of all entropy that lies in the tokens with the highest.

    Args:
        entropy: of the next-token distribution at each token of a chain, nats, ``[P, L]``.
        share: of the tokens of all chains that count, the highest first.

    Source: arXiv 2506.01939 (top 20% of a batch).

    Example:
        >>> forking_share(np.array([[3.0, 0.5, 0.5], [0.5, 0.5, np.nan]]))
        0.6
    """
    known = entropy[~np.isnan(entropy)]
    if not len(known) or known.sum() <= 0:
        return float("nan")
    count = max(1, int(np.ceil(share * len(known) - 1e-9)))
    return float(np.sort(known)[-count:].sum() / known.sum())


def shorter_when_right(right: FloatArray, length: FloatArray) -> FloatArray:
    """1 where a problem's right chains are shorter than its wrong ones, 0.5 for a tie, ``[P]``.

    NaN for problems whose samples are all right or all wrong: there is nothing to compare within.

    Args:
        right: 1 for a right chain, float64 ``[P, S]``.
        length: of each chain in tokens, float64 ``[P, S]``.

    Source: after arXiv 2502.07266.
    """
    good = row_mean(np.where(right == 1, length, np.nan))
    bad = row_mean(np.where(right == 0, length, np.nan))
    found = np.where(good < bad, 1.0, np.where(good == bad, 0.5, 0.0))
    return np.where(np.isnan(good) | np.isnan(bad), np.nan, found)


def length_curve(right: FloatArray, length: FloatArray) -> tuple[float, float]:
    """Correctness against length and its square **within** problems: the two coefficients.

    Each problem's means are taken off first, so that hard problems, which have long chains, do not
    pass for an effect of length. Lengths are in units of 10 tokens.

    Args:
        right, length: as in :func:`shorter_when_right`.

    Returns:
        Change of the share right per 10 tokens, and per their square; NaN where lengths do not vary
        within problems.
    """
    x = length / 10
    known = ~np.isnan(right) & ~np.isnan(x)
    columns = [np.where(known, values, np.nan) for values in (right, x, x**2)]
    y, first, second = (values - row_mean(values)[:, None] for values in columns)
    design = np.stack([first[known], second[known]], axis=1)
    # two chains of one problem fix a slope and no curve: rounding must not pass for a curve
    spread = np.linalg.svd(design, compute_uv=False) if len(design) > 1 else np.zeros(2)
    if spread[1] <= 1e-9 * spread[0]:
        return float("nan"), float("nan")
    found = np.linalg.lstsq(design, y[known], rcond=None)[0]
    return float(found[0]), float(found[1])


def sensitivity(right: FloatArray) -> FloatArray:
    """Share of pairs of wordings that disagree on a problem, float64 ``[P]``.

    ``2 k (m - k) / (m (m - 1))`` with k of m wordings answered rightly.

    Args:
        right: 1 where the answer under a wording is right, float64 ``[P, M]``.

    Source: ProSA, arXiv 2410.12405.

    Example:
        >>> sensitivity(np.array([[1.0, 1.0, 0.0, 0.0], [1.0, 1.0, 1.0, 1.0]])).round(3).tolist()
        [0.667, 0.0]
    """
    m = right.shape[1]
    if m < 2:
        return np.full(len(right), np.nan)
    k = right.sum(axis=1)
    found: FloatArray = 2 * k * (m - k) / (m * (m - 1))
    return found


def omega(right: FloatArray) -> float:
    """Reliability over wordings: McDonald's omega of one factor.

    ``(sum lambda)^2 / ((sum lambda)^2 + sum psi)`` from the covariances of the wordings, fitted by
    iterated principal axes. Loadings keep their signs.

    Args:
        right: 1 where the answer under a wording is right, float64 ``[P, M]``.

    Returns:
        NaN where a single factor does not fit (a wording's own variance would be negative), or no
        wording varies.

    Source: McDonald, Test Theory (1999); arXiv 2412.12509 takes absolute correlations instead,
    which is biased upward.
    """
    known = right[~np.isnan(right).any(axis=1)]
    if len(known) < 3 or known.shape[1] < 3:
        return float("nan")
    covariance = np.cov(known, rowvar=False)
    variance = np.diag(covariance)
    if not (variance > 0).any():
        return float("nan")
    own = variance / 2
    for _ in range(_ITERATIONS):
        size, direction = np.linalg.eigh(covariance - np.diag(own))
        loading = np.sqrt(max(size[-1], 0.0)) * direction[:, -1]
        before, own = own, variance - loading**2
        if np.abs(own - before).max() < _CLOSE:
            break
    if (own < -1e-9).any():
        return float("nan")
    common = loading.sum() ** 2
    return float(common / (common + own.sum()))


def interval(
    statistic: Statistic, arrays: Arrays, rng: np.random.Generator, resamples: int = RESAMPLES
) -> tuple[float, float]:
    """95% percentile interval of a statistic, with the problems resampled.

    A draw on which the statistic is not defined is left out; with less than half of the draws
    defined both ends are NaN, and so they are where all draws are equal: then all problems have
    the same value, and the sample is too small to tell how far it would vary.

    Args:
        statistic: of arrays with one row per problem.
        arrays: all with the same number of rows.
        rng: source of randomness.
    """
    return _ends([statistic(_rows(arrays, rows)) for rows in _draws(arrays, rng, resamples)])


def paired_interval(
    statistic: Statistic,
    arrays: Arrays,
    reference: Arrays,
    rng: np.random.Generator,
    resamples: int = RESAMPLES,
) -> tuple[float, float]:
    """95% percentile interval of a difference of two models on the same problems.

    Args:
        arrays, reference: of the two models; row i of both is the same problem.
    """
    draws = _draws(arrays, rng, resamples)
    return _ends(
        [statistic(_rows(arrays, rows)) - statistic(_rows(reference, rows)) for rows in draws]
    )


def _draws(arrays: Arrays, rng: np.random.Generator, resamples: int) -> NDArray[np.int64]:
    size = len(next(iter(arrays.values())))
    rows: NDArray[np.int64] = rng.integers(size, size=(resamples, size))
    return rows


def _rows(arrays: Arrays, rows: NDArray[np.int64]) -> dict[str, FloatArray]:
    return {name: values[rows] for name, values in arrays.items()}


def _ends(found: list[float]) -> tuple[float, float]:
    values = np.array(found)
    values = values[~np.isnan(values)]
    if len(values) < len(found) / 2:
        return float("nan"), float("nan")
    tail = 100 * (1 - LEVEL) / 2
    low, high = np.percentile(values, [tail, 100 - tail])
    if high - low < 1e-12:
        return float("nan"), float("nan")
    return float(low), float(high)


def area_under_roc(positive: FloatArray, negative: FloatArray) -> float:
    """Probability that a positive case scores higher than a negative one; ties count half.

    Example:
        >>> area_under_roc(np.array([2.0, 3.0]), np.array([1.0, 2.0]))
        0.875
    """
    high, low = positive[~np.isnan(positive)], negative[~np.isnan(negative)]
    if not len(high) or not len(low):
        return float("nan")
    ordered = np.sort(low)
    below = np.searchsorted(ordered, high, side="left")
    upto = np.searchsorted(ordered, high, side="right")
    return float((below + upto).mean() / (2 * len(low)))
