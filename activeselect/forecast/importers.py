"""Import of the run folders that `activeselect train` writes.

A stage (one train-set size, trained from the start model) becomes one recorded run named
``FOLDER#stage-K``; stages of one folder stay together when runs are left out. Test accuracy is
known after a stage's last round, so that is the checkpoint which has one.
"""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from activeselect.arrays import FloatArray
from activeselect.errors import DataError
from activeselect.forecast.traces import ESTIMATE, STAGE_MARK
from activeselect.scoring.store import count_right

# --- Layout of the paper's released runs
#
# `katiekang1998/reasoning_generalization` stores one folder per run and checkpoint::
#
#     ckpts/RUN/subsample_idxs.npy                            positions in the dataset (some runs)
#     ckpts/RUN/checkpoint-STEP/train_answer_types5_seed2_temp0.8.npy   int [N, samples]
#     ckpts/RUN/checkpoint-STEP/test_answer_types5_seed2_temp0.8.npy    int [questions, samples]
#     ckpts/RUN/checkpoint-STEP/train_perplexities.npy        float [N], exp(mean NLL)
#     ckpts/RUN/checkpoint-STEP/train_num_tokens.npy          int [N] (some runs)
#
# Answer types are 0 right, 1 wrong, 2 no answer found. RUN starts with the dataset's name and holds
# the learning rate, for instance ``gsm8k_orig_3epochs_full_lr2e-05_bs128``. Where a checkpoint has
# several files of answer types, the one with the most samples is read.


_STEP = re.compile(r"checkpoint-(\d+)")
_ANSWERS = re.compile(r"(train|test)_answer_types(\d+)(_seed\d+)?(_temp[\d.]+)?\.npy")
_RATE = re.compile(r"_lr([\d.]+(?:e-?\d+)?)")
RIGHT = 0


def official_runs(source: Path) -> list[Path]:
    """Return the run folders below ``source`` that hold official checkpoints, sorted."""
    found = {path.parent for path in source.rglob("checkpoint-*") if _STEP.fullmatch(path.name)}
    return sorted(found)


def official_tables(run: Path) -> tuple[str, pa.Table, pa.Table]:
    """Read one official run.

    Args:
        run: the folder ``ckpts/RUN``.

    Returns:
        The dataset's name, the example table and the checkpoint table.

    Raises:
        DataError: if a file is missing or damaged, or the files do not fit together.
    """
    dataset = run.name.split("_")[0]
    folders = sorted(
        (path for path in run.iterdir() if _STEP.fullmatch(path.name)),
        key=lambda path: int(path.name.removeprefix("checkpoint-")),
    )
    examples, checkpoints = [], []
    for epoch, folder in enumerate(folders, start=1):
        step = int(folder.name.removeprefix("checkpoint-"))
        table = _official_examples(run, folder, {"run": run.name, "step": step, "epoch": epoch})
        examples.append(table)
        checkpoints.append(
            {
                "run": run.name,
                "dataset": dataset,
                "step": step,
                "epoch": epoch,
                "train_size": table.num_rows,
                "learning_rate": _learning_rate(run.name),
                **_test(folder),
            }
        )
    return dataset, pa.concat_tables(examples), pa.Table.from_pylist(checkpoints)


def _official_examples(run: Path, folder: Path, key: dict[str, Any]) -> pa.Table:
    right = _load(_answers(folder, "train")) == RIGHT
    perplexity = _load(folder / "train_perplexities.npy").astype(np.float64)
    tokens_file = folder / "train_num_tokens.npy"
    tokens = _load(tokens_file) if tokens_file.exists() else None
    if right.ndim != 2 or perplexity.shape != right.shape[:1]:
        raise DataError(
            f"{folder}: expected answer types [N, samples] and perplexities [N], found "
            f"{list(right.shape)} and {list(perplexity.shape)}; download the run again"
        )
    if not np.all(perplexity >= 1):
        raise DataError(f"{folder}: expected perplexities of at least 1; download the run again")
    ids, rows = _positions(run, len(right))
    flat = pa.array(right[rows].ravel())
    offsets = np.arange(len(ids) + 1, dtype=np.int32) * right.shape[1]
    return pa.table(
        {
            "run": pa.array([key["run"]] * len(ids), pa.string()),
            "step": np.full(len(ids), key["step"], dtype=np.int64),
            "epoch": np.full(len(ids), key["epoch"], dtype=np.int64),
            "example_id": ids,
            "mean_nll": np.log(perplexity[rows]).astype(np.float32),
            "n_tokens": pa.array(None if tokens is None else tokens[rows], pa.int32())
            if tokens is not None
            else pa.nulls(len(ids), pa.int32()),
            "outcomes": pa.ListArray.from_arrays(pa.array(offsets), flat),
        }
    )


