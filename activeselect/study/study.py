"""A study: strategies x seeds x budgets in worker processes, then one honest comparison."""

from __future__ import annotations

import os
import shutil
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from joblib import Parallel, delayed, parallel_config
from rich.console import Console

from activeselect.config import StudyConfig, changes, to_plain
from activeselect.data.inputs import Snapshot, changed, snapshot, snapshot_model, sources_of
from activeselect.errors import ConfigError, StoreError, StudyError
from activeselect.files import read_object, write_json
from activeselect.study.cell import StudyDisplay, check_start, finished, run_cell
from activeselect.study.collect import collect
from activeselect.study.merge import conclude
from activeselect.study.plan import Cell, dataset_names, in_order, plan


class Study:
    """Compares strategies with paired seeds at equal budgets.

    Example::

        study = Study(StudyConfig(data=(DataConfig("skills:mixed"),), seeds=(0, 1, 2)))
        results = study.run(Path("studies/first"))
        print(*results["verdicts"], sep="\\n")

    Args:
        config: all settings.

    Raises:
        StudyError: from :meth:`run`, if a run failed (the others are reported).
        StoreError: from :meth:`run`, if the folder holds runs with other settings or data.
    """

    def __init__(self, config: StudyConfig) -> None:
        self.config = config
        self.cells = plan(config)

    def run(
        self, out: Path, *, console: Console | None = None, loggers: Sequence[str] = ("csv",)
    ) -> dict[str, Any]:
        """Run what is not finished yet, and write results, figures and report into ``out``.

        Args:
            out: folder of the study; a repeated call continues, more seeds or strategies extend it.
            console: where progress is shown; default: nowhere.
            loggers: where each run's metrics go, as in :meth:`ActiveRun.run`.

        Returns:
            The content of ``results.json``.

        Raises:
            StoreError: if ``out`` holds a study whose finished cells have other settings, or whose
                data or model was changed since.
            ModelError: if there is no such model; said once, before the first cell.
            StudyError: if cells failed (the others are run and kept).
        """
        console = console or Console(quiet=True)
        reuse = [Path(folder).resolve() for folder in self.config.reuse]
        for folder in reuse:
            if not (folder / "cells").is_dir():
                raise StoreError(f"reuse: expected folders of studies; {folder} has no cells/.")
        todo = sum(not finished(cell, out) for cell in self.cells)
        if todo:
            # each process loads its libraries meanwhile, and this one never has to
            count = processes(self.config.workers, todo)
            with side_by_side(self.config.backend):
                parent = _parent_of(count, self.config.backend)
                start = delayed(check_start)(self.config.model, loggers, parent)
                Parallel(n_jobs=count)([start] * count)
        self._claim(out)
        errors = run_cells(
            self.cells,
            out,
            workers=self.config.workers,
            backend=self.config.backend,
            console=console,
            loggers=loggers,
            share=self.config.share,
            reuse=reuse,
        )
        done = [cell for cell in self.cells if finished(cell, out)]
        if not done:
            raise StudyError(f"All {len(errors)} runs failed; the first: {errors[0]}")
        measured, answers = collect(to_plain(self.config), out)
        results, _ = conclude(measured, answers, out)
        if errors:
            raise StudyError(
                f"{len(errors)} of {len(self.cells)} runs failed, the first: {errors[0]}. The "
                "report covers the others; the same command tries again."
            )
        return results

    def _claim(self, out: Path) -> None:
        """Refuse a folder whose finished cells were run with other settings."""
        for cell in self.cells:
            stored = out / cell.folder / "config.json"
            if stored.exists():
                differing = changes(read_object(stored), to_plain(cell.config))
                if differing:
                    raise StoreError(
                        f"{out} holds a study with other settings ({'; '.join(differing[:5])}). "
                        "Use a new folder, or the same settings to continue."
                    )
        self._check_inputs(out)
        write_json(out / "study.json", to_plain(self.config))

    def _check_inputs(self, out: Path) -> None:
        sources = {}
        for name, data in zip(dataset_names(self.config.data), self.config.data, strict=True):
            for part, source in sources_of(data).items():
                sources[f"{part} set of {name} ({source})"] = source
        begun = any((out / cell.folder / "config.json").exists() for cell in self.cells)
        check_inputs(out, self.config.model, sources, begun=begun)


