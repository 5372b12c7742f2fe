"""Validation of rows: everything that a row needs before it may enter a pool."""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from activeselect.data.answers import AnswerChecker
from activeselect.data.pool import Pool, Problem
from activeselect.data.tabular import BadRow, Row
from activeselect.errors import ConfigError, DataError

# --- Data report
#
# What a user reads when two rows of a file are broken and none may be::
#
#     my.jsonl: 2 of 7473 rows cannot be used:
#       line 12: invalid UTF-8: byte 31 of the line
#       line 40: no answer in the trace: checker 'gsm8k' finds none; it ends in '... 18 clips.'
#     Repair them, or pass on_bad_row=skip to go on without them.


OnBadRow: TypeAlias = Literal["stop", "skip"]
_SHOWN = 5


class DuplicateRow(NamedTuple):
    """A question that occurs elsewhere, by lines: ``of`` the ``test``, or the ``pool`` itself."""

    line: int
    of: str
    other_line: int
    similarity: float
    exact: bool


@dataclass(frozen=True)
class DataReport:
    """What was read from where, and every row that was left out, with its place and reason.

    Args:
        source: the path or hub id.
        split: the split that was read.
        layout: ``gsm8k``, ``math`` or ``columns`` (the user named them).
        columns: the column of the source behind each role.
        checker: name of the answer checker.
        unit: what line numbers count, ``line`` (text files) or ``row`` (from 1).
        rows_read: rows looked at, usable or not.
        dropped: the rows left out, in the order in which they were found.
        kept_lines: line number of each problem of the pool, int64 ``[rows_kept]``.
        unlabelled: problems without a trace and an answer.
        duplicates: questions that the test asks, too, or that an earlier row asked.
        revision: commit of the hub that the rows came from, where they did.

    Example:
        >>> from activeselect import load_pool
        >>> import json, tempfile
        >>> from pathlib import Path
        >>> file = Path(tempfile.mkdtemp()) / "mine.jsonl"
        >>> _ = file.write_text(json.dumps({"question": "1 + 1 ?", "trace": "1 + 1 = 2"}))
        >>> _, report = load_pool(str(file), checker="number")
        >>> report.rows_read, report.rows_kept
        (1, 1)
    """

    source: str
    split: str
    layout: str
    columns: Mapping[str, str]
    checker: str
    unit: str
    rows_read: int
    dropped: tuple[BadRow, ...]
    kept_lines: NDArray[np.int64] = field(repr=False, compare=False)
    unlabelled: int = 0
    duplicates: tuple[DuplicateRow, ...] = ()
    revision: str | None = None

    @property
    def rows_kept(self) -> int:
        """Number of rows that became problems."""
        return len(self.kept_lines)

    @property
    def counts(self) -> dict[str, int]:
        """Number of dropped rows by kind of defect, the most frequent first."""
        return dict(Counter(row.kind for row in self.dropped).most_common())

    def summary(self) -> str:
        """One line for a log: what was kept, and why rows were not."""
        text = f"{self.source} ({self.split}): {self.rows_kept} of {self.rows_read} rows"
        if self.unlabelled:
            text += f", {self.unlabelled} of them without a label"
        for of, place in (("test", "of the test"), ("pool", "twice")):
            found = [row for row in self.duplicates if row.of == of]
            if found:
                exact = sum(row.exact for row in found)
                text += (
                    f"; {len(found)} questions {place} ({exact} exact, {len(found) - exact} near)"
                )
        reasons = ", ".join(f"{count} {kind}" for kind, count in self.counts.items())
        return f"{text}; dropped: {reasons}" if reasons else text

    def to_dict(self) -> dict[str, object]:
        """Plain values for JSON; ``dropped`` is a list of ``[line, reason]``."""
        return {
            "source": self.source,
            "split": self.split,
            "revision": self.revision,
            "layout": self.layout,
            "columns": dict(self.columns),
            "checker": self.checker,
            "rows_read": self.rows_read,
            "rows_kept": self.rows_kept,
            "unlabelled": self.unlabelled,
            "duplicates": {
                f"{kind} {of}": sum(
                    row.of == of and row.exact == (kind == "exact") for row in self.duplicates
                )
                for of in ("test", "pool")
                for kind in ("exact", "near")
            },
            "dropped_counts": self.counts,
            "dropped": [[row.line, row.reason] for row in self.dropped],
        }


def check_on_bad_row(on_bad_row: str) -> None:
    """Raises: ConfigError where the setting is neither ``stop`` nor ``skip``."""
    if on_bad_row not in ("stop", "skip"):
        raise ConfigError(f"on_bad_row must be 'stop' or 'skip', got {on_bad_row!r}.")


def raise_bad_rows(source: str, unit: str, rows: Sequence[BadRow], rows_read: int) -> None:
    """Raise the DataError that shows the first broken rows and says what to do."""
    shown = [f"  {unit} {row.line}: {row.reason}" for row in rows[:_SHOWN]]
    if len(rows) > _SHOWN:
        shown.append(f"  and {len(rows) - _SHOWN} more")
    raise DataError(
        f"{source}: {len(rows)} of {rows_read} rows cannot be used:\n"
        + "\n".join(shown)
        + "\nRepair them, or pass on_bad_row=skip to go on without them."
    )


