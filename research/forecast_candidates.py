"""Everything that was tried for the forecast, judged alike: ``python -m ...candidates DIR``.

Prints leave-one-run-out R2 and MAE of each candidate on every dataset of a trace folder, as the
table in docs/research/forecast.md. Whatever a candidate can set (thresholds, ratios, calibration)
is chosen anew without the judged run.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import expit, logit
from sklearn.base import BaseEstimator, clone
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import HuberRegressor, LinearRegression, RidgeCV

from activeselect.arrays import FloatArray
from activeselect.forecast.baselines import fraction_below, premem, train_accuracy
from activeselect.forecast.evaluate import forecast_features, stack
from activeselect.forecast.features import FLOORS, RATIOS, SETTINGS
from activeselect.forecast.regressor import TestAccuracyRegressor
from activeselect.forecast.traces import RunTrace, datasets_in, read_traces
from research.forecast_metrics import (
    FLOORS_TRIED,
    beta_filter,
    by_nll_decile,
    drop_never_open,
    exponential_mean,
    half_split,
    last_open,
    no_cap,
    posterior_mean,
    raw,
    soft_mask,
    sticky_mask,
)

Metric = Callable[[RunTrace, float], FloatArray]
Columns = Callable[[RunTrace], FloatArray]

IDENTITY = TestAccuracyRegressor("identity")


class Recalibrated(BaseEstimator):  # type: ignore[misc]
    """Choose a column as the forecast does, then pass it (and covariates) through a regressor."""

    def __init__(self, inner: Any, covariates: int = 0, residual: bool = False) -> None:
        self.inner = inner
        self.covariates = covariates
        self.residual = residual

    def fit(self, X: FloatArray, y: FloatArray, groups: Any = None) -> Recalibrated:
        """Fit the column on ``X[:, covariates:]``, then the inner regressor."""
        self.base_ = clone(IDENTITY).fit(X[:, self.covariates :], y, groups=groups)
        target = y - self.base_.predict(X[:, self.covariates :]) if self.residual else y
        self.inner_ = clone(self.inner).fit(self._inputs(X), target)
        return self

    def predict(self, X: FloatArray) -> FloatArray:
        """Return forecasts, ``[n]``."""
        value = np.asarray(self.inner_.predict(self._inputs(X)))
        return value + self.base_.predict(X[:, self.covariates :]) if self.residual else value

    def _inputs(self, X: FloatArray) -> FloatArray:
        column = self.base_.predict(X[:, self.covariates :])[:, None]
        return X[:, : self.covariates] if self.residual else column


class LogitLine(LinearRegression):  # type: ignore[misc]
    """A line in log-odds."""

    def fit(self, X: FloatArray, y: FloatArray) -> LogitLine:
        """Fit on log-odds."""
        super().fit(logit(np.clip(X, 1e-3, 1 - 1e-3)), logit(np.clip(y, 1e-3, 1 - 1e-3)))
        return self

    def predict(self, X: FloatArray) -> FloatArray:
        """Return shares, ``[n]``."""
        return np.asarray(expit(super().predict(logit(np.clip(X, 1e-3, 1 - 1e-3)))))


class Isotonic(IsotonicRegression):  # type: ignore[misc]
    """Monotone regression, flat outside the range seen."""

    def __init__(self) -> None:
        super().__init__(out_of_bounds="clip")


def judge(model: Any, columns: Columns, runs: list[RunTrace]) -> tuple[float, float]:
    """Return leave-one-run-out R2 and MAE of a candidate on the runs."""
    memory = {run.name: columns(run) for run in runs}
    X, y, group = stack(runs, lambda run: memory[run.name])
    forecast = np.empty_like(y)
    for name in np.unique(group):
        out = group == name
        fitted = clone(model)
        if isinstance(model, TestAccuracyRegressor | Recalibrated):
            fitted.fit(X[~out], y[~out], groups=group[~out])
        else:
            fitted.fit(X[~out], y[~out])
        forecast[out] = fitted.predict(X[out])
    error = y - forecast
    r2 = 1 - float((error**2).sum()) / float(((y - y.mean()) ** 2).sum())
    return r2, float(np.abs(error).mean())


def thresholds(metric: Metric, tau_of: Callable[[RunTrace, float, float], Any]) -> Columns:
    """Return one column per (floor, ratio) of a metric under a rule for the threshold."""

    def columns(run: RunTrace) -> FloatArray:
        known: dict[Any, FloatArray] = {}
        out = []
        for ratio in RATIOS:
            for floor in FLOORS_TRIED:
                tau = tau_of(run, floor, ratio)
                key = tau if np.isscalar(tau) else (floor, ratio)
                if key not in known:
                    known[key] = metric(run, tau)
                out.append(known[key])
        return np.stack(out, axis=1)

    return columns


def hinge(summary: Callable[[FloatArray], Any] = np.mean) -> Callable[..., float]:
    """Return the rule max(floor, ratio x summary of the first checkpoint's NLL)."""
    return lambda run, floor, ratio: float(max(floor, ratio * summary(run.mean_nll[0])))


def power(run: RunTrace, floor: float, ratio: float) -> float:
    """Return floor x (first mean NLL / 0.5) ** (2 x ratio)."""
    return float(floor * (run.mean_nll[0].mean() / 0.5) ** (2 * ratio))


def per_example(run: RunTrace, floor: float, ratio: float) -> FloatArray:
    """Return max(floor, ratio x the example's own first NLL), ``[1, N]``."""
    return np.maximum(floor, ratio * run.mean_nll[:1])


def with_covariate(covariate: Columns) -> Columns:
    """Return the forecast's features with a covariate in front."""
    return lambda run: np.hstack([covariate(run), forecast_features(run)])


def log_size(run: RunTrace) -> FloatArray:
    """Return the logarithm of the train set's size, ``[R, 1]``."""
    return np.full((len(run.step), 1), np.log(run.train_size))


def number_of_epochs(run: RunTrace) -> FloatArray:
    """Return the logarithm of the checkpoint's number, ``[R, 1]``."""
    return np.log(run.epoch.astype(np.float64))[:, None]


def memorized(run: RunTrace) -> FloatArray:
    """Return the share of traces below 0.1 nats per token, ``[R, 1]``."""
    return fraction_below(run)[:, [FLOORS.index(0.100259)]]


def log_first_nll(run: RunTrace) -> FloatArray:
    """Return the logarithm of the first mean NLL, ``[R, 1]``."""
    return np.full((len(run.step), 1), np.log(run.mean_nll[0].mean()))


def candidates() -> Iterator[tuple[str, Any, Columns]]:
    """Yield name, estimator and features of everything that was tried."""
    line, origin = TestAccuracyRegressor("line"), TestAccuracyRegressor("origin")
    auto = TestAccuracyRegressor("auto")
    fixed = [k for k, setting in enumerate(SETTINGS) if setting.ratio == 0]
    yield "paper's metric, tau chosen, line", line, premem
    yield "paper's metric, tau chosen, origin", origin, premem
    yield "paper's metric, tau chosen, as it is", IDENTITY, premem
    yield "tau = floor x (first NLL)^a", IDENTITY, thresholds(raw, power)
    yield "tau per example", IDENTITY, thresholds(raw, per_example)
    yield "tau = max(floor, ratio x first mean NLL)", IDENTITY, thresholds(raw, hinge())
    yield "  ... median NLL", IDENTITY, thresholds(raw, hinge(np.median))
    yield "  ... 90% quantile", IDENTITY, thresholds(raw, hinge(lambda x: np.quantile(x, 0.9)))
    yield "shrunk, fixed tau", IDENTITY, lambda run: forecast_features(run)[:, fixed]
    yield "SHIPPED: shrunk, max(floor, ratio x NLL)", auto, forecast_features
    yield "  ... always as it is", IDENTITY, forecast_features
    yield "  ... always through the origin", origin, forecast_features
    yield "  ... always a line", line, forecast_features
    for name, metric in (
        ("shrunk all the way to posterior means", posterior_mean),
        ("shrunk towards the mean of its NLL decile", by_nll_decile),
        ("not shrunk, halves: choose on one, read the other", half_split),
        ("beta filter over epochs (discount 0.5)", beta_filter),
        ("exponential mean over open epochs", exponential_mean),
        ("last open epoch instead of the best", last_open),
        ("without the cap by current accuracy", no_cap),
        ("a mask that stays", sticky_mask),
        ("examples never open left out", drop_never_open),
        ("soft mask, width 0.1", lambda run, tau: soft_mask(run, tau, 0.1)),
        ("soft mask, width 0.25", lambda run, tau: soft_mask(run, tau, 0.25)),
        ("soft mask, width 0.5", lambda run, tau: soft_mask(run, tau, 0.5)),
    ):
        yield name, IDENTITY, thresholds(metric, hinge())
    yield "shipped, log-odds line", Recalibrated(LogitLine()), forecast_features
    yield "shipped, monotone", Recalibrated(Isotonic()), forecast_features
    yield "shipped, Huber line", Recalibrated(HuberRegressor(max_iter=1000)), forecast_features
    for name, covariate in (
        ("log train size", log_size),
        ("log epoch", number_of_epochs),
        ("share memorized", memorized),
        ("train accuracy", train_accuracy),
        ("log first NLL", log_first_nll),
    ):
        model = Recalibrated(LinearRegression(), covariates=1, residual=True)
        yield f"shipped + {name}", model, with_covariate(covariate)
    ridge = RidgeCV(alphas=tuple(np.logspace(-4, 2, 13)))
    yield "ridge on the paper's metric at all taus", ridge, premem


def main(folder: Path) -> None:
    """Print the table."""
    runs = {name: read_traces(folder, name) for name in datasets_in(folder)}
    print("| candidate | " + " | ".join(f"{name} R2 | MAE" for name in runs) + " |")
    print("|---|" + "---|---|" * len(runs))
    for name, model, columns in candidates():
        found = [judge(model, columns, mine) for mine in runs.values()]
        print(f"| {name} | " + " | ".join(f"{r2:.3f} | {mae:.4f}" for r2, mae in found) + " |")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
