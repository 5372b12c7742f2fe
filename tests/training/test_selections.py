"""Records of selections: complete in both modes, and exported with their texts."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import datasets
import numpy as np
import pyarrow.parquet as pq
import pytest

from activeselect.config import (
    DataConfig,
    PromptConfig,
    RecipeConfig,
    RoundsConfig,
    RunConfig,
    ScoringConfig,
)
from activeselect.data.pool import Pool
from activeselect.data.skills import build_preset
from activeselect.errors import ConfigError, DataError, StoreError
from activeselect.training.callback import ActiveSelection
from activeselect.training.module import load_model
from activeselect.training.run import ActiveRun
from activeselect.training.selections import export, read_selections
from tests.support import skills, small_run

SMALL = small_run(
    data=skills(60, 4),
    recipe=RecipeConfig(learning_rate=1e-2, epochs=2, batch_size=8),
    scoring=ScoringConfig(samples=2, max_new_tokens=8, candidates=10),
    strategy="premem",
    rounds=RoundsConfig(mode="reweight"),
)


@pytest.fixture(scope="module")
def acquired(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("acquired") / "run"
    rounds = RoundsConfig(mode="acquire", budgets=(16, 24, 30), score_every=2)
    ActiveRun(replace(SMALL, model=str(tiny_model), strategy="premem", rounds=rounds)).run(out)
    return out


def test_an_acquiring_run_records_what_joined_and_why(acquired: Path) -> None:
    rounds = read_selections(acquired)
    assert [len(rounds[n]) for n in (0, 1, 2)] == [16, 8, 6]
    index = np.concatenate([table["index"].to_numpy() for table in rounds.values()])
    assert len(set(index.tolist())) == 30
    assert set(rounds[0]["reason"].to_pylist()) == {"first train set"}
    assert rounds[0]["score"].null_count == 16
    assert rounds[1]["score"].null_count == 0
    reasons = set(rounds[1]["reason"].to_pylist())
    assert reasons <= {
        "premem: drawn in proportion to its weight, by its own score",
        "premem: drawn in proportion to its weight, by what carries over",
    }


def test_a_reweighting_run_records_its_weights(tiny_model: Path, tmp_path: Path) -> None:
    rounds = RoundsConfig(mode="reweight", budgets=(20,))
    config = replace(SMALL, model=str(tiny_model), strategy="loss", rounds=rounds)
    ActiveRun(config).run(tmp_path / "run")
    found = read_selections(tmp_path / "run")
    assert sorted(found) == [0, 1, 2]
    assert set(found[2]["index"].to_pylist()) <= set(found[0]["index"].to_pylist())
    assert found[2]["score"].to_pylist() == found[2]["weight"].to_pylist()
    export(tmp_path / "run", what="train", format="parquet", out=tmp_path / "train.parquet")
    table = pq.read_table(tmp_path / "train.parquet")
    weight = dict(zip(table["index"].to_pylist(), table["weight"].to_pylist(), strict=True))
    assert len(weight) == 20
    for i, value in zip(*(found[2][n].to_pylist() for n in ("index", "weight")), strict=True):
        assert weight[i] == value


def test_rows_are_exported_with_their_texts(acquired: Path, tmp_path: Path) -> None:
    pool = {problem.id: problem for problem in ActiveRun(_config(acquired)).data.pool}
    command = [
        sys.executable, "-m", "activeselect", "export", str(acquired), "--what", "selected",
        "--out", str(tmp_path / "chosen.jsonl"),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("chosen.jsonl: 30 rows")
    rows = [json.loads(line) for line in (tmp_path / "chosen.jsonl").read_text().splitlines()]
    assert [row["round"] for row in rows] == [0] * 16 + [1] * 8 + [2] * 6
    for row in rows:
        problem = pool[row["id"]]
        assert (row["question"], row["trace"], row["answer"]) == (
            problem.question, problem.trace, problem.answer,
        )  # fmt: skip
    assert export(acquired, what="train", format="hf", out=tmp_path / "train") == 30
    loaded = datasets.load_from_disk(str(tmp_path / "train"))
    assert {"id", "question", "trace", "answer", "weight"} <= set(loaded.column_names)
    scored = export(acquired, what="scores", format="parquet", out=tmp_path / "s.parquet")
    table = pq.read_table(tmp_path / "s.parquet")
    assert scored == len(table) >= 30
    assert {"premem", "accuracy", "mean_nll", "question"} <= set(table.column_names)
    for row in table.to_pylist():
        assert row["question"] == pool[row["id"]].question


def _config(run: Path) -> RunConfig:
    from activeselect.config import from_plain

    return from_plain(RunConfig, json.loads((run / "config.json").read_text()))


def test_what_cannot_be_exported_is_said(acquired: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"format: expected one of jsonl, parquet, hf"):
        export(acquired, what="train", format="csv", out=tmp_path / "x")
    (tmp_path / "there").write_text("")
    with pytest.raises(ConfigError, match="exists already"):
        export(acquired, what="train", format="jsonl", out=tmp_path / "there")
    with pytest.raises(StoreError, match="expected a run folder with selections"):
        export(tmp_path, what="train", format="jsonl", out=tmp_path / "x")


def test_a_run_takes_pools_that_a_program_holds(tiny_model: Path, tmp_path: Path) -> None:
    built = build_preset("mixed", seed=0, pool_size=40, test_size=4)
    rows = [{"question": p.question, "trace": p.trace} for p in built.pool]
    pool = Pool.from_records(rows, checker=built.pool.checker)
    rounds = RoundsConfig(mode="acquire", budgets=(10, 14), score_every=2)
    config = replace(SMALL, model=str(tiny_model), strategy="random", rounds=rounds)
    config = replace(config, prompt=PromptConfig("{question} ", "{trace}"))
    result = ActiveRun(config, pool=pool, test=built.test).run(tmp_path / "run")
    assert result.curve[-1]["test_examples"] == 4
    stored = json.loads((tmp_path / "run" / "config.json").read_text())["data"]
    assert stored["source"] == f"pool:{pool.fingerprint}"
    with pytest.raises(StoreError, match="other settings"):
        ActiveRun(config, pool=pool[:30], test=built.test).run(tmp_path / "run")
    with pytest.raises(DataError, match="give it again"):
        export(tmp_path / "run", what="train", format="jsonl", out=tmp_path / "x.jsonl")
    out = tmp_path / "x.jsonl"
    assert export(tmp_path / "run", what="train", format="jsonl", out=out, pool=pool) == 14


def test_leaks_are_listed_in_the_run_folder(tiny_model: Path, tmp_path: Path) -> None:
    built = build_preset("mixed", seed=0, pool_size=40, test_size=4)
    for name, problems in (("train", [*built.pool, *built.test]), ("test", [*built.test])):
        rows = (json.dumps({"question": p.question, "trace": p.trace}) + "\n" for p in problems)
        (tmp_path / f"{name}.jsonl").write_text("".join(rows))
    train, test = (str(tmp_path / f"{name}.jsonl") for name in ("train", "test"))
    data = DataConfig(train, test=test, checker=built.pool.checker)
    rounds = RoundsConfig(mode="acquire", budgets=(10,), score_last=False)
    config = replace(SMALL, model=str(tiny_model), strategy="random", rounds=rounds, data=data)
    ActiveRun(replace(config, prompt=PromptConfig("{question} ", "{trace}"))).run(tmp_path / "run")
    lines = (tmp_path / "run" / "duplicates.jsonl").read_text().splitlines()
    leaks = [row for row in map(json.loads, lines) if row["of"] == "test"]
    assert [(row["line"], row["other_line"]) for row in leaks] == [
        (41 + i, 1 + i) for i in range(4)
    ]


def test_acquisitions_without_a_run_are_numbered_on(tiny_model: Path, tmp_path: Path) -> None:
    pool = build_preset("mixed", seed=0, pool_size=30, test_size=1).pool
    model, tokenizer = load_model(str(tiny_model))
    acquire = RoundsConfig(mode="acquire", budgets=(10, 14))

    def selection(train: np.ndarray) -> ActiveSelection:
        return ActiveSelection(
            pool, tokenizer, "longest", rounds=acquire, train=train, selections=tmp_path / "a"
        )

    train, sets = np.arange(10), []
    for _ in range(2):  # a script of two stages, run twice
        train = np.arange(10)
        for _ in range(2):
            new = selection(train).acquire(model, np.setdiff1d(np.arange(30), train), 4)
            train = np.sort(np.concatenate([train, new]))
        sets.append(train)
    np.testing.assert_array_equal(*sets)
    files = sorted((tmp_path / "a").glob("*.parquet"))
    assert [file.name for file in files] == [f"round-{n}.parquet" for n in (0, 1, 2)]
    chosen = [pq.read_table(file)["index"].to_pylist() for file in files]
    assert [len(index) for index in chosen] == [10, 4, 4]
    assert set().union(*chosen) == set(train.tolist())
    one = selection(train)  # two acquisitions of one object
    left = np.setdiff1d(np.arange(30), train)
    first = one.acquire(model, left, 4)
    one.acquire(model, np.setdiff1d(left, first), 4)
    assert len(list((tmp_path / "a").glob("*.parquet"))) == 5
    with pytest.raises(ConfigError, match=r"those of another train set \(26 examples\)\. Name a"):
        selection(np.arange(5, 12))
