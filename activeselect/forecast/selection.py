"""Choosing a column and a calibration by the squared error on groups that were left out.

Everything follows from five sums per group and column, so a choice among hundreds of columns,
repeated without each group, is a few small array operations.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

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
