"""The watch over memorization: what a run knows by heart, and what its test does after that.

``memory.json`` in the run folder, one row per epoch of each stage::

    {"stage": 0, "epoch": 12, "token_accuracy": 0.99, "memorized": 0.97, "weight_norm": 41.2,
     "distance": 8.8, "loss": [0.03, ...], "test": [1.0, 0.0, ...]}

``test`` stands only where the sample was memorized for the first time, and at the end.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch

from activeselect.arrays import FloatArray, IntArray
from activeselect.audit.asker import loss_and_hits
from activeselect.audit.saturation import EPSILON, SATURATED, memorized_since, since_saturation
from activeselect.data.prompts import Encoded
from activeselect.files import read_json, write_json
from activeselect.scoring.generate import pad_token_of
from activeselect.scoring.scorer import evaluating
from activeselect.streams import Stream
from activeselect.training.auditing import RunAudit

Row = dict[str, Any]


def watched(train: IntArray, count: int, seed: int) -> IntArray:
    """The positions that are watched: a fixed sample of a train set, int ``[count]``."""
    rng = np.random.default_rng([seed, Stream.WATCHED])
    return np.sort(rng.choice(train, min(count, len(train)), replace=False))


class MemoryWatch(lightning.Callback):
    """Measures after each epoch; goes on where a stopped run was.

    Args:
        items: the watched examples, encoded.
        audit: asks the test problems.
        folder: of the run.
        stage: number of the stage.
        epochs: of the stage.
        batch_tokens: tokens per batch.
    """

    def __init__(
        self,
        items: Sequence[Encoded],
        audit: RunAudit,
        folder: Path,
        *,
        stage: int,
        epochs: int,
        batch_tokens: int,
    ) -> None:
        self.items, self.audit, self.stage, self.epochs = list(items), audit, stage, epochs
        self.file, self.batch_tokens = folder / "memory.json", batch_tokens
        self._start: list[torch.Tensor] = []

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Keep the weights that training starts from, before a stopped run's are put back."""
        # on the CPU, in 16 bits: it is for a norm of differences, and must not cost memory
        weights = _trained(pl_module.model)
        self._start = [weight.detach().to("cpu", torch.bfloat16) for weight in weights]

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Measure, log and keep."""
        row = self._measure(pl_module.model, trainer.current_epoch + 1)
        for name in ("token_accuracy", "memorized", "weight_norm", "distance"):
            pl_module.log(f"memory/{name}", row[name])

    def _measure(self, model: Any, epoch: int) -> Row:
        with evaluating(model):
            loss, hits = loss_and_hits(
                model,
                self.items,
                batch_tokens=self.batch_tokens,
                pad_token=pad_token_of(self.audit.tokenizer),
            )
        weights = [weight.detach().float().cpu() for weight in _trained(model)]
        moved = [w - s.float() for w, s in zip(weights, self._start, strict=True)]
        row: Row = {
            "stage": self.stage,
            "epoch": epoch,
            "token_accuracy": float(hits.mean()),
            "memorized": float((loss < EPSILON).mean()),
            "weight_norm": _norm(weights),
            "distance": _norm(moved),
            "loss": loss.tolist(),
        }
        rows = [r for r in self._rows() if (r["stage"], r["epoch"]) < (self.stage, epoch)]
        first = not any(r["stage"] == self.stage and "test" in r for r in rows)
        if (row["memorized"] >= SATURATED and first) or epoch == self.epochs:
            row["test"] = self.audit.right(model).tolist()
        write_json(self.file, [*rows, row])
        return row

    def _rows(self) -> list[Row]:
        return list(read_json(self.file)) if self.file.exists() else []


def _trained(model: Any) -> list[torch.Tensor]:
    return [weight for weight in model.parameters() if weight.requires_grad]


def _norm(weights: Sequence[torch.Tensor]) -> float:
    return float(sum(float(w.double().square().sum()) for w in weights) ** 0.5)


def after_memorization(rows: Sequence[Row], stage: int, seed: int) -> Row:
    """What a stage says: since when its sample is memorized, and what the test did after that.

    Args:
        rows: of ``memory.json``.
        stage: number of the stage.
        seed: of the interval.

    Returns:
        token_accuracy, memorized (at the end), saturated_after (epoch, or None), median_epoch (in
        which a watched example was memorized for good, or None), and test: value, low, high,
        verdict of test accuracy now less at saturation (None where it is not saturated, or only
        since the last epoch).
    """
    mine = [row for row in rows if row["stage"] == stage]
    last = mine[-1]
    since = memorized_since(np.array([row["loss"] for row in mine]))
    known: FloatArray = since[~np.isnan(since)]
    reached = [row["epoch"] for row in mine if row["memorized"] >= SATURATED]
    found: Row = {
        "token_accuracy": last["token_accuracy"],
        "memorized": last["memorized"],
        "saturated_after": reached[0] if reached else None,
        "median_epoch": mine[int(np.median(known))]["epoch"] if len(known) else None,
        "test": None,
    }
    tested = [row for row in mine if "test" in row]
    if reached and len(tested) > 1:
        then, now = (np.array(tested[i]["test"]) for i in (0, -1))
        rng = np.random.default_rng([seed, Stream.RESAMPLED])
        found["test"] = since_saturation(then, now, rng)
    return found
