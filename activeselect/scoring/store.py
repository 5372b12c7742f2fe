"""The score store: one Parquet file per scored round, written once, never changed.

A round counts once the manifest names it (:mod:`activeselect.scoring.store`); a file that the
manifest does not name was left by a stop in the middle of writing, is ignored, and is replaced.

Columns of ``scores/round-00003.parquet`` (those that the run measures)::

    index        int64       position in the pool
    stage, epoch int32       stage of the run, epochs trained in that stage
    correct      list<bool>  whether each sampled completion reached the right answer
    sampled      int32       how many there are, if a sampling policy decides (only then)
    accuracy     float64     their mean, or the policy's estimate; so is premem
    mean_nll     float64     nats per token of the reference trace
    n_tokens     int32       target tokens of the trace
    premem       float64     pre-memorization accuracy up to this round, within the stage
    ...          float64     other signals of ``activeselect.scoring.signals``
    completions  list<string>  the first sampled texts, for reading
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from activeselect.errors import StoreError, did_you_mean
from activeselect.files import explained, make_folder, read_json, write_bytes, write_json
from activeselect.scoring.signals import STORED

# --- Manifest
#
# ::
#
#     {"schema_version": 1,
#      "pool": "9f0c...", "model": "77ab...", "config": "c01d...",
#      "rounds": {"0": {"file": "round-00000.parquet", "rows": 200, "sha256": "...",
#                       "columns": ["index", "accuracy"]}},
#      "sha256": "..."}
#
# ``pool``, ``model`` and ``config`` are content hashes, null where the store was opened without
# one;
# the last line is the checksum of all others.


_START_AGAIN = "restore it from a backup, or start again in a new folder"
_REMEDY = {
    "pool": "use a new run folder for new data",
    "model": "use a new run folder for another model, or put the old model back",
    "config": "use a new run folder for other settings",
}


@dataclass(frozen=True)
class Owner:
    """Whose scores these are, as content hashes; None = not compared."""

    pool: str | None = None
    model: str | None = None
    config: str | None = None


@dataclass(frozen=True)
class Entry:
    """One finished round."""

    file: str
    rows: int
    sha256: str
    columns: tuple[str, ...]


@dataclass(frozen=True)
class Manifest:
    """The owner and the finished rounds of a store; written anew, as a whole, for every change."""

    owner: Owner
    rounds: dict[int, Entry] = field(default_factory=dict)

    def with_round(self, round: int, entry: Entry) -> Manifest:
        """A copy that also lists one more round."""
        return replace(self, rounds={**self.rounds, round: entry})

    def before(self, round: int) -> Manifest:
        """A copy with only the rounds before ``round``."""
        return replace(self, rounds={n: e for n, e in self.rounds.items() if n < round})

    def write(self, path: Path) -> None:
        """Write the manifest with its checksum, atomically."""
        rounds = {str(number): asdict(entry) for number, entry in sorted(self.rounds.items())}
        plain = {"schema_version": 1, **asdict(self.owner), "rounds": rounds}
        write_json(path, {**plain, "sha256": _checksum(plain)})

    @classmethod
    def read(cls, path: Path) -> Manifest:
        """Read a manifest.

        Raises:
            StoreError: if it is damaged or was altered, or is of another version.
        """
        plain = read_json(path)
        if not isinstance(plain, dict) or plain.pop("sha256", None) != _checksum(plain):
            raise StoreError(
                f"{path} is damaged or was altered: its checksum differs; {_START_AGAIN}."
            )
        if plain.pop("schema_version") != 1:
            raise StoreError(f"{path} was written by another version of activeselect.")
        rounds = {
            int(number): Entry(**{**entry, "columns": tuple(entry["columns"])})
            for number, entry in plain.pop("rounds").items()
        }
        return cls(Owner(**plain), rounds)

    def claimed_by(self, owner: Owner, where: Path) -> Manifest:
        """The manifest with what the new owner knows more.

        Raises:
            StoreError: if the scores belong to another pool, model or config.
        """
        for what, remedy in _REMEDY.items():
            stored, ours = getattr(self.owner, what), getattr(owner, what)
            if None not in (stored, ours) and stored != ours:
                raise StoreError(
                    f"{where} holds scores of another {what} (expected the fingerprint {ours}, "
                    f"received {stored}); {remedy}."
                )
        known = {k: v for k, v in asdict(owner).items() if v is not None}
        return replace(self, owner=replace(self.owner, **known))

    def check(self, folder: Path, round: int) -> None:
        """Hold a round's file to its checksum.

        Raises:
            StoreError: if the file is absent, truncated or altered.
        """
        entry = self.rounds[round]
        file = folder / entry.file
        try:
            found = _file_checksum(file)
        except OSError as error:
            raise StoreError(f"Cannot read {file}: {error.strerror}; {_START_AGAIN}.") from error
        if found != entry.sha256:
            raise StoreError(
                f"{file} is truncated or was altered (expected SHA-256 {entry.sha256[:16]}, "
                f"received {found[:16]}, {file.stat().st_size} bytes); {_START_AGAIN}."
            )


def _file_checksum(file: Path) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as handle:
        while block := handle.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def _checksum(plain: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


MANIFEST = "manifest.json"
_TYPES = {
    "index": pa.int64(),
    "stage": pa.int32(),
    "epoch": pa.int32(),
    "correct": pa.list_(pa.bool_()),
    "sampled": pa.int32(),
    "n_tokens": pa.int32(),
    "completions": pa.list_(pa.string()),
    **{name: pa.float64() for name in STORED},
}


def count_right(outcomes: pa.ChunkedArray) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return per row how many outcomes are true and how many there are (0 for a null)."""
    column = outcomes.cast(pa.list_(pa.bool_())).combine_chunks()
    if isinstance(column, pa.ChunkedArray):
        column = pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)
    lengths = column.value_lengths().fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
    values = column.flatten().fill_null(False).to_numpy(zero_copy_only=False).astype(np.int64)
    total = np.concatenate([[0], np.cumsum(values)])
    stop = np.cumsum(lengths)
    return total[stop] - total[stop - lengths], lengths


