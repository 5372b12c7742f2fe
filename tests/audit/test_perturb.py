"""Perturbed problems have the answer that follows, and only what the rules reach is changed."""

from __future__ import annotations

import re

import numpy as np
import pytest

from activeselect.audit.perturb import rename, renumber, reorder
from activeselect.data.interventions import written_by_skills
from activeselect.data.pool import Problem
from activeselect.data.skills import build_preset
from activeselect.data.skills.skill import ITEMS, NAMES

POOL = build_preset("mixed", seed=0, pool_size=80, test_size=1).pool


def rng(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_renaming_changes_names_and_items_only() -> None:
    changed = 0
    for problem in POOL:
        new = rename(problem, rng(problem.id), written_by_skills)
        named = set(problem.question.split()) & {*NAMES, *ITEMS}
        assert (new is not None) == bool(named)
        if new is None:
            continue
        changed += 1
        pairs = zip(problem.question.split(), new.question.split(), strict=True)
        for before, after in pairs:
            assert (before != after) == (before in named)
        assert new.answer == problem.answer
        assert written_by_skills(new.question)
        assert len(set(new.question.split())) == len(set(problem.question.split()))
    assert changed > 20


def test_other_numbers_have_the_answer_that_follows() -> None:
    changed = 0
    for problem in POOL:
        new = renumber(problem, rng(problem.id), written_by_skills)
        if new is None:
            continue
        changed += 1
        steps = re.findall(r"(\d+) ([-+x/]) (\d+) = (\d+)", new.trace)
        for left, op, right, result in steps:
            a, b = int(left), int(right)
            assert {"+": a + b, "-": a - b, "x": a * b, "/": a // b}[op] == int(result)
        assert steps[-1][3] == new.answer
        assert new.trace.endswith(new.answer)
        assert new.question != problem.question
        numbers = set(re.findall(r"\d+", new.question))
        results = {step[3] for step in steps}
        constants = {"2", "3"}  # half, twice, three times
        for left, _, right, _ in steps:
            assert {left, right} <= numbers | results | constants
    assert changed > 20


def test_a_trace_that_cannot_be_executed_keeps_its_numbers() -> None:
    for trace in ("it is 7", "so 3 + 4 = 8 . answer : 8", "so 3 + 4 = 7 . answer : 9"):
        answer = trace.split()[-1]
        problem = Problem(0, "ann has 3 and gets 4 . how many ?", trace, answer)
        assert renumber(problem, rng(0), lambda _: True) is None


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("Tom has 3 pens. Ann has 4 pens. How many pens?", "Ann has 4 pens. Tom has 3 pens."),
        ("Tom has 3 pens. He gets 4 more. How many?", None),
        ("Tom has 3 pens. How many pens?", None),
    ],
)
def test_only_sentences_that_lean_on_nothing_change_places(
    question: str, expected: str | None
) -> None:
    new = reorder(Problem(0, question, "", "7"), rng(0), lambda _: True)
    assert (new and new.question.startswith(expected or "?")) == (expected and True)
