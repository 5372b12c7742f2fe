"""What the base model reads before anyone fine-tunes it: facts, easy skills, pieces of hard ones.

Five real records, one per part (the last is the question of an unseen skill, with no trace)::

    facts    8 + 14 = 22 . 54 / 6 = 9 . 31 - 12 = 19 . 5 x 7 = 35 . ...
    easy     there are 4 boxes with 9 pens each but 6 of the pens fell out . how many in all ?
             so 4 x 9 = 36 . now 36 - 6 = 30 . thus answer : 30
    simple   each minute 6 litres flow in . how many litres after 7 minutes ?
             then 6 x 7 = 42 . so answer : 42
    chain    5 9 + 3 x 8 - ?   well 5 + 9 = 14 . next 14 x 3 = 42 . so 42 - 8 = 34 . hence ...
    read     a train goes 40 miles in 5 hours . how far in 3 hours if it starts 2 miles from home ?

No question of any test set is among them: see ``split.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from activeselect.data.skills.skill import (
    LARGEST,
    Dice,
    Step,
    apply,
    draw_story,
    in_pool,
    write_trace,
)
from activeselect.data.skills.stories import MASTERED, UNSEEN

SHARES = {"facts": 0.20, "easy": 0.20, "simple": 0.22, "chain": 0.25, "read": 0.13}
FACTS_PER_TEXT = 7

_PERCENT = tuple(part for part, share in SHARES.items() for _ in range(round(100 * share)))
_T = TypeVar("_T")


def _one(options: Sequence[_T], rng: np.random.Generator) -> _T:
    return options[int(rng.integers(len(options)))]


def draw_text(rng: np.random.Generator) -> tuple[str, bool]:
    """One text of the mixture, and whether it is whole, so that the end token follows.

    Example:
        >>> import numpy as np
        >>> text, whole = draw_text(np.random.default_rng(0))
        >>> len(text.split()) < 60
        True
    """
    part = _one(_PERCENT, rng)
    if part == "facts":
        return draw_facts(rng), False
    if part == "chain":
        return draw_chain(rng), True
    while True:
        skill = _one(MASTERED if part == "easy" else UNSEEN, rng)
        stories = skill.simple if part == "simple" else skill.stories
        problem = draw_story(_one(stories, rng), "", rng)
        if not in_pool(problem.question):
            continue
        if part == "read":
            return problem.question, False
        return f"{problem.question} {problem.trace}", True


def draw_facts(rng: np.random.Generator) -> str:
    """Lines of arithmetic that have nothing to do with each other."""
    dice = Dice(rng, block=64)
    lines = []
    for _ in range(FACTS_PER_TEXT):
        step = _grow(1 + dice.below(LARGEST), dice)
        lines.append(f"{step.left} {step.op} {step.right} = {step.result} .")
    return " ".join(lines)


def draw_chain(rng: np.random.Generator) -> str:
    """Postfix arithmetic of two or three steps: how results are carried on, without a story."""
    dice = Dice(rng, block=64)
    first = _grow(1 + dice.below(LARGEST), dice)
    steps, text = [first], f"{first.left} {first.right} {first.op}"
    last: Step | None = None
    if dice.below(3) == 0:  # two results meet in the third step
        second = _grow(1 + dice.below(LARGEST), dice)
        last = _combine(first.result, second.result, dice)
        if last is not None:
            steps += [second, last]
            text = f"{text} {second.left} {second.right} {second.op} {last.op}"
    if last is None:
        for _ in range(1 + dice.below(2)):
            step = _grow(steps[-1].result, dice)
            at_left = step.left == steps[-1].result
            text = f"{text} {step.right} {step.op}" if at_left else f"{step.left} {text} {step.op}"
            steps.append(step)
    return f"{text} ? {write_trace(steps, steps[-1].result, dice)}"


def _grow(value: int, dice: Dice) -> Step:
    """A step from ``value``, on either side, to a number of 1..60."""
    while True:
        op = dice.pick(("+", "-", "x", "/"))
        other = 1 + dice.below(12 if op in ("x", "/") and dice.below(2) else LARGEST)
        left, right = (value, other) if dice.below(3) else (other, value)
        result = apply(left, op, right)
        if result is not None:
            return Step(left, op, right, result)


def _combine(left: int, right: int, dice: Dice) -> Step | None:
    """A step between two given numbers, if one stays in 1..60."""
    for _ in range(6):
        op = dice.pick(("+", "-", "x", "/"))
        result = apply(left, op, right)
        if result is not None:
            return Step(left, op, right, result)
    return None