def check_lengths(
    pool: Pool,
    report: DataReport,
    lengths: Sequence[int] | NDArray[np.int64],
    *,
    max_length: int,
    on_bad_row: OnBadRow = "stop",
) -> tuple[Pool, DataReport]:
    """Leave out the problems that do not fit the model's context; call it once tokens are counted.

    Args:
        pool: the pool that ``load_pool`` returned with ``report``.
        report: the report to continue.
        lengths: tokens of prompt and trace together, per problem, int ``[N]``.
        max_length: tokens that the context holds.
        on_bad_row: ``stop`` raises at the first call that finds a problem too long.

    Returns:
        The pool of the problems that fit (the same object if all do), and the continued report.

    Raises:
        DataError: problems are too long and ``on_bad_row`` is ``stop``, or none fits.
        ConfigError: ``lengths`` is not one number per problem, or ``on_bad_row`` is unknown.
    """
    check_on_bad_row(on_bad_row)
    tokens = np.asarray(lengths, dtype=np.int64)
    if tokens.shape != (len(pool),) or len(pool) != report.rows_kept:
        raise ConfigError(
            f"Expected one length for each of {report.rows_kept} problems, got lengths of shape "
            f"{tokens.shape} for a pool of {len(pool)}."
        )
    detail = "prompt and trace have {} tokens, the context holds {}"
    bad = tuple(
        BadRow(int(report.kept_lines[i]), "too long", detail.format(tokens[i], max_length))
        for i in np.flatnonzero(tokens > max_length)
    )
    if not bad:
        return pool, report
    if on_bad_row == "stop" or len(bad) == len(pool):
        raise_bad_rows(report.source, report.unit, bad, report.rows_read)
    keep = np.flatnonzero(tokens <= max_length)
    dropped = report.dropped + bad
    return pool.subset(keep), replace(report, dropped=dropped, kept_lines=report.kept_lines[keep])


_LONGEST_PLAIN = 40  # characters; beyond it a number keeps its exponent


class _Defect(Exception):
    """Carries what is wrong with a row out of the functions that look at its values."""

    def __init__(self, kind: str, detail: str) -> None:
        self.kind, self.detail = kind, detail


class _LinesOfIds:
    """Where each id stood first; a table is made once ids do not rise any more."""

    def __init__(self) -> None:
        self._ids, self._lines = array("q"), array("q")
        self._table: dict[int, int] | None = None

    def first(self, id: int, line: int) -> int:
        if self._table is None:
            if not self._ids or id > self._ids[-1]:
                self._ids.append(id)
                self._lines.append(line)
                return line
            self._table = dict(zip(self._ids, self._lines, strict=True))
        return self._table.setdefault(id, line)


class ProblemBuilder:
    """Turns rows into problems, one at a time, in the order of the source.

    Args:
        roles: column name by role (``ColumnNames.resolve``).
        checker: finds and compares answers.
        clean: applied to each trace, for example to remove calculator notes.
        append_answer: whether a trace that does not state its answer gets a line that does.
        unit: what row numbers count, ``line`` or ``row``.
        difficulty: reads a difficulty from its column; default: it is a number.
        labels_required: whether a row without a trace and an answer is broken.
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
        labels_required: bool = True,
    ) -> None:
        self.labels_required = labels_required
        self.roles, self.checker = roles, checker
        self.clean, self.append_answer, self.unit = clean, append_answer, unit
        self.read_difficulty = difficulty or _number
        self._lines_of_ids = _LinesOfIds()

    def build(self, row: Row, position: int) -> Problem | BadRow:
        """The problem in this row, or what is wrong with it; ``position`` counts rows from 0."""
        try:
            question = self._text(row, "question")
            answer, trace = "", ""
            if self.labels_required or self._is_labelled(row):
                trace = self._text(row, "trace")
                trace = self.clean(trace) if self.clean else trace
                answer, trace = self._answer(row, trace)
            group = self._group(row)
            number = self._id(row, position)
            difficulty = self._difficulty(row)
        except _Defect as defect:
            return BadRow(row.line, defect.kind, defect.detail)
        return Problem(number, question, trace, answer, group, difficulty)

    def _is_labelled(self, row: Row) -> bool:
        """Whether the row has a trace or an answer; one without the other is broken."""
        columns = [self.roles[role] for role in ("trace", "answer") if role in self.roles]
        values = [row.values.get(column) for column in columns]
        return any(v is not None and (not isinstance(v, str) or v.strip()) for v in values)

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
            return answer, self._append(trace, answer)
        if not self.checker.equal(stated, answer):
            raise _Defect("contradiction", f"the trace says {stated!r}, {column!r} says {answer!r}")
        return answer, trace

    def _append(self, trace: str, answer: str) -> str:
        trace = f"{trace.rstrip()}\n{self.checker.render(answer)}"
        if not self.checker.check(trace, answer):  # else the model would learn another answer
            raise _Defect(
                "no answer", f"checker {self.checker.name!r} does not read {answer!r} as an answer"
            )
        return trace

    def _no_answer(self, trace: str) -> _Defect:
        end = trace.rstrip()[-40:]
        name = self.checker.name
        return _Defect("no answer in the trace", f"checker {name!r} finds none; it ends in {end!r}")

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
        if column is None:
            return position
        value = row.values.get(column)
        if isinstance(value, str) and value.strip().isdecimal():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**63:
            raise _Defect(
                "wrong type",
                f"id (column {column!r}) must be a whole number from 0, got {value!r}; "
                "without an id column rows are numbered",
            )
        if (first := self._lines_of_ids.first(value, row.line)) != row.line:
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
    return _plain(value, role, column) if isinstance(value, float) else repr(value)


def _plain(value: float, role: str, column: str) -> str:
    """A float in digits, as a person writes it: ``10000000000000000`` for ``1e16``."""
    if math.isinf(value):
        raise _Defect("wrong type", f"{role} (column {column!r}) must be finite, got {value!r}")
    digits = format(Decimal(repr(value)), "f")
    return digits if len(digits) <= _LONGEST_PLAIN else repr(value)


def _encodable(value: str, column: str) -> str:
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise _Defect("invalid UTF-8", f"character {error.start + 1} of {column!r}") from None
    return value
