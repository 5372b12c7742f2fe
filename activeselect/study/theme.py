"""The theme: the look of every chart, and how a chart becomes a file or a part of a page."""

from __future__ import annotations

import base64
import functools
import gzip
import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import altair as alt
import numpy as np
import vl_convert

from activeselect.errors import DataError
from activeselect.files import write_bytes
from activeselect.study.curves import monotone

AnyChart = alt.Chart | alt.LayerChart | alt.FacetChart  # a layer is typed as either
Spec = dict[str, Any]

INK, MUTED, RULE, GROUND = "#1f2328", "#636c76", "#d1d9e0", "#ffffff"
BASELINE, ORACLE = "#767e87", "#1f2329"
# Okabe and Ito's colours, safe for the common kinds of colour blindness. Yellow is left out,
# because it cannot be read on white; some others are slightly darker for the same reason.
CYCLE = ("#0072b2", "#d55e00", "#00896a", "#b8598f", "#a87400", "#3a8fc4", "#7a5cc0", "#8a4b2a")
_STAR = "M0,-1L.24,-.31L.95,-.31L.38,.12L.59,.81L0,.4L-.59,.81L-.38,.12L-.95,-.31L-.24,-.31Z"
_X = "M-.9,-.5L-.5,-.9L0,-.4L.5,-.9L.9,-.5L.4,0L.9,.5L.5,.9L0,.4L-.5,.9L-.9,.5L-.4,0Z"
_HEXAGON = "M-.9,0L-.45,-.78L.45,-.78L.9,0L.45,.78L-.45,.78Z"
SHAPES = (
    *("circle", "square", "triangle-up", "diamond", "triangle-down", "cross"),
    *(_X, _HEXAGON),
)
#: The columns of a ``cost`` row, with their names and colours, by unit.
COST_PARTS = {
    "seconds": {
        "train_s": ("training", "#4a6fa5"),
        "score_s": ("scoring", "#d9822b"),
        "select_s": ("selecting", "#9a4f96"),
        "eval_s": ("testing", "#8d969f"),
    },
    "tokens": {
        "tokens_trained": ("trained", "#4a6fa6"),
        "tokens_generated": ("generated", "#d9822c"),
    },
}
#: What each colour of the charts becomes on a dark ground; the page's style sheet holds the pairs.
DARK = {
    INK: "#e6edf3",
    ORACLE: "#f0f6fc",
    MUTED: "#9aa5b1",
    RULE: "#323b46",
    GROUND: "#151b23",
    BASELINE: "#9aa5b1",
    **dict(
        zip(
            CYCLE,
            (
                "#62b5ee",
                "#ff9150",
                "#3fc9a2",
                "#e591c0",
                "#dcaa3e",
                "#86c8f2",
                "#b39df0",
                "#d09a7c",
            ),
            strict=True,
        )
    ),
    "#4a6fa5": "#7ea3dc",
    "#4a6fa6": "#7ea3dc",
    "#d9822b": "#efa04f",
    "#d9822c": "#efa04f",
    "#9a4f96": "#cf8bcb",
    "#8d969f": "#8d969f",
}
_CLIP = re.compile(r"(?<=id=\")clip\d+|(?<=url\(#)clip\d+")
FILE_TYPES = (".svg", ".png", ".pdf")


def themed(
    chart: AnyChart, data: Mapping[str, Sequence[Mapping[str, Any]]], title: str
) -> AnyChart:
    """The chart with its rows of data by name, and with the house's type, grid and title."""
    axis = alt.AxisConfig(
        labelColor=MUTED,
        titleColor=MUTED,
        labelFontSize=12,
        titleFontSize=12.5,
        titleFontWeight="normal",
        titlePadding=10,
        labelPadding=6,
        gridColor=RULE,
        domainColor=RULE,
        tickColor=RULE,
        gridWidth=0.7,
    )
    chart = chart.configure(
        font="system-ui, 'Liberation Sans', Arial, sans-serif",
        background=GROUND,
        axis=axis,
        view=alt.ViewConfig(stroke=None),
        title=alt.TitleConfig(
            anchor="start",
            frame="bounds",  # beside wide labels a long title would run out of the picture
            color=INK,
            fontSize=15,
            fontWeight="bold",
            offset=14,
        ),
        legend=alt.LegendConfig(
            orient="top",
            title=None,
            labelColor=INK,
            labelFontSize=12.5,
            symbolSize=110,
            columnPadding=14,
        ),
    )
    chart = chart.properties(title=title) if title else chart
    chart.datasets = dict(data)
    return chart


