"""Numbers as people write them in answers: ``1,200``, ``-3.50``, ``.5``, ``3/4``, ``$7.``"""

from __future__ import annotations

import re
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache

_LONGEST = 128  # characters; longer digit strings are compared as text
_UNSIGNED = r"(?:(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+)(?:\.[0-9]+)?|\.[0-9]+)"
_DIVISOR = r"0*[1-9][0-9]*(?![0-9.,]*[0-9])"
_WHOLE = re.compile(
    rf"(-|\+)?\s*\$?\s*({_UNSIGNED}(?:[eE][+-]?[0-9]{{1,3}})?)(?:/({_DIVISOR}))?\.?"
)
# A minus after a letter, digit or bracket is a subtraction, not a sign.
_INSIDE = re.compile(rf"(?:(?<![\w.)\]])-\$?)?{_UNSIGNED}(?:/{_DIVISOR})?")


@lru_cache(maxsize=65536)
def _parse_cached(text: str) -> Decimal | Fraction | None:
    match = _WHOLE.fullmatch(text.strip())
    if match is None:
        return None
    sign, digits, divisor = match.groups()
    value = Decimal(digits.replace(",", ""))
    value = value.copy_negate() if sign == "-" else value
    return Fraction(value) / int(divisor) if divisor else value


def parse_number(text: str) -> Decimal | Fraction | None:
    """The exact value of a text that is one number and nothing else, or None.

    Commas count only where they separate thousands, so ``1,2`` is not a number.

    Example:
        >>> parse_number("$1,200.00") == parse_number("1200.")
        True
        >>> parse_number("3/4") == Decimal("0.75")
        True
        >>> parse_number("7 apples") is None
        True
    """
    return _parse_cached(text) if len(text) <= _LONGEST else None


def last_number(text: str) -> str | None:
    """The last number in a text as it is written there, without a dollar sign, or None.

    Example:
        >>> last_number("5-3 leaves 2 of 1,200, so -$1,198.")
        '-1,198'
    """
    found = None
    for match in _INSIDE.finditer(text):
        found = match
    return None if found is None else found.group().replace("$", "")
