"""Final answers: how they are found in a text, and when two of them are the same.

A GSM8K trace ends in the answer, and so must a completion that is to count as right::

    Natalia sold 48/2 = <<48/2=24>>24 clips in May.
    Natalia sold 48+24 = <<48+24=72>>72 clips altogether in April and May.
    #### 72

Four checkers, by name: ``gsm8k`` (as above), ``math`` (``\\boxed{...}``, compared by math-verify),
``number`` (the last number in the text) and ``marker:TEXT`` (what follows the last TEXT, for
example ``marker:answer :``).
"""

from __future__ import annotations

import importlib.util
import re
from abc import ABC, abstractmethod
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache
from typing import ClassVar

from activeselect.errors import ActiveSelectError, ConfigError, did_you_mean

# --- Numbers
#
# A stretch of digits and of the signs between them is one number or none: where its form is not
# one that is read, it is refused, and never replaced by a part of it (`1.200,50` is not `50`).
# docs/guide/data.md has the table of forms.

_LONGEST = 128  # characters; longer digit strings are compared as text
_MINUS = "\u2212\u2013\ufe63\uff0d-"  # minus, en dash, small and full-width hyphen, hyphen
_HARD_SPACE = "\u00a0\u2009\u202f"  # no-break, thin, narrow no-break: inside one number only
_SIMPLE = str.maketrans(dict.fromkeys(_MINUS, "-") | dict.fromkeys("$ " + _HARD_SPACE, ""))


def _grouped(separator: str) -> str:
    return rf"[0-9]{{1,3}}(?:{separator}[0-9]{{3}})+(?![0-9])"


def _unsigned(spaces: str) -> str:
    """Digits in one notation: with commas, with one kind of space, or without either."""
    groups = "|".join(_grouped(separator) for separator in (",", *spaces))
    return rf"(?:(?:{groups}|[0-9]+)(?:\.[0-9]+)?|\.[0-9]+)(?:[eE][+{_MINUS}]?[0-9]{{1,3}})?"


_DIVISOR = r"0*[1-9][0-9]*"
_WHOLE = re.compile(
    rf"(?:\$\s*)?([+{_MINUS}])?\s*(?:\$\s*)?({_unsigned(_HARD_SPACE + ' ')})(?:/({_DIVISOR}))?\.?"
)
# A minus after a letter, digit or bracket is a subtraction, not a sign.
_SIGN = rf"(?:(?<![\w.)\]])[{_MINUS}]\$?)?"
_READ = re.compile(rf"{_SIGN}{_unsigned(_HARD_SPACE)}(?:/{_DIVISOR})?")
# What joins digits to one stretch: all that some notation puts inside a number, a time, a date or
# a power. `12 000` and `1 1/2` may be one number or two, so their space joins as well.
_JOIN = (
    rf"(?:[.,'\u2019_:/^\u00b7\u066b\u066c\u2044\u2215{_HARD_SPACE}]+|\*\*|\^?\{{,?\}}?|\}}\{{"
    rf"|[eE][+{_MINUS}]?|(?<![0-9]{{4}})\ (?=[0-9]{{3}}(?![0-9]))|\ (?=[0-9]+/[0-9]))"
)
# `\d` and the second class hold digits that are not read, too: Arabic, full-width, `½`, `²`.
_DIGIT = r"(?:\d|[\u00bc-\u00be\u2150-\u215e\u00b2\u00b3\u00b9\u2070-\u209f])"
_STRETCH = re.compile(
    rf"{_SIGN}(?:(?<!\.)\.+)?{_DIGIT}(?:{_DIGIT}|{_JOIN}(?={_DIGIT}))*"
    r"|\u221e|\b(?:[Ii]nf|[Ii]nfinity|INF|NaN|nan)\b"
)
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}\Z")
# Letters before a digit make it a name (`m2`, `x3`); roots and powers another value.
_NO_NUMBER_BEFORE = re.compile(r"(?:[^\W\d_]\.?|[_^\u221a\u00b1]|[_^}]\{|\{,\}|sqrt[({])\Z")
_NO_NUMBER_AFTER = re.compile(r"\s?[\u221a\u03c0]|\s?\\(?:sqrt|pi)|\^|\*\*\(|/0")


