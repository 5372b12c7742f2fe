"""`TestAccuracyRegressor`: choose one column of the features, calibrate it, say how far off it is.

Few runs is the normal case (10 and 8 in the paper's released data), so the estimator spends as
little as it can: it chooses one column (one mask setting), and one of three calibrations, of which
the simplest that is not clearly worse held out wins: the value itself, a line through the origin,
a line. Held out always means whole runs, because the checkpoints of one run are not independent.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from activeselect.arrays import FloatArray
from activeselect.errors import DataError

# --- How wide a prediction interval has to be, when whole runs are the independent units
#
# Every run is left out once; its absolute errors, over the scale ``sqrt(p(1-p))`` of a share p, are
# the scores (one per checkpoint). The half width is, on that scale,
#
# * the quantile of the scores in which every run weighs the same, however many checkpoints it has:
#   cross-conformal by run, with the runs' distributions pooled. If a new run's errors are like
#   these
#   runs' errors, the interval holds about ``level`` of its checkpoints *on average over new runs*.
#   Errors of one run go together, so a run may be inside throughout or outside throughout. The
#   correction that would make this a guarantee at any number of runs (weight 1/(K+1) for the unseen
#   run) makes every 90% interval infinite below 9 runs and the largest error ever seen at 9; it is
#   left out, so the coverage is approximate, and measured in docs/research/forecast.md;
#  * the wider of that and Student's t interval around errors with mean 0 (K - 1 degrees of freedom
#   for
#   K runs) with fewer than `FEW_RUNS` runs, or with too few checkpoints for a quantile of that
#   level
#   (below 9 for 90%): that assumes normal errors, and few runs estimate their size only roughly.
#
# Neither says anything about runs of another kind (model, task, recipe) than those seen.


FEW_RUNS = 5


def scale_of(values: FloatArray, in_unit_interval: bool) -> FloatArray:
    """Return the scale that errors are measured in, per value ``[n]``.

    Args:
        values: forecasts, ``[n]``.
        in_unit_interval: whether they are shares; other quantities have scale 1.

    Example:
        >>> scale_of(np.array([0.5, 0.1]), in_unit_interval=True).round(2).tolist()
        [0.5, 0.3]
    """
    if not in_unit_interval:
        return np.ones_like(values)
    share = np.clip(values, 0.01, 0.99)
    return np.asarray(np.sqrt(share * (1 - share)))


def half_width(scores: Sequence[Sequence[float]], level: float) -> float:
    """Return the half width of the interval in units of the scale.

    Args:
        scores: absolute held-out errors over their scale, one sequence per run.
        level: share of a new run's checkpoints to hold, in (0, 1).

    Raises:
        ValueError: with fewer than two runs.

    Source:
        Vovk (2015), "Cross-conformal predictors"; Dunn, Wasserman, Ramdas (2022),
        "Distribution-free prediction sets for two-layer hierarchical models" (pooling CDFs).

    Example:
        >>> round(half_width([[0.01, 0.02]] * 5, level=0.9), 3)
        0.02
        >>> round(half_width([[0.01, 0.02]] * 2, level=0.9), 3)
        0.1
    """
    runs = len(scores)
    if runs < 2:
        raise ValueError(f"expected scores of at least 2 runs; received {runs}")
    pooled = np.concatenate([np.asarray(run, dtype=np.float64) for run in scores])
    quantile = _weighted_quantile(pooled, [len(run) for run in scores], level)
    if runs >= FEW_RUNS and len(pooled) >= level * (len(pooled) + 1):
        return quantile
    spread = float(np.sqrt(np.mean(pooled**2)))
    return max(quantile, float(stats.t.ppf((1 + level) / 2, runs - 1)) * spread)


def _weighted_quantile(values: FloatArray, sizes: Sequence[int], level: float) -> float:
    """Quantile of runs' values laid end to end, each run with weight one."""
    weight = np.concatenate([np.full(size, 1 / size) for size in sizes]) / len(sizes)
    order = values.argsort(kind="stable")
    middle = np.cumsum(weight[order]) - weight[order] / 2
    return float(np.interp(level, middle, values[order]))


# --- Choosing a column and a calibration by the squared error on groups that were left out
#
# Everything follows from five sums per group and column, so a choice among hundreds of columns,
# repeated without each group, is a few small array operations.


# From the simplest to the richest; see `choose`.
CALIBRATIONS = ("identity", "origin", "line")
# Standard errors by which a simpler calibration may be worse and still win.
TOLERANCE = 2.0


@dataclass(frozen=True)
class Choice:
    """A column, a calibration and its coefficients."""

    column: int
    calibration: str
    slope: float
    intercept: float

    def predict(self, X: FloatArray) -> FloatArray:
        """Return the calibrated values of the chosen column, ``[n]``."""
        return np.asarray(self.slope * X[:, self.column] + self.intercept)


