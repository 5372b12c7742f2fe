"""The page of an audit: one HTML file with every measure, its plot and its card.

No scripts and nothing from outside: text, tables and SVG drawn here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from activeselect.audit.catalogue import MEASURES
from activeselect.files import write_text

_WIDTH, _HEIGHT = 360, 200
_LEFT, _RIGHT, _TOP, _BOTTOM = 40, 12, 26, 40
#: Colours that read on light and dark ground, told apart by the colour-blind; the model's first.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7")
_STYLE = """
:root { color-scheme: light dark; --line: #8886; --soft: #8882; }
body { font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 62rem; padding: 1rem; }
h1 { font-size: 1.5rem; line-height: 1.25; margin-bottom: .3rem; }
h2 { font-size: 1.15rem; margin: 0; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .3rem .6rem; border-bottom: 1px solid var(--line); }
td.number, th.number { text-align: right; white-space: nowrap; }
.scroll { overflow-x: auto; }
article { border: 1px solid var(--line); border-radius: .5rem; padding: 1rem; margin: 1rem 0;
  display: grid; grid-template-columns: minmax(0, 1fr) minmax(0, 22.5rem); gap: .5rem 1.5rem; }
article.alone { grid-template-columns: minmax(0, 1fr); }
figure { margin: 0; } svg { width: 100%; height: auto; } svg text { fill: currentColor; }
.big { font-size: 1.5rem; font-weight: 600; }
.mark { border: 1px solid; border-radius: 1rem; padding: 0 .6rem; font-size: .8rem; }
.chance { color: #b8460b; } .note { background: var(--soft); border-radius: .5rem;
  padding: .6rem 1rem; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem .8rem; margin: .6rem 0; }
dd { margin: 0; } dt { opacity: .75; } small { opacity: .8; }
@media (max-width: 44rem) { article { grid-template-columns: minmax(0, 1fr); } }
"""
_MARKS = {
    "tells apart": "tells needed steps apart on built-in skills",
    "at chance": "no better than chance on built-in skills",
    "not validated": "not validated",
}


def write_page(result: Mapping[str, Any], path: Path) -> None:
    """Write the page of a result (``audit.json``)."""
    write_text(path, render(result))


def render(result: Mapping[str, Any]) -> str:
    """The page as text.

    Args:
        result: what :meth:`activeselect.audit.audit.Audit.run` returned.
    """
    title = f"Audit of {result['model']}"
    against = f", beside {result['reference']}" if result["reference"] else ""
    parts = [
        "<!DOCTYPE html>\n<html lang='en'><head><meta charset='utf-8'>",
        "<meta name='viewport' content='width=device-width, initial-scale=1'>",
        "<meta http-equiv='Content-Security-Policy' content=\"default-src 'none'; "
        "style-src 'unsafe-inline'\">",
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body><header>",
        f"<h1>{escape(title + against)}</h1>",
        f"<p>{_facts(result)}</p>",
    ]
    if result["verdict"]:
        sentence = result["verdict"][:1].upper() + result["verdict"][1:]
        parts.append(f"<p class='note'><b>{escape(sentence)}.</b></p>")
    parts.append(
        "<p>These numbers say what the answers depend on. None of them proves that a chain tells "
        "how its answer was found.</p></header><main>"
    )
    parts.append(_table(result))
    parts += [f"<p>Left out: {escape(n)} ({escape(w)}).</p>" for n, w in _left_out(result)]
    parts += [_article(entry, result) for entry in result["measures"]]
    if result["forking_tokens"]:
        words = ", ".join(
            f"<code>{escape(repr(entry['text']))}</code> {entry['count']}"
            for entry in result["forking_tokens"]
        )
        parts.append(f"<p>Most frequent forking tokens: {words}.</p>")
    parts.append("</main></body></html>\n")
    return "\n".join(parts)


def _facts(result: Mapping[str, Any]) -> str:
    kind = "sampled chains" if result["chains"] == "sampled" else "the reference traces"
    tokens = sum(spent["read"] + spent["written"] for spent in result["tokens"].values())
    return escape(
        f"{result['problems']} problems of {result['source']}, {result['samples']} samples each; "
        f"{kind} were cut and changed. Information gain is read from {result['scorer']}. "
        f"{tokens:,} tokens were read and written. Intervals: 95%, problems resampled."
    )


def _left_out(result: Mapping[str, Any]) -> list[tuple[str, str]]:
    by_reason: dict[str, list[str]] = {}
    for name, why in result["left_out"].items():
        by_reason.setdefault(why, []).append(MEASURES[name].title.lower())
    return [(", ".join(names), why) for why, names in by_reason.items()]


def _table(result: Mapping[str, Any]) -> str:
    compared = bool(result["reference"])
    heads = ["measure", "value", "95% interval"]
    heads += ["reference", "difference", "95% interval"] if compared else []
    heads += ["unit", "problems"]
    rows = []
    for entry in result["measures"]:
        measure = MEASURES[entry["name"]]
        mark = " *" if entry["evidence"] == "at chance" else ""
        cells = [_number(entry["value"]), _ends(entry)]
        if compared:
            difference = entry["difference"]
            shown = _number(difference["value"], sign=True)
            cells += [_number(entry["reference"]["value"]), shown, _ends(difference)]
        numbers = "".join(f"<td class='number'>{cell}</td>" for cell in cells)
        rows.append(
            f"<tr><th scope='row'><a href='#{measure.name}'>{escape(measure.title)}</a>{mark}</th>"
            f"{numbers}<td>{escape(measure.unit)}</td><td class='number'>{entry['n']}</td></tr>"
        )
    line = "".join(
        f"<th scope='col'{'' if i in (0, len(heads) - 2) else ' class=number'}>{head}</th>"
        for i, head in enumerate(heads)
    )
    chance = any(entry["evidence"] == "at chance" for entry in result["measures"])
    note = (
        "<p>* No better than chance on the built-in skills, where it is known which steps are "
        "needed: do not read a difference in it as one in reasoning.</p>"
    )
    return (
        f"<div class='scroll' tabindex='0' role='region' aria-label='All measures'><table><thead>"
        f"<tr>{line}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
        f"{note if chance else ''}"
    )


def _article(entry: Mapping[str, Any], result: Mapping[str, Any]) -> str:
    measure = MEASURES[entry["name"]]
    evidence = entry["evidence"]
    kind = "mark chance" if evidence == "at chance" else "mark"
    mark = f"<p><span class='{kind}'>{_MARKS[evidence]}</span></p>" if measure.dependence else ""
    shown = [f"<span class='big'>{_number(entry['value'])}</span> {escape(measure.unit)}"]
    if entry["low"] is not None:
        shown.append(f" <small>({_ends(entry)}, {entry['n']} problems)</small>")
    if result["reference"]:
        difference = entry["difference"]
        shown.append(
            f"<br>reference {_number(entry['reference']['value'])}; difference "
            f"{_number(difference['value'], sign=True)} ({_ends(difference)})"
        )
    more = "".join(f"<br>{escape(name)}: {_number(v)}" for name, v in entry["more"].items())
    card = "".join(
        f"<dt>{name}</dt><dd>{escape(text)}</dd>"
        for name, text in (
            ("What", measure.definition),
            ("Source", measure.source),
            ("Cannot show", measure.limits),
            ("Cost", f"{entry['tokens']:,} tokens"),
        )
    )
    drawn = chart(entry["plot"], (entry.get("reference") or {}).get("plot"), measure.title)
    figure = f"<figure>{drawn}</figure>" if drawn else ""
    return (
        f"<article id='{measure.name}'{'' if figure else ' class=alone'}><div>"
        f"<h2>{escape(measure.title)}</h2>{mark}"
        f"<p>{''.join(shown)}{more}</p><dl>{card}</dl></div>{figure}</article>"
    )


def _number(value: float | None, sign: bool = False) -> str:
    if value is None:
        return "none"
    return f"{value:+.3f}" if sign else f"{value:.3f}"


def _ends(entry: Mapping[str, Any]) -> str:
    if entry["low"] is None or entry["high"] is None:
        return "no interval"
    return f"{entry['low']:.3f} to {entry['high']:.3f}"


# --- charts ---------------------------------------------------------------------------------


def chart(plot: Mapping[str, Any] | None, reference: Mapping[str, Any] | None, title: str) -> str:
    """A plot as SVG, the reference's lines dashed; empty where there is nothing to draw.

    Example:
        >>> plot = {"kind": "bars", "x": ["a"], "y_label": "share", "series": {"": [0.5]}}
        >>> chart(plot, None, "A").startswith("<svg")
        True
    """
    if plot is None or not plot["x"]:
        return ""
    lines = _lines(plot, "") + (_lines(reference, " (reference)") if reference else [])
    known = [value for _, _, ys in lines for value in ys if value is not None]
    if not known:
        return ""
    low, high = min(0.0, *known), max(0.0, *known)
    low, high = (low, high) if high > low else (low, low + 1)
    axes = _Axes(plot, low, high)
    body = axes.bars(lines) if plot["kind"] == "bars" else axes.lines(lines)
    return (
        f"<svg viewBox='0 0 {_WIDTH} {_HEIGHT + 16 * len(axes.names(lines))}' role='img' "
        f"aria-label='{escape(title, quote=True)}' font-size='11'>"
        f"{axes.frame()}{body}{axes.legend(lines)}</svg>"
    )


#: Name, whether it is the reference's, and values.
_Line = tuple[str, bool, Sequence[float | None]]


def _lines(plot: Mapping[str, Any], suffix: str) -> list[_Line]:
    return [(f"{name}{suffix}", bool(suffix), values) for name, values in plot["series"].items()]


class _Axes:
    """Places of a chart."""

    def __init__(self, plot: Mapping[str, Any], low: float, high: float) -> None:
        self.plot, self.low, self.high = plot, low, high
        self.width = _WIDTH - _LEFT - _RIGHT
        self.height = _HEIGHT - _TOP - _BOTTOM

    def y(self, value: float) -> float:
        return _TOP + self.height * (self.high - value) / (self.high - self.low)

    def x(self, value: float) -> float:
        first, last = float(self.plot["x"][0]), float(self.plot["x"][-1])
        return _LEFT + self.width * ((value - first) / (last - first) if last > first else 0.5)

    def frame(self) -> str:
        ticks = [self.low + (self.high - self.low) * i / 2 for i in range(3)]
        drawn = "".join(
            f"<line x1='{_LEFT}' x2='{_WIDTH - _RIGHT}' y1='{self.y(t):.1f}' y2='{self.y(t):.1f}' "
            f"stroke='currentColor' stroke-opacity='.2'/>"
            f"<text x='{_LEFT - 5}' y='{self.y(t) + 4:.1f}' text-anchor='end'>{t:.2g}</text>"
            for t in ticks
        )
        if self.plot["kind"] == "line":
            xs = [float(self.plot["x"][0]), float(self.plot["x"][-1])]
            for value, anchor in zip(xs, ("start", "end"), strict=True):
                drawn += (
                    f"<text x='{self.x(value):.1f}' y='{_HEIGHT - _BOTTOM + 14}' "
                    f"text-anchor='{anchor}'>{value:.3g}</text>"
                )
        label = escape(self.plot["y_label"])
        below = escape(self.plot.get("x_label", ""))
        return (
            f"{drawn}<text x='{_LEFT + self.width / 2}' y='{_HEIGHT - _BOTTOM + 30}' "
            f"text-anchor='middle'>{below}</text><text x='2' y='12'>{label}</text>"
        )

    def lines(self, lines: Sequence[_Line]) -> str:
        drawn = ""
        for name, reference, values in lines:
            pairs = zip(self.plot["x"], values, strict=False)
            points = " ".join(
                f"{self.x(float(x)):.1f},{self.y(y):.1f}" for x, y in pairs if y is not None
            )
            dash = " stroke-dasharray='5 4'" if reference else ""
            drawn += (
                f"<polyline points='{points}' fill='none' stroke='{self._colour(name)}' "
                f"stroke-width='2'{dash}/>"
            )
        return drawn

    def bars(self, lines: Sequence[_Line]) -> str:
        names = self.plot["x"]
        slot = self.width / len(names)
        wide = slot * 0.8 / len(lines)
        drawn = ""
        for i, name in enumerate(names):
            left = _LEFT + slot * (i + 0.1)
            for k, (_, reference, values) in enumerate(lines):
                value = values[i] if i < len(values) else None
                if value is None:
                    continue
                top, foot = sorted((self.y(value), self.y(0.0)))
                drawn += (
                    f"<rect x='{left + k * wide:.1f}' y='{top:.1f}' width='{wide:.1f}' "
                    f"height='{max(foot - top, 1):.1f}' fill='{_COLOURS[0]}' "
                    f"fill-opacity='{0.35 if reference else 1}'/>"
                )
            drawn += (
                f"<text x='{_LEFT + slot * (i + 0.5):.1f}' y='{_HEIGHT - _BOTTOM + 14}' "
                f"text-anchor='middle'>{escape(str(name))}</text>"
            )
        return drawn

    def names(self, lines: Sequence[_Line]) -> list[_Line]:
        if self.plot["kind"] == "bars":
            return [] if len(lines) < 2 else list(lines)
        return list(lines)

    def legend(self, lines: Sequence[_Line]) -> str:
        drawn = ""
        for row, (name, reference, _) in enumerate(self.names(lines)):
            y = _HEIGHT + 4 + 16 * row
            bars = self.plot["kind"] == "bars"
            colour = _COLOURS[0] if bars else self._colour(name)
            dash = " stroke-dasharray='5 4'" if reference and not bars else ""
            faint = " stroke-opacity='.35'" if reference and bars else ""
            shown = ("reference" if reference else "model") if bars else name
            drawn += (
                f"<line x1='{_LEFT}' x2='{_LEFT + 22}' y1='{y}' y2='{y}' stroke='{colour}' "
                f"stroke-width='{8 if bars else 2}'{dash}{faint}/>"
                f"<text x='{_LEFT + 28}' y='{y + 4}'>{escape(shown)}</text>"
            )
        return drawn

    def _colour(self, name: str) -> str:
        names = list(self.plot["series"])
        own = name.removesuffix(" (reference)")
        return _COLOURS[(names.index(own) if own in names else 0) % len(_COLOURS)]
