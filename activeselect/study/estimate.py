"""Estimates before a run: examples, tokens, time and memory on this machine.

Tokens are counted from the data and the settings. Time is measured by a few real steps where the
model is small enough for that, and otherwise follows from its operations and a measured rate of
the machine. Nothing is refused here.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from activeselect.config import (
    RunConfig,
    ScoreConfig,
    ScoringConfig,
    config_hash,
    prompt_of,
    to_plain,
)
from activeselect.errors import ModelError

# --- Sizes and speed


#: Models up to this size are timed with real steps; larger ones from the machine's rate.
MEASURED_UP_TO = {"cpu": 60e6, "cuda": 2e9}
#: Share of the rate of a large matrix product that training reaches, and that reading one token
#: after the other does; from experience, so the plan says that it is an estimate.
_TRAIN_SHARE, _GENERATE_SHARE = 0.4, 0.05
_SAMPLE = 256


@dataclass(frozen=True)
class Rates:
    """Seconds per token of training, of generating and of reading; ``how`` they were found."""

    train: float = 0.0
    generate: float = 0.0
    read: float = 0.0
    how: str = ""


@dataclass(frozen=True)
class Shape:
    """What decides the cost of a run: numbers of problems, mean tokens, and the model's sizes."""

    pool: int
    test: int
    tokens: float
    target_tokens: float
    parameters: float
    trainable: float
    layers: int
    width: int
    vocabulary: int
    device: str
    kept: int = 0  # numbers that the key-value cache holds per token
    stored: int = 4  # bytes of a weight in the model's files
    free_gigabytes: float | None = None
    rates: Rates = field(default_factory=Rates)
    asked: int = 0  # tokens of an audit, each time that it is asked


def shape_of(config: RunConfig) -> Shape:
    """Read the data, the tokenizer and the model's config; weights only where they are small.

    Raises:
        ActiveSelectError: if one of them cannot be read.
    """
    import torch

    from activeselect.data.load import load_data
    from activeselect.data.prompts import encode, with_examples

    tokenizer, model = without_weights(config)
    data = load_data(config.data, seed=config.seed)
    prompt = with_examples(prompt_of(config.prompt) or data.prompt, data.pool, seed=config.seed)
    rng = np.random.default_rng(0)
    some = rng.choice(len(data.pool), min(_SAMPLE, len(data.pool)), replace=False)
    items = encode(data.pool, some, tokenizer, prompt)
    lengths = np.array([[len(item.ids), len(item.ids) - item.start] for item in items])
    device = _device(config)
    text = model.config.get_text_config()
    parameters = float(sum(weight.numel() for weight in model.parameters()))
    answers = [problem.answer for problem in data.pool.problems(some)]
    if parameters <= MEASURED_UP_TO[device]:
        rates = _timed(config, device, tokenizer, items, answers, data.pool.checker)
    else:
        rates = _calculated(parameters, device, config.recipe.precision)
    return Shape(
        pool=len(data.pool),
        test=0 if data.test is None else len(data.test),
        tokens=float(lengths[:, 0].mean()),
        target_tokens=float(lengths[:, 1].mean()),
        parameters=parameters,
        trainable=_trainable(model, config),
        layers=int(getattr(text, "num_hidden_layers", 1)),
        width=int(getattr(text, "hidden_size", 1)),
        vocabulary=int(text.vocab_size),
        device="CPU" if device == "cpu" else torch.cuda.get_device_name(),
        kept=_kept_per_token(text),
        stored=torch.empty(0, dtype=getattr(model.config, "dtype", None)).element_size(),
        free_gigabytes=_free_gigabytes(device),
        rates=rates,
        asked=_asked(config, data.test, prompt, tokenizer),
    )


def _asked(config: RunConfig, test: Any, prompt: Any, tokenizer: Any) -> int:
    if config.audit is None:
        return 0
    from activeselect.training.auditing import RunAudit

    return RunAudit(config, test, prompt, tokenizer).tokens()


def _kept_per_token(text: Any) -> int:
    """Numbers that the key-value cache holds per token."""
    heads = int(getattr(text, "num_attention_heads", 1))
    each = getattr(text, "head_dim", None) or int(getattr(text, "hidden_size", 1)) // heads
    layers = int(getattr(text, "num_hidden_layers", 1))
    return 2 * layers * int(getattr(text, "num_key_value_heads", None) or heads) * int(each)


