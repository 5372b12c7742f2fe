"""``report.html``: one file that opens from disk, with Markdown, CSV and the charts beside it."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup

from activeselect.files import write_text
from activeselect.study import charts, tables
from activeselect.study.audited import audit_section
from activeselect.study.results import upgraded
from activeselect.study.tables import Results, baseline_of, dataset_names, rows_of, slugs
from activeselect.study.theme import (
    DARK,
    AnyChart,
    chart_library,
    inline_svg,
    packed,
    page_spec,
    save_chart,
)
from activeselect.study.verdicts import AXIS_WORDS, efficiency_verdict, evidence_of

__all__ = ["KINDS", "chart_of", "charts_of", "headline_of", "write_report"]

MOST_EXAMPLES = 500
_TEMPLATES = Path(__file__).parent / "templates"
#: The charts of a dataset, in the order of the page.
KINDS = ("curves", "efficiency", "chosen", "understood", "cost", "forecast")
_FILES = ("curves", "efficiency", "cost", "forecast")  # charts that also become files


def write_report(results: Results, out: Path) -> Path:
    """Write the report of a study, and everything it shows in forms that others can use.

    ``report.html`` (self-contained), ``report.md``, ``curves.csv`` and ``figures/*.{svg,png}``
    appear in ``out``, each in one step.

    Args:
        results: the content of ``results.json``, of this schema version or the one before.
        out: folder of the study; created if needed.

    Returns:
        The path of ``report.html``.

    Raises:
        StoreError: if the results are of another schema version.
    """
    results = upgraded(results)
    out.mkdir(parents=True, exist_ok=True)
    drawn = {
        f"{file}-{kind}": chart
        for dataset, file in slugs(dataset_names(results)).items()
        for kind, chart in charts_of(results, dataset).items()
    }
    svgs = {}
    for name, chart in drawn.items():
        if name.rpartition("-")[2] in _FILES:
            save_chart(chart, out / "figures" / f"{name}.png")
            path = save_chart(chart, out / "figures" / f"{name}.svg")
            svgs[name] = path.read_text(encoding="utf-8")
    headline = headline_of(results)
    write_text(out / "report.md", tables.markdown(results, headline))
    write_text(out / "curves.csv", tables.curves_csv(results))
    page = out / "report.html"
    write_text(page, _render(results, drawn, svgs, headline))
    return page


def headline_of(results: Results) -> str:
    """The first thing to know: the first strategy over the whole curve of the first dataset.

    It is chosen by its place in the config, not by its result, so it is not the luckiest of many.
    A control that measures nothing is named only where nothing else was compared.
    """
    judged = {row["strategy"] for row in results.get("controls") or []}
    for dataset in dataset_names(results):
        for row in rows_of(results, "efficiency", dataset):
            if judged and row["strategy"] not in judged:
                continue
            if row.get("budget") is None and row["strategy"] != tables.oracle_of(results):
                clear = evidence_of(row) in ("better", "worse")
                sentence = efficiency_verdict(row) if clear else row.get("verdict")
                sentence = sentence or efficiency_verdict(row)
                return f"On {dataset}: {sentence}" if dataset else str(sentence)
    verdicts = results.get("verdicts") or []
    used = sorted({str(row["strategy"]) for row in results.get("curves") or []})
    if verdicts or len(used) != 1:
        return str((verdicts or ["Nothing was compared in this study."])[0])
    return f"Every run of this study used one strategy: {used[0]}."


def chart_of(results: Results, dataset: str, kind: str) -> AnyChart | None:
    """One chart of one dataset, or None where nothing was measured for it.

    Args:
        results: the content of ``results.json``.
        dataset: one of its datasets.
        kind: one of :data:`KINDS`.
    """
    baseline, rows = baseline_of(results), partial(rows_of, results, dataset=dataset)
    title = {
        "curves": "Test accuracy",
        "efficiency": f"Data efficiency against {baseline}",
        "chosen": "New in the train set",
        "understood": "How well it was understood",
        "cost": "Cost of a run",
        "forecast": "Forecast of test accuracy",
    }[kind] + (f" on {dataset}" if dataset else "")
    if kind == "understood":
        return charts.understood_map(_map_tables(results, dataset)[1], title=title)
    if kind == "chosen":
        return charts.chosen_map(_map_tables(results, dataset)[0], title=title, baseline=baseline)
    if kind == "forecast":
        points = rows_of(results.get("forecast") or {}, "points", dataset)
        return charts.forecast_scatter(points, title=title, baseline=baseline)
    if kind == "efficiency":
        return charts.efficiency_forest(rows("efficiency"), title=title, baseline=baseline)
    if kind == "cost":
        return charts.cost_bars(rows("cost"), title=title, baseline=baseline)
    return charts.learning_curves(rows("curves"), title=title, baseline=baseline)


def charts_of(results: Results, dataset: str) -> dict[str, AnyChart]:
    """All charts of one dataset by kind; a kind is absent where nothing was measured for it."""
    found = {kind: chart_of(results, dataset, kind) for kind in KINDS}
    return {kind: chart for kind, chart in found.items() if chart is not None}


def _map_tables(
    results: Results, dataset: str
) -> tuple[tables.GroupTable | None, dict[str, tables.GroupTable | None]]:
    """Who was chosen when, and how well each group was understood by each measure."""
    selection, scores = (
        rows_of(results, "selection", dataset),
        rows_of(results, "data_map", dataset),
    )
    groups = tables.group_order(scores, selection)
    understood = {
        words: tables.understood_table(scores, groups, measure)
        for measure, words in tables.MEASURES.items()
    }
    return tables.chosen_table(selection, groups), understood


def _render(
    results: Results, drawn: Mapping[str, AnyChart], svgs: Mapping[str, str], headline: str
) -> str:
    """The page as text. Without scripts and on paper the static charts stand in it."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    examples = list(results.get("examples") or [])
    names = slugs(dataset_names(results))
    specs = json.dumps(_finite({name: page_spec(chart) for name, chart in drawn.items()}))
    return environment.get_template("report.html").render(
        headline=headline,
        baseline=baseline_of(results),
        axis=AXIS_WORDS[results.get("axis") or "unique_examples"][2],
        verdicts=verdicts_by_dataset(results),
        datasets=[_section(results, name, file, drawn, svgs) for name, file in names.items()],
        forecast=results.get("forecast") or {},
        examples=examples[:MOST_EXAMPLES],
        examples_total=len(examples),
        browsed=results.get("browsed") or [],
        choices={key: _choices(examples, key) for key in ("dataset", "strategy", "group")},
        notes=[*(results.get("left_out") or []), *(results.get("notes") or [])],
        merged_from=results.get("merged_from") or [],
        config=_pretty(results.get("config")),
        environment=results.get("environment") or {},
        shades=DARK,
        specs=Markup(packed(specs)),
        library=Markup(chart_library()),
    )


def _section(
    results: Results,
    name: str,
    file: str,
    drawn: Mapping[str, AnyChart],
    svgs: Mapping[str, str],
) -> dict[str, Any]:
    """What the template shows of one dataset."""
    budgets, lines = tables.comparison(results, name)
    chosen, understood = _map_tables(results, name)
    kinds = [key.removeprefix(f"{file}-") for key in drawn if key.rpartition("-")[0] == file]
    of = f" on {name}" if name else ""
    return {
        "name": name,
        "id": f"data-{file}",  # cannot meet the ids of the page itself
        "file": file,
        "kinds": kinds,
        "svg": {
            kind: Markup(
                inline_svg(
                    svgs[f"{file}-{kind}"],
                    f"{file}-{kind}",
                    f"The chart of {kind}{of}. The numbers are in the tables of this section.",
                )
            )
            for kind in kinds
            if f"{file}-{kind}" in svgs
        },
        "budgets": budgets,
        "lines": lines,
        "targets": tables.target_table(rows_of(results, "targets", name)),
        "shares": tables.share_rows(rows_of(results, "oracle_share", name)),
        "whole": tables.whole_rows(results, name),
        "costs": tables.cost_table(rows_of(results, "efficiency_by_cost", name)),
        "chosen": chosen,
        "understood": next(filter(None, understood.values()), None),
        "audit": audit_section(results, name),
        "choices": tables.choice_lines(rows_of(results, "choices", name)),
    }


def verdicts_by_dataset(results: Results) -> list[dict[str, Any]]:
    """Verdicts with the dataset that their first word names ("mixed: ..."), if it names one.

    Example:
        >>> verdicts_by_dataset({"datasets": ["mixed"], "verdicts": ["mixed: a.", "b."]})
        [{'order': 0, 'dataset': 'mixed', 'text': 'a.'}, {'order': 1, 'dataset': '', 'text': 'b.'}]
    """
    names, found = dataset_names(results), []
    for order, verdict in enumerate(results.get("verdicts") or []):
        head, colon, rest = str(verdict).partition(": ")
        dataset, text = (head, rest) if colon and head in names else ("", str(verdict))
        found.append({"order": order, "dataset": dataset, "text": text})
    return found


def _finite(value: Any) -> Any:
    """The same value with NaN and infinities as null, which JSON can say."""
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else None
    return value.item() if isinstance(value, np.generic) else value


def _choices(examples: Sequence[Mapping[str, Any]], key: str) -> list[str]:
    return sorted({str(row.get(key) or "") for row in examples} - {""})


def _pretty(value: Any) -> str:
    """Indented JSON with short lists on one line."""
    text = json.dumps(_finite(value), indent=2, ensure_ascii=False, default=str)
    return re.sub(
        r"\[\n\s+([^\[\]{}]{1,90}?)\n\s+\]",
        lambda found: "[" + re.sub(r"\n +", " ", found.group(1)) + "]",
        text,
    )
