"""Recorded runs as arrays, read from a trace folder (see `activeselect.forecast.traces`)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from activeselect.arrays import FloatArray, IntArray
from activeselect.errors import DataError, did_you_mean
from activeselect.scoring.store import count_right

# --- Trace format
#
# A trace folder holds two tables per dataset, ``<dataset>_examples.parquet`` (one row per run x
# checkpoint x train example) and ``<dataset>_checkpoints.parquet`` (one row per run x checkpoint)::
#
#     examples     run: string, step: int, epoch: int, example_id: int, mean_nll: float (nats per
#                  token), n_tokens: int or null, outcomes: list<bool> (one per sampled completion;
#                  empty or null where the example was not sampled), and optionally accuracy: float
#                  or null (estimated from few outcomes: used in their place, as free of noise)
#     checkpoints  run: string, dataset: string, step: int, epoch: int, train_size: int,
#                  learning_rate: float or null, test_accuracy: float or null (null: not tested),
#                  test_examples: int, test_samples: int
#
# The schema metadata of both carries ``activeselect_trace_version``; files without it are version
# 1.
# Further columns are allowed and ignored.


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


STAGE_MARK = "#stage-"


@dataclass(frozen=True)
class RunTrace:
    """One recorded run: R checkpoints of N train examples.

    Attributes:
        name: the run's name, unique within its dataset.
        dataset: the dataset's name.
        step: optimizer step of every checkpoint, ``[R]``, ascending.
        epoch: number of the checkpoint, ``[R]``.
        train_size: number of train examples of the run.
        learning_rate: peak learning rate; NaN where unknown.
        example_id: the train examples, ``[N]``.
        accuracy: share of sampled completions that are right, ``[R, N]``; NaN where not sampled.
        mean_nll: mean NLL of the reference trace, nats per token, ``[R, N]``; NaN where unknown.
        samples: number of completions sampled, ``[R, N]``; 0 where not sampled.
        test_accuracy: share of right test answers, ``[R]``; NaN where not tested.
        test_examples: number of test questions, ``[R]``.
        test_samples: completions per test question, ``[R]``.

    Example:
        >>> import numpy as np
        >>> one, two = np.ones((1, 1)), np.zeros((1, 1))
        >>> trace = RunTrace(
        ...     name="run", dataset="gsm8k", step=np.array([10]), epoch=np.array([1]), train_size=1,
        ...     learning_rate=2e-5, example_id=np.array([0]), accuracy=one, mean_nll=two,
        ...     samples=np.array([[5]]), test_accuracy=np.array([0.5]),
        ...     test_examples=np.array([100]), test_samples=np.array([5]))
        >>> trace.accuracy.shape
        (1, 1)
    """

    name: str
    dataset: str
    step: IntArray
    epoch: IntArray
    train_size: int
    learning_rate: float
    example_id: IntArray
    accuracy: FloatArray
    mean_nll: FloatArray
    samples: IntArray
    test_accuracy: FloatArray
    test_examples: IntArray
    test_samples: IntArray

    @property
    def group(self) -> str:
        """What is left out together: the dataset and run, without the stage of a staged run."""
        return f"{self.dataset}/{self.name.split(STAGE_MARK)[0]}"


def datasets_in(folder: Path) -> list[str]:
    """Return the names of the datasets a trace folder holds, sorted.

    Raises:
        DataError: if the folder does not exist or holds no traces.
    """
    if not folder.is_dir():
        raise DataError(
            f"{folder}: expected a folder of traces, found "
            f"{'a file' if folder.exists() else 'nothing'}; "
            "make one with `activeselect forecast import SOURCE --out DIR`"
        )
    names = sorted(
        p.name.removesuffix("_examples.parquet") for p in folder.glob("*_examples.parquet")
    )
    if not names:
        raise DataError(
            f"{folder}: expected files named <dataset>_examples.parquet, found none; "
            "make them with `activeselect forecast import SOURCE --out DIR`"
        )
    return names


def read_traces(folder: Path, dataset: str) -> list[RunTrace]:
    """Read all runs of one dataset from a trace folder.

    Args:
        folder: a trace folder (see `activeselect.forecast.traces`).
        dataset: name of the dataset, for instance ``"gsm8k"``.

    Returns:
        The runs, sorted by name.

    Raises:
        DataError: if the folder or the dataset is missing, a file is damaged or of a newer
            version, a column is missing, or the two tables do not fit together.

    Example::

        runs = read_traces(Path("traces"), "gsm8k")
        runs[0].test_accuracy
    """
    known = datasets_in(folder)
    if dataset not in known:
        raise DataError(f"{folder}: no dataset '{dataset}'. {did_you_mean(dataset, known)}")
    examples = read_table(folder / f"{dataset}_examples.parquet", EXAMPLES_SCHEMA, {"n_tokens"})
    checkpoints = read_table(folder / f"{dataset}_checkpoints.parquet", CHECKPOINTS_SCHEMA)
    return runs_of(examples, checkpoints, str(folder / dataset))


def runs_of(examples: pa.Table, checkpoints: pa.Table, label: str) -> list[RunTrace]:
    """Return the runs that two tables in the trace format describe, sorted by name.

    Args:
        examples: the example table.
        checkpoints: the checkpoint table.
        label: what to call the tables in an error.

    Raises:
        DataError: if the two tables do not fit together.
    """
    rows: dict[str, list[dict[str, Any]]] = {}
    for row in checkpoints.to_pylist():
        rows.setdefault(row["run"], []).append(row)
    names, code = np.unique(_strings(examples["run"]), return_inverse=True)
    if set(names) != set(rows):
        odd = sorted(set(names) ^ set(rows))[0]
        raise DataError(f"{label}: run '{odd}' is in only one of the two tables; import it again")
    table = _Columns.of(examples)
    order = np.argsort(code, kind="stable")
    bounds = np.searchsorted(code[order], np.arange(len(names) + 1))
    return [
        _assemble(str(name), table, order[bounds[k] : bounds[k + 1]], rows[str(name)], label)
        for k, name in enumerate(names)
    ]


#: As many samples as make the noise of a share nothing.
_ESTIMATED = 10_000


@dataclass(frozen=True)
class _Columns:
    """The example table as flat arrays: one entry per row."""

    step: IntArray
    example_id: IntArray
    mean_nll: FloatArray
    accuracy: FloatArray
    samples: IntArray

    @classmethod
    def of(cls, table: pa.Table) -> _Columns:
        right, samples = count_right(table["outcomes"])
        with np.errstate(invalid="ignore"):
            accuracy = np.where(samples > 0, right / np.maximum(samples, 1), np.nan)
        if ESTIMATE.name in table.column_names:
            estimate = table[ESTIMATE.name].to_numpy().astype(np.float64)  # a null is NaN
            stated = ~np.isnan(estimate)
            accuracy, samples = np.where(stated, estimate, accuracy), samples.copy()
            samples[stated] = _ESTIMATED
        return cls(
            step=np.asarray(table["step"].to_numpy(), dtype=np.int64),
            example_id=np.asarray(table["example_id"].to_numpy(), dtype=np.int64),
            mean_nll=np.asarray(table["mean_nll"].to_numpy(), dtype=np.float64),
            accuracy=accuracy,
            samples=samples,
        )


def _strings(column: pa.ChunkedArray) -> NDArray[np.str_]:
    if pa.types.is_dictionary(column.type):
        column = column.cast(pa.string())
    return np.asarray(column.to_pylist(), dtype=np.str_)


def _assemble(
    name: str, table: _Columns, rows: IntArray, checkpoints: list[dict[str, Any]], label: str
) -> RunTrace:
    checkpoints = sorted(checkpoints, key=lambda row: int(row["step"]))
    steps = np.array([row["step"] for row in checkpoints], dtype=np.int64)
    ids, column = np.unique(table.example_id[rows], return_inverse=True)
    if not np.array_equal(np.unique(table.step[rows]), steps):
        raise DataError(
            f"{label}: run '{name}' has checkpoints at steps {steps.tolist()} in one table and "
            f"{np.unique(table.step[rows]).tolist()} in the other; import it again"
        )
    line = np.searchsorted(steps, table.step[rows])
    if len(np.unique(line * len(ids) + column)) != len(rows):
        raise DataError(
            f"{label}: run '{name}' lists an example twice at one step; import it again"
        )
    shape = (len(steps), len(ids))
    accuracy, mean_nll = np.full(shape, np.nan), np.full(shape, np.nan)
    samples = np.zeros(shape, dtype=np.int64)
    accuracy[line, column] = table.accuracy[rows]
    mean_nll[line, column] = table.mean_nll[rows]
    samples[line, column] = table.samples[rows]

    def numbers(key: str, missing: float = 0) -> FloatArray:
        return np.array([missing if row[key] is None else row[key] for row in checkpoints], float)

    accuracies = numbers("test_accuracy", np.nan)
    if np.any((accuracies < 0) | (accuracies > 1)):
        raise DataError(
            f"{label}: run '{name}': expected test accuracies in [0, 1], found "
            f"{np.nanmin(accuracies):g} to {np.nanmax(accuracies):g}; divide percentages by 100"
        )
    return RunTrace(
        name=name,
        dataset=str(checkpoints[0]["dataset"]),
        step=steps,
        epoch=numbers("epoch").astype(np.int64),
        train_size=int(numbers("train_size")[0]),
        learning_rate=float(numbers("learning_rate", np.nan)[0]),
        example_id=ids,
        accuracy=accuracy,
        mean_nll=mean_nll,
        samples=samples,
        test_accuracy=accuracies,
        test_examples=numbers("test_examples").astype(np.int64),
        test_samples=numbers("test_samples").astype(np.int64),
    )
