"""The trace format: recorded runs as two versioned Parquet tables per dataset.

A trace folder holds two tables per dataset, ``<dataset>_examples.parquet`` (one row per run x
checkpoint x train example) and ``<dataset>_checkpoints.parquet`` (one row per run x checkpoint)::

    examples     run: string, step: int, epoch: int, example_id: int, mean_nll: float (nats per
                 token), n_tokens: int or null, outcomes: list<bool> (one per sampled completion;
                 empty or null where the example was not sampled), and optionally accuracy: float
                 or null (estimated from few outcomes: used in their place, as free of noise)
    checkpoints  run: string, dataset: string, step: int, epoch: int, train_size: int,
                 learning_rate: float or null, test_accuracy: float or null (null: not tested),
                 test_examples: int, test_samples: int

The schema metadata of both carries ``activeselect_trace_version``; files without it are version 1.
Further columns are allowed and ignored.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from activeselect.errors import DataError

TRACE_VERSION = 1
VERSION_KEY = b"activeselect_trace_version"
EXAMPLES_SCHEMA = pa.schema(
    [
        ("run", pa.string()),
        ("step", pa.int64()),
        ("epoch", pa.int64()),
        ("example_id", pa.int64()),
        ("mean_nll", pa.float32()),
        ("n_tokens", pa.int32()),
        ("outcomes", pa.list_(pa.bool_())),
    ]
)
#: Where a sampling policy estimated accuracies.
ESTIMATE = pa.field("accuracy", pa.float64())
CHECKPOINTS_SCHEMA = pa.schema(
    [
        ("run", pa.string()),
        ("dataset", pa.string()),
        ("step", pa.int64()),
        ("epoch", pa.int64()),
        ("train_size", pa.int64()),
        ("learning_rate", pa.float64()),
        ("test_accuracy", pa.float64()),
        ("test_examples", pa.int64()),
        ("test_samples", pa.int64()),
    ]
)


def write_traces(folder: Path, dataset: str, examples: pa.Table, checkpoints: pa.Table) -> None:
    """Write one dataset's two tables into a trace folder, stamped with the format's version."""
    folder.mkdir(parents=True, exist_ok=True)
    for table, schema, kind in (
        (examples, EXAMPLES_SCHEMA, "examples"),
        (checkpoints, CHECKPOINTS_SCHEMA, "checkpoints"),
    ):
        if ESTIMATE.name in table.column_names and kind == "examples":
            schema = schema.append(ESTIMATE)
        stamped = table.select(schema.names).cast(schema)
        stamped = stamped.replace_schema_metadata({VERSION_KEY: str(TRACE_VERSION).encode()})
        pq.write_table(stamped, folder / f"{dataset}_{kind}.parquet", compression="zstd")


def read_table(path: Path, schema: pa.Schema, optional: Iterable[str] = ()) -> pa.Table:
    """Read the columns of ``schema`` from a Parquet file, and check what was read.

    Raises:
        DataError: if the file is missing, damaged, of a newer version or lacks a column.
    """
    if not path.is_file():
        raise DataError(f"{path}: expected a Parquet file, found none; import the traces again")
    try:
        table = pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(
            f"{path}: expected a readable Parquet file, it is damaged or cut off ({reason}); "
            "copy or import it again"
        ) from error
    version = (table.schema.metadata or {}).get(VERSION_KEY, b"1").decode()
    if version != str(TRACE_VERSION):
        raise DataError(
            f"{path}: expected trace version {TRACE_VERSION}, found {version}; update activeselect"
        )
    missing = [n for n in schema.names if n not in table.column_names and n not in set(optional)]
    if missing:
        raise DataError(
            f"{path}: expected the columns {', '.join(schema.names)}; missing "
            f"{', '.join(missing)}; import the traces again"
        )
    for field in schema:
        if field.name in table.column_names and not _fits(table.schema.field(field.name), field):
            raise DataError(
                f"{path}: expected column {field.name} to hold {field.type}, found "
                f"{table.schema.field(field.name).type}; import the traces again"
            )
    return table


def _fits(found: pa.Field, expected: pa.Field) -> bool:
    """Whether a column is of the expected kind; width and storage may differ."""
    kinds = (
        lambda t: pa.types.is_integer(t) or pa.types.is_floating(t),
        _holds_outcomes,
        lambda t: _is_text(t.value_type if pa.types.is_dictionary(t) else t),
    )
    return pa.types.is_null(found.type) or any(
        kind(found.type) and kind(expected.type) for kind in kinds
    )


def _holds_outcomes(kind: pa.DataType) -> bool:
    lists = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    return any(is_list(kind) for is_list in lists) and (
        pa.types.is_boolean(kind.value_type) or pa.types.is_integer(kind.value_type)
    )


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))
