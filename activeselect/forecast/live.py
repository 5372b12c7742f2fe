"""The forecast while a run is under way, from the arrays it has in memory."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import lru_cache, partial
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from activeselect.errors import DataError, did_you_mean
from activeselect.forecast.features import FEATURES_VERSION, SETTINGS, feature_matrix, run_scale
from activeselect.forecast.regressor import TestAccuracyRegressor

Forecaster = Callable[[ArrayLike, ArrayLike], "LiveForecast"]

SHIPPED = "pretrained.json"


class LiveForecast(NamedTuple):
    """What to expect on the test set right now.

    Attributes:
        value: expected test accuracy, a share.
        low: lower end of the interval.
        high: upper end of the interval.
        source: which regressor says so, in words.
    """

    value: float
    low: float
    high: float
    source: str


def live_forecast(
    accuracy: ArrayLike,
    mean_nll: ArrayLike,
    regressor: TestAccuracyRegressor | None = None,
    *,
    samples: ArrayLike | None = None,
    level: float = 0.9,
) -> LiveForecast:
    """Forecast test accuracy after the latest round.

    Args:
        accuracy: sampled train accuracy of the rounds so far, ``[R, N]``; NaN where not sampled.
        mean_nll: nats per token of the reference traces, ``[R, N]``; NaN where not scored.
        regressor: fitted on runs like this one; by default the shipped one for unknown datasets.
        samples: completions per example, a number or ``[R, N]``; inferred if not given.
        level: of the interval.

    Returns:
        The forecast for the last round.

    Raises:
        ValueError: if the shapes differ or nothing was scored.
        DataError: if the regressor was fitted on other features.

    Example:
        >>> now = live_forecast([[0.25, 0.75], [0.5, 1.0]], [[0.9, 0.8], [0.4, 0.02]])
        >>> now.low <= now.value <= now.high
        True
    """
    model = load_pretrained() if regressor is None else regressor
    check_features(model, "regressor")
    X = feature_matrix(accuracy, mean_nll, samples)[-1:]
    if np.isnan(X).any():
        raise ValueError("expected at least one example with accuracy and mean_nll, found none")
    low, high = model.predict_interval(X, level)[0]
    return LiveForecast(float(model.predict(X)[0]), float(low), float(high), source_of(model))


def forecaster_for(setting: str | bool, checker: str, *, samples: int) -> Forecaster | None:
    """The forecaster that a run's ``forecast`` setting names.

    Args:
        setting: ``auto`` (the shipped regressor for the data, else for unknown data), a shipped
            one's name, the path of a fitted one, or ``off``.
        checker: the pool's answer checker, which tells GSM8K and MATH.
        samples: completions per example.

    Raises:
        DataError: if there is no such regressor.
    """
    if setting in ("off", False):
        return None
    setting = str(setting)
    if setting == "auto":
        model = load_pretrained(checker if checker in _shipped() else "any")
    elif Path(setting).suffix == ".json":
        model = load_model(Path(setting))
    else:
        model = load_pretrained(setting)
    return partial(live_forecast, regressor=model, samples=samples)


def tau_of(model: TestAccuracyRegressor, mean_nll: ArrayLike) -> float:
    """Return the threshold (nats per token) that a fitted model uses on a run, from ``[R, N]``."""
    return SETTINGS[model.column_].tau(run_scale(mean_nll))


def source_of(model: TestAccuracyRegressor) -> str:
    """Say in words what a model was fitted on."""
    facts: dict[str, Any] = getattr(model, "provenance_", {})
    about = facts.get("about", "runs of your own")
    return f"{about} ({model.n_groups_} runs)"


def check_features(model: TestAccuracyRegressor, source: Path | str) -> None:
    """Check that a model was fitted on the features of this version.

    Raises:
        DataError: if it was not.
    """
    version = getattr(model, "provenance_", {}).get("features_version", FEATURES_VERSION)
    if version != FEATURES_VERSION or model.n_features_in_ != len(SETTINGS):
        raise DataError(
            f"{source}: expected a model on features of version {FEATURES_VERSION} "
            f"({len(SETTINGS)} columns), found version {version} ({model.n_features_in_} columns); "
            "fit it again"
        )


def load_model(path: Path) -> TestAccuracyRegressor:
    """Load a model that `activeselect forecast fit` wrote.

    Raises:
        DataError: if the file is missing or no such model.
    """
    if not path.is_file():
        raise DataError(
            f"{path}: expected a model file, found none; make one with `activeselect forecast fit`"
        )
    model = TestAccuracyRegressor.from_json(path.read_text(encoding="utf-8"), path)
    check_features(model, path)
    return model


def load_pretrained(dataset: str = "any") -> TestAccuracyRegressor:
    """Load a regressor shipped with the package, fitted on the paper's Llama-3-8B runs.

    Args:
        dataset: ``"gsm8k"``, ``"math"``, or ``"any"``: both pooled, its interval as wide as the
            errors on a dataset that was not seen.

    Raises:
        DataError: if there is none of that name.

    Example:
        >>> load_pretrained("gsm8k").calibration_
        'identity'
    """
    models = _shipped()
    if dataset not in models:
        raise DataError(f"no shipped regressor '{dataset}'. {did_you_mean(dataset, models)}")
    return TestAccuracyRegressor.from_json(json.dumps(models[dataset]), SHIPPED)


@lru_cache(maxsize=1)
def _shipped() -> dict[str, Any]:
    text = (resources.files("activeselect.forecast") / SHIPPED).read_text(encoding="utf-8")
    models: dict[str, Any] = json.loads(text)["models"]
    return models
