"""Asks a strategy what comes next, measures what it wants to know first, and checks its answer."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import numpy as np

from activeselect.arrays import FloatArray, IntArray
from activeselect.errors import StrategyError
from activeselect.scoring.distributed import once
from activeselect.scoring.signals import FIXED, SIGNALS, VECTORS, history_of
from activeselect.selection.neighbours import neighbourhood_of
from activeselect.selection.strategy import Selection, SelectionContext, Strategy
from activeselect.training.measure import Recorder

# --- What a run shows its strategy: everything measured so far, and the vectors of this moment


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


@dataclass(frozen=True)
class Moment:
    """Where a fit is when something is to be chosen.

    Attributes:
        model: the transformers model, as it is now.
        train: positions of the train set, int ``[T]``.
        times_seen: how often each example was trained on, int ``[N]``.
        epoch: epochs so far.
    """

    model: Any
    train: IntArray
    times_seen: IntArray
    epoch: int


class Chooser:
    """Selections of one fit.

    Args:
        strategy: decides.
        recorder: measures, and knows what was measured.
        what: measurements that the run makes.
        near: what candidates that were never scored are judged by (``rounds.near``).
        seed: of the draws.
    """

    def __init__(
        self,
        strategy: Strategy,
        recorder: Recorder,
        *,
        what: frozenset[str],
        near: str,
        seed: int,
    ) -> None:
        self.strategy, self.recorder, self.what, self.seed = strategy, recorder, what, seed
        self.contexts = ContextBuilder(recorder, what=what, near=near)

    def acquire(self, now: Moment, candidates: IntArray, budget: int) -> IntArray:
        """As :meth:`activeselect.ActiveSelection.acquire`."""
        self._score_candidates(now, candidates)
        prequential = "before" in self.what
        probed = candidates[:0]
        if prequential:
            probed = self._ask(self.strategy.probe, now, candidates, budget, 7).index
            if len(probed):
                self.recorder.before(now.model, probed)
        rest, missing = np.setdiff1d(candidates, probed), budget - len(probed)
        grown = replace(now, train=np.concatenate([now.train, probed]))
        chosen = self.select(grown, rest, missing).index if missing else probed[:0]
        if prequential and len(chosen):
            self.recorder.before(now.model, chosen)
        self.recorder.close(epoch=now.epoch)
        if len(probed) + len(chosen) < budget:
            raise StrategyError(
                f"Strategy '{self.strategy.name}' acquired {len(probed) + len(chosen)} examples; "
                f"the budget asks for {budget}."
            )
        return np.concatenate([probed, chosen])

    def select(self, now: Moment, candidates: IntArray, budget: int) -> Selection:
        """Ask the strategy; its promises are checked before anything is trained on."""
        return self._ask(self.strategy.select, now, candidates, budget, 5)

    def _score_candidates(self, now: Moment, candidates: IntArray) -> None:
        size = min(self.recorder.scoring.candidates, len(candidates))
        if size and self.recorder.what:
            rng = self._draws(now, 8)
            some = np.sort(rng.choice(candidates, size, replace=False))
            self.recorder.score(now.model, some, epoch=now.epoch)

    def _draws(self, now: Moment, stream: int) -> np.random.Generator:
        # of stage and epoch, not of the scored rounds: how often is scored changes no draw
        return np.random.default_rng([self.seed, self.recorder.measurer.stage, now.epoch, stream])

    def _ask(
        self,
        how: Callable[..., Selection],
        now: Moment,
        candidates: IntArray,
        budget: int,
        stream: int,
    ) -> Selection:
        context = self.contexts.build(now.model, now.train, candidates, times_seen=now.times_seen)
        started = time.perf_counter()
        rng = self._draws(now, stream)

        def choose() -> Selection:
            selection = how(context, budget, rng)
            if not isinstance(selection, Selection):
                raise StrategyError(
                    f"Strategy '{self.strategy.name}' must return a Selection; "
                    f"received {type(selection).__name__}."
                )
            return selection.validated(candidates, budget, name=self.strategy.name)

        selection = once(choose)  # whatever a strategy does, all ranks go on with one choice
        self.recorder.cost.select_s += time.perf_counter() - started
        return selection
