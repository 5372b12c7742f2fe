"""The interface of a selection strategy, and what a strategy is shown.

A strategy sees arrays and returns arrays. The same call serves both modes of a run:

- *reweight*: the candidates are the train set itself; the weights become sampler weights;
- *acquire*: the candidates are problems outside the train set; the indices join the train set.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from activeselect.errors import StrategyError as StrategyError  # strategies import it from here

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]

#: Carries weights on the train set [T] over to the candidates near them [C].
Spread = Callable[[FloatArray], FloatArray]


@dataclass(frozen=True)
class Selection:
    """Which examples come next, and how strongly.

    Attributes:
        index: positions in the pool, int64 ``[K]``, unique.
        weight: finite, non-negative, not all zero unless empty, float64 ``[K]``.
    """

    index: IntArray
    weight: FloatArray

    @classmethod
    def of(cls, index: ArrayLike, weight: ArrayLike | None = None) -> Selection:
        """Build a selection; without ``weight`` every example counts the same."""
        positions = np.asarray(index)
        if positions.size and positions.dtype.kind not in "iu":
            raise StrategyError(
                f"Selection.of expects positions (whole numbers); received {positions.dtype}."
            )
        positions = positions.astype(np.int64)
        if weight is None:
            return cls(positions, np.ones(len(positions)))
        return cls(positions, np.asarray(weight, dtype=np.float64))

    def validated(self, candidates: IntArray, budget: int, *, name: str) -> Selection:
        """Return self, or raise StrategyError saying which promise strategy ``name`` broke."""
        if self.index.ndim != 1 or self.index.shape != self.weight.shape:
            raise StrategyError(
                f"Strategy '{name}' must return index and weight of one shape [K]; "
                f"received {self.index.shape} and {self.weight.shape}."
            )
        if len(self.index) > budget:
            raise StrategyError(
                f"Strategy '{name}' selected {len(self.index)} examples; the budget is {budget}."
            )
        if len(np.unique(self.index)) != len(self.index):
            raise StrategyError(f"Strategy '{name}' selected an example more than once.")
        stray = np.setdiff1d(self.index, candidates)
        if len(stray):
            raise StrategyError(
                f"Strategy '{name}' selected {len(stray)} examples that are no candidates, "
                f"the first at position {stray[0]}."
            )
        if not np.all(np.isfinite(self.weight)) or np.any(self.weight < 0):
            raise StrategyError(f"Strategy '{name}' returned a negative or non-finite weight.")
        if len(self.weight) and not self.weight.any():
            raise StrategyError(f"Strategy '{name}' gave every selected example the weight 0.")
        return self


def _nowhere(weight: FloatArray) -> FloatArray:
    raise StrategyError("This context has no neighbourhood: pass spread_to_candidates= to it.")


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
        spread_to_candidates: see :meth:`spread`.
    """

    round: int
    candidates: IntArray
    train: IntArray
    times_seen: IntArray
    groups: NDArray[np.int32]
    group_names: tuple[str, ...] = ("",)
    signals: Mapping[str, Callable[[], FloatArray]] = field(default_factory=dict)
    spread_to_candidates: Spread = _nowhere

    @property
    def reweights(self) -> bool:
        """Whether the candidates are the train set itself."""
        return np.array_equal(self.candidates, self.train)

    def history(self, signal: str) -> FloatArray:
        """All measurements of a signal, float64 ``[R, N]``; NaN where not scored.

        Raises:
            StrategyError: if the run does not measure the signal (name it in ``requires``).
        """
        if signal not in self.signals:
            raise StrategyError(
                f"The signal '{signal}' is not measured in this run; "
                f"name it in the strategy's `requires`. Measured: {sorted(self.signals)}."
            )
        return self.signals[signal]()

    def latest(self, signal: str) -> FloatArray:
        """The newest measurement of a signal per example, float64 ``[N]``; NaN = never scored."""
        history = self.history(signal)
        newest = np.full(history.shape[1], np.nan)
        for row in history:
            np.copyto(newest, row, where=~np.isnan(row))
        return newest

    def spread(self, weight: FloatArray) -> FloatArray:
        """Carry non-negative weights on the train set ``[T]`` over to the candidates ``[C]``.

        When the run reweights these are the same examples. When it acquires, each train example
        shares its weight among the candidates near it: those of its group, or its nearest
        neighbours where the pool has no groups.
        """
        return weight if self.reweights else self.spread_to_candidates(weight)


