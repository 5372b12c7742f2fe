"""Records of what was chosen, and the rows behind them, ready for another trainer.

A run keeps every selection in ``selections/round-N.parquet``. When it acquires, round 0 is the
first train set and round N what joined it before stage N; when it reweights, round 0 is the train
set and round N what is trained on after epoch N. One row per example::

    id      as in the pool
    index   its position in the pool
    weight  how strongly it is trained on, relative to the others of the round
    score   what it was chosen by (weight, rank value, share of its group, place in the order of
            choice); null where chance alone decided
    reason  in words

A strategy may also weigh the train set of an acquiring run. ``weights-S-E.parquet`` holds what is
trained on in stage S after epoch E, in the same columns; what is missing in it is left out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from activeselect.arrays import FloatArray, IntArray
from activeselect.config import RunConfig, from_plain
from activeselect.data.load import load_data
from activeselect.data.pool import Pool
from activeselect.errors import ConfigError, StoreError
from activeselect.files import make_folder, read_json, replacing, write_text
from activeselect.selection.strategy import Selection

SCHEMA = pa.schema(
    [
        ("id", pa.int64()),
        ("index", pa.int64()),
        ("weight", pa.float64()),
        ("score", pa.float64()),
        ("reason", pa.string()),
    ]
)
_ROUND = re.compile(r"round-(\d+)\.parquet")
_WEIGHTS = re.compile(r"weights-(\d+)-(\d+)\.parquet")
WHAT = ("selected", "train", "scores")
FORMATS = ("jsonl", "parquet", "hf")


def record_selection(
    folder: Path, number: int, pool: Pool, parts: Iterable[tuple[Selection, Sequence[str]]]
) -> None:
    """Write ``round-NUMBER.parquet``; a round that is chosen again is written again.

    Args:
        folder: of the selections.
        number: of the round.
        pool: that the selections point into.
        parts: selections, and for each of their examples why it was chosen.
    """
    _record(folder / f"round-{number}.parquet", pool, parts)


def record_weights(
    folder: Path,
    stage: int,
    epoch: int,
    pool: Pool,
    parts: Iterable[tuple[Selection, Sequence[str]]],
) -> None:
    """Write ``weights-STAGE-EPOCH.parquet``; the other arguments are as above."""
    _record(folder / f"weights-{stage}-{epoch}.parquet", pool, parts)


def _record(file: Path, pool: Pool, parts: Iterable[tuple[Selection, Sequence[str]]]) -> None:
    tables = []
    for selection, reasons in parts:
        size = len(selection.index)
        score = np.full(size, np.nan) if selection.score is None else selection.score
        columns = [
            pa.array(_ids(pool, selection.index), pa.int64()),
            pa.array(selection.index, pa.int64()),
            pa.array(selection.weight, pa.float64()),
            pa.array(score, pa.float64(), from_pandas=True),  # NaN is null
            pa.array(reasons, pa.string()),
        ]
        tables.append(pa.table(columns, schema=SCHEMA))
    with replacing(file) as temporary:
        pq.write_table(pa.concat_tables(tables), temporary)


def next_round(folder: Path, train: IntArray) -> int:
    """Number of the round that is chosen after a train set, for a fit without a run folder.

    The train set is what the first rounds on record chose, however many; a script that is run
    again writes the same rounds again.

    Args:
        folder: of the selections, or where they will be.
        train: positions of the train set, int64 ``[T]``.

    Raises:
        ConfigError: if the folder holds the selections of another train set.
    """
    chosen: set[int] = set()
    rounds = _rounds(folder)
    for number, file in sorted(rounds.items()):
        chosen.update(pq.read_table(file, columns=["index"])["index"].to_pylist())
        if chosen == set(train.tolist()):
            return number + 1
    if rounds:
        raise ConfigError(
            f"selections: expected a folder for the train set of {len(train)} examples; {folder} "
            f"holds those of another train set ({len(chosen)} examples). Name a new folder."
        )
    return 1


def _rounds(folder: Path) -> dict[int, Path]:
    """The recorded rounds by number."""
    return {
        int(match[1]): file
        for file in folder.glob("round-*.parquet")
        if (match := _ROUND.fullmatch(file.name))
    }


def _ids(pool: Pool, index: IntArray) -> list[int]:
    return list(pool.dataset.select_columns("id")[index.tolist()]["id"]) if len(index) else []


def read_selections(run: Path) -> dict[int, pa.Table]:
    """The selections of a run by round, in order.

    Raises:
        StoreError: if the folder holds none.
    """
    found = _rounds(run / "selections")
    if not found:
        raise StoreError(
            f"{run}: expected a run folder with selections (selections/round-0.parquet, ...); "
            "found none. `activeselect train --out DIR` writes them."
        )
    return {number: pq.read_table(found[number]) for number in sorted(found)}


def export(run: Path, *, what: str, format: str, out: Path, pool: Pool | None = None) -> int:
    """Write rows of a run with their texts.

    Args:
        run: a run folder, finished or not.
        what: ``selected`` (every selection: one row per example and round, with weight, score and
            reason), ``train`` (the examples of the last train set, with the weight of the last
            selection) or ``scores`` (the newest measurement of every signal per scored example).
        format: ``jsonl``, ``parquet``, or ``hf`` (a folder as ``datasets`` saves and loads it).
        out: file, or folder for ``hf``; must not exist.
        pool: that the run was given in Python; default: read from ``data.source``.

    Returns:
        how many rows were written.

    Raises:
        ConfigError: if an argument is unknown, or ``out`` exists.
        StoreError: if the run holds nothing of the kind, or its data has changed.
    """
    for name, value, known in (("what", what, WHAT), ("format", format, FORMATS)):
        if value not in known:
            raise ConfigError(f"{name}: expected one of {', '.join(known)}; received {value!r}.")
    if out.exists():
        raise ConfigError(f"out: {out} exists already; name a new file or folder.")
    selections = read_selections(run)
    config = from_plain(RunConfig, read_json(run / "config.json"))
    rows = {"selected": _selected, "train": _train, "scores": _scores}[what](
        run, config, selections
    )
    table = _with_texts(rows, config, run, pool)
    _write(table, format, out)
    return int(table.num_rows)


def _selected(run: Path, config: RunConfig, selections: dict[int, pa.Table]) -> pa.Table:
    return pa.concat_tables(
        table.add_column(0, "round", pa.array([number] * len(table), pa.int64()))
        for number, table in selections.items()
    )


def _train(run: Path, config: RunConfig, selections: dict[int, pa.Table]) -> pa.Table:
    first, last = selections[min(selections)], selections[max(selections)]
    if config.rounds.mode == "acquire":
        first = pa.concat_tables(selections.values())
        weights = _newest_weights(run / "selections")
        if weights is None:
            return first.select(["id", "index", "weight"])
        # what was acquired after these weights has not been judged
        judged = len(pa.concat_tables(selections[n] for n in selections if n <= weights[0]))
        last = pa.concat_tables([weights[1], first.slice(judged)])
    weight = dict(zip(last["index"].to_pylist(), last["weight"].to_pylist(), strict=True))
    now = pa.array([weight.get(i, 0.0) for i in first["index"].to_pylist()], pa.float64())
    return first.select(["id", "index"]).append_column("weight", now)


def _newest_weights(folder: Path) -> tuple[int, pa.Table] | None:
    """The stage of the last weights over a train set that grows, and they themselves."""
    found = {
        (int(match[1]), int(match[2])): file
        for file in folder.glob("weights-*.parquet")
        if (match := _WEIGHTS.fullmatch(file.name))
    }
    return (max(found)[0], pq.read_table(found[max(found)])) if found else None


def _scores(run: Path, config: RunConfig, selections: dict[int, pa.Table]) -> pa.Table:
    files = sorted((run / "scores").glob("*.parquet"))
    newest: dict[int, dict[str, float]] = {}
    names: dict[str, None] = {}
    for table in map(pq.read_table, files):  # in the order of the rounds
        signals = [f.name for f in table.schema if pa.types.is_floating(f.type)]
        names |= dict.fromkeys(signals)
        for row in table.select(["index", *signals]).to_pylist():
            known = {k: v for k, v in row.items() if k != "index" and v is not None and v == v}
            newest.setdefault(row["index"], {}).update(known)
    if not newest:
        raise StoreError(f"{run}: the run has scored nothing; its strategy requires no signal.")
    index = sorted(newest)
    columns: dict[str, Any] = {"index": pa.array(index, pa.int64())}
    for name in names:
        columns[name] = pa.array([newest[i].get(name) for i in index], pa.float64())
    return pa.table(columns)


def _with_texts(rows: pa.Table, config: RunConfig, run: Path, given: Pool | None) -> pa.Table:
    """The rows with question, trace, answer and group, read from the run's data."""
    acquires = config.rounds.mode == "acquire"
    pool = given or load_data(config.data, seed=config.seed, labels_required=not acquires).pool
    index = rows["index"].to_numpy()
    known = dict(zip(*_pairs(run), strict=True))
    ids = pool.dataset.select_columns("id")[:]["id"]
    place = {number: position for position, number in enumerate(ids)}
    # ids stay where rows that did not fit the model's context have left the pool; positions do not
    same = all(place.get(number) == i for i, number in known.items())
    where: list[int | None] = [
        place.get(known[i]) if i in known else i if same else None for i in index.tolist()
    ]
    found = [position for position in where if position is not None]
    if len(found) < len(where) or max(found, default=0) >= len(pool):
        raise _other(run)
    problems = pool.problems(found)
    texts = {
        name: pa.array([getattr(problem, name) for problem in problems], pa.string())
        for name in ("question", "trace", "answer", "group")
    }
    if "id" not in rows.column_names:
        rows = rows.add_column(0, "id", pa.array([p.id for p in problems], pa.int64()))
    for name, column in texts.items():
        rows = rows.append_column(name, column)
    return rows


