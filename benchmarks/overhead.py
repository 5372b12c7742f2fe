"""What selecting adds to the training of a run, and what it learns for it: ``--help``.

Each row is one run of the study that ``--config`` describes (first dataset, its budgets, recipe and
scoring as shipped), or a DataFlex run on the same model, problems and optimizer steps. One thread.

- *train*, *score*, *select*: processor seconds of fitting; of measuring examples; of all else that
  selection does (contexts, choosing, storing). Testing is in none.
- *adds*: (score + select) / train. *floor*: the same ratio in operations, for an engine that wastes
  none: 2 per parameter and token read or written while measuring, 6 per token trained on.
- *ms*: (score + select) per scored example.
- *rho*: rank correlation between a scored example's score and the test accuracy of its skill, both
  by the same model, mean over the run's selections; the interval resamples skills.
- *bits*: information about that accuracy in one score, ``-log2(1 - rho^2) / 2`` (as if normal).

*growth*: one round of scoring and selecting (every example of the train set, reweighting) for
several train-set sizes N; (score + select) grows as N to the fitted exponent.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import pyarrow.parquet as pq
import torch
import yaml
from clock import Clock
from dataflex_side import run_dataflex
from jsonargparse import ArgumentParser
from rich.console import Console
from rich.table import Table
from scipy.stats import spearmanr
from transformers import AutoModelForCausalLM

from activeselect.cli import find_config
from activeselect.config import RunConfig, ScoringConfig, StudyConfig
from activeselect.data.answers import get_checker
from activeselect.data.pool import Pool
from activeselect.errors import ActiveSelectError, ConfigError
from activeselect.scoring.scorer import LiveScorer
from activeselect.study.cell import quiet_worker
from activeselect.study.plan import plan
from activeselect.training.measurer import Measurer
from activeselect.training.recorder import Recorder
from activeselect.training.rounds import ActiveSelection
from activeselect.training.run import ActiveRun

HOW_TO_DATAFLEX = (
    "DataFlex's rows are left out: install it into an environment of its own (docs/performance.md, "
    "Overhead) and name that environment's python with --dataflex."
)
SELECTORS = ("loss", "delta_loss")
RESAMPLES = 400


@dataclass
class Row:
    """What one run took and learned; seconds on the processor, ``wall_*`` on the wall."""

    name: str
    train: float = 0.0
    score: float = 0.0
    select: float = 0.0
    wall_train: float = 0.0
    wall_score: float = 0.0
    wall_select: float = 0.0
    steps: int = 0
    scored: int = 0
    trained_tokens: int = 0
    read_tokens: int = 0
    generated_tokens: int = 0
    correlation: tuple[float, float, float] | None = None
    tokens_per_example: float = 0.0
    extra: dict[str, float] = field(default_factory=dict)

    @property
    def adds(self) -> float:
        return (self.score + self.select) / self.train

    @property
    def floor(self) -> float:
        return (self.read_tokens + self.generated_tokens) / (3 * self.trained_tokens)

    @property
    def milliseconds(self) -> float:
        return 1000 * (self.score + self.select) / self.scored if self.scored else 0.0

    @property
    def bits(self) -> float | None:
        return None if self.correlation is None else bits(self.correlation[0])

    def plain(self) -> dict[str, Any]:
        derived = ("adds", "floor", "milliseconds", "bits")
        return {**asdict(self), **{name: getattr(self, name) for name in derived}}


def bits(rho: float) -> float:
    """Mutual information of two normal variables with this correlation."""
    return -0.5 * math.log2(1 - min(rho * rho, 1 - 1e-12))


# --- our runs ----------------------------------------------------------------------------------


def shipped(name: str, seed: int) -> StudyConfig:
    """The study's config with one seed, which is a tuning seed."""
    settings = yaml.safe_load(Path(find_config(name)).read_text(encoding="utf-8"))
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(StudyConfig, "study")
    parsed = parser.parse_object({"study": {**settings, "seeds": [seed]}})
    config: StudyConfig = parser.instantiate(parsed)["study"]
    return replace(config, data=config.data[:1])


def run_config(study: StudyConfig, label: str) -> RunConfig:
    return next(cell.config for cell in plan(study) if cell.strategy == label)


def paper(config: RunConfig) -> RunConfig:
    """Five completions of every train example after every epoch, as in arXiv 2411.07681."""
    ours = config.scoring
    scoring = ScoringConfig(
        samples=5,
        policy="exact",
        max_new_tokens=ours.max_new_tokens,
        batch_tokens=ours.batch_tokens,
        tau=ours.tau,
    )
    return replace(
        config,
        strategy="premem",
        scoring=scoring,
        rounds=replace(config.rounds, score_every=1, score_until=None),
    )


