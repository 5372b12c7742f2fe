"""The score store: one Parquet file per scored round, written once, never changed.

Columns of ``scores/round-00003.parquet`` (those that the run measures)::

    index        int64       position in the pool
    stage, epoch int32       stage of the run, epochs trained in that stage
    correct      list<bool>  whether each sampled completion reached the right answer
    accuracy     float64     their mean
    mean_nll     float64     nats per token of the reference trace
    n_tokens     int32       target tokens of the trace
    premem       float64     pre-memorization accuracy up to this round, within the stage
    completions  list<string>  the first sampled texts, for reading
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from activeselect.errors import StoreError, did_you_mean

_NAME = re.compile(r"round-(\d{5,})\.parquet")
_TYPES = {
    "index": pa.int64(),
    "stage": pa.int32(),
    "epoch": pa.int32(),
    "correct": pa.list_(pa.bool_()),
    "accuracy": pa.float64(),
    "mean_nll": pa.float64(),
    "n_tokens": pa.int32(),
    "premem": pa.float64(),
    "completions": pa.list_(pa.string()),
}


class ScoreStore:
    """Append-only scores of a pool.

    Args:
        path: folder, created if absent.
        pool_fingerprint: of the pool that the positions refer to.
        pool_size: N.

    Raises:
        StoreError: if the folder holds scores of another pool.

    Example:
        >>> import tempfile
        >>> store = ScoreStore(Path(tempfile.mkdtemp()), "a" * 16, pool_size=3)
        >>> store.append(0, {"index": [2, 0], "accuracy": [0.5, 1.0]})
        >>> store.matrix("accuracy").tolist()
        [[1.0, nan, 0.5]]
    """

    def __init__(self, path: Path, pool_fingerprint: str, *, pool_size: int) -> None:
        self.path = Path(path)
        self.pool_fingerprint = pool_fingerprint
        self.pool_size = pool_size
        self.path.mkdir(parents=True, exist_ok=True)
        for round in self.rounds():
            self._check_pool(round)

    def rounds(self) -> list[int]:
        """Numbers of the stored rounds, ascending."""
        matches = (_NAME.fullmatch(file.name) for file in self.path.iterdir())
        return sorted(int(match[1]) for match in matches if match)

    def append(self, round: int, columns: dict[str, Any]) -> None:
        """Write one round: to a temporary file first, in place by rename, durable after fsync.

        Args:
            columns: by name, as in the module's docstring; ``index`` is required.

        Raises:
            StoreError: if the round is stored already, a column is unknown or of another length
                than ``index``, or ``index`` is not made of distinct positions in the pool.
        """
        if round < 0:
            raise StoreError(f"Rounds are numbered from 0; received {round}.")
        target = self._file(round)
        if target.exists():
            raise StoreError(f"Round {round} is stored already ({target}); scores never change.")
        self._check_columns(round, columns)
        arrays = {name: pa.array(values, type=_TYPES[name]) for name, values in columns.items()}
        table = pa.table(arrays).replace_schema_metadata(
            {"schema_version": "1", "pool_fingerprint": self.pool_fingerprint}
        )
        temporary = target.with_suffix(".tmp")
        with temporary.open("wb") as handle:
            pq.write_table(table, handle, compression="zstd")
            handle.flush()
            os.fsync(handle.fileno())
        temporary.replace(target)

    def read(self, round: int, columns: list[str] | None = None) -> pa.Table:
        """One round as a table.

        Raises:
            StoreError: if the round is absent, its file cannot be read, or it lacks a column.
        """
        file = self._file(round)
        if not file.is_file():
            raise StoreError(f"Round {round} is not stored in {self.path}.")
        try:
            stored = pq.read_schema(file).names
            absent = [name for name in columns or () if name not in stored]
            if absent:
                raise StoreError(f"Round {round} in {self.path} did not measure '{absent[0]}'.")
            return pq.read_table(file, columns=columns)
        except (pa.ArrowException, OSError) as error:
            raise StoreError(f"Cannot read {file}: {error}") from error

    def columns(self) -> frozenset[str]:
        """Names of the columns that the stored rounds have."""
        rounds = self.rounds()
        return frozenset(pq.read_schema(self._file(rounds[0])).names) if rounds else frozenset()

    def matrix(self, signal: str, rounds: Sequence[int] | None = None) -> NDArray[np.float64]:
        """A signal over rounds, float64 ``[R, N]``; NaN where an example was not scored."""
        wanted = self.rounds() if rounds is None else rounds
        out = np.full((len(wanted), self.pool_size), np.nan)
        for row, round in enumerate(wanted):
            table = self.read(round, ["index", signal])
            out[row, table["index"].to_numpy()] = table[signal].to_numpy()
        return out

    def drop_after(self, round: int) -> None:
        """Forget rounds from ``round`` on: they were scored after the state a run resumes from."""
        for stored in self.rounds():
            if stored >= round:
                self._file(stored).unlink()

    def _file(self, round: int) -> Path:
        return self.path / f"round-{round:05d}.parquet"

    def _check_columns(self, round: int, columns: dict[str, Any]) -> None:
        for name in columns:
            if name not in _TYPES:
                raise StoreError(f"Unknown score column '{name}'. {did_you_mean(name, _TYPES)}")
        index = np.asarray(columns.get("index", ()), dtype=np.int64)
        for name in ("index", *columns):
            received = len(columns[name]) if name in columns else "none"
            if received != len(index):
                raise StoreError(
                    f"Round {round}: expected one value of '{name}' for each of {len(index)} "
                    f"positions; received {received}."
                )
        if len(np.unique(index)) < len(index):
            raise StoreError(f"Round {round}: a position occurs more than once in 'index'.")
        if len(index) and not 0 <= int(index.min()) <= int(index.max()) < self.pool_size:
            raise StoreError(
                f"Round {round}: expected positions in [0, {self.pool_size}); received "
                f"{int(index.min())} to {int(index.max())}."
            )

    def _check_pool(self, round: int) -> None:
        file = self._file(round)
        try:
            metadata = pq.read_schema(file).metadata or {}
        except (pa.ArrowException, OSError) as error:
            raise StoreError(f"Cannot read {file}: {error}") from error
        found = metadata.get(b"pool_fingerprint", b"none").decode()
        if found != self.pool_fingerprint:
            raise StoreError(
                f"{file} holds scores of another pool (fingerprint {found}, expected "
                f"{self.pool_fingerprint}); use a new run folder for new data."
            )
