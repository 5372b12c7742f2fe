"""Guesses about someone's columns."""

from __future__ import annotations

from pathlib import Path

import pytest

from activeselect.errors import DataError
from activeselect.study.starter import guess_checker, guess_columns, look_at


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        (["prompt", "completion"], {"question": "prompt", "trace": "completion"}),
        (["id", "instruction", "output"], {"question": "instruction", "trace": "output"}),
        (["question", "cot", "target"], {"question": "question", "trace": "cot"}),
        (["x", "y"], {}),
    ],
)
def test_usual_names_are_found(columns: list[str], expected: dict[str, str]) -> None:
    found = guess_columns(columns)
    assert {role: found[role] for role in expected} == expected
    assert len(set(found.values())) == len(found)  # no column twice
    assert set(found.values()) <= set(columns)


def test_the_commonest_ending_decides() -> None:
    assert guess_checker([r"\boxed{1}", r"\boxed{2}", "3"])[0] == "math"
    assert guess_checker([r"\boxed{1}", "so 2", "3"])[0] == "number"


def test_known_layouts_need_no_guess(tmp_path: Path) -> None:
    file = tmp_path / "train.jsonl"
    file.write_text('{"question": "1 + 1 ?", "answer": "so 2\\n#### 2"}\n')
    guess = look_at(str(tmp_path))
    assert (guess.layout, guess.columns, guess.checker) == ("gsm8k", {}, None)


def test_columns_without_usual_names_are_said(tmp_path: Path) -> None:
    file = tmp_path / "mine.csv"
    file.write_text("x,y\n1,2\n")
    guess = look_at(str(file))
    assert "question: no column has a usual name; fill it in." in guess.because
    with pytest.raises(DataError):
        look_at(str(tmp_path / "absent.csv"))