def without_weights(config: RunConfig) -> tuple[Any, Any]:
    """Tokenizer, and the model on no device: its shapes without a byte of weights.

    Raises:
        ModelError: if config or tokenizer cannot be read.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    from activeselect.training.module import resolve_model

    where = resolve_model(config.model)
    if where.startswith(("/", ".", "~")) and not Path(where).is_dir():
        raise ModelError(f"There is no model folder '{config.model}'.")
    try:
        tokenizer = AutoTokenizer.from_pretrained(where)
        with torch.device("meta"):
            settings = AutoConfig.from_pretrained(where)
            model = AutoModelForCausalLM.from_config(settings)  # type: ignore[no-untyped-call]
    except Exception as error:  # the hub's client raises many kinds
        cause = " ".join(str(error).split())[:300]
        raise ModelError(
            f"Cannot read config and tokenizer of '{config.model}': {cause}"
        ) from error
    tokenizer.model_max_length = 1 << 30  # a long text is counted here, not warned about
    return tokenizer, model


def _device(config: RunConfig) -> str:
    """``cuda`` or ``cpu``: what the run will train on."""
    import torch

    gpu = torch.cuda.is_available() and config.accelerator in ("auto", "gpu", "cuda")
    return "cuda" if gpu else "cpu"


def _trainable(model: Any, config: RunConfig) -> float:
    """Weights that are trained, adapters included."""
    from activeselect.training.adapt import adapt

    adapted = adapt(model, config.recipe)
    return float(sum(w.numel() for w in adapted.parameters() if w.requires_grad))


def _timed(
    config: RunConfig,
    device: str,
    tokenizer: Any,
    items: Sequence[Any],
    answers: Sequence[str],
    checker: str,
) -> Rates:
    """A few real steps of training, scoring and reading, with the model as it starts."""
    import torch

    from activeselect.data.answers import get_checker
    from activeselect.data.prompts import collate
    from activeselect.scoring.generate import pad_token_of
    from activeselect.scoring.precision import in_training_precision
    from activeselect.scoring.scorer import LiveScorer
    from activeselect.training.adapt import adapt
    from activeselect.training.module import load_model
    from activeselect.training.step import BatchLoss

    model = adapt(load_model(config.model)[0], config.recipe).to(device)
    model.train()
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=0.0)  # the model stays what it is
    size = min(config.recipe.batch_size // config.recipe.accumulate, len(items))
    batch = collate(items[:size], pad_token_of(tokenizer))
    batch = {name: tensor.to(device) for name, tensor in batch.items()}
    reader = BatchLoss(model, share=config.recipe.tokens.share)

    def step() -> float:
        total, _ = reader.loss(batch)
        with reader.attention():
            total.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()
        return float(batch["attention_mask"].sum())

    threads = torch.get_num_threads()
    torch.set_num_threads(1 if device == "cpu" else threads)  # as a study's workers run
    try:
        step()  # the first one sets up
        train = _per_token(step, times=3)
        scorer = LiveScorer(tokenizer, get_checker(checker), config.scoring, seed=0)
        some, theirs = items[:32], answers[:32]
        what = frozenset({"samples"})
        with in_training_precision(model, config.recipe.precision) as reading:
            generate = _per_token(
                lambda: float(
                    scorer.score(
                        reading, some, theirs, what=what, round=0, trained=model
                    ).tokens_generated
                )
            )
            read = _per_token(lambda: float(sum(scorer.target_nll(reading, some)[1])))
    finally:
        torch.set_num_threads(threads)
    how = "Time: measured by a few real steps of training, sampling and reading."
    return Rates(train, generate, read, how)


def _per_token(do: Callable[[], float], times: int = 1) -> float:
    import torch

    started, tokens = time.perf_counter(), 0.0
    for _ in range(times):
        tokens += do()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return (time.perf_counter() - started) / max(tokens, 1.0)


def _calculated(parameters: float, device: str, precision: str) -> Rates:
    """From the rate of a large matrix product on this machine, in the run's precision."""
    import torch

    kind = torch.float32 if precision.startswith("32") else torch.bfloat16
    size = 8192 if device == "cuda" else 1024
    a = torch.randn(size, size, device=device, dtype=kind)
    a @ a
    best = float("inf")
    for _ in range(3):
        started = time.perf_counter()
        a @ a
        if device == "cuda":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - started)
    rate = 2 * size**3 / best
    reading = 2 * parameters / (rate * _TRAIN_SHARE)
    how = (
        f"Time: calculated, as the model ({parameters / 1e9:.2g}G weights) is too large to try: 6 "
        f"operations per weight and trained token at {_TRAIN_SHARE:.0%} of the {rate / 1e12:.2g} "
        f"TFLOP/s of a matrix product here, 2 per generated token at {_GENERATE_SHARE:.0%}. Expect "
        "it to be right within a factor of two or three."
    )
    return Rates(3 * reading, 2 * parameters / (rate * _GENERATE_SHARE), reading, how)


