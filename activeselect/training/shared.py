"""Common stages of several runs of a study: one run trains the stage, the others follow.

Runs that differ in their strategy alone begin with the same train set, and so with the same stage
of training; and where the last budget is the whole pool, they end with the same one. What a
follower needs of it is in the study's folder while runs of that seed are left::

    shared/mixed/seed-0/<hash of all that they have in common>/
        chunks/                          finished chunks of tests and measurements
        stage-0-<hash of its train set>/
            epoch-002.ckpt               trained weights, where a round is due and at the end
            epoch-002.json               what training has cost by then
            stage.json                   what was logged; once it is there, the stage is complete
        stage-0-<hash>.lock              held by the run that trains; ends with its process
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from filelock import FileLock

from activeselect.arrays import IntArray
from activeselect.config import RunConfig
from activeselect.files import make_folder
from activeselect.seals import Seals
from activeselect.training.adapt import trainable
from activeselect.training.callback import ActiveSelection
from activeselect.training.folder import readable
from activeselect.training.history import TRAINING, Cost
from activeselect.training.launch import quiet


class CommonStage:
    """The files of one such stage.

    Args:
        folder: of the runs that may have it in common.
        stage, train: its number and train set, int64 ``[T]``.
        epochs: how many it has.
        due: those after which a run may measure, and so needs the weights.
    """

    def __init__(
        self, folder: Path, stage: int, train: IntArray, *, epochs: int, due: Sequence[int]
    ) -> None:
        self.chunks = folder / "chunks"
        content = hashlib.sha256(np.ascontiguousarray(train, dtype="<i8").tobytes()).hexdigest()
        self.path = folder / f"stage-{stage}-{content[:16]}"
        self.epochs, self.due = epochs, frozenset([*due, epochs])
        self.seals = Seals(self.path)

    @property
    def complete(self) -> bool:
        """Whether another run has finished the stage."""
        return (self.path / "stage.json").exists()

    @contextmanager
    def led(self) -> Iterator[bool]:
        """Whether the stage has to be trained here, after waiting for whoever is training it."""
        make_folder(self.path)
        lock = FileLock(self.path.with_suffix(".lock"))
        if not self.complete:
            lock.acquire()
        try:
            if self.complete:
                lock.release()
            yield not self.complete
        finally:
            lock.release()

    def keep(self, epoch: int, model: Any, cost: Cost, start: Cost) -> None:
        """Write what a follower needs to know of an epoch; ``start``: spent before the stage."""
        if epoch in self.due:
            names, state = trainable(model), model.state_dict()
            frozen = {name for name, _ in model.named_parameters()} - names
            kept = {name: state[name] for name in state if name not in frozen}
            with self.seals.replacing(self._file(epoch, "ckpt")) as temporary:
                torch.save(kept, temporary)
        spent = {name: getattr(cost, name) - getattr(start, name) for name in TRAINING}
        self.seals.write_json(self._file(epoch, "json"), spent)

    def publish(self, rows: list[dict[str, Any]]) -> None:
        """Call the stage complete, with what was logged after each epoch.

        A stage that was begun before there was anybody to share it with lacks its first epochs;
        then there is nothing to publish.
        """
        needed = [self._file(epoch, "json") for epoch in range(1, self.epochs + 1)]
        needed += [self._file(epoch, "ckpt") for epoch in self.due]
        if all(file.exists() for file in needed):
            self.seals.write_json(self.path / "stage.json", rows)

    def logged(self) -> list[dict[str, Any]]:
        """Per epoch what training logged, ``epoch`` and ``step`` included."""
        rows: list[dict[str, Any]] = self.seals.read_json(self.path / "stage.json", self._remedy)
        return rows

    def spent(self, epoch: int) -> dict[str, Any]:
        """What training has cost since the stage began."""
        spent: dict[str, Any] = self.seals.read_json(self._file(epoch, "json"), self._remedy)
        return spent

    @property
    def _remedy(self) -> str:
        return f"delete {self.path}, and the same command trains the stage again"

    def load(self, epoch: int, model: Any) -> None:
        """Make the model what it was after ``epoch``, if that was kept."""
        if epoch in self.due:
            file = self._file(epoch, "ckpt")
            self.seals.check(file, self._remedy)
            with readable(file):
                state = torch.load(file, map_location=model.device, weights_only=True)
            model.load_state_dict(state, strict=False)  # frozen weights are not in it

    def _file(self, epoch: int, kind: str) -> Path:
        return self.path / f"epoch-{epoch:03d}.{kind}"


def common_stage(
    shared: Path | None, config: RunConfig, stage: int, train: IntArray, pool_size: int
) -> CommonStage | None:
    """The stage as other strategies have it, too; None if something that they chose goes into it.

    Args:
        shared: where runs meet that differ in their strategy alone; None = nobody to share with.
    """
    rounds, epochs = config.rounds, config.recipe.epochs
    alike = stage == 0 or (len(train) == pool_size and rounds.restart)
    several = config.devices * config.num_nodes > 1  # processes hold parts of the model
    if shared is None or not alike or several or rounds.mode != "acquire":
        return None
    until = rounds.last_scored(stage, epochs)
    due = range(rounds.score_every, until + 1, rounds.score_every)
    return CommonStage(shared, stage, train, epochs=epochs, due=due)


class KeepEpochs(lightning.Callback):
    """Keeps each epoch of a fit for followers, before its round is scored."""

    def __init__(self, common: CommonStage, active: ActiveSelection, start: Cost) -> None:
        self.common, self.active, self.start = common, active, start

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Keep the epoch's weights and cost for the runs that share the stage."""
        epoch = trainer.current_epoch + 1
        self.common.keep(epoch, pl_module.model, self.active.cost, self.start)


