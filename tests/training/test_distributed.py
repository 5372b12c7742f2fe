"""Several processes are one run: the same selections as one process, one set of files, no hangs."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from safetensors.numpy import load_file

from activeselect.config import (
    RecipeConfig,
    RoundsConfig,
    RunConfig,
    ScoringConfig,
    to_plain,
)
from activeselect.training.run import ActiveRun
from tests.support import skills, small_run


def config(model: Path | str, **changes: Any) -> RunConfig:
    """18 and 26 samples in batches of 8: neither divides, so the last batches are padded."""
    small = small_run(
        model,
        data=skills(120, 21),
        strategy="premem",
        rounds=RoundsConfig(budgets=(18, 26)),
        scoring=ScoringConfig(samples=2, max_new_tokens=8, batch_tokens=400),
        accelerator="cpu",
        save_model=True,
    )
    return replace(small, **changes)


def start(chosen: RunConfig, out: Path, *launcher: str) -> subprocess.Popen[str]:
    file = out.with_suffix(".yaml")
    file.write_text(yaml.safe_dump(to_plain(chosen)))
    command = [*(launcher or (sys.executable,)), "-m", "activeselect", "train"]
    environment = {k: v for k, v in os.environ.items() if k not in ("LOCAL_RANK", "WORLD_SIZE")}
    return subprocess.Popen(
        [*command, "--config", str(file), "--out", str(out)],
        env={**environment, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def train(chosen: RunConfig, out: Path, *launcher: str) -> str:
    process = start(chosen, out, *launcher)
    said, complaints = process.communicate()
    assert process.returncode == 0, complaints[-3000:]
    assert said.count("Run folder") == 1, "every process reported"
    return complaints


def assert_same_run(one: Path, other: Path, estimated: tuple[str, ...] = ()) -> None:
    """Equal in everything that is counted or chosen, close in what is summed or ``estimated``."""
    rounds = sorted(file.name for file in (one / "scores").glob("*.parquet"))
    assert rounds == sorted(file.name for file in (other / "scores").glob("*.parquet")) != []
    for name in rounds:
        first, second = (pq.read_table(run / "scores" / name).to_pydict() for run in (one, other))
        assert first.keys() == second.keys()
        summed = ("mean_nll", *estimated)
        for column in first.keys() - set(summed):
            assert first[column] == second[column], (name, column)
        for column in summed:
            np.testing.assert_allclose(first[column], second[column], rtol=1e-4)
    results = [json.loads((run / "result.json").read_text()) for run in (one, other)]
    for entries in zip(*(result["curve"] for result in results), strict=True):
        for entry in entries:
            if estimated:
                entry["premem"] = pytest.approx(entry["premem"], rel=1e-4)
            for part in ("train_s", "score_s", "select_s", "eval_s"):
                del entry["cost"][part], entry["cost_of_model"][part]
        assert entries[0] == entries[1]
    weights = [load_file(run / "model" / "model.safetensors") for run in (one, other)]
    for name in weights[0]:
        np.testing.assert_allclose(weights[0][name], weights[1][name], atol=1e-5)
    tables = []
    for run in (one, other):
        with (run / "metrics.csv").open() as handle:
            tables.append(list(csv.DictReader(handle)))
    for first, second in zip(*tables, strict=True):
        assert float(first["train/loss"]) == pytest.approx(float(second["train/loss"]), rel=1e-5)


def test_two_processes_train_what_one_trains(tiny_model: Path, tmp_path: Path) -> None:
    ActiveRun(config(tiny_model)).run(tmp_path / "one")
    complaints = train(config(tiny_model, devices=2), tmp_path / "two")
    assert_same_run(tmp_path / "one", tmp_path / "two")
    assert "Warning" not in complaints
    assert "recommended" not in complaints


@pytest.mark.slow
def test_two_processes_ask_a_sampling_policy_for_the_same(tiny_model: Path, tmp_path: Path) -> None:
    little = ScoringConfig(
        samples=3, max_new_tokens=8, batch_tokens=400, policy="skip-memorized", tau=5.4
    )
    chosen = config(tiny_model, scoring=little)
    ActiveRun(chosen).run(tmp_path / "one")
    train(replace(chosen, devices=2), tmp_path / "two")
    assert_same_run(tmp_path / "one", tmp_path / "two", estimated=("accuracy", "premem"))
    rows = pq.read_table(tmp_path / "two" / "scores" / "round-00000.parquet").to_pydict()
    assert 0 < sum(rows["sampled"]) < 3 * len(rows["sampled"])


def children(process: subprocess.Popen[str]) -> list[int]:
    file = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    return [int(pid) for pid in file.read_text().split()]


def ended(pid: int, within: float) -> bool:
    """Whether a process is gone, or waits for nothing but to be reaped by its parent."""
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return True
        if state == "Z":
            return True
        time.sleep(0.05)
    return False


def wait_for(file: Path, process: subprocess.Popen[str]) -> None:
    while not file.exists():
        assert process.poll() is None, process.communicate()[1][-3000:]
        time.sleep(0.01)


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_a_killed_process_ends_the_run_and_another_number_of_them_continues(
    tiny_model: Path, tmp_path: Path, victim: int
) -> None:
    long = RecipeConfig(learning_rate=1e-3, epochs=6, batch_size=8)
    chosen = config(tiny_model, recipe=long, rounds=RoundsConfig(budgets=(64, 80)))
    ActiveRun(chosen).run(tmp_path / "whole")
    process = start(replace(chosen, devices=2), tmp_path / "run")
    wait_for(tmp_path / "run" / "checkpoints" / "stage-0.ckpt", process)
    (other,) = children(process)
    os.kill([process.pid, other][victim], signal.SIGKILL)
    _, complaints = process.communicate(timeout=60)  # ends when both have closed their output
    assert process.returncode != 0
    assert "lost another process" in complaints
    assert ended(other, within=30)
    assert not (tmp_path / "run" / "result.json").exists()
    ActiveRun(chosen).run(tmp_path / "run")  # on one device
    assert_same_run(tmp_path / "whole", tmp_path / "run")


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "changes",
    [{"devices": 4}, {"devices": 2, "parallel": "fsdp"}],
    ids=["four processes", "sharded weights"],
)
def test_more_processes_and_sharded_weights_train_the_same(
    tiny_model: Path, tmp_path: Path, changes: dict[str, Any]
) -> None:
    ActiveRun(config(tiny_model)).run(tmp_path / "one")
    train(config(tiny_model, **changes), tmp_path / "several")
    assert_same_run(tmp_path / "one", tmp_path / "several")
