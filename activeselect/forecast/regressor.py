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

# --- Prediction intervals
#
# Every run is left out once; its errors, over the scale ``sqrt(p(1-p))`` of a share p, are the
# scores (one per checkpoint). An error is an effect of its run plus what is the checkpoint's own:
# runs miss as a whole. The interval for a checkpoint of a new run is Student's t around the sum of
# both variances, with the degrees of freedom that so few runs leave (Satterthwaite). It holds the
# level *on average over new runs*; one run may be inside or outside throughout. Simulated with 3
# to 10 runs, and run effects from none to all of the error, a 90% interval holds 0.89 to 0.95.
#
# It assumes errors that are roughly normal, and says nothing about runs of another kind (model,
# task, recipe) than those seen.


def scale_of(values: FloatArray, in_unit_interval: bool, least: float = 0.0) -> FloatArray:
    """Return the scale that errors are measured in, per value ``[n]``.

    Args:
        values: forecasts, ``[n]``.
        in_unit_interval: whether they are shares; other quantities have scale 1.
        least: smallest scale of a share.

    Example:
        >>> scale_of(np.array([0.5, 0.1]), in_unit_interval=True).round(2).tolist()
        [0.5, 0.3]
    """
    if not in_unit_interval:
        return np.ones_like(values)
    share = np.clip(values, 0.01, 0.99)
    return np.asarray(np.maximum(np.sqrt(share * (1 - share)), least))


@dataclass(frozen=True)
class Errors:
    """Variances of the errors of runs that were left out, in units of the scale squared.

    Attributes:
        between: of the effect that a run's checkpoints share.
        within: of what is a checkpoint's own.
        freedom: degrees of freedom of their sum.

    Source:
        Satterthwaite, Biometrics Bulletin 2 (1946); the layout is a one-way random effects model.

    Example:
        >>> errors = Errors.of([[0.01, 0.03], [-0.02, 0.0], [0.02, 0.02]])
        >>> errors.between > 0, round(errors.half_width(0.9), 3)
        (True, 0.046)
    """

    between: float
    within: float
    freedom: float

    @classmethod
    def of(cls, scores: Sequence[Sequence[float]]) -> Errors:
        """Estimate them from signed held-out errors over their scale, one sequence per run.

        Raises:
            ValueError: with fewer than two runs.
        """
        runs = len(scores)
        if runs < 2:
            raise ValueError(f"expected scores of at least 2 runs; received {runs}")
        errors = [np.asarray(run, dtype=np.float64) for run in scores]
        sizes = np.array([len(run) for run in errors])
        typical = runs / float(np.sum(1 / sizes))  # checkpoints of a run, harmonic mean
        spare = int(sizes.sum()) - runs
        # a run's mean error counts from 0: an effect of all runs is an error, too
        of_means = float(np.mean([run.mean() ** 2 for run in errors]))
        within = sum(float(((run - run.mean()) ** 2).sum()) for run in errors) / max(spare, 1)
        own = within * (1 - 1 / typical)
        total = of_means + own
        uncertain = of_means**2 / (runs - 1) + (own**2 / spare if spare else 0.0)
        freedom = total**2 / uncertain if uncertain else float(runs - 1)
        return cls(max(of_means - within / typical, 0.0), within, freedom)

    def half_width(self, level: float) -> float:
        """Half width of the interval for a checkpoint of a new run, in units of the scale."""
        return self.quantile(level) * math.sqrt(self.between + self.within)

    def quantile(self, level: float) -> float:
        """Student's t for a two-sided interval."""
        return float(stats.t.ppf((1 + level) / 2, self.freedom))

    def knowing(self, errors: ArrayLike, noise: ArrayLike) -> tuple[float, float]:
        """Effect of a run, some of whose errors are known, and the variance of its next error.

        Args:
            errors: signed, over their scale, ``[m]``.
            noise: variances of the measured accuracies in them, over the scale squared, ``[m]``.
        """
        if self.between == 0:
            return 0.0, self.within
        weight = 1 / (self.within + np.asarray(noise, dtype=np.float64) + 1e-12)
        precision = 1 / self.between + float(weight.sum())
        effect = float((weight * np.asarray(errors, dtype=np.float64)).sum()) / precision
        return effect, 1 / precision + self.within


