"""Reading: known datasets, anyone's files with named columns, saved folders and the hub's seam."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from activeselect.data.columns import ColumnNames
from activeselect.data.load import load_pool
from activeselect.data.pool import Problem
from activeselect.errors import ConfigError, DataError

ROWS: list[dict[str, Any]] = [
    {"q": "1 + 1 ?", "steps": "so it is 2 .\nanswer : 2", "skill": "add", "key": 10},
    {"q": "é \u4e16 ?", "steps": 'say "hi" , then answer : 3', "skill": "say", "key": 7},
]
COLUMNS = {"question": "q", "trace": "steps", "group": "skill", "id": "key"}
CHECKER = "marker:answer :"
GSM8K = {"question": "2 + 2 ?", "answer": "2 + 2 = <<2+2=4>>4\n#### 4"}
MATH = {
    "problem": "Half of one?",
    "solution": r"It is $\boxed{\frac12}$.",
    "level": "Level 1",
    "type": "Algebra",
}


def write_jsonl(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def write_json(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text(json.dumps(rows, indent=1), encoding="utf-8")


def write_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    delimiter = "\t" if path.suffix == ".tsv" else ","
    with path.open("w", newline="", encoding="utf-8-sig") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)


def write_parquet(path: Path, rows: list[dict[str, Any]]) -> None:
    pq.write_table(pa.Table.from_pylist(rows), path)


WRITERS: dict[str, Callable[[Path, list[dict[str, Any]]], None]] = {
    "mine.jsonl": write_jsonl,
    "mine.ndjson": write_jsonl,
    "mine.json": write_json,
    "lines.json": write_jsonl,
    "mine.csv": write_csv,
    "mine.tsv": write_csv,
    "mine.parquet": write_parquet,
}


@pytest.mark.parametrize("name", WRITERS)
def test_every_format_gives_the_same_problems(tmp_path: Path, name: str) -> None:
    WRITERS[name](tmp_path / name, ROWS)
    pool, report = load_pool(tmp_path / name, columns=COLUMNS, checker=CHECKER)
    assert list(pool) == [
        Problem(10, "1 + 1 ?", "so it is 2 .\nanswer : 2", "2", "add"),
        Problem(7, "é \u4e16 ?", 'say "hi" , then answer : 3', "3", "say"),
    ]
    assert pool.checker == CHECKER
    assert (report.rows_read, report.rows_kept, report.dropped) == (2, 2, ())
    assert report.columns == COLUMNS
    assert json.loads(json.dumps(report.to_dict()))["rows_kept"] == 2


def test_the_real_gsm8k_is_recognised_and_whole(
    shared_data: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    pool, report = load_pool(shared_data / "gsm8k")
    first = json.loads((shared_data / "gsm8k" / "train.jsonl").read_text("utf-8").split("\n")[0])
    assert (len(pool), report.rows_read, report.layout) == (7473, 7473, "gsm8k")
    assert pool[0] == Problem(0, first["question"], first["answer"], "72", difficulty=2.0)
    assert pool[7472].id == 7472
    assert all(answer.lstrip("-").isdigit() for answer in pool.dataset["answer"])
    assert len(load_pool(shared_data / "gsm8k", split="test")[0]) == 1319
    assert capfd.readouterr() == ("", "")


def test_the_difficulty_of_gsm8k_is_its_number_of_solution_lines(shared_data: Path) -> None:
    pool, _ = load_pool(shared_data / "gsm8k", limit=200)
    assert pool.difficulty is not None
    wanted = [trace.count("\n") for trace in pool.dataset["trace"]]  # the last line is the answer
    assert pool.difficulty.tolist() == wanted


def test_calculator_notes_are_kept_or_removed(shared_data: Path) -> None:
    raw, _ = load_pool(shared_data / "gsm8k" / "train.jsonl", limit=20)
    bare, report = load_pool(shared_data / "gsm8k" / "train.jsonl", limit=20, strip_notes=True)
    assert len(bare) == report.rows_read == 20
    assert all("<<" in problem.trace for problem in raw)
    assert not any("<<" in problem.trace for problem in bare)
    assert list(raw.dataset["answer"]) == list(bare.dataset["answer"])


@pytest.mark.parametrize("group", ["type", "subject"])
def test_math_is_recognised(tmp_path: Path, group: str) -> None:
    row = {**MATH, group: "Algebra"}
    write_jsonl(tmp_path / "math.jsonl", [row])
    pool, report = load_pool(tmp_path / "math.jsonl")
    assert (pool[0].answer, pool[0].group, report.layout) == (r"\frac12", "Algebra", "math")
    by_level, _ = load_pool(tmp_path / "math.jsonl", columns={"group": "level"})
    assert by_level[0].group == "Level 1"
    write_jsonl(tmp_path / "math.jsonl", [row, {**row, "level": "Level ?"}])
    assert load_pool(tmp_path / "math.jsonl")[0].difficulty.tolist() == pytest.approx(
        [1.0, np.nan], nan_ok=True
    )
    without = {key: value for key, value in row.items() if key != "level"}
    write_jsonl(tmp_path / "math.jsonl", [without])
    assert load_pool(tmp_path / "math.jsonl")[0].difficulty is None


def test_the_folder_of_the_authors_of_math(tmp_path: Path) -> None:
    for subject, number in [("geometry", 1), ("algebra", 10), ("algebra", 9)]:
        path = tmp_path / "train" / subject / f"{number}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({**MATH, "problem": f"{subject} {number}"}), encoding="utf-8")
    pool, _ = load_pool(tmp_path)
    assert list(pool.dataset["question"]) == ["algebra 9", "algebra 10", "geometry 1"]


def test_saved_datasets_and_parquet_shards(tmp_path: Path) -> None:
    table = datasets.Dataset.from_list([GSM8K] * 3)
    datasets.DatasetDict({"train": table}).save_to_disk(str(tmp_path / "dict"))
    table.save_to_disk(str(tmp_path / "single"))
    (tmp_path / "shards" / "data").mkdir(parents=True)
    for shard in range(2):
        write_parquet(tmp_path / "shards" / "data" / f"train-0000{shard}-of-00002.parquet", [GSM8K])
    for name, size in [("dict", 3), ("single", 3), ("shards", 2)]:
        pool, report = load_pool(tmp_path / name)
        assert (len(pool), pool[size - 1].answer, report.unit) == (size, "4", "row")
        assert list(pool.dataset["id"]) == list(range(size))
    with pytest.raises(DataError, match=r"no split 'test'\. Known: train"):
        load_pool(tmp_path / "dict", split="test")
    (tmp_path / "single" / "state.json").write_text("{}")
    with pytest.raises(DataError, match="cannot be read as a saved dataset"):
        load_pool(tmp_path / "single")


def stub_hub(monkeypatch: pytest.MonkeyPatch, rows: Mapping[str | None, list[Any]]) -> list[Any]:
    """Stand in for the hub; returns the list of calls."""
    calls: list[Any] = []

    def load_dataset(name: str, config: str | None, **kwargs: Any) -> datasets.Dataset:
        calls.append((name, config, kwargs))
        return datasets.Dataset.from_list(rows[config])

    monkeypatch.setattr("datasets.load_dataset", load_dataset)
    return calls


def test_gsm8k_from_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = stub_hub(monkeypatch, {"main": [GSM8K], "socratic": [GSM8K, GSM8K]})
    pool, report = load_pool("openai/gsm8k", split="test", revision="abc")
    assert calls == [("openai/gsm8k", "main", {"split": "test", "revision": "abc"})]
    assert (pool[0].answer, report.source, report.layout) == ("4", "openai/gsm8k", "gsm8k")
    assert len(load_pool("openai/gsm8k", config="socratic")[0]) == 2


def test_the_commit_that_the_hub_gave_is_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    stub_hub(monkeypatch, {"main": [GSM8K]})
    assert load_pool("openai/gsm8k")[1].revision is None  # nobody says which one it was
    given = datasets.Dataset.from_list([GSM8K])
    file = f"hf://datasets/openai/gsm8k@{'0a' * 20}/main/train-00000-of-00001.parquet"
    given.info.download_checksums = {file: {"num_bytes": 1, "checksum": None}}
    monkeypatch.setattr("datasets.load_dataset", lambda *_, **__: given)
    report = load_pool("openai/gsm8k")[1]
    assert report.revision == report.to_dict()["revision"] == "0a" * 20


def test_math_from_the_hub_joins_its_subjects(monkeypatch: pytest.MonkeyPatch) -> None:
    subjects = (
        "algebra",
        "counting_and_probability",
        "geometry",
        "intermediate_algebra",
        "number_theory",
        "prealgebra",
        "precalculus",
    )
    stub_hub(monkeypatch, {name: [{**MATH, "type": name}] for name in subjects})
    pool, _ = load_pool("EleutherAI/hendrycks_math")
    assert (pool.group_names, list(pool.dataset["id"])) == (subjects, list(range(7)))
    assert len(load_pool("EleutherAI/hendrycks_math", config="algebra")[0]) == 1


def test_anyones_hub_dataset_and_a_hub_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    stub_hub(monkeypatch, {None: ROWS})
    pool, report = load_pool("someone/words", columns=COLUMNS, checker=CHECKER)
    assert (pool[1].answer, report.layout) == ("3", "columns")

    def fail(*args: Any, **kwargs: Any) -> None:
        raise ConnectionError("no\nroute")

    monkeypatch.setattr("datasets.load_dataset", fail)
    with pytest.raises(DataError, match=r"'openai/gsm8k' is no local .*\(no route\).*local path"):
        load_pool("openai/gsm8k")


def test_an_answer_column_is_used_and_can_be_appended(tmp_path: Path) -> None:
    path = tmp_path / "mine.jsonl"
    write_jsonl(path, [{"question": "1 + 1 ?", "trace": "one and one", "answer": 2}])
    with pytest.raises(DataError, match="no answer in the trace: checker 'gsm8k' finds none"):
        load_pool(path, checker="gsm8k")
    pool, _ = load_pool(path, checker="gsm8k", append_answer=True)
    assert pool[0] == Problem(0, "1 + 1 ?", "one and one\n#### 2", "2")
    write_jsonl(path, [{"question": "?", "trace": "#### 2", "answer": "#### 2.0"}])
    assert load_pool(path, checker="gsm8k")[0][0].answer == "2.0"


def test_a_difficulty_is_read_where_its_column_is_named(tmp_path: Path) -> None:
    path = tmp_path / "mine.jsonl"
    values = [3, "2.5", None, "", 0]
    rows = [{"question": "?", "trace": "#### 2", "difficulty": v, "level": v} for v in values]
    write_jsonl(path, rows)
    assert load_pool(path, checker="gsm8k")[0].difficulty is None
    pool, _ = load_pool(path, columns={"difficulty": "level"}, checker="gsm8k")
    assert pool.difficulty is not None
    np.testing.assert_array_equal(pool.difficulty, [3.0, 2.5, np.nan, np.nan, 0.0])
    for bad in ("hard", True, [1], "inf"):
        write_jsonl(path, [*rows, {"question": "?", "trace": "#### 2", "level": bad}])
        with pytest.raises(DataError, match=r"difficulty \(column 'level'\) must be a number"):
            load_pool(path, columns={"difficulty": "level"}, checker="gsm8k")


def test_column_names_are_checked(tmp_path: Path) -> None:
    path = tmp_path / "mine.jsonl"
    write_jsonl(path, ROWS)
    with pytest.raises(DataError, match=r"no column 'qq' .*trace.*Known: key, q, skill, steps"):
        load_pool(path, columns={"question": "q", "trace": "qq"}, checker=CHECKER)
    with pytest.raises(
        DataError, match=r"the question and the trace: data\.question=NAME data\.trace"
    ):
        load_pool(path, checker=CHECKER)
    with pytest.raises(ConfigError, match=r"role 'tracee'\. Did you mean 'trace'"):
        load_pool(path, columns={"tracee": "steps"}, checker=CHECKER)
    with pytest.raises(ConfigError, match="must be a column name, got ''"):
        ColumnNames.of({"trace": ""})
    with pytest.raises(ConfigError, match="checker=gsm8k, math, number or marker:TEXT"):
        load_pool(path, columns=COLUMNS)


def test_settings_out_of_range_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="limit must be at least 1, got 0"):
        load_pool(tmp_path, limit=0)
    with pytest.raises(ConfigError, match="'stop' or 'skip', got 'drop'"):
        load_pool(tmp_path, on_bad_row="drop")  # type: ignore[arg-type]


def test_reading_does_not_load_torch(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "train.jsonl", [GSM8K])
    code = (
        "import sys; from activeselect.data.load import load_pool;"
        f"print(len(load_pool({str(tmp_path)!r})[0]), 'torch' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (run.stdout.strip(), run.stderr) == ("1 False", "")
