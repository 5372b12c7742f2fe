"""Chains: reasoning split into steps and an answer, and the edits that ask what depends on what.

A completion of the built-in benchmark, its two steps, what announces the answer, and the answer::

    so 18 + 20 = 38 .| here 38 - 14 = 24 .| thus answer :| 24

The same splitter serves every model and every data set: a step is a sentence or a line.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from activeselect.data.answers import AnswerChecker

#: A sentence with the white space before it: up to a final mark before white space, or a line end.
_SENTENCE = re.compile(r"\s*\S[^\n]*?(?:[.!?][\"')\]]*(?=\s|$)|(?=\n)|$)")
#: What a sentence does not end with: a number of a list, a single mark, a short form.
_OPEN = re.compile(r"\s*(?:\(?\d+[.)]|.*\b(?:Mr|Mrs|Ms|Dr|St|vs|e\.g|i\.e)\.)$")
_NUMBER = re.compile(r"(?<![\w.])\d+(?:\.\d+)?(?![\w]|\.\d)")
_EQUATION = re.compile(r"=\s*\$?\s*(?P<result>\d+(?:\.\d+)?)(?![\w]|\.\d)")
#: A new number is at most that far from the true one.
_FAR = 9

#: Whether a model's tokenizer can write a text.
Known = Callable[[str], bool]


@dataclass(frozen=True)
class Chain:
    """Reasoning in steps; ``"".join(steps) + cue`` is what stands before the answer.

    Attributes:
        steps: each with the white space before it.
        cue: the text that announces the answer, with the white space before it.
        answer: as the checker reads it; None where the text states none.
    """

    steps: tuple[str, ...]
    cue: str
    answer: str | None

    def prefix(self, count: int) -> str:
        """The first steps, without what announces the answer."""
        return "".join(self.steps[:count])


def split(text: str, checker: AnswerChecker) -> Chain:
    """Split a completion into steps and answer.

    The answer's announcement is the last part of the text that states the answer alone; a text that
    states none is all steps, with the checker's own announcement as its cue.

    Example:
        >>> from activeselect.data.answers import get_checker
        >>> split("48/2 = 24 clips. 48 + 24 = 72.\\n#### 72", get_checker("gsm8k"))
        Chain(steps=('48/2 = 24 clips.', ' 48 + 24 = 72.'), cue='\\n####', answer='72')
    """
    parts = sentences(text)
    answer = checker.extract(text)
    if answer is None:
        return Chain(tuple(parts), default_cue(text, checker), None)
    where = len(parts) - 1
    while where > 0 and checker.extract("".join(parts[where:])) != answer:
        where -= 1
    cue = _cue("".join(parts[where:]), answer, checker)
    if cue is None:
        cue = default_cue(text, checker)
    return Chain(tuple(parts[:where]), cue, answer)


def default_cue(text: str, checker: AnswerChecker) -> str:
    """How the checker announces an answer, after the text's own kind of white space."""
    space = "\n" if "\n" in text or not _marker(checker) else " "
    return space + _marker(checker)


def _marker(checker: AnswerChecker) -> str:
    return checker.render("\0").partition("\0")[0].strip()


def _cue(conclusion: str, answer: str, checker: AnswerChecker) -> str | None:
    """The conclusion up to the answer; None where the answer stands nowhere as it is read."""
    marker = _marker(checker)
    places = [found.end() for found in re.finditer(re.escape(marker), conclusion)] if marker else []
    for place in places:
        if checker.extract(marker + conclusion[place:]) == answer:
            return conclusion[:place]
    place = conclusion.rfind(answer)
    return conclusion[:place].rstrip() if place >= 0 else None


def sentences(text: str) -> list[str]:
    """Sentences and lines with the white space before each; their concatenation is the text.

    Example:
        >>> sentences("She has 3.5 kg. Mr. Li has 4.\\nSo 7.5 in all")
        ['She has 3.5 kg.', ' Mr. Li has 4.', '\\nSo 7.5 in all']
    """
    parts: list[str] = []
    joins = False
    for found in _SENTENCE.finditer(text):
        part = found.group()
        if parts and (joins or not re.search(r"\w", part)):
            parts[-1] += part
        else:
            parts.append(part)
        joins = "\n" not in text[found.end() : found.end() + 1] and bool(_OPEN.match(parts[-1]))
    return parts


