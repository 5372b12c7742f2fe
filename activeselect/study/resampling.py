"""Resampling: curves resampled over seeds and test examples, and their intervals."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from activeselect.arrays import FloatArray
from activeselect.study.curves import checked_budgets, monotone

# --- Curve set


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
        unit: what a budget counts: ``examples`` of the train set, or ``samples`` of them.
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
    unit: str = "examples"
    accuracy: Mapping[str, FloatArray] = field(init=False, repr=False)

    def __init__(
        self,
        budgets: ArrayLike,
        correct: Mapping[str, ArrayLike],
        cost: str = "unique_examples",
        shared_test: bool = False,
        spent: Mapping[str, ArrayLike] | None = None,
        unit: str = "examples",
    ) -> None:
        arrays = {name: np.asarray(value, dtype=np.float64) for name, value in correct.items()}
        grid = checked_budgets(budgets)
        _check_answers(grid, arrays)
        object.__setattr__(self, "budgets", grid)
        object.__setattr__(self, "correct", arrays)
        object.__setattr__(self, "cost", cost)
        object.__setattr__(self, "unit", unit)
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

    @property
    def examples(self) -> int:
        """Number of test examples."""
        return int(next(iter(self.correct.values())).shape[2])

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


RESAMPLES = 4000
_FURTHEST = 300.0  # logs of costs in a draw: 130 orders of magnitude


@dataclass(frozen=True)
class Resamples:
    """Resampled mean curves, per strategy ``[D, B]``.

    Attributes:
        accuracy: mean accuracies.
        spent: mean costs; None where all strategies spend exactly the budgets.
    """

    accuracy: Mapping[str, FloatArray]
    spent: Mapping[str, FloatArray] | None


def draw_resamples(curves: CurveSet, resamples: int, rng: np.random.Generator) -> Resamples:
    """Resampled accuracies (:func:`resample`) with the costs of the same resampled seeds."""
    multiplier = _multiplier(curves.seeds, resamples, rng)
    drawn = {name: _around(multiplier, array) for name, array in curves.accuracy.items()}
    if curves.shared_test:
        for name, noise in _test_draw(curves, resamples, rng).items():
            drawn[name] += noise
    if curves.spent is None:
        return Resamples(drawn, None)
    # in logs, where costs are positive; a draw in which noise turns the order is made flat
    logs = {name: _around(multiplier, np.log(cost)) for name, cost in curves.spent.items()}
    return Resamples(drawn, {name: _exp(monotone(values)) for name, values in logs.items()})


def _exp(logs: FloatArray) -> FloatArray:
    """From logs to costs; with two seeds a draw may be further off than a float can hold."""
    return np.exp(np.clip(logs, -_FURTHEST, _FURTHEST))


def _multiplier(seeds: int, resamples: int, rng: np.random.Generator) -> FloatArray:
    """Weights of the seeds' deviations, ``[D, S]``."""
    if seeds < 2:
        raise ValueError(f"an interval needs at least 2 seeds; received {seeds}")
    multiplier = rng.standard_normal((resamples, seeds)) / np.sqrt(seeds * (seeds - 1))
    return np.asarray(
        multiplier * np.sqrt((seeds - 1) / rng.chisquare(seeds - 1, size=(resamples, 1)))
    )


def _around(multiplier: FloatArray, values: FloatArray) -> FloatArray:
    """The mean over seeds of ``values [S, B]`` with resampled deviations, ``[D, B]``."""
    mean = values.mean(axis=0)
    return np.asarray(mean + multiplier @ (values - mean))


def resample(curves: CurveSet, resamples: int, rng: np.random.Generator) -> dict[str, FloatArray]:
    """Plausible true mean curves of all strategies, drawn jointly.

    A paired hierarchical bootstrap with multipliers in place of counts. Every draw weighs each
    seed's deviation from the mean curve with the same random number for all strategies and
    budgets, and divides by the root of a chi-square with S - 1 degrees of freedom, so that a
    linear function of the curves follows exactly Student's t around its estimate when seeds are
    normal. Counting seeds with replacement instead gives intervals far too narrow for 3 to 5
    seeds (``docs/guide/statistics.md``). The luck of the test draw is counted once: it is part of
    the spread between seeds where each seed has its own test set, and drawn as a second level
    (crossed with the seeds) where all share one.

    Args:
        curves: the measurements.
        resamples: number of draws D.
        rng: source of randomness.

    Returns:
        Per strategy an array ``[D, B]`` of mean accuracies.

    Raises:
        ValueError: with fewer than two seeds, which say nothing about the spread.

    Source:
        Multiplier bootstrap: Mammen, Annals of Statistics 21 (1993); crossed levels: Owen,
        Annals of Applied Statistics 1 (2007).

    Example:
        >>> rng = np.random.default_rng(0)
        >>> curves = CurveSet([10, 20], {"random": rng.random((4, 2, 50)).round()})
        >>> resample(curves, 100, rng)["random"].shape
        (100, 2)
    """
    return dict(draw_resamples(curves, resamples, rng).accuracy)