def _free_gigabytes(device: str) -> float | None:
    import torch

    if device == "cuda":
        return torch.cuda.mem_get_info()[0] / 1e9
    try:
        text = Path("/proc/meminfo").read_text(encoding="ascii")
        lines = dict(line.split(":", 1) for line in text.splitlines())
        return float(lines["MemAvailable"].split()[0]) * 1024 / 1e9
    except (OSError, KeyError):
        try:
            return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
        except (ValueError, OSError):
            return None


Named = tuple[str, RunConfig]
#: Gigabytes of a process with torch and transformers before it has a model.
_PROCESS = 0.7
_ROWS_OF_LOGITS = 128  # that the loss makes at a time
_MUCH = 2.0  # GB from which on it is told that a long run holds more


@dataclass(frozen=True)
class Work:
    """What a run does, in examples and tokens.

    ``generated_most`` is what completions may take; ``generated`` what they take when they are as
    long as the reference traces; ``audited`` what an audit inside the run reads and writes.
    """

    trained: int
    scored: int
    tested: int
    tokens_trained: float
    generated: float
    generated_most: float
    read: float
    audited: float = 0.0

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
    fresh = budgets[-1] - budgets[0] if "prequential" in what else 0
    completions = fresh + (scored if "samples" in what else 0)
    passes, stages_tested = _passes(config, budgets, what)
    if rounds.evaluate_every:
        stages_tested = max(1, math.ceil(epochs / rounds.evaluate_every))
    tested = shape.test * stages_tested
    length = min(shape.target_tokens, scoring.max_new_tokens)
    return Work(
        trained=passes,
        scored=scored + fresh,
        tested=tested,
        tokens_trained=passes * shape.tokens,
        generated=round((completions * scoring.samples + tested) * length),
        generated_most=round((completions * scoring.samples + tested) * scoring.max_new_tokens),
        read=(scored if what - {"samples", "prequential"} else 0) * shape.tokens,
        audited=_audited(config, budgets, shape),
    )


