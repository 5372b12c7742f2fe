"""What runs will take, before they do: examples, tokens, time and memory on this machine.

Tokens are counted from the data and the settings. Time is measured by a few real steps where the
model is small enough for that, and otherwise follows from its operations and a measured rate of
the machine. Nothing is refused here.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from rich.table import Table

from activeselect.config import RunConfig, config_hash, to_plain
from activeselect.study.shape import Shape, shape_of

Named = tuple[str, RunConfig]
#: Gigabytes of a process with torch and transformers before it has a model.
_PROCESS = 0.6


@dataclass(frozen=True)
class Work:
    """What a run does, in examples and tokens.

    ``generated_most`` is what completions may take; ``generated`` what they take when they are as
    long as the reference traces.
    """

    trained: int
    scored: int
    tested: int
    tokens_trained: float
    generated: float
    generated_most: float
    read: float

    def __add__(self, other: Work) -> Work:
        return Work(**{name: getattr(self, name) + getattr(other, name) for name in vars(self)})


@dataclass(frozen=True)
class Estimate:
    """One line of the plan: runs alike, what they do together, and for how long."""

    name: str
    runs: int
    work: Work
    seconds: float
    gigabytes: float


@dataclass(frozen=True)
class Plan:
    """All runs, with what to know about the numbers."""

    lines: list[Estimate]
    remarks: list[str] = field(default_factory=list)


def work_of(config: RunConfig, shape: Shape) -> Work:
    """Count what a run does.

    Args:
        config: its settings.
        shape: sizes of its data and model.

    Example:
        >>> from activeselect.config import RecipeConfig, RoundsConfig
        >>> run = RunConfig(strategy="random", rounds=RoundsConfig(budgets=(10, 20)),
        ...     recipe=RecipeConfig(epochs=2))
        >>> sizes = Shape(pool=100, test=5, tokens=30, target_tokens=20, parameters=1,
        ...     trainable=1, layers=1, width=1, vocabulary=1, device="cpu")
        >>> done = work_of(run, sizes)
        >>> done.trained, done.tokens_trained, done.scored, done.generated
        (60, 1800, 0, 200)
    """
    from activeselect.scoring.signals import measurements
    from activeselect.selection.registry import create

    rounds, scoring, epochs = config.rounds, config.scoring, config.recipe.epochs
    budgets = rounds.budgets or (shape.pool,)
    what = measurements([*create(config.strategy).requires, *config.measure])
    scored = 0
    for stage, size in enumerate(budgets if what else ()):
        times = rounds.last_scored(stage, epochs) // rounds.score_every
        scored += min(scoring.limit or size, size) * times
    if what and rounds.mode == "acquire":
        scored += scoring.candidates * (len(budgets) - 1)
    fresh = budgets[-1] - budgets[0] if "before" in what else 0
    completions = fresh + (scored * scoring.share_of_exact if "samples" in what else 0)
    tested = shape.test * len(budgets)
    length = min(shape.target_tokens, scoring.max_new_tokens)
    return Work(
        trained=sum(budgets) * epochs,
        scored=scored + fresh,
        tested=tested,
        tokens_trained=sum(budgets) * epochs * shape.tokens,
        generated=round((completions * scoring.samples + tested) * length),
        generated_most=round((completions * scoring.samples + tested) * scoring.max_new_tokens),
        read=(scored if what - {"samples", "before"} else 0) * shape.tokens,
    )


def memory_of(config: RunConfig, shape: Shape) -> float:
    """Gigabytes that training takes: weights, gradients, Adam's two moments, activations, logits.

    Activations follow Korthikanti et al. (arXiv 2205.05198), equation 2, without the attention
    matrix, which today's kernels do not keep.
    """
    wide = 2 if config.recipe.precision in ("bf16-true", "16-true") else 4
    number = 4 if config.recipe.precision.startswith("32") else 2
    weights = shape.parameters * wide + shape.trainable * 3 * wide
    batch = config.recipe.batch_size // config.recipe.accumulate
    tokens = batch * min(shape.tokens, config.recipe.max_length or shape.tokens)
    per_layer = 2 if config.recipe.gradient_checkpointing else 34
    kept = tokens * shape.width * shape.layers * per_layer * number / 2
    logits = 3 * tokens * shape.vocabulary * 4  # the logits, their softmax and its gradient
    return _PROCESS + (weights + kept + logits) / 1e9


def seconds_of(work: Work, shape: Shape) -> float:
    """Time of a run from the measured rates: a pass costs 2 operations per weight and token."""
    rate = shape.rates
    return work.tokens_trained * rate.train + work.generated * rate.generate + work.read * rate.read


def estimate_runs(runs: Sequence[Named], *, workers: int = 1) -> Plan:
    """Plan these runs on this machine.

    Args:
        runs: name (runs of one name are one line of the plan) and settings.
        workers: processes side by side; 0 = one per core.

    Raises:
        ActiveSelectError: if data or tokenizer cannot be read, or a setting does not fit.
    """
    shapes: dict[str, Shape] = {}
    lines: dict[str, list[Estimate]] = {}
    for name, config in runs:
        key = _same_sizes(config)
        if key not in shapes:
            shapes[key] = shape_of(config)
        work = work_of(config, shapes[key])
        one = Estimate(name, 1, work, seconds_of(work, shapes[key]), memory_of(config, shapes[key]))
        lines.setdefault(name, []).append(one)
    together = [_together(found) for found in lines.values()]
    count = min(workers or os.cpu_count() or 1, len(runs))
    return Plan(together, _remarks(together, count, list(shapes.values())))


def _same_sizes(config: RunConfig) -> str:
    """Runs that differ in strategy, rounds or seed share what was measured."""
    alike = replace(config, strategy="random", seed=0, measure=())
    plain = to_plain(alike)
    return config_hash({**plain, "rounds": None})


def _together(found: Sequence[Estimate]) -> Estimate:
    work = found[0].work
    for other in found[1:]:
        work = work + other.work
    seconds = sum(one.seconds for one in found)
    return replace(
        found[0],
        runs=len(found),
        work=work,
        seconds=seconds,
        gigabytes=max(one.gigabytes for one in found),
    )


def _remarks(lines: Sequence[Estimate], workers: int, shapes: Sequence[Shape]) -> list[str]:
    seconds = sum(line.seconds for line in lines) / workers
    most = max(line.gigabytes for line in lines)
    side = f", {workers} at a time" if workers > 1 else ""
    found = [f"In all about {duration(seconds)} on this machine's {shapes[0].device}{side}."]
    found += list(dict.fromkeys(shape.rates.how for shape in shapes))
    found.append(
        "Generated tokens: as long as the reference traces; at most "
        f"{quantity(sum(line.work.generated_most for line in lines))} if no completion ends early."
    )
    free = min((shape.free_gigabytes for shape in shapes if shape.free_gigabytes), default=None)
    need = most * workers
    if free is None:
        found.append(f"Memory: about {need:.1f} GB; how much is free could not be found out.")
    else:
        verdict = "fits into" if need < 0.9 * free else "is close to"
        verdict = "does NOT fit into" if need > free else verdict
        found.append(
            f"Memory: about {need:.1f} GB{side} {verdict} the {free:.1f} GB that are free."
        )
        if need > 0.9 * free:
            found.append(
                "Less memory: fewer workers, recipe.accumulate, recipe.gradient_checkpointing, "
                "recipe.lora, or recipe.precision=bf16-true."
            )
    return found


def plan_table(plan: Plan) -> Table:
    """The plan for the terminal."""
    table = Table("what", "runs", "examples", "tokens", "scored", "generated", "time", "memory")
    for column in table.columns[1:]:
        column.justify = "right"
    for line in plan.lines:
        table.add_row(
            line.name,
            str(line.runs),
            quantity(line.work.trained),
            quantity(line.work.tokens_trained),
            quantity(line.work.scored),
            quantity(line.work.generated),
            duration(line.seconds),
            f"{line.gigabytes:.1f} GB",
        )
    return table


def quantity(value: float) -> str:
    """A count in three digits.

    Example:
        >>> quantity(950), quantity(12_345), quantity(1.5e9)
        ('950', '12.3k', '1.5G')
    """
    for unit, size in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.0f}"


def duration(seconds: float) -> str:
    """A time that one can plan with.

    Example:
        >>> duration(40), duration(125), duration(9000), duration(200_000)
        ('40 s', '2 min', '2.5 h', '2.3 days')
    """
    if seconds < 100:
        return f"{max(seconds, 1):.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    if seconds < 48 * 3600:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 86400:.1f} days"
