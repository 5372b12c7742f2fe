"""``results.json``: its version, and how one of an earlier version is read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from activeselect.errors import StoreError
from activeselect.files import read_object

SCHEMA_VERSION = 2
_OLD_KEYS = {"presets": "datasets", "bills": "efficiency_by_cost"}
_OLD_COLUMNS = {
    "preset": "dataset",
    "bill": "costs",
    "probability_of_improvement": "share_of_resamples_better",
}


def read_results(path: Path) -> dict[str, Any]:
    """The content of a ``results.json``, in the present schema.

    Args:
        path: of the file, or of the study's folder.

    Raises:
        StoreError: if the file is missing or not JSON, or if another version wrote it.
    """
    file = path / "results.json" if path.is_dir() else path
    if not file.is_file():
        raise StoreError(
            f"{path}: expected the folder of a study (with results.json); received a folder "
            "without one. Run `activeselect compare` first."
        )
    results: dict[str, Any] = read_object(file)
    return upgraded(results)


def upgraded(results: Mapping[str, Any]) -> dict[str, Any]:
    """The same results in the present schema; those of the present one as they are.

    Version 1 called a dataset ``preset`` and the costs of a model its ``bill``.

    Args:
        results: the content of ``results.json``.

    Raises:
        StoreError: if the version is neither 1 nor the present one.

    Example:
        >>> old = {"schema_version": 1, "curves": [{"preset": "mixed", "bill": {"seconds": 2.0}}]}
        >>> upgraded(old)["curves"]
        [{'dataset': 'mixed', 'costs': {'seconds': 2.0}}]
    """
    version = results.get("schema_version")
    if version == SCHEMA_VERSION:
        return dict(results)
    if version != 1:
        raise StoreError(
            f"this version reads results of schema version 1 or {SCHEMA_VERSION}; received "
            f"{version}. Use the version of activeselect that wrote them."
        )
    new = {_OLD_KEYS.get(key, key): _renamed(value) for key, value in results.items()}
    forecast = new.get("forecast")
    if isinstance(forecast, Mapping):
        new["forecast"] = {key: _renamed(value) for key, value in forecast.items()}
    return new | {"schema_version": SCHEMA_VERSION}


def _renamed(value: Any) -> Any:
    """Rows with the present names of their columns; anything else as it is."""
    if not isinstance(value, list):
        return value
    return [
        {_OLD_COLUMNS.get(key, key): item for key, item in row.items()}
        if isinstance(row, Mapping)
        else row
        for row in value
    ]