def _other(run: Path) -> StoreError:
    return StoreError(
        f"{run}: the data is not what the run was trained on, or too long rows left it; expected "
        "every chosen id in it. Restore the files that data.source names in config.json."
    )


def _pairs(run: Path) -> tuple[list[int], list[int]]:
    """Positions of all recorded examples and their ids."""
    tables = read_selections(run).values()
    return (
        [i for table in tables for i in table["index"].to_pylist()],
        [i for table in tables for i in table["id"].to_pylist()],
    )


def _write(table: pa.Table, format: str, out: Path) -> None:
    import json

    if format == "hf":
        import datasets

        make_folder(out.parent)
        datasets.Dataset(table).save_to_disk(str(out))
    elif format == "parquet":
        with replacing(out) as temporary:
            pq.write_table(table, temporary)
    else:
        lines = (json.dumps(row, ensure_ascii=False) for row in table.to_pylist())
        write_text(out, "".join(line + "\n" for line in lines))


def reasons_of(
    selection: Selection, strategy: str, newest: Callable[[], FloatArray] | None
) -> list[str]:
    """Why each example was chosen, in words.

    Args:
        selection: what the strategy returned.
        strategy: its name.
        newest: reads the newest values of the first signal that it requires, float64 ``[N]``; None
            where it requires none.
    """
    how = f"{strategy}: {selection.reason or 'chosen'}"
    if newest is None:
        return [how] * len(selection.index)
    own = ~np.isnan(newest()[selection.index])
    reasons = (f"{how}, by what carries over", f"{how}, by its own score")
    return [reasons[one] for one in own.tolist()]
