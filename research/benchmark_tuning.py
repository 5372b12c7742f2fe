"""How the built-in presets are prepared: the baseline's recipe and the oracle's curves.

Both are measured on tuning seeds, whose test questions are in no test set that a study reports on.
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
from joblib import Parallel, delayed
from numpy.typing import NDArray
from rich.console import Console

from activeselect.config import (
    BUILT_IN_MODEL,
    DataConfig,
    RecipeConfig,
    RoundsConfig,
    RunConfig,
    ScoringConfig,
    TuneConfig,
)
from activeselect.data.skills import TUNING_SEED, build_preset, get_preset, tuning
from activeselect.data.skills.presets import tuning_file
from activeselect.errors import StudyError
from activeselect.files import read_json, write_json
from activeselect.study.tune import tune
from research.script import run_script

SCRIPT = "python -m research.benchmark_tuning"
BUDGETS = (300, 900)
LEARNING_RATES = (1e-3, 2e-3, 4e-3)
EPOCHS = (4, 8, 16)
PER_GROUP = (10, 20, 40, 80, 160, 320)
#: Completions of the benchmark are short; the longest trace has fewer tokens.
SCORING = ScoringConfig(samples=4, max_new_tokens=48)

Row = dict[str, Any]


def tune_recipe(
    preset: str,
    out: Path,
    *,
    seeds: int,
    workers: int,
    batch_size: int,
    console: Console,
    model: str = BUILT_IN_MODEL,
    learning_rates: Sequence[float] = LEARNING_RATES,
) -> Row:
    """Find the recipe that is best for random selection, and for nothing else.

    Args:
        preset: name of a built-in preset.
        out: working folder; a repeated call continues.
        seeds: tuning seeds, from ``TUNING_SEED``.
        model: to fine-tune.
        learning_rates: to try, each with every number of ``EPOCHS``.

    Returns:
        ``chosen`` (the recipe of the highest accuracy, mean over budgets and seeds), ``grid`` and
        where they come from.
    """
    config = TuneConfig(
        model=model,
        data=DataConfig(f"skills:{preset}"),
        recipe=RecipeConfig(batch_size=batch_size),
        scoring=SCORING,
        learning_rates=tuple(learning_rates),
        epochs=EPOCHS,
        sizes=BUDGETS,
        tuning_seeds=tuple(TUNING_SEED + i for i in range(seeds)),
        workers=workers,
    )
    found = tune(config, out / f"recipe-{preset}-{batch_size}", console=console)
    command = f"{SCRIPT} recipe --preset {preset} --seeds {seeds} --out work"
    if model != BUILT_IN_MODEL:
        command += f" --model {model} --learning_rates '{list(learning_rates)}'"
    return {
        "chosen": {**found["chosen"], "batch_size": batch_size},
        "grid": found["grid"],
        "budgets": list(BUDGETS),
        "seeds": found["tuning_seeds"],
        "command": command,
    }


def measure_curves(
    preset: str, recipe: RecipeConfig, out: Path, *, seeds: int, workers: int, console: Console
) -> Row:
    """Measure each test group's accuracy against its number of examples.

    Every run trains on the same number of examples of all groups of the test; two more leave out
    the mastered or the other groups, which gives accuracy at 0 (what is never repeated may fade).

    Returns:
        ``curves``: group -> ``{"examples": [...], "accuracy": [...]}``, and where they come from.
    """
    numbers = [TUNING_SEED + 100 + i for i in range(seeds)]
    jobs = list(itertools.product((0, *PER_GROUP), numbers))
    points: dict[str, dict[int, list[float]]] = {}
    runs = Parallel(n_jobs=workers or -1, return_as="generator")(
        delayed(_curve_points)(preset, recipe, out, count, seed) for count, seed in jobs
    )
    for (count, seed), found in zip(jobs, runs, strict=True):
        console.print(f"{preset}: {count} per group, seed {seed}", highlight=False)
        for group, accuracy in found.items():
            points.setdefault(group, {}).setdefault(count, []).append(accuracy)
    curves = {
        group: {
            "examples": sorted(by_count),
            "accuracy": [round(float(np.mean(by_count[n])), 4) for n in sorted(by_count)],
        }
        for group, by_count in sorted(points.items())
    }
    return {
        "curves": curves,
        "seeds": numbers,
        "command": f"{SCRIPT} oracle --preset {preset} --seeds {seeds} --out work",
    }


def _curve_points(
    preset: str, recipe: RecipeConfig, out: Path, count: int, seed: int
) -> dict[str, float]:
    """Accuracy per group after training on ``count`` examples of each (of the others, if 0)."""
    from activeselect.study.cell import quiet_worker
    from activeselect.training.run import ActiveRun

    with quiet_worker():
        pool_size = _pool_size(preset, seed)
        data = build_preset(preset, seed, pool_size=pool_size)
        mastered = set(data.preset.mastered)
        tested = list(data.preset.test_mass)
        if count:
            parts = [dict.fromkeys(tested, count)]
        elif mastered:
            easy, hard = (
                [name for name in tested if (name in mastered) == wanted]
                for wanted in (True, False)
            )
            parts = [dict.fromkeys(easy, 40), dict.fromkeys(hard, 80)]
        else:  # alike groups: leave out every other one, in turn
            parts = [dict.fromkeys(tested[0::2], 40), dict.fromkeys(tested[1::2], 40)]
        found: dict[str, float] = {}
        for number, part in enumerate(parts):
            initial = _positions(data.pool.groups, data.pool.group_names, part, seed)
            config = RunConfig(
                data=DataConfig(f"skills:{preset}", pool_size=pool_size),
                strategy="random",
                rounds=RoundsConfig(budgets=(len(initial),)),
                recipe=recipe,
                scoring=SCORING,
                seed=seed,
                save_model=False,
            )
            folder = out / f"curve-{preset}-{count}-{number}" / f"seed-{seed}"
            ActiveRun(config, initial=initial).run(folder)
            correct = pq.read_table(folder / "predictions" / "stage-0.parquet")["correct"]
            for code, name in enumerate(data.test.group_names):
                if count or name not in part:
                    rows = data.test.groups == code
                    found[name] = float(correct.to_numpy()[rows].mean())
        return found


def _pool_size(preset: str, seed: int) -> int:
    """Large enough that no group of the test runs out at the largest number per group."""
    chosen = get_preset(preset).drawn(seed)
    rarest = min(chosen.pool_mass[name] for name in chosen.test_mass)
    return max(12_000, 4_000 * math.ceil(max(PER_GROUP) / rarest / 4_000))


def _positions(
    groups: NDArray[np.int32], names: Sequence[str], wanted: dict[str, int], seed: int
) -> NDArray[np.int64]:
    rng = np.random.default_rng([seed, 7])
    chosen = []
    for name, count in wanted.items():
        members = np.flatnonzero(groups == names.index(name))
        if len(members) < count:
            raise StudyError(f"The pool has {len(members)} problems of '{name}'; needed: {count}.")
        chosen.append(rng.choice(members, count, replace=False))
    return np.concatenate(chosen)


def recipe(
    preset: str,
    out: Path,
    seeds: int = 2,
    batch_size: int = 16,
    workers: int = 0,
    model: str = BUILT_IN_MODEL,
    learning_rates: tuple[float, ...] = (1e-3, 2e-3, 4e-3),
) -> None:
    """Find the training recipe that is best for random selection on a preset.

    Args:
        preset: built-in preset.
        out: working folder; the same command continues what is in it.
        seeds: tuning seeds; their tests are used for nothing else.
        batch_size: of all recipes tried.
        workers: processes side by side; 0 = one per core.
        model: to fine-tune; what is found for a model of yours is written into `out`.
        learning_rates: to try, each with 4, 8 and 16 epochs.
    """
    console = Console()
    found = tune_recipe(
        preset,
        out,
        seeds=seeds,
        workers=workers,
        batch_size=batch_size,
        console=console,
        model=model,
        learning_rates=learning_rates,
    )
    if model == BUILT_IN_MODEL:
        _keep_measurement(preset, "recipe", found, console)
        return
    file = out / f"recipe-{preset}.json"
    write_json(file, found)
    console.print_json(data=found)
    console.print(f"Written to {file}", highlight=False, markup=False)


def oracle(preset: str, out: Path, seeds: int = 2, workers: int = 0) -> None:
    """Measure the learning curve of each group of a preset, for its oracle.

    Args:
        preset: built-in preset.
        out: working folder; the same command continues what is in it.
        seeds: tuning seeds; their tests are used for nothing else.
        workers: processes side by side; 0 = one per core.
    """

    console = Console()
    best = replace(RecipeConfig(), **tuning(preset)["recipe"]["chosen"])
    found = measure_curves(preset, best, out, seeds=seeds, workers=workers, console=console)
    _keep_measurement(preset, "oracle", found, console)


def _keep_measurement(preset: str, part: str, found: dict[str, Any], console: Console) -> None:

    file = tuning_file(preset)
    known = read_json(file) if file.exists() else {}
    write_json(file, {**known, part: found})
    console.print_json(data=found if part == "recipe" else found["curves"])
    console.print(f"Written to {file}", highlight=False, markup=False)


if __name__ == "__main__":
    run_script(recipe, oracle)
