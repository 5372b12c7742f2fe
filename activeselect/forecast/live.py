"""Live forecast of a run that is under way, from the arrays it has in memory."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from activeselect.errors import DataError, did_you_mean
from activeselect.forecast.features import FEATURES_VERSION, SETTINGS, feature_matrix, run_scale
from activeselect.forecast.regressor import Errors, TestAccuracyRegressor, drawn_half_width

Forecaster = Callable[[ArrayLike, ArrayLike], "LiveForecast"]

SHIPPED = "pretrained.json"
#: The model that the shipped regressors were fitted on, as its config tells it.
LLAMA_3_8B = {
    "model_type": "llama",
    "hidden_size": 4096,
    "num_hidden_layers": 32,
    "vocab_size": 128256,
}


class LiveForecast(NamedTuple):
    """What to expect on the test set right now.

    Attributes:
        value: expected test accuracy, a share.
        low: lower end of the interval.
        high: upper end of the interval.
        source: which regressor says so, in words.
        raw: the value before earlier test accuracies of the run shifted it.
    """

    value: float
    low: float
    high: float
    source: str
    raw: float


class Tested(NamedTuple):
    """An earlier stage of the run, whose test accuracy is known by now.

    Attributes:
        raw: what was forecast then, before any shift.
        accuracy: what the test said.
        examples: test problems.
    """

    raw: float
    accuracy: float
    examples: int


def live_forecast(
    accuracy: ArrayLike,
    mean_nll: ArrayLike,
    regressor: TestAccuracyRegressor | None = None,
    *,
    samples: ArrayLike | None = None,
    level: float = 0.9,
    known: Sequence[Tested] = (),
) -> LiveForecast:
    """Forecast test accuracy after the latest round.

    Args:
        accuracy: sampled train accuracy of the rounds so far, ``[R, N]``; NaN where not sampled.
        mean_nll: nats per token of the reference traces, ``[R, N]``; NaN where not scored.
        regressor: fitted on runs like this one; by default the shipped one for unknown datasets.
        samples: completions per example, a number or ``[R, N]``; inferred if not given.
        level: of the interval.
        known: earlier stages of this run. Runs miss as a whole, so what is known of this one's
            errors shifts its forecast, the more the less its checkpoints scatter.

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
    examples = int(np.sum(~np.isnan(np.atleast_2d(np.asarray(mean_nll, dtype=float))).all(axis=0)))
    source, raw = source_of(model), model.predict(X)
    if not known:
        low, high = model.predict_interval(X, level, examples=[examples])[0]
        return LiveForecast(float(raw[0]), float(low), float(high), source, float(raw[0]))
    errors, earlier = Errors.of(model.scores_), np.array(known, dtype=np.float64)
    scale = model.scale(earlier[:, 0])
    missed = (earlier[:, 1] - earlier[:, 0]) / scale
    count = earlier[:, 2] + 4  # Agresti and Coull, as in `drawn_half_width`
    share = (earlier[:, 1] * earlier[:, 2] + 2) / count
    tests = share * (1 - share) / count
    effect, variance = errors.knowing(missed, tests / scale**2)
    value = np.clip(raw + effect * model.scale(raw), 0, 1)
    half = errors.quantile(level) * np.sqrt(variance) * model.scale(raw)
    half = np.hypot(half, drawn_half_width(value, [examples], level))
    ends = np.clip([value - half, value + half], 0, 1)
    source += f"; shifted by {len(known)} test{'s' * (len(known) > 1)} of this run"
    return LiveForecast(
        float(value[0]), float(ends[0, 0]), float(ends[1, 0]), source, float(raw[0])
    )


@dataclass(frozen=True)
class RunForecaster:
    """Forecasts of one run by one regressor.

    Args:
        regressor: fitted on runs like this one.
        samples: completions per example.
        known: earlier stages of the run with their test accuracies.
    """

    regressor: TestAccuracyRegressor
    samples: int
    known: tuple[Tested, ...] = ()

    def __call__(self, accuracy: ArrayLike, mean_nll: ArrayLike) -> LiveForecast:
        """The forecast for the last round; arguments as for :func:`live_forecast`."""
        return live_forecast(
            accuracy, mean_nll, self.regressor, samples=self.samples, known=self.known
        )

    def after(self, curve: Sequence[Mapping[str, Any]]) -> RunForecaster:
        """The forecaster that knows a run's finished stages (entries of its ``curve``)."""
        known = [
            Tested(stage["forecast"]["raw"], stage["test_accuracy"], stage["test_examples"])
            for stage in curve
            if stage.get("forecast") and stage.get("test_accuracy") is not None
        ]
        return replace(self, known=tuple(known))


def forecaster_for(
    setting: str | bool, *, samples: int, dataset: str = "", model: Any = None
) -> RunForecaster | None:
    """The forecaster that a run's ``forecast`` setting names.

    Args:
        setting: ``auto`` (the shipped regressor for this dataset and model, else for unknown
            ones), a shipped one's name, the path of a fitted one, or ``off``.
        samples: completions per example.
        dataset: what the data was recognised as, ``gsm8k`` or ``math``; empty where it was not.
            How answers are marked does not tell: other data mark theirs with ``####``, too.
        model: the model's config.

    Raises:
        DataError: if there is no such regressor.
    """
    if setting in ("off", False):
        return None
    name = str(setting)
    if name == "auto":
        known = dataset in _shipped() and is_llama_3_8b(model)
        regressor = load_pretrained(dataset if known else "any")
    elif Path(name).suffix == ".json":
        regressor = load_regressor(Path(name))
    else:
        regressor = load_pretrained(name)
    return RunForecaster(regressor, samples)


def is_llama_3_8b(model: Any) -> bool:
    """Whether a model's config is that of the runs behind the shipped regressors."""
    return all(getattr(model, name, None) == value for name, value in LLAMA_3_8B.items())


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


def load_regressor(path: Path) -> TestAccuracyRegressor:
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
            errors on a dataset that was not seen, and at small and large values as at 0.5.

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
