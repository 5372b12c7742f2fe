"""Rows as a file gives them, before anyone knows whether they are problems."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import NamedTuple, TypeAlias

SAMPLE_ROWS = 100


class BadRow(NamedTuple):
    """A row that cannot be used: where it is, which kind of defect, and what exactly.

    Example:
        >>> BadRow(17, "no answer", "no '####' in the trace").reason
        "no answer: no '####' in the trace"
    """

    line: int
    kind: str
    detail: str = ""

    @property
    def reason(self) -> str:
        return f"{self.kind}: {self.detail}" if self.detail else self.kind


class Row(NamedTuple):
    """One readable row: its line (or row) number from 1, and its values by column name."""

    line: int
    values: Mapping[str, object]


Rows: TypeAlias = Iterator["Row | BadRow"]


@dataclass(frozen=True)
class RowSource:
    """Something that rows can be read from, more than once and one at a time.

    Args:
        name: what error messages call it, a path or a hub id.
        unit: what ``Row.line`` counts, ``line`` or ``row``.
        read: starts over at the first row; given column names, it may leave out the others.
        schema: the column names where the format states them, else None (they are sampled).
    """

    name: str
    unit: str
    read: Callable[[Sequence[str] | None], Rows]
    schema: tuple[str, ...] | None = None

    @cached_property
    def sample(self) -> tuple[Row | BadRow, ...]:
        """The first rows, at most ``SAMPLE_ROWS``."""
        return tuple(islice(self.read(None), SAMPLE_ROWS))

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """Column names, in order of appearance."""
        if self.schema is not None:
            return self.schema
        good = [row for row in self.sample if isinstance(row, Row)]
        return tuple(dict.fromkeys(str(name) for row in good for name in row.values))