class ScoreStore:
    """Append-only scores of a pool.

    Rounds may have different columns and different examples. Opening a store compares its owner
    and every checksum, and changes no file.

    Args:
        path: folder, created if absent.
        pool_fingerprint: of the pool that the positions refer to.
        pool_size: N.
        model, config: fingerprint of the starting model, and hash of the settings that decide the
            scores; None = not compared.

    Raises:
        StoreError: if the folder holds scores of another pool, model or config, or a file of it
            is absent, truncated or altered.

    Example:
        >>> import tempfile
        >>> store = ScoreStore(Path(tempfile.mkdtemp()), "a" * 16, pool_size=3)
        >>> store.append(0, {"index": [2, 0], "accuracy": [0.5, 1.0]})
        >>> store.matrix("accuracy").tolist()
        [[1.0, nan, 0.5]]
    """

    def __init__(
        self,
        path: Path,
        pool_fingerprint: str,
        *,
        pool_size: int,
        model: str | None = None,
        config: str | None = None,
    ) -> None:
        self.path = Path(path)
        self.pool_fingerprint = pool_fingerprint
        self.pool_size = pool_size
        owner = Owner(pool_fingerprint, model, config)
        with explained(self.path):
            make_folder(self.path)
        if (self.path / MANIFEST).exists():
            self._manifest = Manifest.read(self.path / MANIFEST).claimed_by(owner, self.path)
        else:
            self._manifest = Manifest(owner)
            self._refuse_without_manifest()
        for round in self.rounds():
            self._manifest.check(self.path, round)

    def _refuse_without_manifest(self) -> None:
        found = sorted(self.path.glob("round-*.parquet"))
        if found:
            raise StoreError(
                f"{self.path} has scores ({found[0].name}) but no {MANIFEST}: whose they are and "
                "whether they are whole cannot be known (earlier versions wrote none). Start again "
                "in a new folder."
            )

    def rounds(self) -> list[int]:
        """Numbers of the stored rounds, ascending."""
        return sorted(self._manifest.rounds)

    def append(self, round: int, columns: dict[str, Any]) -> None:
        """Write one round: its file first, then the manifest that names it; both durable.

        Args:
            columns: by name, as in the module's docstring; ``index`` is required.

        Raises:
            StoreError: if the round is stored already, a column is unknown or of another length
                than ``index``, ``index`` is not made of distinct positions in the pool, or the
                disk refuses.
        """
        if round < 0:
            raise StoreError(f"Rounds are numbered from 0; received {round}.")
        target = self._file(round)
        if round in self._manifest.rounds:
            raise StoreError(f"Round {round} is stored already ({target}); scores never change.")
        self._check_columns(round, columns)
        arrays = {name: pa.array(values, type=_TYPES[name]) for name, values in columns.items()}
        table = pa.table(arrays).replace_schema_metadata(
            {"schema_version": "1", "pool_fingerprint": self.pool_fingerprint}
        )
        buffer = pa.BufferOutputStream()
        pq.write_table(table, buffer, compression="zstd")
        content = memoryview(buffer.getvalue())
        if not (self.path / MANIFEST).exists():  # else a stop here would look like an old folder
            self._manifest.write(self.path / MANIFEST)
        write_bytes(target, content)
        checksum = hashlib.sha256(content).hexdigest()
        self._keep(
            self._manifest.with_round(
                round, Entry(target.name, table.num_rows, checksum, tuple(columns))
            )
        )

    def expect(self, rounds: Iterable[int]) -> None:
        """Make sure that what a run has measured is here.

        Raises:
            StoreError: if a round is missing.
        """
        missing = sorted(set(rounds) - set(self._manifest.rounds))
        if missing:
            raise StoreError(
                f"Rounds {', '.join(map(str, missing))} are missing in {self.path}, though the run "
                "has measured them; restore the folder from a backup, or start again in a new one."
            )

    def read(self, round: int, columns: list[str] | None = None) -> pa.Table:
        """One round as a table.

        Raises:
            StoreError: if the round is absent, its file cannot be read, or it lacks a column.
        """
        if round not in self._manifest.rounds:
            raise StoreError(f"Round {round} is not stored in {self.path}.")
        stored = self._manifest.rounds[round].columns
        absent = [name for name in columns or () if name not in stored]
        if absent:
            raise StoreError(f"Round {round} in {self.path} did not measure '{absent[0]}'.")
        file = self._file(round)
        try:
            # a file object: a path with an equals sign in it would add a column
            with file.open("rb") as handle:
                return pq.read_table(handle, columns=columns)
        except (pa.ArrowException, OSError) as error:
            raise StoreError(f"Cannot read {file}: {error}") from error

    def columns(self) -> frozenset[str]:
        """Names of the columns that at least one stored round has."""
        return frozenset[str]().union(*(e.columns for e in self._manifest.rounds.values()))

    def matrix(self, signal: str, rounds: Sequence[int] | None = None) -> NDArray[np.float64]:
        """A signal over rounds, float64 ``[R, N]``; NaN where an example was not scored.

        Raises:
            StoreError: if a round is not stored, or no stored round measured the signal.
        """
        wanted = self.rounds() if rounds is None else rounds
        out = np.full((len(wanted), self.pool_size), np.nan)
        for row, round in enumerate(wanted):
            entry = self._manifest.rounds.get(round)
            if entry is not None and signal in self.columns() - set(entry.columns):
                continue  # measured in other rounds only
            table = self.read(round, ["index", signal])
            out[row, table["index"].to_numpy()] = table[signal].to_numpy()
        return out

    def drop_after(self, round: int) -> None:
        """Forget rounds from ``round`` on: they were scored after the state a run resumes from.

        What a stop in the middle of writing left goes with them.
        """
        if (self.path / MANIFEST).exists():
            self._keep(self._manifest.before(round))
            listed = {entry.file for entry in self._manifest.rounds.values()}
            for file in [*self.path.glob("round-*.parquet"), *self.path.glob(".*.tmp")]:
                if file.name not in listed:
                    file.unlink()

    def _keep(self, manifest: Manifest) -> None:
        manifest.write(self.path / MANIFEST)
        self._manifest = manifest

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