def _positions(run: Path, count: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return example ids and the rows that hold them.

    Full runs store their arrays in the dataset's order, although their ``subsample_idxs`` is a
    shuffled list of all of it; runs on a subset store one row per listed position.
    """
    file = run / "subsample_idxs.npy"
    natural = np.arange(count, dtype=np.int64)
    if not file.exists():
        return natural, natural
    listed = _load(file).astype(np.int64)
    if len(listed) == count and np.array_equal(np.sort(listed), natural):
        return natural, natural
    if len(listed) < count:
        return listed, listed
    return listed[:count], natural


def _test(folder: Path) -> dict[str, Any]:
    file = _answers(folder, "test", required=False)
    if file is None:
        return {"test_accuracy": None, "test_examples": 0, "test_samples": 0}
    right = _load(file) == RIGHT
    return {
        "test_accuracy": float(right.mean()),
        "test_examples": right.shape[0],
        "test_samples": right.shape[1],
    }


def _answers(folder: Path, split: str, required: bool = True) -> Any:
    found = [
        (int(match[2]), path)
        for path in sorted(folder.iterdir())
        if (match := _ANSWERS.fullmatch(path.name)) and match[1] == split
    ]
    if found:
        return max(found)[1]
    if required:
        raise DataError(
            f"{folder}: expected {split}_answer_types<n>_seed<s>.npy, found none; "
            "download the run again"
        )
    return None


def _learning_rate(name: str) -> float | None:
    match = _RATE.search(name)
    return float(match[1]) if match else None


def _load(path: Path) -> NDArray[Any]:
    if not path.is_file():
        raise DataError(f"{path}: expected this file, found none; download the run again")
    try:
        # Never unpickle: these files come from elsewhere.
        loaded: NDArray[Any] = np.load(path, allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise DataError(
            f"{path}: expected a readable .npy array ({error}); download the run again"
        ) from error
    return loaded


_ROUND = re.compile(r"round-(\d+)\.parquet")
_UNFINISHED: dict[str, Any] = {
    "config": {"recipe": {"batch_size": 1, "learning_rate": math.nan}, "data": {"source": "run"}},
    "curve": [],
}
_NEEDED = ("index", "stage", "epoch", "correct", "mean_nll")


def run_folders(source: Path) -> list[Path]:
    """Return ``source`` or the folders below it that hold scores of a run, sorted."""
    return sorted({path.parent for path in source.rglob("scores") if path.is_dir()})


def run_tables(folder: Path, name: str, finished: bool = True) -> tuple[str, pa.Table, pa.Table]:
    """Read one run folder.

    Args:
        folder: a run folder, with ``scores/`` and ``result.json``.
        name: the run's name in the traces.
        finished: whether ``result.json`` has to be there; without it no test accuracy is known.

    Returns:
        The dataset's name, the example table and the checkpoint table.

    Raises:
        DataError: if a file is missing or damaged, or the run did not measure what is needed.
    """
    result = _result(folder / "result.json") if finished else _UNFINISHED
    recipe = result["config"]["recipe"]
    dataset = re.sub(r"[^\w.-]+", "-", str(result["config"]["data"]["source"])).strip("-")
    curve = {int(entry["stage"]): entry for entry in result["curve"]}
    last: dict[int, int] = {}
    rounds = []
    for path in sorted((folder / "scores").iterdir()):
        match = _ROUND.fullmatch(path.name)
        table = round_table(path) if match else None
        if match and table is not None and table.num_rows:
            stage = int(table["stage"][0].as_py())
            last[stage] = int(match[1])
            rounds.append((int(match[1]), stage, table))
    if not rounds:
        raise DataError(f"{folder}: expected scored rounds in scores/, found none; train it first")
    examples, checkpoints = [], []
    for number, stage, table in rounds:
        entry = curve.get(stage, {})
        budget = int(entry.get("budget") or table.num_rows)
        epoch = int(table["epoch"][0].as_py())
        # Unfinished runs have no budget yet; the order of the rounds is all that matters then.
        steps = math.ceil(budget / int(recipe["batch_size"])) if entry else 1
        tested = number == last[stage] and entry.get("test_accuracy") is not None
        key = {
            "run": f"{name}{STAGE_MARK}{stage}",
            "step": epoch * steps,
            "epoch": epoch,
        }
        examples.append(_examples(table, key))
        checkpoints.append(
            {
                **key,
                "dataset": dataset,
                "train_size": budget,
                "learning_rate": float(recipe["learning_rate"]),
                "test_accuracy": float(entry["test_accuracy"]) if tested else None,
                "test_examples": int(entry.get("test_examples", 0)) if tested else 0,
                "test_samples": 1 if tested else 0,
            }
        )
    return dataset, pa.concat_tables(examples), pa.Table.from_pylist(checkpoints)


def round_table(path: Path) -> pa.Table:
    """Read one scored round.

    Raises:
        DataError: if the file is damaged, or lacks a column that the forecast needs.
    """
    try:
        table = pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise DataError(
            f"{path}: expected a readable Parquet file ({str(error).splitlines()[0]}); "
            "the run may still be writing, or the file was cut off"
        ) from error
    missing = [column for column in _NEEDED if column not in table.column_names]
    if missing:
        raise DataError(
            f"{path}: expected the columns {', '.join(_NEEDED)}; missing {', '.join(missing)}; "
            "train with `measure: [accuracy, mean_nll]`"
        )
    return table


def _examples(table: pa.Table, key: dict[str, Any]) -> pa.Table:
    count = table.num_rows
    tokens = "n_tokens" in table.column_names
    estimate = pa.array(_estimates(table), pa.float64(), from_pandas=True)
    return pa.table(
        {
            "run": pa.array([key["run"]] * count, pa.string()),
            "step": pa.array([key["step"]] * count, pa.int64()),
            "epoch": pa.array([key["epoch"]] * count, pa.int64()),
            "example_id": table["index"],
            "mean_nll": table["mean_nll"].cast(pa.float32()),
            "n_tokens": table["n_tokens"] if tokens else pa.nulls(count, pa.int32()),
            "outcomes": table["correct"],
            ESTIMATE.name: estimate,
        }
    )


def _estimates(table: pa.Table) -> FloatArray:
    """Accuracies that a sampling policy estimated, ``[N]``.

    NaN where they are shares of the outcomes, or what ``skip-memorized`` carried on: a forecast
    takes an example without outcomes for memorized and does that itself.
    """
    if not {"sampled", "premem"} <= set(table.column_names):
        return np.full(table.num_rows, np.nan)
    right, sampled = count_right(table["correct"])
    carried = np.where(sampled > 0, right / np.maximum(sampled, 1), table["premem"].to_numpy())
    accuracy: FloatArray = table["accuracy"].to_numpy()
    estimated = not np.array_equal(accuracy, carried)
    return accuracy if estimated else np.full(table.num_rows, np.nan)


def _result(path: Path) -> dict[str, Any]:
    try:
        result: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        entries = (result["config"]["recipe"]["batch_size"], result["config"]["data"]["source"])
        if not isinstance(result["curve"], list) or None in entries:
            raise KeyError("curve")
    except FileNotFoundError:
        raise DataError(
            f"{path}: expected the result of a finished run, found none; finish the run first"
        ) from None
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise DataError(
            f"{path}: expected a run's result with config and curve, it is damaged ({error}); "
            "run it again"
        ) from None
    return result
