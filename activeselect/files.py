"""Small files that are either old or new, never half-written."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from activeselect.errors import StoreError


def write_text(path: Path, text: str) -> None:
    """Write a text file (UTF-8) as :func:`write_bytes` does."""
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file by rename, durable before the rename; a failure leaves the old one alone."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with temporary.open("wb") as handle:
            handle.write(content)
            handle.flush()
            os.fsync(handle.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


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
    except json.JSONDecodeError as error:
        raise StoreError(f"{path} is damaged (no JSON: {error}).") from error
