"""How much data a strategy saves: ratios, areas and shares of the oracle's gain, with intervals.

The one entry point of a study is :func:`analyse`; the rows it returns go into ``results.json``.
Reasons and the measured coverage of the intervals: ``docs/statistics.md``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from activeselect.study.curve_set import CurveSet, names_or_error
from activeselect.study.curves import (
    FloatArray,
    log_ratio,
    mean_gain,
    monotone,
    overall_log_ratio,
)
from activeselect.study.resampling import RESAMPLES, interval, means, resample
from activeselect.study.verdicts import efficiency_verdict, share_verdict, whole_curve_verdict

Row = dict[str, Any]
Drawn = dict[str, FloatArray]


@dataclass(frozen=True)
class Analysis:
    """What the measurements of one dataset say.

    Attributes:
        efficiency: one row per strategy and budget, and one per strategy with ``budget`` None:
            the mean over all accuracies that both curves passed through.
        targets: one row per strategy and *baseline* budget: the ratio of data needed for the
            accuracy that the baseline reaches there.
        gain: mean accuracy gain over the measured range, one row per strategy.
        oracle_share: share of the oracle's gain, one row per strategy (empty without oracle).
        verdicts: one sentence per strategy, on the whole curve.
    """

    efficiency: list[Row]
    targets: list[Row]
    gain: list[Row]
    oracle_share: list[Row]
    verdicts: list[str]


def analyse(
    curves: CurveSet,
    baseline: str,
    *,
    oracle: str | None = None,
    level: float = 0.95,
    resamples: int = RESAMPLES,
    rng: np.random.Generator,
) -> Analysis:
    """Compare every strategy with the baseline, with intervals over seeds and test examples.

    Args:
        curves: the measurements of one dataset.
        baseline: name of the strategy to compare with, usually ``random``.
        oracle: name of the oracle allocation, if it was run.
        level: coverage of the intervals; ``1 - 0.05 / m`` for ``m`` simultaneous comparisons.
        resamples: number of resampled curves.
        rng: source of randomness.

    Raises:
        ValueError: if a name is not among the strategies, or ``level`` is not in (0, 1).

    Example:
        >>> rng = np.random.default_rng(0)
        >>> def answers(p): return rng.random((5, 3, 1000)) < np.array(p)[:, None]
        >>> curves = CurveSet([100, 200, 400],
        ...     {"random": answers([.5, .6, .7]), "premem": answers([.5, .7, .8])})
        >>> row = analyse(curves, "random", rng=rng).efficiency[1]
        >>> row["budget"], 1.7 < row["ratio"] < 2.3, row["evidence"]
        (200, True, 'better')
    """
    names_or_error(curves, [baseline, *([oracle] if oracle is not None else [])])
    drawn = resample(curves, resamples, rng) if curves.seeds > 1 else None
    others = [name for name in curves.strategies if name != baseline]
    efficiency: list[Row] = []
    targets: list[Row] = []
    gain: list[Row] = []
    share: list[Row] = []
    for name in others:
        rows = _efficiency_rows(curves, drawn, name, baseline, level)
        gain.append(_gain_row(curves, drawn, name, baseline, level))
        rows[-1]["verdict"] = whole_curve_verdict(rows[-1], gain[-1])
        efficiency += rows
        targets += _target_rows(curves, drawn, name, baseline, level)
        if oracle is not None and name != oracle:
            share.append(_share_row(curves, drawn, name, baseline, oracle, level))
    verdicts = [row["verdict"] for row in efficiency if row["budget"] is None]
    verdicts += [share_verdict(row, oracle) for row in share if oracle is not None]
    return Analysis(efficiency, targets, gain, share, verdicts)


def _efficiency_rows(
    curves: CurveSet,
    drawn: Drawn | None,
    name: str,
    baseline: str,
    level: float,
) -> list[Row]:
    """One row per budget at which the two differ, then the row of the whole curve."""
    point, budgets = means(curves), curves.budgets
    ratios = log_ratio(budgets, point[name], point[baseline])
    draws = None if drawn is None else log_ratio(budgets, drawn[name], drawn[baseline])
    heights = monotone(point[name])
    rows: list[Row] = [
        {"target_accuracy": float(heights[i]), "budget": _number(budgets[i])}
        | _estimate(ratios[i], None if draws is None else draws[:, i], level)
        | {"bounds": (budgets[0] / budgets[i], budgets[-1] / budgets[i])}
        for i in _distinct(curves, name, baseline)
    ]
    overall = overall_log_ratio(budgets, point[name], point[baseline])
    draws = None if drawn is None else overall_log_ratio(budgets, drawn[name], drawn[baseline])
    whole = {"target_accuracy": None, "budget": None, "bounds": (None, None)}
    rows.append(whole | _estimate(overall, draws, level))
    common = {"strategy": name, "baseline": baseline, "cost": curves.cost}
    return [_finished(common | row, curves) for row in rows]


def _target_rows(
    curves: CurveSet,
    drawn: Drawn | None,
    name: str,
    baseline: str,
    level: float,
) -> list[Row]:
    """The same comparison from the other side: what the strategy needs for a given accuracy.

    The ratio at the baseline's budget b is b divided by what the strategy needs, which says
    something at the largest budget too, where the other rows have reached the end of the range.
    """
    point, budgets = means(curves), curves.budgets
    ratios = -log_ratio(budgets, point[baseline], point[name])
    draws = None if drawn is None else -log_ratio(budgets, drawn[baseline], drawn[name])
    heights = monotone(point[baseline])
    common = {"strategy": name, "baseline": baseline, "cost": curves.cost, "anchor": "baseline"}
    rows = []
    for i in _distinct(curves, name, baseline):
        row = common | {"target_accuracy": float(heights[i]), "budget": _number(budgets[i])}
        row |= _estimate(ratios[i], None if draws is None else draws[:, i], level)
        bounds = (budgets[i] / budgets[-1], budgets[i] / budgets[0])
        rows.append(_finished(row | {"bounds": bounds}, curves))
    return rows


def _distinct(curves: CurveSet, name: str, baseline: str) -> list[int]:
    """Budgets with different answers; at the shared initial set the model is the very same."""
    ours, theirs = curves.correct[name], curves.correct[baseline]
    pairs = range(curves.budgets.size)
    return [i for i in pairs if not np.array_equal(ours[:, i], theirs[:, i])]


def _estimate(log_value: FloatArray, draws: FloatArray | None, level: float) -> Row:
    """Log ratio, log interval and evidence of one comparison; still infinite where censored."""
    row: Row = {"log": float(log_value), "level": level}
    if draws is None:
        none = {"log_low": None, "log_high": None, "probability_of_improvement": None}
        return row | none | {"evidence": "unknown"}
    low, high = (float(end) for end in interval(draws, level))
    # A tie counts half: two equal strategies are at 0.5.
    probability = float(np.mean(draws > 0) + np.mean(draws == 0) / 2)
    evidence = "better" if low > 0 else "worse" if high < 0 else "none"
    row |= {"log_low": low, "log_high": high, "probability_of_improvement": probability}
    return row | {"evidence": evidence}


def _finished(row: Row, curves: CurveSet) -> Row:
    """From logs to ratios; what lies outside the measured range becomes a stated bound.

    A censored ``ratio`` is the bound itself: "above" reads "more than", "below" "less than". An
    end of the interval beyond the range is None when the interval is open there, and the bound
    when it is the other end (everything above the bound is a valid lower end).
    """
    low_bound, high_bound = (None if bound is None else float(bound) for bound in row.pop("bounds"))
    value, low, high = row.pop("log"), row.pop("log_low"), row.pop("log_high")
    row["censored"] = "above" if value == np.inf else "below" if value == -np.inf else None
    row["ratio"] = _ratio(value, low_bound, high_bound)
    row["low"] = None if low in (None, -np.inf) else _ratio(low, low_bound, high_bound)
    row["high"] = None if high in (None, np.inf) else _ratio(high, low_bound, high_bound)
    row |= {"seeds": curves.seeds, "largest_budget": _number(curves.budgets[-1])}
    row["verdict"] = efficiency_verdict(row)
    return row


def _ratio(log_value: float, below: float | None, above: float | None) -> float | None:
    if np.isfinite(log_value):
        return float(np.exp(log_value))
    return above if log_value > 0 else below


def _gain_row(
    curves: CurveSet,
    drawn: Drawn | None,
    name: str,
    baseline: str,
    level: float,
) -> Row:
    point = means(curves)
    row: Row = {"strategy": name, "baseline": baseline, "cost": curves.cost, "level": level}
    row["gain"] = float(mean_gain(curves.budgets, point[name], point[baseline]))
    row |= {"low": None, "high": None, "seeds": curves.seeds}
    if drawn is not None:
        draws = mean_gain(curves.budgets, drawn[name], drawn[baseline])
        row["low"], row["high"] = (float(end) for end in interval(draws, level))
    return row


def _share_row(
    curves: CurveSet,
    drawn: Drawn | None,
    name: str,
    baseline: str,
    oracle: str,
    level: float,
) -> Row:
    """Share of the oracle's mean gain, refused in words where that gain may be nothing.

    A ratio of two uncertain gains has a bounded interval exactly where the lower one is
    distinguishable from zero (Fieller 1954), so the refusal and the interval agree.
    """
    row: Row = {"strategy": name, "baseline": baseline, "oracle": oracle, "level": level}
    row |= {"share": None, "low": None, "high": None, "note": None, "seeds": curves.seeds}
    point, budgets = means(curves), curves.budgets
    ceiling = float(mean_gain(budgets, point[oracle], point[baseline]))
    if drawn is None:
        return row | {"note": "one seed: the oracle's gain has no interval, so no share is stated"}
    most = mean_gain(budgets, drawn[oracle], drawn[baseline])
    low, high = (float(end) for end in interval(most, level))
    if low <= 0:
        fails = "is not distinguishable from 0" if high >= 0 else "is negative"
        note = (
            f"undefined: the oracle's own mean gain ({ceiling:+.3f}, interval {low:+.3f} to "
            f"{high:+.3f}) {fails}"
        )
        return row | {"note": note}
    ours = mean_gain(budgets, drawn[name], drawn[baseline])
    shares = interval(ours[most > 0] / most[most > 0], level)
    own = float(mean_gain(budgets, point[name], point[baseline]))
    return row | {"share": own / ceiling, "low": float(shares[0]), "high": float(shares[1])}


def _number(value: float) -> float | int:
    """A budget as JSON should show it: 300, not 300.0."""
    return int(value) if float(value).is_integer() else float(value)
