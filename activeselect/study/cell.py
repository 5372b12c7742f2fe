"""Cell of a study in a worker process; its failure never stops the study."""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import threading
import time
import traceback
import warnings
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Column

from activeselect.errors import ActiveSelectError
from activeselect.files import read_json, write_json, write_text
from activeselect.seals import check_results
from activeselect.study.chosen import write_chosen
from activeselect.study.plan import Cell
from activeselect.study.scored import write_scored

if TYPE_CHECKING:
    from activeselect.training.run import ActiveRun


# --- Display of a running study


class StudyDisplay:
    """A progress bar over all examples to train and a line per running cell.

    Reads the cells' progress files in a thread of its own; the study's processes know nothing
    of it.
    """

    def __init__(self, cells: Sequence[Cell], out: Path, console: Console) -> None:
        self.cells, self.out, self.console = list(cells), out, console
        self.progress = Progress(
            # 80 columns are few: a long description gives way, and the numbers never
            TextColumn(
                "{task.description}",
                table_column=Column(no_wrap=True, overflow="ellipsis", ratio=1),
            ),
            BarColumn(bar_width=8),
            TextColumn("{task.percentage:>3.0f}%"),
            TimeElapsedColumn(table_column=Column(no_wrap=True, min_width=7)),
            TextColumn("left"),
            TimeRemainingColumn(table_column=Column(no_wrap=True, min_width=7)),
            expand=True,
            console=console,
            transient=True,
        )
        self._tasks: dict[str, TaskID] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._already = sum(cell.work for cell in self.cells if finished(cell, out))
        self._finished = {cell.folder for cell in self.cells if finished(cell, out)}

    def __enter__(self) -> StudyDisplay:
        # what an earlier call finished is not in the total, or the time left would be wrong
        total = sum(cell.work for cell in self.cells) - self._already
        self._whole = self.progress.add_task("study", total=max(total, 1))
        self.progress.start()
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()
        self.progress.stop()

    def cell_done(self, cell: Cell, error: str | None) -> None:
        """One line per finished cell, also where there is no terminal."""
        self._finished.add(cell.folder)
        name = f"{cell.dataset} · {cell.strategy} · seed {cell.seed}"
        count = f"[{len(self._finished)}/{len(self.cells)}]"
        if error is None:
            self.console.print(f"{count} {name}", markup=False, highlight=False)
        else:
            self.console.print(f"{count} {name} FAILED: {error}", style="red", markup=False)

    def _watch(self) -> None:
        while not self._stop.wait(0.5):
            self._update()

    def _update(self) -> None:
        done = -float(self._already)
        for cell in self.cells:
            if cell.folder in self._finished:
                done += cell.work
                if cell.folder in self._tasks:
                    self.progress.remove_task(self._tasks.pop(cell.folder))
                continue
            report = progress_of(cell, self.out)
            if report is None:
                continue
            here = cell.work * report["done"] / max(report["total"], 1)
            done += here
            text = f"{cell.dataset} · {cell.strategy} · seed {cell.seed}: {report['doing']}"
            if cell.folder not in self._tasks:
                self._tasks[cell.folder] = self.progress.add_task(text, total=cell.work)
            self.progress.update(self._tasks[cell.folder], completed=here, description=text)
        self.progress.update(self._whole, completed=max(done, 0))


_SECONDS_BETWEEN_REPORTS = 0.5
_SECONDS_BETWEEN_LOOKS = 0.5  # of a worker, whether its study is there
#: For torch's and numpy's matrix products, and for the tokenizers.
_ONE_THREAD = {
    **dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1"),
    "RAYON_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
}


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


def check_start(model: str, loggers: Sequence[str], parent: int | None = None) -> None:
    """What can be known to fail before the first cell.

    Args:
        model: of the study.
        loggers: where its metrics go.
        parent: as for :func:`run_cell`; loading the libraries can take a minute, too.

    Raises:
        ModelError: if there is no such model.
        ConfigError: if a logger is unknown or not installed.
    """
    if parent is not None:
        _end_with(parent)
    with quiet_worker():
        from activeselect.training.loggers import checked_loggers
        from activeselect.training.module import load_tokenizer
        from activeselect.training.run import ActiveRun  # noqa: F401  # loaded by now

        checked_loggers(loggers)
        load_tokenizer(model)


