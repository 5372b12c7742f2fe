"""Stored pool: problems of a stream or of several sources, written once to Arrow, read from there.

A stream has no length and no order that can be asked for by number, and a strategy needs both. So
its problems are checked as those of a file are, written to a folder, and the folder is the source::

    FOLDER/data-*.arrow, ...    the problems, as `save_to_disk` of `datasets` writes them
    FOLDER/pool.json            where they came from, the checker, and what was left out
"""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets

from activeselect.data.columns import ColumnNames
from activeselect.data.hub import ABOUT, saved_dataset
from activeselect.data.inputs import changed, snapshot
from activeselect.data.load import open_rows, reader_of
from activeselect.data.pool import Pool, PoolWriter, Problem
from activeselect.data.records import rows_of
from activeselect.data.tabular import BadRow
from activeselect.data.validate import OnBadRow, check_on_bad_row, raise_bad_rows
from activeselect.errors import ConfigError, DataError, StoreError, require
from activeselect.files import explained, make_folder, read_object, write_json

_BETWEEN_REPORTS = 500  # problems

#: Told how many problems are written, and of how many (0: nobody knows).
Progress = Callable[[int, int], None]


def store_pool(
    sources: Sequence[Any],
    out: Path,
    *,
    shares: Sequence[float] = (),
    limit: int | None = None,
    split: str = "train",
    columns: ColumnNames | Mapping[str, str | None] | None = None,
    checker: str | None = None,
    on_bad_row: OnBadRow = "stop",
    append_answer: bool = False,
    progress: Progress | None = None,
) -> Pool:
    """Write the problems of some sources into a folder, or read them from there.

    Args:
        sources: each a file, a folder, a hub id (which is streamed), or an object: a
            ``datasets.IterableDataset``, a ``datasets.Dataset``, a list of dicts.
        out: the folder; where it holds the same pool already, no source is opened. Files are known
            by their content, a hub id by its name, and an object by its kind and place alone: give
            other objects another folder.
        shares: of the sources in the pool, as many as there are, summing to 1; they hold after
            every problem, up to one. Writing ends where a source has no more. Default: one source
            after the other.
        limit: problems in the pool; default: as many as there are.
        split: of folders and hub datasets.
        columns: column name by role, where the defaults do not fit; the same for all sources.
        checker: name of the answer checker; all sources need the same.
        on_bad_row: ``stop`` raises at the first broken row, ``skip`` counts it.
        append_answer: to a trace that does not state its answer, add a line that does.
        progress: told how many problems are written.

    Returns:
        the pool, memory-mapped. Problems of several sources are numbered anew, and those without a
        group get the name of their source.

    Raises:
        StoreError: if ``out`` holds something else, a file was changed since it was read, or the
            disk refuses to write.
        DataError: if a source cannot be read, or a row is broken.
        ConfigError: if a setting is out of its range.

    Example:
        >>> import tempfile
        >>> rows = [{"question": f"{i} + 1 ?", "trace": f"{i + 1}"} for i in range(4)]
        >>> stream = datasets.Dataset.from_list(rows).to_iterable_dataset()
        >>> out = Path(tempfile.mkdtemp()) / "pool"
        >>> store_pool([stream], out, checker="number")
        Pool(4 problems, 1 group, checker 'number')
    """
    _check(sources, shares, limit, on_bad_row)
    named = ColumnNames.of(columns)
    names = _names(sources)
    settings: dict[str, Any] = {
        "sources": names,
        "shares": list(shares),
        "limit": limit,
        "split": split,
        "columns": vars(named),
        "checker": checker,
        "on_bad_row": on_bad_row,
        "append_answer": append_answer,
    }
    if out.exists():
        return _read(out, settings)
    readers = [
        _problems(source, name, split, named, checker, on_bad_row, append_answer)
        for source, name in zip(sources, names, strict=True)
    ]
    files = {str(s): snapshot(str(s)) for s in sources if isinstance(s, str | Path)}
    with explained(out):
        make_folder(out.parent)
        part = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    try:
        writer = PoolWriter(0, folder=part)
        found: Counter[str] = Counter()
        checkers = set()
        for number, (name, problem, used) in enumerate(_mixed(names, readers, shares, limit)):
            checkers.add(used)
            _check_one(checkers)
            if len(names) > 1:
                problem = replace(problem, id=number, group=problem.group or name)
            with explained(out):
                writer.append(problem)
            found[name] += 1
            if progress is not None and (number + 1) % _BETWEEN_REPORTS == 0:
                progress(number + 1, limit or 0)
        if not found:
            raise DataError(f"{', '.join(names)}: expected at least one problem; received none.")
        with explained(out), _silent():
            pool = writer.finish(checker=checkers.pop())
            pool.dataset.save_to_disk(str(part / "pool"))
        kept = [found[name] for name in names]
        dropped = [reader.dropped for reader in readers]
        about = {"settings": settings, "checker": pool.checker, "problems": kept}
        about |= {"rows_left_out": dropped, "files": files}
        write_json(part / "pool" / ABOUT, about)
        (part / "pool").replace(out)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return _read(out, settings)