def follow(
    common: CommonStage,
    active: ActiveSelection,
    model: Any,
    config: RunConfig,
    loggers: Sequence[Any],
) -> None:
    """Go through the rounds of a fit whose training another run has done.

    The bill says what training cost that run: it is what this one would have cost alone.
    """
    with quiet():
        trainer = lightning.Trainer(
            accelerator=config.accelerator,
            devices=config.devices,
            precision=config.recipe.precision,  # type: ignore[arg-type]  # checked by Lightning
            logger=False,
        )
    # as for a fit: under bf16-true adapters, too, have 16 bits
    model = trainer.precision_plugin.convert_module(model)
    model.to(trainer.strategy.root_device).train()
    start = replace(active.cost)
    active.begin(model)
    for epoch, row in enumerate(common.logged(), start=1):
        spent = common.spent(epoch)
        before = active.cost.tokens_trained - start.tokens_trained
        active.trained(active.train, spent["tokens_trained"] - before)
        active.cost.train_s = start.train_s + spent["train_s"]
        common.load(epoch, model)
        active.end_epoch(model, epoch, partial(_note, row))
        step = row.pop("step")
        for logger in loggers:
            logger.log_metrics(row, step=step)
            logger.save()
    for logger in loggers:
        logger.finalize("success")


def _note(row: dict[str, Any], name: str, value: float, **_: Any) -> None:
    row[name] = torch.tensor(value, dtype=torch.get_default_dtype()).item()  # as Lightning keeps it


def training_rows(metrics: Path, stage: int) -> list[dict[str, Any]]:
    """What training alone logged in a stage, one row per epoch, from a run's ``metrics.csv``."""
    with metrics.open(newline="", encoding="utf-8") as handle:
        rows = [row for row in csv.DictReader(handle) if int(row["stage"]) == stage]
    counts = ("epoch", "step")
    return [
        {name: int(row[name]) for name in counts}
        | {name: float(row[name]) for name in row if name.startswith("train/") and row[name]}
        for row in rows
    ]
