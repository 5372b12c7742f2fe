"""The forecast from arrays in memory, and the regressors that ship."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from activeselect.cli.forecast import fit_runs
from activeselect.errors import DataError
from activeselect.forecast.evaluate import forecast_features
from activeselect.forecast.live import (
    LLAMA_3_8B,
    forecaster_for,
    live_forecast,
    load_pretrained,
    load_regressor,
    source_of,
    tau_of,
)
from activeselect.forecast.traces import RunTrace, read_traces
from research.forecast_pretrained import shipped_models


def test_live_equals_the_recorded_forecast(toy_runs: list[RunTrace]) -> None:
    model = fit_runs(toy_runs[:5])
    run = toy_runs[5]
    X = forecast_features(run)
    for r in range(3):
        now = live_forecast(run.accuracy[: r + 1], run.mean_nll[: r + 1], model, samples=5)
        assert now.value == model.predict(X)[r]
        examples = [run.accuracy.shape[1]] * 3
        assert [now.low, now.high] == model.predict_interval(X, examples=examples)[r].tolist()
        assert now.source == "runs of your own (5 runs)"


def test_live_works_with_any_number_of_samples(toy_runs: list[RunTrace]) -> None:
    model, run = fit_runs(toy_runs[:5]), toy_runs[5]
    full = live_forecast(run.accuracy, run.mean_nll, model)
    right = np.rint(run.accuracy * 5).astype(int)
    rng = np.random.default_rng(0)
    for n in (1, 2, 4):
        accuracy = rng.hypergeometric(right, 5 - right, n) / n
        now = live_forecast(accuracy, run.mean_nll, model)
        assert abs(now.value - full.value) < 0.1


def test_live_with_what_a_scorer_leaves_out(toy_runs: list[RunTrace]) -> None:
    model, run = fit_runs(toy_runs[:5]), toy_runs[5]
    full = live_forecast(run.accuracy, run.mean_nll, model, samples=5)
    accuracy = np.where(run.mean_nll < 0.05, np.nan, run.accuracy)
    skipped = live_forecast(accuracy, run.mean_nll, model, samples=5)
    assert abs(skipped.value - full.value) < 0.02
    subset = np.arange(run.accuracy.shape[1]) % 2 == 0
    some = live_forecast(
        np.where(subset, run.accuracy, np.nan), np.where(subset, run.mean_nll, np.nan), model
    )
    alone = live_forecast(run.accuracy[:, subset], run.mean_nll[:, subset], model)
    assert some[:3] == pytest.approx(alone[:3])


def test_live_is_quick_enough_for_every_round() -> None:
    rng = np.random.default_rng(0)
    accuracy, nll = rng.integers(0, 6, (6, 7473)) / 5, rng.gamma(2, 0.1, (6, 7473))
    load_pretrained()
    started = time.perf_counter()
    live_forecast(accuracy, nll)
    assert time.perf_counter() - started < 2


def test_live_says_what_is_missing() -> None:
    nan = float("nan")
    with pytest.raises(ValueError, match="at least one scored checkpoint"):
        live_forecast([[0.5]], [[nan]])
    with pytest.raises(ValueError, match="at least one sampled example"):
        live_forecast([[nan, nan]], [[0.5, 0.4]], samples=4)


def test_shipped_regressors_are_those_of_the_real_runs(shared_data: Path) -> None:
    fresh = shipped_models(shared_data / "traces")["models"]
    assert set(fresh) == {"gsm8k", "math", "any"}
    for name, body in fresh.items():
        shipped = load_pretrained(name)
        assert (shipped.column_, shipped.calibration_) == (body["column_"], body["calibration_"])
        assert (shipped.slope_, shipped.intercept_) == (body["slope_"], body["intercept_"])
        assert [pytest.approx(run) for run in body["scores_"]] == shipped.scores_


def test_shipped_regressors_on_a_real_run(shared_data: Path) -> None:
    run = read_traces(shared_data / "traces", "gsm8k")[-1]
    now = live_forecast(run.accuracy, run.mean_nll, load_pretrained("gsm8k"))
    assert now.value == pytest.approx(run.test_accuracy[-1], abs=0.04)
    assert "Llama-3-8B runs on gsm8k (10 runs)" in now.source
    assert tau_of(load_pretrained("gsm8k"), run.mean_nll) == pytest.approx(0.146, abs=0.01)


def test_the_regressor_for_unknown_data_is_less_sure() -> None:
    accuracy, nll = [[0.2, 0.6, 0.4, 0.8] * 500], [[0.9, 0.8, 0.7, 0.9] * 500]
    widths = {}
    for name in ("gsm8k", "math", "any"):
        now = live_forecast(accuracy, nll, load_pretrained(name))
        widths[name] = now.high - now.low
    assert widths["any"] > 3 * max(widths["gsm8k"], widths["math"])


@pytest.mark.parametrize("share", [0.0, 0.02, 0.1, 0.9, 1.0])
def test_the_regressor_for_unknown_data_is_not_sure_of_small_values_either(share: float) -> None:
    accuracy = np.repeat([[0.0, 1.0]], [1000 - int(1000 * share), int(1000 * share)], axis=1)
    now = live_forecast(accuracy, np.full(accuracy.shape, 0.9), samples=5)
    assert now.high - now.low > 0.16  # half of it lies outside of the shares
    if share == 0.1:  # as on a dataset that it took for GSM8K: forecast .084, measured .142
        assert now.low <= 0.142 <= now.high


@pytest.mark.parametrize("name", ["gsm8k", "math", "any"])
@pytest.mark.parametrize("right", [0.0, 1.0])
def test_one_train_example_says_little(name: str, right: float) -> None:
    now = live_forecast([[right]], [[0.9]], load_pretrained(name), samples=5)
    assert now.high - now.low > 0.3


class Config:
    """A model's config as transformers has it, as far as the forecast asks."""

    def __init__(self, **changes: object) -> None:
        vars(self).update({**LLAMA_3_8B, **changes})


