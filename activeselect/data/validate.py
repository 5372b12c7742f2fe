"""From a row to a problem: everything that a row needs before it may enter a pool."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from activeselect.data.answers import AnswerChecker
from activeselect.data.pool import Problem
from activeselect.data.rows import BadRow, Row


class _Defect(Exception):
    """Carries what is wrong with a row out of the functions that look at its values."""

    def __init__(self, kind: str, detail: str) -> None:
        self.kind, self.detail = kind, detail


class ProblemBuilder:
    """Turns rows into problems, one at a time, in the order of the source.

    Args:
        roles: column name by role (``ColumnNames.resolve``).
        checker: finds and compares answers.
        clean: applied to each trace, for example to remove calculator notes.
        append_answer: whether a trace that does not state its answer gets a line that does.
        unit: what row numbers count, ``line`` or ``row``.
        difficulty: reads a difficulty from its column; default: it is a number.
    """

    def __init__(
        self,
        roles: Mapping[str, str],
        checker: AnswerChecker,
        *,
        clean: Callable[[str], str] | None = None,
        append_answer: bool = False,
        unit: str = "row",
        difficulty: Callable[[object], float | None] | None = None,
    ) -> None:
        self.roles, self.checker = roles, checker
        self.clean, self.append_answer, self.unit = clean, append_answer, unit
        self.read_difficulty = difficulty or _number
        self._line_of_id: dict[int, int] = {}

    def build(self, row: Row, position: int) -> Problem | BadRow:
        """The problem in this row, or what is wrong with it; ``position`` counts rows from 0."""
        try:
            question = self._text(row, "question")
            trace = self._text(row, "trace")
            trace = self.clean(trace) if self.clean else trace
            answer, trace = self._answer(row, trace)
            group = self._group(row)
            number = self._id(row, position)
            difficulty = self._difficulty(row)
        except _Defect as defect:
            return BadRow(row.line, defect.kind, defect.detail)
        return Problem(number, question, trace, answer, group, difficulty)

    def _text(self, row: Row, role: str) -> str:
        column = self.roles[role]
        value = row.values.get(column)
        if value is None or (isinstance(value, str) and not value.strip()):
            raise _Defect(f"empty {role}", f"column {column!r} is empty or absent")
        if not isinstance(value, str):
            found = type(value).__name__
            raise _Defect("wrong type", f"{role} (column {column!r}) must be text, got {found}")
        return _encodable(value, column)

    def _answer(self, row: Row, trace: str) -> tuple[str, str]:
        """The answer, and the trace that states it."""
        stated = self.checker.extract(trace)
        column = self.roles.get("answer")
        if column is None:
            if stated is None:
                raise self._no_answer(trace)
            return stated, trace
        answer = _scalar_text(row.values.get(column), "answer", column).strip()
        answer = self.checker.extract(answer) or answer  # a column may hold '#### 72'
        if not answer:
            raise _Defect("no answer", f"column {column!r} is empty or absent")
        if stated is None:
            if not self.append_answer:
                raise self._no_answer(trace)
            return answer, f"{trace.rstrip()}\n{self.checker.render(answer)}"
        if not self.checker.equal(stated, answer):
            raise _Defect("contradiction", f"the trace says {stated!r}, {column!r} says {answer!r}")
        return answer, trace

    def _no_answer(self, trace: str) -> _Defect:
        end = trace.rstrip()[-40:]
        name = self.checker.name
        return _Defect(
            "no answer", f"checker {name!r} finds none in the trace, which ends in {end!r}"
        )

    def _group(self, row: Row) -> str:
        column = self.roles.get("group")
        return "" if column is None else _scalar_text(row.values.get(column), "group", column)

    def _difficulty(self, row: Row) -> float | None:
        column = self.roles.get("difficulty")
        if column is None:
            return None
        value = row.values.get(column)
        try:
            return self.read_difficulty(value)
        except (TypeError, ValueError):
            raise _Defect(
                "wrong type", f"difficulty (column {column!r}) must be a number, got {value!r}"
            ) from None

    def _id(self, row: Row, position: int) -> int:
        column = self.roles.get("id")
        value = position if column is None else row.values.get(column)
        if isinstance(value, str) and value.strip().isdecimal():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**63:
            raise _Defect(
                "wrong type",
                f"id (column {column!r}) must be a whole number from 0, got {value!r}; "
                "without an id column rows are numbered",
            )
        if (first := self._line_of_id.setdefault(value, row.line)) != row.line:
            raise _Defect("duplicate id", f"{value} is already the id of {self.unit} {first}")
        return value


def _number(value: object) -> float | None:
    """A finite number, as one or as text; None where it is absent."""
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise TypeError
    number = float(value)
    if math.isnan(number):
        return None
    if math.isinf(number):
        raise ValueError
    return number


def _scalar_text(value: object, role: str, column: str) -> str:
    """Text or a number as text; missing values are empty text."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, str):
        return _encodable(value, column)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        found = type(value).__name__
        raise _Defect("wrong type", f"{role} (column {column!r}) must be text, got {found}")
    return repr(value)


def _encodable(value: str, column: str) -> str:
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise _Defect("invalid UTF-8", f"character {error.start + 1} of {column!r}") from None
    return value
