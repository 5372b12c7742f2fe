"""Pool: problems with a question, a reference trace and a final answer, in one Arrow table."""

from __future__ import annotations

import atexit
import hashlib
import secrets
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from html import escape
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, overload

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from activeselect.arrays import BoolArray
from activeselect.errors import DataError

_ROWS_AT_ONCE = 1000
#: Names of the groups, and the group of every problem as a position in them, int32 ``[N]``.
Grouping = tuple[tuple[str, ...], NDArray[np.int32]]
COLUMNS = ("id", "question", "trace", "answer", "group")
DIFFICULTY = "difficulty"


@dataclass(frozen=True)
class Problem:
    """One question with the reference trace to learn from and the final answer to reach.

    ``trace`` is the whole target text and ends in the final answer; both are empty where the
    question is not labelled yet. ``group`` names the region
    of the data the problem belongs to (a skill, a subject), or is empty where none is known;
    ``difficulty`` is a number on whatever scale the data states it, if it does.

    Example:
        >>> Problem(0, "1 + 1 ?", "so 1 + 1 = 2", "2", group="sums").group
        'sums'
    """

    id: int
    question: str
    trace: str
    answer: str
    group: str = ""
    difficulty: float | None = None


class Pool:
    """An immutable, memory-mapped collection of problems, addressed by position ``0..N-1``.

    Args:
        dataset: a ``datasets.Dataset`` with exactly the columns ``id, question, trace, answer,
            group`` (see :data:`COLUMNS`) and perhaps ``difficulty``; rows are valid by
            construction.
        checker: name of the answer checker that fits the data (``activeselect.data.answers``).
        grouping: groups to use instead of the column's (see :meth:`grouped`).
        labels: trace and answer by position, for problems that came without (:meth:`with_labels`).

    Example:
        >>> problems = [Problem(0, "1 + 1 ?", "so 1 + 1 = 2", "2")]
        >>> pool = Pool.from_problems(problems, checker="number")
        >>> len(pool), pool[0].answer, pool.group_names
        (1, '2', ('',))
    """

    def __init__(
        self,
        dataset: datasets.Dataset,
        *,
        checker: str,
        grouping: Grouping | None = None,
        labels: Mapping[int, tuple[str, str]] = MappingProxyType({}),
    ) -> None:
        missing = [name for name in COLUMNS if name not in dataset.column_names]
        if missing:
            raise DataError(
                f"A pool needs the columns {', '.join(COLUMNS)}; missing: {', '.join(missing)}."
            )
        self._columns = (*COLUMNS, *([DIFFICULTY] if _stated(dataset) else []))
        self.dataset = dataset.select_columns(list(self._columns))
        self.checker = checker
        self._given = grouping
        self._labels = dict(labels)

    @classmethod
    def from_problems(cls, problems: Iterable[Problem], *, checker: str) -> Pool:
        """Build a pool in memory.

        Args:
            problems: one per row, in order.
            checker: name of the answer checker, such as ``"gsm8k"`` or ``"marker:Answer:"``.

        Example:
            >>> problems = [Problem(0, "1 + 1 ?", "1 + 1 = 2 #### 2", "2", "sums")]
            >>> len(Pool.from_problems(problems, checker="gsm8k"))
            1
        """
        rows = [asdict(problem) for problem in problems]
        columns = {name: [row[name] for row in rows] for name in (*COLUMNS, DIFFICULTY)}
        return cls(datasets.Dataset.from_dict(columns), checker=checker)

    @classmethod
    def from_records(
        cls,
        records: Any,
        *,
        checker: str,
        columns: Mapping[str, str | None] | None = None,
        tokenizer: Any = None,
        on_bad_row: Literal["stop", "skip"] = "stop",
        append_answer: bool = False,
        labels_required: bool = True,
    ) -> Pool:
        """Build a pool from what a program holds; rows are checked as those of a file are.

        Args:
            records: a list of dicts, a ``pandas.DataFrame`` or a ``datasets.Dataset``. Without an
                answer column the answer is read out of the trace by the checker, without an id
                column rows are numbered from 0. Chat rows (``messages``): the last assistant turn
                is the trace, the user's turn before it the question.
            checker: name of the answer checker, such as ``"gsm8k"`` or ``"marker:Answer:"``.
            columns: column name by role (question, trace, answer, group, id, difficulty).
            tokenizer: for chats of more turns: its template makes the prompt of all turns but the
                last, which then is the question; train with the prompt ``{question}``.
            on_bad_row: ``stop`` raises once all broken rows are known, ``skip`` leaves them out.
            append_answer: to a trace that does not state its answer, add a line that does.
            labels_required: whether a row without a trace and an answer is broken.

        Raises:
            DataError: if rows are broken, or there are none.
            ConfigError: if the records are of another kind, or an argument is unknown.

        Example:
            >>> rows = [{"q": "1 + 1 ?", "how": "1 and 1 make 2"}]
            >>> Pool.from_records(rows, checker="number", columns={"question": "q", "trace": "how"})
            Pool(1 problem, 1 group, checker 'number')
        """
        from activeselect.data.load import load_pool
        from activeselect.data.records import rows_of

        return load_pool(
            rows_of(records, tokenizer=tokenizer),
            columns=columns,
            checker=checker,
            on_bad_row=on_bad_row,
            append_answer=append_answer,
            labels_required=labels_required,
        )[0]

    def __repr__(self) -> str:
        parts = [_count(len(self), "problem"), _count(len(self.group_names), "group")]
        missing = int((~self.is_labelled).sum())
        parts += [f"{missing} without a label"] if missing else []
        return f"Pool({', '.join(parts)}, checker {self.checker!r})"

    def _repr_html_(self) -> str:
        """The first problems as a table, for notebooks."""
        cells = "".join(f"<th>{name}</th>" for name in COLUMNS)
        rows = "".join(
            "<tr>"
            + "".join(f"<td>{escape(_short(getattr(problem, name)))}</td>" for name in COLUMNS)
            + "</tr>"
            for problem in self[:5]
        )
        return f"<p>{escape(repr(self))}</p><table><tr>{cells}</tr>{rows}</table>"

    def __len__(self) -> int:
        return len(self.dataset)

    @overload
    def __getitem__(self, index: int) -> Problem: ...

    @overload
    def __getitem__(self, index: slice) -> Pool: ...

    def __getitem__(self, index: int | slice) -> Problem | Pool:
        if isinstance(index, slice):
            return self.subset(range(*index.indices(len(self))))
        if not -len(self) <= index < len(self):
            raise IndexError(f"pool: expected a position below {len(self)}; received {index}.")
        return self.problems([int(index) % len(self)])[0]

    def __iter__(self) -> Iterator[Problem]:
        for start in range(0, len(self), _ROWS_AT_ONCE):
            yield from self.problems(range(start, min(start + _ROWS_AT_ONCE, len(self))))

    def problems(self, index: Sequence[int] | NDArray[np.int64]) -> list[Problem]:
        """The problems at these positions, in this order, read in one go."""
        if len(index) == 0:
            return []
        rows = self._rows(index)
        found = [Problem(*values) for values in zip(*rows.values(), strict=True)]
        for place, position in enumerate(index if self._labels else ()):
            if (label := self._labels.get(int(position))) is not None:
                found[place] = replace(found[place], trace=label[0], answer=label[1])
        return found

    def _rows(self, index: Sequence[int] | NDArray[np.int64] | slice) -> dict[str, list[Any]]:
        """Values by column, in the order of :class:`Problem`'s fields, without the labels."""
        if not isinstance(index, slice):
            place = np.asarray(index, dtype=np.int64)
            first, last = int(place[0]), int(place[-1])
            row = last - first == len(place) - 1 and bool((np.diff(place) == 1).all())
            index = slice(first, last + 1) if row and first >= 0 else place.tolist()
        table = self.dataset.with_format("arrow")[index]
        return {name: table[name].to_pylist() for name in self._columns}

    def bytes_of(self, column: str) -> NDArray[np.int64]:
        """Length of each text of a column in UTF-8 bytes, int64 ``[N]``."""
        table = self.dataset.with_format("arrow").select_columns([column])[:]
        sizes = np.array(pc.binary_length(table[column]).to_numpy(), dtype=np.int64)
        for position, label in self._labels.items():
            if column in ("trace", "answer"):
                sizes[position] = len(label[column == "answer"].encode())
        return sizes

    def texts(self, column: str) -> Texts:
        """One column of the data as a sequence; a thousand rows of it are held at a time."""
        return Texts(self.dataset.select_columns([column]), column)

    def subset(self, index: Sequence[int] | NDArray[np.int64]) -> Pool:
        """The problems at the positions ``index`` ``[K]`` as a pool of their own, in that order."""
        rows = [int(i) for i in index]
        given = self._given and (self._given[0], self._given[1][rows])
        labels = {place: self._labels[row] for place, row in enumerate(rows) if row in self._labels}
        dataset = self.dataset.select(rows)
        return Pool(dataset, checker=self.checker, grouping=given, labels=labels)

    def grouped(self, names: tuple[str, ...], codes: NDArray[np.int32]) -> Pool:
        """The same problems in other groups; the content, and so the fingerprint, is the same.

        Args:
            names: of the groups.
            codes: group of every problem as a position in ``names``, int32 ``[N]``.
        """
        return Pool(
            self.dataset, checker=self.checker, grouping=(names, codes), labels=self._labels
        )

    @cached_property
    def is_labelled(self) -> BoolArray:
        """Whether each problem has a trace and an answer, bool ``[N]``."""
        answers = self.dataset.with_format("arrow").select_columns(["answer"])[:]["answer"]
        known = np.asarray(pc.not_equal(answers.combine_chunks(), "").to_numpy(False), dtype=bool)
        known[list(self._labels)] = True
        return known

    def with_labels(self, labels: Mapping[int, tuple[str, str]]) -> Pool:
        """The same pool with labels for more problems; the fingerprint stays.

        The fingerprint says which questions a run chooses from. Labels that are bought later do
        not make it another pool.

        Args:
            labels: trace and answer by position.

        Example:
            >>> pool = Pool.from_problems([Problem(0, "1 + 1 ?", "", "")], checker="number")
            >>> pool.is_labelled.tolist(), pool.with_labels({0: ("so 2", "2")})[0].answer
            ([False], '2')
        """
        known = {**self._labels, **labels}
        return Pool(self.dataset, checker=self.checker, grouping=self._given, labels=known)

    def without_labels(self) -> Pool:
        """The questions alone: no trace, no answer, and no difficulty, which may come from them."""
        blank = pa.array([""]).take(pa.array(np.zeros(len(self), dtype=np.int64)))
        table = self.dataset.with_format("arrow")[:]
        columns = {name: blank if name in ("trace", "answer") else table[name] for name in COLUMNS}
        return Pool(datasets.Dataset(pa.table(columns)), checker=self.checker, grouping=self._given)

    @cached_property
    def group_names(self) -> tuple[str, ...]:
        """Names of the groups, sorted; ``groups`` indexes into it."""
        return self._grouping[0]

    @cached_property
    def groups(self) -> NDArray[np.int32]:
        """Group of every problem as a position in ``group_names``, int32 ``[N]``."""
        return self._grouping[1]

    def stated(self) -> Pool:
        """The same problems in the groups that the data states, whatever replaced them."""
        return self if self._given is None else Pool(self.dataset, checker=self.checker)

    def hidden(self) -> Pool:
        """The same problems, all in one group without a name.

        Example:
            >>> problems = [Problem(i, "1 + 1 ?", "1 + 1 = 2", "2", "ab"[i]) for i in (0, 1)]
            >>> pool = Pool.from_problems(problems, checker="number").hidden()
            >>> pool.group_names, pool.stated().group_names
            (('',), ('a', 'b'))
        """
        return self.grouped(("",), np.zeros(len(self), dtype=np.int32))

    @cached_property
    def _grouping(self) -> Grouping:
        if self._given is not None:
            return self._given
        column = self.dataset.with_format("arrow")[:]["group"].combine_chunks().to_numpy(False)
        names, code = np.unique(column.astype(str), return_inverse=True)
        return tuple(names.tolist()), code.astype(np.int32)

    @cached_property
    def difficulty(self) -> NDArray[np.float64] | None:
        """Difficulty of every problem, float64 ``[N]``, NaN = not stated; None if all are."""
        if DIFFICULTY not in self._columns:
            return None
        column = self.dataset.with_format("arrow")[:][DIFFICULTY].combine_chunks()
        values: NDArray[np.float64] = column.to_numpy(zero_copy_only=False).astype(np.float64)
        return values

    @cached_property
    def fingerprint(self) -> str:
        """Content hash of all problems in order; equal content gives equal fingerprints."""
        digest = hashlib.sha256(self.checker.encode())
        for start in range(0, len(self), _ROWS_AT_ONCE):
            rows = self._rows(slice(start, min(start + _ROWS_AT_ONCE, len(self))))
            for values in zip(*rows.values(), strict=True):
                # what has no difficulty is hashed as if there were no such column
                digest.update(repr(values[:-1] if values[-1] is None else values).encode())
        return digest.hexdigest()[:16]


