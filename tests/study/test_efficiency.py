"""Statistics of a study: properties, an independent reference, and words that match numbers."""

from __future__ import annotations

import importlib.util
import math
import time
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from activeselect.study.curves import (
    budget_to_reach,
    interpolate,
    log_ratio,
    mean_gain,
    monotone,
    overall_log_ratio,
)
from activeselect.study.efficiency import _estimate, analyse
from activeselect.study.resampling import CurveSet, interval, resample
from activeselect.study.verdicts import range_text, ratio_with_interval

BUDGETS = np.array([150.0, 300.0, 600.0, 1200.0])


def load_reference() -> ModuleType:
    """The slow implementation, by path: tests are not a package."""
    path = Path(__file__).parents[1] / "references" / "efficiency.py"
    spec = importlib.util.spec_from_file_location("reference_efficiency", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


reference = load_reference()

accuracies = st.lists(st.integers(0, 100).map(lambda k: k / 100), min_size=2, max_size=7)
rising = st.lists(st.integers(1, 30), min_size=2, max_size=7).map(
    lambda steps: np.cumsum(steps) / 300
)


def grid(size: int) -> np.ndarray:
    return 100.0 * 2.0 ** np.arange(size)


def answers(
    rng: np.random.Generator, accuracy: list[float], seeds: int = 5, examples: int = 800
) -> np.ndarray:
    return rng.random((seeds, len(accuracy), examples)) < np.array(accuracy)[:, None]


@settings(deadline=None)
@given(accuracies)
def test_monotone_is_isotonic_regression(values: list[float]) -> None:
    fitted = monotone(values)
    np.testing.assert_allclose(fitted, reference.pool_adjacent_violators(values), atol=1e-12)
    assert np.all(np.diff(fitted) >= 0)
    np.testing.assert_allclose(monotone(fitted), fitted, atol=1e-12)


def test_monotone_works_on_many_curves_at_once() -> None:
    curves = np.random.default_rng(0).random((6, 5, 4))
    each = np.array([[monotone(row) for row in block] for block in curves])
    np.testing.assert_array_equal(monotone(curves), each)


@settings(deadline=None)
@given(rising, st.floats(0, 1))
def test_reading_and_inverting_a_curve_are_inverse(curve: np.ndarray, share: float) -> None:
    budgets = grid(curve.size)
    at = budgets[0] * (budgets[-1] / budgets[0]) ** share
    height = float(interpolate(budgets, curve, at))
    needed = budget_to_reach(budgets, curve, height)
    if math.isfinite(needed):  # rounding may lift the ends out of the range by one ulp
        assert needed == pytest.approx(at, rel=1e-9)
    target = float(curve[0] + share * (curve[-1] - curve[0]))
    target = min(max(target, curve[0]), curve[-1])
    needed = budget_to_reach(budgets, curve, target)
    assert float(interpolate(budgets, curve, needed)) == pytest.approx(target, rel=1e-9)
    assert needed == pytest.approx(reference.budget_to_reach(budgets, curve, target), rel=1e-6)


@settings(deadline=None)
@given(accuracies)
def test_identical_curves_have_ratio_one(values: list[float]) -> None:
    curve, budgets = np.array(values), grid(len(values))
    np.testing.assert_allclose(log_ratio(budgets, curve, curve), 0, atol=1e-12)
    assert overall_log_ratio(budgets, curve, curve) == pytest.approx(0, abs=1e-12)
    assert mean_gain(budgets, curve, curve) == 0


@settings(deadline=None)
@given(rising, st.floats(1.05, 1.9))
def test_a_curve_that_is_k_times_ahead_has_ratio_k(curve: np.ndarray, k: float) -> None:
    """The strategy reaches at ``b`` what the baseline's (log-linear) curve reaches at ``k b``."""
    budgets = grid(curve.size)
    baseline = interpolate(budgets, curve, budgets)
    ahead = interpolate(budgets, curve, np.minimum(budgets * k, budgets[-1]))
    ratios = np.exp(log_ratio(budgets, ahead, baseline))
    np.testing.assert_allclose(ratios[:-1], k, rtol=1e-6)
    assert ratios[-1] == pytest.approx(1)


@settings(deadline=None)
@given(rising, rising)
def test_overall_ratio_agrees_with_quadrature(first: np.ndarray, second: np.ndarray) -> None:
    size = min(first.size, second.size)
    ours, theirs, budgets = first[:size], second[:size], grid(size)
    if max(ours[0], theirs[0]) >= min(ours[-1], theirs[-1]):
        assert not np.isfinite(overall_log_ratio(budgets, ours, theirs)) or (
            max(ours[0], theirs[0]) == min(ours[-1], theirs[-1])
        )
        return
    exact = math.log(reference.overall_ratio(budgets, ours, theirs))
    assert float(overall_log_ratio(budgets, ours, theirs, grid=4001)) == pytest.approx(
        exact, abs=2e-3
    )
    assert float(overall_log_ratio(budgets, ours, theirs)) == pytest.approx(exact, abs=0.05)


def test_nothing_is_extrapolated_or_clipped() -> None:
    curve = [0.5, 0.6, 0.7, 0.8]
    assert budget_to_reach(BUDGETS, curve, 0.9) == math.inf
    assert budget_to_reach(BUDGETS, curve, 0.4) == -math.inf
    assert budget_to_reach(BUDGETS, curve, 0.5) == pytest.approx(150)
    assert budget_to_reach([100], [0.5], 0.5) == pytest.approx(100)
    assert budget_to_reach([100], [0.5], 0.6) == math.inf
    with pytest.raises(ValueError, match="not extrapolated"):
        interpolate(BUDGETS, curve, [1300])


def test_censored_ratios_are_bounds_and_say_so() -> None:
    rng = np.random.default_rng(0)
    curves = CurveSet(
        BUDGETS,
        {
            "random": answers(rng, [0.5, 0.55, 0.6, 0.65]),
            "good": answers(rng, [0.6, 0.75, 0.8, 0.9]),
            "bad": answers(rng, [0.3, 0.35, 0.45, 0.6]),
        },
    )
    rows = {(r["strategy"], r["budget"]): r for r in analyse(curves, "random", rng=rng).efficiency}
    above = rows["good", 300]
    assert (above["censored"], above["ratio"], above["low"], above["high"]) == ("above", 4, 4, None)
    assert "more than 4.00x less data" in above["verdict"]
    last = rows["good", 1200]
    assert (last["ratio"], last["evidence"]) == (1, "better")
    assert "beyond the budgets measured" in last["verdict"]
    below = rows["bad", 300]
    assert (below["censored"], below["ratio"], below["low"]) == ("below", 0.5, None)
    assert below["evidence"] == "worse"
    assert "more than 2.00x more data" in below["verdict"]


def test_rows_have_the_fields_of_results_json() -> None:
    rng = np.random.default_rng(1)
    start = answers(rng, [0.5])
    curves = CurveSet(
        [150, 300, 600],
        {
            name: np.concatenate([start, answers(rng, later)], axis=1)
            for name, later in {"random": [0.6, 0.7], "premem": [0.65, 0.75]}.items()
        },
    )
    result = analyse(curves, "random", rng=rng)
    assert [row["budget"] for row in result.efficiency] == [300, 600, None]  # the start is shared
    wanted = {"strategy", "baseline", "cost", "target_accuracy", "budget", "ratio", "low", "high"}
    wanted |= {"level", "censored", "share_of_resamples_better", "evidence", "verdict"}
    assert all(wanted <= set(row) for row in result.efficiency)
    row = result.efficiency[0]
    assert row["low"] < row["ratio"] < row["high"]
    assert result.verdicts == [result.efficiency[-1]["verdict"]]


def test_targets_answer_where_the_other_rows_run_out_of_range() -> None:
    rng = np.random.default_rng(11)
    truth = {"random": [0.5, 0.6, 0.7, 0.8], "twice": [0.6, 0.7, 0.8, 0.9]}
    curves = CurveSet(BUDGETS, {n: answers(rng, c, examples=4000) for n, c in truth.items()})
    result = analyse(curves, "random", rng=rng)
    assert result.efficiency[3]["censored"] == "above"
    last = result.targets[3]
    assert (last["budget"], last["censored"]) == (1200, None)
    assert last["target_accuracy"] == pytest.approx(0.8, abs=0.01)
    assert last["ratio"] == pytest.approx(2, rel=0.1)
    assert last["low"] < 2 < last["high"]
    assert "to reach what random reaches at 1,200 examples" in last["verdict"]
    first = result.targets[0]  # the strategy was there before the smallest budget
    assert (first["censored"], first["ratio"]) == ("above", 1)


def test_no_difference_is_said_in_words_and_oracle_share_is_refused() -> None:
    rng = np.random.default_rng(2)
    curves = CurveSet(
        BUDGETS, {n: answers(rng, [0.5, 0.6, 0.7, 0.8]) for n in ("random", "premem", "oracle")}
    )
    result = analyse(curves, "random", oracle="oracle", rng=rng)
    assert result.verdicts[0].startswith("No evidence of a difference between premem and random")
    (share,) = result.oracle_share
    assert share["share"] is None
    assert "not distinguishable from 0" in share["note"]


def test_share_of_the_oracles_gain() -> None:
    rng = np.random.default_rng(3)
    truth = {"random": [0.5, 0.6], "half": [0.55, 0.65], "oracle": [0.6, 0.7]}
    curves = CurveSet([100, 200], {n: answers(rng, c, examples=4000) for n, c in truth.items()})
    (share,) = analyse(curves, "random", oracle="oracle", rng=rng).oracle_share
    assert share["share"] == pytest.approx(0.5, abs=0.05)
    assert share["low"] < 0.5 < share["high"]


def test_a_strategy_has_to_beat_every_control_that_measures_nothing() -> None:
    rng = np.random.default_rng(3)
    truth = {
        "random": [0.3, 0.4, 0.5, 0.6],
        "balanced": [0.3, 0.5, 0.6, 0.7],
        "weak": [0.3, 0.45, 0.55, 0.65],
        "strong": [0.3, 0.6, 0.7, 0.8],
        "oracle": [0.3, 0.6, 0.8, 0.9],
    }
    curves = CurveSet(BUDGETS, {n: answers(rng, c, examples=4000) for n, c in truth.items()})
    result = analyse(curves, "random", oracle="oracle", controls=["balanced"], rng=rng)
    weak, strong = result.controls  # neither the controls nor the oracle are judged
    assert (weak["strategy"], weak["control"], weak["beats_all"]) == ("weak", "balanced", False)
    assert weak["against"] == {"random": "better", "balanced": "worse"}
    assert "beats random but not balanced" in weak["verdict"]
    assert (strong["strategy"], strong["beats_all"]) == ("strong", True)
    assert strong["low"] > 1
    assert strong["verdict"] in result.verdicts
    alone = analyse(curves, "random", oracle="oracle", rng=np.random.default_rng(3))
    assert alone.controls == []
    # the ratio is the one that a study with the control as its baseline states
    swapped = analyse(curves, "balanced", oracle="oracle", rng=np.random.default_rng(3))
    (row,) = (r for r in swapped.efficiency if r["strategy"] == "weak" and r["budget"] is None)
    assert weak["ratio"] == pytest.approx(row["ratio"])


def test_one_seed_has_no_interval() -> None:
    rng = np.random.default_rng(4)
    curves = CurveSet([1, 2], {n: answers(rng, [0.2, 0.6], seeds=1) for n in ("random", "x", "o")})
    result = analyse(curves, "random", oracle="o", rng=rng)
    assert all(row["low"] is None and row["high"] is None for row in result.efficiency)
    assert all("no interval" in row["verdict"] for row in result.efficiency)
    assert result.oracle_share[0]["share"] is None
    with pytest.raises(ValueError, match="at least 2 seeds"):
        resample(curves, 10, rng)


def test_interval_is_the_inverted_paired_t_test() -> None:
    """With little noise no curve needs the monotone fit, and both answer the same question."""
    rng = np.random.default_rng(5)
    truth = {"random": [0.50, 0.60, 0.70, 0.80], "premem": [0.50, 0.65, 0.74, 0.82]}
    correct = {
        name: np.clip(np.array(c) + 0.01 * rng.standard_normal((5, 4)), 0, 1)[..., None]
        for name, c in truth.items()
    }
    curves = CurveSet(BUDGETS, correct)
    rows = analyse(curves, "random", resamples=40_000, rng=rng).efficiency
    for index in (1, 2):
        low, high = reference.ratio_interval_by_test_inversion(
            BUDGETS, curves.accuracy["premem"], curves.accuracy["random"], index, 0.95
        )
        assert rows[index]["low"] == pytest.approx(low, rel=0.02)
        assert rows[index]["high"] == pytest.approx(high, rel=0.02)


def test_pairing_removes_what_seeds_share() -> None:
    """An easy seed is easy for every strategy, so it must not widen the comparison."""
    rng = np.random.default_rng(6)
    luck = 0.05 * rng.standard_normal((5, 1))
    own = 0.002 * rng.standard_normal((2, 5, 4))
    correct = {
        "random": (np.array([0.5, 0.6, 0.7, 0.8]) + luck + own[0])[..., None],
        "premem": (np.array([0.52, 0.63, 0.73, 0.83]) + luck + own[1])[..., None],
    }
    (row,) = analyse(CurveSet(BUDGETS, correct), "random", rng=rng).gain
    assert row["high"] - row["low"] < 0.02


def test_shared_test_set_adds_the_luck_of_its_draw() -> None:
    """All seeds fail the same examples: seeds agree perfectly, the test draw is all the noise."""
    rng = np.random.default_rng(7)
    one = (rng.random((2, 1, 200)) < 0.5).astype(float)
    correct = {"random": np.repeat(one[:1], 4, 0), "premem": np.repeat(one[1:], 4, 0)}
    for shared in (False, True):
        curves = CurveSet([100], correct, shared_test=shared)
        (row,) = analyse(curves, "random", rng=rng).gain
        if shared:
            error = np.std(correct["premem"][0] - correct["random"][0]) / np.sqrt(200)
            assert row["high"] - row["low"] == pytest.approx(2 * 1.96 * error, rel=0.1)
        else:  # an interval that is a point would say that nothing is uncertain
            assert (row["low"], row["high"]) == (None, None)


def test_same_generator_same_rows() -> None:
    rng = np.random.default_rng(8)
    curves = CurveSet(BUDGETS, {n: answers(rng, [0.5, 0.6, 0.7, 0.8]) for n in ("random", "x")})
    first, second = (analyse(curves, "random", rng=np.random.default_rng(0)) for _ in range(2))
    assert first == second


def test_fast_enough_to_run_after_every_cell() -> None:
    rng = np.random.default_rng(9)
    curves = CurveSet(
        BUDGETS,
        {n: answers(rng, [0.5, 0.6, 0.7, 0.8], examples=1200) for n in ("random", "x", "oracle")},
    )
    start = time.perf_counter()
    analyse(curves, "random", oracle="oracle", resamples=2000, rng=rng)
    assert time.perf_counter() - start < 3


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 6), st.integers(1, 4), st.integers(0, 10_000))
def test_any_small_study_gives_valid_rows(seeds: int, size: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    correct = {n: rng.random((seeds, size, 3)).round() for n in ("random", "a", "oracle")}
    result = analyse(
        CurveSet(grid(size), correct, shared_test=bool(seed % 2)),
        "random",
        oracle="oracle",
        resamples=50,
        rng=rng,
    )
    for row in result.efficiency:
        values = [row[key] for key in ("low", "ratio", "high") if row[key] is not None]
        assert all(np.isfinite(values))
        assert row["low"] is None or row["high"] is None or row["low"] <= row["high"] + 1e-12
        share = row["share_of_resamples_better"]
        assert (share is None) == (row["evidence"] == "unknown")
        assert share is None or 0 <= share <= 1
        assert row["verdict"].endswith(".")


def test_interval_keeps_infinite_ends() -> None:
    low, high = interval(np.array([-np.inf, 0, 1, np.inf]), 0.99)
    assert (float(low), float(high)) == (-np.inf, np.inf)
    with pytest.raises(ValueError, match="level"):
        interval(np.zeros(3), 95)


@pytest.mark.parametrize(
    ("budgets", "shape", "message"),
    [
        ([], (2, 1, 3), "at least one number"),
        ([2, 1], (2, 2, 3), "strictly increasing"),
        ([0, 1], (2, 2, 3), "positive"),
        ([1, 2], (2, 3, 3), "must have shape"),
        ([1, 2], (2, 2), "must have shape"),
    ],
)
def test_measurements_are_checked(
    budgets: list[float], shape: tuple[int, ...], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        CurveSet(budgets, {"random": np.zeros(shape)})


def test_unpaired_unknown_and_missing_are_refused() -> None:
    with pytest.raises(ValueError, match="same seeds"):
        CurveSet([1], {"a": np.zeros((2, 1, 3)), "b": np.zeros((3, 1, 3))})
    with pytest.raises(ValueError, match="at least one strategy"):
        CurveSet([1], {})
    with pytest.raises(ValueError, match="NaN"):
        CurveSet([1], {"a": np.full((2, 1, 3), np.nan)})
    with pytest.raises(ValueError, match="measured: a"):
        analyse(CurveSet([1], {"a": np.zeros((2, 1, 3))}), "b", rng=np.random.default_rng(0))


@pytest.mark.parametrize(
    ("low", "high", "text"),
    [
        (1.2, 1.71, "1.20-1.71"),
        (0.962, 2.27, "0.96-2.27"),
        (0.7, 1.003, "0.70-1.00"),
        (1.31, 1.34, "1.31-1.34"),
        (1.2, None, "above 1.20"),
        (None, 0.98, "below 0.98"),
        (None, None, "unbounded"),
    ],
)
def test_intervals_in_print(low: float | None, high: float | None, text: str) -> None:
    assert range_text(low, high) == text


def test_a_bound_of_one_without_evidence_is_not_called_a_win() -> None:
    row = {"ratio": 1.0, "low": 0.6, "high": None, "censored": "above", "evidence": "none"}
    assert ratio_with_interval(row) == ">1x (above 0.60)"
    assert ratio_with_interval(row | {"low": 1.0, "evidence": "better"}) == ">1x, beyond range"


def test_a_clear_loss_in_accuracy_is_said_where_the_ratio_is_unsure() -> None:
    """The strategy ties where both are measured, then falls behind for good."""
    rng = np.random.default_rng(10)
    truth = {"random": [0.70, 0.72, 0.85, 0.91], "trapped": [0.70, 0.72, 0.73, 0.74]}
    curves = CurveSet(BUDGETS, {n: answers(rng, c, examples=400) for n, c in truth.items()})
    (verdict,) = analyse(curves, "random", rng=rng).verdicts
    assert "points less accurate than random" in verdict or "more data than random" in verdict
    assert "No evidence" not in verdict


def test_the_share_of_better_resamples_is_fair_to_both_sides() -> None:
    """What one side wins the other loses, ties included; counted over all pairs by hand."""
    draws = np.array([-2.0, -1.0, 0.0, 0.0, 0.0, 1.0, 3.0, 3.0, 4.0, 5.0])
    ours, theirs = (
        _estimate(np.float64(0.1), side, 0.95)["share_of_resamples_better"]
        for side in (draws, -draws)
    )
    assert ours + theirs == pytest.approx(1)
    assert ours == pytest.approx(6.5 / 10)
