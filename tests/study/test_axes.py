"""Budgets on other axes, and intervals that hold for several strategies at once."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from activeselect.config import AXES
from activeselect.study import verdicts
from activeselect.study.collect import axes_of, model_costs
from activeselect.study.curves import log_ratio, mean_gain, overall_log_ratio
from activeselect.study.efficiency import analyse
from activeselect.study.resampling import CurveSet

BUDGETS = np.array([150.0, 300.0, 600.0, 1200.0])
COST = {
    "train_s": 2.0,
    "score_s": 1.0,
    "select_s": 0.5,
    "eval_s": 9.0,
    "tokens_trained": 100,
    "tokens_generated": 10,
    "samples_seen": 40,
}
rising = st.lists(st.integers(1, 30), min_size=4, max_size=4).map(
    lambda steps: np.cumsum(steps) / 130
)


def answers(rng: np.random.Generator, accuracy: list[float], seeds: int = 6) -> np.ndarray:
    return rng.random((seeds, len(accuracy), 900)) < np.array(accuracy)[:, None]


def entry(stage: int, **changes: object) -> dict[str, object]:
    cost = {name: value * (stage + 1) for name, value in COST.items()}
    row = {"unique_examples": 10 * (stage + 1), "samples_seen": 40 * (stage + 1), "cost": cost}
    return row | changes


def test_every_axis_has_words() -> None:
    assert set(verdicts.AXIS_WORDS) == set(AXES)


@given(rising, st.floats(1.1, 5))
def test_the_same_curve_at_k_times_the_price_has_ratio_one_over_k(
    curve: np.ndarray, k: float
) -> None:
    overall = overall_log_ratio(BUDGETS * k, curve, curve, BUDGETS)
    assert float(np.exp(overall)) == pytest.approx(1 / k, rel=1e-6)
    ratios = log_ratio(BUDGETS * k, curve, curve, BUDGETS)
    np.testing.assert_allclose(np.exp(ratios), 1 / k, rtol=1e-6)


@given(rising)
def test_equal_prices_of_their_own_change_nothing(curve: np.ndarray) -> None:
    other = curve[::-1].copy()
    for function in (log_ratio, overall_log_ratio):
        np.testing.assert_allclose(
            function(BUDGETS, curve, other), function(BUDGETS, curve, other, BUDGETS)
        )
    exact = mean_gain(BUDGETS, curve, other)
    assert float(mean_gain(BUDGETS, curve, other, BUDGETS, grid=3001)) == pytest.approx(
        float(exact), abs=1e-3
    )


def test_curves_without_a_common_range_have_no_mean_gain() -> None:
    curve = np.array([0.5, 0.6])
    assert np.isnan(mean_gain(np.array([1.0, 2.0]), curve, curve, np.array([10.0, 20.0])))


def test_a_strategy_that_measures_pays_for_the_models_it_measured() -> None:
    curve = [entry(0), entry(1), entry(2)]
    active, passive = model_costs(curve, needs_rounds=True), model_costs(curve, needs_rounds=False)
    assert active[2]["tokens_total"] == 330
    assert active[2]["seconds"] == pytest.approx(3 * 3.5)  # testing is not counted
    assert passive[2]["tokens_total"] == 100
    assert passive[2]["seconds"] == pytest.approx(2.0)
    assert passive[2]["unique_examples"] == active[2]["unique_examples"] == 30


def test_runs_without_costs_per_stage_have_two_axes() -> None:
    rows = [{"costs": costs} for costs in model_costs([entry(0, cost=None)], needs_rounds=True)]
    assert axes_of(rows) == ["unique_examples", "samples_seen"]


def test_twice_the_price_turns_a_saving_around() -> None:
    rng = np.random.default_rng(3)
    truth = {"random": [0.5, 0.6, 0.7, 0.8], "half": [0.55, 0.65, 0.75, 0.82]}
    correct = {name: answers(rng, curve) for name, curve in truth.items()}
    cheap = analyse(CurveSet(BUDGETS, correct), "random", rng=rng).efficiency[-1]
    assert cheap["evidence"] == "better"
    noise = np.exp(0.05 * rng.standard_normal((2, 6, 4)))
    spent = {"random": 10 * BUDGETS * noise[0], "half": 30 * BUDGETS * noise[1]}
    curves = CurveSet(BUDGETS, correct, cost="tokens_total", spent=spent)
    dear = analyse(curves, "random", rng=rng)
    row = dear.efficiency[-1]
    assert row["evidence"] == "worse"
    assert row["ratio"] == pytest.approx(cheap["ratio"] / 3, rel=0.1)
    assert "more tokens than random" in row["verdict"]
    assert dear.efficiency[0]["budget"] == 150  # still named by its train-set size
    assert dear.efficiency[0]["spent"] == pytest.approx(4500, rel=0.1)


def test_costs_must_be_positive_and_complete() -> None:
    correct = {"random": answers(np.random.default_rng(0), [0.5, 0.6, 0.7, 0.8])}
    with pytest.raises(ValueError, match="shape"):
        CurveSet(BUDGETS, correct, spent={"random": np.ones((2, 4))})
    with pytest.raises(ValueError, match="positive"):
        CurveSet(BUDGETS, correct, spent={"random": np.zeros((6, 4))})


def test_many_strategies_widen_the_joint_interval_and_decide_the_words() -> None:
    rng = np.random.default_rng(8)
    correct = {"random": answers(rng, [0.5, 0.6, 0.7, 0.8])}
    for i in range(6):
        correct[f"s{i}"] = answers(rng, [0.5, 0.6, 0.7, 0.8])
    rows = analyse(CurveSet(BUDGETS, correct), "random", rng=rng).efficiency
    whole = [row for row in rows if row["budget"] is None]
    for row in whole:
        assert row["comparisons"] == 6
        assert row["joint_low"] < row["low"] < row["high"] < row["joint_high"]
        inside = row["joint_low"] < 1 < row["joint_high"]
        assert (row["evidence"] == "none") == inside
        assert "with all 6 together" in row["verdict"]


def test_effect_size_is_hedges_g_of_the_pairs() -> None:
    rng = np.random.default_rng(5)
    correct = {"random": answers(rng, [0.5, 0.6, 0.7, 0.8])}
    correct["more"] = answers(rng, [0.55, 0.65, 0.75, 0.85])
    curves = CurveSet(BUDGETS, correct)
    row = analyse(curves, "random", rng=rng).gain[0]
    gains = [
        float(mean_gain(BUDGETS, ours, theirs))
        for ours, theirs in zip(curves.accuracy["more"], curves.accuracy["random"], strict=True)
    ]
    expected = np.mean(gains) / np.std(gains, ddof=1) * (1 - 3 / (4 * 5 - 1))
    assert row["effect_size"] == pytest.approx(expected)
    # Hedges' correction exactly, by the gamma function, of which the usual one is an approximation
    exact = math.gamma(5 / 2) / (math.sqrt(5 / 2) * math.gamma(4 / 2))
    plain = np.mean(gains) / np.std(gains, ddof=1)
    assert row["effect_size"] == pytest.approx(plain * exact, rel=0.01)
    assert row["seeds_better"] == sum(g > 0 for g in gains)
