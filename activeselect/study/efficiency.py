"""Data efficiency: ratios, areas and shares of the oracle's gain, with intervals.

The one entry point of a study is :func:`analyse`; the rows it returns go into ``results.json``.
Reasons and the measured coverage of the intervals: ``docs/guide/statistics.md``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from activeselect.arrays import FloatArray
from activeselect.study.curves import (
    log_ratio,
    mean_gain,
    monotone,
    overall_log_ratio,
)
from activeselect.study.resampling import (
    RESAMPLES,
    CurveSet,
    Pair,
    Resamples,
    Row,
    draw_resamples,
    interval,
    means,
    names_or_error,
)
from activeselect.study.verdicts import (
    control_verdict,
    efficiency_verdict,
    share_verdict,
    whole_curve_verdict,
)

# --- Mean gain over the baseline, and as a fraction of the oracle's


def gain_row(pair: Pair) -> Row:
    """Mean accuracy gain; its size against the spread between seeds; None without a common range.

    ``effect_size`` is Hedges' g of the paired differences: the mean over seeds of the gain
    divided by its standard deviation, with the correction for few seeds.
    """
    value, draws = pair.both(mean_gain)
    row: Row = pair.common | {"level": pair.level, "seeds": pair.curves.seeds}
    row |= {"gain": _finite(value), "low": None, "high": None, "effect_size": None}
    if draws is not None and not np.isnan(draws).any() and _spread(draws):
        row["low"], row["high"] = (float(end) for end in interval(draws, pair.level))
    each = _gain_per_seed(pair)
    row["seeds_better"] = int(np.sum(each > 0))
    spread = float(each.std(ddof=1)) if each.size > 1 else 0.0
    if spread > 0 and np.isfinite(spread):
        small = 1 - 3 / (4 * (each.size - 1) - 1)  # Hedges 1981
        row["effect_size"] = float(each.mean()) / spread * small
    return row


def _spread(draws: FloatArray) -> bool:
    """Whether resampling changes anything; an interval that is a point would say it is certain.

    Where all draws are beyond the range, the interval is open, and no point.
    """
    return not np.isfinite(draws[0]) or bool(np.any(draws != draws[0]))


def _gain_per_seed(pair: Pair) -> FloatArray:
    curves = pair.curves
    accuracy = (curves.accuracy[pair.name], curves.accuracy[pair.baseline])
    if curves.spent is None:
        return mean_gain(curves.budgets, *accuracy)
    spent = [np.exp(monotone(np.log(curves.spent[n]))) for n in (pair.name, pair.baseline)]
    return mean_gain(spent[0], *accuracy, spent[1])


def _finite(value: FloatArray) -> float | None:
    return float(value) if np.isfinite(value) else None


def share_row(pair: Pair, oracle: Pair) -> Row:
    """Share of the oracle's mean gain, refused in words where that gain may be nothing.

    A ratio of two uncertain gains has a bounded interval exactly where the lower one is
    distinguishable from zero (Fieller 1954), so the refusal and the interval agree.
    """
    row: Row = {"strategy": pair.name, "baseline": pair.baseline, "oracle": oracle.name}
    row |= {"level": pair.level, "seeds": pair.curves.seeds}
    row |= {"share": None, "low": None, "high": None, "note": None}
    (own, ours), (ceiling, most) = pair.both(mean_gain), oracle.both(mean_gain)
    if ours is None or most is None:
        few = "one seed" if pair.curves.seeds < 2 else "one test example"
        return row | {"note": f"{few}: the oracle's gain has no interval, so no share is stated"}
    if np.isnan(ours).any() or np.isnan(most).any():
        return row | {"note": "undefined: the curves have no range of cost in common"}
    low, high = (float(end) for end in interval(most, pair.level))
    if low <= 0:
        fails = "is not distinguishable from 0" if high >= 0 else "is negative"
        note = (
            f"undefined: the oracle's own mean gain ({float(ceiling):+.3f}, interval {low:+.3f} "
            f"to {high:+.3f}) {fails}"
        )
        return row | {"note": note}
    shares = interval(ours[most > 0] / most[most > 0], pair.level)
    share = float(own) / float(ceiling)
    return row | {"share": share, "low": float(shares[0]), "high": float(shares[1])}


def control_row(
    curves: CurveSet,
    name: str,
    controls: Sequence[str],
    drawn: Resamples | None,
    level: float,
) -> Row:
    """A strategy against all controls that measure nothing, stated for the hardest of them.

    The hardest control is the one that leaves the strategy the lowest lower end. Whoever beats
    every control, each at ``level``, beats the best one at that level too, though nobody knows
    which it is (Berger 1982, intersection-union test): no correction for their number is due.
    """
    rows = [_whole_row(Pair(curves, name, other, drawn, level), 1, level) for other in controls]
    hardest = min(rows, key=lambda row: (row["low"] or 0.0, row["ratio"] or 0.0))
    against = {row["baseline"]: row["evidence"] for row in rows}
    kept = ("strategy", "cost", "ratio", "low", "high", "level", "seeds")
    row: Row = {key: hardest[key] for key in kept}
    row |= {"control": hardest["baseline"], "against": against}
    row["beats_all"] = set(against.values()) == {"better"}
    return row | {"verdict": control_verdict(row)}


@dataclass(frozen=True)
class Analysis:
    """What the measurements of one dataset say.

    Attributes:
        efficiency: one row per strategy and budget, and one per strategy with ``budget`` None:
            the mean over all accuracies that both curves passed through.
        targets: one row per strategy and *baseline* budget: the ratio of data needed for the
            accuracy that the baseline reaches there.
        gain: mean accuracy gain over the measured range and its effect size, one row per
            strategy.
        oracle_share: share of the oracle's gain, one row per strategy (empty without oracle).
        controls: each strategy that measures something against those that do not, one row per
            strategy: the hardest control, and whether all are beaten.
        verdicts: one sentence per strategy, on the whole curve.
    """

    efficiency: list[Row]
    targets: list[Row]
    gain: list[Row]
    oracle_share: list[Row]
    controls: list[Row]
    verdicts: list[str]


def analyse(
    curves: CurveSet,
    baseline: str,
    *,
    oracle: str | None = None,
    controls: Sequence[str] = (),
    level: float = 0.95,
    resamples: int = RESAMPLES,
    rng: np.random.Generator,
) -> Analysis:
    """Compare every strategy with the baseline, with intervals over seeds and test examples.

    Args:
        curves: the measurements of one dataset.
        baseline: name of the strategy to compare with, usually ``random``.
        oracle: name of the oracle allocation, if it was run.
        controls: names of the strategies that measure nothing; the baseline is always one.
        level: coverage of each interval. The whole-curve rows have a second one, at which all
            strategies but the oracle hold together; their evidence is judged by it.
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
    names_or_error(curves, [baseline, *controls, *([oracle] if oracle is not None else [])])
    # one test problem that all seeds share says nothing about others
    enough = curves.seeds > 1 and not (curves.shared_test and curves.examples == 1)
    drawn = draw_resamples(curves, resamples, rng) if enough else None
    others = [name for name in curves.strategies if name != baseline]
    pairs = {name: Pair(curves, name, baseline, drawn, level) for name in others}
    family = [name for name in others if name != oracle]
    joint = 1 - (1 - level) / max(1, len(family))  # Bonferroni
    efficiency: list[Row] = []
    targets: list[Row] = []
    gain: list[Row] = []
    share: list[Row] = []
    for name, pair in pairs.items():
        rows = _efficiency_rows(pair)
        together = (len(family), joint) if name in family else (1, level)
        rows.append(_whole_row(pair, *together))
        gain.append(gain_row(pair))
        rows[-1]["verdict"] = whole_curve_verdict(rows[-1], gain[-1])
        efficiency += rows
        targets += _target_rows(pair)
        if oracle is not None and name != oracle:
            share.append(share_row(pair, pairs[oracle]))
    verdicts = [row["verdict"] for row in efficiency if row["budget"] is None]
    free = list(dict.fromkeys([baseline, *controls]))
    judged: list[Row] = []
    if len(free) > 1:  # against the baseline alone the sentence above says it
        judged = [control_row(curves, n, free, drawn, level) for n in family if n not in free]
        verdicts += [row["verdict"] for row in judged]
    if oracle is not None:
        # where the oracle itself gains nothing, that is one sentence and not one per strategy
        verdicts += dict.fromkeys(share_verdict(row, oracle) for row in share)
    return Analysis(efficiency, targets, gain, share, judged, verdicts)