@lru_cache(maxsize=65536)
def _parse_cached(text: str) -> Decimal | Fraction | None:
    match = _WHOLE.fullmatch(text.strip())
    if match is None:
        return None
    sign, digits, divisor = match.groups()
    value = Decimal(digits.translate(_SIMPLE).replace(",", ""))
    value = value.copy_negate() if sign and sign in _MINUS else value
    return Fraction(value) / int(divisor) if divisor else value


def parse_number(text: str) -> Decimal | Fraction | None:
    """The exact value of a text that is one number and nothing else, or None.

    Commas and spaces count only where they separate thousands, so ``1,2`` is not a number.

    Example:
        >>> parse_number("$1,200.00") == parse_number("1200.") == parse_number("1.2e3")
        True
        >>> parse_number("3/4") == Decimal("0.75")
        True
        >>> parse_number("7 apples") is None and parse_number("1.200,50") is None
        True
    """
    return _parse_cached(text) if len(text) <= _LONGEST else None


def last_number(text: str) -> str | None:
    """The last number in a text as it is written there, without a dollar sign, or None.

    None too where the last digits have a form that is not read (``1.200,50``, ``12:30``, ``10^5``):
    an earlier number or a part of the last one would be another number. A minus sign becomes ``-``,
    and a space that separates thousands is left out.

    Example:
        >>> last_number("5-3 leaves 2 of 1,200, so -$1,198.")
        '-1,198'
        >>> last_number("5 bottles, 1.200,50 in all") is None
        True
    """
    found = None
    for match in _STRETCH.finditer(text):
        found = match
    if found is None or _READ.fullmatch(found.group()) is None:
        return None
    start, end = found.span()
    if _NO_NUMBER_BEFORE.search(text[max(0, start - 5) : start]):
        return None
    if _NO_NUMBER_AFTER.match(text[end : end + 6]) or _DATE.search(text[max(0, end - 10) : end]):
        return None
    return found.group().translate(_SIMPLE)


CHECKER_NAMES = ("gsm8k", "math", "number", "marker:TEXT")
_MARKER = "marker:"


class AnswerChecker(ABC):
    """Finds the final answer in a text and compares two answers; safe to share between threads.

    ``name`` is what :func:`get_checker` takes to build the same checker again.
    """

    name: str

    @abstractmethod
    def extract(self, text: str) -> str | None:
        """The final answer where the text states one in the expected form, else None."""

    @abstractmethod
    def render(self, answer: str) -> str:
        """The line that states ``answer`` in the form that :meth:`extract` reads."""

    def extract_flexible(self, text: str) -> str | None:
        """As :meth:`extract`, but falls back to the last number in the text."""
        found = self.extract(text)
        return found if found is not None else last_number(text)

    def equal(self, given: str, reference: str) -> bool:
        """Whether two answers are the same: as numbers if both are, else as text."""
        return given == reference or _same_number(given, reference)

    def check(self, completion: str, answer: str) -> bool:
        """Whether ``completion`` states ``answer`` in the expected (strict) form."""
        found = self.extract(completion)
        return found is not None and self.equal(found, answer)


def _same_number(a: str, b: str) -> bool:
    left = parse_number(a)
    return left is not None and left == parse_number(b)


class NumberChecker(AnswerChecker):
    """The answer is the last number in the text.

    Example:
        >>> get_checker("number").check("so 48 + 24 = 72 clips.", "72.0")
        True
    """

    name = "number"

    def extract(self, text: str) -> str | None:
        """The last number in the text, as :func:`last_number` finds it; else None."""
        return last_number(text)

    def render(self, answer: str) -> str:
        """The answer as it stands: a trace may end in the number alone."""
        return answer


class MarkerChecker(AnswerChecker):
    """The answer is the rest of the line after the last ``marker``, spaces normalised.

    A marker that ends its line is answered by the next line that is not empty.

    Args:
        marker: the text that announces the answer, for example ``answer :`` or ``A:``.

    Example:
        >>> checker = get_checker("marker:answer :")
        >>> checker.extract("3 plus 4 makes 7 . answer : 7"), checker.equal("7.0", "7")
        ('7', True)
    """

    def __init__(self, marker: str) -> None:
        self.marker = marker
        self.name = f"{_MARKER}{marker}"

    def extract(self, text: str) -> str | None:
        """The rest of the line after the last marker; None without a marker."""
        _, found, tail = text.rpartition(self.marker)
        if not found:
            return None
        line = tail.strip().partition("\n")[0]
        return _without_final_dot(" ".join(line.split())) or None

    def render(self, answer: str) -> str:
        """A line with the marker and the answer."""
        return f"{self.marker} {answer}"

    def equal(self, given: str, reference: str) -> bool:
        """Equal as numbers, or as texts whose runs of spaces count as one."""
        return super().equal(given, reference) or _squeeze(given) == _squeeze(reference)


