"""Slow, independent versions of ``activeselect.study`` statistics: loops, bisection, textbook t."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from scipy import integrate, optimize, stats


def pool_adjacent_violators(values: Sequence[float]) -> list[float]:
    """Isotonic regression with the stack algorithm (the package uses the max-min formula)."""
    blocks: list[tuple[float, int]] = []
    for value in values:
        blocks.append((float(value), 1))
        while len(blocks) > 1 and blocks[-2][0] >= blocks[-1][0]:
            (right, n_right), (left, n_left) = blocks.pop(), blocks.pop()
            size = n_left + n_right
            blocks.append(((left * n_left + right * n_right) / size, size))
    return [value for value, size in blocks for _ in range(size)]


def curve_function(budgets: Sequence[float], accuracy: Sequence[float]) -> Callable[[float], float]:
    """The monotone curve as a function of the log-budget, segment by segment."""
    heights = pool_adjacent_violators(accuracy)
    xs = [math.log(b) for b in budgets]

    def at(x: float) -> float:
        for x0, x1, y0, y1 in zip(xs, xs[1:], heights, heights[1:], strict=False):
            if x0 - 1e-12 <= x <= x1 + 1e-12:
                return y0 + (y1 - y0) * (x - x0) / (x1 - x0)
        raise ValueError(f"{x} is outside the measured range")

    return at


def budget_to_reach(budgets: Sequence[float], accuracy: Sequence[float], target: float) -> float:
    """Inverse of a strictly increasing curve by root finding; infinite outside its range."""
    curve, heights = curve_function(budgets, accuracy), pool_adjacent_violators(accuracy)
    if not heights[0] <= target <= heights[-1]:
        return math.inf if target > heights[-1] else -math.inf
    for end in (0, -1):  # root finding needs a change of sign, which the ends may lack
        if math.isclose(target, heights[end], rel_tol=1e-12, abs_tol=1e-15):
            return float(budgets[end])
    low, high = math.log(budgets[0]), math.log(budgets[-1])
    return math.exp(optimize.brentq(lambda x: curve(x) - target, low, high, xtol=1e-13))


def overall_ratio(
    budgets: Sequence[float], strategy: Sequence[float], baseline: Sequence[float]
) -> float:
    """Geometric mean ratio over the common accuracies, by adaptive quadrature."""
    ours, theirs = pool_adjacent_violators(strategy), pool_adjacent_violators(baseline)
    low, high = max(ours[0], theirs[0]), min(ours[-1], theirs[-1])

    def gap(target: float) -> float:
        return math.log(
            budget_to_reach(budgets, baseline, target) / budget_to_reach(budgets, strategy, target)
        )

    knots = sorted(y for y in {*ours, *theirs} if low < y < high)
    area = 0.0
    for start, stop in zip([low, *knots], [*knots, high], strict=True):
        inset = 1e-9 * (stop - start)
        area += integrate.quad(gap, start + inset, stop - inset)[0]
    return math.exp(area / (high - low))


def ratio_interval_by_test_inversion(
    budgets: Sequence[float],
    strategy: np.ndarray,
    baseline: np.ndarray,
    index: int,
    level: float,
    steps: int = 1500,
) -> tuple[float, float]:
    """All ratios r that a paired t-test of strategy(b) = baseline(r b) does not reject.

    ``strategy`` and ``baseline`` are accuracies ``[S, B]``. Each seed's own baseline curve is
    read at ``r b`` by straight lines, with no monotone fit: exact under normal seeds (Fieller).
    Returns the ends of the accepted set within the range that can be measured.
    """
    xs = np.log(np.asarray(budgets, dtype=float))
    seeds = strategy.shape[0]
    critical = stats.t.ppf((1 + level) / 2, seeds - 1)
    accepted = []
    for x in np.linspace(xs[0], xs[-1], steps):
        gap = [strategy[s, index] - np.interp(x, xs, baseline[s]) for s in range(seeds)]
        error = np.std(gap, ddof=1) / math.sqrt(seeds)
        if abs(np.mean(gap)) <= critical * error:
            accepted.append(math.exp(x - xs[index]))
    return min(accepted), max(accepted)
