"""Sampling policies replayed on recorded outcomes: what fewer samples would have shown.

Half of an example's recorded outcomes are held back; premem computed with them, at all checkpoints,
is the truth. The policy draws without replacement from the other half.
"""

from __future__ import annotations

import json as json_module
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Column, Table
from scipy.stats import rankdata, t

from activeselect.arrays import BoolArray, FloatArray, IntArray
from activeselect.errors import ConfigError, DataError, did_you_mean
from activeselect.forecast.traces import EXAMPLES_SCHEMA, datasets_in, read_table
from activeselect.scoring.budget import (
    POLICIES,
    Adaptive,
    Exact,
    SamplingPolicy,
    SkipMemorized,
    systematic_subset,
)
from activeselect.scoring.text_features import standardized
from activeselect.scoring.trajectory import Counts
from research.questions import features_of, read_texts
from research.script import run_script

LEVEL = 0.95
MANY = "outcomes_50"
MakePolicy = Callable[["Recording"], SamplingPolicy]


@dataclass(frozen=True)
class Recording:
    """One run with many outcomes: R checkpoints, N examples, S outcomes of each."""

    name: str
    right: BoolArray  # [R, N, S]
    mean_nll: FloatArray  # [R, N]
    features: FloatArray | None  # [N, F]


@dataclass(frozen=True)
class Settings:
    """What is replayed.

    Args:
        policy: exact, skip-memorized or adaptive.
        samples: of the paper's protocol, and at most per example and round.
        tau: memorization threshold, nats per token.
        share: of the paper's samples that ``adaptive`` may use.
        subset: part of the examples that is sampled at all, for the dataset-level value.
        repeats: random divisions into truth and draws.
        seed: of all of them.

    Raises:
        ConfigError: naming the setting.
    """

    policy: str = "adaptive"
    samples: int = 5
    tau: float = 0.1
    share: float = 0.2
    subset: float = 1.0
    repeats: int = 5
    seed: int = 0

    def __post_init__(self) -> None:
        if self.policy not in POLICIES:
            raise ConfigError(
                f"There is no sampling policy '{self.policy}'. "
                f"{did_you_mean(self.policy, POLICIES)}"
            )
        limits = {
            "samples": (self.samples >= 1, "at least 1"),
            "tau": (self.tau >= 0, "at least 0 nats per token"),
            "share": (0 < self.share <= 1, "in (0, 1]"),
            "subset": (0 < self.subset <= 1, "in (0, 1]"),
            "repeats": (self.repeats >= 2, "at least 2, for an interval"),
            "seed": (self.seed >= 0, "at least 0"),
        }
        for name, (fine, expected) in limits.items():
            if not fine:
                raise ConfigError(f"{name}: expected {expected}, received {getattr(self, name)}")


def recordings(folder: Path, dataset: str, questions: Path | None = None) -> list[Recording]:
    """The runs of a dataset that have many outcomes (column ``outcomes_50``), sorted by name.

    Args:
        folder: of traces.
        dataset: in it.
        questions: file with the texts of the examples, in the order of their ids; without it the
            only feature is the recorded length of the reference trace.

    Raises:
        DataError: if there are none, or an example lacks a checkpoint, outcomes or its NLL, or the
            texts are not those of the examples.
    """
    known = datasets_in(folder)
    if dataset not in known:
        raise DataError(f"{folder}: no dataset '{dataset}'. {did_you_mean(dataset, known)}")
    path = folder / f"{dataset}_examples.parquet"
    read_table(path, EXAMPLES_SCHEMA, {"n_tokens"})
    table = pq.read_table(path)
    if MANY not in table.column_names or table[MANY].null_count == len(table):
        raise DataError(f"{path}: expected a column {MANY} with outcomes to hold back, found none")
    tokens = _tokens(table)
    table = table.filter(pc.is_valid(table[MANY]))
    names = sorted(pc.unique(table["run"]).to_pylist())

    def features(ids: IntArray) -> FloatArray | None:
        known = [tokens.get(int(i)) for i in ids]
        lengths = None if None in known else np.array(known, dtype=np.float64)
        if questions is not None:
            return features_of(ids, lengths, texts, questions)
        return None if lengths is None else standardized(np.log1p(lengths)[:, None])

    texts = [] if questions is None else read_texts(questions)
    return [_recording(table.filter(pc.equal(table["run"], n)), n, features, path) for n in names]


