"""Seals: a checksum for every file that decides a run's result, held before the file is used.

A file of this run that lost a bit and a file of another run look alike: both are whole, and a
library reads both. Their checksums differ from the one that the run noted in ``seals.json``.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from activeselect.errors import StoreError
from activeselect.files import read_json, replacing, write_json

SEALS = "seals.json"
#: What to do about a damaged file that nothing else can replace.
RESTORE = "restore it from a backup, or start again in a new folder"
_BLOCK = 2**20  # bytes read at a time


def check_results(run: Path) -> None:
    """Hold the result and the predictions of a finished run to their seals.

    Raises:
        StoreError: if a file of them is damaged, altered or gone.
    """
    seals = Seals(run)
    seals.check(run / "result.json", RESTORE)
    seals.check_folder(run / "predictions", RESTORE)


def checksum(file: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal digits; about a second per gigabyte."""
    digest = hashlib.sha256()
    with file.open("rb") as handle:
        while block := handle.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


class Seals:
    """The checksums of a folder's files, by path below it.

    A new checksum is noted before the file takes its name, beside the old one, so that a stop at
    any moment leaves a file that fits; then the old ones are forgotten. One process writes.

    Args:
        folder: its ``seals.json`` holds them.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> seals = Seals(folder)
        >>> seals.write_json(folder / "state.json", {"stage": 1})
        >>> seals.read_json(folder / "state.json", "start again")
        {'stage': 1}
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.file = folder, folder / SEALS

    @contextmanager
    def replacing(self, path: Path) -> Iterator[Path]:
        """As :func:`activeselect.files.replacing`, with a seal."""
        with replacing(path) as temporary:
            yield temporary
            self.announce({path: temporary})
        self.settle([path])

    def write_json(self, path: Path, value: Any) -> None:
        """As :func:`activeselect.files.write_json`, with a seal."""
        with self.replacing(path) as temporary:
            text = json.dumps(value, indent=1, allow_nan=False) + "\n"
            temporary.write_bytes(text.encode("utf-8"))

    def read_json(self, path: Path, remedy: str) -> Any:
        """As :func:`activeselect.files.read_json`, of a file whose seal holds."""
        self.check(path, remedy)
        return read_json(path)

    def announce(self, files: dict[Path, Path]) -> None:
        """Note the checksums of files that are about to take their names (name: file now)."""
        noted = self._noted()
        for path, now in files.items():
            noted[self._name(path)] = [*noted.get(self._name(path), []), checksum(now)]
        self._write(noted)

    def settle(self, paths: Iterable[Path]) -> None:
        """Forget older checksums of files that have taken their names."""
        noted = self._noted()
        self._write(noted | {self._name(path): noted[self._name(path)][-1:] for path in paths})

    def check(self, path: Path, remedy: str) -> None:
        """Hold a file to its seal; call it before anything of the file is used.

        Raises:
            StoreError: if the file has none, or another content than the run wrote.
        """
        noted = self._noted().get(self._name(path))
        if noted is None:
            raise StoreError(
                f"{path} has no checksum in {self.file}: another run wrote it, or an earlier "
                f"version of activeselect. Nothing of it was used; {remedy}."
            )
        try:
            found = checksum(path)
        except OSError as error:
            raise StoreError(f"Cannot read {path}: {error.strerror}; {remedy}.") from error
        if found not in noted:
            raise StoreError(
                f"{path} is damaged, or was altered, or belongs to another run (expected SHA-256 "
                f"{noted[-1][:16]}, received {found[:16]}). Nothing of it was used; {remedy}."
            )

    def check_folder(self, folder: Path, remedy: str) -> None:
        """Hold all files of a folder inside to their seals, and miss none."""
        inside = f"{self._name(folder)}/"
        sealed = {self.folder / name for name in self._noted() if name.startswith(inside)}
        found = {f for f in folder.rglob("*") if f.is_file() and not f.name.startswith(".")}
        for file in sorted(sealed | found):
            self.check(file, remedy)

    def hold(self, folder: Path) -> bool:
        """Whether there is a seal of any file in a folder."""
        return any(name.startswith(f"{self._name(folder)}/") for name in self._noted())

    def moved(self, folder: Path, target: Path) -> None:
        """Note the seals of a folder's files under the name that it is about to take as well."""
        noted, inside = self._noted(), f"{self._name(folder)}/"
        there = f"{self._name(target)}/"
        under = {
            there + n.removeprefix(inside): v for n, v in noted.items() if n.startswith(inside)
        }
        self._write(noted | under)

    def _name(self, path: Path) -> str:
        return path.relative_to(self.folder).as_posix()

    def _noted(self) -> dict[str, list[str]]:
        if not self.file.exists():
            return {}
        plain = read_json(self.file)
        files = plain.get("files") if isinstance(plain, dict) else None
        if not isinstance(files, dict) or plain.get("sha256") != _own(files):
            raise StoreError(
                f"{self.file} is damaged or was altered: its checksum differs; restore the folder "
                "from a backup, or start again in a new one."
            )
        return files

    def _write(self, files: dict[str, list[str]]) -> None:
        write_json(self.file, {"files": files, "sha256": _own(files)})


def _own(files: dict[str, list[str]]) -> str:
    return hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()
