"""Sizes of a run's data and model, and how fast this machine is with them."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from activeselect.config import RunConfig, prompt_of
from activeselect.errors import ModelError

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
    free_gigabytes: float | None = None
    rates: Rates = field(default_factory=Rates)


def shape_of(config: RunConfig) -> Shape:
    """Read the data, the tokenizer and the model's config; weights only where they are small.

    Raises:
        ActiveSelectError: if one of them cannot be read.
    """
    import torch

    from activeselect.data.load import load_data
    from activeselect.data.prompts import encode
    from activeselect.data.templates import with_examples

    tokenizer, model = without_weights(config)
    data = load_data(config.data, seed=config.seed)
    prompt = with_examples(prompt_of(config.prompt) or data.prompt, data.pool, seed=config.seed)
    rng = np.random.default_rng(0)
    some = rng.choice(len(data.pool), min(_SAMPLE, len(data.pool)), replace=False)
    items = encode(data.pool, some, tokenizer, prompt)
    lengths = np.array([[len(item.ids), len(item.ids) - item.start] for item in items])
    gpu = torch.cuda.is_available() and config.accelerator in ("auto", "gpu", "cuda")
    device = "cuda" if gpu else "cpu"
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
        device=torch.cuda.get_device_name() if gpu else "CPU",
        free_gigabytes=_free_gigabytes(device),
        rates=rates,
    )


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
    from activeselect.scoring.scorer import LiveScorer
    from activeselect.scoring.tokens import pad_token_of
    from activeselect.training.adapt import adapt
    from activeselect.training.module import load_model
    from activeselect.training.reader import Reader

    model = adapt(load_model(config.model)[0], config.recipe).to(device)
    model.train()
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=0.0)  # the model stays what it is
    size = min(config.recipe.batch_size // config.recipe.accumulate, len(items))
    batch = collate(items[:size], pad_token_of(tokenizer))
    batch = {name: tensor.to(device) for name, tensor in batch.items()}
    reader = Reader(model, share=config.recipe.tokens.share)

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
        generate = _per_token(
            lambda: float(scorer.score(model, some, theirs, what=what, round=0).tokens_generated)
        )
        read = _per_token(lambda: float(sum(scorer.target_nll(model, some)[1])))
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