def strategy_styles(names: Iterable[str], baseline: str = "random") -> dict[str, dict[str, Any]]:
    """Colour, shape and dash of each strategy, the same in every chart of a report.

    The baseline is grey and the oracle is dashed ink. The others take the palette in the order
    given.

    Example:
        >>> styles = strategy_styles(["random", "premem", "oracle"])
        >>> styles["premem"]["color"], styles["oracle"]["dash"]
        ('#0072b2', [6, 4])
    """
    styles: dict[str, dict[str, Any]] = {}
    others = 0
    for name in dict.fromkeys(names):
        if name == baseline:
            styles[name] = {"color": BASELINE, "shape": "circle", "dash": [1, 0]}
        elif name == "oracle":
            styles[name] = {"color": ORACLE, "shape": _STAR, "dash": [6, 4]}
        else:
            styles[name] = {
                "color": CYCLE[others % len(CYCLE)],
                "shape": SHAPES[(others + 1) % len(SHAPES)],
                "dash": [1, 0] if others < len(CYCLE) else [8, 3, 2, 3],
            }
            others += 1
    return styles


def spread(positions: Sequence[float], gap: float) -> list[float]:
    """Label positions moved apart to at least ``gap``, in order, as little as needed.

    Example:
        >>> [round(y, 2) for y in spread([0.0, 0.1, 1.0], 0.5)]
        [-0.2, 0.3, 1.0]
    """
    order = np.argsort(positions, kind="stable")
    steps = gap * np.arange(len(positions))
    # Least squares under y[i+1] - y[i] >= gap is isotonic regression of y - gap * i.
    moved = monotone(np.asarray(positions, dtype=float)[order] - steps) + steps
    result = np.empty(len(positions))
    result[order] = moved
    return [float(value) for value in result]


def spec_of(chart: AnyChart) -> Spec:
    """The Vega-Lite specification, the same bytes for the same input.

    The charts of this package are checked against the schema by their tests, so a report does not
    pay for the check.
    """
    spec: Spec = chart.to_dict(validate=False)
    return spec


def page_spec(chart: AnyChart) -> Spec:
    """The specification for a page: as wide as the place it gets, no ground, no title."""
    spec = spec_of(chart) | {"width": "container"}
    spec["autosize"] = {"type": "fit-x", "contains": "padding"}
    spec["config"] = spec["config"] | {"background": "transparent"}
    spec.pop("title", None)
    return spec


def svg_text(chart: AnyChart) -> str:
    """The chart as SVG text, in which text stays text."""
    text = str(vl_convert.vegalite_to_svg(spec_of(chart)))
    # Vega counts its clip paths over all charts of a process; each chart counts its own here.
    own = {name: f"clip{i}" for i, name in enumerate(dict.fromkeys(_CLIP.findall(text)))}
    return _CLIP.sub(lambda found: own[found.group()], text)


def save_chart(chart: AnyChart, path: Path) -> Path:
    """Write the chart to a file whose ending (svg, png, pdf) names the format.

    Args:
        chart: of :mod:`activeselect.study.charts`.
        path: of the file; its folder is created. A PNG has two pixels per point.

    Returns:
        The path.

    Raises:
        DataError: if the ending names no format.
    """
    kind = path.suffix.lower()
    if kind not in FILE_TYPES:
        raise DataError(f"{path}: expected a name ending in {', '.join(FILE_TYPES)}; rename it")
    svg = svg_text(chart)
    if kind == ".svg":
        content = svg.encode("utf-8")
    elif kind == ".png":
        content = vl_convert.svg_to_png(svg, scale=2)
    else:
        content = vl_convert.svg_to_pdf(svg)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, content)
    return path


def inline_svg(text: str, name: str, description: str) -> str:
    """SVG to paste into HTML: no fixed size, no ground, described.

    Args:
        text: a chart as :func:`svg_text` gives it.
        name: unique within the page; keeps the ids of several charts apart.
        description: what the picture shows, for people who do not see it.
    """
    text = re.sub(r"url\(#", f"url(#{name}-", text)
    text = re.sub(r"(?<=\sid=\")", f"{name}-", text)
    text = re.sub(r"<rect [^>]*/>", "", text, count=1)  # the white ground
    # Names that only a screen reader of a single chart would read; the page has tables.
    text = re.sub(r' (?:role|aria-[a-z]+)="[^"]*"', "", text)
    box = re.search(r'viewBox="[^"]*"', text)
    attributes = f'role="img" aria-label="{escape(description)}"'
    return re.sub(r"<svg[^>]*>", f"<svg {box.group(0) if box else ''} {attributes}>", text, count=1)


@functools.cache
def chart_library() -> str:
    """Vega, Vega-Lite and Vega-Embed, compressed and as text: 0.4 MB; the browser unpacks it."""
    bundle = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")
    return packed(bundle)


def packed(text: str) -> str:
    """Text as gzip in base64, the same bytes each time.

    Example:
        >>> gzip.decompress(base64.b64decode(packed("a" * 1000))) == b"a" * 1000
        True
    """
    return base64.b64encode(gzip.compress(text.encode("utf-8"), 9, mtime=0)).decode("ascii")
