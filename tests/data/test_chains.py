"""Splitting loses no character, edits change what they say, and interventions keep answers."""

from __future__ import annotations

import re
from itertools import chain

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from activeselect.data.answers import get_checker
from activeselect.data.chains import hedges, make_false, paraphrase, sentences, split
from activeselect.data.interventions import (
    INTERVENTIONS,
    RETRACTIONS,
    get_intervention,
    intervene,
    written_by_skills,
)
from activeselect.data.pool import Pool, Problem
from activeselect.data.skills import build_preset
from activeselect.errors import ConfigError, DataError

SKILLS = get_checker("marker:answer :")
WORDS = st.lists(st.sampled_from(["So", "7", "3.5", ".", "x", "Mr.", "!", "\n", "#### 4", "2."]))


@given(WORDS, st.sampled_from([" ", "", "\n", "  "]))
def test_sentences_are_the_text(words: list[str], space: str) -> None:
    text = space.join(words)
    joined = "".join(sentences(text))
    assert text.startswith(joined)
    assert joined.rstrip() == text.rstrip()


@pytest.mark.parametrize("name", ["gsm8k", "number", "marker:answer :"])
@given(words=WORDS)
def test_a_chain_is_a_beginning_of_its_text(name: str, words: list[str]) -> None:
    text = " ".join(words)
    found = split(text, get_checker(name))
    assert text.startswith(found.prefix(len(found.steps)))
    assert found.answer == get_checker(name).extract(text)


@pytest.mark.parametrize(
    ("checker", "text", "steps", "cue", "answer"),
    [
        ("marker:answer :", "so 1 + 2 = 3 . thus answer : 3", 1, " thus answer :", "3"),
        ("gsm8k", "A has 3.5 kg. B has 4 kg.\n#### 7.5\nQuestion: x\n#### 9", 2, "\n####", "7.5"),
        ("gsm8k", "5 - 3 = 2. The answer is: 2.", 1, " The answer is:", "2"),
        ("number", "5 - 3 = 2 apples.\nThat is 2", 1, "\nThat is", "2"),
        ("marker:A:", "Half of 8.\nA: 4.", 1, "\nA:", "4"),
        ("marker:A:", "It is 4.", 1, " A:", None),
    ],
)  # fmt: skip
def test_split(checker: str, text: str, steps: int, cue: str, answer: str | None) -> None:
    found = split(text, get_checker(checker))
    assert (len(found.steps), found.cue, found.answer) == (steps, cue, answer)


def test_every_built_in_trace_splits_into_its_equations() -> None:
    for problem in build_preset("mixed", seed=0, pool_size=100, test_size=1).pool:
        found = split(problem.trace, SKILLS)
        assert len(found.steps) == problem.trace.count("=")
        assert found.answer == problem.answer
        assert found.cue.endswith("answer :")


@given(st.integers(0, 1000), st.sampled_from(["+", "-", "x"]), st.integers(0, 60))
def test_a_false_step_is_false_in_one_number(seed: int, op: str, left: int) -> None:
    result = {"+": left + 7, "-": left - 7, "x": left * 7}[op]
    step = f"so {left} {op} 7 = {abs(result)} ."
    false = make_false(step, np.random.default_rng(seed), written_by_skills)
    if false is None:
        assert abs(result) > 60  # nothing near it can be written
        return
    before, after = step.split(), false.split()
    assert [i for i, (a, b) in enumerate(zip(before, after, strict=True)) if a != b] == [5]
    assert written_by_skills(false)


def test_a_step_without_a_number_cannot_be_made_false() -> None:
    assert make_false("so it goes .", np.random.default_rng(0)) is None


@given(st.integers(0, 1000))
def test_a_paraphrase_keeps_all_numbers(seed: int) -> None:
    step = " Then she has 3.5 kg each, 12 altogether."
    new = paraphrase(step, np.random.default_rng(seed))
    assert new is not None
    assert new != step
    assert re.findall(r"[\d.]+", new) == re.findall(r"[\d.]+", step)


def test_words_of_doubt_are_whole_words() -> None:
    assert hedges("Wait. We await the waiter, maybe.", ["wait", "maybe"]) == 2
    assert hedges("anything", []) == 0


@pytest.fixture(scope="module")
def pool() -> Pool:
    return build_preset("mixed", seed=0, pool_size=60, test_size=1).pool


@pytest.mark.parametrize("name", [*INTERVENTIONS, "corrupted:1"])
def test_interventions_keep_questions_and_answers(pool: Pool, name: str) -> None:
    wrong = {problem.id: ["so 1 + 1 = 3 . thus answer : 3"] for problem in pool}
    made = intervene(pool, name, seed=0, wrong=wrong, known=written_by_skills)
    by_id = {problem.id: problem for problem in made}
    for problem in pool:
        assert by_id[problem.id].question == problem.question
        assert by_id[problem.id].answer == problem.answer
        assert SKILLS.check(by_id[problem.id].trace, problem.answer)
        assert written_by_skills(by_id[problem.id].trace)
    again = intervene(pool, name, seed=0, wrong=wrong, known=written_by_skills)
    assert again.fingerprint == made.fingerprint
    assert (made.fingerprint == pool.fingerprint) == (name == "as_is")


