"""Questions that are chosen first and labelled afterwards: by a person, a program, or a file."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from activeselect.config import DataConfig, RoundsConfig, RunConfig, ScoringConfig
from activeselect.data.load import load_data, load_pool
from activeselect.data.pool import Pool
from activeselect.errors import ConfigError, DataError, LabelsNeeded, StoreError
from activeselect.training.labels import CommandLabeler, Labels, labeler_of
from activeselect.training.run import ActiveRun
from tests.support import RECIPE, small_run

CHECKER = "marker:answer :"


@pytest.fixture(scope="module")
def pool() -> Pool:
    return load_data(DataConfig("skills:mixed", pool_size=40, test_limit=8), seed=0).pool


def rows_of(pool: Pool) -> list[dict[str, Any]]:
    return [
        {"id": p.id, "question": p.question, "trace": p.trace, "answer": p.answer, "group": p.group}
        for p in pool
    ]


def write(file: Path, rows: list[dict[str, Any]]) -> Path:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def unlabelled(row: dict[str, Any]) -> dict[str, Any]:
    return {name: row[name] for name in ("id", "question", "group")}


def config(model: Path, train: Path, test: Path, **changes: Any) -> RunConfig:
    small = small_run(
        model,
        data=DataConfig(str(train), test=str(test), checker=CHECKER),
        strategy="premem",
        prompt="plain",
        rounds=RoundsConfig(mode="acquire", budgets=(8, 14, 20), near="group"),
        recipe=replace(RECIPE, epochs=1, batch_size=4),
        accelerator="cpu",
    )
    return replace(small, **changes)


@pytest.fixture(scope="module")
def files(pool: Pool, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("data")
    rows = rows_of(pool)
    return {
        "labelled": write(folder / "labelled.jsonl", rows),
        "questions": write(folder / "questions.jsonl", [unlabelled(row) for row in rows]),
        "some": write(folder / "some.jsonl", [unlabelled(row) for row in rows[:35]] + rows[35:]),
        "test": write(folder / "test.jsonl", rows[:6]),
    }


def wanted(folder: Path, round: int) -> list[dict[str, Any]]:
    file = folder / "to_label" / f"round-{round}.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()]


def answers(pool: Pool, asked: list[dict[str, Any]]) -> list[dict[str, Any]]:
    known = {p.id: p for p in pool}
    return [{"id": r["id"], "trace": known[r["id"]].trace} for r in asked]


def test_hidden_labels_change_nothing_but_who_can_read_them(
    tiny_model: Path, files: dict[str, Path], tmp_path: Path
) -> None:
    seen = config(tiny_model, files["labelled"], files["test"])
    open_run = ActiveRun(seen).run(tmp_path / "open")
    run = ActiveRun(replace(seen, labeler="hidden"))
    assert not run.data.pool.is_labelled.any()
    hidden = run.run(tmp_path / "hidden")
    for ours, theirs in zip(hidden.curve, open_run.curve, strict=True):
        assert ours["test_accuracy"] == theirs["test_accuracy"]
        assert ours["premem"] == theirs["premem"]
    assert hidden.cost["labels"] == 20
    assert open_run.cost["labels"] == 0
    # what was not bought stays unreadable to the end
    bought = run.data.pool.is_labelled
    assert bought.sum() == 20
    state = json.loads((tmp_path / "hidden" / "state.json").read_text())
    state = state.get("content", state)
    assert np.flatnonzero(bought).tolist() == state["train"]
    for problem, known in zip(run.data.pool, bought, strict=True):
        assert bool(problem.trace) is bool(problem.answer) is bool(known)


def test_a_run_asks_waits_and_ends_as_one_that_had_all_labels(
    tiny_model: Path, pool: Pool, files: dict[str, Path], tmp_path: Path
) -> None:
    run_config = config(tiny_model, files["questions"], files["test"])
    for round, size in enumerate((8, 6, 6)):
        run = ActiveRun(run_config)
        asked = run.ask(tmp_path / "run")
        assert asked == wanted(tmp_path / "run", round)
        assert len(asked) == size
        assert set(asked[0]) == {"id", "question", "why"}
        run.tell(tmp_path / "run", answers(pool, asked[:3]))
        left = ActiveRun(run_config).ask(tmp_path / "run")  # partly labelled: the rest is asked
        assert left == asked[3:]
        run.tell(tmp_path / "run", answers(pool, left))
    assert ActiveRun(run_config).ask(tmp_path / "run") == []
    whole = ActiveRun(config(tiny_model, files["labelled"], files["test"])).run(tmp_path / "whole")
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert [e["test_accuracy"] for e in result["curve"]] == [
        e["test_accuracy"] for e in whole.curve
    ]
    assert result["cost"]["labels"] == 20


def test_labelled_rows_are_used_first_and_only_the_difference_is_asked_for(
    tiny_model: Path, files: dict[str, Path], tmp_path: Path
) -> None:
    run = ActiveRun(config(tiny_model, files["some"], files["test"]))
    asked = run.ask(tmp_path / "run")
    assert len(asked) == 8 - 5
    assert all(row["id"] not in {p.id for p in list(run.data.pool)[35:]} for row in asked)


def command(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "activeselect", *words], capture_output=True, text=True, check=False
    )


def test_the_command_asks_with_exit_code_3_and_goes_on(
    tiny_model: Path, pool: Pool, files: dict[str, Path], tmp_path: Path
) -> None:
    out = tmp_path / "run"
    settings = {
        "model": tiny_model,
        "data": files["questions"],
        "data.test": files["test"],
        "data.checker": CHECKER,
        "rounds.mode": "acquire",
        "rounds.budgets": [4, 6],
        "recipe.epochs": 1,
        "recipe.batch_size": 4,
        "scoring.samples": 1,
        "scoring.max_new_tokens": 4,
        "forecast": "any",
        "strategy": "random",
        "prompt": "plain",
        "save_model": "false",
        "out": out,
    }
    words = ["train", *(f"--{name}={value}" for name, value in settings.items())]
    ended = command(*words)
    assert ended.returncode == 3, ended.stderr
    assert "Traceback" not in ended.stderr
    assert "4 of 4 labels are missing" in ended.stderr
    asked = wanted(out, 0)
    good = answers(pool, asked)
    bad = [{**good[0], "trace": "so it is nothing"}, {"id": 10**6, "trace": "answer : 3"}]
    ended = command(*words, "--labels", str(write(tmp_path / "bad.jsonl", bad)))
    assert ended.returncode == 2
    assert "no answer" in ended.stderr
    assert "was not asked for" in ended.stderr
    assert not (out / "labeled" / "round-0.jsonl").exists()
    ended = command(*words, "--labels", str(write(tmp_path / "three.jsonl", good[:3])))
    assert ended.returncode == 3
    assert f"Missing ids: {good[3]['id']}." in ended.stderr
    with (out / "labeled" / "round-0.jsonl").open("a") as file:  # a person may write it as well
        file.write(json.dumps(good[3]) + "\n")
    ended = command(*words)
    assert ended.returncode == 3
    assert "2 of 2 labels are missing" in ended.stderr
    write(out / "labeled" / "round-1.jsonl", answers(pool, wanted(out, 1)))
    ended = command(*words)
    assert ended.returncode == 0, ended.stderr


def test_labels_that_changed_after_training_are_refused(
    tiny_model: Path, pool: Pool, files: dict[str, Path], tmp_path: Path
) -> None:
    run_config = config(tiny_model, files["questions"], files["test"])
    run = ActiveRun(run_config)
    run.tell(tmp_path, answers(pool, run.ask(tmp_path)))
    ActiveRun(run_config).ask(tmp_path)
    first = tmp_path / "labeled" / "round-0.jsonl"
    rows = [json.loads(line) for line in first.read_text().splitlines()]
    rows[0]["trace"] = "well . " + rows[0]["trace"]
    write(first, rows)
    with pytest.raises(StoreError, match="has changed since the run trained on it"):
        ActiveRun(run_config).ask(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rounds": RoundsConfig(mode="reweight")}, "name the one that holds the trace"),
        ({"scoring": ScoringConfig(samples=2, candidates=4)}, "scoring.candidates"),
        ({"measure": ("prequential",)}, "have no label"),
    ],
)
def test_settings_that_need_labels_are_refused(
    tiny_model: Path, files: dict[str, Path], changes: dict[str, Any], message: str
) -> None:
    with pytest.raises((ConfigError, DataError), match=message):
        ActiveRun(config(tiny_model, files["questions"], files["test"], **changes))


def test_half_a_label_is_a_broken_row(files: dict[str, Path], tmp_path: Path) -> None:
    row = {"id": 1, "question": "1 + 1 ?", "trace": "", "answer": "2"}
    file = write(tmp_path / "half.jsonl", [row])
    with pytest.raises(DataError, match="empty trace"):
        load_pool(file, checker=CHECKER, labels_required=False)
    other = {"question": "1 + 1 ?", "steps": "so 2"}  # a trace under another name is no question
    with pytest.raises(DataError, match="name the one that holds the trace"):
        load_pool(write(tmp_path / "o.jsonl", [other]), checker=CHECKER, labels_required=False)


def test_a_command_labels_and_its_failures_are_named(
    tiny_model: Path, pool: Pool, files: dict[str, Path], tmp_path: Path
) -> None:
    program = tmp_path / "teacher.py"
    known = {p.id: p.trace for p in pool}
    program.write_text(
        "import json, sys\n"
        f"known = json.loads({json.dumps(json.dumps(known))})\n"
        "for line in sys.stdin:\n"
        "    row = json.loads(line)\n"
        "    print(json.dumps({'id': row['id'], 'trace': known[str(row['id'])]}))\n"
    )
    run_config = config(
        tiny_model,
        files["questions"],
        files["test"],
        labeler={"command": f"{sys.executable} {program}"},
    )
    result = ActiveRun(run_config).run(tmp_path / "run")
    assert result.cost["labels"] == 20
    with pytest.raises(DataError, match="exit code 3"):
        CommandLabeler(f"{sys.executable} -c 'import sys; sys.exit(3)'").label([])
    with pytest.raises(DataError, match="cannot be run"):
        CommandLabeler("no-such-program").label([])
    with pytest.raises(ConfigError, match="expected hidden"):
        labeler_of("nobody", pool)


class Sloppy:
    """Answers every question with a trace that states nothing, but for the first."""

    def label(self, questions: list[dict[str, Any]]) -> list[dict[str, Any]]:
        first = {"id": questions[0]["id"], "trace": "answer : 3"}
        return [first, *({"id": row["id"], "trace": "well"} for row in questions[1:])]


def test_what_a_labeler_cannot_do_is_left_to_a_person(pool: Pool, tmp_path: Path) -> None:
    labels = Labels(tmp_path, pool.without_labels(), Sloppy())
    with pytest.raises(LabelsNeeded, match=r"2 of 3 labels are missing.*cannot be used"):
        labels.buy(0, np.array([1, 2, 5]), "a test")
    assert [row["id"] for row in labels.questions()] == [pool[2].id, pool[5].id]