def _efficiency_rows(pair: Pair) -> list[Row]:
    """One row per budget at which the two differ."""
    ratios, draws = pair.both(log_ratio)
    heights = monotone(means(pair.curves)[pair.name])
    ours = pair.curves.mean_spent(pair.name)
    theirs = pair.curves.mean_spent(pair.baseline)
    rows = []
    for i in pair.distinct():
        place = {"target_accuracy": float(heights[i]), **_place(pair.curves, ours, i)}
        estimate = _estimate(ratios[i], None if draws is None else draws[:, i], pair.level)
        bounds = (theirs[0] / ours[i], theirs[-1] / ours[i])
        rows.append(_finished(pair.common | place | estimate | {"bounds": bounds}, pair.curves))
    return rows


def _whole_row(pair: Pair, family: int, joint: float) -> Row:
    """The whole curve; its evidence counts only if it holds for the whole family."""
    value, draws = pair.both(overall_log_ratio)
    row = pair.common | {"target_accuracy": None, "budget": None, "spent": None}
    row |= _estimate(value, draws, pair.level) | {"bounds": (None, None)}
    row |= {"comparisons": family, "joint_low": None, "joint_high": None}
    if draws is not None and _spread(draws):
        ends = interval(draws, max(joint, pair.level))
        row["joint_low"], row["joint_high"] = (_exp(float(end)) for end in ends)
        row["evidence"] = _evidence(*(float(end) for end in ends))
    return _finished(row, pair.curves)


