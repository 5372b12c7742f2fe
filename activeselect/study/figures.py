"""The pictures of a study, each from rows of ``results.json``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator
from scipy import stats

from activeselect.study.figure_style import (
    BASELINE,
    COST_PARTS,
    INK,
    MUTED,
    house_style,
    new_figure,
    set_title,
    spread,
    strategy_styles,
)

Rows = Sequence[Mapping[str, Any]]


def summarise(rows: Rows, level: float = 0.95) -> dict[str, list[dict[str, Any]]]:
    """Mean accuracy per strategy and budget with a t-interval over seeds.

    Args:
        rows: rows of ``results["curves"]`` of one preset.
        level: coverage of the interval.

    Returns:
        Per strategy a list by rising budget of ``budget, mean, half, seeds``; ``half`` (half the
        width of the interval) is NaN with one seed.

    Example:
        >>> rows = [dict(strategy="random", seed=s, budget=10, test_accuracy=a)
        ...         for s, a in enumerate([0.4, 0.6])]
        >>> point = summarise(rows)["random"][0]
        >>> point["mean"], round(point["half"], 2)
        (0.5, 1.27)
    """
    result: dict[str, list[dict[str, Any]]] = {}
    for name in dict.fromkeys(row["strategy"] for row in rows):
        own = [row for row in rows if row["strategy"] == name]
        for budget in sorted({row["budget"] for row in own}):
            values = [row["test_accuracy"] for row in own if row["budget"] == budget]
            half = float("nan")
            if len(values) > 1:
                error = np.std(values, ddof=1) / np.sqrt(len(values))
                half = float(stats.t.ppf((1 + level) / 2, len(values) - 1) * error)
            point = {"budget": budget, "mean": float(np.mean(values)), "half": half}
            result.setdefault(name, []).append(point | {"seeds": len(values)})
    return result


@house_style
def learning_curves(
    rows: Rows, *, title: str = "", baseline: str = "random", level: float = 0.95
) -> Figure:
    """Test accuracy over the budget: mean, interval over seeds, and every seed as a thin line."""
    figure, axes = new_figure()
    summary = summarise(rows, level)
    styles = strategy_styles(summary, baseline)
    shade = 0.13 if len(summary) < 5 else 0.06  # many bands would hide each other
    for name, points in summary.items():
        style = styles[name]
        for seed in sorted({row["seed"] for row in rows if row["strategy"] == name}):
            own = [row for row in rows if row["strategy"] == name and row["seed"] == seed]
            own.sort(key=lambda row: row["budget"])
            axes.plot(
                [row["budget"] for row in own],
                [row["test_accuracy"] for row in own],
                color=style["color"],
                linewidth=0.6,
                alpha=0.3,
            )
        x = np.array([point["budget"] for point in points], dtype=float)
        mean = np.array([point["mean"] for point in points])
        half = np.array([point["half"] for point in points])
        axes.fill_between(
            x, mean - half, mean + half, color=style["color"], alpha=shade, linewidth=0
        )
        axes.plot(x, mean, linewidth=2, markersize=5, markeredgewidth=0, **style)
    set_title(axes, title or "Test accuracy by budget")
    accuracies = [row["test_accuracy"] for row in rows]
    _accuracy_axis(axes, min(accuracies), max(accuracies))
    _label_ends(axes, summary, styles)
    _budget_axis(axes, sorted({row["budget"] for row in rows}))
    return figure


def _accuracy_axis(axes: Axes, low: float, high: float) -> None:
    """Limits from the runs, not from the band, which is wide with few seeds."""
    margin = max(0.08 * (high - low), 0.01)
    axes.set_ylim(low - margin, high + margin)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:.0%}"))
    axes.grid(axis="y")
    axes.spines["left"].set_visible(False)


def _budget_axis(axes: Axes, budgets: Sequence[float]) -> None:
    """A log axis whose ticks are the measured budgets, with room for labels on the right."""
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator(list(budgets)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.0f}"))
    axes.set_xlabel("training examples (log scale)")
    span = max(budgets[-1] / budgets[0], 2.0)
    axes.set_xlim(budgets[0] / span**0.04, budgets[-1] * span**0.3)
    axes.spines["bottom"].set_bounds(budgets[0], budgets[-1])


def _label_ends(
    axes: Axes,
    summary: Mapping[str, list[dict[str, Any]]],
    styles: Mapping[str, Mapping[str, Any]],
) -> None:
    """Names at the ends of the curves instead of a legend, moved apart where they would meet."""
    low, high = axes.get_ylim()
    ends = [points[-1]["mean"] for points in summary.values()]
    heights = spread(ends, 0.062 * (high - low))
    for (name, points), height in zip(summary.items(), heights, strict=True):
        axes.annotate(
            f"{name}  {points[-1]['mean']:.0%}",
            (points[-1]["budget"], height),
            xytext=(8, 0),
            textcoords="offset points",
            va="center",
            color=styles[name]["color"],
            fontweight="bold",
            fontsize=9,
            annotation_clip=False,
        )


@house_style
def cost_bars(rows: Rows, *, title: str = "", baseline: str = "random") -> Figure | None:
    """Seconds per run and what they were spent on, mean over seeds."""
    names = list(dict.fromkeys(row["strategy"] for row in rows))
    if not names:
        return None
    figure, axes = new_figure(5.2, 1.15 + 0.36 * len(names))
    totals = {}
    for y, name in enumerate(names):
        own = [row for row in rows if row["strategy"] == name]
        start = 0.0
        for key, (_, color) in COST_PARTS.items():
            width = float(np.mean([row.get(key) or 0.0 for row in own]))
            axes.barh(y, width, left=start, height=0.62, color=color, linewidth=0)
            start += width
        totals[name] = start
    for y, name in enumerate(names):
        extra = ""
        if name != baseline and totals.get(baseline):
            extra = f"  {totals[name] / totals[baseline]:.2f}x"
        axes.annotate(
            f"{totals[name]:,.3g} s{extra}",
            (totals[name], y),
            color=INK,
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
            fontsize=9,
            annotation_clip=False,
        )
    axes.set_yticks(range(len(names)), names, color=INK)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.28 * max([*totals.values(), 1e-9]))
    axes.spines["left"].set_visible(False)
    axes.grid(axis="x")
    set_title(axes, title or "Cost of a run", pad=24)
    axes.set_xlabel("seconds per seed, all budgets together")
    _colour_key(axes)
    return figure


def _colour_key(axes: Axes) -> None:
    """The parts named in their own colours, above the bars."""
    for i, (label, color) in enumerate(COST_PARTS.values()):
        axes.annotate(
            f"■ {label}",
            (0.245 * i, 1),
            xycoords="axes fraction",
            xytext=(0, 1),
            textcoords="offset points",
            va="bottom",
            fontsize=8.5,
            color=color,
            fontweight="bold",
        )


@house_style
def forecast_scatter(points: Rows, *, title: str = "", baseline: str = "random") -> Figure | None:
    """Forecast against measured test accuracy, with the diagonal of a perfect forecast."""
    points = [p for p in points if p.get("forecast") is not None]
    if not points:
        return None
    figure, axes = new_figure(5.2, 4.2)
    values = [p[key] for p in points for key in ("forecast", "test_accuracy")]
    low, high = min(values), max(values)
    margin = max(0.06 * (high - low), 0.01)
    box = (low - margin, high + margin)
    axes.plot(box, box, color=BASELINE, linewidth=1)
    names = list(dict.fromkeys(p["strategy"] for p in points))
    styles = strategy_styles(names, baseline)
    for i, name in enumerate(names):
        style = {key: value for key, value in styles[name].items() if key != "linestyle"}
        for p in (p for p in points if p["strategy"] == name):
            if p.get("low") is not None and p.get("high") is not None:
                span = [p["low"], p["high"]]
                axes.plot(span, [p["test_accuracy"]] * 2, color=style["color"], lw=0.8, alpha=0.35)
            axes.plot(p["forecast"], p["test_accuracy"], **style, markersize=5.5, markeredgewidth=0)
        axes.text(
            0.03,
            0.96 - 0.065 * i,
            name,
            transform=axes.transAxes,
            color=style["color"],
            fontweight="bold",
            fontsize=9,
            va="top",
        )
    axes.text(
        0.98,
        0.03,
        "on the line: a perfect forecast",
        transform=axes.transAxes,
        ha="right",
        fontsize=8.5,
        color=MUTED,
    )
    axes.set(xlim=box, ylim=box, aspect="equal")
    percent = FuncFormatter(lambda v, _: f"{v:.0%}")
    axes.xaxis.set_major_formatter(percent)
    axes.yaxis.set_major_formatter(percent)
    axes.grid(visible=True)
    axes.set_xlabel("forecast from training examples")
    axes.set_ylabel("measured on the test set")
    set_title(axes, title or "Forecast of test accuracy")
    return figure
