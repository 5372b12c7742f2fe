"""Baselines of the forecast: simpler quantities, judged by the same protocol.

Each baseline is a feature matrix (one column per candidate threshold, where it has one) and a
calibration; `TestAccuracyRegressor` chooses the threshold and fits the calibration on the other
runs, exactly as it does for the forecast itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from activeselect.arrays import FloatArray
from activeselect.forecast.features import FLOORS, dataset_premem
from activeselect.forecast.traces import RunTrace

# The paper's notebooks state thresholds on log(log(perplexity)): -2.3 and -1.7.
PAPER_TAU = {"gsm8k": math.exp(-2.3), "math": math.exp(-1.7)}


@dataclass(frozen=True)
class Baseline:
    """A simpler forecast.

    Attributes:
        name: its key in the report.
        columns: from a run to its features, ``[R, d]``.
        calibration: how the chosen column becomes test accuracy.
        about: what it is, in one line.
    """

    name: str
    columns: Callable[[RunTrace], FloatArray]
    calibration: str
    about: str


def train_accuracy(run: RunTrace) -> FloatArray:
    """Return the mean sampled train accuracy per checkpoint, ``[R, 1]``."""
    return np.asarray(np.nanmean(run.accuracy, axis=1, keepdims=True))


def first_epoch_accuracy(run: RunTrace) -> FloatArray:
    """Return the first checkpoint's mean sampled accuracy for every checkpoint, ``[R, 1]``."""
    return np.full((len(run.step), 1), np.nanmean(run.accuracy[0]))


def mean_nll(run: RunTrace) -> FloatArray:
    """Return the mean NLL of the reference traces per checkpoint, nats per token, ``[R, 1]``."""
    return np.asarray(np.nanmean(run.mean_nll, axis=1, keepdims=True))


def fraction_below(run: RunTrace) -> FloatArray:
    """Return the share of traces with an NLL below each candidate threshold, ``[R, d]``."""
    known = ~np.isnan(run.mean_nll)
    counts = [((run.mean_nll < tau) & known).sum(axis=1) for tau in FLOORS]
    return np.asarray(np.stack(counts, axis=1) / known.sum(axis=1, keepdims=True))


def premem(run: RunTrace, taus: tuple[float, ...] = FLOORS) -> FloatArray:
    """Return the paper's metric at each threshold, ``[R, len(taus)]``."""
    return np.stack([dataset_premem(run.accuracy, run.mean_nll, tau) for tau in taus], axis=1)


def baselines_for(dataset: str) -> list[Baseline]:
    """Return the baselines that a dataset allows; the paper's fixed tau exists for two datasets.

    Source:
        Kang et al., arXiv 2411.07681; average thresholded confidence: Garg et al. (2022),
        arXiv 2201.04234. The original thresholds the confidences of *unlabeled test questions*,
        which traces do not hold, so here it is applied to the train side: the share of traces
        whose confidence (negative NLL) lies above a threshold chosen on the other runs.
    """
    table = [
        Baseline("train_accuracy", train_accuracy, "line", "line on sampled train accuracy"),
        Baseline(
            "first_epoch_accuracy", first_epoch_accuracy, "line", "line on the first checkpoint's"
        ),
        Baseline("mean_nll", mean_nll, "line", "line on the mean NLL of the reference traces"),
        Baseline(
            "fraction_memorized", fraction_below, "line", "line on the share below a chosen tau"
        ),
        Baseline("atc_train", fraction_below, "identity", "train-side thresholded confidence"),
        Baseline("premem_line", premem, "line", "line on the paper's metric, tau chosen"),
    ]
    if dataset in PAPER_TAU:
        tau = PAPER_TAU[dataset]
        table.append(
            Baseline(
                "paper_tau_identity",
                lambda run: premem(run, (tau,)),
                "identity",
                f"the paper's metric at its tau {tau:.3f}, which was chosen on these runs",
            )
        )
    return table
