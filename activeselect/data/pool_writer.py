"""Collects problems into an Arrow table: in memory while small, in a mapped file when large."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from pathlib import Path

import datasets
import pyarrow as pa

from activeselect.data.pool import COLUMNS, DIFFICULTY, Pool, Problem

SPILL_BYTES = 256 * 2**20
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
    """

    def __init__(self, spill_bytes: int = SPILL_BYTES) -> None:
        self._spill_bytes = spill_bytes
        self._pending: list[Problem] = []
        self._batches: list[pa.RecordBatch] = []
        self._bytes = 0
        self._path: Path | None = None
        self._file: pa.RecordBatchStreamWriter | None = None

    def append(self, problem: Problem) -> None:
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
        folder = Path(tempfile.mkdtemp(prefix="activeselect-pool-"))
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
            dataset = datasets.Dataset(pa.Table.from_batches(self._batches, schema=_SCHEMA))
        return Pool(dataset, checker=checker)
