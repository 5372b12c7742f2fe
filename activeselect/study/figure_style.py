"""One look for every figure: colours, type, and how a figure becomes a file or inline SVG."""

from __future__ import annotations

import functools
import io
import re
from collections.abc import Callable, Iterable, Sequence
from html import escape
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from activeselect.files import write_bytes
from activeselect.study.curves import monotone

P = ParamSpec("P")
R = TypeVar("R")

INK, MUTED, RULE = "#1f2328", "#636c76", "#d1d9e0"
BASELINE, ORACLE = "#767e87", "#1f2329"
# Okabe and Ito's colours, safe for the common kinds of colour blindness, yellow left out: it
# cannot be read on white. Slightly darkened where white needs it.
CYCLE = ("#0072b2", "#d55e00", "#00896a", "#b8598f", "#a87400", "#3a8fc4", "#7a5cc0", "#8a4b2a")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "h")
COST_PARTS = {
    "train_s": ("training", "#4a6fa5"),
    "score_s": ("scoring", "#d9822b"),
    "select_s": ("selecting", "#9a4f96"),
    "eval_s": ("testing", "#8d969f"),
}
_RC: Any = {
    "font.family": "sans-serif",
    "font.size": 9.5,
    "text.color": INK,
    "axes.labelcolor": MUTED,
    "axes.edgecolor": RULE,
    "axes.titlecolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.major.size": 3,
    "ytick.major.size": 0,
    "grid.color": RULE,
    "grid.linewidth": 0.6,
    "lines.solid_capstyle": "round",
    "figure.facecolor": "white",
    "svg.fonttype": "none",
    "text.parse_math": False,  # a name with dollar signs is a name
    "path.simplify": False,
}


def house_style(draw: Callable[P, R]) -> Callable[P, R]:
    """Run a drawing function with the house settings, and leave matplotlib's own as they were."""

    @functools.wraps(draw)
    def styled(*args: P.args, **kwargs: P.kwargs) -> R:
        with mpl.rc_context(_RC):
            return draw(*args, **kwargs)

    return styled


def new_figure(width: float = 5.2, height: float = 3.4) -> tuple[Figure, Axes]:
    """An empty figure, without pyplot and its global state."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.add_subplot()


def set_title(axes: Axes, text: str, *, pad: float = 10) -> None:
    """A bold title, flush left."""
    axes.set_title(text, loc="left", fontsize=11, fontweight="bold", color=INK, pad=pad)


def strategy_styles(names: Iterable[str], baseline: str = "random") -> dict[str, dict[str, Any]]:
    """Colour, marker and dash of each strategy, the same in every figure of a report.

    The baseline is grey and the oracle dashed ink, whatever else is compared; the others take
    the palette in the order given.

    Example:
        >>> styles = strategy_styles(["random", "premem", "oracle"])
        >>> styles["premem"]["color"], styles["oracle"]["linestyle"]
        ('#0072b2', '--')
    """
    styles: dict[str, dict[str, Any]] = {}
    others = 0
    for name in dict.fromkeys(names):
        if name == baseline:
            styles[name] = {"color": BASELINE, "marker": "o", "linestyle": "-"}
        elif name == "oracle":
            styles[name] = {"color": ORACLE, "marker": "*", "linestyle": "--"}
        else:
            marker = MARKERS[(others + 1) % len(MARKERS)]
            styles[name] = {
                "color": CYCLE[others % len(CYCLE)],
                "marker": marker,
                "linestyle": "-" if others < len(CYCLE) else "-.",
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


def svg_text(figure: Figure, name: str) -> str:
    """The figure as SVG text: text stays text, the same input gives the same bytes."""
    buffer = io.BytesIO()
    with mpl.rc_context({**_RC, "svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return buffer.getvalue().decode("utf-8")


def inline_svg(text: str, name: str, description: str) -> str:
    """SVG to paste into HTML: no fixed size, described, its colours replaceable by CSS variables.

    Every house colour becomes ``var(--xRRGGBB, #RRGGBB)``, which a dark theme redefines.

    Args:
        text: a figure as :func:`svg_text` gives it.
        name: unique within the page; keeps the ids of several figures apart.
        description: what the picture shows, for people who do not see it.
    """
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"#([0-9a-f]{6})(?=[;\"'])", r"var(--x\1, #\1)", text)
    text = re.sub(r"url\(#", f"url(#{name}-", text)
    text = re.sub(r"(?<=\sid=\")", f"{name}-", text)
    text = re.sub(r"(?<=xlink:href=\"#)", f"{name}-", text)
    text = text.replace("xlink:href=", "href=")
    attributes = f'role="img" aria-label="{escape(description)}"'
    head = re.search(r'viewBox="[^"]*"', text)
    box = head.group(0) if head else ""
    return re.sub(r"<svg[^>]*>", f"<svg {box} {attributes}>", text, count=1)


def save_figure(figure: Figure, folder: Path, name: str) -> str:
    """Write ``name.svg`` and ``name.png`` (200 dpi, white ground); return the SVG's text."""
    buffer = io.BytesIO()
    with mpl.rc_context(_RC):
        figure.savefig(buffer, format="png", dpi=200, metadata={"Software": None})
    text = svg_text(figure, name)
    write_bytes(folder / f"{name}.svg", text.encode("utf-8"))
    write_bytes(folder / f"{name}.png", buffer.getvalue())
    return text
