"""Scoring a finished run's checkpoints gives what live scoring would have given."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from activeselect.config import DataConfig, ScoreConfig, ScoringConfig
from activeselect.errors import ConfigError, ModelError, StoreError
from activeselect.forecast.live import forecaster_for
from activeselect.scoring.functional import pre_memorization_accuracy
from activeselect.training.module import load_model, save_model
from activeselect.training.offline import OfflineScoring, checkpoints_in

SCORING = ScoringConfig(samples=2, max_new_tokens=10, tau=4.0)


@pytest.fixture(scope="module")
def checkpoints(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three checkpoints of a 'run': the tiny model, sharpened more and more."""
    folder = tmp_path_factory.mktemp("run")
    for number, factor in ((5, 1.0), (10, 2.0), (100, 3.0)):
        model, tokenizer = load_model(str(tiny_model))
        with torch.no_grad():
            for weight in model.parameters():
                weight.mul_(factor)
        save_model(model, tokenizer, folder / f"checkpoint-{number}")
    (folder / "runs").mkdir()  # logs, as trainers leave them
    return folder


def config(checkpoints: Path, **changes: object) -> ScoreConfig:
    data = DataConfig("skills:mixed", pool_size=14, test_limit=4)
    return ScoreConfig(str(checkpoints), data, scoring=SCORING, device="cpu", **changes)  # type: ignore[arg-type]


def test_checkpoints_come_in_the_order_of_their_numbers(checkpoints: Path) -> None:
    names = [Path(found).name for found in checkpoints_in(str(checkpoints))]
    assert names == ["checkpoint-5", "checkpoint-10", "checkpoint-100"]
    one = str(checkpoints / "checkpoint-5")
    assert checkpoints_in(one) == [one]


def test_premem_over_checkpoints_is_the_formula(checkpoints: Path, tmp_path: Path) -> None:
    scoring = OfflineScoring(
        config(checkpoints, signals=("premem", "loss", "ifd")),
        forecaster=forecaster_for("any", samples=2),
    )
    entries = scoring.run(tmp_path / "out")
    rounds = [
        pq.read_table(file) for file in sorted((tmp_path / "out" / "scores").glob("*.parquet"))
    ]
    accuracy = np.array([table["accuracy"].to_numpy() for table in rounds])
    mean_nll = np.array([table["mean_nll"].to_numpy() for table in rounds])
    expected = pre_memorization_accuracy(accuracy, mean_nll, 4.0)
    table = pq.read_table(tmp_path / "out" / "examples.parquet")
    np.testing.assert_allclose(table["premem"].to_numpy(), expected[-1])
    np.testing.assert_allclose(table["loss"].to_numpy(), mean_nll[-1])
    assert table["id"].to_pylist() == list(scoring.pool.dataset["id"])
    assert [entry["premem"] for entry in entries] == pytest.approx(expected.mean(axis=1).tolist())
    assert all(entry["forecast"] is not None for entry in entries)


def test_stopped_after_any_checkpoint_it_goes_on(checkpoints: Path, tmp_path: Path) -> None:
    OfflineScoring(config(checkpoints)).run(tmp_path / "whole")
    for stop in (1, 2):

        def interrupt(done: int, total: int, name: str) -> None:
            if done == stop:  # noqa: B023  (called within this iteration only)
                raise RuntimeError("stopped")

        out = tmp_path / str(stop)
        with pytest.raises(RuntimeError, match="stopped"):
            OfflineScoring(config(checkpoints)).run(out, progress=interrupt)
        OfflineScoring(config(checkpoints)).run(out)
        one, other = (pq.read_table(f / "examples.parquet") for f in (tmp_path / "whole", out))
        assert one.equals(other)


def test_shards_together_are_the_whole(checkpoints: Path, tmp_path: Path) -> None:
    whole = OfflineScoring(config(checkpoints)).run(tmp_path / "whole")
    for shard in ("2/3", "1/3", "3/3"):
        entries = OfflineScoring(config(checkpoints, shard=shard)).run(tmp_path / "parts")
        assert ("examples" in entries[-1]) == (shard == "3/3")  # the last one joins
    one, other = (pq.read_table(tmp_path / f / "examples.parquet") for f in ("whole", "parts"))
    assert one.column_names == other.column_names
    for name in ("index", "accuracy", "premem"):
        assert one[name].equals(other[name]), name
    # padded in other batches: equal up to float rounding
    np.testing.assert_allclose(one["mean_nll"].to_numpy(), other["mean_nll"].to_numpy(), rtol=1e-5)
    assert [entry["tokens_generated"] for entry in entries] == [
        entry["tokens_generated"] for entry in whole
    ]


def test_other_settings_and_other_weights_are_refused(checkpoints: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(checkpoints, run)
    OfflineScoring(config(run)).run(tmp_path / "out")
    with pytest.raises(StoreError, match=r"other settings .*seed: 0 -> 1"):
        OfflineScoring(config(run, seed=1)).run(tmp_path / "out")
    shutil.rmtree(run / "checkpoint-10")
    shutil.copytree(run / "checkpoint-5", run / "checkpoint-10")
    with pytest.raises(StoreError, match=r"another .*checkpoint-10"):
        OfflineScoring(config(run)).run(tmp_path / "out")


def test_what_cannot_be_scored_is_named(tmp_path: Path, checkpoints: Path) -> None:
    with pytest.raises(ModelError, match="neither a model nor a folder of checkpoints"):
        checkpoints_in(str(tmp_path))
    with pytest.raises(ConfigError, match="'embedding' is not measured by scoring"):
        OfflineScoring(config(checkpoints, signals=("embedding",)))
    with pytest.raises(ConfigError, match="shard: expected NUMBER/OF"):
        config(checkpoints, shard="5/4")


def test_the_command_scores_a_file(checkpoints: Path, tmp_path: Path) -> None:
    rows = [{"question": f"{i} + 1 ?", "answer": f"so {i + 1}\n#### {i + 1}"} for i in range(3)]
    (tmp_path / "own.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    command = [sys.executable, "-m", "activeselect", "score", "--model", str(checkpoints)]
    command += ["--data", "own.jsonl", "--out", "scores", "scoring.samples=1"]
    command += ["scoring.max_new_tokens=4"]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "140"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "checkpoint-100" in done.stdout
    assert pq.read_table(tmp_path / "scores" / "examples.parquet").num_rows == 3
