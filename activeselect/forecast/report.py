"""The report that ``forecast evaluate`` prints: the forecast, and what it has to beat."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from activeselect.forecast.baselines import baselines_for
from activeselect.forecast.evaluate import (
    LEVEL,
    MIN_CHECKPOINTS,
    Judged,
    check_runs,
    figures,
    forecast_features,
    hold_out,
    labelled,
    leave_one_run_out,
    r_squared,
)
from activeselect.forecast.features import SETTINGS, run_scale
from activeselect.forecast.traces import RunTrace

FloatArray = NDArray[np.float64]

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