def test_each_intervention_does_what_it_says(pool: Pool) -> None:
    def equations(problem: Problem) -> list[str]:
        return re.findall(r"\d+ [-+x/] \d+ = \d+", problem.trace)

    before = {problem.id: equations(problem) for problem in pool}
    swapped = intervene(pool, "swapped", seed=0)
    assert sorted(e for p in swapped for e in equations(p)) == sorted(chain(*before.values()))
    assert np.mean([equations(p) == before[p.id] for p in swapped]) < 0.1
    assert not any(map(equations, intervene(pool, "answer_only", seed=0)))
    false = intervene(pool, "corrupted:1", seed=0, known=written_by_skills)
    assert all(a != b for p in false for a, b in zip(equations(p), before[p.id], strict=True))
    some = intervene(pool, "corrupted:0.3", seed=0, known=written_by_skills)
    changed = [a != b for p in some for a, b in zip(equations(p), before[p.id], strict=True)]
    assert 0.15 < np.mean(changed) < 0.45
    first = intervene(pool, "answer_first", seed=0)
    assert all(split(p.trace, SKILLS).steps[0].endswith(f": {p.answer} .") for p in first)
    messy = intervene(pool, "messy", seed=0, wrong={0: ["so 1 + 1 = 3 . thus answer : 3"]})
    assert messy[0].trace.startswith("so 1 + 1 = 3 ." + RETRACTIONS[0])
    assert messy[1].trace == pool[1].trace
    turned = intervene(pool, "reversed", seed=0)
    assert [equations(p)[::-1] for p in turned] == list(before.values())


def test_a_question_turned_round_is_solved_from_its_answer(pool: Pool) -> None:
    made = intervene(pool, "backward", seed=0, known=written_by_skills)
    added = {problem.id: problem for problem in made if problem.id < 0}
    assert len(pool) < len(added) <= 2 * len(pool)
    for problem in pool:
        if -1 - 2 * problem.id not in added:
            continue
        asks, solves = added[-1 - 2 * problem.id], added[-2 - 2 * problem.id]
        assert asks.question.startswith(problem.question)
        assert asks.trace == solves.question
        masked, _, stated = solves.question.partition(" what is ? if answer : ")
        assert stated == problem.answer
        # with the answer put in for the unknown, it is the question that it was made of
        given, known = problem.question.split(), masked.split()
        assert [(a, b) for a, b in zip(given, known, strict=True) if a != b] == [
            (solves.answer, "?")
        ]
        facts = {int(word) for word in known if word.isdigit()} | {int(stated), 2, 3}
        for left, op, right, result in re.findall(r"(\d+) ([-+x/]) (\d+) = (\d+)", solves.trace):
            a, b, c = int(left), int(right), int(result)
            assert {a, b} <= facts  # each step rests on what is known by then, never on the unknown
            assert {"+": a + b, "-": a - b, "x": a * b, "/": a / b}[op] == c
            facts.add(c)
        assert str(c) == solves.answer
        assert all(map(written_by_skills, (asks.question, asks.trace, solves.trace)))


def test_what_cannot_be_turned_round_is_refused() -> None:
    plain = Problem(0, "What is the capital?", "It is 7.\n#### 7", "7")
    with pytest.raises(DataError, match="'backward' needs traces whose equations"):
        intervene(Pool.from_problems([plain], checker="gsm8k"), "backward", seed=0)
    # 4 is used twice, 9 not at all, and the constant 2 is none of the question's numbers
    twice = Problem(0, "4 and 9 ?", "4 x 2 = 8. 8 + 4 = 12.\n#### 12", "12")
    with pytest.raises(DataError, match="'backward' needs traces"):
        intervene(Pool.from_problems([twice], checker="gsm8k"), "backward", seed=0)
    real = Problem(
        0, "48 clips, half in May, 10 more?", "48/2 = 24 clips. 24 + 10 = 34.\n#### 34", "34"
    )
    made = intervene(Pool.from_problems([real], checker="gsm8k"), "backward", seed=1)
    assert made[2].answer in made[2].trace
    assert made[1].trace.endswith("#### 34")


def test_bad_settings_are_answered_in_a_line(pool: Pool) -> None:
    with pytest.raises(ConfigError, match="Did you mean 'swapped'"):
        get_intervention("swaped")
    with pytest.raises(ConfigError, match="corrupted:SHARE in"):
        get_intervention("corrupted:1.5")
    with pytest.raises(ConfigError, match="cannot load"):
        get_intervention("nowhere.at_all")
    with pytest.raises(DataError, match="needs wrong completions"):
        intervene(pool, "messy", seed=0)
