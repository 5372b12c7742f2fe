"""What selecting adds to the training of a run, and what it learns for it: ``--help``.

Each row is one run of the study that ``--config`` describes (first dataset, its budgets, recipe and
scoring as shipped), or a DataFlex run on the same model, problems and optimizer steps. One thread.

- *train*, *score*, *select*: processor seconds of fitting; of measuring examples; of all else that
  selection does (contexts, choosing, storing). Testing is in none.
- *adds*: (score + select) / train. *ops*: the same ratio in operations, which is what it would be
  if training and measuring used the machine equally well: 2 operations per parameter and token
  read or written while measuring, 6 per token trained on.
- *ms*: (score + select) per scored example.
- *rho*: rank correlation between a scored example's score and the test accuracy of its skill, both
  by the same model, mean over the run's selections; the interval resamples skills.
- *bits*: information about that accuracy in one score, ``-log2(1 - rho^2) / 2`` (as if normal).

*growth*: one round of scoring and selecting (every example of the train set, reweighting) for
several train-set sizes N; (score + select) grows as N to the fitted exponent. The same for several
numbers n of completions at the middle one of these sizes.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from overhead_runs import (
    Row,
    dataflex,
    exponent,
    growth,
    growth_in_samples,
    paper,
    run_config,
    shipped,
    timed,
)
from rich.console import Console
from rich.table import Table

from activeselect.config import RunConfig, StudyConfig
from activeselect.errors import ActiveSelectError, ConfigError
from activeselect.study.cell import quiet_worker

HOW_TO_DATAFLEX = (
    "DataFlex's rows are left out: install it into an environment of its own "
    "(docs/research/performance.md, Overhead) and name that environment's python with --dataflex."
)
ROWS = ("none", "paper", "ours", "loss")
SELECTORS = ("loss", "delta_loss")


def table(rows: Sequence[Row]) -> Table:
    made = Table(title="overhead of selection; seconds on one thread, (wall)")
    heads = ("run", "steps", "train", "score", "select", "adds", "(wall)", "ops", "scored")
    for head in (*heads, "generated", "ms", "rho (95%)", "bits", "ms/bit"):
        made.add_column(head, justify="left" if head == "run" else "right")
    for row in rows:
        wall = (row.wall_score + row.wall_select) / row.wall_train
        seconds = (
            f"{getattr(row, part):.1f} ({getattr(row, 'wall_' + part):.1f})"
            for part in ("train", "score", "select")
        )
        rho = row.correlation
        made.add_row(
            row.name,
            str(row.steps),
            *seconds,
            f"{row.adds:.0%}",
            f"({wall:.0%})",
            f"{row.operations:.0%}",
            f"{row.scored:,}",
            f"{row.generated_tokens:,}",
            f"{row.milliseconds:.2f}" if row.scored else "",
            "" if rho is None else f"{rho[0]:+.2f} ({rho[1]:+.2f}, {rho[2]:+.2f})",
            "" if row.bits is None else f"{row.bits:.3f}",
            f"{row.milliseconds / row.bits:.1f}" if row.bits else "",
        )
    return made


def rows_of(options: argparse.Namespace, study: StudyConfig, where: Path) -> Iterator[Row]:
    ours = run_config(study, options.strategy)
    runs: dict[str, Callable[[], Row]] = {
        "none": lambda: timed("none (random)", replace(ours, strategy="random"), where / "none"),
        "paper": lambda: timed("paper's protocol", paper(ours), where / "paper", "premem"),
        "ours": lambda: timed(f"ours ({options.strategy})", ours, where / "ours", "premem"),
        "loss": lambda: timed(
            "ours, loss only", replace(ours, strategy="loss"), where / "loss", "mean_nll"
        ),
    }
    timed("warm-up", _tiny(ours), where / "warm-up")  # imports and first calls, on no row
    for name in options.rows:
        yield runs[name]()
    for selector in SELECTORS if options.dataflex else ():
        yield dataflex(options.dataflex, selector, ours, where / f"dataflex-{selector}")


def _tiny(config: RunConfig) -> RunConfig:
    return replace(
        config,
        data=replace(config.data, pool_size=60, test_limit=20),
        rounds=replace(config.rounds, budgets=(16, 32)),
        recipe=replace(config.recipe, epochs=config.rounds.score_every),
    )


def main() -> None:
    options = _options()
    console = Console(width=None if sys.stdout.isatty() else 180)
    try:
        found = _measure(options, console)
    except ActiveSelectError as error:
        print(f"overhead.py: {error}", file=sys.stderr)
        sys.exit(2)
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")


def _measure(options: argparse.Namespace, console: Console) -> dict[str, Any]:
    study = shipped(options.config, options.seed)
    if options.strategy not in study.strategies:
        names = ", ".join(study.strategies)
        raise ConfigError(f"--strategy: expected one of {names}; received {options.strategy}.")
    if options.budgets:
        study = replace(study, rounds=replace(study.rounds, budgets=tuple(options.budgets)))
    if options.dataflex and shutil.which(options.dataflex) is None:
        raise ConfigError(
            f"--dataflex: expected a python that has DataFlex 1.1.0; received {options.dataflex}, "
            "which is no program."
        )
    sizes = {"pool_size": options.pool_size, "test_limit": options.test_size}
    given = {name: size for name, size in sizes.items() if size is not None}
    study = replace(study, data=(replace(study.data[0], **given),))
    ours = run_config(study, options.strategy)
    torch.set_num_threads(1)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        where = Path(folder)
        with _silent():
            for row in rows_of(options, study, where):
                rows.append(row)
                print(f"{row.name}: adds {row.adds:.0%}", file=sys.__stderr__, flush=True)
            grown = growth(ours, options.sizes, where / "growth")
            middle = sorted(options.sizes)[len(options.sizes) // 2]
            sampled = growth_in_samples(ours, options.samples, middle, where / "samples")
    console.print(table(rows))
    words = ", ".join(f"{row.name} {row.tokens_per_example:.1f}" for row in rows)
    console.print(f"tokens per trained example: {words}", highlight=False)
    if not options.dataflex:
        console.print(HOW_TO_DATAFLEX, highlight=False)
    found: dict[str, Any] = {
        "config": options.config,
        "seed": options.seed,
        "rows": [row.plain() for row in rows],
        "growth": [row.plain() for row in grown],
        "samples": [row.plain() for row in sampled],
    }
    for row in [*grown, *sampled]:
        spent = row.score + row.select
        console.print(
            f"growth: {row.name}: {spent:.2f} s, {row.milliseconds:.2f} ms each", highlight=False
        )
    if len(grown) > 1:
        found["exponent"] = exponent(grown)
        console.print(f"growth: as N^{found['exponent']:.2f}", highlight=False)
    return found


@contextmanager
def _silent() -> Iterator[None]:
    with quiet_worker(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", default="quickstart", help="a study's YAML, or a shipped name")
    parser.add_argument("--strategy", default="premem", help="label of ours in the config")
    parser.add_argument("--seed", type=int, default=1000, help="a tuning seed (default 1000)")
    parser.add_argument("--rows", nargs="*", default=ROWS, choices=ROWS)
    parser.add_argument("--budgets", type=int, nargs="+", help="instead of the config's")
    parser.add_argument("--pool-size", type=int, help="instead of the config's")
    parser.add_argument("--test-size", type=int, help="instead of the config's")
    parser.add_argument("--sizes", type=int, nargs="+", default=[300, 1200, 4800])
    parser.add_argument("--samples", type=int, nargs="*", default=[1, 2, 4, 8])
    parser.add_argument("--dataflex", metavar="PYTHON", help="interpreter that has DataFlex 1.1.0")
    parser.add_argument("--json", type=Path, help="write all figures there, too")
    return parser.parse_args()


if __name__ == "__main__":
    main()
