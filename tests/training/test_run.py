"""Whole runs with a tiny random model: both modes, what the folder holds, and resuming."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from activeselect.config import (
    RecipeConfig,
    RoundsConfig,
    RunConfig,
    ScoringConfig,
    to_plain,
)
from activeselect.errors import ConfigError, StoreError
from activeselect.forecast.live import forecaster_for
from activeselect.scoring.functional import pre_memorization_accuracy
from activeselect.training.folder import model_fingerprint
from activeselect.training.module import load_model, save_model
from activeselect.training.run import ActiveRun
from tests.support import skills, small_run


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def config(model: Path, **changes: object) -> RunConfig:
    small = small_run(
        model,
        data=skills(120, 30),
        strategy="premem",
        rounds=RoundsConfig(budgets=(20, 40), score_every=1),
        scoring=ScoringConfig(samples=2, max_new_tokens=12),
        save_model=True,
    )
    return replace(small, **changes)  # type: ignore[arg-type]


def digest(folder: Path) -> str:
    """Hash of everything that a run decides; times are left out."""
    found = hashlib.sha256()
    for file in sorted((folder / "scores").glob("*.parquet")):
        found.update(json.dumps(pq.read_table(file).to_pydict()).encode())
    result = json.loads((folder / "result.json").read_text())
    seconds = ("train_s", "score_s", "select_s", "eval_s")
    costs = [entry[name] for entry in result["curve"] for name in ("cost", "cost_of_model")]
    for spent in (result["cost"], *costs):
        for name in seconds:
            del spent[name]
    found.update(json.dumps([result["curve"], result["cost"]]).encode())
    if (folder / "model").is_dir():
        found.update((folder / "model" / "model.safetensors").read_bytes())
    return found.hexdigest()


def test_acquire_grows_the_train_set_and_fills_the_folder(tiny_model: Path, tmp_path: Path) -> None:
    result = ActiveRun(config(tiny_model)).run(tmp_path / "run")
    assert [entry["budget"] for entry in result.curve] == [20, 40]
    assert [sum(entry["groups"].values()) for entry in result.curve] == [20, 40]
    assert result.cost["samples_seen"] == (20 + 40) * 2
    assert result.cost["tokens_generated"] > 0
    spent = [entry["cost"] for entry in result.curve]
    assert [cost["samples_seen"] for cost in spent] == [20 * 2, (20 + 40) * 2]
    assert spent[1] == result.cost  # after the last stage nothing more is spent
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert names >= {
        "config.json",
        "environment.json",
        "metrics.csv",
        "model",
        "predictions",
        "result.json",
        "scores",
    }
    first = pq.read_table(tmp_path / "run" / "scores" / "round-00000.parquet").to_pydict()
    last = pq.read_table(tmp_path / "run" / "scores" / "round-00003.parquet").to_pydict()
    assert set(first["index"]) < set(last["index"])  # stage 1 keeps what stage 0 had
    header = (tmp_path / "run" / "metrics.csv").read_text().splitlines()[0]
    assert "score/premem" in header
    assert "train/loss" in header


def test_stored_premem_is_the_formula_within_each_stage(tiny_model: Path, tmp_path: Path) -> None:
    ActiveRun(config(tiny_model)).run(tmp_path)
    rounds = [pq.read_table(file) for file in sorted((tmp_path / "scores").glob("*.parquet"))]
    for stage in (0, 1):
        tables = [table for table in rounds if table["stage"][0].as_py() == stage]
        accuracy, nll, premem = (
            np.stack([table[name].to_numpy() for table in tables])
            for name in ("accuracy", "mean_nll", "premem")
        )
        np.testing.assert_array_equal(premem, pre_memorization_accuracy(accuracy, nll, 0.1))


def test_reweight_trains_one_fit_on_a_fixed_set(tiny_model: Path, tmp_path: Path) -> None:
    chosen = config(
        tiny_model,
        rounds=RoundsConfig(mode="reweight", budgets=(24,)),
        strategy={"name": "premem", "threshold": 0.0, "floor": 0.5},
    )
    result = ActiveRun(chosen).run(tmp_path)
    assert len(result.curve) == 1
    assert result.curve[0]["samples_seen"] == 24 * 2


def test_continuing_from_the_last_stage_differs_from_restarting(
    tiny_model: Path, tmp_path: Path
) -> None:
    restarted = ActiveRun(config(tiny_model)).run(tmp_path / "a")
    rounds = RoundsConfig(budgets=(20, 40), restart=False)
    continued = ActiveRun(config(tiny_model, rounds=rounds)).run(tmp_path / "b")
    weights = [(tmp_path / name / "model" / "model.safetensors").read_bytes() for name in "ab"]
    assert restarted.curve[0]["groups"] == continued.curve[0]["groups"]
    assert weights[0] != weights[1]


def test_random_measures_nothing(tiny_model: Path, tmp_path: Path) -> None:
    result = ActiveRun(config(tiny_model, strategy="random")).run(tmp_path)
    assert result.cost["tokens_generated"] == 0
    assert result.cost["score_s"] == 0
    assert result.curve[-1]["premem"] is None
    assert not list((tmp_path / "scores").iterdir())


def test_strategies_share_their_first_stage(tiny_model: Path, tmp_path: Path) -> None:
    runs = {}
    for strategy in ("random", "premem"):
        chosen = config(tiny_model, strategy=strategy)
        runs[strategy] = ActiveRun(chosen).run(tmp_path / strategy)
    first = [pq.read_table(tmp_path / name / "predictions" / "stage-0.parquet") for name in runs]
    assert first[0].equals(first[1])


def test_a_finished_run_is_returned_as_it_is(tiny_model: Path, tmp_path: Path) -> None:
    first = ActiveRun(config(tiny_model)).run(tmp_path)
    again = ActiveRun(config(tiny_model)).run(tmp_path)
    assert again == first


def test_each_round_logs_a_forecast_and_the_result_says_whose(
    tiny_model: Path, tmp_path: Path
) -> None:
    forecaster = forecaster_for("any", samples=2)
    result = ActiveRun(config(tiny_model), forecaster=forecaster).run(tmp_path)
    for entry in result.curve:
        now = entry["forecast"]
        assert 0 <= now["low"] <= now["value"] <= now["high"] <= 1
        assert "Llama-3-8B" in now["source"]
    with (tmp_path / "metrics.csv").open() as handle:
        rows = list(csv.DictReader(handle))
    assert len(rows) == 4
    assert all(row["forecast/test_accuracy"] and row["forecast/low"] for row in rows)


def test_other_settings_in_the_same_folder_are_refused(tiny_model: Path, tmp_path: Path) -> None:
    ActiveRun(config(tiny_model)).run(tmp_path)
    with pytest.raises(StoreError, match=r"seed: 0 -> 1"):
        ActiveRun(config(tiny_model, seed=1)).run(tmp_path)


def test_scores_of_another_model_are_refused_although_the_settings_are_the_same(
    tiny_model: Path, tmp_path: Path
) -> None:
    """The model folder was overwritten between two starts; its name, a setting, stayed."""
    model = shutil.copytree(tiny_model, tmp_path / "model")
    chosen = config(model)

    def stop(done: int, total: int, doing: str) -> None:
        if done > 20 + 8:
            raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        ActiveRun(chosen).run(tmp_path / "run", progress=stop)
    weights = load_file(model / "model.safetensors")
    weights["model.norm.weight"][0] += 1e-3
    save_file(weights, model / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(StoreError, match=r"the model was changed since it was begun \(model\.safe"):
        ActiveRun(chosen).run(tmp_path / "run")
    shutil.copytree(tiny_model, model, dirs_exist_ok=True)
    ActiveRun(chosen).run(tmp_path / "run")


def test_a_models_fingerprint_is_its_content(tiny_model: Path, tmp_path: Path) -> None:
    model, tokenizer = load_model(str(tiny_model))
    first = model_fingerprint(model, tokenizer)
    save_model(model, tokenizer, tmp_path)
    assert model_fingerprint(*load_model(str(tmp_path))) == first
    with torch.no_grad():
        model.model.norm.weight[0] += 1e-7
    assert model_fingerprint(model, tokenizer) != first
    again, tokenizer = load_model(str(tmp_path))
    again.config.rms_norm_eps *= 2
    assert model_fingerprint(again, tokenizer) != first
    again, tokenizer = load_model(str(tmp_path))
    tokenizer.add_tokens(["new"])
    assert model_fingerprint(again, tokenizer) != first
    assert model_fingerprint(again.bfloat16(), tokenizer) != first


def test_a_budget_above_the_pool_is_refused(tiny_model: Path) -> None:
    with pytest.raises(ConfigError, match=r"largest budget is 500.*pool has 120"):
        ActiveRun(config(tiny_model, rounds=RoundsConfig(budgets=(20, 500))))


def test_without_score_last_the_same_is_chosen_and_the_last_stage_is_not_measured(
    tiny_model: Path, tmp_path: Path
) -> None:
    found = {}
    for last in (True, False):
        rounds = RoundsConfig(budgets=(20, 40, 60), score_last=last)
        where = tmp_path / str(last)
        result = ActiveRun(config(tiny_model, rounds=rounds)).run(where)
        tables = [pq.read_table(file) for file in sorted((where / "scores").glob("*.parquet"))]
        stages = [table["stage"][0].as_py() for table in tables]
        assert stages == ([0, 0, 1, 1, 2, 2] if last else [0, 0, 1, 1])
        assert (result.curve[-1]["premem"] is None) is not last
        groups = [entry["groups"] for entry in result.curve]
        found[last] = (groups, [entry["test_accuracy"] for entry in result.curve])
    assert found[True] == found[False]


@pytest.mark.parametrize("restart", [True, False])
def test_an_exception_in_any_epoch_resumes_to_the_same_bits(
    tiny_model: Path, tmp_path: Path, restart: bool
) -> None:
    """Stop after every possible batch; the resumed run must end like the uninterrupted one."""
    rounds = RoundsConfig(budgets=(16, 24), score_until=1, restart=restart)
    chosen = config(tiny_model, rounds=rounds)
    forecaster = forecaster_for("any", samples=2)
    ActiveRun(chosen, forecaster=forecaster).run(tmp_path / "whole")
    batches = 2 * 2 + 3 * 2
    for stop in range(1, batches + 1):
        folder = tmp_path / f"stopped-{stop}"
        calls = 0

        def interrupt(done: int, total: int, doing: str) -> None:
            nonlocal calls
            calls += doing == "training"
            if calls == stop:  # noqa: B023  (called within this iteration only)
                raise RuntimeError("stopped")

        with pytest.raises(RuntimeError, match="stopped"):
            ActiveRun(chosen, forecaster=forecaster).run(folder, progress=interrupt)
        reported: list[int] = []

        def note(done: int, total: int, doing: str) -> None:
            reported.extend([done] if doing == "training" else [])  # noqa: B023

        ActiveRun(chosen, forecaster=forecaster).run(folder, progress=note)
        assert not reported or reported[-1] == (16 + 24) * 2
        assert digest(folder) == digest(tmp_path / "whole"), f"stopped after batch {stop}"
        shutil.rmtree(folder)


def _kill_and_resume(
    tiny_model: Path, folder: Path, seconds: float, how: signal.Signals = signal.SIGKILL
) -> str:
    """Start ``activeselect train``, stop it, run it again to the end."""
    file = folder.with_suffix(".yaml")
    file.write_text(yaml.safe_dump(to_plain(_killed_config(tiny_model))))
    command = [sys.executable, "-m", "activeselect", "train", "--config", str(file)]
    command += ["--out", str(folder)]
    one_thread = {**os.environ, "OMP_NUM_THREADS": "1"}  # as here, or sums differ in the last bit
    process = subprocess.Popen(
        command, env=one_thread, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    started = time.monotonic()
    while not (folder / "config.json").exists() and time.monotonic() - started < 120:
        time.sleep(0.02)
    time.sleep(seconds)
    process.send_signal(how)
    _, said = process.communicate()
    if how is signal.SIGINT and not (folder / "result.json").exists():
        assert process.returncode == 130
        assert said.strip().endswith("the same command continues.")
        assert "Traceback" not in said
    done = subprocess.run(command, env=one_thread, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return digest(folder)


def _killed_config(tiny_model: Path) -> RunConfig:
    return config(
        tiny_model,
        rounds=RoundsConfig(budgets=(40, 80)),
        recipe=RecipeConfig(learning_rate=1e-3, epochs=4, batch_size=8),
    )


def test_a_killed_process_resumes_to_the_same_bits(tiny_model: Path, tmp_path: Path) -> None:
    ActiveRun(_killed_config(tiny_model)).run(tmp_path / "whole")
    expected = digest(tmp_path / "whole")
    assert _kill_and_resume(tiny_model, tmp_path / "killed", 1.0) == expected


def test_ctrl_c_says_how_to_go_on(tiny_model: Path, tmp_path: Path) -> None:
    ActiveRun(_killed_config(tiny_model)).run(tmp_path / "whole")
    resumed = _kill_and_resume(tiny_model, tmp_path / "stopped", 0.5, signal.SIGINT)
    assert resumed == digest(tmp_path / "whole")


def test_two_runs_in_one_folder_are_refused(tiny_model: Path, tmp_path: Path) -> None:
    run = ActiveRun(config(tiny_model))

    def second(done: int, total: int, doing: str) -> None:
        with pytest.raises(StoreError, match="Another process is training"):
            ActiveRun(config(tiny_model)).run(tmp_path)
        raise RuntimeError("seen")

    with pytest.raises(RuntimeError, match="seen"):
        run.run(tmp_path, progress=second)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("seconds", np.linspace(0.1, 3.0, 12).round(2).tolist())
def test_killed_at_many_moments(tiny_model: Path, tmp_path: Path, seconds: float) -> None:
    ActiveRun(_killed_config(tiny_model)).run(tmp_path / "whole")
    expected = digest(tmp_path / "whole")
    assert _kill_and_resume(tiny_model, tmp_path / "killed", seconds) == expected
