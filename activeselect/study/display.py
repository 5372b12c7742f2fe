"""What a person sees while a study runs: what is under way, and how long is left."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from activeselect.study.cell import finished, progress_of
from activeselect.study.plan import Cell


class StudyDisplay:
    """A progress bar over all examples to train and a line per running cell.

    Reads the cells' progress files in a thread of its own; the study's processes know nothing
    of it.
    """

    def __init__(self, cells: Sequence[Cell], out: Path, console: Console) -> None:
        self.cells, self.out, self.console = list(cells), out, console
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f}%"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
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
        done = -self._already
        for cell in self.cells:
            if cell.folder in self._finished:
                done += cell.work
                if cell.folder in self._tasks:
                    self.progress.remove_task(self._tasks.pop(cell.folder))
                continue
            report = progress_of(cell, self.out)
            if report is None:
                continue
            done += report["done"]
            text = f"{cell.dataset} · {cell.strategy} · seed {cell.seed}: {report['doing']}"
            if cell.folder not in self._tasks:
                self._tasks[cell.folder] = self.progress.add_task(text, total=cell.work)
            self.progress.update(
                self._tasks[cell.folder], completed=report["done"], description=text
            )
        self.progress.update(self._whole, completed=max(done, 0))