def _target_rows(pair: Pair) -> list[Row]:
    """The same comparison from the other side: what the strategy needs for a given accuracy.

    The ratio at the baseline's budget b is b divided by what the strategy needs, which says
    something at the largest budget too, where the other rows have reached the end of the range.
    """
    ratios, draws = pair.swapped().both(log_ratio)
    heights = monotone(means(pair.curves)[pair.baseline])
    ours = pair.curves.mean_spent(pair.name)
    theirs = pair.curves.mean_spent(pair.baseline)
    rows = []
    for i in pair.distinct():
        row = pair.common | {"anchor": "baseline", "target_accuracy": float(heights[i])}
        row |= _place(pair.curves, theirs, i)
        row |= _estimate(-ratios[i], None if draws is None else -draws[:, i], pair.level)
        bounds = (theirs[i] / ours[-1], theirs[i] / ours[0])
        rows.append(_finished(row | {"bounds": bounds}, pair.curves))
    return rows


def _place(curves: CurveSet, spent: FloatArray, i: int) -> Row:
    """Train-set size, and what it had cost on the axis of the comparison."""
    return {"budget": _number(curves.budgets[i]), "spent": _number(round(float(spent[i]), 3))}


def _estimate(log_value: FloatArray, draws: FloatArray | None, level: float) -> Row:
    """Log ratio, log interval and evidence of one comparison; still infinite where censored."""
    row: Row = {"log": float(log_value), "level": level}
    if draws is None or not _spread(draws):
        none = {"log_low": None, "log_high": None, "share_of_resamples_better": None}
        return row | none | {"evidence": "unknown"}
    low, high = (float(end) for end in interval(draws, level))
    # A tie counts half: two equal strategies are at 0.5.
    share = float(np.mean(draws > 0) + np.mean(draws == 0) / 2)
    row |= {"log_low": low, "log_high": high, "share_of_resamples_better": share}
    return row | {"evidence": _evidence(low, high)}


def _evidence(low: float, high: float) -> str:
    return "better" if low > 0 else "worse" if high < 0 else "none"


def _exp(log_value: float) -> float | None:
    return float(np.exp(log_value)) if np.isfinite(log_value) else None


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


def _number(value: float) -> float | int:
    """A budget as JSON should show it: 300, not 300.0."""
    return int(value) if float(value).is_integer() else float(value)
