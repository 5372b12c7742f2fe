"""The efficiency forest plot: every ratio with its interval, open ends shown as arrows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from activeselect.study.figure_style import (
    BASELINE,
    INK,
    house_style,
    new_figure,
    set_title,
    strategy_styles,
)
from activeselect.study.verdicts import evidence_of, ratio_with_interval

Row = Mapping[str, Any]


@house_style
def efficiency_forest(
    rows: Sequence[Row], *, title: str = "", baseline: str = "random"
) -> Figure | None:
    """Data-efficiency ratios with intervals; an arrow where a value or interval is open.

    Returns:
        The figure, or None when there is nothing to compare.
    """
    rows = [row for row in rows if row["ratio"] is not None]
    if not rows:
        return None
    names = list(dict.fromkeys(row["strategy"] for row in rows))
    styles = strategy_styles([baseline, *names], baseline)
    figure, axes = new_figure(5.2, 1.0 + 0.25 * len(rows) + 0.3 * len(names))
    left, right = _forest_limits(rows)
    axes.set_xscale("log")
    axes.set_xlim(left, right)
    axes.axvline(1, color=BASELINE, linewidth=1)
    height, ticks = 0.0, []
    for name in names:
        own = [row for row in rows if row["strategy"] == name]
        _forest_heading(axes, name, height, styles[name]["color"])
        height -= 0.95
        for row in sorted(own, key=lambda row: (row.get("budget") is not None, row["budget"] or 0)):
            _forest_row(axes, row, height, styles[name]["color"])
            place = "whole curve" if row.get("budget") is None else f"at {row['budget']:,g}"
            ticks.append((height, place))
            height -= 1
        height -= 0.3
    axes.set_ylim(height + 1, 0.7)
    axes.set_yticks([y for y, _ in ticks], [label for _, label in ticks], color=INK)
    axes.spines["left"].set_visible(False)
    _ratio_axis(axes, left, right)
    set_title(axes, title or f"Data efficiency against {baseline}")
    axes.set_xlabel(f"budget {baseline} needs ÷ budget used (log scale)")
    return figure


def _forest_heading(axes: Axes, name: str, y: float, color: str) -> None:
    axes.annotate(
        name,
        (0, y),
        xycoords=("axes fraction", "data"),
        xytext=(-6, 0),
        textcoords="offset points",
        ha="right",
        va="center",
        color=color,
        fontweight="bold",
        annotation_clip=False,
    )


def _forest_limits(rows: Sequence[Row]) -> tuple[float, float]:
    ends = [row[key] for row in rows for key in ("low", "ratio", "high") if row.get(key)]
    return min(0.7, max(min(ends) / 1.15, 0.1)), max(1.5, min(max(ends) * 1.15, 10.0))


def _forest_row(axes: Axes, row: Row, y: float, color: str) -> None:
    left, right = axes.get_xlim()
    whole = row.get("budget") is None
    line: dict[str, Any] = {"color": color, "linewidth": 2.4 if whole else 1.6}
    if row["low"] is not None or row["high"] is not None:
        low = row["low"] if row["low"] is not None else left
        high = row["high"] if row["high"] is not None else right
        axes.plot([max(low, left), min(high, right)], [y, y], **line)
        if row["low"] is None or low < left:
            axes.plot([left], [y], marker="<", markersize=5, color=color, clip_on=False)
        if row["high"] is None or high > right:
            axes.plot([right], [y], marker=">", markersize=5, color=color, clip_on=False)
    censored = row.get("censored")
    marker = {"above": ">", "below": "<"}.get(censored or "", "D" if whole else "o")
    face = "white" if evidence_of(row) == "none" or censored else color
    if not (censored and abs(row["ratio"] - 1) < 0.005):  # a bound of 1 is not a value
        axes.plot(row["ratio"], y, marker, markersize=6.5, color=color, markerfacecolor=face)
    axes.annotate(
        ratio_with_interval(row),
        (1, y),
        xycoords=("axes fraction", "data"),
        xytext=(10, 0),
        textcoords="offset points",
        va="center",
        fontsize=9,
        fontweight="bold" if whole else "normal",
        color=INK,
        annotation_clip=False,
    )


def _ratio_axis(axes: Axes, left: float, right: float) -> None:
    candidates = (0.1, 0.2, 0.33, 0.5, 0.7, 1, 1.4, 2, 3, 4, 6, 8, 10)
    shown = [value for value in candidates if left <= value <= right]
    axes.xaxis.set_major_locator(FixedLocator(shown))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}x"))
    axes.grid(axis="x")
