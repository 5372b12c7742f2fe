"""An account of what was read, and of every row that could not become a problem.

What a user reads when two rows of a file are broken and none may be::

    my.jsonl: 2 of 7473 rows cannot be used:
      line 12: invalid UTF-8: byte 31 of the line
      line 40: no answer: checker 'gsm8k' finds none in the trace, which ends in '... 18 clips.'
    Repair them, or pass on_bad_row=skip to go on without them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from activeselect.data.pool import Pool
from activeselect.data.rows import BadRow
from activeselect.errors import ConfigError, DataError

OnBadRow: TypeAlias = Literal["stop", "skip"]
_SHOWN = 5


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

    @property
    def rows_kept(self) -> int:
        return len(self.kept_lines)

    @property
    def counts(self) -> dict[str, int]:
        """Number of dropped rows by kind of defect, the most frequent first."""
        return dict(Counter(row.kind for row in self.dropped).most_common())

    def summary(self) -> str:
        """One line for a log: what was kept, and why rows were not."""
        text = f"{self.source} ({self.split}): {self.rows_kept} of {self.rows_read} rows"
        reasons = ", ".join(f"{count} {kind}" for kind, count in self.counts.items())
        return f"{text}; dropped: {reasons}" if reasons else text

    def to_dict(self) -> dict[str, object]:
        """Plain values for JSON; ``dropped`` is a list of ``[line, reason]``."""
        return {
            "source": self.source,
            "split": self.split,
            "layout": self.layout,
            "columns": dict(self.columns),
            "checker": self.checker,
            "rows_read": self.rows_read,
            "rows_kept": self.rows_kept,
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