def run_cell(
    cell: Cell,
    out: Path,
    loggers: Sequence[str] = ("csv",),
    *,
    share: bool = False,
    reuse: Sequence[Path] = (),
    parent: int | None = None,
) -> tuple[Cell, str | None]:
    """Run or continue one cell.

    Args:
        out: the study's folder.
        loggers: where its metrics go.
        share: whether to compute with others what cells of this seed have in common.
        reuse: folders of studies that may have this cell already.
        parent: the process of the study, which started this one; this one ends with it.

    Returns:
        The cell, and what went wrong in one line (the traceback is in the cell's ``error.txt``) or
        None.
    """
    folder = out / cell.folder
    if parent is not None:
        _end_with(parent)
    try:
        with quiet_worker():
            from activeselect.training.run import ActiveRun

            run = ActiveRun(cell.config)
            if (folder / "config.json").exists() or not _copied(cell, run, reuse, folder):
                report = ProgressFile(folder / "progress.json")
                common = out / cell.shared if share else None
                run.run(folder, progress=report, loggers=loggers, shared=common)
                write_scored(folder, run.data.pool)
                write_chosen(folder, run.data.pool)
    except ActiveSelectError as error:
        return cell, str(error)
    except Exception as error:  # a broken strategy must not stop the other cells
        write_text(folder / "error.txt", traceback.format_exc())
        return cell, f"{type(error).__name__}: {error} (traceback in {folder / 'error.txt'})"
    return cell, None


@functools.cache
def _end_with(parent: int) -> None:
    """End this process when ``parent`` is gone, however that ended.

    A worker that trains on alone holds its cell's lock, and the study's command cannot continue.
    What the cell has finished is on the disk, so ending at any moment loses nothing.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_SECONDS_BETWEEN_LOOKS)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _copied(cell: Cell, run: ActiveRun, reuse: Sequence[Path], folder: Path) -> bool:
    """Take the finished run of another study that is the same in all that decides the result."""
    from activeselect.training.folder import RunFolder

    for study in reuse:
        for file in sorted(study.glob(f"cells/*/*/{Path(cell.folder).name}/result.json")):
            if read_json(file).get("content_hash") == run.content_hash():
                check_results(file.parent)
                target = RunFolder(folder, cell.config)
                target.write_folder(folder, partial(_copy, file.parent))
                target.seals.write_json(target.file("inputs.json"), run.inputs)
                return True
    return False


def _copy(source: Path, target: Path) -> None:
    aside = shutil.ignore_patterns(".*", "progress.json", "shared.json")
    shutil.copytree(source, target, ignore=aside, dirs_exist_ok=True)
    write_json(target / "reused.json", {"from": str(source)})


@contextlib.contextmanager
def quiet_worker() -> Iterator[None]:
    """One thread and no output: what a worker process beside others needs."""
    # libraries read these when they start their threads: in a new process, after this
    before = os.environ.copy()
    os.environ.update(_ONE_THREAD)
    import torch
    from threadpoolctl import threadpool_limits
    from transformers.utils import logging

    # small models are fastest on one thread each, several cells side by side; and the number of
    # threads changes the order of sums, so a fixed one keeps results the same everywhere
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # has no annotations
    try:
        with (
            threadpool_limits(1),
            warnings.catch_warnings(),
            Path(os.devnull).open("w") as nowhere,
            contextlib.redirect_stdout(nowhere),
            contextlib.redirect_stderr(nowhere),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        torch.set_num_threads(threads)
        for name in _ONE_THREAD:
            os.environ.pop(name)
            os.environ.update({name: before[name]} if name in before else {})


def finished(cell: Cell, out: Path) -> bool:
    """Whether the cell has a result in the study folder ``out``."""
    return (out / cell.folder / "result.json").exists()


def progress_of(cell: Cell, out: Path) -> dict[str, Any] | None:
    """The last progress report of a cell, or None before the first."""
    try:
        report: dict[str, Any] = read_json(out / cell.folder / "progress.json")
    except ActiveSelectError:
        return None
    return report
