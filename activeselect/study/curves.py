"""Learning curves as pure functions of arrays: monotone, interpolated, inverted, compared.

All functions work along the last axis (budgets) and broadcast over the leading ones, so that a
thousand resampled curves cost about as much as one. The choices: ``docs/guide/statistics.md``.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from activeselect.arrays import FloatArray


def checked_budgets(budgets: ArrayLike) -> FloatArray:
    """The budgets as floats ``[B]``, or a ValueError that says what is wrong with them."""
    grid = np.asarray(budgets, dtype=np.float64)
    if grid.ndim != 1 or grid.size == 0:
        raise ValueError(f"budgets must be a list of at least one number; received {budgets!r}")
    if not np.all(np.isfinite(grid)) or grid[0] <= 0 or np.any(np.diff(grid) <= 0):
        raise ValueError(f"budgets must be positive and strictly increasing; received {budgets!r}")
    return grid


def monotone(accuracy: ArrayLike) -> FloatArray:
    """The nearest non-decreasing curve in least squares (isotonic regression).

    Isotonic regression averages a dip with its neighbours. A running maximum would keep every
    lucky peak, which is biased upward, and the more so the noisier the curve.

    Args:
        accuracy: curves, shape ``[..., B]``.

    Returns:
        float64 array ``[..., B]``, non-decreasing along the last axis, of the same mean.

    Source:
        The max-min formula of Robertson, Wright and Dykstra, Order Restricted Statistical
        Inference (1988), theorem 1.4.4. It vectorises, and curves have few budgets.

    Example:
        >>> monotone([0.50, 0.75, 0.25, 1.0]).tolist()
        [0.5, 0.5, 0.5, 1.0]
    """
    values = np.asarray(accuracy, dtype=np.float64)
    size = values.shape[-1]
    total = np.concatenate([np.zeros((*values.shape[:-1], 1)), np.cumsum(values, -1)], axis=-1)
    start, stop = np.indices((size, size))
    inside = stop >= start
    length = np.where(inside, stop - start + 1, 1)
    means = (total[..., None, 1:] - total[..., :-1, None]) / length  # [..., start, stop]
    diagonal = np.arange(size)
    means[..., diagonal, diagonal] = values  # exact where nothing is pooled
    means[..., ~inside] = np.inf
    lowest = np.minimum.accumulate(means[..., ::-1], axis=-1)[..., ::-1]
    lowest[..., ~inside] = -np.inf
    result: FloatArray = lowest.max(axis=-2)
    return result


def interpolate(budgets: ArrayLike, accuracy: ArrayLike, at: ArrayLike) -> FloatArray:
    """Accuracy of the monotone curve at other budgets, linear in the logarithm of the budget.

    Args:
        budgets: measured budgets, shape ``[B]``.
        accuracy: one measured curve, shape ``[B]``.
        at: budgets to read the curve at, any shape, within the measured range.

    Raises:
        ValueError: if ``at`` leaves the measured range; nothing is extrapolated.

    Example:
        >>> interpolate([100, 400], [0.5, 0.7], at=[200]).round(6).tolist()
        [0.6]
    """
    grid, where = checked_budgets(budgets), np.asarray(at, dtype=np.float64)
    slack = 1e-12 * grid[-1]
    if not np.all((where >= grid[0] - slack) & (where <= grid[-1] + slack)):
        raise ValueError(
            f"accuracy was measured from {grid[0]:g} to {grid[-1]:g} and is not extrapolated; "
            f"received {where.tolist()}"
        )
    return np.asarray(np.interp(np.log(where), np.log(grid), monotone(accuracy)), dtype=np.float64)


def budget_to_reach(budgets: ArrayLike, accuracy: ArrayLike, target: float) -> float:
    """The smallest budget at which the monotone curve reaches an accuracy.

    Args:
        budgets: measured budgets, shape ``[B]``.
        accuracy: one measured curve, shape ``[B]``.
        target: the accuracy to reach.

    Returns:
        The budget (log-linear between measured ones); ``inf`` where the curve stays below the
        target up to the largest budget ("> max"); ``-inf`` where it is above the target from
        the smallest budget on ("< min"). Neither is replaced by the end of the range.

    Example:
        >>> round(budget_to_reach([100, 400], [0.5, 0.7], 0.6), 6)
        200.0
        >>> budget_to_reach([100, 400], [0.5, 0.7], 0.71)
        inf
        >>> budget_to_reach([100, 400], [0.5, 0.7], 0.49)
        -inf
    """
    first, _ = log_reach(np.log(checked_budgets(budgets)), monotone(accuracy), np.asarray([target]))
    value = float(first[0])
    return float(np.exp(value)) if np.isfinite(value) else value


def log_reach(
    log_budgets: FloatArray, curve: FloatArray, target: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """First and last log-budget at which monotone curves are at the targets.

    The two differ only where a curve is flat at exactly the target.

    Args:
        log_budgets: shape ``[..., B]``, broadcast against the curves.
        curve: non-decreasing curves, shape ``[..., B]``.
        target: accuracies, shape ``[..., T]``.

    Returns:
        Two arrays ``[..., T]``; ``inf`` for targets above the curve, ``-inf`` for those below.
    """
    log_budgets, curve = np.broadcast_arrays(log_budgets, curve)
    knots, wanted = curve[..., None, :], target[..., :, None]
    below = (knots < wanted).sum(axis=-1)
    upto = (knots <= wanted).sum(axis=-1)
    first = _between(log_budgets, curve, target, below)
    first = np.where((below == 0) & (upto > 0), log_budgets[..., :1], first)
    last = _between(log_budgets, curve, target, upto)
    at_end = (upto == curve.shape[-1]) & (below < upto)
    return first, np.where(at_end, log_budgets[..., -1:], last)


def _between(
    log_budgets: FloatArray, curve: FloatArray, target: FloatArray, right: NDArray[np.int64]
) -> FloatArray:
    """Log-budget of ``target`` on the segment that ends at knot ``right``; infinite outside."""
    size = curve.shape[-1]
    if size == 1:
        return np.where(right == 0, -np.inf, np.inf)
    end = np.clip(right, 1, size - 1)
    low, left = (_pick(values, end - 1) for values in (curve, log_budgets))
    high, until = (_pick(values, end) for values in (curve, log_budgets))
    rise = np.where(high > low, high - low, 1.0)
    inside = left + (target - low) / rise * (until - left)
    return np.where(right == 0, -np.inf, np.where(right == size, np.inf, inside))


def _pick(values: FloatArray, index: NDArray[np.int64]) -> FloatArray:
    """``values[..., index]`` along the last axis; both broadcast over the leading ones."""
    lead = np.broadcast_shapes(values.shape[:-1], index.shape[:-1])
    values = np.broadcast_to(values, (*lead, values.shape[-1]))
    index = np.broadcast_to(index, (*lead, index.shape[-1]))
    return np.take_along_axis(values, index, axis=-1)


def log_ratio(
    budgets: FloatArray,
    strategy: FloatArray,
    baseline: FloatArray,
    baseline_budgets: FloatArray | None = None,
) -> FloatArray:
    """Log data-efficiency ratio at every budget.

    ``log(n / b)`` where ``n`` is what the baseline needs for the accuracy that the strategy
    reaches at ``b``. Where the baseline is flat at that accuracy, every budget on the flat part
    would do, and the one nearest to ``b`` counts: identical curves give a ratio of exactly 1.

    Args:
        budgets: what the strategy spent, shape ``[..., B]``.
        strategy: measured curves, shape ``[..., B]``.
        baseline: measured curves, shape ``[..., B]``.
        baseline_budgets: what the baseline spent, shape ``[..., B]``; default: the same.

    Returns:
        float64 ``[..., B]``: ``inf`` where the baseline never gets there within the budgets,
        ``-inf`` where it was there before the smallest one.

    Example:
        >>> b = np.array([100.0, 200.0, 400.0])
        >>> np.exp(log_ratio(b, np.array([.6, .7, .8]), np.array([.5, .6, .7]))).round(6).tolist()
        [2.0, 2.0, inf]
    """
    grid = np.log(budgets)
    other = grid if baseline_budgets is None else np.log(baseline_budgets)
    first, last = log_reach(other, monotone(baseline), monotone(strategy))
    return np.asarray(np.clip(grid, first, last) - grid, dtype=np.float64)


def overall_log_ratio(
    budgets: FloatArray,
    strategy: FloatArray,
    baseline: FloatArray,
    baseline_budgets: FloatArray | None = None,
    *,
    grid: int = 65,
) -> FloatArray:
    """Mean log ratio of budgets over all accuracies that both curves passed through.

    The horizontal area between the curves: one number for the whole comparison, free of
    censoring because it looks only where both are measured.

    Args:
        budgets: what the strategy spent, shape ``[..., B]``.
        strategy: measured curves, shape ``[..., B]``.
        baseline: measured curves, shape ``[..., B]``.
        baseline_budgets: what the baseline spent, shape ``[..., B]``; default: the same.
        grid: number of accuracies at which the two are compared.

    Returns:
        float64 ``[...]``; ``inf`` (``-inf``) where the strategy starts above (ends below)
        everything the baseline reached; 0 where the common range is a single accuracy.

    Example:
        >>> b = np.array([100.0, 200.0, 400.0])
        >>> up = np.array([.6, .7, .8])
        >>> round(float(np.exp(overall_log_ratio(b, up, up - .1))), 6)
        2.0
        >>> round(float(np.exp(overall_log_ratio(2 * b, up, up, b))), 6)  # twice the price
        0.5
    """
    ours, theirs = np.broadcast_arrays(monotone(strategy), monotone(baseline))
    low = np.maximum(ours[..., 0], theirs[..., 0])
    high = np.minimum(ours[..., -1], theirs[..., -1])
    share = (np.arange(grid) + 0.5) / grid  # midpoints: the ends are where flat parts lie
    target = low[..., None] + share * (high - low)[..., None]
    own = np.log(budgets)
    other = own if baseline_budgets is None else np.log(baseline_budgets)
    needed = [sum(log_reach(x, y, target)) / 2 for x, y in ((other, theirs), (own, ours))]
    with np.errstate(invalid="ignore"):
        mean = np.where(high > low, np.mean(needed[0] - needed[1], axis=-1), 0.0)
    apart = np.where(ours[..., 0] > theirs[..., -1], np.inf, -np.inf)
    return np.asarray(np.where(high < low, apart, mean), dtype=np.float64)


def mean_gain(
    budgets: FloatArray,
    strategy: FloatArray,
    baseline: FloatArray,
    baseline_budgets: FloatArray | None = None,
    *,
    grid: int = 65,
) -> FloatArray:
    """Mean accuracy gain over the measured range: the vertical area between two curves.

    The raw curves are integrated over the logarithm of the budget and divided by its range, so
    the gain is in accuracy and linear in the measurements.

    Args:
        budgets: what the strategy spent, shape ``[..., B]``.
        strategy: measured curves, shape ``[..., B]``.
        baseline: measured curves, shape ``[..., B]``.
        baseline_budgets: what the baseline spent, shape ``[..., B]``; default: the same. With
            budgets of their own, curves are compared over the range that both measured.
        grid: number of budgets at which such curves are compared.

    Returns:
        float64 ``[...]``; NaN where the two have no range in common.

    Example:
        >>> b = np.array([100.0, 400.0])
        >>> float(mean_gain(b, np.array([.5, .7]), np.array([.5, .5])).round(6))
        0.1
        >>> float(mean_gain(b, np.array([.5, .7]), np.array([.5, .7]), b / 2).round(6))
        -0.1
    """
    strategy = np.asarray(strategy, dtype=np.float64)
    own = np.log(budgets)
    if baseline_budgets is None:
        gap = strategy - baseline
        if own.shape[-1] == 1:
            return np.asarray(gap[..., 0], dtype=np.float64)
        area = np.sum((gap[..., 1:] + gap[..., :-1]) / 2 * np.diff(own), axis=-1)
        return np.asarray(area / (own[..., -1] - own[..., 0]), dtype=np.float64)
    other = np.log(baseline_budgets)
    low = np.maximum(own[..., :1], other[..., :1])
    high = np.minimum(own[..., -1:], other[..., -1:])
    at = low + (np.arange(grid) + 0.5) / grid * (high - low)
    # reading a curve is inverting it with the axes exchanged
    ours, theirs = (log_reach(y, x, at)[0] for x, y in ((own, strategy), (other, baseline)))
    with np.errstate(invalid="ignore"):
        gap = (ours - theirs).mean(axis=-1)
    return np.asarray(np.where((high > low)[..., 0], gap, np.nan), dtype=np.float64)