def _recording(
    table: pa.Table, name: str, features: Callable[[IntArray], FloatArray | None], path: Path
) -> Recording:
    table = table.sort_by([("step", "ascending"), ("example_id", "ascending")])
    steps = len(pc.unique(table["step"]))
    ids = table["example_id"].to_numpy()
    lengths = np.unique(pc.list_value_length(table[MANY]).to_numpy())
    nll = table["mean_nll"].to_numpy().astype(np.float64)
    size = len(ids) // steps
    whole = len(ids) == steps * size and np.all(ids.reshape(steps, size) == ids[:size])
    if not whole or len(lengths) > 1 or lengths[0] < 2 or not np.all(np.isfinite(nll)):
        raise DataError(
            f"{path}: run '{name}': expected the same examples at every checkpoint, with equally "
            f"many outcomes in {MANY} and a mean_nll each; import it again"
        )
    flat = pc.list_flatten(table[MANY]).to_numpy(zero_copy_only=False).astype(bool)
    outcomes = flat.reshape(steps, size, -1)
    return Recording(name, outcomes, nll.reshape(steps, size), features(ids[:size]))


def _tokens(table: pa.Table) -> dict[int, int]:
    """Length of each reference trace, from whichever run recorded it."""
    if "n_tokens" not in table.column_names:
        return {}
    rows = table.select(["example_id", "n_tokens"]).filter(pc.is_valid(table["n_tokens"]))
    return dict(zip(rows["example_id"].to_pylist(), rows["n_tokens"].to_pylist(), strict=True))


def replay(runs: list[Recording], settings: Settings) -> dict[str, Any]:
    """Replay a policy on every run, next to the paper's protocol on the same draws."""
    rows = []
    for run in runs:
        results = [_once(run, settings, _maker(settings), k) for k in range(settings.repeats)]
        means = {key: _interval([result[key] for result in results]) for key in results[0]}
        rows.append({"run": run.name, **means})
    about = "truth: premem of the last checkpoint, from the outcomes held back at all checkpoints"
    return {"settings": vars(settings), "level": LEVEL, "about": about, "runs": rows}


def sample(
    policy: SamplingPolicy, right: IntArray, mean_nll: FloatArray, features: FloatArray | None
) -> Counts:
    """Ask and draw until the policy wants no more, round by round.

    Args:
        policy: decides.
        right: right answers among the first k outcomes, k = 0, 1, ..., int ``[R, N, 1 + S]``.
        mean_nll: nats per token, ``[R, N]``.
        features: of the texts, ``[N, F]``.
    """
    got, drawn = np.zeros((2, *mean_nll.shape), dtype=np.int64)
    for round in range(len(mean_nll)):
        while True:
            counts = Counts(got[: round + 1], drawn[: round + 1], mean_nll[: round + 1], features)
            asked = policy.ask(counts)
            if not asked.any():
                break
            drawn[round] += asked
            got[round] = np.take_along_axis(right[round], drawn[round][:, None], axis=1)[:, 0]
    return counts


