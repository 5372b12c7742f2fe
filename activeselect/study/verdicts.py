"""Verdicts: a row of the results as one sentence that a reader can quote."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

#: Of each axis (``activeselect.config.AXES``): what there is less or more of, and its title.
AXIS_WORDS = {
    "unique_examples": ("less", "data", "training examples"),
    "samples_seen": ("fewer", "training samples", "samples seen in training"),
    "tokens_trained": ("fewer", "training tokens", "tokens trained"),
    "tokens_total": ("fewer", "tokens", "tokens trained and generated"),
    "seconds": ("less", "time", "seconds of training, scoring and selecting"),
}


def efficiency_verdict(row: Mapping[str, Any]) -> str:
    """One sentence on one efficiency row; an interval that includes 1 is no evidence.

    Args:
        row: a row of ``results["efficiency"]`` as ``analyse`` writes it.

    Example:
        >>> row = dict(strategy="premem", baseline="random", cost="unique_examples", budget=300,
        ...     ratio=1.42, low=1.2, high=1.71, level=0.95, censored=None, seeds=5,
        ...     evidence="better", largest_budget=1200)
        >>> efficiency_verdict(row)  # doctest: +ELLIPSIS
        'premem needs 1.42x less data than random at 300 examples (95% interval 1.20-1.71, 5 se...
        >>> efficiency_verdict(row | dict(low=0.9, evidence="none"))  # doctest: +ELLIPSIS
        'No evidence of a difference between premem and random at 300 examples (ratio 1.42, 95%...'
    """
    ours, theirs = row["strategy"], row["baseline"]
    place = _place(row)
    evidence = evidence_of(row)
    if evidence == "unknown":
        why = "one seed" if row["seeds"] < 2 else "answers that do not vary"
        return f"{ours} against {theirs} {place}: ratio {ratio_text(row)}, {why}, no interval."
    if evidence == "none":
        return (
            f"No evidence of a difference between {ours} and {theirs} {place} "
            f"(ratio {ratio_text(row)}, {interval_text(row)})."
        )
    better = evidence == "better"
    fewer, noun, _ = AXIS_WORDS.get(row["cost"], ("less", row["cost"], ""))
    word = f"{fewer if better else 'more'} {noun}"
    if row["ratio"] is None or (row["censored"] and abs(row["ratio"] - 1) < 0.05):
        side = "more" if better else "less"
        return (
            f"{ours} is {side} accurate than {theirs} {place}, by {_how(fewer)} {noun} is beyond "
            f"the budgets measured ({_seeds(row)})."
        )
    factor = row["ratio"] if better else 1 / row["ratio"]
    least = "more than " if row["censored"] else ""
    return (
        f"{ours} needs {least}{factor:.2f}x {word} than {theirs} {place} "
        f"({interval_text(row, inverse=not better)})."
    )


def whole_curve_verdict(row: Mapping[str, Any], gain: Mapping[str, Any]) -> str:
    """One sentence on a whole comparison: data saved, and accuracy gained on the way.

    The two areas between the curves, horizontal and vertical, are unsure in different places:
    where curves are flat a small difference in accuracy is a large one in data. So a clear
    difference in accuracy is said even where the ratio is not clear.

    Args:
        row: the efficiency row with ``budget`` None.
        gain: the row of the mean accuracy gain of the same strategy.

    Example:
        >>> row = dict(strategy="premem", baseline="random", cost="unique_examples", budget=None,
        ...     ratio=0.62, low=0.4, high=1.1, level=0.95, censored=None, seeds=5)
        >>> text = whole_curve_verdict(row, dict(gain=-0.041, low=-0.06, high=-0.02))
        >>> text.split("; ")[0]  # doctest: +ELLIPSIS
        'premem is 4.1 points less accurate than random over the whole curve (95% interval 2.0 to...
        >>> text.split("; ")[1]
        'how much more data it needs is not clear (ratio 0.62, interval 0.40-1.10).'
    """
    sentence = efficiency_verdict(row)
    fewer, noun, _ = AXIS_WORDS.get(row["cost"], ("less", row["cost"], ""))
    if gain["low"] is None or gain["low"] <= 0 <= gain["high"]:
        return sentence
    better = gain["gain"] > 0
    points = abs(100 * gain["gain"])
    span = sorted(abs(100 * gain[end]) for end in ("low", "high"))
    between = f"{span[0]:.1f} to {span[1]:.1f}"
    if evidence_of(row) == "none":
        return (
            f"{row['strategy']} is {points:.1f} points {'more' if better else 'less'} accurate "
            f"than {row['baseline']} {_place(row)} ({row['level']:.0%} interval {between}, "
            f"{_seeds(row)}); {_how(fewer)} {fewer if better else 'more'} {noun} it needs "
            f"is not clear (ratio {ratio_text(row)}, {_ends(row)})."
        )
    if better != (evidence_of(row) == "better"):
        return sentence
    change = f"{points:.1f} points {'higher' if better else 'lower'} ({between})"
    return f"{sentence[:-1]}; its mean accuracy is {change}."


def control_verdict(row: Mapping[str, Any]) -> str:
    """One sentence on a strategy against all controls that measure nothing.

    Args:
        row: a row of ``results["controls"]``.

    Example:
        >>> row = dict(strategy="premem", control="balanced", ratio=0.9, low=0.8, high=1.05,
        ...     level=0.95, seeds=5, beats_all=False,
        ...     against={"random": "better", "balanced": "none"})
        >>> control_verdict(row)  # doctest: +ELLIPSIS
        'premem beats random but not balanced (ratio 0.90, 95% interval 0.80-1.05, 5 seeds), whi...
        >>> control_verdict(row | {"against": {"random": "none"}})  # doctest: +ELLIPSIS
        'premem does not beat balanced (ratio 0.90, 95% interval 0.80-1.05, 5 seeds), which measu...
    """
    ours, hardest = row["strategy"], row["control"]
    interval = interval_text(row)
    ratio = "?" if row["ratio"] is None else f"{row['ratio']:.2f}"
    if "unknown" in row["against"].values():
        return f"{ours} against {hardest}, which measures nothing: {ratio}x, one seed, no interval."
    beaten = [name for name, evidence in row["against"].items() if evidence == "better"]
    if row["beats_all"]:
        return f"{ours} beats {' and '.join(beaten)}: {ratio}x against {hardest} ({interval})."
    who = f"beats {' and '.join(beaten)} but not" if beaten else "does not beat"
    return f"{ours} {who} {hardest} (ratio {ratio}, {interval}), which measures nothing."


def share_verdict(row: Mapping[str, Any], oracle: str) -> str:
    """One sentence on the share of the oracle's gain.

    Example:
        >>> row = dict(strategy="premem", share=.62, low=.41, high=.85, level=.95, note=None,
        ...     seeds=5)
        >>> share_verdict(row, "oracle")
        'premem reaches 62% of the gain of oracle (95% interval 41% to 85%, 5 seeds).'
    """
    if row["share"] is None:
        return f"Shares of the gain of {oracle}: {row['note']}."
    interval = f"{row['level']:.0%} interval {row['low']:.0%} to {row['high']:.0%}, {_seeds(row)}"
    if row["low"] <= 0 <= row["high"]:
        return (
            f"No evidence that {row['strategy']} reaches any of the gain of {oracle} "
            f"(share {row['share']:.0%}, {interval})."
        )
    if row["share"] < 0:
        return (
            f"{row['strategy']} loses where {oracle} gains: {row['share']:.0%} of its gain "
            f"({interval})."
        )
    return f"{row['strategy']} reaches {row['share']:.0%} of the gain of {oracle} ({interval})."


def mask_verdict(strategy: str) -> str:
    """What to know of a strategy's premem where no trace ever counted as memorized.

    Example:
        >>> mask_verdict("premem")
        'In the runs of premem the mask never acted: premem equals accuracy here.'
    """
    return f"In the runs of {strategy} the mask never acted: premem equals accuracy here."


def evidence_of(row: Mapping[str, Any]) -> str:
    """``better``, ``worse``, ``none`` or ``unknown``; from the interval where it is not stated."""
    if row.get("evidence"):
        return str(row["evidence"])
    low, high = row.get("low"), row.get("high")
    if low is None and high is None:
        return "unknown"
    if low is not None and low > 1:
        return "better"
    return "worse" if high is not None and high < 1 else "none"


def ratio_text(row: Mapping[str, Any]) -> str:
    """The ratio in print: ``1.40``, or ``>2.00`` and ``<0.50`` where the range of budgets ends.

    Example:
        >>> ratio_text({"ratio": 2.0, "censored": "above"})
        '>2.00'
    """
    if row["ratio"] is None:
        return {"above": "above the range", "below": "below the range"}.get(row["censored"], "?")
    sign = {"above": ">", "below": "<"}.get(row.get("censored") or "", "")
    return f"{sign}{row['ratio']:.2f}"


def ratio_with_interval(row: Mapping[str, Any]) -> str:
    """Ratio and interval for a table; at the end of the range only the side is known.

    Example:
        >>> ratio_with_interval(dict(ratio=1.42, low=1.2, high=1.71, censored=None))
        '1.42x (1.20-1.71)'
    """
    if row.get("censored") and (row["ratio"] is None or abs(row["ratio"] - 1) < 0.005):
        side = ">1x" if row["censored"] == "above" else "<1x"
        if evidence_of(row) != "none":
            return f"{side}, beyond range"
        return f"{side} ({range_text(row['low'], row['high'])})"
    if evidence_of(row) == "unknown":
        return f"{ratio_text(row)}x"
    return f"{ratio_text(row)}x ({range_text(row['low'], row['high'])})"


def interval_text(row: Mapping[str, Any], *, inverse: bool = False) -> str:
    """The interval with its level and seeds: ``95% interval 1.20-1.71, 5 seeds``."""
    low, high = row.get("low"), row.get("high")
    if inverse:
        low, high = (None if end is None else 1 / end for end in (high, low))
    together = ""
    if row.get("comparisons", 1) > 1:
        low_all, high_all = row["joint_low"], row["joint_high"]
        if inverse:
            low_all, high_all = (None if e is None else 1 / e for e in (high_all, low_all))
        together = f"; {range_text(low_all, high_all)} with all {row['comparisons']} together"
    return f"{row['level']:.0%} interval {range_text(low, high)}, {_seeds(row)}{together}"


def _ends(row: Mapping[str, Any]) -> str:
    low, high = (row.get(f"joint_{end}", row[end]) for end in ("low", "high"))
    return f"interval {range_text(low, high)}"


def range_text(low: float | None, high: float | None) -> str:
    """An interval that may be open: ``1.20-1.71``, ``above 1.20``, ``unbounded``."""
    if low is None:
        return "unbounded" if high is None else f"below {high:.2f}"
    if high is None:
        return f"above {low:.2f}"
    return f"{low:.2f}-{high:.2f}"


def _place(row: Mapping[str, Any]) -> str:
    if row.get("budget") is None:
        return "over the whole curve"
    place = f"at {row['budget']:,g} {row.get('unit', 'examples')}"
    if row.get("anchor") == "baseline":
        return f"to reach what {row['baseline']} reaches {place}"
    return place


def _seeds(row: Mapping[str, Any]) -> str:
    count = row.get("seeds")
    return "seeds not stated" if count is None else f"{count} seed{'' if count == 1 else 's'}"


def _how(fewer: str) -> str:
    return "how much" if fewer == "less" else "how many"
