"""How much more accurate a strategy is over the measured range, and what share of the possible."""

from __future__ import annotations

import numpy as np

from activeselect.study.curves import FloatArray, mean_gain, monotone
from activeselect.study.pair import Pair, Row
from activeselect.study.resampling import interval


def gain_row(pair: Pair) -> Row:
    """Mean accuracy gain; its size against the spread between seeds; None without a common range.

    ``effect_size`` is Hedges' g of the paired differences: the mean over seeds of the gain
    divided by its standard deviation, with the correction for few seeds.
    """
    value, draws = pair.both(mean_gain)
    row: Row = pair.common | {"level": pair.level, "seeds": pair.curves.seeds}
    row |= {"gain": _finite(value), "low": None, "high": None, "effect_size": None}
    if draws is not None and not np.isnan(draws).any():
        row["low"], row["high"] = (float(end) for end in interval(draws, pair.level))
    each = _gain_per_seed(pair)
    row["seeds_better"] = int(np.sum(each > 0))
    spread = float(each.std(ddof=1)) if each.size > 1 else 0.0
    if spread > 0 and np.isfinite(spread):
        small = 1 - 3 / (4 * (each.size - 1) - 1)  # Hedges 1981
        row["effect_size"] = float(each.mean()) / spread * small
    return row


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
        return row | {"note": "one seed: the oracle's gain has no interval, so no share is stated"}
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
