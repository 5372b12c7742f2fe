"""The protocols: nothing leaks, the figures are what they are called, the bar is met."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from activeselect.errors import DataError
from activeselect.forecast.baselines import baselines_for, premem
from activeselect.forecast.evaluate import (
    Judged,
    bootstrap,
    evaluation,
    figures,
    forecast_features,
    hold_out,
    leave_one_run_out,
)
from activeselect.forecast.traces import RunTrace, read_traces


def scrambled(runs: list[RunTrace], judged: int, seed: int) -> list[RunTrace]:
    """The runs, with the test accuracies of one of them replaced by noise."""
    noise = np.random.default_rng(seed).random(len(runs[judged].step))
    changed = replace(runs[judged], test_accuracy=noise)
    return [*runs[:judged], changed, *runs[judged + 1 :]]


def of_run(judged: Judged, group: str) -> tuple[list[float], list[list[float]]]:
    rows = [k for k, name in enumerate(judged.run) if name == group]
    return judged.forecast[rows].tolist(), judged.interval[rows].tolist()


@settings(max_examples=6)
@given(st.integers(0, 5), st.integers(0, 1000))
def test_labels_of_the_judged_run_reach_nothing(
    toy_runs: list[RunTrace], judged: int, seed: int
) -> None:
    before = leave_one_run_out(toy_runs)
    after = leave_one_run_out(scrambled(toy_runs, judged, seed))
    group = toy_runs[judged].group
    assert of_run(after, group) == of_run(before, group)
    assert after.column[group] == before.column[group]
    others = [run.group for run in toy_runs if run.group != group]
    assert any(of_run(after, name) != of_run(before, name) for name in others)


@pytest.mark.parametrize("dataset", ["gsm8k", "math"])
def test_labels_of_a_real_judged_run_reach_nothing(shared_data: Path, dataset: str) -> None:
    runs = read_traces(shared_data / "traces", dataset)
    before = leave_one_run_out(runs)
    for judged in (0, len(runs) - 1):
        after = leave_one_run_out(scrambled(runs, judged, seed=0))
        assert of_run(after, runs[judged].group) == of_run(before, runs[judged].group)


def test_baselines_do_not_see_the_judged_labels_either(toy_runs: list[RunTrace]) -> None:
    changed = scrambled(toy_runs, 3, seed=1)
    for baseline in baselines_for("gsm8k"):
        before = leave_one_run_out(toy_runs, baseline.columns, baseline.calibration)
        after = leave_one_run_out(changed, baseline.columns, baseline.calibration)
        assert of_run(after, toy_runs[3].group) == of_run(before, toy_runs[3].group)


def test_held_out_labels_reach_nothing(toy_runs: list[RunTrace]) -> None:
    fit, judge = toy_runs[:4], toy_runs[4:]
    before = hold_out(fit, judge)
    after = hold_out(fit, scrambled(judge, 0, seed=2))
    assert before.forecast.tolist() == after.forecast.tolist()
    assert before.interval.tolist() == after.interval.tolist()


def test_features_ignore_test_accuracy(toy_runs: list[RunTrace]) -> None:
    blind = replace(toy_runs[0], test_accuracy=np.full(3, np.nan))
    assert forecast_features(blind).tolist() == forecast_features(toy_runs[0]).tolist()


@pytest.mark.parametrize(
    ("dataset", "r2", "mae", "runs", "checkpoints"),
    [("gsm8k", 0.94, 0.028, 10, 36), ("math", 0.95, 0.0065, 8, 27)],
)
def test_the_bar_on_the_papers_runs(
    shared_data: Path, dataset: str, r2: float, mae: float, runs: int, checkpoints: int
) -> None:
    report = evaluation(read_traces(shared_data / "traces", dataset))
    assert report["r2"] >= r2
    assert report["mae"] <= mae
    assert 0.85 <= report["coverage"] <= 0.97
    assert (report["n_runs"], report["n_checkpoints"]) == (runs, checkpoints)
    assert max(entry["r2"] for entry in report["baselines"].values()) < report["r2"]


def test_the_papers_metric_reproduces_known_figures(shared_data: Path) -> None:
    runs = read_traces(shared_data / "traces", "gsm8k")
    y = np.concatenate([run.test_accuracy for run in runs])
    x = np.concatenate([premem(run, (np.exp(-2.3),))[:, 0] for run in runs])
    in_sample = np.corrcoef(x, y)[0, 1] ** 2
    assert in_sample == pytest.approx(0.953, abs=0.002)


def test_report_has_what_is_promised(toy_runs: list[RunTrace]) -> None:
    report = evaluation(toy_runs)
    wanted = {"protocol", "r2", "mae", "rmse", "tau", "coverage", "n_runs", "n_checkpoints"}
    assert wanted <= set(report)
    assert report["protocol"] == "leave-one-run-out"
    for entry in report["baselines"].values():
        assert {"r2", "mae", "rmse", "coverage"} <= set(entry)
    assert set(report["baselines"]) == {b.name for b in baselines_for("toy")}
    assert len(report["checkpoints"]) == report["n_checkpoints"] == 18
    held_out = evaluation(toy_runs[:4], toy_runs[4:])
    assert (held_out["protocol"], held_out["n_runs"]) == ("holdout", 2)


def judged(actual: Any, forecast: Any, half: float = 0.1) -> Judged:
    actual, forecast = np.array(actual, float), np.array(forecast, float)
    interval = np.column_stack([forecast - half, forecast + half])
    return Judged([f"r{k}" for k in range(len(actual))], actual, forecast, interval, {})


def test_figures_by_hand() -> None:
    found = figures(judged([0.0, 0.2, 0.4], [0.0, 0.3, 0.6], half=0.15))
    assert found["mae"] == pytest.approx(0.1)
    assert found["rmse"] == pytest.approx(np.sqrt(0.05 / 3))
    assert found["r2"] == pytest.approx(1 - 0.05 / 0.08)
    assert found["coverage"] == pytest.approx(2 / 3)
    assert figures(judged([0.3], [0.2]))["r2"] is None
    assert figures(judged([0.3, 0.3], [0.2, 0.3]))["r2"] is None


def test_bootstrap_is_repeatable_and_surrounds_the_estimate() -> None:
    rng = np.random.default_rng(0)
    actual = rng.random(20)
    case = judged(actual, actual + 0.05 * rng.standard_normal(20))
    first = bootstrap(case)
    assert first == bootstrap(case)
    low, high = first["r2"]
    estimate = figures(case)["r2"]
    assert estimate is not None
    assert low < estimate < high
    assert bootstrap(judged([0.3], [0.3])) == {}


def test_too_little_to_learn_from(toy_runs: list[RunTrace]) -> None:
    with pytest.raises(DataError, match="at least 3 runs with a measured test accuracy, found 1"):
        evaluation(toy_runs[:1])
    nan = float("nan")
    sparse = [replace(run, test_accuracy=np.array([nan, nan, 0.3])) for run in toy_runs[:3]]
    with pytest.raises(DataError, match=r"at least 5 checkpoints with a measured .* found 3"):
        evaluation(sparse)
    untested = [replace(run, test_accuracy=np.full(3, nan)) for run in toy_runs]
    with pytest.raises(DataError, match="judging needs at least 1 runs"):
        evaluation(toy_runs, untested)
    with pytest.raises(DataError, match="run 'toy/run-3' is in both"):
        evaluation(toy_runs[:4], toy_runs[3:])


def test_a_run_without_scores_is_refused(toy_runs: list[RunTrace]) -> None:
    empty = replace(toy_runs[0], mean_nll=np.full((3, 80), np.nan))
    with pytest.raises(DataError, match=r"run 'run-0': .*record it again"):
        evaluation([empty, *toy_runs[1:]])


def test_untested_checkpoints_still_feed_the_history(toy_runs: list[RunTrace]) -> None:
    nan = float("nan")
    last_only = [
        replace(run, test_accuracy=np.array([nan, nan, run.test_accuracy[2]])) for run in toy_runs
    ]
    result = leave_one_run_out(last_only)
    assert len(result.actual) == 6
    assert np.abs(result.forecast - result.actual).max() < 0.2
