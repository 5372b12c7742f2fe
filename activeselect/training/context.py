"""What a run shows its strategy: everything measured so far, and the vectors of this moment."""

from __future__ import annotations

from functools import cached_property, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from activeselect.errors import StrategyError
from activeselect.scoring.signals import FIXED, SIGNALS, VECTORS, history_of
from activeselect.selection.acquire import neighbourhood_of
from activeselect.selection.strategy import SelectionContext
from activeselect.training.recorder import Recorder

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]


class ContextBuilder:
    """Builds the contexts of a run's selections.

    Args:
        recorder: holds the history, and measures vectors with the model as it is.
        what: measurements that the run makes; signals made of others are not shown.
        near: what candidates that were never scored are judged by (``rounds.near``).
    """

    def __init__(self, recorder: Recorder, *, what: frozenset[str], near: str) -> None:
        self.recorder, self.pool = recorder, recorder.measurer.pool
        self.what, self.near = what, near

    def build(
        self, model: Any, train: IntArray, candidates: IntArray, *, times_seen: IntArray
    ) -> SelectionContext:
        """The context of one selection.

        Args:
            train: positions of the train set, int ``[T]``.
            candidates: positions that may be chosen, int ``[C]``.
            times_seen: how often each example was trained on, int ``[N]``; copied.
        """
        looked_at = np.union1d(train, candidates)
        vectors = {
            name: self.recorder.measurer.vectors(name, model, looked_at)
            for name in sorted(VECTORS & self.what)
        }
        embedding = vectors.get("embedding")
        return SelectionContext(
            round=self.recorder.history.rounds,
            candidates=candidates,
            train=train,
            times_seen=times_seen.copy(),
            groups=self.pool.groups,
            group_names=self.pool.group_names,
            signals={name: partial(self._history_of, name) for name in self._known_signals()},
            vector_signals={name: partial(np.asarray, rows) for name, rows in vectors.items()},
            near=neighbourhood_of(
                self.pool, train, candidates, near=self.near, embedding=embedding
            ),
        )

    def _known_signals(self) -> list[str]:
        """Those that all measurements are made for, and the fixed ones."""
        return [
            name
            for name, signal in SIGNALS.items()
            if name not in VECTORS and signal.needs <= self.what
        ]

    def _history_of(self, name: str) -> FloatArray:
        if name in FIXED:
            return self._fixed(name)[None]
        return history_of(name, self.recorder.history.matrix)

    def _fixed(self, name: str) -> FloatArray:
        if name == "length":
            return self._lengths
        if self.pool.difficulty is None:
            raise StrategyError(
                "The signal 'difficulty' needs a difficulty, and the data states none; name a "
                "column of numbers in data.difficulty, or use the signal 'length'."
            )
        return self.pool.difficulty

    @cached_property
    def _lengths(self) -> FloatArray:
        return self.recorder.measurer.lengths()