class Gsm8kChecker(AnswerChecker):
    """Answers as GSM8K states them: ``#### 1,200``, else ``The answer is: $1200.``

    The value is the rest of the line, without commas, dollar signs, a final dot and ``\\boxed{}``;
    a unit after it makes the answer wrong, as in the paper's evaluation. A comma between digits
    that does not separate thousands stays, so that ``1,2`` is not read as 12. The first ``####``
    counts, so that a completion that runs on into another question is judged by its own answer.

    Where both forms occur, ``####`` counts. The paper's evaluation prefers "The answer is", which
    grades an exact copy of two reference traces of the train split as wrong.

    Source: the evaluation scripts of ``katiekang1998/reasoning_generalization`` (MIT).

    Example:
        >>> checker = get_checker("gsm8k")
        >>> checker.extract("She earns $<<600*2=1200>>1,200.\\n#### 1,200")
        '1200'
        >>> checker.check("The answer is: $1,200.00.", "1200")
        True
    """

    name = "gsm8k"
    _hashes: ClassVar[re.Pattern[str]] = re.compile(r"####[^\S\n]*(\S[^\n]*)")
    _phrase: ClassVar[re.Pattern[str]] = re.compile(r"The answer is[ :]*([^\n]*)")

    def extract(self, text: str) -> str | None:
        """The line after the first ``####``, else after the last "The answer is"; else None."""
        if (found := self._hashes.search(text)) is not None:
            return self._clean(found.group(1))
        phrases = self._phrase.findall(text)
        return self._clean(phrases[-1]) if phrases else None

    @staticmethod
    def _clean(value: str) -> str | None:
        value = value.replace("$", "")
        value = value if _ODD_COMMA.search(value) else value.replace(",", "")
        value = _without_final_dot(value.strip())
        if value.startswith("\\boxed{") and value.endswith("}"):
            value = value[len("\\boxed{") : -1]
        return value.strip() or None

    def render(self, answer: str) -> str:
        """The line ``#### ANSWER`` that ends a trace of GSM8K."""
        return f"#### {answer}"

    def equal(self, given: str, reference: str) -> bool:
        """Equal as texts without thousands separators, or equal as numbers."""
        if given == reference:
            return True
        a, b = self._clean(given), self._clean(reference)
        return a is not None and b is not None and (a == b or _same_number(a, b))


# A comma in a number that does not separate thousands: `1,2`, `1200,500`, `1.200,50`.
_ODD_COMMA = re.compile(r"(?<=[0-9]),(?![0-9]{3}(?![0-9]))(?=[0-9])|[.0-9][0-9]{3},[0-9]")


def _without_final_dot(text: str) -> str:
    return text[:-1].rstrip() if text.endswith(".") and not text.endswith("..") else text


def _squeeze(text: str) -> str:
    return _without_final_dot(" ".join(text.split()))


@lru_cache(maxsize=64)
def get_checker(name: str) -> AnswerChecker:
    """Build the answer checker of this name (the same object for the same name).

    Args:
        name: ``gsm8k``, ``math``, ``number`` or ``marker:TEXT``.

    Raises:
        ConfigError: the name is unknown, or ``marker:`` is not followed by a text.
        ActiveSelectError: ``math`` is asked for and math-verify is not installed.

    Example:
        >>> get_checker("gsm8k").check("24 + 48 = 72\\n#### 72", "72")
        True
    """
    if name.startswith(_MARKER):
        marker = name[len(_MARKER) :].strip()
        if not marker:
            raise ConfigError("The checker 'marker:' needs a text, for example 'marker:answer :'.")
        return MarkerChecker(marker)
    if name == "math":
        return _math_checker()
    if name == "gsm8k":
        return Gsm8kChecker()
    if name == "number":
        return NumberChecker()
    raise ConfigError(f"Unknown answer checker {name!r}. {did_you_mean(name, CHECKER_NAMES)}")


def _math_checker() -> AnswerChecker:
    if importlib.util.find_spec("math_verify") is None:
        raise ActiveSelectError(
            "The answer checker 'math' needs the package math-verify: "
            'pip install "activeselect[math]".'
        )
    from activeselect.data.math_answers import MathChecker

    return MathChecker()
