"""How good is a forecast on runs it has not seen? Leave-one-run-out, or another folder of runs.

The features of a run are functions of its train-side records alone, and a run's forecast comes from
a regressor fitted on other runs: nothing about its test accuracy can reach its forecast.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from activeselect.errors import DataError
from activeselect.forecast.features import feature_matrix
from activeselect.forecast.regressor import TestAccuracyRegressor
from activeselect.forecast.traces import RunTrace

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

LEVEL = 0.9
MIN_CHECKPOINTS = 5


@dataclass(frozen=True)
class Judged:
    """Forecasts of runs by regressors that did not see them, n checkpoints in all.

    Attributes:
        run: the run of each checkpoint, ``[n]``.
        actual: measured test accuracy, ``[n]``.
        forecast: expected test accuracy, ``[n]``.
        interval: lower and upper end of the 90% interval, ``[n, 2]``.
        column: the column that was chosen for each judged run.
    """

    run: list[str]
    actual: FloatArray
    forecast: FloatArray
    interval: FloatArray
    column: dict[str, int]


def forecast_features(run: RunTrace) -> FloatArray:
    """Return the features of a recorded run, ``[R, d]``, from its train-side records alone.

    Raises:
        DataError: if a checkpoint has no scored example, or a value is out of range.
    """
    try:
        X = feature_matrix(run.accuracy, run.mean_nll, np.maximum(run.samples, 1))
    except ValueError as error:
        raise DataError(f"run '{run.name}': {error}; record it again") from error
    if np.isnan(X).any():
        raise DataError(f"run '{run.name}': a checkpoint has no scored example; record it again")
    return X


def labelled(run: RunTrace) -> BoolArray:
    """Return which checkpoints have a measured test accuracy, ``[R]``."""
    return ~np.isnan(run.test_accuracy)


def check_runs(runs: Sequence[RunTrace], least_runs: int, least_checkpoints: int, why: str) -> None:
    """Check that there is enough to learn from.

    Raises:
        DataError: if there are too few runs or tested checkpoints.
    """
    tested = [run for run in runs if labelled(run).any()]
    count = sum(int(labelled(run).sum()) for run in tested)
    if len(tested) < least_runs:
        raise DataError(
            f"{why} needs at least {least_runs} runs with a measured test accuracy, found "
            f"{len(tested)}; record more runs"
        )
    if count < least_checkpoints:
        raise DataError(
            f"{why} needs at least {least_checkpoints} checkpoints with a measured test accuracy, "
            f"found {count}; test more checkpoints"
        )


def stack(
    runs: Sequence[RunTrace], columns: Callable[[RunTrace], FloatArray]
) -> tuple[FloatArray, FloatArray, NDArray[np.str_]]:
    """Return features ``[n, d]``, accuracies ``[n]`` and runs ``[n]`` of tested checkpoints."""
    X = np.concatenate([columns(run)[labelled(run)] for run in runs])
    y = np.concatenate([run.test_accuracy[labelled(run)] for run in runs])
    names = [run.group for run in runs]
    return X, y, np.repeat(names, [int(labelled(run).sum()) for run in runs])


def leave_one_run_out(
    runs: Sequence[RunTrace],
    columns: Callable[[RunTrace], FloatArray] = forecast_features,
    calibration: str = "auto",
) -> Judged:
    """Forecast every run by a regressor fitted on all others (column choice included).

    Args:
        runs: the recorded runs, at least three.
        columns: from a run to its features, ``[R, d]``.
        calibration: of the regressor.
    """
    X, y, group = stack(runs, columns)
    forecast, interval, column = np.empty_like(y), np.empty((len(y), 2)), {}
    for name in dict.fromkeys(group.tolist()):
        judged = group == name
        model = TestAccuracyRegressor(calibration=calibration)
        model.fit(X[~judged], y[~judged], groups=group[~judged])
        forecast[judged] = model.predict(X[judged])
        interval[judged] = model.predict_interval(X[judged], LEVEL)
        column[name] = model.column_
    return Judged(group.tolist(), y, forecast, interval, column)


def hold_out(
    runs: Sequence[RunTrace],
    judged: Sequence[RunTrace],
    columns: Callable[[RunTrace], FloatArray] = forecast_features,
    calibration: str = "auto",
) -> Judged:
    """Fit on ``runs`` and forecast the runs in ``judged``.

    Raises:
        DataError: if a run is in both.
    """
    both = {run.group for run in runs} & {run.group for run in judged}
    if both:
        raise DataError(
            f"expected different runs to fit on and to judge, run '{min(both)}' is in both; "
            "remove it from one of the folders"
        )
    X, y, group = stack(runs, columns)
    model = TestAccuracyRegressor(calibration=calibration).fit(X, y, groups=group)
    X_new, y_new, group_new = stack(judged, columns)
    return Judged(
        run=group_new.tolist(),
        actual=y_new,
        forecast=model.predict(X_new),
        interval=model.predict_interval(X_new, LEVEL),
        column=dict.fromkeys(dict.fromkeys(group_new.tolist()), model.column_),
    )


def r_squared(actual: FloatArray, forecast: FloatArray) -> float:
    """Return the share of the variance of ``actual`` ``[n]`` that ``forecast`` ``[n]`` explains."""
    return 1 - float(((actual - forecast) ** 2).sum() / ((actual - actual.mean()) ** 2).sum())


def figures(judged: Judged) -> dict[str, float | None]:
    """Return R2, MAE, RMSE and the coverage of the 90% interval; R2 is None on one checkpoint."""
    error = judged.forecast - judged.actual
    inside = (judged.interval[:, 0] <= judged.actual) & (judged.actual <= judged.interval[:, 1])
    spread = len(error) > 1 and float(np.ptp(judged.actual)) > 0
    return {
        "r2": r_squared(judged.actual, judged.forecast) if spread else None,
        "mae": float(np.abs(error).mean()),
        "rmse": float(np.sqrt(np.mean(error**2))),
        "coverage": float(inside.mean()),
    }