def _audited(config: RunConfig, budgets: Sequence[int], shape: Shape) -> float:
    """Tokens of the audit inside a run, after stages and epochs, and of its watch each epoch."""
    audit, epochs = config.audit, config.recipe.epochs
    if audit is None:
        return 0.0
    times = len(budgets) * (1 + (epochs // audit.every if audit.every else 0))
    watched = sum(min(audit.memory, size) for size in budgets) * epochs
    return times * shape.asked + watched * shape.tokens


def _passes(config: RunConfig, budgets: Sequence[int], what: frozenset[str]) -> tuple[int, int]:
    """Examples trained on, with repetitions, and how many stages are tested."""
    from activeselect.scoring.signals import PER_ROUND

    rounds, epochs = config.rounds, config.recipe.epochs
    at_choice = what - PER_ROUND or (what and config.scoring.candidates)
    if not rounds.short_stages or at_choice:
        return sum(budgets) * epochs, len(budgets)
    short = [rounds.last_scored(k, epochs) if what else 0 for k in range(len(budgets) - 1)]
    lengths = [*short, epochs]
    trained = sum(size * length for size, length in zip(budgets, lengths, strict=True))
    return trained, sum(length == epochs for length in lengths)


def memory_of(config: RunConfig, shape: Shape) -> float:
    """Gigabytes that a run takes at its peak, which is in training or in scoring.

    Weights and Adam's two moments stay. Training adds gradients, activations, and the logits of a
    few rows; scoring the key-value cache, the logits of all completions under way, and a copy of
    the weights: in 16 bits under mixed precision, with the adapters merged on a CPU. The model that
    the settings were checked with stays, too, as it is stored.
    """
    recipe = config.recipe
    wide = 2 if recipe.precision in ("bf16-true", "16-true") else 4
    number = 4 if recipe.precision.startswith("32") else 2
    short = shape.parameters * 2 if number < wide and recipe.lora is None else 0.0
    stays = shape.parameters * (wide + shape.stored) + shape.trainable * 2 * wide
    tokens = (recipe.batch_size // recipe.accumulate) * min(
        shape.tokens, recipe.max_length or shape.tokens
    )
    # what a layer of Llama keeps for its backward pass: about 22 numbers per channel, and what its
    # norms keep in 32 bits; with checkpointing its input alone
    per_layer = number if recipe.gradient_checkpointing else 22 * number + 12
    kept = tokens * shape.width * shape.layers * per_layer
    logits = _ROWS_OF_LOGITS * shape.vocabulary * (8 + number)  # their gradient, a copy in the type
    output = shape.vocabulary * shape.width * 4  # its gradient is summed apart
    # autocast keeps what it has cast
    training = shape.trainable * wide + kept + logits + output + short
    merged = shape.parameters * wide if recipe.lora and _device(config) == "cpu" else 0.0
    measuring = short + merged + _measuring(config.scoring, shape, number)
    return _PROCESS + (stays + max(training, measuring)) / 1e9


def _measuring(scoring: ScoringConfig, shape: Shape, number: int) -> float:
    """Bytes of the key-value cache and of the logits of all completions under way.

    The cache counts twice: while rows leave or join, the old and the new one are both there.
    """
    rows = min(scoring.batch_tokens / shape.tokens, max(shape.pool, shape.test) * scoring.samples)
    cache = min(scoring.batch_tokens, rows * (shape.tokens + scoring.max_new_tokens)) * shape.kept
    return 2 * cache * number + rows * shape.vocabulary * (8 + number)


def seconds_of(work: Work, shape: Shape) -> float:
    """Time of a run from the measured rates: a pass costs 2 operations per weight and token."""
    rate = shape.rates
    generated = work.generated + work.audited  # an audit writes a part of it, and reads the others
    return work.tokens_trained * rate.train + generated * rate.generate + work.read * rate.read


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
    if audited := sum(line.work.audited for line in lines):
        found.append(
            f"The audit reads and writes about {quantity(audited)} tokens of its own; its time is "
            "counted as if it wrote them all."
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
        if most >= _MUCH and shapes[0].device == "CPU":
            found.append(
                "A long run on a CPU may hold twice that, because the C library keeps memory that "
                "was freed (docs/research/real-model.md)."
            )
        if need > 0.9 * free:
            found.append(
                "Less memory: fewer workers, recipe.accumulate, recipe.gradient_checkpointing, "
                "recipe.lora, or recipe.precision=bf16-true."
            )
    return found


def plan_scoring(config: ScoreConfig, out: Path, perturb: int = 0) -> list[str]:
    """What `activeselect score` will read and generate, for how long, and in how much memory.

    Args:
        config: its settings.
        out: the folder of the scores; what is finished in it is left out.
        perturb: rewordings asked per example.

    Returns:
        the plan, a sentence each.

    Raises:
        ActiveSelectError: if data, tokenizer or checkpoints cannot be read.
    """
    from activeselect.scoring.signals import measurements
    from activeselect.training.offline import checkpoints_in, entries_of, part_of

    checkpoints = checkpoints_in(config.model)
    run = RunConfig(
        model=checkpoints[0],
        data=config.data,
        scoring=config.scoring,
        prompt=config.prompt,
        seed=config.seed,
    )
    shape, scoring = shape_of(run), config.scoring
    number, of = config.part
    examples = len(range(number - 1, shape.pool, of))
    left = len(checkpoints) - len(entries_of(part_of(out, number, of)))
    what = measurements(config.signals)
    length = min(shape.target_tokens, scoring.max_new_tokens)
    completions = examples * left * scoring.samples if "samples" in what else 0
    asked = examples * perturb  # once each
    read = examples * left * shape.tokens if what - {"samples"} else 0.0
    completions += asked
    seconds = completions * length * shape.rates.generate + read * shape.rates.read
    wide = 2 if config.dtype in ("float16", "bfloat16") else 4
    wide = shape.stored if config.dtype == "auto" else wide
    need = _PROCESS + (shape.parameters * wide + _measuring(scoring, shape, wide)) / 1e9
    shard = f" of the {shape.pool:,} in this pool" if of > 1 else ""
    found = [
        f"{examples:,} examples{shard}; checkpoints: {len(checkpoints)}, {left} of them to score.",
        f"Tokens: {quantity(read)} read, about {quantity(completions * length)} generated "
        f"({quantity(completions)} completions as long as the reference traces; at most "
        f"{quantity(completions * scoring.max_new_tokens)} if none ends early).",
        f"In all about {duration(seconds)} on this machine's {shape.device}.",
        shape.rates.how,
    ]
    free = shape.free_gigabytes
    known = "" if free is None else f"; {free:.1f} GB are free"
    return [*found, f"Memory: about {need:.1f} GB{known}."]


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
