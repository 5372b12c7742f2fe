"""`TestAccuracyRegressor`: choose one column of the features, calibrate it, say how far off it is.

Few runs is the normal case (10 and 8 in the paper's released data), so the estimator spends as
little as it can: it chooses one column (one mask setting), and one of three calibrations, of which
the simplest that is not clearly worse held out wins: the value itself, a line through the origin,
a line. Held out always means whole runs, because the checkpoints of one run are not independent.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from activeselect.errors import DataError
from activeselect.forecast import intervals
from activeselect.forecast.selection import CALIBRATIONS, Choice, GroupSums, choose

FloatArray = NDArray[np.float64]

FORMAT = "activeselect-forecast"
FORMAT_VERSION = 1
MAX_LOTS = 50


class TestAccuracyRegressor(RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """Forecast test accuracy from one well-chosen column of the features.

    Each column of ``X`` is the same quantity computed under another setting (for the forecast:
    dataset-level pre-memorization accuracy under another threshold, see
    `activeselect.forecast.features.feature_matrix`).

    Args:
        calibration: ``"identity"``, ``"origin"`` (a line through the origin), ``"line"``, or
            ``"auto"``: the simplest of the three whose held-out squared error is not clearly (two
            standard errors over groups) above the best one's.

    Attributes:
        column_: index of the chosen column.
        calibration_: the calibration used.
        slope_, intercept_: of the calibrated line.
        group_columns_: the column chosen without each group: how stable the choice is.
        scores_: held-out absolute errors over their scale, one list per group.
        n_groups_: number of groups (runs), or of lots.
        n_features_in_: number of columns.

    Source:
        Intervals: Vovk (2015), "Cross-conformal predictors", with whole groups left out; see
        `activeselect.forecast.intervals`.

    Example:
        >>> x = np.linspace(0.1, 0.6, 12)
        >>> X = np.column_stack([x, 1 - x**2])
        >>> model = TestAccuracyRegressor().fit(X, x + 0.01, groups=np.repeat([0, 1, 2, 3], 3))
        >>> model.column_, model.predict(X[:1]).round(2).tolist()
        (0, [0.11])
    """

    # pytest would otherwise collect the class for its name.
    __test__ = False

    def __init__(self, calibration: str = "auto") -> None:
        self.calibration = calibration

    def fit(
        self, X: ArrayLike, y: ArrayLike, groups: ArrayLike | None = None
    ) -> TestAccuracyRegressor:
        """Choose the column and the calibration, and hold out each group once.

        Args:
            X: features, ``[n, d]``.
            y: test accuracy, ``[n]``.
            groups: the run of each row, ``[n]``; without it every row is its own group. More than
                50 groups are held out in 50 lots.

        Returns:
            self.

        Raises:
            ValueError: if there are fewer than two groups, the lengths differ, or
                ``calibration`` is unknown.
        """
        features: FloatArray
        actual: FloatArray
        features, actual = validate_data(self, X, y, y_numeric=True, dtype=np.float64)
        if self.calibration != "auto" and self.calibration not in CALIBRATIONS:
            known = ", ".join(("auto", *CALIBRATIONS))
            raise ValueError(f"calibration must be one of {known}; received {self.calibration!r}")
        code = self._groups(groups, len(actual))
        sums = GroupSums.of(features, actual, code)
        allowed = CALIBRATIONS if self.calibration == "auto" else (self.calibration,)
        self._keep(choose(sums, allowed))
        self.n_groups_ = int(sums.count.shape[0])
        without = [choose(sums.drop(g), allowed) for g in range(self.n_groups_)]
        self.group_columns_ = [choice.column for choice in without]
        self.in_unit_interval_ = bool(np.all((actual >= 0) & (actual <= 1)))
        self.scores_ = []
        for g, choice in enumerate(without):
            rows = code == g
            held_out = choice.predict(features[rows])
            scale = intervals.scale_of(held_out, self.in_unit_interval_)
            self.scores_.append((np.abs(actual[rows] - held_out) / scale).tolist())
        return self

    def predict(self, X: ArrayLike) -> FloatArray:
        """Return the expected test accuracy of every row, ``[n]``."""
        check_is_fitted(self)
        features: FloatArray = validate_data(self, X, reset=False, dtype=np.float64)
        return self._clip(self.slope_ * features[:, self.column_] + self.intercept_)

    def predict_interval(self, X: ArrayLike, level: float = 0.9) -> FloatArray:
        """Return the lower and upper end of a prediction interval per row, ``[n, 2]``.

        The interval is for a checkpoint of a *new run*: see `activeselect.forecast.intervals` for
        what it promises with few runs.

        Args:
            X: features, ``[n, d]``.
            level: share of new runs' checkpoints that the interval should hold, in (0, 1).

        Raises:
            ValueError: if ``level`` is not in (0, 1).
        """
        check_is_fitted(self)
        if not 0 < level < 1:
            raise ValueError(f"level must lie in (0, 1); received {level}")
        centre = self.predict(X)
        width = intervals.half_width(self.scores_, level)
        half = width * intervals.scale_of(centre, self.in_unit_interval_)
        return np.column_stack([self._clip(centre - half), self._clip(centre + half)])

    def to_json(self, provenance: dict[str, Any] | None = None) -> str:
        """Return the fitted model as JSON text: coefficients only, nothing executable.

        Args:
            provenance: facts worth keeping (data, date, versions), stored unchanged.
        """
        check_is_fitted(self)
        state = {name: getattr(self, name) for name in _STATE}
        body = {"format": FORMAT, "version": FORMAT_VERSION, "calibration": self.calibration}
        return json.dumps({**body, **state, "provenance": provenance or {}}, indent=1)

    @classmethod
    def from_json(cls, text: str, source: Path | str = "model") -> TestAccuracyRegressor:
        """Return a fitted model from the text that `to_json` made.

        Args:
            text: the JSON text.
            source: what to call the text in an error.

        Raises:
            DataError: if the text is no such model, or is of another version.
        """
        try:
            body = json.loads(text)
        except json.JSONDecodeError as error:
            raise DataError(
                f"{source}: expected a JSON model file, {error}; fit it again"
            ) from None
        if not isinstance(body, dict) or body.get("format") != FORMAT:
            raise DataError(
                f"{source}: expected a model made by `activeselect forecast fit`, found other JSON"
            )
        missing = [name for name in ("calibration", *_STATE) if name not in body]
        if body.get("version") != FORMAT_VERSION or missing:
            raise DataError(
                f"{source}: expected model version {FORMAT_VERSION}, found {body.get('version')}"
                f"{' without ' + ', '.join(missing) if missing else ''}; fit it again"
            )
        broken = [name for name, holds in _VALID.items() if not holds(body)]
        if broken:
            raise DataError(f"{source}: the model's {broken[0]} is damaged; fit it again")
        model = cls(calibration=body["calibration"])
        for name in _STATE:
            setattr(model, name, body[name])
        model.provenance_ = body.get("provenance", {})
        return model

    def _keep(self, choice: Choice) -> None:
        self.column_ = choice.column
        self.calibration_ = choice.calibration
        self.slope_ = choice.slope
        self.intercept_ = choice.intercept

    def _clip(self, values: FloatArray) -> FloatArray:
        return np.clip(values, 0.0, 1.0) if self.in_unit_interval_ else values

    @staticmethod
    def _groups(groups: ArrayLike | None, n: int) -> NDArray[np.int64]:
        names = np.arange(n) if groups is None else np.asarray(groups)
        if names.shape != (n,):
            raise ValueError(f"groups must have shape ({n},); received {names.shape}")
        unique, code = np.unique(names, return_inverse=True)
        if len(unique) < 2:
            raise ValueError(
                f"expected at least 2 groups (runs), received 1 (n_samples = {n}); record more runs"
            )
        return np.asarray(code, dtype=np.int64) % MAX_LOTS


_STATE = (
    "column_",
    "calibration_",
    "slope_",
    "intercept_",
    "group_columns_",
    "in_unit_interval_",
    "scores_",
    "n_groups_",
    "n_features_in_",
)


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _holds_scores(body: dict[str, Any]) -> bool:
    scores = body["scores_"]
    return (
        isinstance(scores, list)
        and len(scores) >= 2
        and all(isinstance(run, list) and run and all(map(_finite, run)) for run in scores)
    )


_VALID: dict[str, Callable[[dict[str, Any]], bool]] = {
    "slope_": lambda body: _finite(body["slope_"]),
    "intercept_": lambda body: _finite(body["intercept_"]),
    "n_features_in_": lambda body: isinstance(body["n_features_in_"], int),
    "column_": lambda body: body["column_"] in range(body["n_features_in_"]),
    "scores_": _holds_scores,
    "n_groups_": lambda body: body["n_groups_"] == len(body["scores_"]),
}