class Strategy(ABC):
    """Turns measured signals into the next selection.

    A subclass lives in a file of its own, stores its parameters unchanged in ``__init__`` and
    carries a card in its docstring: what it prefers, when it helps, when it hurts, what it
    costs, where it comes from.
    """

    name: ClassVar[str]
    requires: ClassVar[tuple[str, ...]] = ()
    citation: ClassVar[str] = ""

    @abstractmethod
    def select(self, context: SelectionContext, budget: int, rng: np.random.Generator) -> Selection:
        """Choose at most ``budget`` of ``context.candidates``, at random by ``rng`` alone."""

    def state_dict(self) -> dict[str, Any]:
        """State carried between rounds beyond the parameters; plain numbers, lists and strings."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned."""
        if state:
            raise StrategyError(f"Strategy '{self.name}' has a state but no load_state_dict.")


def weighted_choice(weight: FloatArray, size: int, rng: np.random.Generator) -> IntArray:
    """Draw ``size`` distinct positions with probability proportional to ``weight``.

    Successive weighted draws without replacement, done at once by exponential keys (Efraimidis
    and Spirakis, 2006). Positions of weight 0 are taken, uniformly, only once all others are.

    Args:
        weight: finite and non-negative, float64 ``[C]``.
        size: at most ``C``.

    Returns:
        int64 ``[size]``, in order of drawing.

    Raises:
        ValueError: if ``size`` exceeds ``C`` or a weight is negative or not finite.

    Example:
        >>> weighted_choice(np.array([0.0, 1.0, 1.0]), 2, np.random.default_rng(0)).tolist()
        [2, 1]
    """
    if not 0 <= size <= len(weight):
        raise ValueError(f"size must lie between 0 and {len(weight)}; received {size}")
    if len(weight) and not (weight.min() >= 0 and weight.max() < np.inf):
        raise ValueError("weight must be finite and at least 0")
    keys = rng.exponential(size=len(weight))
    positive = np.flatnonzero(weight)
    drawn = positive[:0]
    if len(positive):
        # Relative to the largest, and no smaller than what a key can be divided by.
        relative = np.maximum(weight[positive] / weight.max(), 1e-300)
        drawn = positive[_smallest(keys[positive] / relative, min(size, len(positive)))]
    if size > len(positive):
        empty = np.flatnonzero(weight == 0)
        drawn = np.concatenate([drawn, empty[_smallest(keys[empty], size - len(positive))]])
    return drawn.astype(np.int64)


def _smallest(keys: FloatArray, size: int) -> IntArray:
    if size == 0:
        return np.empty(0, dtype=np.int64)
    part = np.argpartition(keys, size - 1)[:size] if size < len(keys) else np.arange(len(keys))
    return part[np.argsort(keys[part], kind="stable")].astype(np.int64)


def choose(
    context: SelectionContext, weight: FloatArray, budget: int, rng: np.random.Generator
) -> Selection:
    """Finish a score-only strategy: weights on the train set become a selection.

    Args:
        weight: finite and non-negative, one per train example, float64 ``[T]``.

    Returns:
        When the run reweights: the examples of positive weight with their weights (a weighted
        draw of ``budget`` of them if there are more). When it acquires: ``budget`` candidates
        drawn without replacement with the weights spread to them, each of weight 1. Where all
        weights are 0 nothing is preferred and all count the same.
    """
    spread = context.spread(weight)
    if not spread.any():
        spread = np.ones(len(context.candidates))
    if context.reweights:
        keep = np.flatnonzero(spread)
        if len(keep) > budget:
            keep = keep[weighted_choice(spread[keep], budget, rng)]
        return Selection.of(context.candidates[keep], spread[keep])
    drawn = weighted_choice(spread, min(budget, len(spread)), rng)
    return Selection.of(context.candidates[drawn])
