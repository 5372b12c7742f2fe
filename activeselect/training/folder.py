"""The run folder: what is in it, who it belongs to, and where a stopped run continues.

::

    config.json        the resolved config
    environment.json   versions and machine
    scores/            one Parquet file per scored round
    logs/, metrics.csv Lightning's CSV logs, per stage and merged
    inputs.json        which data and which model it was begun with
    seals.json         checksums of the files that decide the result
    checkpoints/       state of the stage that is running
    state.json         what the finished stages left
    duplicates.jsonl   questions that the test asks, too, or that the pool asks twice, if any
    selections/        what was chosen and why, one Parquet file per selection
    shared.json        what other runs of a study had computed already, per stage
    result.json        the result, once the run is complete
    predictions/       right or wrong for each test problem, one Parquet file per stage and, with
                       a JSON file beside it, per test point within a fit
    model/             the fine-tuned model, as save_pretrained writes it
"""

from __future__ import annotations

import csv
import errno
import hashlib
import inspect
import json
import os
import pickle
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout

from activeselect.config import RunConfig, changes, to_plain
from activeselect.data.inputs import changed
from activeselect.environment import PACKAGES, environment
from activeselect.errors import StoreError
from activeselect.files import explained, make_folder, read_object, sync, write_json, write_text
from activeselect.scoring.distributed import once
from activeselect.seals import RESTORE, Seals, check_results

# --- Content hashes


#: The rooms whose code decides what a run's result is.
_DECISIVE = ("data", "scoring", "selection", "training")
#: Where a model was loaded from and with what says nothing about what it answers.
_IRRELEVANT = ("_name_or_path", "transformers_version")


def model_fingerprint(model: Any, tokenizer: Any) -> str:
    """Hash what decides a model's answers: its settings, its tensors, and its tokenizer's words.

    Reads every weight once, as loading the model does; about a second per gigabyte.

    Args:
        model: a transformers model.
        tokenizer: its tokenizer.

    Returns:
        16 hexadecimal digits.
    """
    settings = {k: v for k, v in model.config.to_dict().items() if k not in _IRRELEVANT}
    words = sorted(tokenizer.get_vocab().items())
    digest = hashlib.sha256(json.dumps([settings, words], sort_keys=True, default=str).encode())
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        digest.update(memoryview(flat.view(torch.uint8).numpy()))
    return digest.hexdigest()[:16]


@cache
def code_fingerprint(strategy: type | None = None) -> str:
    """Hash of the code that decides a result, and of the versions of the packages that it calls.

    Args:
        strategy: a class whose own file is part of it.

    Returns:
        16 hexadecimal digits.
    """
    versions = environment()
    digest = hashlib.sha256(json.dumps([versions[name] for name in PACKAGES]).encode())
    root = Path(__file__).parents[1]
    files = [file for room in _DECISIVE for file in sorted((root / room).rglob("*.py"))]
    for file in files:
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    if strategy is not None:
        try:
            digest.update(Path(inspect.getfile(strategy)).read_bytes())
        except (TypeError, OSError):  # typed into a session: nobody can say that it is the same
            digest.update(os.urandom(16))
    return digest.hexdigest()[:16]


@dataclass
class RunState:
    """What finished stages leave for the next one; plain numbers and lists only."""

    stage: int = 0
    rounds: int = 0
    scored: list[int] = field(default_factory=list)  # rounds in the score store
    train: list[int] = field(default_factory=list)
    cost: dict[str, float] = field(default_factory=dict)
    cost_of_choices: dict[str, float] = field(default_factory=dict)  # see Stage._choosing
    strategy: dict[str, Any] = field(default_factory=dict)
    curve: list[dict[str, Any]] = field(default_factory=list)
    labels: dict[str, dict[str, Any]] = field(default_factory=dict)  # bought, by round


