"""Counts that say something about a problem's difficulty before any model has read it (numpy)."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from activeselect.arrays import FloatArray

_NUMBER = re.compile(r"\d+(?:,\d{3})*(?:\.\d+)?")
_WORD = re.compile(r"[^\W\d_]+")
_NOTE = re.compile(r"<<[^>]*>>")
_ANSWER_LINE = re.compile(r"####[^\n]*\s*$")
_SENTENCE = re.compile(r"[.!?](?:\s|$)")
_MINUS = re.compile(r"[-\u2212\u2013]\s*[$\d(]")

_FRACTIONS = {
    "percent",
    "half",
    "halves",
    "third",
    "thirds",
    "quarter",
    "quarters",
    "fifth",
    "fraction",
}
_COMPARISONS = {
    "more",
    "less",
    "fewer",
    "than",
    "twice",
    "times",
    "double",
    "triple",
    "most",
    "least",
}
_NUMBERS = {"one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "dozen"}
_UNITS = {
    "second",
    "seconds",
    "minute",
    "minutes",
    "hour",
    "hours",
    "day",
    "days",
    "week",
    "weeks",
    "month",
    "months",
    "year",
    "years",
}
_CONDITIONS = {"if", "each", "every", "per", "rest", "remaining", "left", "total", "average"}

_SHARED = (
    "characters",
    "words",
    "distinct words",
    "numbers",
    "characters of numbers",
    "distinct numbers",
    "largest number",
    "numbers above 100",
    "decimals",
    "percents and fractions",
)
_QUESTION = ("sentences", "question marks", "comparisons", "number words", "units", "conditions")
_TRACE = ("steps", "plus", "minus", "times", "divided", "equals", "brackets")
#: Names of the columns that a question gives, and of those that a trace adds.
QUESTION_COUNTS = tuple(f"question: {name}" for name in (*_SHARED, *_QUESTION, "money"))
TRACE_COUNTS = tuple(f"trace: {name}" for name in (*_SHARED, *_TRACE))


def text_counts(questions: Sequence[str], traces: Sequence[str] | None = None) -> FloatArray:
    """Counts of words, numbers, steps and operators, one row per problem.

    Calculator notes (``<<1+1=2>>``) and a last line ``#### 2`` say nothing new and are not
    counted. Commas inside a number group its digits.

    Args:
        questions: N of them.
        traces: their reference traces; None: only the questions are looked at.

    Returns:
        float64 ``[N, F]``: :data:`QUESTION_COUNTS`, then :data:`TRACE_COUNTS` where traces are
        given; at least 0 and finite.

    Example:
        >>> row = text_counts(["Is 1,200 more than 7?"], ["1200 - 7 = 1193"])[0]
        >>> named = dict(zip(QUESTION_COUNTS + TRACE_COUNTS, row.tolist()))
        >>> named["question: largest number"], named["question: comparisons"], named["trace: minus"]
        (1200.0, 2.0, 1.0)
    """
    rows = [_of_question(text) for text in questions]
    counts = np.array(rows, dtype=np.float64).reshape(-1, len(QUESTION_COUNTS))
    if traces is None:
        return counts
    rows = [_of_trace(_ANSWER_LINE.sub("", _NOTE.sub("", text))) for text in traces]
    return np.hstack([counts, np.array(rows, dtype=np.float64).reshape(-1, len(TRACE_COUNTS))])


def _of_question(text: str) -> list[float]:
    words = _WORD.findall(text.lower())
    return [
        *_shared(text, words),
        len(_SENTENCE.findall(text)),
        text.count("?"),
        _among(words, _COMPARISONS),
        _among(words, _NUMBERS),
        _among(words, _UNITS),
        _among(words, _CONDITIONS),
        text.count("$") + text.count("€") + text.count("£"),
    ]


def _of_trace(text: str) -> list[float]:
    words = _WORD.findall(text.lower())
    return [
        *_shared(text, words),
        sum(1 for line in text.splitlines() if line and not line.isspace()),
        text.count("+"),
        len(_MINUS.findall(text)),
        text.count("*") + text.count("\u00d7") + text.count("\\times") + text.count("\\cdot"),
        text.count("/") + text.count("\u00f7") + text.count("frac{"),
        text.count("="),
        text.count("("),
    ]


def _shared(text: str, words: list[str]) -> list[float]:
    # a number of hundreds of digits counts as one of fifteen: a float must not overflow
    found = _NUMBER.findall(text)
    numbers = [min(float(number[:300].replace(",", "")), 1e15) for number in found]
    return [
        len(text),
        len(words),
        len(set(words)),
        len(numbers),
        sum(map(len, found)),
        len(set(numbers)),
        max(numbers, default=0.0),
        sum(1 for number in numbers if number > 100),
        sum(1 for number in numbers if number % 1),
        text.count("%") + _among(words, _FRACTIONS),
    ]


def _among(words: list[str], wanted: set[str]) -> int:
    return sum(map(wanted.__contains__, words))


def without_numbers(text: str) -> str:
    """The text with every number as ``#`` and without calculator notes, for comparing words.

    Example:
        >>> without_numbers("She has 1,200 <<1200*1=1200>>pears.")
        'She has # pears.'
    """
    return _NUMBER.sub("#", _NOTE.sub("", text))
