"""Selections of a finished run: who was chosen in each round, by what, and some of the questions.

Written into the run's folder where it ran, as :mod:`activeselect.study.scored` is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from activeselect.config import RunConfig
from activeselect.data.pool import Pool
from activeselect.errors import ActiveSelectError
from activeselect.files import read_json, write_json
from activeselect.study.scored import pool_of

FILE = "chosen.json"
#: Questions kept per round: those of the highest score, or the first ones.
QUESTIONS = 3

Row = dict[str, Any]


def summarise_choices(pool: Pool, rounds: Mapping[int, pa.Table]) -> list[Row]:
    """What each round of a run chose.

    Args:
        pool: all problems of the run.
        rounds: its selections by number, with the columns of
            :mod:`activeselect.training.selections`.

    Returns:
        Per round ``round``, ``examples``, ``groups`` (name -> share of the weight), ``difficulty``
        (mean; None where the data states none), ``score`` (lowest, median and highest; None where
        chance decided), ``reasons`` (text -> examples) and ``questions`` (question, score).

    Example:
        >>> from activeselect.data.pool import Problem
        >>> problems = [Problem(i, f"{i} + 1 ?", "2", "2", "ab"[i]) for i in (0, 1)]
        >>> pool = Pool.from_problems(problems, checker="number")
        >>> rows = dict(index=[0, 1], weight=[3.0, 1.0], score=[None, None], reason=["r", "r"])
        >>> summarise_choices(pool, {0: pa.table(rows)})[0]["groups"]
        {'a': 0.75, 'b': 0.25}
    """
    if len(pool.group_names) == 1:  # hidden from strategies, not from the report
        pool = pool.stated()
    return [_of_round(pool, number, table) for number, table in sorted(rounds.items())]


def _of_round(pool: Pool, number: int, table: pa.Table) -> Row:
    index = table["index"].to_numpy()
    weight, score = (np.array(table[name].to_pylist(), float) for name in ("weight", "score"))
    total = weight.sum() or 1.0
    shares = np.bincount(pool.groups[index], weight, len(pool.group_names)) / total
    difficulty = None if pool.difficulty is None else pool.difficulty[index]
    known = score[~np.isnan(score)]
    order = np.argsort(np.where(np.isnan(score), -np.inf, score), kind="stable")[::-1]
    some = order[:QUESTIONS] if len(known) else np.arange(min(QUESTIONS, len(index)))
    return {
        "round": number,
        "examples": len(index),
        "groups": {
            name: round(float(share), 6)
            for name, share in zip(pool.group_names, shares, strict=True)
            if share
        },
        "difficulty": None if difficulty is None else _mean(difficulty),
        "score": [float(np.quantile(known, q)) for q in (0, 0.5, 1)] if len(known) else None,
        "reasons": dict(Counter(table["reason"].to_pylist()).most_common()),
        "questions": [
            {"question": problem.question, "score": None if np.isnan(value) else float(value)}
            for problem, value in zip(pool.problems(index[some]), score[some], strict=True)
        ],
    }


def _mean(values: np.ndarray) -> float | None:
    return None if np.isnan(values).all() else float(np.nanmean(values))


def write_chosen(folder: Path, pool: Pool) -> None:
    """Leave the summary in the folder of a run that has just finished."""
    if not (folder / FILE).exists() and (folder / "selections").is_dir():
        write_json(folder / FILE, summarise_choices(pool, _tables(folder)))


def chosen_of(folder: Path, config: RunConfig, fingerprint: str) -> list[Row]:
    """What a run's folder says it chose; read from its records where it was not written yet.

    Raises:
        ActiveSelectError: if the data cannot be read.
    """
    if not (folder / FILE).exists():
        if not (folder / "selections").is_dir():  # earlier versions recorded none
            return []
        write_chosen(folder, pool_of(config, fingerprint))
    stored: list[Row] = read_json(folder / FILE)
    return stored


def _tables(folder: Path) -> dict[int, pa.Table]:
    files = (folder / "selections").glob("round-*.parquet")
    try:
        return {int(file.stem.removeprefix("round-")): pq.read_table(file) for file in files}
    except (pa.ArrowException, OSError, ValueError) as error:
        raise ActiveSelectError(f"Cannot read the selections in {folder}: {error}") from error
