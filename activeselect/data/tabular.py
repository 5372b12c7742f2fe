"""Rows from JSON Lines, JSON, CSV, TSV and Parquet files, read one at a time.

Text files are read bytewise, line by line: a line that is not UTF-8 is one broken row, not the end
of the reading.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import NamedTuple, TypeAlias

import pyarrow as pa
import pyarrow.parquet as pq

from activeselect.errors import DataError

# --- Rows


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
        """Kind of the defect, and its detail where there is one."""
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
        revision: commit of the hub that they come from; None of other sources.
    """

    name: str
    unit: str
    read: Callable[[Sequence[str] | None], Rows]
    schema: tuple[str, ...] | None = None
    revision: str | None = None

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


_BOM = b"\xef\xbb\xbf"
_LONGEST_FIELD = (
    2**24
)  # characters in one CSV field; Python's default of 131072 is short for a trace
_BATCH = 1024


def open_file(path: Path) -> RowSource:
    """Open a data file by its extension.

    Raises:
        DataError: the file is missing, empty, damaged, or of an unsupported kind.
    """
    if not path.is_file():
        raise DataError(f"There is no file or folder {path}; give the path of existing data.")
    open_as = _OPENERS.get(path.suffix.lower())
    if open_as is None:
        raise DataError(
            f"{path} has the unsupported extension {path.suffix!r}; "
            f"use one of {', '.join(EXTENSIONS)}."
        )
    if path.stat().st_size == 0:
        raise DataError(f"{path} is empty; a dataset needs at least one row.")
    return open_as(path)


def parse_json_object(raw: bytes, line: int) -> Row | BadRow:
    """One JSON object from bytes, or what is wrong with it."""
    try:
        values = json.loads(raw.decode("utf-8"), parse_float=_float_or_text)
    except UnicodeDecodeError as error:
        return BadRow(line, "invalid UTF-8", f"byte {error.start + 1} of the line")
    except json.JSONDecodeError as error:
        return BadRow(line, "malformed JSON", f"{error.msg} (column {error.colno})")
    except (ValueError, RecursionError) as error:  # a number too long, nesting too deep
        return BadRow(line, "malformed JSON", str(error).partition(";")[0])
    if not isinstance(values, dict):
        return BadRow(line, "wrong type", f"expected a JSON object, got {type(values).__name__}")
    return Row(line, values)


def _float_or_text(literal: str) -> float | str:
    """A JSON number with a point or exponent; its text where a float would be another number."""
    value = float(literal)
    if Decimal(literal) == Decimal(repr(value)):
        return value
    return literal


def _lines(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        for number, line in enumerate(file):
            yield line.removeprefix(_BOM) if number == 0 else line


def _open_jsonl(path: Path) -> RowSource:
    def read(columns: Sequence[str] | None) -> Rows:
        for number, line in enumerate(_lines(path), start=1):
            if line.strip():  # a blank line is no row
                yield parse_json_object(line.rstrip(b"\r\n"), number)

    return RowSource(str(path), "line", read)


def _open_json(path: Path) -> RowSource:
    """A JSON array of objects; a file that starts with an object is taken as JSON Lines."""
    with path.open("rb") as file:
        start = file.read(1024).removeprefix(_BOM).lstrip()
    if start.startswith(b"{"):
        return _open_jsonl(path)
    try:
        records = json.loads(path.read_bytes().removeprefix(_BOM), parse_float=_float_or_text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not valid JSON: {error}. Save it as JSON Lines.") from error
    if not isinstance(records, list):
        raise DataError(f"{path} must hold a JSON array of objects, or one object per line.")

    def read(columns: Sequence[str] | None) -> Rows:
        for number, record in enumerate(records, start=1):
            if isinstance(record, dict):
                yield Row(number, record)
            else:
                kind = type(record).__name__
                yield BadRow(number, "wrong type", f"expected a JSON object, got {kind}")

    return RowSource(str(path), "row", read)


def _open_csv(path: Path) -> RowSource:
    delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
    csv.field_size_limit(max(csv.field_size_limit(), _LONGEST_FIELD))

    def records() -> Iterator[tuple[int, list[str] | csv.Error]]:
        # Bytes that are not UTF-8 become lone surrogates, which are found later, value by value.
        lines = (line.decode("utf-8", errors="surrogateescape") for line in _lines(path))
        reader = csv.reader(lines, delimiter=delimiter, strict=True)
        while True:
            first = reader.line_num + 1  # a record may span lines; report where it starts
            try:
                record = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                if "unexpected end" in str(error):  # one "row" would hide all that it swallowed
                    raise DataError(
                        f"{path}: a quote opened in or after line {first} is never closed, so the "
                        "rest of the file cannot be told apart into rows; close it."
                    ) from error
                yield first, error
            else:
                if record:  # a blank line is no row
                    yield first, record

    def read(columns: Sequence[str] | None) -> Rows:
        for line, record in records():
            if line == header_line:
                continue
            if isinstance(record, csv.Error):
                yield BadRow(line, "malformed CSV", str(record))
            elif len(record) != len(header):
                detail = f"{len(record)} fields where the header has {len(header)}"
                yield BadRow(line, "malformed CSV", detail)
            else:
                yield Row(line, dict(zip(header, record, strict=True)))

    header_line, first = next(records(), (0, list[str]()))
    header = [] if isinstance(first, csv.Error) else first
    if not header or len(set(header)) != len(header):
        raise DataError(f"{path} needs a first line that names each column once.")
    return RowSource(str(path), "line", read, schema=tuple(header))


def _open_parquet(path: Path) -> RowSource:
    return open_parquet_files([path], str(path))


def open_parquet_files(paths: Sequence[Path], name: str) -> RowSource:
    """Parquet files of one schema as one source; rows are numbered through all of them.

    Raises:
        DataError: a file is damaged.
    """
    schemas = []
    for path in paths:
        try:
            schemas.append(tuple(pq.read_schema(path).names))
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"{path} is not a readable Parquet file: {error}") from error

    def read(columns: Sequence[str] | None) -> Rows:
        number = 0
        for path in paths:
            try:
                with pq.ParquetFile(path, memory_map=True) as file:
                    for batch in file.iter_batches(_BATCH, columns=columns and list(columns)):
                        yield from _rows_of(batch, number)
                        number += batch.num_rows
            except (pa.ArrowException, OSError) as error:
                raise DataError(f"{path} is damaged after row {number}: {error}") from error

    return RowSource(name, "row", read, schema=schemas[0])


def _rows_of(batch: pa.RecordBatch, before: int) -> Rows:
    try:
        for number, values in enumerate(batch.to_pylist(), start=before + 1):
            yield Row(number, values)
    except UnicodeDecodeError:  # raised before the first row: find the ones that are broken
        for i in range(batch.num_rows):
            try:
                yield Row(before + i + 1, batch.slice(i, 1).to_pylist()[0])
            except UnicodeDecodeError as error:
                yield BadRow(before + i + 1, "invalid UTF-8", f"byte {error.start + 1} of a value")


_OPENERS: dict[str, Callable[[Path], RowSource]] = {
    ".jsonl": _open_jsonl,
    ".ndjson": _open_jsonl,
    ".json": _open_json,
    ".csv": _open_csv,
    ".tsv": _open_csv,
    ".parquet": _open_parquet,
}
EXTENSIONS = tuple(_OPENERS)
