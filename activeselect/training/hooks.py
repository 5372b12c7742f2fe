"""What Lightning calls, in terms of the three calls that any other loop makes."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import lightning
import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader

from activeselect.selection.sampler import ActiveSampler
from activeselect.training.history import Cost

IntArray = NDArray[np.int64]


class LightningHooks(lightning.Callback, ABC):
    """Calls :meth:`begin`, :meth:`trained` and :meth:`end_epoch` from a Lightning fit.

    Args:
        sampler: told on which of how many devices it runs.
        model_of: finds the transformers model in the fitted module; default: ``module.model``.
    """

    def __init__(
        self, sampler: ActiveSampler, model_of: Callable[[Any], Any] | None = None
    ) -> None:
        self.sampler = sampler
        self._model_of = model_of or _inner_model
        self._clock = 0.0
        self.epochs: int | None = None  # of the fit, if known

    @property
    @abstractmethod
    def cost(self) -> Cost:
        """Spent so far; the seconds of training are added here."""

    @abstractmethod
    def begin(self, model: Any) -> None:
        """Before the first step."""

    @abstractmethod
    def trained(self, index: IntArray, tokens: int) -> None:
        """After each step."""

    @abstractmethod
    def end_epoch(self, model: Any, epoch: int, log: Callable[..., None]) -> None:
        """After each pass."""

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        self.sampler.rank, self.sampler.world_size = trainer.global_rank, trainer.world_size
        if self.epochs is None and (trainer.max_epochs or 0) > 0:
            self.epochs = trainer.max_epochs

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        self.begin(self._model_of(pl_module))
        self._clock = time.perf_counter()

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        self._clock = time.perf_counter()

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        index = batch["index"]
        tokens = batch["attention_mask"].sum(dim=1)[index >= 0].sum()
        everyone = index.new_zeros(trainer.world_size, len(index) + 1)
        everyone[trainer.global_rank] = torch.cat([index, tokens[None]])
        if trainer.world_size > 1:
            everyone = trainer.strategy.reduce(everyone, reduce_op="sum")
        rows = everyone.cpu().numpy()
        positions = rows[:, :-1].reshape(-1)
        self.trained(positions[positions >= 0], int(rows[:, -1].sum()))
        self._tick()

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        self._tick()
        self.end_epoch(self._model_of(pl_module), trainer.current_epoch + 1, pl_module.log)

    def _tick(self) -> None:
        now = time.perf_counter()
        self.cost.train_s, self._clock = self.cost.train_s + now - self._clock, now


class ActiveLoader(DataLoader[Any]):
    """A loader that Lightning may go on with in the middle of an epoch.

    Lightning counts the batches before the stop, so the length is that of a whole pass; what it
    asks for beyond that, the callback keeps.
    """

    def __len__(self) -> int:
        assert isinstance(self.sampler, ActiveSampler)
        assert self.batch_size is not None
        whole = self.sampler.whole
        return whole // self.batch_size if self.drop_last else -(-whole // self.batch_size)

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        pass


def _inner_model(module: Any) -> Any:
    return getattr(module, "model", module)