class _Counting:
    """Counts examples that are scored, and tokens read for it: a question once for its samples."""

    def __init__(self) -> None:
        self.examples = self.tokens = 0

    def scored(self, _: Any, recorder: Recorder, model: Any, index: Any, **__: Any) -> None:
        self.examples += len(index)

    def read(
        self, _: Any, measurer: Measurer, model: Any, index: Any, what: frozenset[str], **__: Any
    ) -> None:
        items = measurer.encode(index)
        self.tokens += sum(len(item.ids) for item in items) * bool(what - {"samples"})
        self.tokens += sum(item.start for item in items) * ("samples" in what)


@contextmanager
def _watched() -> Iterator[tuple[Clock, _Counting]]:
    clock, counting = Clock(), _Counting()
    clock.watch(lightning.Trainer, "fit", "train")
    for method in ("begin", "end_epoch", "acquire"):
        clock.watch(ActiveSelection, method, "select")
    clock.watch(Recorder, "score", "score", counting.scored)
    clock.watch(Recorder, "before", "score", counting.scored)
    clock.watch(Measurer, "measure", "score", counting.read)
    clock.watch(Measurer, "vectors", "score")
    try:
        yield clock, counting
    finally:
        clock.forget()


def timed(name: str, config: RunConfig, where: Path, signal: str | None = None) -> Row:
    """One run; with a signal, what it says about the skills' test accuracy."""
    with _watched() as (clock, counting):
        run = ActiveRun(config)
        result = run.run(where)
    recipe, rounds = config.recipe, config.rounds
    row = Row(
        name,
        steps=sum(-(-size // recipe.batch_size) * recipe.epochs for size in rounds.budgets),
        scored=counting.examples,
        trained_tokens=int(result.cost["tokens_trained"]),
        read_tokens=counting.tokens,
        generated_tokens=int(result.cost["tokens_generated"]),
    )
    _fill(row, clock.cpu, clock.wall)
    row.tokens_per_example = row.trained_tokens / max(1, int(result.cost["samples_seen"]))
    if signal is not None:
        row.correlation = correlation(_decisions(run, where, signal))
    return row


def _fill(row: Row, cpu: Any, wall: Any) -> None:
    for part in ("train", "score", "select"):
        setattr(row, part, cpu.get(part, 0.0))
        setattr(row, f"wall_{part}", wall.get(part, 0.0))


#: One selection: scores of the examples looked at, their groups, test accuracy of every group.
Decision = tuple[np.ndarray, np.ndarray, np.ndarray]


def _decisions(run: ActiveRun, where: Path, signal: str) -> list[Decision]:
    """Of each stage that chose: its newest scores, and how well its model did on the test."""
    newest = {}  # of each stage
    for file in sorted((where / "scores").glob("round-*.parquet")):
        scored = pq.read_table(file)
        newest[scored["stage"][0].as_py()] = scored
    groups, found = run.data.pool.groups, []
    for stage in range(len(run.budgets) - 1):
        table = newest[stage]
        index, score = table["index"].to_numpy(), table[signal].to_numpy()
        answers = pq.read_table(where / "predictions" / f"stage-{stage}.parquet")
        found.append((score, groups[index], by_group(run, answers["correct"].to_numpy())))
    return found


def by_group(run: ActiveRun, correct: np.ndarray) -> np.ndarray:
    """Test accuracy of each of the pool's groups, float64 ``[G]``; NaN if it is not tested."""
    pool, test = run.data.pool, run.data.test
    assert test is not None
    of = np.array([pool.group_names.index(test.group_names[g]) for g in test.groups])
    right = np.bincount(of, correct.astype(float), len(pool.group_names))
    with np.errstate(invalid="ignore"):
        return right / np.bincount(of, minlength=len(pool.group_names))


def correlation(decisions: Sequence[Decision]) -> tuple[float, float, float] | None:
    """Mean rank correlation over the selections, and its 95% interval over resampled groups."""
    if not decisions:
        return None
    groups = len(decisions[0][2])
    rng = np.random.default_rng(0)
    drawn = [_mean(decisions, rng.integers(0, groups, groups)) for _ in range(RESAMPLES)]
    low, high = np.nanquantile(drawn, [0.025, 0.975])
    return _mean(decisions, np.arange(groups)), float(low), float(high)


def _mean(decisions: Sequence[Decision], chosen: np.ndarray) -> float:
    found = []
    for score, group, accuracy in decisions:
        times = np.bincount(chosen, minlength=len(accuracy))[group]
        rows = np.repeat(np.arange(len(group)), times)
        x, y = score[rows], accuracy[group[rows]]
        known = np.isfinite(x) & np.isfinite(y)
        x, y = x[known], y[known]
        if len(x) < 2 or np.ptp(x) == 0 or np.ptp(y) == 0:
            found.append(0.0 if len(x) else np.nan)  # a constant tells nothing
        else:
            found.append(float(spearmanr(x, y).statistic))
    return float(np.mean(found))


# --- DataFlex ----------------------------------------------------------------------------------


def dataflex(python: str, selector: str, config: RunConfig, where: Path) -> Row:
    """A DataFlex run: as many steps before its first selection, and as many selections."""
    run = ActiveRun(config)
    recipe, pool = config.recipe, run.data.pool
    steps = [-(-size // recipe.batch_size) * recipe.epochs for size in run.budgets]
    later = round(sum(steps[1:]) / len(steps[1:]))
    schedule = [steps[0], *[later] * len(steps[1:])]
    written = run_dataflex(
        python,
        selector,
        model=config.model,
        pool=pool,
        end=run.tokenizer.eos_token,
        recipe=recipe,
        steps=schedule,
        seed=config.seed,
        where=where,
    )
    tokens = float(np.mean(_lengths(run, pool)))
    passes = written["passes"]
    row = Row(
        f"DataFlex {selector}",
        steps=sum(schedule),
        scored=sum(len(found["scores"]) for found in passes),
        trained_tokens=round(sum(schedule) * recipe.batch_size * tokens),
        tokens_per_example=tokens,
    )
    row.read_tokens = round(row.scored * tokens)
    _fill(row, written["cpu"], written["wall"])
    scores = [np.array(found["scores"]) for found in passes]
    if selector == "delta_loss":  # of the first loss; the first selection is random
        scores, passes = [scores[0] - later for later in scores[1:]], passes[1:]
    row.correlation = correlation(
        [
            (score, pool.groups, by_group(run, _answered(run, found["model"])))
            for score, found in zip(scores, passes, strict=True)
        ]
    )
    return row


def _lengths(run: ActiveRun, pool: Pool) -> list[int]:
    from activeselect.data.prompts import encode

    return [len(i.ids) for i in encode(pool, np.arange(len(pool)), run.tokenizer, run.prompt)]


def _answered(run: ActiveRun, model: str) -> np.ndarray:
    """Right or wrong per test problem, greedy."""
    test = run.data.test
    assert test is not None
    scorer = LiveScorer(run.tokenizer, get_checker(test.checker), run.config.scoring)
    loaded = AutoModelForCausalLM.from_pretrained(model, use_safetensors=True)
    answers = test.dataset["answer"][:]
    correct = scorer.evaluate(loaded, run.test_items, answers).correct
    assert correct is not None
    return correct[:, 0]


# --- growth ------------------------------------------------------------------------------------


def growth(config: RunConfig, sizes: Sequence[int], where: Path) -> list[Row]:
    """One scored round of each size; trained as short as the config's first round asks for."""
    rows = []
    for size in sizes:
        pool = max(size, config.data.pool_size or 0)
        rounds = replace(config.rounds, mode="reweight", budgets=(size,))
        rows.append(
            timed(
                f"N = {size}",
                replace(
                    config,
                    data=replace(config.data, pool_size=pool, test_limit=20),
                    rounds=rounds,
                    recipe=replace(config.recipe, epochs=rounds.score_every),
                ),
                where / str(size),
            )
        )
    return rows


def exponent(rows: Sequence[Row]) -> float:
    """Slope of log (score + select) over log N."""
    cost = [math.log(row.score + row.select) for row in rows]
    return float(np.polyfit([math.log(row.scored) for row in rows], cost, 1)[0])


# --- the command -------------------------------------------------------------------------------


def table(rows: Sequence[Row]) -> Table:
    made = Table(title="overhead of selection; seconds on one thread, (wall)")
    heads = ("run", "steps", "train", "score", "select", "adds", "(wall)", "floor", "scored")
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
            f"{row.floor:.0%}",
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
        yield dataflex(options.dataflex, selector, ours, where / selector)


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
    grown: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        where = Path(folder)
        with _silent():
            for row in rows_of(options, study, where):
                rows.append(row)
                print(f"{row.name}: adds {row.adds:.0%}", file=sys.__stderr__, flush=True)
            grown = growth(ours, options.sizes, where / "growth")
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
    }
    for row in grown:
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
    parser.add_argument("--rows", nargs="*", default=["none", "paper", "ours", "loss"],
                        choices=["none", "paper", "ours", "loss"])  # fmt: skip
    parser.add_argument("--budgets", type=int, nargs="+", help="instead of the config's")
    parser.add_argument("--pool-size", type=int, help="instead of the config's")
    parser.add_argument("--test-size", type=int, help="instead of the config's")
    parser.add_argument("--sizes", type=int, nargs="*", default=[300, 1200, 4800])
    parser.add_argument("--dataflex", metavar="PYTHON", help="interpreter that has DataFlex 1.1.0")
    parser.add_argument("--json", type=Path, help="write all figures there, too")
    return parser.parse_args()


if __name__ == "__main__":
    main()
