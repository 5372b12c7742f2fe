"""From the folders of finished cells to what a study measured, before anything is compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from activeselect.config import DataConfig, RunConfig, from_plain
from activeselect.environment import environment
from activeselect.errors import ActiveSelectError, StoreError
from activeselect.files import read_json
from activeselect.scoring.signals import measurements
from activeselect.selection.registry import create
from activeselect.study.answers import Answers
from activeselect.study.bill import bills, computed_in_words, computed_of
from activeselect.study.plan import dataset_names
from activeselect.study.scored import MEASURES, scored_of

SCHEMA_VERSION = 1
_CURVE = (
    "budget",
    "unique_examples",
    "samples_seen",
    "test_accuracy",
    "test_examples",
    "premem",
    "forecast",
)

Row = dict[str, Any]


@dataclass(frozen=True)
class FinishedRun:
    """A cell as its folder shows it."""

    dataset: str
    strategy: str
    seed: int
    folder: Path
    result: Row

    @property
    def config(self) -> RunConfig:
        return from_plain(RunConfig, self.result["config"])

    def named(self, row: Row) -> Row:
        return {"preset": self.dataset, "strategy": self.strategy, "seed": self.seed, **row}


def finished_runs(config: Row, out: Path) -> list[FinishedRun]:
    """The cells of a study (its plain config) that have a result, seed by seed."""
    names = dataset_names([from_plain(DataConfig, data) for data in config["data"]])
    found = []
    for seed in config["seeds"]:
        for dataset in names:
            for label in config["strategies"]:
                folder = out / "cells" / dataset / label / f"seed-{seed}"
                if (folder / "result.json").exists():
                    result = read_json(folder / "result.json")
                    found.append(FinishedRun(dataset, label, seed, folder, result))
    return found


def collect(config: Row, out: Path) -> tuple[Row, Answers]:
    """What the finished cells of a study measured.

    Args:
        config: the study's settings, plain (``study.json``).
        out: its folder.

    Returns:
        The part of ``results.json`` that is measured and not concluded (``docs/results.md``
        describes each field), and right or wrong for each test problem.

    Raises:
        StoreError: if a file of a finished run is absent or damaged.
    """
    runs = finished_runs(config, out)
    names = dataset_names([from_plain(DataConfig, data) for data in config["data"]])
    body: Row = {
        "schema_version": SCHEMA_VERSION,
        "config": config,
        "environment": environment(),
        "datasets": [name for name in names if any(run.dataset == name for run in runs)],
        "recipes": {run.dataset: run.result["config"]["recipe"] for run in runs},
        "shared_test": {run.dataset: run.config.data.preset is None for run in runs},
        "curves": [row for run in runs for row in _curve_rows(run)],
        "cost": [run.named(run.result["cost"]) for run in runs],
        "selection": [
            run.named({"budget": entry["budget"], "groups": entry["groups"]})
            for run in runs
            for entry in run.result["curve"]
        ],
        "computed": computed_of(runs),
        "notes": [],
    }
    body["notes"] += computed_in_words(body["computed"])
    _add_scores(body, runs)
    return body, {(run.dataset, run.strategy, run.seed): _answers(run) for run in runs}


def _curve_rows(run: FinishedRun) -> list[Row]:
    curve = run.result["curve"]
    bill = bills(curve, needs_rounds=_needs_rounds(run))
    return [
        run.named({name: entry.get(name) for name in _CURVE}) | {"bill": spent}
        for entry, spent in zip(curve, bill, strict=True)
    ]


def _needs_rounds(run: FinishedRun) -> bool:
    """Whether the last model depends on the earlier ones."""
    if not run.config.rounds.restart:
        return True
    try:
        return bool(measurements(create(run.config.strategy).requires))
    except ActiveSelectError:  # its code is gone; what it measured, it needed
        return bool(run.result["cost"]["tokens_generated"] or run.result["cost"]["score_s"])


def _answers(run: FinishedRun) -> NDArray[np.bool_]:
    """Right or wrong after each stage, bool ``[B, E]``."""
    files = [
        run.folder / "predictions" / f"stage-{stage}.parquet"
        for stage in range(len(run.result["curve"]))
    ]
    try:
        return np.stack([pq.read_table(file)["correct"].to_numpy() for file in files])
    except (pa.ArrowException, OSError, ValueError) as error:
        raise StoreError(
            f"Cannot read the predictions in {run.folder}: {error}. Delete the folder and repeat "
            "the study's command; it runs that cell again."
        ) from error


def _add_scores(body: Row, runs: Sequence[FinishedRun]) -> None:
    """The data map of all runs, and examples of the first scored run of each strategy."""
    body |= {"data_map": [], "examples": [], "browsed": []}
    shown: set[tuple[str, str]] = set()
    maps: dict[tuple[str, str, int], list[Row]] = {}
    for run in runs:
        try:
            scored = scored_of(run.folder, run.config, run.result.get("pool_fingerprint", ""))
        except ActiveSelectError as error:
            scored = {"rounds": [], "scored": 0, "examples": [], "note": str(error)}
        if scored.get("note"):
            body["notes"].append(f"No scores of {run.folder} are shown: {scored['note']}")
        for row in scored["rounds"]:
            maps.setdefault((run.dataset, run.strategy, row["round"]), []).append(row)
        where = (run.dataset, run.strategy)
        if scored["examples"] and where not in shown:
            shown.add(where)
            body["examples"] += [run.named(row) for row in scored["examples"]]
            counts = {"shown": len(scored["examples"]), "scored": scored["scored"]}
            body["browsed"].append(run.named(counts))
    for (dataset, strategy, _), rows in maps.items():
        body["data_map"] += [
            {"preset": dataset, "strategy": strategy} | row for row in _mean_of_rounds(rows)
        ]


def _mean_of_rounds(rounds: Sequence[Row]) -> list[Row]:
    """One row per group: the mean over seeds of one round."""
    first = rounds[0]
    when = {name: first.get(name) for name in ("round", "stage", "epoch", "kind")}
    rows = []
    for group in sorted({group for row in rounds for group in row["groups"]}):
        cells = [row["groups"][group] for row in rounds if group in row["groups"]]
        counts = sum(cell["scored"] for cell in cells) / len(rounds)
        row = when | {"group": group, "scored": round(counts, 3), "seeds": len(rounds)}
        for name in MEASURES:
            values = [cell[name] for cell in cells if cell.get(name) is not None]
            row[name] = float(np.mean(values)) if values else None
        rows.append(row)
    return rows