class _Reader:
    """Problems of one source, one at a time, and how many rows were left out."""

    def __init__(self, problems: Iterator[Problem | BadRow], checker: str) -> None:
        self._problems, self.checker, self.dropped = problems, checker, 0

    def next(self) -> Problem | None:
        for item in self._problems:
            if not isinstance(item, BadRow):
                return item
            self.dropped += 1
        return None


def _problems(
    source: Any,
    name: str,
    split: str,
    named: ColumnNames,
    checker: str | None,
    on_bad_row: OnBadRow,
    append_answer: bool,
) -> _Reader:
    given = isinstance(source, str | Path)
    rows = open_rows(str(source), split, stream=True) if given else rows_of(source, name=name)
    builder, _ = reader_of(
        rows, str(source) if given else rows.name, named, checker=checker,
        append_answer=append_answer,
    )  # fmt: skip

    def read() -> Iterator[Problem | BadRow]:
        for position, row in enumerate(rows.read(list(builder.roles.values()))):
            found = row if isinstance(row, BadRow) else builder.build(row, position)
            if isinstance(found, BadRow) and on_bad_row == "stop":
                raise_bad_rows(rows.name, rows.unit, [found], position + 1)
            yield found

    return _Reader(read(), builder.checker.name)


def _mixed(
    names: Sequence[str], readers: Sequence[_Reader], shares: Sequence[float], limit: int | None
) -> Iterator[tuple[str, Problem, str]]:
    """Problems with the name of their source and their checker; shares hold up to one problem."""
    taken = [0] * len(readers)
    while limit is None or sum(taken) < limit:
        if shares:  # the one that is furthest behind its share
            after = sum(taken) + 1
            place = max(range(len(readers)), key=lambda i: shares[i] * after - taken[i])
            problem = readers[place].next()
        else:
            tried = ((i, reader.next()) for i, reader in enumerate(readers))
            place, problem = next(((i, p) for i, p in tried if p is not None), (0, None))
        if problem is None:
            return
        taken[place] += 1
        yield names[place], problem, readers[place].checker


def _check(
    sources: Sequence[Any], shares: Sequence[float], limit: int | None, on_bad_row: OnBadRow
) -> None:
    check_on_bad_row(on_bad_row)
    require(len(sources) > 0, "sources", "at least one", list(sources))
    require(limit is None or limit >= 1, "limit", "at least 1 problem", limit)
    whole = not shares or (len(shares) == len(sources) and abs(sum(shares) - 1) < 1e-9)
    require(
        whole and all(share > 0 for share in shares),
        "shares",
        f"{len(sources)} numbers above 0 that sum to 1, one per source",
        list(shares),
    )


def _check_one(checkers: set[str]) -> None:
    if len(checkers) > 1:
        raise ConfigError(
            f"checker: expected one for all sources; they need {', '.join(sorted(checkers))}. Name "
            "one that reads the answers of all of them."
        )


def _names(sources: Sequence[Any]) -> list[str]:
    """What a source is called: its path or id, or its place among the sources."""
    return [
        str(source) if isinstance(source, str | Path) else f"{type(source).__name__} {place}"
        for place, source in enumerate(sources, 1)
    ]


def _read(out: Path, settings: Mapping[str, Any]) -> Pool:
    if not (out / ABOUT).is_file():
        raise StoreError(f"{out} exists and holds no stored pool; name another folder.")
    about = read_object(out / ABOUT)
    written, checker = about.get("settings"), about.get("checker")
    if not isinstance(written, dict) or not isinstance(checker, str):
        raise StoreError(f"{out / ABOUT} was altered; delete the folder, and write the pool anew.")
    other = [key for key, value in settings.items() if written.get(key) != value]
    if other:
        raise StoreError(
            f"{out} holds a pool that was written with other {', '.join(other)}; name another "
            "folder, or delete this one."
        )
    for source, before in about.get("files", {}).items():
        now = snapshot(source, before)
        if now and (names := changed(before, now)):  # one that is gone is not needed any more
            raise StoreError(
                f"{out} holds a pool of {source} as it was: it was changed since "
                f"({', '.join(names[:3])}). Name another folder, or delete this one."
            )
    return Pool(saved_dataset(out), checker=checker)


@contextmanager
def _silent() -> Iterator[None]:
    """No progress bar of `datasets`, which would count shards of one."""
    shown = datasets.utils.is_progress_bar_enabled()
    datasets.utils.disable_progress_bars()
    try:
        yield
    finally:
        if shown:
            datasets.utils.enable_progress_bars()
