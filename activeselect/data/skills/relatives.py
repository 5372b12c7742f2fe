"""Skills that look like others: easy relatives told in a hard skill's words, chains, long tales.

Mixtures of the plain skills give a group away by its words. Here the easy and the hard problems
share them, so that neighbours by words are of several groups, and no question needs a word that
the base model has not read. Three real records (an easy relative of ``journey``, a chain of three
steps, and a tale of four)::

    question  a train goes 20 miles in 5 hours . how far in 9 hours ?
    trace     so 20 / 5 = 4 . well 4 x 9 = 36 . thus answer : 36
    group     journey-easy

    question  24 8 + 4 / 17 + ?
    trace     next 24 + 8 = 32 . here 32 / 4 = 8 . well 8 + 17 = 25 . so answer : 25
    group     chain-line

    question  gus has 21 pens . then gets 9 more . then keeps half of them . then loses 4 . then
              buys 12 more . how many pens now ?
    group     (4 steps)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from activeselect.data.pool import Problem
from activeselect.data.skills.skill import (
    FRESH_ID,
    ITEMS,
    LARGEST,
    NAMES,
    Dice,
    Skill,
    Step,
    Story,
    apply,
    write_trace,
)
from activeselect.data.skills.stories import MASTERED, PLAIN, UNSEEN

#: Each story of a mastered skill as a group of its own.
TOLD = tuple(
    Skill(f"{skill.name}-{number}", (story,))
    for skill in MASTERED
    for number, story in enumerate(skill.stories, 1)
)
#: What the base model read in place of the unseen skills, in their words.
EASY = tuple(Skill(f"{skill.name}-easy", skill.simple) for skill in UNSEEN)
#: Noise as long as what is worth learning.
LONG_NOISE = (
    Skill(
        "omen-long",
        (
            Story(
                "a witch sees A stars and B moons over C hills in D days . what is the secret "
                "number ?",
                "A turns B ; P turns C ; Q turns D",
            ),
        ),
    ),
    Skill(
        "riddle-long",
        (
            Story(
                "a wizard draws A signs and adds B drops to C potions in D days . which number "
                "comes next ?",
                "A turns B ; P turns C ; Q turns D",
            ),
        ),
    ),
)


@dataclass(frozen=True)
class Chain(Skill):
    """Postfix arithmetic of three steps without a story, as the base model has read it.

    Args:
        tree: whether two results meet in the third step; otherwise each step takes the last
            result and one new number.
    """

    tree: bool = False

    def draw(self, rng: np.random.Generator) -> Problem:
        dice = Dice(rng, block=64)
        while True:
            first = _step(1 + dice.below(LARGEST), dice)
            if self.tree:
                second = _step(1 + dice.below(LARGEST), dice)
                last = _meet(first.result, second.result, dice)
                if last is None:
                    continue
                steps = [first, second, last]
                text = f"{_postfix(first)} {_postfix(second)} {last.op}"
                break
            steps, text = [first], _postfix(first)
            for _ in range(2):
                step = _step(steps[-1].result, dice)
                text += f" {step.right} {step.op}"
                steps.append(step)
            break
        answer = steps[-1].result
        return Problem(
            FRESH_ID, f"{text} ?", write_trace(steps, answer, dice), str(answer), self.name
        )


@dataclass(frozen=True)
class Tale(Skill):
    """Things that happen to somebody's items one after the other: as many steps as one likes.

    One tale in three also names what somebody else has, which changes nothing.

    Args:
        length: steps of the solution.
    """

    length: int = 1

    def draw(self, rng: np.random.Generator) -> Problem:
        dice = Dice(rng, block=96)
        names, items = list(NAMES), list(ITEMS)
        name, other = (names.pop(dice.below(len(names))) for _ in range(2))
        item, second = (items.pop(dice.below(len(items))) for _ in range(2))
        value = 2 + dice.below(30)
        told, steps = [f"{name} has {value} {item} ."], list[Step]()
        for _ in range(self.length):
            step, words = _event(steps[-1].result if steps else value, dice)
            steps.append(step)
            told.append(f"then {words} .")
        if dice.below(3) == 0:
            at = 1 + dice.below(len(told))
            told.insert(at, f"{other} has {2 + dice.below(30)} {second} .")
        answer = steps[-1].result
        question = f"{' '.join(told)} how many {item} now ?"
        return Problem(FRESH_ID, question, write_trace(steps, answer, dice), str(answer), self.name)


CHAINS = (Chain("chain-line", ()), Chain("chain-tree", (), tree=True))
TALES = tuple(
    Tale(f"({length} step{'s' * (length > 1)})", (), length=length) for length in range(1, 7)
)
SKILLS = {
    **PLAIN,
    **{skill.name: skill for skill in (*TOLD, *EASY, *CHAINS, *LONG_NOISE, *TALES)},
}


def _postfix(step: Step) -> str:
    return f"{step.left} {step.right} {step.op}"


def _step(value: int, dice: Dice) -> Step:
    """A step from ``value`` to a number of 1..60."""
    while True:
        op = dice.pick(("+", "-", "x", "/"))
        other = 1 + dice.below(12 if op in ("x", "/") else LARGEST)
        result = apply(value, op, other)
        if result is not None:
            return Step(value, op, other, result)


def _meet(left: int, right: int, dice: Dice) -> Step | None:
    for _ in range(6):
        op = dice.pick(("+", "-", "x", "/"))
        result = apply(left, op, right)
        if result is not None:
            return Step(left, op, right, result)
    return None


def _event(value: int, dice: Dice) -> tuple[Step, str]:
    """Something that happens to ``value`` items and leaves 2..60 of them."""
    while True:
        kind = dice.below(6)
        number = 2 + dice.below(24)
        op, words = (
            ("+", f"gets {number} more"),
            ("+", f"buys {number} more"),
            ("-", f"loses {number}"),
            ("-", f"gave {number} to friends"),
            ("x", "has twice as many" if number % 2 else "has three times as many"),
            ("/", "keeps half of them"),
        )[kind]
        if op == "x":
            number = 2 if number % 2 else 3
        elif op == "/":
            number = 2
        result = apply(value, op, number)
        if result is not None and result >= 2:
            return Step(value, op, number, result), words
