"""What was tried, and how far figures can be trusted: both agree with the package."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from activeselect.forecast.evaluate import (
    evaluation,
    forecast_features,
    leave_one_run_out,
    stack,
)
from activeselect.forecast.features import dataset_premem, shrink_accuracy
from activeselect.forecast.traces import RunTrace, read_traces
from research import forecast_calibration as calibration
from research import forecast_candidates as candidates
from research import forecast_metrics as candidate_metrics
from research import forecast_stability as stability


def test_every_candidate_runs_on_a_small_world(toy_runs: list[RunTrace]) -> None:
    names = []
    for name, model, columns in candidates.candidates():
        r2, mae = candidates.judge(model, columns, toy_runs)
        assert np.isfinite([r2, mae]).all(), name
        names.append(name)
    assert len(names) == len(set(names)) > 30


def test_the_shipped_candidate_is_the_forecast(toy_runs: list[RunTrace]) -> None:
    name, model, columns = next(c for c in candidates.candidates() if "SHIPPED" in c[0])
    r2, mae = candidates.judge(model, columns, toy_runs)
    report = evaluation(toy_runs)
    assert (r2, mae) == pytest.approx((report["r2"], report["mae"])), name


def test_candidate_metrics_start_from_the_papers(toy_runs: list[RunTrace]) -> None:
    run = toy_runs[1]
    expected = dataset_premem(run.accuracy, run.mean_nll, 0.1)
    assert candidate_metrics.raw(run, 0.1) == pytest.approx(expected)
    single = run.samples * 10**9
    lots = RunTrace(**{**run.__dict__, "samples": single})
    assert candidate_metrics.posterior_mean(lots, 0.1) == pytest.approx(expected)
    assert candidate_metrics.soft_mask(lots, 0.1, 1e-3) == pytest.approx(expected, abs=1e-3)


def test_halves_remove_the_bias_of_the_maximum() -> None:
    rng = np.random.default_rng(0)
    shape = (6, 20_000)
    run = RunTrace(
        name="flat", dataset="toy", step=np.arange(6), epoch=np.arange(6), train_size=shape[1],
        learning_rate=1.0, example_id=np.arange(shape[1]),
        accuracy=rng.binomial(10, 0.5, shape) / 10, mean_nll=np.ones(shape),
        samples=np.full(shape, 10), test_accuracy=np.full(6, 0.5), test_examples=np.full(6, 1),
        test_samples=np.full(6, 1),
    )  # fmt: skip
    run.accuracy[-1] = 1.0
    assert candidate_metrics.raw(run, 0.1)[-1] == 1.0
    run.mean_nll[-1] = 0.01
    assert candidate_metrics.raw(run, 0.1)[-1] > 0.65
    assert candidate_metrics.half_split(run, 0.1)[-1] == pytest.approx(0.5, abs=0.01)


def test_leaving_one_out_by_both_ways_agrees(toy_runs: list[RunTrace]) -> None:
    data = stack(toy_runs, forecast_features)
    r2, mae, worst = stability.leave_several_out(data, 1)
    report = evaluation(toy_runs)
    assert (r2, mae) == pytest.approx((report["r2"], report["mae"]))
    assert worst >= mae


def test_how_often_better_is_a_share(toy_runs: list[RunTrace]) -> None:
    ours = leave_one_run_out(toy_runs)
    assert stability.how_often_better(ours, ours) == 0.0


def test_errors_split_into_between_and_within(toy_runs: list[RunTrace]) -> None:
    parts = stability.error_parts(toy_runs)
    assert parts["rmse"] ** 2 == pytest.approx(
        parts["between runs"] ** 2 + parts["within runs"] ** 2
    )


def test_nothing_hangs_on_three_left_out_runs(shared_data: Path) -> None:
    data = stack(read_traces(shared_data / "traces", "math"), forecast_features)
    r2, mae, worst = stability.leave_several_out(data, 2)
    assert r2 > 0.95
    assert mae < 0.0065
    assert worst < 0.015


def test_report_of_stability_prints(toy_traces: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stability.main(toy_traces, ratios=(0.25,))
    printed = capsys.readouterr().out
    assert "3 runs left out" in printed
    assert "coverage 50%" in printed


def test_what_is_memorized_is_stood_for_by_those_alike(toy_runs: list[RunTrace]) -> None:
    """Nothing masked: the mean. All masked but one of a stratum: that one stands for all of it."""
    run = toy_runs[0]
    shrunk = shrink_accuracy(run.accuracy, run.samples)
    assert calibration.censored(run, 0.0) == pytest.approx(shrunk.mean(axis=1))
    nll = np.zeros_like(run.mean_nll)
    strata = np.minimum(run.accuracy[0] * calibration.STRATA, calibration.STRATA - 1).astype(int)
    stands = {s: int(np.flatnonzero(strata == s)[0]) for s in set(strata.tolist())}
    nll[:, list(stands.values())] = 1.0
    got = calibration.censored(RunTrace(**{**run.__dict__, "mean_nll": nll}), 0.5)
    expected = [np.mean([row[stands[s]] for s in strata.tolist()]) for row in shrunk]
    assert got == pytest.approx(expected)


def test_every_calibration_is_judged(
    toy_runs: list[RunTrace], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calibration, "datasets_in", lambda _: ["toy"])
    monkeypatch.setattr(calibration, "read_traces", lambda *_: toy_runs)
    calibration.main(Path("anywhere"))
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    forms = len(list(calibration.forms()))
    assert len(rows) == forms + 1  # once: all of the toy runs have one learning rate
    report = evaluation(toy_runs)
    assert f"| {report['r2']:.3f} | {report['mae']:.4f} |" in rows[2]
