"""What stands for test accuracy inside one study: premem with a fitted threshold, or less.

A study's own runs of one strategy differ by their seed alone. Each test of a run is forecast by

- the train accuracy of the same epoch,
- premem, its threshold chosen on the other seeds,
- the train accuracy of the first test, whatever comes later,
- the mean of the other seeds' tests at the same point, which needs test labels::

    python -m research.mask_forecast --study memorizing --strategy premem

The study's folder must hold the scores of its runs (``cells/``), which are not committed.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

import activeselect
from activeselect.arrays import FloatArray
from activeselect.errors import StudyError
from activeselect.forecast.evaluate import r_squared
from activeselect.forecast.features import dataset_premem
from research.script import run_script

#: Thresholds that are tried, nats per token.
TAUS = np.round(np.arange(0.05, 0.5, 0.005), 3)


class Tested:
    """A run's tests beside what its scores said of them by then.

    Attributes:
        test: measured test accuracy, float ``[P]``.
        accuracy: mean train accuracy after the epoch of each test, float ``[P]``.
        premem: mean pre-memorization accuracy up to there, float ``[T, P]``, one row per threshold.
    """

    def __init__(self, folder: Path) -> None:
        run = activeselect.open_run(folder)
        scores, curve = run.scores, run.curve
        table = {
            name: scores.pivot(index="round", columns="index", values=name).to_numpy()
            for name in ("accuracy", "mean_nll")
        }
        if np.isnan(table["accuracy"]).any():
            raise StudyError(
                f"{folder}: expected every round to score the same examples, as a run does that "
                "reweights a fixed train set; received rounds that differ."
            )
        # A test comes before the scores of the same epoch; both are of one model.
        epoch = curve["samples_seen"] / curve["unique_examples"]
        at = np.searchsorted(run.rounds["epoch"], epoch, side="right") - 1
        self.test: FloatArray = curve["test_accuracy"].to_numpy()
        self.accuracy: FloatArray = table["accuracy"].mean(axis=1)[at]
        self.premem: FloatArray = np.stack(
            [dataset_premem(table["accuracy"], table["mean_nll"], tau)[at] for tau in TAUS]
        )


def chosen(runs: list[Tested]) -> int:
    """Place in ``TAUS`` of the threshold with the least mean absolute error on these runs."""
    errors = [np.abs(run.premem - run.test).mean(axis=1) for run in runs]
    return int(np.argmin(np.mean(errors, axis=0)))


def main(study: Path, strategy: str = "premem", dataset: str = "*") -> None:
    """Print a Markdown table.

    Args:
        study: folder of the study.
        strategy: whose runs are read; they must have measured ``mean_nll`` and ``accuracy``.
        dataset: whose runs are read, if the study has several.
    """
    folders = sorted((study / "cells").glob(f"{dataset}/{strategy}/seed-*"))
    if len(folders) < 3:
        raise StudyError(
            f"{study / 'cells'}: expected the runs of at least 3 seeds of '{strategy}'; received "
            f"{len(folders)}. Give a study's folder and the name of one of its strategies."
        )
    runs = [Tested(folder) for folder in folders]
    pairs = [(run, [other for other in runs if other is not run]) for run in runs]
    ways: dict[str, Callable[[Tested, list[Tested]], FloatArray]] = {
        "train accuracy of the same epoch": lambda run, _: run.accuracy,
        "premem, threshold fitted on the other seeds": lambda run, rest: run.premem[chosen(rest)],
        "train accuracy at the first test": lambda run, _: np.full_like(run.test, run.accuracy[0]),
        "the other seeds' mean test accuracy": (
            lambda _, rest: np.mean([other.test for other in rest], axis=0)
        ),
    }
    truth = np.stack([run.test for run in runs])
    taus = sorted({float(TAUS[chosen(rest)]) for _, rest in pairs})
    print(f"{len(runs)} seeds, {truth.size} tests; fitted thresholds {taus}\n")
    print("| what stands for test accuracy | mean absolute error | R² |")
    print("|---|---|---|")
    for name, way in ways.items():
        said = np.stack([way(run, rest) for run, rest in pairs])
        r2 = r_squared(truth.ravel(), said.ravel())
        print(f"| {name} | {np.abs(said - truth).mean():.3f} | {r2:.2f} |")


if __name__ == "__main__":
    run_script(main)
