"""What a study measured on one dataset: every strategy's answers, paired by seed and example."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike

from activeselect.study.curves import FloatArray, checked_budgets, monotone


@dataclass(frozen=True)
class CurveSet:
    """The answers of every strategy on one dataset, paired by seed and by test example.

    Args:
        budgets: train-set size at which each model was measured, strictly increasing and
            positive, shape ``[B]``.
        correct: per strategy, whether each test answer was right (or the share of right
            samples), in [0, 1], shape ``[S, B, E]``: seed, budget, test example. Seed ``s``
            is the same initial set, pool and test set for every strategy.
        cost: unit in which the curves are compared.
        spent: per strategy what each model had cost in that unit, positive, shape ``[S, B]``;
            default: the budgets themselves. It grows with the budget; where noise (seconds)
            turns that around, it is made monotone.
        shared_test: True where all seeds answer the *same* test examples (a real dataset's test
            split), False where each seed draws its own. It decides where the luck of the test
            draw enters the intervals.

    Raises:
        ValueError: if shapes, order or ranges are not as described.

    Example:
        >>> answers = np.zeros((3, 2, 4)); answers[:, 1] = 1
        >>> curves = CurveSet([150, 300], {"random": answers})
        >>> curves.seeds, curves.accuracy["random"].mean(axis=0).tolist()
        (3, [0.0, 1.0])
    """

    budgets: FloatArray
    correct: Mapping[str, FloatArray]
    cost: str = "unique_examples"
    shared_test: bool = False
    spent: Mapping[str, FloatArray] | None = None
    accuracy: Mapping[str, FloatArray] = field(init=False, repr=False)

    def __init__(
        self,
        budgets: ArrayLike,
        correct: Mapping[str, ArrayLike],
        cost: str = "unique_examples",
        shared_test: bool = False,
        spent: Mapping[str, ArrayLike] | None = None,
    ) -> None:
        arrays = {name: np.asarray(value, dtype=np.float64) for name, value in correct.items()}
        grid = checked_budgets(budgets)
        _check_answers(grid, arrays)
        object.__setattr__(self, "budgets", grid)
        object.__setattr__(self, "correct", arrays)
        object.__setattr__(self, "cost", cost)
        object.__setattr__(self, "shared_test", shared_test)
        object.__setattr__(self, "spent", _checked_costs(spent, arrays) if spent else None)
        means = {name: value.mean(axis=-1) for name, value in arrays.items()}
        object.__setattr__(self, "accuracy", means)

    @property
    def strategies(self) -> list[str]:
        """Names of the strategies, in the order given."""
        return list(self.correct)

    @property
    def seeds(self) -> int:
        """Number of paired seeds."""
        return int(next(iter(self.correct.values())).shape[0])

    def mean_spent(self, name: str) -> FloatArray:
        """What a strategy's models had cost, geometric mean over seeds, ``[B]``."""
        if self.spent is None:
            return self.budgets
        return np.exp(monotone(np.log(self.spent[name]).mean(axis=0)))


def _checked_costs(
    spent: Mapping[str, ArrayLike], answers: Mapping[str, FloatArray]
) -> dict[str, FloatArray]:
    costs = {name: np.asarray(value, dtype=np.float64) for name, value in spent.items()}
    for name, array in answers.items():
        if name not in costs or costs[name].shape != array.shape[:2]:
            raise ValueError(
                f"spent of '{name}' must have shape {list(array.shape[:2])} (seeds, budgets); "
                f"received {costs[name].shape if name in costs else 'nothing'}"
            )
        if not np.all(costs[name] > 0):
            raise ValueError(f"spent of '{name}' must be positive")
    return costs


def _check_answers(budgets: FloatArray, arrays: Mapping[str, FloatArray]) -> None:
    if not arrays:
        raise ValueError("correct must hold at least one strategy; received none")
    first = next(iter(arrays.values())).shape
    for name, array in arrays.items():
        if array.ndim != 3 or array.shape[1] != budgets.size or 0 in array.shape:
            raise ValueError(
                f"answers of '{name}' must have shape [seeds, {budgets.size} budgets, "
                f"test examples], none of them 0; received {array.shape}"
            )
        if array.shape != first:
            raise ValueError(
                "all strategies must be measured on the same seeds and test examples; "
                f"'{name}' has shape {array.shape}, the first one {first}"
            )
        if not np.all((array >= 0) & (array <= 1)):  # also false for NaN
            raise ValueError(f"answers of '{name}' must lie in [0, 1] and not be NaN")


def names_or_error(curves: CurveSet, names: Sequence[str]) -> None:
    """Raise ValueError unless every name is a strategy of the set."""
    unknown = [name for name in names if name not in curves.correct]
    if unknown:
        raise ValueError(
            f"no answers of {', '.join(unknown)}; measured: {', '.join(curves.strategies)}"
        )
