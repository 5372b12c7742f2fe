"""How sure: curves resampled over seeds and test examples, and intervals read off them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from activeselect.study.curve_set import CurveSet
from activeselect.study.curves import FloatArray, monotone

RESAMPLES = 4000


@dataclass(frozen=True)
class Draws:
    """Resampled mean curves, per strategy ``[D, B]``.

    Attributes:
        accuracy: mean accuracies.
        spent: mean costs; None where all strategies spend exactly the budgets.
    """

    accuracy: Mapping[str, FloatArray]
    spent: Mapping[str, FloatArray] | None


def draw(curves: CurveSet, resamples: int, rng: np.random.Generator) -> Draws:
    """Resampled accuracies (:func:`resample`) with the costs of the same resampled seeds."""
    multiplier = _multiplier(curves.seeds, resamples, rng)
    drawn = {name: _around(multiplier, array) for name, array in curves.accuracy.items()}
    if curves.shared_test:
        for name, noise in _test_draw(curves, resamples, rng).items():
            drawn[name] += noise
    if curves.spent is None:
        return Draws(drawn, None)
    # in logs, where costs are positive; a draw in which noise turns the order is made flat
    logs = {name: _around(multiplier, np.log(cost)) for name, cost in curves.spent.items()}
    return Draws(drawn, {name: np.exp(monotone(values)) for name, values in logs.items()})


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
    seeds (``docs/statistics.md``). The luck of the test draw is counted once: it is part of the
    spread between seeds where each seed has its own test set, and drawn as a second level
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
    return dict(draw(curves, resamples, rng).accuracy)


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
