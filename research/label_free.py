"""How well signals of a model's own answers rank true accuracy, on the built-in presets.

A model that has been fine-tuned on ``budget`` random problems of a preset (0: the base model)
answers ``examples`` problems that it was not trained on: ``samples`` completions give the signals
and the accuracy that as many labels would give; ``truth`` other completions, of other random
streams, give the accuracy that counts as true. Printed: Spearman's correlation with it, its mean
over seeds with a 95% interval (Student's t).

    python -m research.label_free --seeds '[100,101,102,103,104]' --examples 200 --truth 12
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr, t

from activeselect.arrays import FloatArray, IntArray
from activeselect.config import (
    DataConfig,
    PromptConfig,
    RecipeConfig,
    RoundsConfig,
    RunConfig,
    ScoringConfig,
)
from activeselect.data.answers import get_checker
from activeselect.data.load import load_data
from activeselect.data.pool import Pool
from activeselect.data.prompts import encode
from activeselect.data.skills import tuning
from activeselect.scoring.scorer import LiveScorer, Scores
from activeselect.scoring.signals import OF_SAMPLES
from activeselect.training.module import load_model
from activeselect.training.run import ActiveRun
from research.script import run_script

#: Signals by name, and the sign with which they are expected to rank accuracy.
SIGNALS = {"agreement": 1, "answer_entropy": -1, "self_certainty": 1, "unanswered": -1}


def label_free(
    presets: Sequence[str] = ("mixed", "even", "trap"),
    budgets: Sequence[int] = (0, 300),
    seeds: Sequence[int] = (100, 101, 102),
    examples: int = 300,
    samples: int = 4,
    truth: int = 16,
) -> None:
    """Print one row per preset and train-set size: means over the seeds, with intervals.

    Args:
        presets: of the built-in benchmark.
        budgets: sizes of the train set, drawn at random; 0: the base model.
        seeds: of data, training and completions.
        examples: problems that are measured.
        samples: completions that the signals are made of.
        truth: completions that the true accuracy is made of.
    """
    print("| preset | trained on | true accuracy | " + " | ".join(SIGNALS) + " | accuracy |")
    print("|---" * (len(SIGNALS) + 4) + "|")
    for preset in presets:
        for budget in budgets:
            rows = [_one(preset, budget, seed, examples, samples, truth) for seed in seeds]
            cells = " | ".join(_with_interval(column) for column in np.transpose(rows))
            print(f"| {preset} | {budget} | {cells} |", flush=True)


def _with_interval(values: FloatArray) -> str:
    mean = f"{values.mean():.2f}"
    if len(values) < 2:
        return mean
    wide = t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / len(values) ** 0.5
    return f"{mean} ± {wide:.2f}"


def _one(
    preset: str, budget: int, seed: int, examples: int, samples: int, truth: int
) -> list[float]:
    """Mean true accuracy, and the correlation of each signal and of measured accuracy with it."""
    config = RunConfig(
        data=DataConfig(f"skills:{preset}", test_limit=1, pool_size=4000),
        strategy="random",
        recipe=replace(RecipeConfig(), **tuning(preset)["recipe"]["chosen"]),
        rounds=RoundsConfig(mode="acquire", budgets=(max(budget, 1),), score_last=False),
        scoring=ScoringConfig(samples=samples, max_new_tokens=48),
        seed=seed,
    )
    data = load_data(config.data, seed=seed)
    order = np.random.default_rng([seed, 15]).permutation(len(data.pool))
    rest, train = order[:examples], np.sort(order[examples : examples + budget])
    with tempfile.TemporaryDirectory() as folder:
        model, tokenizer = load_model(config.model)
        if budget:
            run = ActiveRun(config, initial=train)
            run.run(Path(folder))
            model, tokenizer = load_model(str(Path(folder) / "model"))
        assert isinstance(data.prompt, PromptConfig)
        first = _scored(model, tokenizer, data.pool, data.prompt, rest, config.scoring, seed, 0)
        more = replace(config.scoring, samples=truth)
        second = _scored(model, tokenizer, data.pool, data.prompt, rest, more, seed, 1)
    assert first.correct is not None
    assert second.correct is not None
    accuracy = second.correct.mean(axis=1)
    signals = [sign * first.columns[name] for name, sign in SIGNALS.items()]
    ranks = [_spearman(value, accuracy) for value in (*signals, first.correct.mean(axis=1))]
    return [float(accuracy.mean()), *ranks]


def _scored(
    model: object,
    tokenizer: object,
    pool: Pool,
    prompt: PromptConfig,
    index: IntArray,
    scoring: ScoringConfig,
    seed: int,
    round: int,
) -> Scores:
    scorer = LiveScorer(tokenizer, get_checker(pool.checker), scoring, seed=seed, stop=prompt.stop)
    answers = [problem.answer for problem in pool.problems(index)]
    items = encode(pool, index, tokenizer, prompt)
    return scorer.score(model, items, answers, what=OF_SAMPLES, round=round)


def _spearman(value: FloatArray, accuracy: FloatArray) -> float:
    return float(spearmanr(value, accuracy)[0]) if np.ptp(value) and np.ptp(accuracy) else 0.0


if __name__ == "__main__":
    run_script(label_free)
