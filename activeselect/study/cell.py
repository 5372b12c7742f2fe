"""One cell in a worker process: run it, tell how far it is, never take the study down."""

from __future__ import annotations

import contextlib
import os
import time
import traceback
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from activeselect.errors import ActiveSelectError
from activeselect.files import read_json, write_json, write_text
from activeselect.study.plan import Cell
from activeselect.study.scored import write_scored

_SECONDS_BETWEEN_REPORTS = 0.5


class ProgressFile:
    """Writes how far a cell is, at most twice a second, for the study's display to read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._last = 0.0

    def __call__(self, done: int, total: int, doing: str) -> None:
        now = time.monotonic()
        if now - self._last >= _SECONDS_BETWEEN_REPORTS:
            self._last = now
            write_json(self.path, {"done": done, "total": total, "doing": doing})


def run_cell(cell: Cell, out: Path, loggers: Sequence[str] = ("csv",)) -> str | None:
    """Run or continue one cell.

    Args:
        out: the study's folder.
        loggers: where its metrics go.

    Returns:
        None, or what went wrong in one line (the traceback is in the cell's ``error.txt``).
    """
    folder = out / cell.folder
    try:
        _train(cell, folder, loggers)
    except ActiveSelectError as error:
        return str(error)
    except Exception as error:  # a broken strategy must not stop the other cells
        write_text(folder / "error.txt", traceback.format_exc())
        return f"{type(error).__name__}: {error} (traceback in {folder / 'error.txt'})"
    return None


def _train(cell: Cell, folder: Path, loggers: Sequence[str]) -> None:
    from activeselect.training.run import ActiveRun

    with quiet_worker():
        run = ActiveRun(cell.config)
        run.run(folder, progress=ProgressFile(folder / "progress.json"), loggers=loggers)
        write_scored(folder, run.data.pool)


@contextlib.contextmanager
def quiet_worker() -> Iterator[None]:
    """One thread and no output: what a worker process beside others needs."""
    import torch
    from transformers.utils import logging

    # small models are fastest on one thread each, several cells side by side; and the number of
    # threads changes the order of sums, so a fixed one keeps results the same everywhere
    torch.set_num_threads(1)
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # has no annotations
    with (
        warnings.catch_warnings(),
        Path(os.devnull).open("w") as nowhere,
        contextlib.redirect_stdout(nowhere),
        contextlib.redirect_stderr(nowhere),
    ):
        warnings.simplefilter("ignore")
        yield


def finished(cell: Cell, out: Path) -> bool:
    return (out / cell.folder / "result.json").exists()


def progress_of(cell: Cell, out: Path) -> dict[str, Any] | None:
    """The last progress report of a cell, or None before the first."""
    try:
        report: dict[str, Any] = read_json(out / cell.folder / "progress.json")
    except ActiveSelectError:
        return None
    return report
