"""Variants of the metric that were tried; see `research.forecast_candidates`.

Each takes a run and a threshold in nats per token (a number, or ``[1, N]``) and returns one value
per checkpoint, ``[R]``. An example is *open* at a checkpoint where its NLL is at or above the
threshold.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from activeselect.arrays import FloatArray
from activeselect.forecast.features import FLOORS, prior_weight, shrink_accuracy
from activeselect.forecast.traces import RunTrace

FLOORS_TRIED = tuple(tau for tau in FLOORS if 0.02 <= tau <= 0.6)


def _premem(accuracy: FloatArray, openness: Any) -> FloatArray:
    best = np.maximum.accumulate(accuracy * openness, axis=0)
    return np.asarray(np.minimum(best, accuracy).mean(axis=1))


def raw(run: RunTrace, tau: Any) -> FloatArray:
    """The paper's metric."""
    return _premem(run.accuracy, run.mean_nll >= tau)


def posterior_mean(run: RunTrace, tau: Any) -> FloatArray:
    """The paper's metric on accuracies shrunk all the way to their posterior means."""
    accuracy = np.empty_like(run.accuracy)
    for r, (row, n) in enumerate(zip(run.accuracy, run.samples, strict=True)):
        weight = prior_weight(row, n.astype(np.float64))
        accuracy[r] = (row * n + row.mean() * weight) / (n + weight)
    return _premem(accuracy, run.mean_nll >= tau)


def by_nll_decile(run: RunTrace, tau: Any) -> FloatArray:
    """Shrink towards the mean of examples with a similar NLL, instead of all."""
    accuracy = run.accuracy.copy()
    rank = run.mean_nll.argsort(axis=1).argsort(axis=1)
    for r, decile in enumerate(rank * 10 // run.mean_nll.shape[1]):
        for k in range(10):
            rows = decile == k
            part = shrink_accuracy(run.accuracy[r : r + 1, rows], run.samples[r : r + 1, rows])
            accuracy[r, rows] = part[0]
    return _premem(accuracy, run.mean_nll >= tau)


def half_split(run: RunTrace, tau: Any, seed: int = 0) -> FloatArray:
    """Choose the best open epoch on one half of the samples and read its value off the other."""
    rng = np.random.default_rng(seed)
    right = np.rint(run.accuracy * run.samples).astype(np.int64)
    some = (run.samples + 1) // 2
    first = rng.hypergeometric(right, run.samples - right, some)
    halves = (first / some, (right - first) / np.maximum(run.samples - some, 1))
    total = np.zeros(len(run.step))
    column = np.arange(right.shape[1])
    for choose, read in (halves, halves[::-1]):
        score = np.where(run.mean_nll >= tau, choose + 1e-3 * rng.random(choose.shape), -1.0)
        for r in range(len(total)):
            best = score[: r + 1].argmax(axis=0)
            chosen, value = score[best, column], read[best, column]
            value = np.where(choose[r] < chosen - 1e-3, read[r], value)
            total[r] += np.where(chosen < 0, 0.0, value).mean() / 2
    return total


def beta_filter(run: RunTrace, tau: Any, discount: float = 0.5) -> FloatArray:
    """Beta posterior whose earlier counts fade by ``discount`` per epoch, then the metric."""
    hits, misses = np.zeros(run.accuracy.shape[1]), np.zeros(run.accuracy.shape[1])
    filtered = np.empty_like(run.accuracy)
    for r, (accuracy, n) in enumerate(zip(run.accuracy, run.samples, strict=True)):
        mean = accuracy.mean()
        hits = discount * hits + accuracy * n
        misses = discount * misses + (1 - accuracy) * n
        filtered[r] = (hits + mean) / (hits + misses + 1)
    return _premem(filtered, run.mean_nll >= tau)


def exponential_mean(run: RunTrace, tau: Any) -> FloatArray:
    """Average over open epochs (weight 0.5 on the newest), then best and cap."""
    value = np.where(run.mean_nll[0] >= tau, run.accuracy[0], 0.0)
    best = value
    means = []
    for accuracy, nll in zip(run.accuracy, run.mean_nll, strict=True):
        value = np.where(nll >= tau, 0.5 * (value + accuracy), value)
        best = np.maximum(best, value)
        means.append(np.minimum(best, accuracy).mean())
    return np.array(means)


def last_open(run: RunTrace, tau: Any) -> FloatArray:
    """The accuracy at the last open epoch instead of the best, on shrunk accuracies."""
    accuracy = shrink_accuracy(run.accuracy, run.samples)
    last = np.zeros(accuracy.shape[1])
    means = []
    for row, nll in zip(accuracy, run.mean_nll, strict=True):
        last = np.where(nll >= np.ravel(tau), row, last)
        means.append(np.minimum(last, row).mean())
    return np.array(means)


def no_cap(run: RunTrace, tau: Any) -> FloatArray:
    """The best open accuracy, not capped by the current one, on shrunk accuracies."""
    accuracy = shrink_accuracy(run.accuracy, run.samples) * (run.mean_nll >= tau)
    return np.asarray(np.maximum.accumulate(accuracy, axis=0).mean(axis=1))


def sticky_mask(run: RunTrace, tau: Any) -> FloatArray:
    """Once memorized, memorized for good, on shrunk accuracies."""
    lowest = np.minimum.accumulate(run.mean_nll, axis=0)
    return _premem(shrink_accuracy(run.accuracy, run.samples), lowest >= tau)


def drop_never_open(run: RunTrace, tau: Any) -> FloatArray:
    """Mean over the examples that were open at least once, on shrunk accuracies."""
    accuracy = shrink_accuracy(run.accuracy, run.samples)
    openness = run.mean_nll >= tau
    ever = np.maximum.accumulate(openness, axis=0)
    value = np.minimum(np.maximum.accumulate(accuracy * openness, axis=0), accuracy)
    return np.asarray((value * ever).sum(axis=1) / np.maximum(ever.sum(axis=1), 1))


def soft_mask(run: RunTrace, tau: Any, width: float) -> FloatArray:
    """Openness as a logistic step of this width in log NLL, on shrunk accuracies."""
    distance = np.log(np.maximum(run.mean_nll, 1e-12)) - np.log(tau)
    openness = 1 / (1 + np.exp(-np.clip(distance / width, -40, 40)))
    return _premem(shrink_accuracy(run.accuracy, run.samples), openness)
