"""What carries over from scored examples to the others, on recorded runs of real text.

Each run's examples are split at random: ``train`` of them count as scored, and the premem that
they had at the run's last checkpoint is carried over to all others by
:class:`activeselect.selection.carry_over.CarryOver`, as an acquiring run with ``rounds.near: auto``
does it. Then the ``take`` others of the lowest expected premem are taken (at most half of them).

*Not understood* is a premem of at most 0.6, the default threshold of the strategy ``premem``;
memorized is a mean NLL below ``tau`` nats per token, by default exp(-2.3), the paper's threshold
on GSM8K. The enrichment is the share of not understood examples among those taken over their share
among all others (``base``); ``most`` is what it would be if all taken were not understood (or as
many as there are).

    python research/carry_over.py --traces DIR --questions train.jsonl --train 1000 --json true
"""

from __future__ import annotations

import json as jsonlib
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import spearmanr
from sklearn.linear_model import RidgeCV

from activeselect.arrays import FloatArray, IntArray
from activeselect.data.pool import Pool, Problem
from activeselect.data.tabular import BadRow, open_file
from activeselect.data.text_features import QUESTION_COUNTS, TRACE_COUNTS, text_counts
from activeselect.errors import DataError
from activeselect.forecast.traces import EXAMPLES_SCHEMA, datasets_in, read_table, read_traces
from activeselect.scoring.functional import pre_memorization_accuracy
from activeselect.selection.carry_over import CarryOver
from activeselect.selection.neighbours import neighbourhood_of

#: Least correlation of the logarithms of tokens and characters of the same traces.
ALIKE = 0.7
#: Highest premem that counts as not understood.
UNDERSTOOD = 0.6
#: Numbers read off the texts that the control, a ridge, is fitted to.
RIDGE = tuple(
    f"question: {name}"
    for name in (
        "words", "numbers", "largest number", "question marks", "percents and fractions",
        "comparisons", "sentences",
    )
) + tuple(
    f"trace: {name}"
    for name in ("steps", "characters", "plus", "minus", "times", "divided", "equals")
)  # fmt: skip


def carry_over(
    traces: Path,
    questions: Path,
    train: int = 1000,
    take: int = 1000,
    near: str = "auto",
    tau: float = math.exp(-2.3),
    draws: int = 3,
    seed: int = 0,
    ridge: bool = False,
    json: bool = False,
) -> None:
    """Print how well premem carries over, per recorded run.

    Args:
        traces: folder of recorded runs.
        questions: the texts of their examples, in the order of their ids.
        train: scored examples, drawn at random.
        take: how many of the others are taken.
        near: ``auto``, ``text`` or ``regression``, as ``rounds.near``.
        tau: mean NLL below which a trace counts as memorized, nats per token.
        draws: random draws of the scored examples, over which everything is averaged.
        seed: of the draws.
        ridge: also judge the control, a ridge on 14 numbers read off the texts.
        json: print JSON instead of a table.
    """
    texts = _read_texts(questions)
    pool = Pool.from_problems(
        (Problem(i, question, trace, "") for i, (question, trace) in enumerate(texts)),
        checker="number",
    )
    counts = text_counts(*zip(*texts, strict=True)) if ridge else np.zeros((len(texts), 0))
    found = []
    for dataset in datasets_in(traces):
        if not _fits(texts, traces / f"{dataset}_examples.parquet"):
            continue
        for run in read_traces(traces, dataset):
            premem = pre_memorization_accuracy(run.accuracy, run.mean_nll, tau)[-1]
            judged = [
                _judge(pool, counts, run.example_id, premem, train, take, near, seed + draw)
                for draw in range(draws)
            ]
            row: dict[str, Any] = {"run": run.name}
            for key in judged[0]:
                values = [one[key] for one in judged]
                number = isinstance(values[0], float)
                row[key] = float(np.mean(values)) if number else ", ".join(sorted(set(values)))
            found.append(row)
            if not json:
                print(_line(row), flush=True)
    if not found:
        raise DataError(
            f"{traces}: expected runs of the dataset whose texts {questions} holds; found none; "
            "give the train split of a recorded dataset, unshuffled"
        )
    if json:
        print(jsonlib.dumps({"runs": found}, indent=1))


