"""Selection context: the arrays that a strategy reads, and the selection that it returns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from activeselect.arrays import FloatArray, IntArray
from activeselect.errors import StrategyError


class Neighbourhood(Protocol):
    """What carries knowledge about some examples over to the candidates near them."""

    def spread(self, weight: FloatArray) -> FloatArray:
        """Each train example shares its weight ``[T]`` among the candidates near it, ``[C]``."""

    def average(self, value: FloatArray) -> FloatArray:
        """Expected value of each candidate from the known ones ``[N]``, ``[C]``; NaN: no idea."""

    def error(self, value: FloatArray) -> FloatArray:
        """Standard error of :meth:`average`, the noise of a measurement included, ``[C]``."""


@dataclass(frozen=True)
class Selection:
    """Which examples come next, and how strongly.

    Attributes:
        index: positions in the pool, int64 ``[K]``, unique.
        weight: finite, non-negative, not all zero unless empty, float64 ``[K]``.
        score: what each example was chosen by, for the record, float64 ``[K]``; None: by chance.
        reason: how they were chosen, for the record.

    Raises:
        StrategyError: from :meth:`check`, if it breaks what a strategy promises.

    Example:
        >>> Selection.of([4, 7], [1.0, 3.0]).weight.tolist()
        [1.0, 3.0]
    """

    index: IntArray
    weight: FloatArray
    score: FloatArray | None = None
    reason: str = ""

    @classmethod
    def of(
        cls,
        index: ArrayLike,
        weight: ArrayLike | None = None,
        *,
        score: FloatArray | None = None,
        reason: str = "",
    ) -> Selection:
        """Build a selection; without ``weight`` every example counts the same."""
        positions = np.asarray(index)
        if positions.size and positions.dtype.kind not in "iu":
            raise StrategyError(
                f"Selection.of expects positions (whole numbers); received {positions.dtype}."
            )
        positions = positions.astype(np.int64)
        if weight is None:
            return cls(positions, np.ones(len(positions)), score, reason)
        return cls(positions, np.asarray(weight, dtype=np.float64), score, reason)

    def validated(self, candidates: IntArray, budget: int, *, name: str) -> Selection:
        """Return self, or raise StrategyError saying which promise strategy ``name`` broke."""
        if self.index.ndim != 1 or self.index.shape != self.weight.shape:
            raise StrategyError(
                f"Strategy '{name}' must return index and weight of one shape [K]; "
                f"received {self.index.shape} and {self.weight.shape}."
            )
        if self.score is not None and np.shape(self.score) != self.index.shape:
            raise StrategyError(
                f"Strategy '{name}' must return one score for each of {len(self.index)} examples; "
                f"received {np.shape(self.score)}."
            )
        if len(self.index) > budget:
            raise StrategyError(
                f"Strategy '{name}' selected {len(self.index)} examples; the budget is {budget}."
            )
        # marks, not sorted sets: linear in the pool, as everything else about a selection is
        mark = np.zeros(1 + max(candidates.max(initial=-1), self.index.max(initial=-1)), dtype=bool)
        mark[candidates] = True
        stray = self.index[(self.index < 0) | ~mark[np.maximum(self.index, 0)]]
        if len(stray):
            raise StrategyError(
                f"Strategy '{name}' selected {len(stray)} examples that are no candidates, "
                f"the first at position {stray[0]}."
            )
        mark[self.index] = False
        if np.count_nonzero(mark) != len(candidates) - len(self.index):
            raise StrategyError(f"Strategy '{name}' selected an example more than once.")
        if not np.all(np.isfinite(self.weight)) or np.any(self.weight < 0):
            raise StrategyError(f"Strategy '{name}' returned a negative or non-finite weight.")
        if len(self.weight) and not self.weight.any():
            raise StrategyError(f"Strategy '{name}' gave every selected example the weight 0.")
        return self


class _Nowhere:
    """The neighbourhood of a context that was built without one."""

    def spread(self, weight: FloatArray) -> FloatArray:
        raise StrategyError("This context has no neighbourhood: pass near= to it.")

    average = error = spread


@dataclass(frozen=True)
class SelectionContext:
    """What a strategy may look at (N pool size, T train set, C candidates, R scored rounds).

    Attributes:
        round: how many rounds have been trained before this selection.
        candidates: positions that may be selected, int64 ``[C]``.
        train: positions of the current train set, int64 ``[T]``; equal to ``candidates`` when
            the run reweights, disjoint from them when it acquires.
        times_seen: how often each example was trained on in the current stage, int64 ``[N]``.
        groups: group of each example, int32 ``[N]``.
        group_names: names that ``groups`` points into.
        signals: measured signals by name, each a function that returns float64 ``[R, N]``.
        vector_signals: those that are a vector per example, each a function that returns float32
            ``[N, D]``; NaN rows where not measured.
        near: see :meth:`spread` and :meth:`scores`.
        target: share of each group among the target questions (``data.target``), positive unless
            the pool has nothing of the group, adding up to 1, float64 ``[G]``
            (:func:`activeselect.data.target.target_shares`); None: there are none.

    Example:
        >>> context = SelectionContext(
        ...     round=1, candidates=np.array([0, 1]), train=np.array([0, 1]),
        ...     times_seen=np.array([3, 3]), groups=np.zeros(2, np.int32),
        ...     signals={"loss": lambda: np.array([[2.0, 1.0], [1.5, np.nan]])})
        >>> context.reweights, context.latest("loss").tolist()
        (True, [1.5, 1.0])
    """

    round: int
    candidates: IntArray
    train: IntArray
    times_seen: IntArray
    groups: NDArray[np.int32]
    group_names: tuple[str, ...] = ("",)
    signals: Mapping[str, Callable[[], FloatArray]] = field(default_factory=dict)
    vector_signals: Mapping[str, Callable[[], NDArray[np.float32]]] = field(default_factory=dict)
    near: Neighbourhood = field(default_factory=_Nowhere)
    target: FloatArray | None = None

    @cached_property
    def reweights(self) -> bool:
        """Whether the candidates are the train set itself."""
        return self.candidates is self.train or np.array_equal(self.candidates, self.train)

    def history(self, signal: str) -> FloatArray:
        """All measurements of a signal, float64 ``[R, N]``; NaN where not scored.

        Raises:
            StrategyError: if the run does not measure the signal (name it in ``requires``).
        """
        if signal not in self.signals:
            raise StrategyError(_unmeasured(signal, self.signals))
        return self.signals[signal]()

    def latest(self, signal: str) -> FloatArray:
        """The newest measurement of a signal per example, float64 ``[N]``; NaN = never scored."""
        history = self.history(signal)
        if not len(history):
            return np.full(history.shape[1], np.nan)
        newest: FloatArray = history[-1].copy()
        for row in history[-2::-1]:
            unknown = np.isnan(newest)
            if not unknown.any():
                break
            np.copyto(newest, row, where=unknown)
        return newest

    def scores(self, signal: str) -> FloatArray:
        """The newest measurement of a signal for each candidate, float64 ``[C]``.

        A candidate that was never scored gets what the scored examples say of it, as
        ``rounds.near`` decides: by their groups, texts or embeddings, whichever predicts held-out
        scores best, or their mean where nothing does; NaN where there are none.
        """
        return self.carry(self.latest(signal))

    def carry(self, values: FloatArray) -> FloatArray:
        """Values of examples ``[N]``, NaN where not known, for each candidate ``[C]``.

        As :meth:`scores`, for what a strategy computed itself. Where the rule is not linear (the
        middle of a band, p(1 - p)), carry its result, not what goes into it: the mean of a solved
        and a hopeless neighbour looks half-learned.
        """
        own = values[self.candidates]
        if self.reweights or not np.isnan(own).any():
            return own
        return np.where(np.isnan(own), self.near.average(values), own)

    def error(self, values: FloatArray) -> FloatArray:
        """Standard error of :meth:`carry`, ``[C]``: 0 where a candidate was measured itself.

        It is that of the value as a prediction of one measurement, whose noise it includes.
        """
        own = values[self.candidates]
        if self.reweights or not np.isnan(own).any():
            return np.where(np.isnan(own), np.nan, 0.0)
        return np.where(np.isnan(own), self.near.error(values), 0.0)

    def vectors(self, signal: str) -> NDArray[np.float32]:
        """A vector per example (``embedding``, ``gradient``), float32 ``[N, D]``.

        Rows are NaN where nothing was measured; train set and candidates always are.

        Raises:
            StrategyError: if the run does not measure the signal (name it in ``requires``).
        """
        if signal not in self.vector_signals:
            raise StrategyError(_unmeasured(signal, self.vector_signals))
        return self.vector_signals[signal]()

    def spread(self, weight: FloatArray) -> FloatArray:
        """Carry non-negative weights on the train set ``[T]`` over to the candidates ``[C]``.

        When the run reweights these are the same examples. When it acquires, each train example
        shares its weight among the candidates near it: those of its group, or its nearest
        neighbours where the pool has no groups.
        """
        return weight if self.reweights else self.near.spread(weight)


def _unmeasured(signal: str, measured: Mapping[str, Any]) -> str:
    return (
        f"The signal '{signal}' is not measured in this run; "
        f"name it in the strategy's `requires`. Measured: {sorted(measured)}."
    )
