"""From finished cells to ``results.json``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from activeselect.config import StudyConfig, to_plain
from activeselect.environment import environment
from activeselect.files import read_json
from activeselect.forecast.regressor import TestAccuracyRegressor
from activeselect.scoring.store import ScoreStore
from activeselect.study.curve_set import CurveSet
from activeselect.study.efficiency import analyse
from activeselect.study.plan import FROM_PRESET, Cell

SCHEMA_VERSION = 1
_EXAMPLES = 60  # problems in the report's browser, per dataset
_FEWEST_RUNS = 3  # below that, leaving one run out leaves nothing to fit on

Row = dict[str, Any]


def collect(config: StudyConfig, cells: Sequence[Cell], out: Path) -> Row:
    """Everything the report says, from the folders of the finished cells.

    Only seeds that every strategy has finished enter the paired comparison.

    Returns:
        The content of ``results.json`` (``docs/results.md`` describes each field).
    """
    finished = [(cell, read_json(out / cell.folder / "result.json")) for cell in cells]
    datasets = list(dict.fromkeys(cell.dataset for cell in cells))
    body: Row = {
        "schema_version": SCHEMA_VERSION,
        "config": to_plain(config),
        "environment": environment(),
        "datasets": datasets,
        "recipes": {cell.dataset: to_plain(cell.config.recipe) for cell in cells},
        "curves": [row for cell, result in finished for row in _curve_rows(cell, result)],
        "efficiency": [],
        "targets": [],
        "gain": [],
        "oracle_share": [],
        "verdicts": [],
        "cost": [_named(cell, result["cost"]) for cell, result in finished],
        "selection": [row for cell, result in finished for row in _selection_rows(cell, result)],
        "examples": [row for cell in _browsed(cells, out) for row in _example_rows(cell, out)],
    }
    for dataset in datasets:
        _compare(config, [cell for cell in cells if cell.dataset == dataset], out, body)
    body["forecast"] = _forecast(config, body["curves"])
    return body


def _named(cell: Cell, row: Row) -> Row:
    return {"preset": cell.dataset, "strategy": cell.strategy, "seed": cell.seed, **row}


def _curve_rows(cell: Cell, result: Row) -> list[Row]:
    kept = (
        "budget",
        "unique_examples",
        "samples_seen",
        "test_accuracy",
        "test_examples",
        "premem",
    )
    return [_named(cell, {name: entry[name] for name in kept}) for entry in result["curve"]]


def _selection_rows(cell: Cell, result: Row) -> list[Row]:
    return [
        _named(cell, {"budget": entry["budget"], "groups": entry["groups"]})
        for entry in result["curve"]
    ]


# --- the paired comparison -------------------------------------------------------------------


def _compare(config: StudyConfig, cells: Sequence[Cell], out: Path, body: Row) -> None:
    seeds = _complete_seeds(config, cells)
    if not seeds or len(config.strategies) < 2:
        return
    budgets = config.rounds.budgets
    by_key = {(cell.strategy, cell.seed): cell for cell in cells}
    answers = {
        label: np.stack([_answers(by_key[label, seed], out, len(budgets)) for seed in seeds])
        for label in config.strategies
    }
    curves = CurveSet(budgets, answers, shared_test=cells[0].config.data.preset is None)
    oracle = next((name for name, spec in config.strategies.items() if spec == FROM_PRESET), None)
    analysis = analyse(
        curves,
        config.baseline,
        oracle=oracle,
        level=config.level,
        rng=np.random.default_rng(0),
    )
    preset = {"preset": cells[0].dataset}
    body["efficiency"] += [preset | row for row in analysis.efficiency]
    body["targets"] += [preset | row for row in analysis.targets]
    body["gain"] += [preset | row for row in analysis.gain]
    body["oracle_share"] += [preset | row for row in analysis.oracle_share]
    body["verdicts"] += [f"{cells[0].dataset}: {text}" for text in analysis.verdicts]


def _complete_seeds(config: StudyConfig, cells: Sequence[Cell]) -> list[int]:
    have = {(cell.strategy, cell.seed) for cell in cells}
    return [
        seed for seed in config.seeds if all((label, seed) in have for label in config.strategies)
    ]


def _answers(cell: Cell, out: Path, budgets: int) -> NDArray[np.bool_]:
    """Right or wrong after each stage, bool ``[B, E]``."""
    folder = out / cell.folder / "predictions"
    tables = [pq.read_table(folder / f"stage-{stage}.parquet") for stage in range(budgets)]
    return np.stack([table["correct"].to_numpy() for table in tables])


# --- the forecast ----------------------------------------------------------------------------


def _forecast(config: StudyConfig, curves: Sequence[Row]) -> Row:
    """Test accuracy forecast from premem, each run by a regressor that never saw the run."""
    rows = [row for row in curves if row["premem"] is not None]
    runs = [f"{row['preset']}/{row['strategy']}/{row['seed']}" for row in rows]
    names = sorted(set(runs))
    blank: Row = {
        "protocol": "leave-one-run-out",
        "r2": None,
        "mae": None,
        "tau": config.scoring.tau,
        "n_checkpoints": len(rows),
        "points": [],
    }
    if len(names) < _FEWEST_RUNS:
        return blank | {
            "note": f"{len(names)} runs measured premem; a forecast needs at least {_FEWEST_RUNS}."
        }
    x = np.array([[row["premem"]] for row in rows])
    y = np.array([row["test_accuracy"] for row in rows])
    code = np.array([names.index(run) for run in runs])
    forecast, bounds = np.zeros(len(y)), np.zeros((len(y), 2))
    for run in range(len(names)):
        rest, held = code != run, code == run
        model = TestAccuracyRegressor().fit(x[rest], y[rest], groups=code[rest])
        forecast[held] = model.predict(x[held])
        bounds[held] = model.predict_interval(x[held], level=0.9)
    spread = float(((y - y.mean()) ** 2).sum())
    points = [
        {name: row[name] for name in ("preset", "strategy", "seed", "budget", "premem")}
        | {
            "forecast": float(forecast[i]),
            "low": float(bounds[i, 0]),
            "high": float(bounds[i, 1]),
            "test_accuracy": row["test_accuracy"],
        }
        for i, row in enumerate(rows)
    ]
    return blank | {
        "r2": 1.0 - float(((y - forecast) ** 2).sum()) / spread if spread else None,
        "mae": float(np.abs(y - forecast).mean()),
        "points": points,
        "note": f"{len(names)} runs; 90% intervals; the metric's tau is fixed beforehand.",
    }


# --- the example browser ---------------------------------------------------------------------


def _browsed(cells: Sequence[Cell], out: Path) -> list[Cell]:
    """One run per dataset whose examples are shown: the first that scored any."""
    chosen: dict[str, Cell] = {}
    for cell in cells:
        if any((out / cell.folder / "scores").glob("*.parquet")):
            chosen.setdefault(cell.dataset, cell)
    return list(chosen.values())


def _example_rows(cell: Cell, out: Path) -> list[Row]:
    from activeselect.data.load import load_data

    pool = load_data(cell.config.data, seed=cell.seed).pool
    store = ScoreStore(out / cell.folder / "scores", pool.fingerprint, pool_size=len(pool))
    last = store.rounds()[-1]
    table = store.read(last).slice(0, _EXAMPLES).to_pydict()
    rows = []
    for i, position in enumerate(table["index"]):
        problem = pool[position]
        rows.append(
            _named(
                cell,
                {
                    "question": problem.question,
                    "trace": problem.trace,
                    "answer": problem.answer,
                    "group": problem.group,
                    "premem": table["premem"][i] if "premem" in table else None,
                    "completions": table.get("completions", [[]] * len(table["index"]))[i],
                },
            )
        )
    return rows
