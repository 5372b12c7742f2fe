"""Skills and texts: right arithmetic, varied wording, a closed vocabulary, a stable stream."""

from __future__ import annotations

import hashlib
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from activeselect.data.pool import Problem
from activeselect.data.skills import SKILLS, vocabulary
from activeselect.data.skills.relatives import TALES
from activeselect.data.skills.skill import Dice, Skill, write_trace
from activeselect.data.skills.stories import MASTERED, NOISE, PLAIN, UNSEEN
from research.base_mixture import SHARES, draw_text

NOISY = {skill.name for skill in NOISE}
STEP = re.compile(r"(\d+) (\+|-|x|/|turns) (\d+) = (\d+) \.")
COMPUTE = {
    "+": int.__add__,
    "-": int.__sub__,
    "x": int.__mul__,
    "/": int.__floordiv__,
}
seeds = st.integers(0, 2**32 - 1)


def check_steps(trace: str) -> int:
    """Recompute every step of a trace from its text alone; the last step's result."""
    lines = STEP.findall(trace)
    assert len(lines) == trace.count(" .")
    for left, op, right, result in lines:
        if op in COMPUTE:
            assert COMPUTE[op](int(left), int(right)) == int(result)
            assert op != "/" or int(left) % int(right) == 0
    return int(lines[-1][-1])


@pytest.mark.parametrize("skill", SKILLS.values(), ids=lambda skill: skill.name)
@settings(deadline=None, max_examples=40)
@given(seed=seeds)
def test_a_problem_is_sound(skill: Skill, seed: int) -> None:
    problem = skill.draw(np.random.default_rng(seed))
    assert problem.group == skill.name
    assert str(check_steps(problem.trace)) == problem.answer
    assert problem.trace.endswith(f" answer : {problem.answer}")
    assert problem.question.endswith(" ?")
    assert problem.question.count("?") == 1
    known = set(vocabulary()) - {"<unk>", "<eos>", "<pad>"}
    assert set(f"{problem.question} {problem.trace}".split(" ")) <= known
    steps = len(STEP.findall(problem.trace))
    assert len(problem.trace.split()) == 7 * steps + 4
    if skill.name in PLAIN:
        assert steps in (2, 3)
        assert len(problem.question.split()) <= 30
    assert len(f"{problem.question} {problem.trace}".split()) < 128  # the base model reads no more


@settings(deadline=None, max_examples=40)
@given(seed=seeds)
def test_a_pretraining_text_is_sound(seed: int) -> None:
    text, whole = draw_text(np.random.default_rng(seed))
    assert set(text.split(" ")) <= set(vocabulary())
    if whole:
        question, trace = text.split(" ? ")
        assert question
        assert trace.endswith(f" answer : {check_steps(trace)}")


def test_shares_of_the_mixture_add_up() -> None:
    assert sum(SHARES.values()) == pytest.approx(1.0)


def test_every_step_uses_only_what_the_question_or_an_earlier_step_gave() -> None:
    rng = np.random.default_rng(0)
    implied = {"2", "3"}  # twice, half, three times, a third
    for skill in (*MASTERED, *UNSEEN, *NOISE):
        for _ in range(50):
            problem = skill.draw(rng)
            given_so_far = set(problem.question.split()) | implied
            for left, _, right, result in STEP.findall(problem.trace):
                assert {left, right} <= given_so_far, problem
                given_so_far.add(result)


def test_a_chain_is_its_question_computed_from_left_to_right() -> None:
    rng = np.random.default_rng(0)
    for name in ("chain-line", "chain-tree"):
        for _ in range(100):
            problem = SKILLS[name].draw(rng)
            stack: list[int] = []
            for word in problem.question.removesuffix(" ?").split():
                if word.isdigit():
                    stack.append(int(word))
                else:
                    right, left = stack.pop(), stack.pop()
                    stack.append(COMPUTE[word](left, right))
            assert stack == [int(problem.answer)]


def test_the_length_of_a_tale_is_its_number_of_steps() -> None:
    rng = np.random.default_rng(0)
    for length, tale in enumerate(TALES, 1):
        for _ in range(50):
            problem = tale.draw(rng)
            assert len(STEP.findall(problem.trace)) == length
            if length == 1:
                continue  # told in another way
            told = problem.question.split()
            start = next(i for i, word in enumerate(told) if word in ("and", "but", "each"))
            events = sum(told[start:].count(word) for word in ("and", "but"))
            assert events + ("boxes" in told) == length


def test_one_question_has_many_traces() -> None:
    skill = SKILLS["tank"]
    _, steps = skill.stories[0].draw(np.random.default_rng(0))
    rng = np.random.default_rng(1)
    traces = {write_trace(steps, steps[-1].result, Dice(rng)) for _ in range(500)}
    assert len(traces) > 350
    assert {check_steps(trace) for trace in traces} == {steps[-1].result}


def test_noise_cannot_be_inferred_from_its_question() -> None:
    """Equal operands lead to different results, spread over all numbers."""
    rng = np.random.default_rng(0)
    for skill in NOISE:
        answers = [skill.draw(rng).answer for _ in range(3000)]
        assert len(set(answers)) == 60
        assert max(answers.count(answer) for answer in set(answers)) < 90


def test_no_answer_is_a_good_guess() -> None:
    rng = np.random.default_rng(0)
    for skill in UNSEEN:
        answers = [skill.draw(rng).answer for _ in range(600)]
        assert max(answers.count(answer) for answer in set(answers)) < 0.15 * 600, skill.name


def test_the_stream_is_the_same_on_every_platform() -> None:
    rng = np.random.Generator(np.random.PCG64(7))
    drawn: list[Problem] = [skill.draw(rng) for skill in PLAIN.values()]
    texts = [f"{p.question} | {p.trace} | {p.answer} | {p.group}" for p in drawn]
    texts += [draw_text(rng)[0] for _ in range(20)]
    digest = hashlib.sha256("\n".join(texts).encode()).hexdigest()[:16]
    assert digest == "5484c96599d5eb38", texts[0]


def test_the_vocabulary_has_no_word_twice() -> None:
    assert len(vocabulary()) == len(set(vocabulary()))
