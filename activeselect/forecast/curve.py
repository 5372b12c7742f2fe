"""How much the forecast depends on the threshold: held-out R2 as a function of tau."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from activeselect.errors import DataError
from activeselect.forecast.baselines import premem
from activeselect.forecast.evaluate import stack
from activeselect.forecast.features import FLOORS, RATIOS, MaskSetting, feature_matrix
from activeselect.forecast.selection import GroupSums
from activeselect.forecast.traces import RunTrace

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FloatArray = NDArray[np.float64]

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


def draw_tau_curve(curve: TauCurve, title: str) -> Figure:
    """Draw the curve; matplotlib is imported here, not before.

    Args:
        curve: of `tau_curve`.
        title: for instance the dataset's name.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.4), layout="constrained")
    axes = figure.subplots()
    for values, label, style in (
        (curve.forecast, f"threshold max(tau, {curve.ratio:g} x first NLL), shrunk", "-"),
        (curve.paper_identity, "paper's metric as it is", "--"),
        (curve.paper_line, "paper's metric, line", ":"),
    ):
        axes.plot(curve.tau, values, style, label=label, linewidth=2)
    axes.set_xscale("log")
    axes.set_ylim(-0.05, 1.02)
    axes.set_xlabel("tau (nats per token)")
    axes.set_ylabel("R2, every run forecast without it")
    axes.set_title(title)
    axes.grid(alpha=0.3)
    figure.legend(loc="outside lower center", ncols=2, fontsize="small")
    return figure


def save_tau_curve(curve: TauCurve, title: str, path: Path) -> None:
    """Write the drawing to a file; the ending (png, svg, pdf) says which kind.

    Raises:
        DataError: if the ending is none of them.
    """
    if path.suffix.lower() not in (".png", ".svg", ".pdf"):
        raise DataError(f"{path}: expected a name ending in .png, .svg or .pdf; rename it")
    path.parent.mkdir(parents=True, exist_ok=True)
    draw_tau_curve(curve, title).savefig(path, dpi=150)