def _once(run: Recording, settings: Settings, make: MakePolicy, repeat: int) -> dict[str, float]:
    rng = np.random.default_rng([settings.seed, repeat])
    outcomes = rng.permuted(run.right, axis=2)
    held = outcomes.shape[2] // 2
    paper = Exact(settings.samples, settings.tau)
    whole = np.full(run.mean_nll.shape, held)
    truth = paper.premem(Counts(outcomes[..., :held].sum(axis=2), whole, run.mean_nll))
    right = np.concatenate(
        [np.zeros((*whole.shape, 1), dtype=np.int64), outcomes[..., held:].cumsum(axis=2)], axis=2
    )
    chosen = np.arange(len(truth))
    if settings.subset < 1:
        chosen = systematic_subset(run.mean_nll[0], settings.subset, rng)
    features = None if run.features is None else run.features[chosen]
    counts = sample(make(run), right[:, chosen], run.mean_nll[:, chosen], features)
    premem = make(run).premem(counts)
    exact = paper.premem(sample(paper, right, run.mean_nll, run.features))
    here, there = _spearman(premem, truth[chosen]), _spearman(exact, truth)
    return {
        "share": float(counts.sampled.sum() / (settings.samples * run.mean_nll.size)),
        "spearman": here,
        "bias": float(premem.mean() - truth.mean()),
        "paper_spearman": there,
        "paper_bias": float(exact.mean() - truth.mean()),
        "difference": here - there,
    }


def _maker(settings: Settings) -> MakePolicy:
    n, tau = settings.samples, settings.tau
    if settings.policy == Exact.name:
        return lambda run: Exact(n, tau)
    if settings.policy == SkipMemorized.name:
        return lambda run: SkipMemorized(n, tau)
    return lambda run: Adaptive(
        n,
        tau,
        len(run.right),
        settings.share,
        resolution=run.right.shape[2] // 2,
    )


def _spearman(a: FloatArray, b: FloatArray) -> float:
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        raise DataError("Expected examples of different premem, found one value; nothing to rank")
    return float(np.corrcoef(rankdata(a), rankdata(b))[0, 1])


def _interval(values: list[float]) -> dict[str, float]:
    """Mean over repetitions and its Student's t interval."""
    mean, count = float(np.mean(values)), len(values)
    half = t.ppf((1 + LEVEL) / 2, count - 1) * np.std(values, ddof=1) / np.sqrt(count)
    return {"mean": mean, "low": mean - float(half), "high": mean + float(half)}


def main(
    traces: Path,
    config: Settings,
    dataset: str = "gsm8k",
    questions: Path | None = None,
    json: bool = False,
) -> None:
    """Replay a sampling policy on recorded outcomes, next to the paper's protocol.

    Args:
        traces: trace folder whose runs have many outcomes (column ``outcomes_50``).
        config: all settings.
        dataset: name of the dataset in it.
        questions: file with columns question and answer (or trace), example ids counting its rows
            from 0, such as GSM8K's train.jsonl; ``adaptive`` then reads features of the texts, as
            it does live.
        json: print JSON instead of a table.

    Raises:
        DataError: if the traces are missing, damaged, or have too few outcomes, or the questions
            are not theirs.
    """
    report = replay(recordings(traces, dataset, questions), config)
    if json:
        print(json_module.dumps(report, indent=1, allow_nan=False))
        return
    table = Table(
        Column("run", overflow="fold"),
        "samples",
        "Spearman",
        f"n={config.samples}",
        "difference",
        "bias",
    )
    for row in report["runs"]:
        spread = row["difference"]
        table.add_row(
            row["run"],
            f"{row['share']['mean']:.1%}",
            f"{row['spearman']['mean']:.3f}",
            f"{row['paper_spearman']['mean']:.3f}",
            f"{spread['mean']:+.3f} ({spread['low']:+.3f} to {spread['high']:+.3f})",
            f"{row['bias']['mean']:+.4f}",
        )
    console = Console(highlight=False)
    console.print(table)
    console.print(
        f"Policy {config.policy}; samples: share of the paper's {config.samples} per example and "
        f"checkpoint; {config.repeats} repetitions, {report['level']:.0%} interval; "
        f"{report['about']}."
    )


if __name__ == "__main__":
    run_script(main)
