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

    question  gus has 21 pens and gets 9 more but then loses 14 and then buys 12 more but then
              loses 4 . how many pens now ?
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
    draw_story,
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
#: Tales of one step.
SHORT = tuple(
    story
    for skill in UNSEEN
    if skill.name == "bags"
    for story in skill.simple
    if len(story.steps) == 1
)
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
        """One problem of the chain, drawn from ``rng``."""
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
    """Items that become more and fewer, one event after the other: as many steps as one likes.

    Tales of one step are told as the easy relatives of ``bags`` are, tales of two as the mastered
    skills ``buy`` and ``boxes``, so the base model knows them; it has read no longer one. One of
    those in four also names what somebody else has, which changes nothing.

    Args:
        length: steps of the solution.
    """

    length: int = 1

    def draw(self, rng: np.random.Generator) -> Problem:
        """One problem of the tale, drawn from ``rng``."""
        if self.length == 1:
            short = SHORT[int(rng.integers(len(SHORT)))]
            return draw_story(short, self.name, rng)
        dice = Dice(rng, block=96)
        names, items = list(NAMES), list(ITEMS)
        name, other = (names.pop(dice.below(len(names))) for _ in range(2))
        item, second = (items.pop(dice.below(len(items))) for _ in range(2))
        steps: list[Step] = []
        if dice.below(2):
            steps.append(_boxes(dice))
            told = [f"there are {steps[0].left} boxes with {steps[0].right} {item} each"]
            gains: tuple[str, ...]
            gains, loss, end = (f"more {item} on the table",), f"of the {item} fell out", "in all"
        else:
            value = 2 + dice.below(40)
            told = [f"{name} has {value} {item}"]
            gains, loss, end = ("buys", "gets"), "loses", f"{item} now"
        in_boxes = bool(steps)
        while len(steps) < self.length:
            step = _event(steps[-1].result if steps else value, dice)
            more, number = step.op == "+", step.right
            words = ["and" if more else "but", *["then"] * (len(told) > 1)]
            if in_boxes:
                words += [f"{number} {gains[0] if more else loss}"]
            else:
                words += [f"{dice.pick(gains)} {number} more" if more else f"{loss} {number}"]
            steps.append(step)
            told.append(" ".join(words))
        if dice.below(4) == 0:
            told.insert(0, f"{other} has {2 + dice.below(30)} {second} .")
        answer = steps[-1].result
        question = f"{' '.join(told)} . how many {end} ?"
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


def _boxes(dice: Dice) -> Step:
    while True:
        left, right = 2 + dice.below(11), 2 + dice.below(11)
        result = apply(left, "x", right)
        if result is not None and left != right:
            return Step(left, "x", right, result)


def _event(value: int, dice: Dice) -> Step:
    """More or fewer of ``value`` items, so that 2..60 of them are left."""
    while True:
        op, number = dice.pick(("+", "-")), 2 + dice.below(30)
        result = apply(value, op, number)
        if result is not None and result >= 2:
            return Step(value, op, number, result)
