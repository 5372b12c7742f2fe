"""Formulas written out in words: nothing is lost, nothing wrong is kept, words differ."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from research.worded_traces import Unreadable, worded, write_both


def problem(formula: str, answer: object, question: str = "How many pens are there?") -> dict:
    return {"question": question, "solution": f"{formula}\n#### {answer}", "answer": str(answer)}


@st.composite
def formulas(draw: st.DrawFn, depth: int = 2) -> tuple[str, int]:
    if depth == 0 or (depth == 1 and draw(st.booleans())):
        number = draw(st.integers(1, 99))
        return str(number), number
    (a, left), (b, right) = draw(formulas(depth - 1)), draw(formulas(depth - 1))
    sign = draw(st.sampled_from("+-*"))
    value = {"+": left + right, "-": left - right, "*": left * right}[sign]
    return f"( {a} {sign} {b} )", value


@given(formulas(), st.integers(0, 1000))
def test_every_number_is_said_and_the_answer_comes_last(formula: tuple[str, int], seed: int):
    text, value = formula
    trace = worded(problem(f"{text} = {value}", value), np.random.default_rng(seed))
    words, last = trace.split("\n")
    assert last == f"#### {value}"
    assert "{" not in words
    said = set(re.findall(r"\d+", words))
    assert set(re.findall(r"\d+", text)) <= said
    assert str(abs(value)) in said


@pytest.mark.parametrize(
    ("formula", "answer"),
    [
        ("2 + 2 = 5", 5),
        ("GCD ( 12,18 ) = 4", 4),
        ("LCM[4,6] = 24", 24),
        ("2:3 = 4:7", 7),
        ("4 / ( 2 - 2 ) = 0", 0),
        ("2x + 3 = 7", 2),
        ("12", 12),
        ("__import__('os') = 1", 1),
    ],
)
def test_what_is_wrong_or_unknown_is_refused(formula: str, answer: int):
    with pytest.raises(Unreadable):
        worded(problem(formula, answer), np.random.default_rng(0))


@pytest.mark.parametrize(
    ("formula", "answer"),
    [("GCD ( 12,18 ) = 6", 6), ("LCM[4,6,9] = 36", 36), ("2:3 = 4:6", 6), ("9 / 2 = 4.5", 4.5)],
)
def test_other_kinds_of_formulas_are_read(formula: str, answer: float):
    trace = worded(problem(formula, answer), np.random.default_rng(0))
    assert trace.endswith(f"#### {answer}")


def test_a_thousand_wordings_of_one_formula_are_mostly_different():
    asked = problem("17 - 5 = 12", 12)
    traces = {worded(asked, np.random.default_rng(seed)) for seed in range(1000)}
    assert len(traces) > 500
    assert worded(asked, np.random.default_rng(7)) == worded(asked, np.random.default_rng(7))


def test_the_unit_is_the_noun_that_is_asked_for():
    traces = [
        worded(problem("2 + 3 = 5", 5, "How many more pencils?"), np.random.default_rng(seed))
        for seed in range(50)
    ]
    assert any("5 pencils" in trace for trace in traces)


def test_train_problems_may_be_left_out_and_test_problems_never(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    rows = [problem("1 + 2 = 3", 3), problem("2x = 4", 2)]
    (tmp_path / "in.jsonl").write_text("\n".join(map(json.dumps, rows)))
    write_both(tmp_path / "in.jsonl", tmp_path / "in.jsonl", tmp_path / "out")
    kept = {
        name: (tmp_path / "out" / f"{name}.jsonl").read_text().splitlines()
        for name in ("train", "test")
    }
    assert [len(kept["train"]), len(kept["test"])] == [1, 2]
    assert json.loads(kept["test"][1])["solution"].startswith("2x = 4")
    assert "1 formulas not put into words" in capsys.readouterr().out