@dataclass(frozen=True)
class GroupSums:
    """Sums over the rows of each group: G groups, d columns.

    Attributes:
        count: rows, ``[G, 1]``.
        x, xx, xy: sums of x, x squared and x times y, ``[G, d]``.
        y, yy: sums of y and y squared, ``[G, 1]``.
    """

    count: FloatArray
    x: FloatArray
    xx: FloatArray
    xy: FloatArray
    y: FloatArray
    yy: FloatArray

    @classmethod
    def of(cls, X: FloatArray, y: FloatArray, code: NDArray[np.int64]) -> GroupSums:
        """Sum over the rows of ``X`` ``[n, d]`` and ``y`` ``[n]`` with group numbers ``code``."""
        shape = (int(code.max()) + 1, X.shape[1])

        def total(values: FloatArray) -> FloatArray:
            out = np.zeros((shape[0], values.shape[1]))
            np.add.at(out, code, values)
            return out

        column = y[:, None].astype(np.float64)
        return cls(
            count=total(np.ones_like(column)),
            x=total(X),
            xx=total(X**2),
            xy=total(X * column),
            y=total(column),
            yy=total(column**2),
        )

    def drop(self, group: int) -> GroupSums:
        """Return the sums without one group."""
        keep = np.arange(len(self.count)) != group
        return GroupSums(
            self.count[keep],
            self.x[keep],
            self.xx[keep],
            self.xy[keep],
            self.y[keep],
            self.yy[keep],
        )

    def line(self, calibration: str, without: bool) -> tuple[FloatArray, FloatArray]:
        """Return slopes and intercepts per column: of all groups ``[1, d]``, or without each.

        Args:
            calibration: one of `CALIBRATIONS`.
            without: fit once without each group, ``[G, d]``, instead of once on all.
        """

        def pooled(values: FloatArray) -> FloatArray:
            everything = values.sum(axis=0, keepdims=True)
            return np.asarray(everything - values if without else everything)

        n, x, y = pooled(self.count), pooled(self.x), pooled(self.y)
        xx, xy = pooled(self.xx), pooled(self.xy)
        if calibration == "identity":
            return np.ones_like(x), np.zeros_like(x)
        if calibration == "origin":
            return _ratio(xy, xx), np.zeros_like(x)
        slope = _ratio(xy - x * y / n, xx - x * x / n)
        return slope, (y - slope * x) / n

    def squared_error(self, slope: FloatArray, intercept: FloatArray) -> FloatArray:
        """Return the sum of squared errors of a line in every group and column, ``[G, d]``."""
        error = (
            self.yy
            - 2 * (slope * self.xy + intercept * self.y)
            + slope**2 * self.xx
            + 2 * slope * intercept * self.x
            + intercept**2 * self.count
        )
        return np.asarray(np.maximum(error, 0.0))


def _ratio(top: FloatArray, bottom: FloatArray) -> FloatArray:
    """Divide; 0 where the column has no spread (up to rounding), so that a line becomes flat."""
    usable = bottom > 1e-12
    return np.where(usable, top / np.where(usable, bottom, 1.0), 0.0)


def _clearly_worse(error: FloatArray, least: FloatArray) -> bool:
    """Whether the first of two errors per group, ``[G]``, is above the second beyond chance."""
    excess = error - least
    if len(excess) < 2:
        return float(excess.sum()) > 0
    standard_error = float(np.sqrt(len(excess)) * excess.std(ddof=1))
    return float(excess.sum()) > TOLERANCE * standard_error


def choose(sums: GroupSums, allowed: tuple[str, ...] = CALIBRATIONS) -> Choice:
    """Choose the column and the calibration with the least squared error on left-out groups.

    The column with the least error is found for each calibration; then the simplest calibration
    wins whose error is within `TOLERANCE` standard errors (over groups) of the best one's.

    Args:
        sums: sums of the groups to choose on; with a single group, the error is in sample.
        allowed: the calibrations to choose from, simplest first.

    Returns:
        The choice, its coefficients fitted on all groups of ``sums``.
    """
    groups = len(sums.count)
    best: list[tuple[str, int, FloatArray]] = []
    for calibration in allowed:
        slope, intercept = sums.line(calibration, without=groups > 1)
        error = sums.squared_error(slope, intercept)
        column = int(error.sum(axis=0).argmin())
        best.append((calibration, column, error[:, column]))
    least = min(best, key=lambda entry: float(entry[2].sum()))
    calibration, column, _ = next(c for c in best if not _clearly_worse(c[2], least[2]))
    slope, intercept = sums.line(calibration, without=False)
    return Choice(column, calibration, float(slope[0, column]), float(intercept[0, column]))


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
        `activeselect.forecast.regressor`.

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
            scale = scale_of(held_out, self.in_unit_interval_)
            self.scores_.append((np.abs(actual[rows] - held_out) / scale).tolist())
        return self

    def predict(self, X: ArrayLike) -> FloatArray:
        """Return the expected test accuracy of every row, ``[n]``."""
        check_is_fitted(self)
        features: FloatArray = validate_data(self, X, reset=False, dtype=np.float64)
        return self._clip(self.slope_ * features[:, self.column_] + self.intercept_)

    def predict_interval(self, X: ArrayLike, level: float = 0.9) -> FloatArray:
        """Return the lower and upper end of a prediction interval per row, ``[n, 2]``.

        The interval is for a checkpoint of a *new run*: see `activeselect.forecast.regressor` for
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
        width = half_width(self.scores_, level)
        half = width * scale_of(centre, self.in_unit_interval_)
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
