"""Perturbed problems: other names, objects, sentence order or numbers, and the answer that follows.

Rules only, no generator: what a rule cannot change safely it leaves alone (None)::

    ann has 9 kites and gets 4 more .   ->   leo has 9 pens and gets 4 more .
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from activeselect.data.chains import Known, sentences
from activeselect.data.pool import Problem
from activeselect.data.programs import EQUATION, NUMBER, execute, program_of, written
from activeselect.data.skills.skill import ITEMS, NAMES

#: People, each list of one kind of pronoun where the language has one; lower case is built in.
_PEOPLE = (
    NAMES,
    (
        *("Alice", "Anna", "Bella", "Clara", "Emma", "Grace", "Hannah", "Jane", "Julia", "Kate"),
        *("Laura", "Lily", "Lucy", "Maria", "Mary", "Megan", "Mia", "Nina", "Olivia", "Rachel"),
        *("Rosa", "Sarah", "Sophie", "Susan", "Tina", "Wendy", "Zoe"),
    ),
    (
        *("Adam", "Alex", "Ben", "Bob", "Carl", "Chris", "Daniel", "David", "Eric", "Frank"),
        *("George", "Henry", "Jack", "James", "John", "Josh", "Kevin", "Luke", "Mark", "Mike"),
        *("Nick", "Oscar", "Paul", "Peter", "Robert", "Sam", "Tim", "Tom", "Tommy"),
    ),
)
#: Objects that can be counted and stand in the plural, each list of one kind.
_OBJECTS = (
    ITEMS,
    ("apples", "oranges", "pears", "bananas", "peaches", "lemons", "plums"),
    ("pencils", "pens", "erasers", "crayons", "markers", "rulers"),
    ("marbles", "stickers", "stamps", "shells", "buttons", "beads"),
    ("cookies", "cupcakes", "muffins", "donuts", "brownies"),
    ("roses", "tulips", "daisies", "lilies", "sunflowers"),
)
#: A sentence with one of these leans on the one before it, and stays where it is.
_LEANS = re.compile(
    r"\b(?:he|she|it|they|them|his|her|their|its|this|that|these|those|then|now|after|before|also|"
    r"later|next|another|other|others|more|rest|left|remaining|each|if|so|but|finally|again|total)\b",
    re.IGNORECASE,
)
_WORD = re.compile(r"[A-Za-z]+")
_TRIES = 50

#: A rule: the problem changed, or None.
Rule = Callable[[Problem, np.random.Generator, Known], Problem | None]


def rename(problem: Problem, rng: np.random.Generator, known: Known) -> Problem | None:
    """People and objects replaced by others, everywhere in question and trace; None if none occur.

    Example:
        >>> asked = Problem(0, "Tom has 3 apples .", "3", "3")
        >>> rename(asked, np.random.default_rng(1), lambda word: True).question
        'James has 3 kites .'
    """
    present = set(_WORD.findall(problem.question))
    swaps: dict[str, str] = {}
    for words in (*_PEOPLE, *_OBJECTS):
        here = [word for word in words if word in present and word not in swaps]
        free = [word for word in words if word not in present and known(word)]
        free = [word for word in free if word not in swaps.values()]
        for word in here:
            if free:
                swaps[word] = free.pop(int(rng.integers(len(free))))
    if not swaps:
        return None
    swap = re.compile(r"\b(?:" + "|".join(swaps) + r")\b")
    question, trace = (
        swap.sub(lambda found: swaps[found.group()], text)
        for text in (problem.question, problem.trace)
    )
    return replace(problem, question=question, trace=trace)


def reorder(problem: Problem, rng: np.random.Generator, known: Known) -> Problem | None:
    """Two neighbouring sentences that lean on nothing change places; None if there are none such.

    The last sentence, which asks, stays last.
    """
    parts = sentences(problem.question)
    free = [i for i, part in enumerate(parts[:-1]) if not _LEANS.search(part)]
    pairs = [i for i in free if i + 1 in free]
    if not pairs:
        return None
    i = pairs[int(rng.integers(len(pairs)))]
    first, second = parts[i], parts[i + 1]
    space = first[: len(first) - len(first.lstrip())]
    gap = second[: len(second) - len(second.lstrip())]
    parts[i], parts[i + 1] = space + second.lstrip(), gap + first.lstrip()
    return replace(problem, question="".join(parts))


def renumber(problem: Problem, rng: np.random.Generator, known: Known) -> Problem | None:
    """Other numbers, where the trace can be executed to find the answer that follows; else None.

    Every number of a step must be one of the question's, an earlier result, or a constant that the
    question does not hold; results stay whole, positive and within what the tokenizer can write.
    """
    program = program_of(problem)
    if program is None:
        return None
    given, steps = program
    for _ in range(_TRIES):
        new = {n: max(2, n + int(rng.integers(-5, 6))) for n in given}
        values = list(new.values())
        if len(set(values)) < len(values) or all(new[n] == n for n in given):
            continue
        results = execute(steps, new)
        if results is None or not all(known(str(n)) for n in (*values, *results)):
            continue
        question = NUMBER.sub(
            lambda found, new=new: str(new[int(found.group())]),  # type: ignore[misc]
            problem.question,
        )
        filled = iter(written(steps, new, results))
        trace = EQUATION.sub(lambda _, filled=filled: next(filled), problem.trace)  # type: ignore[misc]
        head, _, _ = trace.rpartition(problem.answer)
        return replace(
            problem, question=question, trace=head + str(results[-1]), answer=str(results[-1])
        )
    return None


RULES: dict[str, Rule] = {"renamed": rename, "reordered": reorder, "renumbered": renumber}
