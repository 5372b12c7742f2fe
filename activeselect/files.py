"""Files that are either old or new, never half-written, and survive a power cut once written."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from activeselect.errors import StoreError

#: What the disk refuses -> what the user can do about it.
_REMEDIES = {
    errno.ENOSPC: "free space on the disk",
    errno.EDQUOT: "free space within your quota",
    errno.EFBIG: "raise the limit on file sizes (ulimit -f)",
    errno.EROFS: "choose a folder that can be written",
    errno.EACCES: "choose a folder that you may write",
    errno.EPERM: "choose a folder that you may write",
    errno.ENOTDIR: "choose a path whose parents are folders",
    errno.EEXIST: "choose a path whose parents are folders",
    errno.ENAMETOOLONG: "choose a shorter path",
}


@contextmanager
def explained(where: Path) -> Iterator[None]:
    """Turn what a disk refuses inside the block into an error the user can act on.

    Raises:
        StoreError: if the disk is full or read-only, or a folder is not ours to write.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in _REMEDIES:
            raise
        inside = str(error.filename or "").startswith(f"{where}{os.sep}")
        raise StoreError(
            f"Cannot write {error.filename if inside else where}: {error.strerror}. What was "
            f"written before is kept; {_REMEDIES[error.errno]}, and the same command continues."
        ) from error


def write_text(path: Path, text: str) -> None:
    """Write a text file (UTF-8) as :func:`write_bytes` does."""
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: Path, content: bytes | memoryview) -> None:
    """Write a file by rename; a failure leaves the old one alone, a success survives a power cut.

    Raises:
        StoreError: if the disk is full or read-only, or the folder is not ours to write.
    """
    with replacing(path) as temporary:
        temporary.write_bytes(content)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary file to write inside the block, which then takes the place of ``path``.

    Both the file's content and its name are on the disk (fsync) when the block has ended; a block
    that fails leaves the old file and no temporary one.

    Example:
        >>> import tempfile
        >>> target = Path(tempfile.mkdtemp()) / "a.txt"
        >>> with replacing(target) as temporary:
        ...     _ = temporary.write_text("new")
        >>> target.read_text(), len(list(target.parent.iterdir()))
        ('new', 1)
    """
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with explained(path):
            make_folder(path.parent)
            yield temporary
            sync(temporary)
            temporary.replace(path)
            sync(path.parent)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def make_folder(path: Path) -> None:
    """Create a folder, its parents too, so that a power cut cannot take its name away."""
    if path.is_dir():
        return
    make_folder(path.parent)
    path.mkdir(exist_ok=True)
    sync(path.parent)


def is_folder_name(name: str) -> bool:
    """Whether a text names a folder inside another one, and nothing above or below it.

    Example:
        >>> [is_folder_name(name) for name in ("premem 0.6", "..", "a/b", "")]
        [True, False, False, False]
    """
    return name.strip(". ") != "" and not any(c in "/\\" or ord(c) < 32 for c in name)


def sync(path: Path) -> None:
    """Wait until a file's content, or a folder's list of names, is on the disk (POSIX)."""
    if path.is_dir() and os.name != "posix":
        return  # Windows cannot open a folder, and writes names through
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some network file systems cannot sync a folder
            raise
    finally:
        os.close(descriptor)


def write_json(path: Path, value: Any) -> None:
    """Write JSON; NaN is refused because other readers would be."""
    write_text(path, json.dumps(value, indent=1, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read JSON.

    Raises:
        StoreError: if the file is absent or no JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise StoreError(f"Cannot read {path}: {error.strerror}.") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise StoreError(f"{path} is damaged (no JSON: {error}).") from error


def read_object(path: Path) -> dict[str, Any]:
    """Read JSON that has to be names and values.

    Raises:
        StoreError: if the file is absent, no JSON, or something else.
    """
    plain = read_json(path)
    if not isinstance(plain, dict):
        raise StoreError(
            f"{path} is damaged: expected names and values, received a {type(plain).__name__}; "
            "restore it from a backup, or start again in a new folder."
        )
    return plain