def _test_draw(curves: CurveSet, resamples: int, rng: np.random.Generator) -> dict[str, FloatArray]:
    """Deviations due to the examples that happen to be in a test set which all seeds share.

    Only what *different* seeds have in common on an example counts (products across seeds): the
    rest is noise of single runs, which the spread between seeds already holds.
    """
    answers = np.concatenate(list(curves.correct.values()), axis=1)  # [S, K * B, E]
    seeds, columns, examples = answers.shape
    answers = answers - answers.mean(axis=-1, keepdims=True)
    total = answers.sum(axis=0)
    own = np.einsum("sie,sje->ij", answers, answers, optimize=True)
    common = (total @ total.T - own) / (seeds * (seeds - 1) * max(examples - 1, 1))
    size, direction = np.linalg.eigh(common)
    root = direction * np.sqrt(np.clip(size, 0, None) / examples)  # an estimate may be < 0
    noise = rng.standard_normal((resamples, columns)) @ root.T
    parts = np.split(noise, len(curves.correct), axis=1)
    return dict(zip(curves.correct, parts, strict=True))


def interval(draws: FloatArray, level: float) -> tuple[FloatArray, FloatArray]:
    """Equal-tailed interval along the first axis; ends may be infinite, never interpolated.

    Example:
        >>> low, high = interval(np.array([1.0, 2.0, 3.0, np.inf]), 0.5)
        >>> float(low), float(high)
        (1.0, inf)
    """
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1, as 0.95; received {level}")
    tail = (1 - level) / 2
    ordered = np.sort(draws, axis=0)
    last = ordered.shape[0] - 1
    low = ordered[int(np.floor(tail * last))]
    high = ordered[int(np.ceil((1 - tail) * last))]
    return np.asarray(low), np.asarray(high)


def means(curves: CurveSet) -> Mapping[str, FloatArray]:
    """Mean accuracy over seeds and examples per strategy, shape ``[B]``."""
    return {name: accuracy.mean(axis=0) for name, accuracy in curves.accuracy.items()}


# --- Pair of strategy and baseline


Row = dict[str, Any]


@dataclass(frozen=True)
class Pair:
    """A strategy and the baseline: measured and resampled, on the axis of the curves."""

    curves: CurveSet
    name: str
    baseline: str
    drawn: Resamples | None
    level: float

    def both(self, function: Callable[..., FloatArray]) -> tuple[FloatArray, FloatArray | None]:
        """``function(spent, ours, theirs, spent by the baseline)``, measured and resampled."""
        point = means(self.curves)
        spent = (self.curves.mean_spent(self.name), self.curves.mean_spent(self.baseline))
        same = self.curves.spent is None
        value = function(
            spent[0], point[self.name], point[self.baseline], None if same else spent[1]
        )
        if self.drawn is None:
            return value, None
        accuracy, costs = self.drawn.accuracy, self.drawn.spent
        ours, theirs = accuracy[self.name], accuracy[self.baseline]
        if costs is None:
            return value, function(spent[0], ours, theirs, None)
        return value, function(costs[self.name], ours, theirs, costs[self.baseline])

    def swapped(self) -> Pair:
        """The same pair with strategy and baseline exchanged."""
        return replace(self, name=self.baseline, baseline=self.name)

    @property
    def common(self) -> Row:
        """What every row of the pair begins with."""
        curves = self.curves
        named = {"strategy": self.name, "baseline": self.baseline}
        return {**named, "cost": curves.cost, "unit": curves.unit}

    def distinct(self) -> list[int]:
        """Budgets with different answers; at the shared initial set the model is the very same."""
        ours, theirs = self.curves.correct[self.name], self.curves.correct[self.baseline]
        pairs = range(self.curves.budgets.size)
        return [i for i in pairs if not np.array_equal(ours[:, i], theirs[:, i])]
