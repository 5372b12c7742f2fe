"""What a run has measured, spent and forecast so far."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from activeselect.scoring.signals import STORED
from activeselect.scoring.store import ScoreStore

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]
_Tensors = dict[int, tuple[torch.Tensor, torch.Tensor]]


class Forecast(Protocol):
    """Expected test accuracy, a share, with its interval and which regressor says so."""

    @property
    def value(self) -> float: ...
    @property
    def low(self) -> float: ...
    @property
    def high(self) -> float: ...
    @property
    def source(self) -> str: ...


#: From accuracy and mean NLL of a fit's rounds so far, each float64 ``[R, N]``, to a forecast.
Forecaster = Callable[[FloatArray, FloatArray], Forecast]


@dataclass
class Cost:
    """What a run has spent so far: seconds per part, tokens trained and generated."""

    train_s: float = 0.0
    score_s: float = 0.0
    select_s: float = 0.0
    eval_s: float = 0.0
    tokens_trained: int = 0
    tokens_generated: int = 0
    samples_seen: int = 0


@dataclass
class History:
    """Measured signals of the rounds so far, as they came: round -> positions and values.

    A round is one scoring pass; it measures some signals on some examples.
    """

    size: int
    rounds: int = 0
    signals: dict[str, dict[int, tuple[IntArray, FloatArray]]] = field(default_factory=dict)

    @classmethod
    def from_store(cls, store: ScoreStore, rounds: int) -> History:
        """What the first ``rounds`` of a run measured, read back from its store."""
        history = cls(store.pool_size, rounds)
        for round in (number for number in store.rounds() if number < rounds):
            table = store.read(round)
            for name in STORED:
                if name in table.column_names:
                    index, values = table["index"].to_numpy().copy(), table[name].to_numpy().copy()
                    history.signals.setdefault(name, {})[round] = (index, values)
        return history

    @classmethod
    def from_tensors(cls, size: int, rounds: int, tensors: Mapping[str, _Tensors]) -> History:
        """Undo :meth:`tensors`."""
        signals = {
            name: {round: (i.numpy(), values.numpy()) for round, (i, values) in rows.items()}
            for name, rows in tensors.items()
        }
        return cls(size, rounds, signals)

    def tensors(self) -> dict[str, _Tensors]:
        """The signals as tensors, which a checkpoint may hold and be read without code."""
        return {
            name: {
                round: (torch.from_numpy(index), torch.from_numpy(values))
                for round, (index, values) in rows.items()
            }
            for name, rows in self.signals.items()
        }

    def add(self, index: IntArray, columns: Mapping[str, FloatArray]) -> None:
        """Append one round, measured on the examples ``index``."""
        for name, values in columns.items():
            self.signals.setdefault(name, {})[self.rounds] = (index, values)
        self.rounds += 1

    def extend(self, name: str, index: IntArray, values: FloatArray) -> None:
        """Measure more examples in the last round."""
        known, before = self.signals[name][self.rounds - 1]
        self.signals[name][self.rounds - 1] = (
            np.concatenate([known, index]),
            np.concatenate([before, values]),
        )

    def matrix(self, name: str) -> FloatArray:
        """float64 ``[R, N]``; NaN where not measured."""
        matrix = np.full((self.rounds, self.size), np.nan)
        for round, (index, values) in self.signals.get(name, {}).items():
            matrix[round, index] = values
        return matrix

    def measured(self, *names: str, since: int = 0) -> list[int]:
        """Rounds from ``since`` on that measured all of these signals."""
        rounds = [self.signals.get(name, {}).keys() for name in names]
        return [r for r in range(since, self.rounds) if all(r in found for found in rounds)]