class RunFolder:
    """Paths and bookkeeping of one run.

    Raises:
        StoreError: if the folder holds a run with other settings; the differences are named.
    """

    def __init__(self, path: Path, config: RunConfig) -> None:
        self.path, self.config = Path(path), config
        self.seals = Seals(self.path)
        if self.file("config.json").exists():
            differing = changes(read_object(self.file("config.json")), to_plain(config))
            if differing:
                raise StoreError(
                    f"{self.path} holds a run with other settings ({'; '.join(differing[:5])}). "
                    "Use a new folder, or the same settings to continue."
                )

    def check_inputs(self, inputs: dict[str, Any]) -> None:
        """Compare what the run was begun with to what it is about to be continued with.

        Args:
            inputs: fingerprint of train, test and target set (None = there is none), and
                the files of the model (:mod:`activeselect.data.inputs`), and the commits of what
                came from a hub.

        Raises:
            StoreError: if one of them is another; which, and what to do.
        """
        if not self.file("inputs.json").exists():
            return
        stored = self.seals.read_json(self.file("inputs.json"), RESTORE)
        before, now = (some.get("revisions", {}) for some in (stored, inputs))
        found = [
            f"the {name} set is not the one that it was begun with (fingerprint {stored.get(name)},"
            f" now {inputs.get(name)}{_revisions(before.get(name), now.get(name))})"
            for name in ("train", "test", "target")
            if stored.get(name) != inputs.get(name)  # earlier versions had no target
        ]
        if files := changed(stored["model"], inputs["model"]):
            found.append(f"the model was changed since it was begun ({', '.join(files[:3])})")
        if found:
            raise StoreError(
                f"{self.path} cannot be continued: {'; '.join(found)}. Restore what was changed to "
                "continue, or start over in a new folder."
            )

    @contextmanager
    def claimed(self, inputs: dict[str, Any]) -> Iterator[None]:
        """Hold the folder for this run; the lock ends with the process, however that ends.

        Args:
            inputs: as in :meth:`check_inputs`.

        Raises:
            StoreError: if another process is training in it, it cannot be written, or it was begun
                with other data or another model.
        """
        lock = FileLock(self.file(".lock"), timeout=0)
        once(lambda: self._claim(lock, inputs))
        try:
            yield
        finally:
            lock.release()

    def _claim(self, lock: FileLock, inputs: dict[str, Any]) -> None:
        with explained(self.path):
            make_folder(self.path)
        try:
            lock.acquire()
        except Timeout:
            raise StoreError(
                f"Another process is training in {self.path}; wait for it or use another folder."
            ) from None
        if self.file("config.json").exists():
            self.check_inputs(inputs)
        else:
            self.seals.write_json(self.file("inputs.json"), inputs)
            write_json(self.file("environment.json"), environment())
            write_json(self.file("config.json"), to_plain(self.config))

    def file(self, name: str) -> Path:
        """Path of a file in the run folder."""
        return self.path / name

    def checkpoint(self, stage: int) -> Path:
        """Path of the checkpoint within a stage."""
        return self.path / "checkpoints" / f"stage-{stage}.ckpt"

    def after_stage(self, stage: int) -> Path:
        """The model that a finished stage leaves; one folder each, so that none is overwritten."""
        return self.path / "checkpoints" / f"after-stage-{stage}"

    @property
    def chunks(self) -> Path:
        """Chunks of scoring passes since the last checkpoint."""
        return self.path / "checkpoints" / "chunks"

    def predictions(self, stage: int) -> Path:
        """Path of a stage's test predictions."""
        return self.path / "predictions" / f"stage-{stage}.parquet"

    def load_state(self) -> RunState:
        """The state that a stopped run continues from; a new run's where there is none."""
        file = self.file("state.json")
        return RunState(**self.seals.read_json(file, RESTORE)) if file.exists() else RunState()

    def save_state(self, state: RunState) -> None:
        """Write the state that a stopped run continues from, atomically."""
        self.seals.write_json(self.file("state.json"), asdict(state))

    def check_results(self) -> None:
        """Hold what a finished run leaves to its seals.

        Raises:
            StoreError: if a file of it is damaged, altered or gone.
        """
        if self.seals.file.exists():  # earlier versions wrote none
            check_results(self.path)

    def note_shared(self, stage: int, taken: dict[str, float]) -> None:
        """Keep what of a stage's cost (seconds, tokens) other runs had paid for."""
        file = self.file("shared.json")
        noted = read_object(file) if file.exists() else {}
        if any(taken.values()):
            write_json(file, {**noted, str(stage): taken})

    def log_version(self, stage: int) -> str:
        """A log folder of its own for each start of a stage, so that a resume erases nothing."""
        number = len(list(self.file("logs").glob(f"stage-{stage}.*")))
        return f"stage-{stage}.{number}"

    def merge_logs(self) -> None:
        """Rewrite ``metrics.csv`` from the logs of all stages; a resumed epoch counts once."""
        rows: dict[tuple[int, int], dict[str, str]] = {}
        names: list[str] = []
        # a row that a stop cut off in a log is in the merged file if its epoch had ended before
        for stage, file in [(None, self.file("metrics.csv")), *self._logs()]:
            for row in _whole_rows(file):
                where = int(row.pop("stage")) if stage is None else stage
                kept = {name: value for name, value in row.items() if value != ""}
                rows.setdefault((where, int(row["epoch"])), {}).update(kept)
                names += [name for name in row if name not in names]
        if not rows:
            return
        header = ["stage", *sorted(names)]
        lines = [",".join(header)]
        for (stage, _), row in sorted(rows.items()):
            lines.append(",".join([str(stage), *(row.get(name, "") for name in header[1:])]))
        write_text(self.file("metrics.csv"), "\n".join(lines) + "\n")

    def _logs(self) -> list[tuple[int | None, Path]]:
        files = sorted(self.file("logs").glob("stage-*/metrics.csv"), key=_start_order)
        return [(_start_order(file)[0], file) for file in files]

    def write_folder(self, target: Path, write: Callable[[Path], None]) -> None:
        """Let ``write`` fill a folder that appears under its name only when it is complete."""
        temporary = target.with_name(f".{target.name}.tmp")
        for leftover in (temporary, target):  # of an attempt that was stopped
            shutil.rmtree(leftover, ignore_errors=True)
        temporary.mkdir(parents=True)
        write(temporary)
        for file in [*temporary.rglob("*"), temporary]:
            sync(file)
        if target != self.path:
            below = (file for file in temporary.rglob("*") if file.is_file())
            self.seals.announce({target / file.relative_to(temporary): file for file in below})
        temporary.rename(target)
        sync(target.parent)

    def take_model(self, stage: int) -> None:
        """Give the weights after the last stage their place, ``model/``, held to their seals.

        Raises:
            StoreError: if a file of them is damaged, altered or gone.
        """
        last, model = self.after_stage(stage), self.file("model")
        stands = model.exists()  # a stop may have come between its move and the result
        self.seals.check_folder(model if stands else last, RESTORE)
        if not stands:
            self.seals.moved(last, model)
            last.rename(model)


