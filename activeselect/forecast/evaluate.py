"""Evaluation of the forecast on unseen runs: leave-one-run-out, or another folder of runs.

The features of a run are functions of its train-side records alone, and a run's forecast comes from
a regressor fitted on other runs: nothing about its test accuracy can reach its forecast.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from activeselect.arrays import BoolArray, FloatArray
from activeselect.errors import DataError
from activeselect.forecast.baselines import baselines_for, premem
from activeselect.forecast.features import (
    FLOORS,
    RATIOS,
    SETTINGS,
    MaskSetting,
    feature_matrix,
    run_scale,
)
from activeselect.forecast.regressor import GroupSums, TestAccuracyRegressor
from activeselect.forecast.traces import RunTrace

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

    Returns:
        The forecast of each checkpoint with its interval and the measured accuracy.

    Raises:
        DataError: if a checkpoint of a run has no scored example.

    Example:
        Each run is forecast without having been seen::

            runs = read_traces(Path("traces"), "gsm8k")
            figures(leave_one_run_out(runs))["r2"]
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


# --- Report of the evaluation


MIN_RUNS = 3
BOOTSTRAPS = 1000


def evaluation(
    runs: Sequence[RunTrace], judged: Sequence[RunTrace] | None = None
) -> dict[str, Any]:
    """Return the full report on one dataset, for people and for ``--json``.

    Args:
        runs: the runs to fit on; without ``judged``, each is also judged by the others.
        judged: runs to judge instead.

    Raises:
        DataError: if there are too few runs or tested checkpoints.
    """
    if judged is None:
        check_runs(runs, MIN_RUNS, MIN_CHECKPOINTS, "leave-one-run-out")
    else:
        check_runs(runs, 2, MIN_CHECKPOINTS, "fitting")
        check_runs(judged, 1, 1, "judging")

    def judge(columns: Callable[[RunTrace], FloatArray], calibration: str) -> Judged:
        if judged is None:
            return leave_one_run_out(runs, columns, calibration)
        return hold_out(runs, judged, columns, calibration)

    result = judge(forecast_features, "auto")
    taus = _taus(result, runs if judged is None else judged)
    return {
        "protocol": "leave-one-run-out" if judged is None else "holdout",
        "dataset": runs[0].dataset,
        **figures(result),
        "tau": float(np.median(list(taus.values()))),
        "tau_by_run": taus,
        "interval_level": LEVEL,
        "bootstrap90": bootstrap(result),
        "n_runs": len(taus),
        "n_checkpoints": len(result.actual),
        "baselines": {
            b.name: {**figures(judge(b.columns, b.calibration)), "about": b.about}
            for b in baselines_for(runs[0].dataset)
        },
        "checkpoints": _checkpoints(result),
    }


def _taus(result: Judged, runs: Sequence[RunTrace]) -> dict[str, float]:
    """The threshold that each judged run's forecast used, nats per token."""
    return {
        run.name: SETTINGS[result.column[run.group]].tau(run_scale(run.mean_nll))
        for run in runs
        if labelled(run).any()
    }


def _checkpoints(result: Judged) -> list[dict[str, Any]]:
    ends = result.interval.tolist()
    rows = zip(result.run, result.actual.tolist(), result.forecast.tolist(), ends, strict=True)
    return [
        {"run": run.split("/", 1)[1], "actual": actual, "forecast": value, "low": low, "high": high}
        for run, actual, value, (low, high) in rows
    ]


def bootstrap(judged: Judged, seed: int = 0) -> dict[str, list[float]]:
    """Return 90% percentile intervals of R2 and MAE over runs drawn with replacement."""
    rng = np.random.default_rng(seed)
    names, code = np.unique(judged.run, return_inverse=True)
    rows = [np.flatnonzero(code == k) for k in range(len(names))]
    r2, mae = [], []
    for _ in range(BOOTSTRAPS):
        pick = np.concatenate([rows[k] for k in rng.integers(len(names), size=len(names))])
        actual, forecast = judged.actual[pick], judged.forecast[pick]
        if np.ptp(actual) > 0:
            r2.append(r_squared(actual, forecast))
            mae.append(float(np.abs(actual - forecast).mean()))
    if not r2:
        return {}
    return {
        "r2": np.quantile(r2, [0.05, 0.95]).tolist(),
        "mae": np.quantile(mae, [0.05, 0.95]).tolist(),
    }


# --- Dependence on tau


# Beyond, everything counts as memorized.
LARGEST = 0.7


@dataclass(frozen=True)
class TauCurve:
    """Leave-one-run-out R2 at every threshold, chosen by nobody.

    Attributes:
        tau: thresholds in nats per token, ascending, ``[T]``.
        paper_line: the paper's metric at that tau, line refitted without each run.
        paper_identity: the paper's metric at that tau, taken as it is.
        forecast: shrunk accuracies, threshold ``max(tau, ratio x first mean NLL)``, as it is.
        ratio: the ratio in ``forecast``.
    """

    tau: list[float]
    paper_line: list[float]
    paper_identity: list[float]
    forecast: list[float]
    ratio: float

    def stable_range(self, values: Sequence[float], least: float) -> tuple[float, float] | None:
        """Return the widest unbroken range of tau in which R2 stays at ``least`` or above.

        Example:
            >>> curve = TauCurve([0.1, 0.2, 0.3], [], [], [], 0.25)
            >>> curve.stable_range([0.5, 0.9, 0.95], least=0.9)
            (0.2, 0.3)
        """
        best: tuple[float, float] | None = None
        start: float | None = None
        for tau, value in zip(self.tau, values, strict=True):
            if value < least:
                start = None
                continue
            start = tau if start is None else start
            if best is None or tau / start > best[1] / best[0]:
                best = (start, tau)
        return best


def tau_curve(runs: Sequence[RunTrace], ratio: float = RATIOS[0]) -> TauCurve:
    """Return leave-one-run-out R2 against the threshold.

    Args:
        runs: the recorded runs, at least three.
        ratio: of the run-dependent part of the forecast's threshold.
    """
    taus = tuple(tau for tau in FLOORS if tau <= LARGEST)
    settings = tuple(MaskSetting(tau, ratio) for tau in taus)

    def forecast(run: RunTrace) -> FloatArray:
        return feature_matrix(run.accuracy, run.mean_nll, np.maximum(run.samples, 1), settings)

    paper = stack(runs, lambda run: premem(run, taus))
    return TauCurve(
        tau=list(taus),
        paper_line=_held_out_r2(*paper, "line"),
        paper_identity=_held_out_r2(*paper, "identity"),
        forecast=_held_out_r2(*stack(runs, forecast), "identity"),
        ratio=ratio,
    )


def _held_out_r2(
    X: FloatArray, y: FloatArray, group: NDArray[np.str_], calibration: str
) -> list[float]:
    """R2 of every column of ``X`` ``[n, T]``, calibrated without each group."""
    code = np.unique(group, return_inverse=True)[1]
    slope, intercept = GroupSums.of(X, y, code).line(calibration, without=True)
    forecast = slope[code] * X + intercept[code]
    left = ((y[:, None] - forecast) ** 2).sum(axis=0)
    return [float(value) for value in 1 - left / ((y - y.mean()) ** 2).sum()]
