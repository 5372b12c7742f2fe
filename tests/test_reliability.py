"""The table of attempts in the page on reliability names tests that exist, and none is left out."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
PAGE = TESTS.parent / "docs" / "reference" / "reliability.md"
#: Files whose every test belongs into the table.
WHOLE = ("training/test_seals.py", "test_hostile.py", "study/test_inputs.py")
#: What of them shows that nothing else was broken.
HARMLESS = {
    "test_an_unaltered_run_continues_to_the_same_result",
    "test_tied_weights_are_not_missed",
    "test_a_time_limit_ends_only_its_own_block",
    "test_the_losses_of_a_fit_are_those_before_it_and_of_its_last_epoch",
    "test_an_untouched_study_goes_on",
}


def rows() -> list[list[str]]:
    text = PAGE.read_text(encoding="utf-8").partition("## Attempts")[2].partition("\n## ")[0]
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in lines[1:]]


def names_in(file: str) -> set[str]:
    tree = ast.parse((TESTS / file).read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("row", rows(), ids=lambda row: row[0][:60])
def test_every_attempt_has_a_test(row: list[str]) -> None:
    assert len(row) == 3, row
    named = re.findall(r"`([\w/]+\.py)::(test_\w+)`", row[2])
    assert named, row
    for file, test in named:
        assert test in names_in(file), f"{file} has no {test}"


@pytest.mark.parametrize("file", WHOLE)
def test_every_such_test_is_in_the_table(file: str) -> None:
    named = {test for row in rows() for test in re.findall(r"::(test_\w+)", row[2])}
    tests = {name for name in names_in(file) if name.startswith("test_")}
    assert tests - named - HARMLESS == set()
