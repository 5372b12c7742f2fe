"""The charts of the report as plotly figures: plain dicts, drawn by the page itself.

A colour is written ``$xRRGGBB`` (``$xRRGGBB@0.2`` with an opacity) and looked up in the page's
theme, so that light and dark share one figure. A chart has one or more views; each is a whole
figure, and the page offers to switch between them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from activeselect.study.figure_style import (
    BASELINE,
    COST_PARTS,
    CYCLE,
    INK,
    MUTED,
    RULE,
    strategy_styles,
)
from activeselect.study.figures import summarise
from activeselect.study.verdicts import AXES, evidence_of, ratio_with_interval

Rows = Sequence[Mapping[str, Any]]
Chart = dict[str, Any]
_SYMBOLS = {
    "o": "circle",
    "s": "square",
    "^": "triangle-up",
    "D": "diamond",
    "v": "triangle-down",
    "P": "cross",
    "X": "x",
    "h": "hexagon",
    "*": "star",
}


def ink(color: str, opacity: float | None = None) -> str:
    """A house colour for the page to look up.

    Example:
        >>> ink("#0072b2"), ink("#0072b2", 0.2)
        ('$x0072b2', '$x0072b2@0.2')
    """
    return f"$x{color[1:]}" + ("" if opacity is None else f"@{opacity:g}")


def plain(text: Any) -> str:
    """Text that plotly shows as it is; it would read tags and entities otherwise."""
    return escape(str(text), quote=False)


def axis(title: str = "", **more: Any) -> dict[str, Any]:
    return {
        "title": {"text": title, "font": {"size": 12.5, "color": ink(MUTED)}, "standoff": 8},
        "gridcolor": ink(RULE),
        "linecolor": ink(RULE),
        "zeroline": False,
        "tickfont": {"color": ink(MUTED), "size": 12},
        "automargin": True,
        **more,
    }


def layout(height: int, **more: Any) -> dict[str, Any]:
    return {
        "height": height,
        "margin": {"l": 46, "r": 12, "t": 12, "b": 44},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"color": ink(INK), "size": 13, "family": "system-ui, sans-serif"},
        "hoverlabel": {"font": {"size": 13}, "align": "left"},
        "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0, "xanchor": "left"},
        "hovermode": "closest",
        "dragmode": False,
        **more,
    }


def learning_curves(rows: Rows, *, baseline: str) -> Chart | None:
    """Mean, band and single seeds; one view per axis on which all runs have a bill."""
    if not rows:
        return None
    axes = [name for name in AXES if all(name in (row.get("bill") or {}) for row in rows)]
    views = [_curves_view(rows, baseline, name) for name in axes or ["unique_examples"]]
    return {"label": "Budget counted in", "views": views}


def _curves_view(rows: Rows, baseline: str, name: str) -> Chart:
    summary = summarise(rows)
    styles = strategy_styles(summary, baseline)
    traces: list[dict[str, Any]] = []
    for strategy, points in summary.items():
        own = [row for row in rows if row["strategy"] == strategy]
        x = [_mean_spent(own, point["budget"], name) for point in points]
        traces += _strategy_traces(plain(strategy), styles[strategy], points, x)
        traces += _seed_traces(plain(strategy), styles[strategy], own, name)
    ticks = sorted({row["budget"] for row in rows})
    own_ticks = {"tickvals": ticks, "ticktext": [f"{tick:,g}" for tick in ticks]}
    x_axis = axis(
        f"{AXES[name][2]} (log scale)",
        type="log",
        showgrid=False,
        **(own_ticks if name == "unique_examples" else {"nticks": 6, "exponentformat": "SI"}),
    )
    heights = [row["test_accuracy"] for row in rows]
    room = max(0.05 * (max(heights) - min(heights)), 0.01)
    y_axis = axis(tickformat=".0%", range=[min(heights) - room, max(heights) + room])
    return {
        "name": AXES[name][2],
        "traces": traces,
        "layout": layout(390, xaxis=x_axis, yaxis=y_axis),
    }


def _spent(row: Mapping[str, Any], name: str) -> float:
    return float((row.get("bill") or {}).get(name, row["budget"]))


def _mean_spent(rows: Rows, budget: float, name: str) -> float:
    values = [_spent(row, name) for row in rows if row["budget"] == budget]
    return math.exp(sum(math.log(value) for value in values) / len(values))


def _strategy_traces(
    label: str, style: Mapping[str, Any], points: Rows, x: list[float]
) -> list[dict[str, Any]]:
    mean = [point["mean"] for point in points]
    half = [0.0 if math.isnan(point["half"]) else point["half"] for point in points]
    band = {
        "x": x + x[::-1],
        "y": [m + h for m, h in zip(mean, half, strict=True)]
        + [m - h for m, h in zip(mean[::-1], half[::-1], strict=True)],
        "fill": "toself",
        "fillcolor": ink(style["color"], 0.12),
        "mode": "lines",
        "line": {"width": 0},
        "hoverinfo": "skip",
        "showlegend": False,
        "legendgroup": label,
    }
    line = {
        "x": x,
        "y": mean,
        "name": label,
        "legendgroup": label,
        "mode": "lines+markers",
        "line": {
            "color": ink(style["color"]),
            "width": 2.5,
            "dash": {"--": "dash", "-.": "dashdot"}.get(style["linestyle"], "solid"),
        },
        "marker": {"symbol": _SYMBOLS[style["marker"]], "size": 8},
        "customdata": [
            [f"{point['budget']:,g}", f"{h:.1%}", point["seeds"]]
            for point, h in zip(points, half, strict=True)
        ],
        "hovertemplate": f"<b>{label}</b> at %{{customdata[0]}} examples<br>%{{y:.1%}} "
        "± %{customdata[1]}, %{customdata[2]} seeds<extra></extra>",
    }
    return [band, line]


def _seed_traces(
    label: str, style: Mapping[str, Any], rows: Rows, name: str
) -> list[dict[str, Any]]:
    traces = []
    for seed in sorted({row["seed"] for row in rows}):
        own = sorted((r for r in rows if r["seed"] == seed), key=lambda row: row["budget"])
        traces.append(
            {
                "x": [_spent(row, name) for row in own],
                "y": [row["test_accuracy"] for row in own],
                "mode": "lines",
                "line": {"color": ink(style["color"], 0.3), "width": 1},
                "legendgroup": label,
                "showlegend": False,
                "hovertemplate": f"{label}, seed {seed}<br>%{{y:.1%}}<extra></extra>",
            }
        )
    return traces


def efficiency_forest(rows: Rows, *, baseline: str) -> Chart | None:
    """Every ratio with its interval; what is open or beyond the range is drawn as an arrow."""
    rows = [row for row in rows if row["ratio"] is not None]
    if not rows:
        return None
    names = list(dict.fromkeys(row["strategy"] for row in rows))
    styles = strategy_styles([baseline, *names], baseline)
    ends = [row[key] for row in rows for key in ("low", "ratio", "high") if row[key]]
    left = min(0.7, max(min(ends) / 1.15, 0.1))
    right = max(1.5, min(max(ends) * 1.15, 10.0))
    traces, notes, ticks = [], [], []
    height = 0.0
    for name in names:
        height -= 0.55
        notes.append(_note(plain(name), height, ink(styles[name]["color"])))
        own = sorted(
            (row for row in rows if row["strategy"] == name), key=lambda row: row["budget"] or 0
        )
        for row in own:
            height -= 1
            place = "whole curve" if row["budget"] is None else f"at {row['budget']:,g}"
            ticks.append((height, place))
            traces += _forest_row(row, height, ink(styles[name]["color"]), left, right)
            notes.append(_value_note(ratio_with_interval(row), height, row["budget"] is None))
        height -= 0.35
    steps = [v for v in (0.1, 0.2, 0.33, 0.5, 0.7, 1, 1.4, 2, 3, 4, 6, 8, 10) if left <= v <= right]
    x_axis = axis(
        f"budget {plain(baseline)} needs ÷ budget used (log scale)",
        type="log",
        range=[math.log10(left), math.log10(right)],
        tickvals=steps,
        ticktext=[f"{step:g}x" for step in steps],
    )
    y_axis = axis(
        range=[height, 0],
        tickvals=[y for y, _ in ticks],
        ticktext=[text for _, text in ticks],
        showgrid=False,
    )
    one = {"type": "line", "x0": 1, "x1": 1, "yref": "paper", "y0": 0, "y1": 1}
    figure = layout(
        70 + round(26 * -height),
        xaxis=x_axis,
        yaxis=y_axis,
        annotations=notes,
        shapes=[one | {"line": {"color": ink(BASELINE), "width": 1.5}}],
        showlegend=False,
    )
    figure["margin"] = {"l": 84, "r": 128, "t": 6, "b": 48}
    return {"label": "", "views": [{"name": "", "traces": traces, "layout": figure}]}


def _note(text: str, y: float, color: str) -> dict[str, Any]:
    place = {"xref": "paper", "x": 0, "y": y, "xanchor": "right", "xshift": -6, "showarrow": False}
    return place | {"text": f"<b>{text}</b>", "font": {"color": color, "size": 13}}


def _value_note(text: str, y: float, bold: bool) -> dict[str, Any]:
    place = {"xref": "paper", "x": 1, "y": y, "xanchor": "left", "xshift": 10, "showarrow": False}
    return place | {"text": f"<b>{text}</b>" if bold else text, "font": {"size": 12.5}}


def _forest_row(
    row: Mapping[str, Any], y: float, color: str, left: float, right: float
) -> list[dict[str, Any]]:
    hover = {"hovertext": plain(row.get("verdict") or ""), "hoverinfo": "text"}
    traces = []
    if row["low"] is not None or row["high"] is not None:
        low = max(row["low"] or left, left)
        high = min(row["high"] or right, right)
        whole = row["budget"] is None
        traces.append(
            {
                "x": [low, high],
                "y": [y, y],
                "mode": "lines",
                "line": {"color": color, "width": 4 if whole else 2},
                **hover,
            }
        )
        for end, edge, symbol in (("low", left, "left"), ("high", right, "right")):
            if row[end] is None or not left <= row[end] <= right:
                marker = {"symbol": f"triangle-{symbol}", "size": 8, "color": color}
                arrow: dict[str, Any] = {
                    "x": [edge],
                    "y": [y],
                    "mode": "markers",
                    "cliponaxis": False,
                }
                traces.append({**arrow, "marker": marker, **hover})
    censored = row["censored"]
    if not (censored and abs(row["ratio"] - 1) < 0.005):  # a bound of 1 is not a value
        open_face = evidence_of(row) == "none" or censored
        shape = {"above": "triangle-right", "below": "triangle-left"}.get(
            censored or "", "diamond" if row["budget"] is None else "circle"
        )
        marker = {"symbol": shape + ("-open" if open_face else ""), "size": 10, "color": color}
        marker["line"] = {"width": 2, "color": color}
        traces.append({"x": [row["ratio"]], "y": [y], "mode": "markers", "marker": marker, **hover})
    return traces


def cost_bars(rows: Rows) -> Chart | None:
    """What a run costs: seconds by part, and tokens trained and generated, mean over seeds."""
    names = list(dict.fromkeys(row["strategy"] for row in rows))
    if not names:
        return None
    tokens = {"tokens_trained": ("trained", CYCLE[0]), "tokens_generated": ("generated", CYCLE[1])}
    views = [
        _bars(rows, names, COST_PARTS, "seconds", "seconds per seed, all budgets together"),
        _bars(rows, names, tokens, "tokens", "tokens per seed, all budgets together"),
    ]
    return {"label": "Cost in", "views": views}


def _bars(
    rows: Rows, names: Sequence[str], parts: Mapping[str, tuple[str, str]], name: str, title: str
) -> Chart:
    traces = []
    for key, (label, color) in parts.items():
        own = [[row.get(key) or 0.0 for row in rows if row["strategy"] == n] for n in names]
        traces.append(
            {
                "type": "bar",
                "orientation": "h",
                "y": [plain(n) for n in names],
                "x": [sum(values) / len(values) for values in own],
                "name": label,
                "marker": {"color": ink(color)},
                "hovertemplate": f"%{{y}}: %{{x:,.3s}} {name} {label}<extra></extra>",
            }
        )
    figure = layout(
        130 + 34 * len(names),
        barmode="stack",
        bargap=0.35,
        xaxis=axis(title, exponentformat="SI"),
        yaxis=axis(autorange="reversed", showgrid=False, type="category"),
    )
    figure["legend"]["traceorder"] = "normal"
    return {"name": name, "traces": traces, "layout": figure}


def forecast_scatter(points: Rows, *, baseline: str) -> Chart | None:
    """Forecast against measured accuracy, with the diagonal of a perfect forecast."""
    points = [point for point in points if point.get("forecast") is not None]
    if not points:
        return None
    values = [point[key] for point in points for key in ("forecast", "test_accuracy")]
    room = max(0.06 * (max(values) - min(values)), 0.01)
    box = [min(values) - room, max(values) + room]
    names = list(dict.fromkeys(point["strategy"] for point in points))
    styles = strategy_styles(names, baseline)
    diagonal = {"x": box, "y": box, "mode": "lines", "hoverinfo": "skip", "showlegend": False}
    traces = [diagonal | {"line": {"color": ink(BASELINE), "width": 1.5}}]
    for name in names:
        own = [point for point in points if point["strategy"] == name]
        traces.append(
            {
                "x": [p["forecast"] for p in own],
                "y": [p["test_accuracy"] for p in own],
                "error_x": _bars_between(own, ink(styles[name]["color"], 0.35)),
                "name": plain(name),
                "mode": "markers",
                "marker": {
                    "color": ink(styles[name]["color"]),
                    "symbol": _SYMBOLS[styles[name]["marker"]],
                    "size": 8,
                },
                "customdata": [[p["seed"], f"{p['budget']:,g}"] for p in own],
                "hovertemplate": f"<b>{plain(name)}</b>, seed %{{customdata[0]}}, "
                "%{customdata[1]} examples<br>forecast %{x:.1%}, measured %{y:.1%}<extra></extra>",
            }
        )
    percent = {"tickformat": ".0%", "range": box}
    figure = layout(
        420,
        xaxis=axis("forecast from training examples", **percent),
        yaxis=axis("measured on the test set", **percent),
    )
    return {"label": "", "views": [{"name": "", "traces": traces, "layout": figure}]}


def _bars_between(points: Rows, color: str) -> dict[str, Any]:
    known = all(p.get("low") is not None and p.get("high") is not None for p in points)
    if not known:
        return {"visible": False}
    return {
        "type": "data",
        "symmetric": False,
        "array": [p["high"] - p["forecast"] for p in points],
        "arrayminus": [p["forecast"] - p["low"] for p in points],
        "color": color,
        "thickness": 1,
        "width": 0,
    }