class Texts(Sequence[str]):
    """A column of a pool, read from its table a thousand rows at a time.

    Example:
        >>> pool = Pool.from_problems([Problem(0, "1 + 1 ?", "so 2", "2")], checker="number")
        >>> list(pool.texts("question"))
        ['1 + 1 ?']
    """

    def __init__(self, dataset: datasets.Dataset, column: str) -> None:
        self._rows, self._column = dataset.with_format("arrow"), column

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, place: int) -> str: ...

    @overload
    def __getitem__(self, place: slice) -> list[str]: ...

    def __getitem__(self, place: int | slice) -> str | list[str]:
        if isinstance(place, slice):
            found: list[str] = self._rows[place][self._column].to_pylist()
            return found
        return self[place : place + 1][0]

    def __iter__(self) -> Iterator[str]:
        for start in range(0, len(self), _ROWS_AT_ONCE):
            yield from self[start : start + _ROWS_AT_ONCE]


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 200 else f"{text[:199]}…"


def _stated(dataset: datasets.Dataset) -> bool:
    """Whether any problem has a difficulty."""
    if DIFFICULTY not in dataset.column_names:
        return False
    column = dataset.with_format("arrow").select_columns([DIFFICULTY])[:][DIFFICULTY]
    return bool(column.null_count < len(column))