@contextmanager
def readable(checkpoint: Path) -> Iterator[None]:
    """Turn what torch says about a checkpoint that it will not read into a message.

    Raises:
        StoreError: if the file is damaged, or holds objects instead of tensors and numbers.
    """
    try:
        yield
    except (pickle.UnpicklingError, EOFError, OSError, RuntimeError) as error:
        # a file that is cut off makes torch seek before its start, or miss the archive's directory
        if isinstance(error, OSError) and error.errno != errno.EINVAL:
            raise
        if isinstance(error, RuntimeError) and "PytorchStreamReader" not in str(error):
            raise
        reason = " ".join(str(error).split())[:120]
        raise StoreError(
            f"{checkpoint} is damaged, or was altered to hold more than tensors and numbers "
            f"({reason}). Nothing of it was run; delete it, and the same command repeats the stage."
        ) from error


def _whole_rows(file: Path) -> Iterator[dict[str, str]]:
    """The rows of a log that are whole; a stop, or a full disk, may have cut one off."""
    if not file.exists():
        return
    with file.open(newline="", encoding="utf-8", errors="replace") as handle:
        for row in csv.DictReader(line for line in handle if line.endswith("\n")):
            whole = None not in row and None not in row.values()
            if whole and all(row.get(n, "0").isdecimal() for n in ("stage", "epoch", "step")):
                yield dict(row)


def _start_order(file: Path) -> tuple[int, int]:
    stage, start = file.parent.name.removeprefix("stage-").split(".")
    return int(stage), int(start)


def _revisions(before: str | None, now: str | None) -> str:
    return f"; commit {before} of the hub, now {now}" if before != now else ""