def make_false(step: str, rng: np.random.Generator, known: Known = lambda _: True) -> str | None:
    """A step with one number changed, so that what it says is false; None if it has no number.

    The result of its last equation is changed, else its last number; the new number is at most
    9 away and stands nowhere in the step.

    Args:
        known: what the model's tokenizer can write.

    Example:
        >>> false = make_false("so 18 + 20 = 38 .", np.random.default_rng(0))
        >>> false != "so 18 + 20 = 38 .", false.startswith("so 18 + 20 = ")
        (True, True)
    """
    equations = list(_EQUATION.finditer(step))
    numbers = list(_NUMBER.finditer(step))
    if equations:
        start, stop = equations[-1].span("result")
    elif numbers:
        start, stop = numbers[-1].span()
    else:
        return None
    written = step[start:stop]
    whole, _, digits = written.partition(".")
    taken = {found.group() for found in numbers}
    near = [int(whole) + d for d in range(-_FAR, _FAR + 1)]
    choices = [f"{n}.{digits}" if digits else str(n) for n in near if n >= 0]
    choices = [text for text in choices if text not in taken and text != written and known(text)]
    if not choices:
        return None
    return step[:start] + choices[int(rng.integers(len(choices)))] + step[stop:]


#: Words that begin a step, each set of one meaning; the built-in rules of paraphrase.
OPENERS: tuple[tuple[str, ...], ...] = (
    ("so", "now", "then", "next", "here", "well"),  # of the built-in benchmark's steps
    ("So", "Thus", "Therefore", "Hence"),
    ("Then", "Next", "After that"),
    ("First", "To begin", "At first"),
    ("In total", "Altogether", "In all"),
)
_INSIDE: tuple[tuple[str, ...], ...] = (
    ("altogether", "in total", "in all"),
    ("each", "apiece"),
    ("has", "owns"),
    ("is equal to", "equals"),
    ("Since", "Because"),
    ("because", "since"),
    ("bought", "purchased"),
    ("left over", "remaining"),
    ("needs", "requires"),
    ("gave", "handed"),
    ("will be", "is going to be"),
    ("therefore", "thus", "so"),
)


def paraphrase(step: str, rng: np.random.Generator, known: Known = lambda _: True) -> str | None:
    """A step in other words by rules of synonyms, the numbers kept; None where no rule applies.

    Example:
        >>> paraphrase(" In total she has 7.", np.random.default_rng(0))
        ' In all she owns 7.'
    """
    body = step.lstrip()
    space, changed = step[: len(step) - len(body)], body
    for words in OPENERS:
        for word in sorted(words, key=len, reverse=True):
            if re.match(rf"{word}\b", body):
                changed = _other(words, word, rng, known) + body[len(word) :]
                break
        if changed != body:
            break
    for words in _INSIDE:
        for word in words:
            place = re.search(rf"(?<=\s){re.escape(word)}\b", changed)
            if place:
                other = _other(words, word, rng, known)
                changed = changed[: place.start()] + other + changed[place.end() :]
                break
    return space + changed if changed != body else None


def _other(words: Sequence[str], word: str, rng: np.random.Generator, known: Known) -> str:
    others = [other for other in words if other != word and known(other)]
    return others[int(rng.integers(len(others)))] if others else word


def hedges(text: str, words: Sequence[str]) -> int:
    """How often a text doubts or corrects itself, by a list of words; case does not matter.

    Example:
        >>> hedges("Wait, maybe it is 7. Waiter!", ["wait", "maybe"])
        2
    """
    if not words:
        return 0
    pattern = "|".join(re.escape(word) for word in words)
    return len(re.findall(rf"(?<!\w)(?:{pattern})(?!\w)", text, re.IGNORECASE))
