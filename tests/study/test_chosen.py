"""Selections as the report shows them: read from the records of a run, old folders included."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from activeselect.config import RunConfig
from activeselect.data.pool import Pool, Problem
from activeselect.selection.strategy import Selection
from activeselect.study.chosen import FILE, chosen_of, summarise_choices, write_chosen
from activeselect.study.tables import choice_lines
from activeselect.training.selections import record_selection


@pytest.fixture
def pool() -> Pool:
    problems = (
        Problem(i, f"{i} + 1 ?", "so 1", "1", "abc"[i % 3], difficulty=float(i)) for i in range(9)
    )
    return Pool.from_problems(problems, checker="number")


def test_rounds_are_counted_as_they_were_recorded(pool: Pool, tmp_path: Path) -> None:
    folder = tmp_path / "selections"
    first = Selection.of([0, 3, 4])
    record_selection(folder, 0, pool, [(first, ["first train set"] * 3)])
    weight = np.array([1.0, 3.0, 4.0, 2.0])
    chosen = Selection.of([1, 2, 5, 8], weight, score=weight)
    reasons = ["by its own score", "carried over", "carried over", "carried over"]
    record_selection(folder, 1, pool, [(chosen, reasons)])
    write_chosen(tmp_path, pool)
    start, then = chosen_of(tmp_path, RunConfig(), "not read again")
    assert start["score"] is None
    assert [row["question"] for row in start["questions"]] == ["0 + 1 ?", "3 + 1 ?", "4 + 1 ?"]
    assert then["examples"] == 4
    assert then["groups"] == {"b": 0.1, "c": 0.9}
    assert then["difficulty"] == 4.0
    assert then["score"] == [1.0, 2.5, 4.0]
    assert then["reasons"] == {"carried over": 3, "by its own score": 1}
    assert [row["score"] for row in then["questions"]] == [4.0, 3.0, 2.0]
    (line,) = choice_lines([{"strategy": "s", "seed": 0} | row for row in (start, then)])
    assert line["rounds"][1]["groups"] == "c 90%, b 10%"
    assert line["rounds"][1]["why"] == "carried over; by its own score"
    assert len(line["questions"]) == 6


def test_hidden_groups_are_told_and_empty_rounds_are_no_error(pool: Pool) -> None:
    none = pa.table({name: pa.array([], pa.float64()) for name in ("weight", "score")})
    none = none.append_column("index", pa.array([], pa.int64()))
    none = none.append_column("reason", pa.array([], pa.string()))
    rows = {"index": [0, 1], "weight": [1.0, 1.0], "score": [None, None], "reason": ["r", "r"]}
    told, empty = summarise_choices(pool.hidden(), {2: none, 1: pa.table(rows)})
    assert told["groups"] == {"a": 0.5, "b": 0.5}
    assert (empty["examples"], empty["questions"], empty["difficulty"]) == (0, [], None)


def test_a_run_of_an_earlier_version_has_no_records(tmp_path: Path) -> None:
    assert chosen_of(tmp_path, RunConfig(), "") == []
    assert not (tmp_path / FILE).exists()
