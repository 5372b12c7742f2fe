"""What a run has measured, spent and forecast so far."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from activeselect.scoring.scorer import SIGNALS
from activeselect.scoring.store import ScoreStore

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]


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
    """Measured signals of the rounds so far; each a list of float64 ``[N]``, NaN = not scored."""

    size: int
    rounds: int = 0
    signals: dict[str, list[FloatArray]] = field(default_factory=dict)

    @classmethod
    def from_store(cls, store: ScoreStore, rounds: int) -> History:
        """What the first ``rounds`` of a run measured, read back from its store."""
        known = store.columns()
        wanted = range(rounds) if known else []
        signals = {name: list(store.matrix(name, wanted)) for name in SIGNALS if name in known}
        return cls(store.pool_size, rounds, signals)

    def add(self, index: IntArray, columns: dict[str, FloatArray]) -> None:
        """Append one round, measured on the examples ``index``."""
        self.rounds += 1
        for name, values in columns.items():
            row = np.full(self.size, np.nan)
            row[index] = values
            self.signals.setdefault(name, []).append(row)

    def matrix(self, name: str) -> FloatArray:
        """float64 ``[R, N]``."""
        return np.array(self.signals.get(name, [])).reshape(-1, self.size)
