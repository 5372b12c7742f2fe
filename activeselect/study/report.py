"""``report.html``: one file that opens from disk, with Markdown, CSV and the figures beside it."""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure

from activeselect.files import write_text
from activeselect.study.figure_style import inline_svg, save_figure
from activeselect.study.figures import cost_bars, forecast_scatter, learning_curves
from activeselect.study.forest import efficiency_forest
from activeselect.study.page import json_for_script, render
from activeselect.study.tables import (
    Results,
    baseline_of,
    curves_csv,
    markdown,
    oracle_of,
    preset_names,
    results_table,
    rows_of,
    slugs,
)
from activeselect.study.verdicts import efficiency_verdict, evidence_of

__all__ = ["headline_of", "json_for_script", "results_table", "write_report"]

SCHEMA_VERSION = 1


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
    write_text(page, render(results, svgs, headline))
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
