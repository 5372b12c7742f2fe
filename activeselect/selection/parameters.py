"""Checks of a strategy's parameters that say what was expected and what came."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any


def expect_share(*, zero: bool = False, **values: Any) -> None:
    """Each value is a number in (0, 1], or in [0, 1] with ``zero``.

    Raises:
        ValueError: naming the first that is not.

    Example:
        >>> expect_share(keep=2)
        Traceback (most recent call last):
        ...
        ValueError: keep: expected a share in (0, 1]; received 2
    """
    for name, value in values.items():
        if not (_is_number(value) and (value >= 0 if zero else value > 0) and value <= 1):
            raise ValueError(
                f"{name}: expected a share in {'[' if zero else '('}0, 1]; received {value!r}"
            )


def expect_positive(*, zero: bool = False, **values: Any) -> None:
    """Each value is a finite number above 0, or at least 0 with ``zero``.

    Raises:
        ValueError: naming the first that is not.
    """
    for name, value in values.items():
        if not (_is_number(value) and (value >= 0 if zero else value > 0) and value < float("inf")):
            wanted = "of at least 0" if zero else "above 0"
            raise ValueError(f"{name}: expected a number {wanted}; received {value!r}")


def expect_count(least: int = 1, **values: Any) -> None:
    """Each value is a whole number of at least ``least``.

    Raises:
        ValueError: naming the first that is not.
    """
    for name, value in values.items():
        if not isinstance(value, Integral) or isinstance(value, bool) or value < least:
            raise ValueError(
                f"{name}: expected a whole number of at least {least}; received {value!r}"
            )


def expect_one_of(known: Sequence[str], **values: Any) -> None:
    """Each value is one of ``known``.

    Raises:
        ValueError: naming the first that is not.
    """
    for name, value in values.items():
        if value not in known:
            raise ValueError(f"{name}: expected one of {', '.join(known)}; received {value!r}")


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)