def drawn_half_width(share: FloatArray, examples: ArrayLike, level: float) -> FloatArray:
    """Half width due to the examples that a share was counted on, ``[n]``; never a point.

    Source: Agresti and Coull, The American Statistician 52 (1998), also for shares of 0 and 1.

    Example:
        >>> drawn_half_width(np.array([1.0, 1.0]), [1, 1000], 0.9).round(3).tolist()
        [0.411, 0.002]
    """
    z = float(stats.norm.ppf((1 + level) / 2))
    count = np.asarray(examples, dtype=np.float64)
    near = (count * share + z**2 / 2) / (count + z**2)
    return np.asarray(z * np.sqrt(near * (1 - near) / (count + z**2)))


def half_width(scores: Sequence[Sequence[float]], level: float) -> float:
    """Return the half width of the interval in units of the scale.

    Args:
        scores: signed held-out errors over their scale, one sequence per run.
        level: share of a new run's checkpoints to hold, in (0, 1).

    Raises:
        ValueError: with fewer than two runs.
    """
    return Errors.of(scores).half_width(level)


# --- Choice of feature and calibration
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
FORMAT_VERSION = 2
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
        scores_: held-out errors (measured minus forecast) over their scale, one list per group.
        least_scale_: smallest scale of an interval; 0.5 makes it as wide everywhere as at 0.5.
        n_groups_: number of groups (runs), or of lots.
        n_features_in_: number of columns.
        feature_names_in_: their names, object ``[n_features_in_]``; only after a fit on a data
            frame. The JSON keeps them.

    Source:
        Intervals: a one-way random effects model of the errors of groups that were left out; see
        `Errors`.

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
            self.scores_.append(((actual[rows] - held_out) / scale).tolist())
        self.least_scale_ = 0.0
        return self

    def predict(self, X: ArrayLike) -> FloatArray:
        """Return the expected test accuracy of every row, ``[n]``."""
        check_is_fitted(self)
        features: FloatArray = validate_data(self, X, reset=False, dtype=np.float64)
        return self._clip(self.slope_ * features[:, self.column_] + self.intercept_)

    def predict_interval(
        self, X: ArrayLike, level: float = 0.9, examples: ArrayLike | None = None
    ) -> FloatArray:
        """Return the lower and upper end of a prediction interval per row, ``[n, 2]``.

        The interval is for a checkpoint of a *new run*: see `activeselect.forecast.regressor` for
        what it promises with few runs.

        Args:
            X: features, ``[n, d]``.
            level: share of new runs' checkpoints that the interval should hold, in (0, 1).
            examples: train examples behind each row, ``[n]``: few of them say little about others,
                whatever the model. Default: so many that this does not count.

        Raises:
            ValueError: if ``level`` is not in (0, 1).
        """
        check_is_fitted(self)
        if not 0 < level < 1:
            raise ValueError(f"level must lie in (0, 1); received {level}")
        centre = self.predict(X)
        half = half_width(self.scores_, level) * self.scale(centre)
        if examples is not None and self.in_unit_interval_:
            half = np.hypot(half, drawn_half_width(centre, examples, level))
        return np.column_stack([self._clip(centre - half), self._clip(centre + half)])

    def scale(self, centre: FloatArray) -> FloatArray:
        """The scale of errors at forecasts ``[n]``."""
        return scale_of(centre, self.in_unit_interval_, self.least_scale_)

    def to_json(self, provenance: dict[str, Any] | None = None) -> str:
        """Return the fitted model as JSON text: coefficients only, nothing executable.

        Args:
            provenance: facts worth keeping (data, date, versions), stored unchanged.
        """
        check_is_fitted(self)
        state = {name: getattr(self, name) for name in _STATE}
        body = {"format": FORMAT, "version": FORMAT_VERSION, "calibration": self.calibration}
        if hasattr(self, "feature_names_in_"):  # it was fitted on a data frame
            state["feature_names_in_"] = self.feature_names_in_.tolist()
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
        names = body.get("feature_names_in_")
        if names is not None and not _are_names(names, body["n_features_in_"]):
            broken.append("feature_names_in_")
        if broken:
            raise DataError(f"{source}: the model's {broken[0]} is damaged; fit it again")
        model = cls(calibration=body["calibration"])
        for name in _STATE:
            setattr(model, name, body[name])
        if names is not None:
            model.feature_names_in_ = np.array(names, dtype=object)
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


def _are_names(names: Any, count: Any) -> bool:
    """Whether these are names of so many columns."""
    if not isinstance(names, list) or len(names) != count:
        return False
    return all(isinstance(name, str) for name in names)


_STATE = (
    "column_",
    "calibration_",
    "slope_",
    "intercept_",
    "group_columns_",
    "in_unit_interval_",
    "scores_",
    "least_scale_",
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
    "least_scale_": lambda body: _finite(body["least_scale_"]),
    "n_groups_": lambda body: body["n_groups_"] == len(body["scores_"]),
}
