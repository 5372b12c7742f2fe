"""The runs that ``overhead.py`` compares: what each took, and what its scores told."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import pyarrow.parquet as pq
import yaml
from clock import Clock
from dataflex_side import run_dataflex
from information import Decision, bits, by_group, correlation
from jsonargparse import ArgumentParser
from transformers import AutoModelForCausalLM

from activeselect.cli import find_config
from activeselect.config import RunConfig, ScoringConfig, StudyConfig
from activeselect.data.answers import get_checker
from activeselect.data.prompts import encode
from activeselect.scoring.scorer import LiveScorer
from activeselect.study.plan import plan
from activeselect.training.callback import ActiveSelection
from activeselect.training.measure import Measurer
from activeselect.training.run import ActiveRun


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

    @property
    def adds(self) -> float:
        return (self.score + self.select) / self.train

    @property
    def operations(self) -> float:
        return (self.read_tokens + self.generated_tokens) / (3 * self.trained_tokens)

    @property
    def milliseconds(self) -> float:
        return 1000 * (self.score + self.select) / self.scored if self.scored else 0.0

    @property
    def bits(self) -> float | None:
        return None if self.correlation is None else bits(self.correlation[0])

    def plain(self) -> dict[str, Any]:
        derived = ("adds", "operations", "milliseconds", "bits")
        return {**asdict(self), **{name: getattr(self, name) for name in derived}}


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
        rounds=replace(config.rounds, score_every=1, score_until=None, score_last=True),
    )


class _Counting:
    """Counts examples that are scored, and tokens read for it: a question once for its samples."""

    def __init__(self) -> None:
        self.examples = self.tokens = 0

    def scored(self, _: Any, measurer: Measurer, model: Any, index: Any, **__: Any) -> None:
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
    clock.watch(Measurer, "score", "score", counting.scored)
    clock.watch(Measurer, "score_prequential", "score", counting.scored)
    clock.watch(Measurer, "_pass", "score", counting.read)
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
    items = encode(pool, np.arange(len(pool)), run.tokenizer, run.prompt)
    tokens = float(np.mean([len(item.ids) for item in items]))
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
    """One scored round of each size."""
    return [_round(f"N = {size}", config, size, where / str(size)) for size in sizes]


def growth_in_samples(
    config: RunConfig, samples: Sequence[int], size: int, where: Path
) -> list[Row]:
    """One scored round of ``size`` examples for each number of completions."""
    rows = []
    for n in samples:
        scoring = replace(config.scoring, samples=n)
        rows.append(_round(f"n = {n}", replace(config, scoring=scoring), size, where / f"n{n}"))
    return rows


def _round(name: str, config: RunConfig, size: int, where: Path) -> Row:
    """Trained as short as the config's first round asks for, and scored once."""
    rounds = replace(config.rounds, mode="reweight", budgets=(size,), score_last=True)
    pool = max(size, config.data.pool_size or 0)
    config = replace(
        config,
        data=replace(config.data, pool_size=pool, test_limit=20),
        rounds=rounds,
        recipe=replace(config.recipe, epochs=rounds.score_every),
    )
    return timed(name, config, where)


def exponent(rows: Sequence[Row]) -> float:
    """Slope of log (score + select) over log N."""
    cost = [math.log(row.score + row.select) for row in rows]
    return float(np.polyfit([math.log(row.scored) for row in rows], cost, 1)[0])
