"""``results.json``: its version, its shape, and how one of an earlier version is read."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
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

# --- Shape
#
# The file is small enough to be kept alone, without the checksums of its study. So everything that
# the report reads is looked at before it is used.

Kind = Callable[[Any], bool]


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_share(value: Any) -> bool:
    return _is_number(value) and 0 <= value <= 1


def _maybe(kind: Kind) -> Kind:
    return lambda value: value is None or kind(value)


def _named(kind: Kind) -> Kind:
    return lambda value: isinstance(value, dict) and all(map(kind, value.values()))


def _several(kind: Kind) -> Kind:
    return lambda value: isinstance(value, list) and all(map(kind, value))


def _row(needed: Mapping[str, Kind], known: Mapping[str, Kind] | None = None) -> Kind:
    """Rows that have the needed columns, and hold in each of both what its kind says."""

    def holds(value: Any) -> bool:
        return isinstance(value, dict) and not _odd_column(value, needed, known or {})

    return holds


def _odd_column(
    row: Mapping[str, Any], needed: Mapping[str, Kind], known: Mapping[str, Kind]
) -> str | None:
    """The first column that is absent or of another kind."""
    for name, kind in {**known, **needed}.items():
        if (name in row or name in needed) and not kind(row.get(name)):
            return name
    return None


_ANY_NUMBER, _ANY_TEXT = _maybe(_is_number), _maybe(_is_text)
_RUN: dict[str, Kind] = {"dataset": _is_text, "strategy": _is_text, "seed": _is_number}
_ENDS: dict[str, Kind] = {"low": _ANY_NUMBER, "high": _ANY_NUMBER}
_POINT = {**_RUN, "budget": _is_number}
_JUDGED = {**_ENDS, "dataset": _is_text, "strategy": _is_text, "seeds": _is_number}
_RATIO = {
    **_JUDGED,
    "baseline": _is_text,
    "cost": _is_text,
    "budget": _ANY_NUMBER,
    "ratio": _ANY_NUMBER,
    "level": _is_share,
    "censored": _ANY_TEXT,
    "target_accuracy": _ANY_NUMBER,
}
_RATIO_KNOWN = {
    "joint_low": _ANY_NUMBER,
    "joint_high": _ANY_NUMBER,
    "comparisons": _is_number,
    "share_of_resamples_better": _maybe(_is_share),
    "evidence": _ANY_TEXT,
    "verdict": _ANY_TEXT,
    "unit": _is_text,
    "largest_budget": _ANY_NUMBER,
}
_CURVE = {**_POINT, "test_accuracy": _is_share}
_CURVE_KNOWN = {
    "premem": _maybe(_is_share),
    "costs": _named(_is_number),
    "audit": _maybe(_named(_ANY_NUMBER)),
}
_WHEN = {"stage": _ANY_NUMBER, "epoch": _ANY_NUMBER, "kind": _ANY_TEXT}
_MEASURED = {name: _maybe(_is_share) for name in ("accuracy", "premem", "prequential")}
#: Table -> the columns of its rows that the report needs, and others that it shows where they are.
_TABLES: dict[str, tuple[Mapping[str, Kind], Mapping[str, Kind]]] = {
    "curves": (_CURVE, _CURVE_KNOWN),
    "within_fits": (_CURVE, _CURVE_KNOWN),
    "efficiency": (_RATIO, _RATIO_KNOWN),
    "efficiency_by_cost": (_RATIO, _RATIO_KNOWN),
    "targets": ({**_RATIO, "budget": _is_number, "target_accuracy": _is_share}, _RATIO_KNOWN),
    "gain": (
        {**_JUDGED, "gain": _ANY_NUMBER},
        {"effect_size": _ANY_NUMBER, "seeds_better": _ANY_NUMBER},
    ),
    "oracle_share": (
        {**_JUDGED, "share": _ANY_NUMBER},
        {"note": _ANY_TEXT, "oracle": _ANY_TEXT},
    ),
    "controls": ({**_JUDGED, "ratio": _ANY_NUMBER, "control": _is_text}, {}),
    "audit": (
        {**_JUDGED, "budget": _is_number, "measure": _is_text, "value": _ANY_NUMBER},
        {"difference": _ANY_NUMBER},
    ),
    "cost": (
        {**_RUN, **dict.fromkeys(("train_s", "score_s", "select_s", "eval_s"), _is_number)},
        {"tokens_trained": _is_number, "tokens_generated": _is_number},
    ),
    "selection": ({**_POINT, "groups": _named(_is_number)}, {}),
    "data_map": (
        {
            "dataset": _is_text,
            "strategy": _is_text,
            "round": _is_number,
            "group": _is_text,
            "scored": _is_number,
        },
        {**_WHEN, **_MEASURED},
    ),
    "examples": (
        {**_RUN, "question": _is_text, "trace": _is_text, "answer": _is_text},
        {
            "group": _ANY_TEXT,
            "premem": _maybe(_is_share),
            "position": _ANY_NUMBER,
            "completions": _several(_is_text),
            "history": _several(_row({"round": _is_number}, {**_WHEN, **_MEASURED})),
        },
    ),
    "browsed": ({**_RUN, "shown": _is_number, "scored": _is_number}, {}),
    "choices": (
        {
            **_RUN,
            "round": _is_number,
            "examples": _is_number,
            "groups": _named(_is_number),
            "difficulty": _ANY_NUMBER,
            "score": _maybe(_several(_is_number)),
            "reasons": _named(_is_number),
            "questions": _several(_row({"question": _is_text, "score": _ANY_NUMBER})),
        },
        {},
    ),
    "masked": ({"strategy": _is_text, "largest": _is_number, "last": _is_number}, {}),
}
_FORECAST: tuple[dict[str, Kind], dict[str, Kind]] = (
    {},
    {
        "r2": _ANY_NUMBER,
        "mae": _ANY_NUMBER,
        "tau": _ANY_NUMBER,
        "n_checkpoints": _is_number,
        "points": _several(
            _row({**_POINT, "forecast": _ANY_NUMBER, "test_accuracy": _is_share}, _ENDS)
        ),
    },
)
_NEEDED = ("config", "curves", "efficiency", "verdicts")
_LISTS = ("datasets", "verdicts", "notes", "left_out", "merged_from")
_OBJECTS = ("config", "environment", "forecast")


def check_shape(results: Mapping[str, Any], file: Path) -> None:
    """Hold results of the present schema to what the report reads of them.

    Args:
        results: the content of ``results.json``.
        file: what the error names.

    Raises:
        StoreError: if a table or a column is missing, or of another kind than a study writes.
    """
    found = _odd(results)
    if found:
        raise StoreError(
            f"{file} was altered: {found} is missing, or of another kind than `activeselect "
            "compare` writes; restore it from a backup, or run the study again."
        )


def _odd(results: Mapping[str, Any]) -> str | None:
    """Where the first table, row or column stands that no study writes."""
    for name in _NEEDED:
        if results.get(name) is None:
            return f"'{name}'"
    for name in (*_LISTS, *_TABLES):
        if not isinstance(results.get(name) or [], list):
            return f"'{name}'"
    for name in _OBJECTS:
        if not isinstance(results.get(name) or {}, dict):
            return f"'{name}'"
    for name in _LISTS:
        if not all(map(_is_text, results.get(name) or [])):
            return f"a text of '{name}'"
    if not _maybe(_is_text)(results.get("axis")):
        return "'axis'"
    for name, columns in _TABLES.items():
        for number, row in enumerate(results.get(name) or []):
            if not isinstance(row, dict):
                return f"row {number} of '{name}'"
            if column := _odd_column(row, *columns):
                return f"'{column}' in row {number} of '{name}'"
    if column := _odd_column(results.get("forecast") or {}, *_FORECAST):
        return f"'{column}' in 'forecast'"
    return _no_number(results)


def _no_number(value: Any, where: str = "") -> str | None:
    """Where a NaN or an infinity stands, which a study never writes."""
    if isinstance(value, float):
        return None if math.isfinite(value) else f"the number at {where}"
    if not isinstance(value, dict | list):
        return None
    inside = value.items() if isinstance(value, dict) else enumerate(value)
    return next(filter(None, (_no_number(v, f"{where}/{k}") for k, v in inside)), None)


def read_results(path: Path) -> dict[str, Any]:
    """The content of a ``results.json``, in the present schema.

    Args:
        path: of the file, or of the study's folder.

    Raises:
        StoreError: if the file is missing or not JSON, if another version wrote it, or if it was
            altered.
    """
    file = path / "results.json" if path.is_dir() else path
    if not file.is_file():
        raise StoreError(
            f"{path}: expected the folder of a study (with results.json); received a folder "
            "without one. Run `activeselect compare` first."
        )
    results = upgraded(read_object(file))
    check_shape(results, file)
    return results


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
            f"{version!r}. Use the version of activeselect that wrote them."
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
