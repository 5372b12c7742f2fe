"""A skill: a kind of word problem that can be drawn as often as one likes.

One real record (the template and the program are in ``stories.py``)::

    question  a tank holds 20 litres . each minute 9 flow in and 4 leak out . how many litres
              after 3 minutes ?
    trace     well 9 - 4 = 5 . next 5 x 3 = 15 . now 20 + 15 = 35 . hence answer : 35
    answer    35
    group     tank

Every word is a token between single spaces, and every number is one of 0..60. The steps are fixed
by the program, their wording is drawn: two traces of one question agree in meaning and differ in
about 7 nats of wording, so a low loss on one particular trace is a sign of copying.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from activeselect.data.pool import Problem

# --- Train and test split
#
# The rule is a checksum of the text, so no list has to be kept and it holds across pools, test
# sets,
# fresh draws and the base model's own training, on every platform and in every process::
#
#     "ann has 9 kites but loses 2 and then buys 5 more . how many kites now ?"  ->  pool


TUNING_SEED = 1000  # data built with this seed or a higher one is for tuning


def _bucket(question: str) -> int:
    return zlib.crc32(question.encode()) % 10


def in_pool(question: str) -> bool:
    """Whether the question may be learned from; eight in ten may.

    Example:
        >>> question = "ann has 9 kites but loses 2 and then buys 5 more . how many kites now ?"
        >>> in_pool(question), in_test(question, seed=0), in_test(question, seed=1000)
        (True, False, False)
    """
    return _bucket(question) > 1


def in_test(question: str, seed: int) -> bool:
    """Whether the question is for the test set of this seed: one in ten is.

    Seeds from ``TUNING_SEED`` share another tenth: what a recipe is tuned on is in no other test.
    """
    return _bucket(question) == int(seed >= TUNING_SEED)


LARGEST = 60
NUMBERS = tuple(str(n) for n in range(LARGEST + 1))
NAMES = ("ann", "ben", "cat", "dan", "eva", "finn", "gus", "hana", "ivy", "joe", "kim", "leo")
ITEMS = ("apples", "books", "cards", "dolls", "eggs", "kites", "pens", "rings", "shells", "stamps")
OPENERS = ("so", "now", "then", "next", "here", "well")
CLOSERS = ("thus", "so", "hence", "finally")
FRESH_ID = -1  # of a problem that belongs to no pool yet

_LETTERS = ("A", "B", "C", "D")
_RESULTS = ("P", "Q", "R")
_SMALL, _LARGE = 12, 50


class Dice:
    """Cheap small random choices: one block of integers is drawn, then spent by remainder.

    A call of a numpy generator costs microseconds, and a problem needs about thirty choices; the
    bias of a remainder of 2**32 is below one in ten million.
    """

    def __init__(self, rng: np.random.Generator, block: int = 48) -> None:
        self._rng = rng
        self._block = block
        self._values: list[int] = []

    def below(self, bound: int) -> int:
        """An integer in ``0..bound - 1``."""
        if not self._values:
            self._values = self._rng.integers(0, 2**32, size=self._block, dtype=np.int64).tolist()
        return self._values.pop() % bound

    def pick(self, options: tuple[str, ...] | list[str]) -> str:
        """One of the options, each equally likely."""
        return options[self.below(len(options))]


class Step(NamedTuple):
    """One line of arithmetic, ``left op right = result``, with numbers filled in."""

    left: int
    op: str
    right: int
    result: int


def apply(left: int, op: str, right: int) -> int | None:
    """The result of one operation, or None where it is not a number of 1..60.

    Example:
        >>> apply(12, "/", 4), apply(12, "/", 5), apply(3, "-", 3)
        (3, None, None)
    """
    if op == "/":
        result = left // right if right and left % right == 0 else 0
    else:
        result = {"+": left + right, "-": left - right, "x": left * right}[op]
    return result if 1 <= result <= LARGEST else None


def write_trace(steps: list[Step], answer: int, dice: Dice) -> str:
    """The steps in words drawn anew each time, ending in ``answer : N``."""
    lines = [
        f"{dice.pick(OPENERS)} {step.left} {step.op} {step.right} = {step.result} ."
        for step in steps
    ]
    return " ".join([*lines, f"{dice.pick(CLOSERS)} answer : {answer}"])


@dataclass(frozen=True)
class Story:
    """One way to tell a problem, with the program that solves it.

    In ``text``, A..D stand for numbers, N, M, K for names, I, J for items, and ``x/y`` for either
    word. In ``program``, steps are parted by ``;`` and P, Q, R are the results so far. Letters in
    ``small`` are at most 12 though they do not multiply (their sum or difference divides).
    """

    text: str
    program: str
    small: str = ""

    @cached_property
    def steps(self) -> tuple[tuple[str, str, str], ...]:
        """The program's steps as (left operand, operator, right operand)."""
        parts = [line.split() for line in self.program.split(";")]
        return tuple((left, op, right) for left, op, right in parts)

    @cached_property
    def letters(self) -> tuple[str, ...]:
        """The placeholders of numbers that occur in the text."""
        return tuple(letter for letter in _LETTERS if letter in self.text.split())

    @cached_property
    def largest(self) -> tuple[int, ...]:
        """Largest value tried per letter: small where it multiplies or divides."""
        factors = {side for step in self.steps if step[1] == "x" for side in (step[0], step[2])}
        factors |= set(self.small) | {right for _, op, right in self.steps if op == "/"}
        return tuple(_SMALL if letter in factors else _LARGE for letter in self.letters)

    def solve(self, values: dict[str, int], dice: Dice) -> list[Step] | None:
        """The steps with numbers, or None where one of them leaves 1..60."""
        known = dict(values)
        done = []
        for name, (left, op, right) in zip(_RESULTS, self.steps, strict=False):
            a, b = known.get(left) or int(left), known.get(right) or int(right)
            # An operation that nobody can learn: its result is drawn, not computed.
            result = 1 + dice.below(LARGEST) if op == "turns" else apply(a, op, b)
            if result is None or (op == "/" and result < 2):
                return None  # what divides into one is no problem to share out
            known[name] = result
            done.append(Step(a, op, b, result))
        return done

    def draw(self, rng: np.random.Generator) -> tuple[str, list[Step]]:
        """A question and its steps; numbers are redrawn until every result is in 1..60."""
        dice = Dice(rng)
        while True:
            numbers = [2 + dice.below(most - 1) for most in self.largest]
            if len(set(numbers)) < len(numbers):
                continue  # equal numbers would leave open which one a step refers to
            values = dict(zip(self.letters, numbers, strict=True))
            steps = self.solve(values, dice)
            if steps is not None:
                break
        return self.tell(values, dice), steps

    def tell(self, values: dict[str, int], dice: Dice) -> str:
        """The text with numbers, names and items filled in; no name or item stands for two."""
        filled = {letter: str(value) for letter, value in values.items()}
        for letters, words in ((("N", "M", "K"), NAMES), (("I", "J"), ITEMS)):
            left = list(words)
            for letter in letters:
                filled[letter] = left.pop(dice.below(len(left)))
        return " ".join(
            filled[word] if word in filled else dice.pick(word.split("/"))
            for word in self.text.split()
        )

    def words(self) -> Iterator[str]:
        """The literal words of the text."""
        placeholders = {*_LETTERS, "N", "M", "K", "I", "J"}
        for word in self.text.split():
            if word not in placeholders:
                yield from word.split("/")


@dataclass(frozen=True)
class Skill:
    """A group of problems that are solved in the same few ways.

    Args:
        name: the group of its problems.
        stories: ways to tell it, drawn equally often.
        simple: easier relatives that the base model is trained on in place of ``stories``;
            empty where the base model is trained on ``stories`` themselves.

    Example:
        >>> import numpy as np
        >>> skill = Skill("sum", (Story("N has A I and gets B more . how many ?", "A + B"),))
        >>> problem = skill.draw(np.random.default_rng(0))
        >>> problem.group, problem.trace.endswith(f"answer : {problem.answer}")
        ('sum', True)
    """

    name: str
    stories: tuple[Story, ...]
    simple: tuple[Story, ...] = ()

    def draw(self, rng: np.random.Generator) -> Problem:
        """A problem with id ``FRESH_ID``; the caller gives it a place."""
        return draw_story(self.stories[int(rng.integers(len(self.stories)))], self.name, rng)


def draw_story(story: Story, group: str, rng: np.random.Generator) -> Problem:
    """One problem of the story: question, trace and answer, drawn from ``rng``."""
    question, steps = story.draw(rng)
    answer = steps[-1].result
    return Problem(FRESH_ID, question, write_trace(steps, answer, Dice(rng)), str(answer), group)
