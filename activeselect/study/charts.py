"""The charts of runs and studies, each from rows of ``results.json`` and each written once.

A chart is an Altair (Vega-Lite) chart. The same chart is drawn in a report, in a notebook and in
a file for a paper (:mod:`activeselect.study.theme`); what can be chosen in it (the axis of cost,
the strategy) is a parameter of the chart itself. Colours become dark ones in the page's style
sheet, so no chart is written twice.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import altair as alt

from activeselect.config import AXES
from activeselect.study.tables import GroupTable, summarise
from activeselect.study.theme import (
    BASELINE,
    COST_PARTS,
    CYCLE,
    INK,
    MUTED,
    AnyChart,
    spread,
    strategy_styles,
    themed,
)
from activeselect.study.verdicts import AXIS_WORDS, evidence_of, ratio_with_interval

if TYPE_CHECKING:
    from activeselect.forecast.evaluate import TauCurve

Rows = Sequence[Mapping[str, Any]]
WIDTH = 460  # of a file; a page gives a chart the width that it has
_RATIO_TICKS = (0.1, 0.2, 0.33, 0.5, 0.7, 1, 1.4, 2, 3, 4, 6, 8, 10)


def learning_curves(
    rows: Rows, *, title: str = "", baseline: str = "random", level: float = 0.95
) -> AnyChart | None:
    """Test accuracy over the budget: mean, interval over seeds, and every seed as a thin line.

    The reader chooses what the budget is counted in, of the axes of cost that all runs recorded,
    and picks strategies by a click on their names.

    Args:
        rows: rows of ``results["curves"]`` of one dataset.
        title: shown above the chart.
        baseline: the strategy drawn in grey.
        level: coverage of the interval, a Student t interval over seeds.

    Returns:
        The chart, or None without rows.
    """
    if not rows:
        return None
    summary = summarise(rows, level)
    styles = strategy_styles(summary, baseline)
    costs = [name for name in AXES if all(name in (row.get("costs") or {}) for row in rows)]
    costs = costs or ["unique_examples"]
    cost = _choice("cost", "Budget counted in", costs, [AXIS_WORDS[name][2] for name in costs])
    picked = _picked()
    accuracies = [row["test_accuracy"] for row in rows]
    margin = max(0.08 * (max(accuracies) - min(accuracies)), 0.01)
    low, high = min(accuracies) - margin, max(accuracies) + margin
    ticks = sorted({row["budget"] for row in rows})
    x = (
        alt.X("x:Q")
        .scale(type="log", nice=False, padding=10)
        .axis(
            title=None,
            grid=False,
            labelFlush=False,
            values=alt.ExprRef(f"cost == 'unique_examples' ? {json.dumps(ticks)} : null"),
            labelExpr="format(datum.value, datum.value < 10000 ? ',' : '~s')",
        )
    )
    # Limits come from the runs, not from the band, which is wide with few seeds.
    y_scale = alt.Scale(domain=[low, high], nice=False)
    y_axis = alt.Axis(title=None, format=".0%", domain=False, ticks=False, tickCount=8)
    y = alt.Y("accuracy:Q", scale=y_scale, axis=y_axis)
    color = _strategy_color(styles)
    means = alt.Chart(_named("means")).transform_calculate(x="datum[cost]")
    single = alt.Chart(_named("runs")).transform_calculate(x="datum[cost]")
    shade = 0.13 if len(summary) < 5 else 0.06  # many bands would hide each other
    band = means.mark_area(clip=True).encode(
        x,
        y=alt.Y("low:Q", scale=y_scale, axis=y_axis),
        y2="high:Q",
        color=color,
        opacity=_faded(picked, shade),
    )
    thin = single.mark_line(strokeWidth=1).encode(
        x,
        y,
        color=color,
        detail="seed:N",
        opacity=_faded(picked, 0.28),
        tooltip=[alt.Tooltip("strategy:N"), alt.Tooltip("seed:Q")],
    )
    thick = means.mark_line(strokeWidth=2.5).encode(
        x,
        y,
        color=color,
        opacity=_faded(picked, 1),
        strokeDash=_scaled(alt.StrokeDash("strategy:N"), styles, "dash"),
    )
    points = means.mark_point(filled=True, size=70).encode(
        x,
        y,
        color=color,
        opacity=_faded(picked, 1),
        shape=_scaled(alt.Shape("strategy:N"), styles, "shape"),
        tooltip=[
            alt.Tooltip("strategy:N"),
            alt.Tooltip("budget:Q", title="examples", format=","),
            alt.Tooltip("accuracy:Q", format=".1%"),
            alt.Tooltip("half:Q", title=f"± ({level:.0%})", format=".1%"),
            alt.Tooltip("seeds:Q"),
        ],
    )
    # Names stand at the ends of the curves instead of in a legend, apart where they would meet.
    ends = [own[-1]["mean"] for own in summary.values()]
    heights = spread(ends, 0.058 * (high - low))
    names = [
        {"strategy": name, "text": f"{name}  {end:.0%}", "accuracy": height}
        for name, end, height in zip(summary, ends, heights, strict=True)
    ]
    labels = (
        alt.Chart(_named("names"), name="names")
        .mark_text(align="left", fontWeight="bold", fontSize=12, cursor="pointer")
        .encode(
            x=alt.value(alt.ExprRef("width + 8")),
            y=y,
            text="text:N",
            color=color,
            opacity=_faded(picked, 1),
        )
        .add_params(picked)
    )
    titles = {name: f"{AXIS_WORDS[name][2]} (log scale)" for name in costs}
    layers = [band, thin, thick, points, labels, _axis_title(f"({json.dumps(titles)})[cost]")]
    chart = alt.layer(*layers).add_params(cost)
    chart = chart.properties(width=WIDTH - 60, height=330)
    data: dict[str, Any] = {
        "means": _mean_points(rows, summary, costs),
        "runs": _seed_points(rows, costs),
        "names": names,
        "one": [{}],
    }
    return themed(chart, data, title)


def _mean_points(
    rows: Rows, summary: Mapping[str, Rows], costs: Sequence[str]
) -> list[dict[str, Any]]:
    found = []
    for name, points in summary.items():
        for point in points:
            own = [r for r in rows if r["strategy"] == name and r["budget"] == point["budget"]]
            half = None if math.isnan(point["half"]) else point["half"]
            spent = {cost: _geometric_mean([_spent(row, cost) for row in own]) for cost in costs}
            found.append(
                {
                    "strategy": name,
                    "budget": point["budget"],
                    "accuracy": _rounded(point["mean"]),
                    "half": None if half is None else _rounded(half),
                    "low": _rounded(point["mean"] - (half or 0.0)),
                    "high": _rounded(point["mean"] + (half or 0.0)),
                    "seeds": point["seeds"],
                    **spent,
                }
            )
    return found


def _seed_points(rows: Rows, costs: Sequence[str]) -> list[dict[str, Any]]:
    return [
        {
            "strategy": row["strategy"],
            "seed": row["seed"],
            "accuracy": _rounded(row["test_accuracy"]),
            **{cost: _rounded(_spent(row, cost)) for cost in costs},
        }
        for row in rows
    ]


def _spent(row: Mapping[str, Any], cost: str) -> float:
    return float((row.get("costs") or {}).get(cost, row["budget"]))


def _geometric_mean(values: Sequence[float]) -> float:
    """The middle on a log axis; 0 where something cost nothing, which a log axis leaves out."""
    if min(values) <= 0:
        return 0.0
    return float(_rounded(math.exp(sum(math.log(value) for value in values) / len(values))))


def efficiency_forest(rows: Rows, *, title: str = "", baseline: str = "random") -> AnyChart | None:
    """Data-efficiency ratios with intervals; an arrow where a value or an interval is open.

    Args:
        rows: rows of ``results["efficiency"]`` of one dataset.
        title: shown above the chart.
        baseline: the strategy that the others are compared with.

    Returns:
        The chart, or None when there is nothing to compare.
    """
    rows = [row for row in rows if row["ratio"] is not None]
    if not rows:
        return None
    names = list(dict.fromkeys(row["strategy"] for row in rows))
    styles = strategy_styles([baseline, *names], baseline)
    color = _strategy_color(styles)
    ends = [row[key] for row in rows for key in ("low", "ratio", "high") if row.get(key)]
    left = min(0.7, max(min(ends) / 1.15, 0.1))
    right = max(1.5, min(max(ends) * 1.15, 10.0))
    heads, lines, arrows, height = [], [], [], 0.0
    for name in names:
        height -= 0.7
        heads.append({"strategy": name, "y": height})
        own = [row for row in rows if row["strategy"] == name]
        for row in sorted(own, key=lambda row: (row.get("budget") is not None, row["budget"] or 0)):
            height -= 1
            lines.append(_forest_line(row, height, left, right))
            arrows += _forest_arrows(row, height, left, right)
        height -= 0.3
    y = alt.Y("y:Q").scale(domain=[height - 0.4, 0], nice=False).axis(None)
    x_scale = alt.Scale(type="log", domain=[left, right], nice=False, clamp=True)
    x_axis = alt.Axis(
        title=f"budget {baseline} needs ÷ budget used (log scale)",
        values=[tick for tick in _RATIO_TICKS if left <= tick <= right],
        labelExpr="datum.value + 'x'",
        domain=False,
    )
    base = alt.Chart(_named("lines"))
    hover = alt.Tooltip("verdict:N")
    spans = base.mark_rule(strokeCap="round").encode(
        x=alt.X("low:Q", scale=x_scale, axis=x_axis),
        x2="high:Q",
        y=y,
        color=color,
        strokeWidth=alt.StrokeWidth("thickness:Q", scale=None),
        tooltip=hover,
    )
    marks = base.transform_filter("datum.shape != null").encode(
        x=alt.X("ratio:Q", scale=x_scale, axis=x_axis),
        y=y,
        color=color,
        shape=alt.Shape("shape:N", scale=None),
        tooltip=hover,
    )
    closed = marks.transform_filter("datum.filled").mark_point(filled=True, size=110, opacity=1)
    hollow = marks.transform_filter("!datum.filled").mark_point(
        size=90, strokeWidth=2, opacity=1, fill="#ffffff"
    )
    open_ends = (
        alt.Chart(_named("arrows"))
        .mark_point(filled=True, size=70, opacity=1)
        .encode(
            x=alt.X("x:Q", scale=x_scale, axis=x_axis),
            y=y,
            color=color,
            shape=alt.Shape("shape:N", scale=None),
            tooltip=hover,
        )
    )
    one = (
        alt.Chart(_named("equal"))
        .mark_rule(color=BASELINE, strokeWidth=1.5)
        .encode(x=alt.X("x:Q", scale=x_scale, axis=x_axis))
    )
    texts = base.mark_text(fontSize=12, color=INK).encode(y=y, tooltip=hover)
    place = texts.mark_text(fontSize=12, color=MUTED, align="right").encode(
        x=alt.value(-8), text="place:N"
    )
    values = [
        texts.transform_filter(f"datum.whole == {str(whole).lower()}")
        .mark_text(fontSize=12, color=INK, align="left", fontWeight=weight)
        .encode(x=alt.value(alt.ExprRef("width + 12")), text="value:N")
        for whole, weight in ((True, "bold"), (False, "normal"))
    ]
    headings = (
        alt.Chart(_named("heads"))
        .mark_text(align="right", fontWeight="bold", fontSize=12.5)
        .encode(x=alt.value(-8), y=y, text="strategy:N", color=color)
    )
    layers = [one, spans, open_ends, closed, hollow, place, *values, headings]
    chart = alt.layer(*layers).properties(width=WIDTH - 220, height=round(24 * -height))
    data = {"lines": lines, "arrows": arrows, "heads": heads, "equal": [{"x": 1}]}
    return themed(chart, data, title)


def _forest_line(row: Mapping[str, Any], y: float, left: float, right: float) -> dict[str, Any]:
    low, high = row.get("low"), row.get("high")
    known = low is not None or high is not None
    whole, censored = row.get("budget") is None, row.get("censored")
    shape = {"above": "triangle-right", "below": "triangle-left"}.get(
        censored or "", "diamond" if whole else "circle"
    )
    bound_of_1 = bool(censored) and abs(row["ratio"] - 1) < 0.005  # it is not a value
    return {
        "strategy": row["strategy"],
        "place": "whole curve" if whole else f"at {row['budget']:,g}",
        "y": y,
        "low": min(max(low or left, left), right) if known else row["ratio"],
        "high": max(min(high or right, right), left) if known else row["ratio"],
        "ratio": min(max(row["ratio"], left), right),
        "shape": None if bound_of_1 else shape,
        "filled": not (evidence_of(row) == "none" or censored),
        "whole": whole,
        "thickness": 4 if whole else 2,
        "value": ratio_with_interval(row),
        "verdict": row.get("verdict") or ratio_with_interval(row),
    }


def _forest_arrows(
    row: Mapping[str, Any], y: float, left: float, right: float
) -> list[dict[str, Any]]:
    low, high = row.get("low"), row.get("high")
    if low is None and high is None:
        return []
    shared = {"strategy": row["strategy"], "y": y, "verdict": row.get("verdict") or ""}
    found = []
    if low is None or low < left:
        found.append(shared | {"x": left, "shape": "triangle-left"})
    if high is None or high > right:
        found.append(shared | {"x": right, "shape": "triangle-right"})
    return found


def cost_bars(rows: Rows, *, title: str = "", baseline: str = "random") -> AnyChart | None:
    """What a run costs and what that was spent on, in seconds or in tokens, mean over seeds.

    Args:
        rows: rows of ``results["cost"]`` of one dataset.
        title: shown above the chart.
        baseline: totals are also shown as multiples of this strategy's.

    Returns:
        The chart, or None without rows.
    """
    names = list(dict.fromkeys(row["strategy"] for row in rows))
    if not names:
        return None
    units = [unit for unit in COST_PARTS if any(k in row for row in rows for k in COST_PARTS[unit])]
    bars, totals, parts = [], [], {}
    for unit in units:
        parts[unit] = [label for label, _ in COST_PARTS[unit].values()]
        total = dict.fromkeys(names, 0.0)
        for order, (key, (label, _)) in enumerate(COST_PARTS[unit].items()):
            for name in names:
                values = [row.get(key) or 0.0 for row in rows if row["strategy"] == name]
                value = _rounded(sum(values) / len(values))
                total[name] += value
                bar = {"strategy": name, "place": names.index(name), "unit": unit}
                bars.append(bar | {"part": label, "order": order, "value": value})
        for place, (name, value) in enumerate(total.items()):
            times = value / total[baseline] if name != baseline and total.get(baseline) else None
            row = {"strategy": name, "place": place, "unit": unit}
            totals.append(row | {"value": value, "times": times})
    chosen = _choice("unit", "Cost in", units, units)
    pairs = [pair for unit_name in units for pair in COST_PARTS[unit_name].values()]
    x = (
        alt.X("value:Q")
        .stack("zero")
        .axis(title=None, format="~s", domain=False, tickCount=5)
        .scale(nice=False)
    )
    y = (
        alt.Y("strategy:N")
        .sort(field="place", op="min")  # names in an expression could break it
        .axis(title=None, domain=False, ticks=False, labelColor=INK, labelFontSize=12.5)
    )
    rectangles = (
        alt.Chart(_named("bars"))
        .transform_filter("datum.unit == unit")
        .mark_bar(height={"band": 0.64})
        .encode(
            x,
            y,
            color=alt.Color("part:N")
            .scale(domain=[label for label, _ in pairs], range=[shade for _, shade in pairs])
            .legend(
                values=alt.ExprRef(f"({json.dumps(parts)})[unit]"), symbolType="square", columns=2
            ),
            order="order:O",
            tooltip=[
                alt.Tooltip("strategy:N"),
                alt.Tooltip("part:N", title="spent on"),
                alt.Tooltip("value:Q", title="mean", format=",.4~s"),
                alt.Tooltip("unit:N"),
            ],
        )
    )
    words = (
        alt.Chart(_named("totals"))
        .transform_filter("datum.unit == unit")
        .transform_calculate(
            text="format(datum.value, '.3s') + (unit == 'seconds' ? ' s' : '')"
            " + (datum.times == null ? '' : '  ' + format(datum.times, '.2f') + 'x')"
        )
        .mark_text(align="left", dx=6, fontSize=12, color=INK)
        .encode(alt.X("value:Q"), y, text="text:N")
    )
    axis_title = _axis_title("unit + ' per seed, all budgets together'")
    chart = alt.layer(rectangles, words, axis_title).add_params(chosen)
    chart = chart.properties(width=WIDTH - 180, height=20 + 32 * len(names))
    return themed(chart, {"bars": bars, "totals": totals, "one": [{}]}, title)


def forecast_scatter(points: Rows, *, title: str = "", baseline: str = "random") -> AnyChart | None:
    """Forecast against measured test accuracy, with the diagonal of a perfect forecast.

    Args:
        points: ``results["forecast"]["points"]`` of one dataset.
        title: shown above the chart.
        baseline: the strategy drawn in grey.

    Returns:
        The chart, or None where nothing was forecast.
    """
    points = [point for point in points if point.get("forecast") is not None]
    if not points:
        return None
    names = list(dict.fromkeys(point["strategy"] for point in points))
    styles = strategy_styles(names, baseline)
    picked = _picked()
    values = [point[key] for point in points for key in ("forecast", "test_accuracy")]
    margin = max(0.06 * (max(values) - min(values)), 0.01)
    box = [min(values) - margin, max(values) + margin]
    scale = alt.Scale(domain=box, nice=False)
    x_axis = alt.Axis(title="forecast from training examples", format=".0%", tickCount=6)
    y_axis = alt.Axis(title="measured on the test set", format=".0%", tickCount=6)
    x = alt.X("forecast:Q", scale=scale, axis=x_axis)
    y = alt.Y("test_accuracy:Q", scale=scale, axis=y_axis)
    keys = ("strategy", "seed", "budget", "forecast", "low", "high", "test_accuracy")
    base = alt.Chart(_named("points"))
    color = _strategy_color(styles)
    diagonal = (
        alt.Chart(_named("diagonal"))
        .mark_line(color=BASELINE, strokeWidth=1.5, opacity=1)
        .encode(x, y)
    )
    spans = (
        base.transform_filter("datum.low != null && datum.high != null")
        .mark_rule(clip=True)
        .encode(
            alt.X("low:Q", scale=scale, axis=x_axis),
            y,
            x2="high:Q",
            color=color,
            opacity=_faded(picked, 0.35),
        )
    )
    dots = base.mark_point(filled=True, size=60).encode(
        x,
        y,
        color=color,
        opacity=_faded(picked, 1),
        shape=_scaled(alt.Shape("strategy:N"), styles, "shape"),
        tooltip=[
            alt.Tooltip("strategy:N"),
            alt.Tooltip("seed:Q"),
            alt.Tooltip("budget:Q", title="examples", format=","),
            alt.Tooltip("forecast:Q", format=".1%"),
            alt.Tooltip("test_accuracy:Q", title="measured", format=".1%"),
        ],
    )
    step = 0.053 * (box[1] - box[0])
    words = [
        {"strategy": name, "test_accuracy": box[1] - step * (i + 0.7)}
        for i, name in enumerate(names)
    ]
    labels = (
        alt.Chart(_named("names"), name="names")
        .mark_text(align="left", fontWeight="bold", fontSize=12, cursor="pointer")
        .encode(
            x=alt.value(10),
            y=y,
            text="strategy:N",
            color=color,
            opacity=_faded(picked, 1),
        )
        .add_params(picked)
    )
    chart = alt.layer(diagonal, spans, dots, labels)
    data = {
        "points": [{key: _rounded(point.get(key)) for key in keys} for point in points],
        "diagonal": [{"forecast": end, "test_accuracy": end} for end in box],
        "names": words,
    }
    return themed(chart.properties(width=WIDTH - 80, height=340), data, title)


def chosen_map(
    table: GroupTable | None, *, title: str = "", baseline: str = "random"
) -> AnyChart | None:
    """Which groups the new examples of each budget belong to; the reader chooses the strategy.

    Args:
        table: of :func:`activeselect.study.tables.chosen_table`.
        title: shown above the chart.
        baseline: the strategy that comes last in the choice.

    Returns:
        The chart, or None without a table.
    """
    if table is None:
        return None
    columns = sorted(table["columns"], key=lambda column: column["strategy"] == baseline)
    top = max(share for column in columns for share in column["shares"])
    views = [(column["strategy"], column) for column in columns]
    words = ("share of the new examples", "new examples")
    return _heat(
        table["groups"],
        views,
        label="Strategy",
        axis="train-set size",
        color=CYCLE[0],
        top=top,
        words=words,
        title=title,
    )


def understood_map(tables: Mapping[str, GroupTable | None], *, title: str = "") -> AnyChart | None:
    """What the model's own samples got right, by group and round; the reader chooses which.

    Args:
        tables: of :func:`activeselect.study.tables.understood_table`, by the words of the measure.
        title: shown above the chart.

    Returns:
        The chart, or None where nothing was measured.
    """
    found = {words: table for words, table in tables.items() if table is not None}
    views = [
        (f"{column['strategy']}: {words}", column)
        for words, table in found.items()
        for column in table["columns"]
    ]
    if not views:
        return None
    groups = next(iter(found.values()))["groups"]
    return _heat(
        groups,
        views,
        label="Strategy and measure",
        axis="",
        color=CYCLE[2],
        top=1.0,
        words=("mean", "examples scored"),
        title=title,
    )


def _heat(
    groups: Sequence[str],
    views: Sequence[tuple[str, Mapping[str, Any]]],
    *,
    label: str,
    axis: str,
    color: str,
    top: float,
    words: tuple[str, str],
    title: str,
) -> AnyChart:
    """Groups by columns, one view at a time; the opacity of one colour says how much."""
    names = list(dict.fromkeys(name for name, _ in views))
    cells = []
    for name in names:
        own = [column for view, column in views if view == name]
        for order, column in enumerate(own):
            shown = zip(groups, column["shares"], column["counts"], strict=True)
            for row, (group, share, count) in enumerate(shown):
                cell = {"view": name, "column": column["head"], "order": order, "row": row}
                cell |= {"group": group or "all", "share": _rounded(share)}
                cells.append(cell | {"count": _rounded(count), "columns": len(own)})
    view = _choice("view", label, names, names)
    base = alt.Chart(_named("cells")).transform_filter("datum.view == view")
    x = (
        alt.X("column:N")
        .sort(field="order", op="min")
        .axis(
            title=axis or None,
            orient="bottom",
            labelAngle=0,
            domain=False,
            ticks=False,
            labelExpr="split(datum.label, ', ')",
        )
        .scale(paddingInner=0.03)
    )
    y = (
        alt.Y("group:N")
        .sort(field="row", op="min")
        .axis(title=None, domain=False, ticks=False, labelColor=INK)
        .scale(paddingInner=0.06)
    )
    boxes = (
        base.transform_filter("datum.share != null")
        .mark_rect(color=color)
        .encode(
            x,
            y,
            opacity=alt.Opacity("share:Q")
            .scale(domain=[0, max(top, 1e-9)], range=[0, 0.55])
            .legend(None),
            tooltip=[
                alt.Tooltip("group:N"),
                alt.Tooltip("column:N", title=axis or "after"),
                alt.Tooltip("share:Q", title=words[0], format=".1%"),
                alt.Tooltip("count:Q", title=words[1], format=",.0f"),
            ],
        )
    )
    numbers = (
        base.transform_filter("datum.share != null && datum.columns <= 8")
        .mark_text(color=INK, fontSize=12)
        .encode(x, y, text=alt.Text("share:Q", format=".0%"))
    )
    chart = alt.layer(boxes, numbers).add_params(view)
    chart = chart.properties(width=WIDTH - 90, height=24 * len(groups))
    return themed(chart, {"cells": cells}, title)


def tau_curve(curve: TauCurve, *, title: str = "") -> AnyChart:
    """How much the forecast depends on the threshold tau: held-out R2 of three forecasts.

    Args:
        curve: of :func:`activeselect.forecast.evaluate.tau_curve`.
        title: for instance the dataset's name.
    """
    lines = {
        f"threshold max(tau, {curve.ratio:g} x first NLL), shrunk": curve.forecast,
        "paper's metric as it is": curve.paper_identity,
        "paper's metric, line": curve.paper_line,
    }
    rows = [
        {"forecast": name, "tau": tau, "r2": _rounded(value)}
        for name, values in lines.items()
        for tau, value in zip(curve.tau, values, strict=True)
    ]
    chart = (
        alt.Chart(_named("forecasts"))
        .mark_line(strokeWidth=2.5, clip=True)
        .encode(
            x=alt.X("tau:Q")
            .scale(type="log", nice=False)
            .axis(title="tau (nats per token, log scale)", grid=False, format="~g"),
            y=alt.Y("r2:Q")
            .scale(domain=[-0.05, 1.02], nice=False)
            .axis(title="R², every run forecast without it", domain=False, ticks=False),
            color=alt.Color("forecast:N")
            .scale(domain=list(lines), range=list(CYCLE[: len(lines)]))
            .legend(columns=1, orient="bottom", labelLimit=0, symbolType="stroke"),
            strokeDash=alt.StrokeDash("forecast:N")
            .scale(domain=list(lines), range=[[1, 0], [6, 4], [2, 3]])
            .legend(None),
            tooltip=[
                alt.Tooltip("forecast:N"),
                alt.Tooltip("tau:Q", format=".3~g"),
                alt.Tooltip("r2:Q", title="R²", format=".3f"),
            ],
        )
        .properties(width=WIDTH, height=300)
    )
    return themed(chart, {"forecasts": rows}, title)


def _named(name: str) -> alt.NamedData:
    """Data by name. The rows are added last, because Altair copies a chart at each step."""
    return alt.NamedData(name=name)


def _choice(name: str, label: str, values: Sequence[str], labels: Sequence[str]) -> alt.Parameter:
    """A parameter that the reader sets, where there is something to choose between."""
    if len(values) < 2:
        return alt.param(name=name, value=values[0])
    menu = alt.binding_select(options=list(values), labels=list(labels), name=f"{label} ")
    return alt.param(name=name, value=values[0], bind=menu)


def _picked() -> alt.Parameter:
    """The strategies that the reader clicked; all while none is."""
    return alt.selection_point(
        name="picked", fields=["strategy"], on="click", toggle="true", clear="dblclick"
    )


def _faded(picked: alt.Parameter, opacity: float) -> Any:
    return alt.when(picked).then(alt.value(opacity)).otherwise(alt.value(opacity * 0.08))


def _strategy_color(styles: Mapping[str, Mapping[str, Any]]) -> Any:
    return _scaled(alt.Color("strategy:N"), styles, "color")


def _scaled(channel: Any, styles: Mapping[str, Mapping[str, Any]], key: str) -> Any:
    """A channel of the strategy, looked up in the styles."""
    domain, values = list(styles), [style[key] for style in styles.values()]
    return channel.scale(domain=domain, range=values).legend(None)


def _axis_title(expression: str) -> Any:
    """The title of an x axis that depends on what the reader chose; an axis cannot say that."""
    return (
        alt.Chart(_named("one"))
        .mark_text(color=MUTED, fontSize=12.5, baseline="top")
        .encode(
            x=alt.value(alt.ExprRef("width / 2")),
            y=alt.value(alt.ExprRef("height + 28")),
            text=alt.value(alt.ExprRef(expression)),
        )
    )


def _rounded(value: Any) -> Any:
    """A number as a picture needs it, in five digits; anything else as it is.

    Example:
        >>> _rounded(0.123456789), _rounded(1200), _rounded("random"), _rounded(None)
        (0.12346, 1200, 'random', None)
    """
    return float(f"{value:.5g}") if isinstance(value, float) else value
