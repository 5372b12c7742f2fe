"""The selector: shows a strategy what was measured, asks what comes next, and checks its answer."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from activeselect.arrays import FloatArray, IntArray
from activeselect.errors import StrategyError
from activeselect.scoring.distributed import once, rank
from activeselect.scoring.signals import FIXED, SIGNALS, VECTORS, history_of
from activeselect.selection.neighbours import neighbourhood_of
from activeselect.selection.strategy import Selection, SelectionContext, Strategy
from activeselect.streams import Stream
from activeselect.training.measure import Measurer
from activeselect.training.selections import reasons_of, record_selection, record_weights

_Ask = Callable[[SelectionContext, int, np.random.Generator], Selection]


class Selector:
    """Selections of one fit.

    Args:
        strategy: decides.
        measurer: measures what the strategy wants to know, and holds what was measured.
        what: measurements that the run makes; signals made of others are not shown.
        near: how scores reach candidates that were never scored (``rounds.near``).
        seed: of the draws.
        record: folder in which every selection is recorded; None: it is not.
        round: number under which the next acquisition is recorded; default: after the stage's.
        target: share of each group among the target questions, float64 ``[G]``; None: none.
    """

    def __init__(
        self,
        strategy: Strategy,
        measurer: Measurer,
        *,
        what: frozenset[str],
        near: str,
        seed: int,
        record: Path | None = None,
        round: int | None = None,
        target: FloatArray | None = None,
    ) -> None:
        self.strategy, self.measurer, self.record = strategy, measurer, record
        self.target = target
        self._round = measurer.stage + 1 if round is None else round
        self.what, self.near, self.seed = what, near, seed
        #: Signals that all measurements are made for, and the fixed ones.
        self.signals = [
            name for name, signal in SIGNALS.items() if name not in VECTORS and signal.needs <= what
        ]

    def reweight(
        self, model: Any, train: IntArray, *, times_seen: IntArray, epoch: int
    ) -> Selection:
        """Weights over the train set for the next pass.

        Args:
            model: the transformers model, as it is now.
            train: positions of the train set, int64 ``[T]``.
            times_seen: how often each example was trained on, int64 ``[N]``.
            epoch: epochs so far.
        """
        context = self._context(model, train, train, times_seen)
        selection = self._ask(
            self.strategy.select, context, len(train), epoch=epoch, stream=Stream.SELECT
        )
        if self.record is not None:
            self.note(epoch, [(selection, self._reasons(selection, context))])
        return selection

    def weigh(
        self, model: Any, train: IntArray, *, times_seen: IntArray, epoch: int
    ) -> Selection | None:
        """Weights over the train set while it grows; None from a strategy that has none.

        The arguments are those of :meth:`reweight`.
        """
        if not self.strategy.weighs:
            return None
        context = self._context(model, train, train, times_seen)

        def weigh(context: SelectionContext, budget: int, rng: np.random.Generator) -> Selection:
            return self.strategy.weigh(context, rng) or Selection.of(train)

        selection = self._ask(weigh, context, len(train), epoch=epoch, stream=Stream.WEIGH)
        if self.record is not None and rank() == 0:
            parts = [(selection, self._reasons(selection, context))]
            record_weights(self.record, self.measurer.stage, epoch, self.measurer.pool, parts)
        return selection

    def note(self, number: int, parts: list[tuple[Selection, list[str]]]) -> None:
        """Record a round's selections, and for each of their examples why it was chosen."""
        if self.record is not None and rank() == 0:
            record_selection(self.record, number, self.measurer.pool, parts)

    def _reasons(self, selection: Selection, context: SelectionContext) -> list[str]:
        signals = [name for name in self.strategy.requires if name not in VECTORS]
        newest = partial(context.latest, signals[0]) if signals else None
        return reasons_of(selection, self.strategy.name, newest)

    def acquire(
        self,
        model: Any,
        train: IntArray,
        candidates: IntArray,
        budget: int,
        *,
        times_seen: IntArray,
        epoch: int,
    ) -> IntArray:
        """New examples for the train set; what the strategy asks for is measured first.

        Args:
            candidates: positions that may be chosen, int64 ``[C]``.
            budget: how many.

        Returns:
            int64 ``[budget]``.

        Raises:
            StrategyError: if the strategy breaks a promise, or chooses fewer.
        """
        self._score_candidates(model, candidates, epoch=epoch)
        prequential = "prequential" in self.what
        probed = candidates[:0]
        parts: list[tuple[Selection, list[str]]] = []
        if prequential:
            context = self._context(model, train, candidates, times_seen)
            probe = self._ask(
                self.strategy.probe, context, budget, epoch=epoch, stream=Stream.PROBE
            )
            probed = probe.index
            reason = f"{self.strategy.name}: answered before the rest was chosen"
            parts.append((probe, [reason] * len(probed)))
            if len(probed):
                self.measurer.score_prequential(model, probed)
        chosen = probed[:0]
        if missing := budget - len(probed):
            context = self._context(
                model,
                np.concatenate([train, probed]),
                np.setdiff1d(candidates, probed),
                times_seen,
            )
            selection = self._ask(
                self.strategy.select, context, missing, epoch=epoch, stream=Stream.SELECT
            )
            chosen = selection.index
            parts.append((selection, self._reasons(selection, context)))
        if prequential and len(chosen):
            self.measurer.score_prequential(model, chosen)
        self.measurer.store_prequential(epoch=epoch)
        if len(probed) + len(chosen) < budget:
            raise StrategyError(
                f"Strategy '{self.strategy.name}' acquired {len(probed) + len(chosen)} examples; "
                f"the budget asks for {budget}."
            )
        self.note(self._round, parts)
        self._round += 1
        return np.concatenate([probed, chosen])

    def _score_candidates(self, model: Any, candidates: IntArray, *, epoch: int) -> None:
        size = min(self.measurer.scoring.candidates, len(candidates))
        if size and self.measurer.what:
            rng = self._rng(epoch, Stream.CANDIDATES)
            some = np.sort(rng.choice(candidates, size, replace=False))
            self.measurer.score(model, some, epoch=epoch)

    def _rng(self, epoch: int, stream: Stream) -> np.random.Generator:
        # of stage and epoch, not of the scored rounds: how often is scored changes no draw
        return np.random.default_rng([self.seed, self.measurer.stage, epoch, stream])

    def _ask(
        self, ask: _Ask, context: SelectionContext, budget: int, *, epoch: int, stream: Stream
    ) -> Selection:
        """Ask the strategy; its promises are checked before anything is trained on."""
        started = time.perf_counter()
        rng = self._rng(epoch, stream)

        def answer() -> Selection:
            selection = ask(context, budget, rng)
            if not isinstance(selection, Selection):
                raise StrategyError(
                    f"Strategy '{self.strategy.name}' must return a Selection; "
                    f"received {type(selection).__name__}."
                )
            return selection.validated(context.candidates, budget, name=self.strategy.name)

        selection = once(answer)  # whatever a strategy does, all ranks go on with one choice
        self.measurer.cost.select_s += time.perf_counter() - started
        return selection

    # --- what the strategy is shown ------------------------------------------------------------

    def _context(
        self, model: Any, train: IntArray, candidates: IntArray, times_seen: IntArray
    ) -> SelectionContext:
        pool = self.measurer.pool
        shown = np.union1d(train, candidates)
        vectors = {
            name: self.measurer.vectors(name, model, shown) for name in sorted(VECTORS & self.what)
        }
        return SelectionContext(
            round=self.measurer.history.rounds,
            candidates=candidates,
            train=train,
            times_seen=times_seen.copy(),
            groups=pool.groups,
            group_names=pool.group_names,
            signals={name: partial(self._history_of, name) for name in self.signals},
            vector_signals={name: partial(np.asarray, rows) for name, rows in vectors.items()},
            near=neighbourhood_of(
                pool, train, candidates, near=self.near, embedding=vectors.get("embedding")
            ),
            target=self.target,
        )

    def _history_of(self, name: str) -> FloatArray:
        if name in FIXED:
            return self._fixed(name)[None]
        return history_of(name, self.measurer.history.matrix)

    def _fixed(self, name: str) -> FloatArray:
        if name == "length":
            return self._lengths
        difficulty = self.measurer.pool.difficulty
        if difficulty is None:
            raise StrategyError(
                "The signal 'difficulty' needs a difficulty, and the data states none; name a "
                "column of numbers in data.difficulty, or use the signal 'length'."
            )
        return difficulty

    @cached_property
    def _lengths(self) -> FloatArray:
        known = self.measurer.pool.is_labelled  # a question without a label has no length yet
        return np.where(known, self.measurer.lengths(), np.nan)