def check_inputs(out: Path, model: str, sources: Mapping[str, str], *, begun: bool) -> None:
    """Note what runs read, or refuse to put runs beside others on other data or another model.

    Args:
        out: folder of the runs; its ``inputs.json`` is compared and written.
        model: of the runs.
        sources: path or hub id by what it is called in the error.
        begun: whether there are runs already.

    Raises:
        StoreError: which of them was changed since, and which of its files.
    """
    file = out / "inputs.json"
    stored: dict[str, Snapshot] = read_object(file) if begun and file.exists() else {}
    now = {what: snapshot(source, stored.get(what)) for what, source in sources.items()}
    of_model = f"model {model}"
    now[of_model] = snapshot_model(model, stored.get(of_model))
    for what in sorted(stored.keys() & now.keys()):
        if files := changed(stored[what], now[what]):
            raise StoreError(
                f"{out} holds runs with another {what}: it was changed since ("
                f"{', '.join(files[:3])}). Restore it to continue, or start over in a new "
                "folder; runs on old and new data are never averaged."
            )
    write_json(file, {**stored, **now})


def run_cells(
    cells: Sequence[Cell],
    out: Path,
    *,
    workers: int,
    console: Console,
    backend: str = "loky",
    display: Callable[..., StudyDisplay] = StudyDisplay,
    loggers: Sequence[str] = ("csv",),
    share: bool = True,
    reuse: Sequence[Path] = (),
) -> list[str]:
    """Run the unfinished cells in worker processes; returns what went wrong, one line each."""
    todo = [cell for cell in cells if not finished(cell, out)]
    count = processes(workers, len(todo))
    todo = in_order(todo, count)
    left = Counter(cell.shared for cell in todo)
    errors: list[str] = []
    _tidy(cells, out)  # what a stop may have left
    if not todo:
        return errors
    if backend == "ray":  # a cluster's processes have folders of their own to start from
        out = out.resolve()
    with (
        warnings.catch_warnings(),
        display(cells, out, console) as shown,
        side_by_side(backend),
    ):
        # joblib ends workers that are idle or have grown, and starts others; no run is lost by it
        warnings.filterwarnings("ignore", message="A worker stopped while some jobs were given")
        # Ray's backend gives results when all are there; progress is read from the cells' files
        unordered = "list" if backend == "ray" else "generator_unordered"
        runs = Parallel(n_jobs=count, return_as=unordered)(
            delayed(run_cell)(
                cell,
                out,
                loggers,
                share=share and _is_shared(cell, left, out),
                reuse=reuse,
                parent=_parent_of(count, backend),
            )
            for cell in todo
        )
        for cell, error in runs:
            shown.cell_done(cell, error)
            if error is not None:
                errors.append(f"{cell.dataset} · {cell.strategy} · seed {cell.seed}: {error}")
            _tidy(cells, out)
    return errors


def _parent_of(workers: int, backend: str) -> int | None:
    """The process that workers have to end with; none in this process, or on a cluster."""
    return os.getpid() if workers > 1 and backend == "loky" else None


def processes(workers: int, cells: int) -> int:
    """How many of them are worth having; ``workers`` 0 = one per core."""
    return min(workers or os.cpu_count() or 1, max(cells, 1))


def _tidy(cells: Sequence[Cell], out: Path) -> None:
    """Remove what cells shared where all of them are finished."""
    needed = {cell.shared for cell in cells if not finished(cell, out)}
    for done in {cell.shared for cell in cells} - needed:
        shutil.rmtree(out / done, ignore_errors=True)
    for folder in [*(out / "shared").glob("*"), out / "shared"]:
        with suppress(OSError):  # not empty
            folder.rmdir()


def _is_shared(cell: Cell, left: Counter[str], out: Path) -> bool:
    """Whether another cell is to come that has something in common, or one has left it."""
    return left[cell.shared] > 1 or (out / cell.shared).exists()


@contextmanager
def side_by_side(backend: str) -> Iterator[None]:
    """Where joblib runs what is run in parallel inside: on this machine, or on a Ray cluster.

    Raises:
        ConfigError: if Ray is not installed.
    """
    if backend == "ray":
        try:
            from ray.util.joblib import register_ray
        except ImportError as error:
            raise ConfigError(
                "backend: ray needs the extra: pip install 'activeselect[ray]'."
            ) from error
        register_ray()  # type: ignore[no-untyped-call,unused-ignore]
    with parallel_config(backend=backend):
        yield
