"""Calibrations of the forecast, and one second form: ``python -m ...calibration DIR``.

Judges each by leaving out one run, and one learning rate, of every dataset of a trace folder.
Beside R2 and MAE stands what cross-validation by run says of it against premem as it is: the
difference of squared errors, mean over the groups left out, in its standard errors (above 0:
worse).

The second form was registered here before it was run: *memorization as censoring*. An example that
is memorized says nothing on what the model can do with it now; those alike that are not memorized
do. So at each checkpoint the accuracy of the open examples is averaged within strata of the
accuracy at the first checkpoint, and the strata are weighted as in the whole train set (a stratum
without an open example keeps its last value). Threshold, shrinkage and cross-validation as in the
shipped form. It is shipped if it is better by two standard errors on both datasets, with one run
left out. (It is not: docs/research/forecast.md.)
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import clone

from activeselect.arrays import FloatArray
from activeselect.forecast.evaluate import forecast_features, labelled, r_squared, stack
from activeselect.forecast.features import shrink_accuracy
from activeselect.forecast.regressor import TestAccuracyRegressor
from activeselect.forecast.traces import RunTrace, datasets_in, read_traces
from research.forecast_candidates import (
    Columns,
    Isotonic,
    LogitLine,
    Recalibrated,
    hinge,
    thresholds,
)

#: Strata of the accuracy at the first checkpoint.
STRATA = 6


def censored(run: RunTrace, tau: Any) -> FloatArray:
    """Accuracy of the open examples, weighted to stand for all; one value per checkpoint, ``[R]``.

    Args:
        run: of R checkpoints and N examples.
        tau: below it an example is memorized, nats per token.
    """
    accuracy = shrink_accuracy(run.accuracy, run.samples)
    stratum = np.minimum((run.accuracy[0] * STRATA).astype(np.int64), STRATA - 1)
    size = np.bincount(stratum, minlength=STRATA)
    value = np.bincount(stratum, accuracy[0], minlength=STRATA) / np.maximum(size, 1)
    found = []
    for row, nll in zip(accuracy, run.mean_nll, strict=True):
        is_open = nll >= tau
        count = np.bincount(stratum[is_open], minlength=STRATA)
        total = np.bincount(stratum[is_open], row[is_open], minlength=STRATA)
        value = np.where(count > 0, total / np.maximum(count, 1), value)
        found.append(float(size @ value) / size.sum())
    return np.array(found)


def forms() -> Iterator[tuple[str, Any, Columns]]:
    """Name, estimator and features; the first is what the others are compared with."""
    yield "as it is", TestAccuracyRegressor("identity"), forecast_features
    yield "shipped: chosen by cross-validation", TestAccuracyRegressor("auto"), forecast_features
    yield "line through the origin", TestAccuracyRegressor("origin"), forecast_features
    yield "line", TestAccuracyRegressor("line"), forecast_features
    yield "line in log-odds", Recalibrated(LogitLine()), forecast_features
    yield "isotonic", Recalibrated(Isotonic()), forecast_features
    second = thresholds(censored, hinge())
    yield "second form, as it is", TestAccuracyRegressor("identity"), second
    yield "second form, isotonic", Recalibrated(Isotonic()), second


def forecasts(model: Any, columns: Columns, runs: list[RunTrace], out: Any) -> FloatArray:
    """What the model says of each checkpoint when fitted without those that share ``out``, [n]."""
    X, y, group = stack(runs, columns)
    forecast = np.empty_like(y)
    for value in np.unique(out):
        left = out == value
        fitted = clone(model).fit(X[~left], y[~left], groups=group[~left])
        forecast[left] = fitted.predict(X[left])
    return forecast


def main(folder: Path) -> None:
    """Print a table per dataset and kind of group."""
    for name in datasets_in(folder):
        runs = read_traces(folder, name)
        _, y, group = stack(runs, lambda run: np.zeros((len(run.step), 1)))
        rates = np.repeat(
            [run.learning_rate for run in runs], [int(labelled(run).sum()) for run in runs]
        )
        for what, out in (("run", group), ("learning rate", rates)):
            if len(np.unique(out)) < 2:
                continue  # nothing would be left to fit on
            print(f"\n{name}, one {what} of {len(np.unique(out))} left out\n")
            print("| form | R2 | MAE | squared error more, in standard errors |\n|---|---|---|---|")
            base = None
            for form, model, columns in forms():
                forecast = forecasts(model, columns, runs, out)
                squared = (forecast - y) ** 2
                base = squared if base is None else base
                more = [float((squared - base)[out == value].sum()) for value in np.unique(out)]
                error = float(np.std(more, ddof=1)) / np.sqrt(len(more))
                shown = f"{np.mean(more) / error:+.1f}" if error else "0"
                mae = float(np.abs(forecast - y).mean())
                print(
                    f"| {form} | {r_squared(y, forecast):.3f} | {mae:.4f} | {shown} |", flush=True
                )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
