"""Recipe that is best for random selection: learning rates x epochs, judged on held-out examples.

A comparison of strategies is fair when the recipe was chosen for the baseline alone, on other seeds
and without the test set. The working folder::

    tune.json          the settings
    inputs.json        the files of data and model; compared at every start
    data/seed-1000/    train.parquet and held_out.parquet (not for a built-in preset)
    cells/             a run per recipe and seed
    result.json        the grid, what was chosen, and how sure that is
    recipe.yaml        the chosen recipe, for `--config`
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import yaml
from rich.console import Console
from rich.table import Table

from activeselect.config import (
    NO_TEST,
    DataConfig,
    PromptConfig,
    RecipeConfig,
    RoundsConfig,
    RunConfig,
    TuneConfig,
    differences,
    prompt_of,
    to_plain,
)
from activeselect.data.inputs import sources_of
from activeselect.errors import DataError, StoreError, StudyError
from activeselect.files import (
    make_folder,
    read_json,
    read_object,
    replacing,
    write_json,
    write_text,
)
from activeselect.streams import Stream
from activeselect.study.plan import Cell
from activeselect.study.study import check_inputs, run_cells

#: Settings that a working folder may be continued with other values of.
_EXTENDABLE = ("learning_rates", "epochs", "tuning_seeds", "workers")
_FEWEST = 20  # held-out problems; fewer tell no two recipes apart


def tune(config: TuneConfig, out: Path, *, console: Console | None = None) -> dict[str, Any]:
    """Try every recipe of the grid and choose the best.

    Args:
        config: all settings.
        out: working folder; a repeated call continues, also with a larger grid.
        console: where progress is told.

    Returns:
        ``chosen`` (the recipe of the highest accuracy, mean over sizes and seeds; of equals the one
        with fewer epochs, then the lower rate), ``grid``, ``noise``, ``notes`` and what was judged.

    Raises:
        StudyError: if a run fails, or no recipe reaches a single right answer.
        StoreError: if ``out`` holds a search with other settings, data or model.

    Example::

        config = TuneConfig(model="models/base", data=DataConfig("train.jsonl", checker="number"))
        found = tune(config, Path("tuned"))
        found["chosen"]    # {"learning_rate": 2e-05, "epochs": 6}
    """
    cells = tuning_cells(config, out)
    errors = run_cells(cells, out, workers=config.workers, console=console or Console(quiet=True))
    if errors:
        raise StudyError(f"{len(errors)} tuning runs failed, the first: {errors[0]}")
    found = choose(cells, out)
    found["tuning_seeds"] = list(config.tuning_seeds)
    found["judged_on"] = (
        f"{config.held_out:.0%} of the train set" if config.held_out else "the preset's test set"
    )
    write_json(out / "result.json", found)
    head = "# The recipe with the highest accuracy under random selection: result.json.\n"
    recipe = to_plain(found_recipe(config.recipe, found))
    write_text(out / "recipe.yaml", head + yaml.safe_dump({"recipe": recipe}, sort_keys=False))
    return found


def found_recipe(recipe: RecipeConfig, found: dict[str, Any]) -> RecipeConfig:
    """The recipe with what was chosen in it."""
    return replace(recipe, **found["chosen"])


def tuning_cells(config: TuneConfig, out: Path) -> list[Cell]:
    """The runs of a search, one per learning rate, number of epochs and seed.

    Raises:
        StoreError: if ``out`` holds a search with other settings, or whose data or model was
            changed since.
        DataError: if too few examples are held out, or too few are left.
    """
    _claim(config, out)
    parts = {seed: _split(config, out, seed) for seed in config.tuning_seeds}
    cells = []
    for rate, epochs, seed in itertools.product(
        config.learning_rates, config.epochs, config.tuning_seeds
    ):
        data, prompt, size = parts[seed]
        run = RunConfig(
            model=config.model,
            data=data,
            strategy="random",
            rounds=RoundsConfig(budgets=config.sizes or (size,)),
            recipe=replace(config.recipe, learning_rate=rate, epochs=epochs),
            scoring=config.scoring,
            prompt=prompt,
            seed=seed,
            accelerator=config.accelerator,
            forecast="off",
            save_model=False,
        )
        cells.append(Cell(f"rate-{rate:g}-epochs-{epochs}", "random", seed, run))
    return cells


def choose(cells: Sequence[Cell], out: Path) -> dict[str, Any]:
    """Compare the finished runs of a search.

    Raises:
        StudyError: if no run has a single right answer.
    """
    runs: dict[tuple[float, int], list[list[float]]] = {}
    judged = 0
    for cell in cells:
        result = read_json(out / cell.folder / "result.json")
        key = (cell.config.recipe.learning_rate, cell.config.recipe.epochs)
        runs.setdefault(key, []).append([entry["test_accuracy"] for entry in result["curve"]])
        judged += result["curve"][0]["test_examples"] if len(runs) == 1 else 0
    rows: list[dict[str, Any]] = [
        {
            "learning_rate": rate,
            "epochs": epochs,
            "accuracy": np.mean(curves, axis=0).round(4).tolist(),
            "mean": round(float(np.mean(curves)), 4),
        }
        for (rate, epochs), curves in runs.items()
    ]
    best = max(rows, key=lambda row: (row["mean"], -row["epochs"], -row["learning_rate"]))
    if best["mean"] == 0:
        raise StudyError(
            "No recipe reaches a single right answer on the held-out examples, so that nothing can "
            "be chosen. Check prompt and checker (`activeselect prompt show`), or try other "
            "learning_rates, more epochs and larger sizes."
        )
    # one right and one wrong answer more, so that a share of 1 is not taken for certain
    share = (best["mean"] * judged + 1) / (judged + 2)
    noise = 1.96 * math.sqrt(2 * share * (1 - share) / max(judged, 1))
    return {
        "chosen": {name: best[name] for name in ("learning_rate", "epochs")},
        "grid": rows,
        "judged": judged,
        "noise": round(noise, 4),
        "notes": _notes(rows, best, noise),
        "sizes": list(cells[0].config.rounds.budgets),
    }


def _notes(rows: list[dict[str, Any]], best: dict[str, Any], noise: float) -> list[str]:
    """What to know about the choice: what is as good, and whether the grid ends there."""
    near = [row for row in rows if row is not best and best["mean"] - row["mean"] < noise]
    found = []
    if near:
        names = ", ".join(f"{row['learning_rate']:g} x {row['epochs']}" for row in near)
        found.append(f"Within the noise of it ({noise:.1%}): {names}.")
    for name, what in (("learning_rate", "learning rate"), ("epochs", "number of epochs")):
        tried = sorted({row[name] for row in rows})
        if len(tried) > 1 and best[name] in (tried[0], tried[-1]):
            end = "largest" if best[name] == tried[-1] else "smallest"
            found.append(f"The chosen {what} is the {end} tried: a {end[:-3]}er one may be better.")
    return found


def table(found: dict[str, Any]) -> Table:
    """The grid for the terminal; the chosen recipe is marked."""
    sizes = [f"at {size}" for size in found["sizes"]]
    shown = Table("learning rate", "epochs", *sizes, "mean", "")
    for column in shown.columns[:-1]:
        column.justify = "right"
    for row in found["grid"]:
        mark = "chosen" if {**row, **found["chosen"]} == row else ""
        cells = [f"{value:.3f}" for value in (*row["accuracy"], row["mean"])]
        shown.add_row(f"{row['learning_rate']:g}", str(row["epochs"]), *cells, mark)
    return shown


def _claim(config: TuneConfig, out: Path) -> None:
    file, plain = out / "tune.json", to_plain(config)
    if file.exists():
        other = dict.fromkeys(_EXTENDABLE)
        changed = differences({**read_object(file), **other}, {**plain, **other})
        if changed:
            raise StoreError(
                f"{out} holds a search with other settings ({'; '.join(changed)}); use another "
                "folder, or the same settings."
            )
    make_folder(out)
    read = sources_of(_read_by_search(config.data))
    sources = {f"{part} set ({source})": source for part, source in read.items()}
    begun = any(out.glob("data/*/*.parquet")) or any(out.glob("cells/*/*/*/config.json"))
    check_inputs(out, config.model, sources, begun=begun)
    write_json(file, plain)


def _read_by_search(data: DataConfig) -> DataConfig:
    """The data without a test set of one's own, and without target questions.

    Random selection reads no target questions.
    """
    data = replace(data, target=None, target_limit=None)
    return data if data.preset else replace(data, test=NO_TEST)


def _split(
    config: TuneConfig, out: Path, seed: int
) -> tuple[DataConfig, str | PromptConfig | None, int]:
    """Data of a seed's runs, their prompt, and the size of the train set."""
    from activeselect.data.load import load_data

    if not config.held_out:  # a preset's test, drawn by a seed that no report uses
        data = _read_by_search(config.data)
        return data, config.prompt, len(load_data(data, seed=seed).pool)
    loaded = load_data(_read_by_search(config.data), seed=seed, labels_required=False)
    pool = loaded.pool
    labelled = np.flatnonzero(pool.is_labelled)
    rng = np.random.default_rng([seed, Stream.HELD_OUT])
    order = rng.permutation(labelled)
    count = round(len(order) * config.held_out)
    if count < _FEWEST or len(order) - count < max(config.sizes, default=1):
        raise DataError(
            f"held_out: expected at least {_FEWEST} held-out problems and "
            f"{max(config.sizes, default=1)} left to train on; {config.held_out:g} of the "
            f"{len(order)} labelled problems are {count}, which leaves {len(order) - count}."
        )
    folder = out / "data" / f"seed-{seed}"
    files = {"train": order[count:], "held_out": order[:count]}
    for name, index in files.items():
        file = folder / f"{name}.parquet"
        if not file.exists():
            make_folder(folder)
            with replacing(file) as part:
                rows = pool.subset(np.sort(index)).dataset.with_format("arrow")
                pq.write_table(rows[:], part)
    known = set(pool.dataset.column_names)
    names = ("question", "trace", "answer", "group", "id")
    roles: dict[str, Any] = {name: name for name in names if name in known}
    roles |= {"difficulty": "difficulty"} if pool.difficulty is not None else {}
    data = DataConfig(
        source=str(folder / "train.parquet"),
        test=str(folder / "held_out.parquet"),
        checker=pool.checker,
        on_leak="keep",
        **roles,
    )
    return data, prompt_of(config.prompt) or loaded.prompt, len(order) - count