def _read_texts(path: Path) -> list[tuple[str, str]]:
    """Question and reference trace of every row: columns ``question`` and ``trace``, or ``answer``.

    Raises:
        DataError: if the file cannot be read, or a row lacks one of them.
    """
    source = open_file(path)
    texts = []
    for row in source.read(None):
        if isinstance(row, BadRow):
            raise DataError(f"{path}, {source.unit} {row.line}: {row.reason}; repair it")
        question, trace = row.values.get("question"), row.values.get("trace")
        trace = row.values.get("answer") if trace is None else trace
        if not isinstance(question, str) or not isinstance(trace, str):
            raise DataError(
                f"{path}, {source.unit} {row.line}: expected texts in the columns question and "
                f"trace (or answer), found {', '.join(map(str, row.values)) or 'nothing'}"
            )
        texts.append((question, trace))
    return texts


def _fits(texts: list[tuple[str, str]], recorded: Path) -> bool:
    """Whether these are the texts of recorded examples: ids are rows, lengths go together."""
    table = read_table(recorded, EXAMPLES_SCHEMA, {"n_tokens"})
    ids = table["example_id"].to_numpy()
    if ids.max(initial=0) >= len(texts):
        return False
    if "n_tokens" not in table.column_names or table["n_tokens"].null_count == len(table):
        return True
    tokens = table["n_tokens"].to_numpy().astype(float)
    known = ~np.isnan(tokens)
    characters = np.array([len(trace) for _, trace in texts], float)[ids[known]]
    return bool(np.corrcoef(np.log1p(tokens[known]), np.log1p(characters))[0, 1] > ALIKE)


def _judge(
    pool: Pool,
    counts: FloatArray,
    ids: IntArray,
    premem: FloatArray,
    train: int,
    take: int,
    near: str,
    seed: int,
) -> dict[str, Any]:
    """One draw of the scored examples."""
    order = np.random.default_rng([seed, 15]).permutation(np.flatnonzero(~np.isnan(premem)))
    if len(order) < 2 * train and len(order) - train < 100:
        raise DataError(
            f"--train: expected fewer than the run's {len(order)} examples; received {train}"
        )
    scored, rest = order[:train], order[train:]
    value = np.full(len(pool), np.nan)
    value[ids[scored]] = premem[scored]
    over = neighbourhood_of(pool, ids[scored], ids[rest], near=near)
    expected, error = over.average(value), over.error(value)
    judged = _figures(expected, premem[rest], take)
    judged["by"] = over.carried(value).by if isinstance(over, CarryOver) else near
    judged["error_ratio"] = float(np.sqrt(np.mean(((premem[rest] - expected) / error) ** 2)))
    if counts.shape[1]:
        names = QUESTION_COUNTS + TRACE_COUNTS
        columns = counts[:, [names.index(name) for name in RIDGE]]
        mean, spread = columns[ids[scored]].mean(axis=0), columns[ids[scored]].std(axis=0)
        columns = (columns - mean) / np.where(spread > 0, spread, 1)
        fitted = RidgeCV(np.logspace(-1, 5, 13)).fit(columns[ids[scored]], premem[scored])
        control = _figures(fitted.predict(columns[ids[rest]]), premem[rest], take)
        judged |= {f"ridge_{name}": control[name] for name in ("spearman", "enrichment")}
    return judged


def _figures(expected: FloatArray, premem: FloatArray, take: int) -> dict[str, Any]:
    size = min(take, len(premem) // 2)
    lowest = np.argsort(expected, kind="stable")[:size]
    low = premem <= UNDERSTOOD
    base = float(low.mean())
    return {
        "spearman": float(spearmanr(expected, premem)[0]) if np.ptp(expected) else 0.0,
        "enrichment": float(low[lowest].mean()) / base,
        "base": base,
        "most": min(float(low.sum()) / size, 1.0) / base,
        "taken": float(size),
    }


def _line(row: dict[str, Any]) -> str:
    figures = " | ".join(
        f"{value:.3f}" if isinstance(value, float) else value for value in row.values()
    )
    return f"| {figures} |"


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for `python research/...`
    from research.script import run_script

    run_script(carry_over)