# --- Pool writer


SPILL_BYTES = 32 * 2**20
_BATCH = 4096
_SCHEMA = pa.schema(
    [("id", pa.int64())]
    + [(name, pa.string()) for name in COLUMNS if name != "id"]
    + [(DIFFICULTY, pa.float64())]
)


class PoolWriter:
    """Append problems one by one, then :meth:`finish`; at most one copy of the data is held.

    Args:
        spill_bytes: above this size the table moves to a temporary file, which is memory-mapped
            and removed when the process ends.
        folder: where that file is made; default: where the system keeps temporary files.
    """

    def __init__(self, spill_bytes: int = SPILL_BYTES, *, folder: Path | None = None) -> None:
        self._spill_bytes, self._folder = spill_bytes, folder
        self._pending: list[Problem] = []
        self._batches: list[pa.RecordBatch] = []
        self._bytes = 0
        self._path: Path | None = None
        self._file: pa.RecordBatchStreamWriter | None = None

    def append(self, problem: Problem) -> None:
        """Add one problem; full batches are written to the disk."""
        self._pending.append(problem)
        if len(self._pending) >= _BATCH:
            self._flush()

    def _flush(self) -> None:
        columns = [
            pa.array([getattr(problem, field.name) for problem in self._pending], type=field.type)
            for field in _SCHEMA
        ]
        batch = pa.RecordBatch.from_arrays(columns, schema=_SCHEMA)
        self._pending.clear()
        self._bytes += batch.nbytes
        if self._file is None:
            self._batches.append(batch)
            if self._bytes > self._spill_bytes:
                self._spill()
        else:
            self._file.write_batch(batch)

    def _spill(self) -> None:
        folder = Path(tempfile.mkdtemp(prefix="activeselect-pool-", dir=self._folder))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        self._path = folder / "pool.arrow"
        self._file = pa.ipc.new_stream(str(self._path), _SCHEMA)
        for batch in self._batches:
            self._file.write_batch(batch)
        self._batches.clear()

    def finish(self, *, checker: str) -> Pool:
        """The pool of everything appended; the writer is spent afterwards."""
        self._flush()
        if self._file is not None:
            self._file.close()
            dataset = datasets.Dataset.from_file(str(self._path))
        else:
            # named by chance: datasets would copy and hash the whole table for a name
            table = pa.Table.from_batches(self._batches, schema=_SCHEMA)
            dataset = datasets.Dataset(table, fingerprint=secrets.token_hex(8))
        return Pool(dataset, checker=checker)
