"""``report.html``: one file that opens from disk, with Markdown, CSV and the figures beside it."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup
from matplotlib.figure import Figure

from activeselect.files import write_text
from activeselect.study.figure_style import inline_svg, save_figure
from activeselect.study.figures import cost_bars, forecast_scatter, learning_curves
from activeselect.study.forest import efficiency_forest
from activeselect.study.tables import (
    Results,
    baseline_of,
    comparison,
    curves_csv,
    markdown,
    oracle_of,
    preset_names,
    results_table,
    rows_of,
    share_rows,
    slugs,
    target_table,
)
from activeselect.study.verdicts import efficiency_verdict, evidence_of

__all__ = ["headline_of", "results_table", "write_report"]

SCHEMA_VERSION = 1
MOST_EXAMPLES = 500
_TEMPLATES = Path(__file__).parent / "templates"


def write_report(results: Results, out: Path) -> Path:
    """Write the report of a study, and everything it shows in forms that others can use.

    ``report.html`` (self-contained), ``report.md``, ``curves.csv`` and ``figures/*.{svg,png}``
    appear in ``out``, each in one step.

    Args:
        results: the content of ``results.json``.
        out: folder of the study; created if needed.

    Returns:
        The path of ``report.html``.

    Raises:
        ValueError: if the results are of another schema version.
    """
    version = results.get("schema_version")
    if version != SCHEMA_VERSION:
        raise ValueError(
            f"this report reads results of schema version {SCHEMA_VERSION}; received {version}. "
            "Rebuild it with the version of activeselect that wrote them."
        )
    out.mkdir(parents=True, exist_ok=True)
    svgs = {
        name: inline_svg(save_figure(figure, out / "figures", name), name, description)
        for name, (figure, description) in figures_of(results).items()
    }
    headline = headline_of(results)
    write_text(out / "report.md", markdown(results, headline))
    write_text(out / "curves.csv", curves_csv(results))
    page = out / "report.html"
    write_text(page, render(results, svgs))
    return page


def headline_of(results: Results) -> str:
    """The first thing to know: the first strategy over the whole curve of the first preset.

    It is chosen by its place in the config, not by its result, so it is not the luckiest of many.
    """
    for preset in preset_names(results):
        for row in rows_of(results, "efficiency", preset):
            if row.get("budget") is None and row["strategy"] != oracle_of(results):
                clear = evidence_of(row) in ("better", "worse")
                sentence = efficiency_verdict(row) if clear else row.get("verdict")
                sentence = sentence or efficiency_verdict(row)
                return f"On {preset}: {sentence}" if preset else str(sentence)
    verdicts = results.get("verdicts") or ["Nothing was compared in this study."]
    return str(verdicts[0])


def figures_of(results: Results) -> dict[str, tuple[Figure, str]]:
    """Every figure of a study with a description of it, by file name."""
    baseline = baseline_of(results)
    forecast = results.get("forecast") or {}
    found: dict[str, tuple[Figure, str]] = {}
    for preset, file in slugs(preset_names(results)).items():
        curves = rows_of(results, "curves", preset)
        points = rows_of(forecast, "points", preset)
        of = f" on {preset}" if preset else ""
        drawn: dict[str, tuple[Figure | None, str]] = {
            "curves": (
                learning_curves(curves, title=f"Test accuracy{of}", baseline=baseline)
                if curves
                else None,
                f"Learning curves{of}: test accuracy by budget for every strategy. "
                "The numbers are in the table of this section.",
            ),
            "efficiency": (
                efficiency_forest(rows_of(results, "efficiency", preset), baseline=baseline),
                f"Data-efficiency ratios{of} with intervals. "
                "The numbers are in the table of this section.",
            ),
            "cost": (
                cost_bars(rows_of(results, "cost", preset), baseline=baseline),
                f"Seconds per run{of}, split into training, scoring, selecting and testing.",
            ),
            "forecast": (
                forecast_scatter(points, title=f"Forecast{of}", baseline=baseline),
                f"Forecast against measured test accuracy{of}, one point per checkpoint.",
            ),
        }
        for kind, (figure, text) in drawn.items():
            if figure is not None:
                found[f"{file}-{kind}"] = (figure, text)
    return found


def render(results: Results, svgs: Mapping[str, str]) -> str:
    """The HTML page as text, with these figures (SVG made by this package) inline."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    examples = list(results.get("examples") or [])
    return environment.get_template("report.html").render(
        headline=headline_of(results),
        baseline=baseline_of(results),
        verdicts=verdicts_by_preset(results),
        presets=[
            _preset(results, name, file, svgs)
            for name, file in slugs(preset_names(results)).items()
        ],
        forecast=results.get("forecast") or {},
        examples=examples[:MOST_EXAMPLES],
        examples_total=len(examples),
        choices={key: _choices(examples, key) for key in ("preset", "strategy", "group")},
        config=_pretty(results.get("config")),
        environment=results.get("environment") or {},
        data=json_for_script({k: v for k, v in results.items() if k != "examples"}),
    )


def verdicts_by_preset(results: Results) -> list[dict[str, Any]]:
    """Verdicts with the preset that their first word names ("mixed: ..."), if it names one.

    Example:
        >>> verdicts_by_preset({"presets": ["mixed"], "verdicts": ["mixed: a.", "b."]})
        [{'order': 0, 'preset': 'mixed', 'text': 'a.'}, {'order': 1, 'preset': '', 'text': 'b.'}]
    """
    names, found = preset_names(results), []
    for order, verdict in enumerate(results.get("verdicts") or []):
        head, colon, rest = str(verdict).partition(": ")
        preset, text = (head, rest) if colon and head in names else ("", str(verdict))
        found.append({"order": order, "preset": preset, "text": text})
    return found


def _preset(results: Results, name: str, file: str, svgs: Mapping[str, str]) -> dict[str, Any]:
    budgets, lines = comparison(results, name)
    return {
        "name": name,
        "id": f"data-{file}",  # cannot meet the ids of the page itself
        "figures": {
            kind: Markup(svgs.get(f"{file}-{kind}", ""))
            for kind in ("curves", "efficiency", "cost", "forecast")
        },
        "budgets": budgets,
        "lines": lines,
        "targets": target_table(rows_of(results, "targets", name)),
        "shares": share_rows(rows_of(results, "oracle_share", name)),
        "selection": selection_table(rows_of(results, "selection", name)),
    }


def selection_table(rows: list[dict[str, Any]]) -> dict[str, Any] | None:
    """Share of the train set per group, mean over seeds: groups down, strategy x budget across.

    Returns:
        ``groups`` (names), ``columns`` (dicts ``strategy, budget, shares``), or None when there
        is nothing to show.
    """
    groups = list(dict.fromkeys(group for row in rows for group in row["groups"]))
    if not groups:
        return None
    columns = []
    for strategy in dict.fromkeys(row["strategy"] for row in rows):
        own = [row for row in rows if row["strategy"] == strategy]
        for budget in sorted({row["budget"] for row in own}):
            counts = np.array(
                [[r["groups"].get(g, 0) for g in groups] for r in own if r["budget"] == budget],
                dtype=float,
            )
            totals = np.maximum(counts.sum(axis=1, keepdims=True), 1)
            shares = (counts / totals).mean(axis=0).tolist()
            columns.append({"strategy": strategy, "budget": budget, "shares": shares})
    return {"groups": groups, "columns": columns}


def json_for_script(value: Any) -> Markup:
    """JSON that can stand inside a ``<script>`` element whatever text it holds.

    Example:
        >>> print(json_for_script({"q": "</script>"}))
        {"q": "\\u003c/script\\u003e"}
    """
    text = json.dumps(_finite(value), ensure_ascii=True, allow_nan=False)
    for character in "<>&'":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


def _finite(value: Any) -> Any:
    """The same value with NaN and infinities as null, which JSON can say."""
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else None
    return value.item() if isinstance(value, np.generic) else value


def _choices(examples: list[Any], key: str) -> list[str]:
    return sorted({str(row.get(key) or "") for row in examples} - {""})


def _pretty(value: Any) -> str:
    """Indented JSON with short lists on one line."""
    text = json.dumps(_finite(value), indent=2, ensure_ascii=False, default=str)
    return re.sub(
        r"\[\n\s+([^\[\]{}]{1,90}?)\n\s+\]",
        lambda found: "[" + re.sub(r"\n +", " ", found.group(1)) + "]",
        text,
    )
