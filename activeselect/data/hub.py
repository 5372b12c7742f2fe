"""Rows from Hugging Face datasets: by hub id, or from a folder written by ``save_to_disk``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import datasets

from activeselect.data.tabular import Row, Rows, RowSource
from activeselect.errors import DataError, did_you_mean

_ID = re.compile(r"[\w.-]+(/[\w.-]+)?", re.ASCII)
_COMMIT = re.compile(r"hf://datasets/[^@\s]+@([0-9a-f]{40})")
_BATCH = 1024
#: What describes a stored pool, beside its Arrow files (:mod:`activeselect.data.stored`).
ABOUT = "pool.json"
_LONGEST_CAUSE = 300


def looks_like_hub_id(source: str) -> bool:
    """Whether this can be ``name`` or ``owner/name`` on the hub."""
    return _ID.fullmatch(source) is not None and not source.startswith(".")


def open_hub(
    name: str,
    *,
    configs: Sequence[str],
    split: str,
    revision: str | None = None,
    stream: bool = False,
) -> RowSource:
    """Load a hub dataset, or stream it; several configurations are read one after the other.

    Raises:
        DataError: it cannot be loaded; the message carries the reason in one line.
    """
    parts = [_load(name, config, split, revision, stream) for config in configs or (None,)]
    return _streamed(parts, name) if stream else _source(parts, name)


def _load(name: str, config: str | None, split: str, revision: str | None, stream: bool) -> Any:
    try:
        given: dict[str, Any] = {"streaming": True} if stream else {}
        return datasets.load_dataset(name, config, split=split, revision=revision, **given)
    except Exception as error:  # the hub client raises many kinds, each with its own long text
        cause = " ".join(str(error).split())[:_LONGEST_CAUSE] or type(error).__name__
        raise DataError(
            f"{name!r} is no local file or folder, and the Hugging Face hub did not give it "
            f"({cause}). Check the id, the split {split!r}, the connection, or give a local path."
        ) from error


def _streamed(parts: Sequence[Any], name: str) -> RowSource:
    """Rows as they arrive; a connection that breaks, or a file of it, is a DataError."""

    def read(_: Sequence[str] | None) -> Rows:
        number = 0
        try:
            for part in parts:
                for values in part:
                    number += 1
                    yield Row(number, dict(values))
        except Exception as error:  # of many kinds, as above: a connection, a broken file
            cause = " ".join(str(error).split())[:_LONGEST_CAUSE] or type(error).__name__
            raise DataError(f"{name!r} broke off after row {number} ({cause}).") from error

    names = parts[0].column_names  # a stream may not state them
    return RowSource(name, "row", read, schema=None if names is None else tuple(names))


def is_single(folder: Path) -> bool:
    """Whether ``Dataset.save_to_disk`` wrote this folder: one dataset, without splits."""
    return is_saved(folder) and not (folder / "dataset_dict.json").is_file()


def is_saved(folder: Path) -> bool:
    """Whether ``save_to_disk`` wrote this folder."""
    return (folder / "dataset_dict.json").is_file() or (folder / "state.json").is_file()


def open_saved(folder: Path, split: str) -> RowSource:
    """Open a folder that ``Dataset.save_to_disk`` or ``DatasetDict.save_to_disk`` wrote.

    A folder with a single dataset has no splits, so ``split`` is not looked at there.

    Raises:
        DataError: the folder is damaged, or has no such split.
    """
    saved = saved_dataset(folder)
    if isinstance(saved, datasets.DatasetDict):
        if split not in saved:
            raise DataError(f"{folder} has no split {split!r}. {did_you_mean(split, saved)}")
        saved = saved[split]
    return _source([saved], str(folder))


def saved_dataset(folder: Path) -> Any:
    """What ``save_to_disk`` wrote into a folder.

    Raises:
        DataError: the folder is damaged.
    """
    try:
        return datasets.load_from_disk(str(folder))
    except Exception as error:  # of many kinds: of datasets, of Arrow, of JSON
        cause = " ".join(str(error).split())[:_LONGEST_CAUSE]
        raise DataError(f"{folder} cannot be read as a saved dataset: {cause}") from error


def _source(parts: Sequence[datasets.Dataset], name: str) -> RowSource:
    def read(columns: Sequence[str] | None) -> Rows:
        number = 0
        for part in parts:
            for batch in _batches(part, columns):
                names = list(batch)
                for values in zip(*batch.values(), strict=True):
                    number += 1
                    yield Row(number, dict(zip(names, values, strict=True)))

    return RowSource(
        name, "row", read, schema=tuple(parts[0].column_names), revision=_revision(parts)
    )


def _revision(parts: Sequence[datasets.Dataset]) -> str | None:
    """The commit in the addresses that ``datasets`` says it loaded: hf://datasets/NAME@COMMIT/..."""
    addresses = " ".join(str(key) for part in parts for key in part.info.download_checksums or ())
    found = dict.fromkeys(_COMMIT.findall(addresses))
    return " ".join(found) or None


def _batches(part: datasets.Dataset, columns: Sequence[str] | None) -> Any:
    # Selecting columns keeps images or audio in other columns from being decoded.
    chosen = part if columns is None else part.select_columns(list(columns))
    return chosen.iter(batch_size=_BATCH)