@pytest.mark.parametrize("dataset", ["gsm8k", "math"])
def test_auto_knows_dataset_and_model(dataset: str) -> None:
    def source(**about: Any) -> str:
        forecaster = forecaster_for("auto", samples=5, **about)
        assert forecaster is not None
        return source_of(forecaster.regressor)

    assert f"runs on {dataset} (" in source(dataset=dataset, model=Config())
    unknown = source_of(load_pretrained("any"))
    assert "unknown data" in unknown
    assert source(dataset="columns", model=Config()) == unknown  # ASDiv marks answers with ####
    assert source(dataset=dataset, model=Config(hidden_size=576)) == unknown
    assert source(dataset=dataset, model=Config(model_type="qwen2")) == unknown
    assert source(dataset=dataset) == source() == unknown
    named = forecaster_for(dataset, samples=5)
    assert named is not None
    assert source_of(named.regressor) != unknown
    assert forecaster_for("off", samples=5) is None
    assert forecaster_for(False, samples=5) is None


def test_tests_of_earlier_stages_shift_the_forecast() -> None:
    rng = np.random.default_rng(0)
    accuracy, nll = rng.integers(0, 6, (1, 1000)) / 5, np.full((1, 1000), 0.9)
    forecaster = forecaster_for("any", samples=5)
    assert forecaster is not None
    first = forecaster(accuracy, nll)
    tested = {"test_accuracy": first.value - 0.15, "test_examples": 1000}
    curve = [{"forecast": first._asdict(), **tested}] * 3
    now = forecaster.after(curve)(accuracy, nll)
    assert now.raw == first.raw
    assert first.value - 0.16 < now.value < first.value - 0.08
    assert now.high - now.low < first.high - first.low
    assert now.low <= first.value - 0.15 <= now.high
    assert "shifted by 3 tests of this run" in now.source
    without = [{"forecast": None, **tested}, {"forecast": first._asdict(), "test_accuracy": None}]
    assert forecaster.after(without)(accuracy, nll) == first


def test_unknown_names_and_files(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="Did you mean 'gsm8k'"):
        load_pretrained("gsm8")
    with pytest.raises(DataError, match="make one with"):
        load_regressor(tmp_path / "absent.json")
    (tmp_path / "other.json").write_text(json.dumps({"a": 1}))
    with pytest.raises(DataError, match="found other JSON"):
        load_regressor(tmp_path / "other.json")
