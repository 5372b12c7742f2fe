"""Scored examples of a finished run: accuracy per group and round, and some examples.

Written into the run's folder where it ran, because there the pool is at hand; a report needs no
data and no model.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from activeselect.config import RunConfig
from activeselect.data.pool import Pool
from activeselect.errors import ActiveSelectError
from activeselect.files import read_json, write_json
from activeselect.scoring.store import ScoreStore

FILE = "scored.json"
#: Examples kept per run for reading, spread evenly over the scored ones.
EXAMPLES = 60
MEASURES = ("accuracy", "premem", "prequential")

Row = dict[str, Any]


def summarise_scores(pool: Pool, store: ScoreStore) -> Row:
    """Per round and group what was measured, and some examples with their history.

    Args:
        pool: all problems of the run.
        store: its scores.

    Returns:
        ``rounds``: one dict per scored round with ``round, stage, epoch, kind`` and ``groups``
        (name -> ``scored`` and the mean of each measure); ``scored`` and ``examples``: how many
        the last round measured, and some of them with text, last completions and ``history``.
        The kind is ``train`` (in the train set), ``candidates`` (not in it) or ``before``
        (chosen, and not trained on yet).
    """
    rounds = [(number, store.read(number).to_pydict()) for number in store.rounds()]
    kinds = _kinds([table for _, table in rounds])
    rows = [_round_row(number, table, pool) for number, table in rounds]
    return {
        "rounds": [row | {"kind": kind} for row, kind in zip(rows, kinds, strict=True)],
        "scored": len(rounds[-1][1]["index"]) if rounds else 0,
        "examples": _examples(pool, rounds) if rounds else [],
    }


def _kinds(tables: Sequence[Row]) -> list[str]:
    """What kind of examples each round measured; candidates have no example in the train set."""
    kinds: list[str] = []
    train: dict[Any, set[int]] = {}
    for table in tables:
        index, stage = set(table["index"]), _when(table, 0).get("stage")
        if "prequential" in table:
            kinds.append("before")
        elif index.isdisjoint(train.setdefault(stage, index)) and index:
            kinds.append("candidates")
        else:
            kinds.append("train")
    return kinds


def _round_row(number: int, table: Row, pool: Pool) -> Row:
    codes = pool.groups[np.array(table["index"], dtype=np.int64)]
    groups = {}
    for code in np.unique(codes):
        inside = codes == code
        means = {name: _mean(table, name, inside) for name in MEASURES if name in table}
        groups[pool.group_names[int(code)]] = {"scored": int(inside.sum()), **means}
    return {"round": number, **_when(table, 0), "groups": groups}


def _mean(table: Row, name: str, inside: NDArray[np.bool_]) -> float | None:
    values = np.array(table[name], dtype=np.float64)[inside]
    return None if np.isnan(values).all() else round(float(np.nanmean(values)), 6)


def _when(table: Row, row: int) -> Row:
    return {name: table[name][row] for name in ("stage", "epoch") if table.get(name)}


def _examples(pool: Pool, rounds: list[tuple[int, Row]]) -> list[Row]:
    """Examples of the last round, evenly spaced by position, each with its score in all rounds."""
    positions = sorted(rounds[-1][1]["index"])
    spaced = np.linspace(0, len(positions) - 1, min(EXAMPLES, len(positions))).round()
    chosen = [positions[int(i)] for i in spaced]
    rows: dict[int, Row] = {
        position: {
            "position": position,
            "question": problem.question,
            "trace": problem.trace,
            "answer": problem.answer,
            "group": problem.group,
            "premem": None,
            "completions": [],
            "history": [],
        }
        for position, problem in zip(chosen, pool.problems(chosen), strict=True)
    }
    for number, table in rounds:
        for i, position in enumerate(table["index"]):
            if position not in rows:
                continue
            scores = {name: _number(table[name][i]) for name in MEASURES if name in table}
            row = rows[position]
            row["history"].append({"round": number, **_when(table, i), **scores})
            row["premem"] = scores.get("premem", row["premem"])
            row["completions"] = table["completions"][i] if table.get("completions") else []
    return list(rows.values())


def _number(value: float | None) -> float | None:
    return None if value is None or value != value else value


def scored_of(folder: Path, config: RunConfig, fingerprint: str) -> Row:
    """What a run's folder says it measured; read from its store where it was not written yet.

    Raises:
        ActiveSelectError: if the store cannot be read.
    """
    if (folder / FILE).exists():
        stored: Row = read_json(folder / FILE)
        return stored
    if not any((folder / "scores").glob("*.parquet")):
        return {"rounds": [], "scored": 0, "examples": []}
    pool = pool_of(config, fingerprint)
    store = ScoreStore(folder / "scores", pool.fingerprint, pool_size=len(pool))
    found = summarise_scores(pool, store)
    write_json(folder / FILE, found)
    return found


def pool_of(config: RunConfig, fingerprint: str) -> Pool:
    """The problems of a finished run, read again from where they were.

    Args:
        config: the run's settings.
        fingerprint: of its pool, as ``result.json`` states it.
    """
    from activeselect.data.load import load_data

    pool = load_data(config.data, seed=config.seed).pool
    if pool.fingerprint == fingerprint:
        return pool
    from activeselect.training.run import ActiveRun

    return ActiveRun(config).data.pool  # problems too long for the model were left out


def write_scored(folder: Path, pool: Pool) -> None:
    """Leave the summary in the folder of a run that has just finished."""
    if (folder / FILE).exists() or not (folder / "scores").is_dir():
        return
    try:
        store = ScoreStore(folder / "scores", pool.fingerprint, pool_size=len(pool))
        write_json(folder / FILE, summarise_scores(pool, store))
    except ActiveSelectError as error:  # the run itself is good; its report shows less
        write_json(folder / FILE, {"rounds": [], "scored": 0, "examples": [], "note": str(error)})
