"""What a score store holds and whose it is: ``scores/manifest.json``.

::

    {"schema_version": 1,
     "pool": "9f0c...", "model": "77ab...", "config": "c01d...",
     "rounds": {"0": {"file": "round-00000.parquet", "rows": 200, "sha256": "...",
                      "columns": ["index", "accuracy"]}},
     "sha256": "..."}

``pool``, ``model`` and ``config`` are content hashes, null where the store was opened without one;
the last line is the checksum of all others.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from activeselect.errors import StoreError
from activeselect.files import read_json, write_json

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
        return replace(self, rounds={**self.rounds, round: entry})

    def before(self, round: int) -> Manifest:
        return replace(self, rounds={n: e for n, e in self.rounds.items() if n < round})

    def write(self, path: Path) -> None:
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
