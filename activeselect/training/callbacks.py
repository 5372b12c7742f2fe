"""What a run adds to a Lightning fit besides its rounds: checkpoints, and word of how far it is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning

from activeselect.files import explained, sync
from activeselect.training.rounds import ActiveSelection

#: Told how far a run is: (examples trained so far, examples in all, what is being done).
Progress = Callable[[int, int, str], None]


class FitCheckpoint(lightning.Callback):
    """Saves the fit, the newest state only, by rename.

    Saved is after an epoch's last batch, before the round is scored, so that a stop during scoring
    costs no training; and after every ``every`` optimizer steps.
    """

    def __init__(self, path: Path, every: int | None, active: ActiveSelection) -> None:
        self.path, self.every, self.active = path, every, active
        self._step = 0

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        self._step = trainer.global_step

    def on_train_batch_end(self, trainer: Any, *args: Any) -> None:
        # within a step, between two parts of its batch, there are gradients that nobody saves
        stepped = trainer.global_step > self._step
        due = self.every is not None and stepped and trainer.global_step % self.every == 0
        self._step = trainer.global_step
        if trainer.is_last_batch or due:
            temporary = self.path.with_suffix(".tmp")
            with explained(self.path):
                trainer.save_checkpoint(temporary)
                if trainer.is_global_zero:
                    sync(temporary)
                    temporary.replace(self.path)
                    sync(self.path.parent)
            self.active.recorder.measurer.parts.clear()

    def on_save_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        # else Lightning takes an epoch whose batches are done for one that has ended, hooks and all
        checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]["is_last_batch"] = False


class Report(lightning.Callback):
    """Tells how many examples the run has trained."""

    def __init__(self, progress: Progress, active: ActiveSelection, total: int) -> None:
        self.progress, self.active, self.total = progress, active, total

    def on_train_batch_end(self, *args: Any) -> None:
        self.progress(self.active.cost.samples_seen, self.total, "training")
