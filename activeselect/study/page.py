"""The HTML of the report: what the template is given."""

from __future__ import annotations

import base64
import functools
import gzip
import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup

from activeselect.study import datamap, interactive
from activeselect.study.tables import (
    Results,
    baseline_of,
    bill_table,
    comparison,
    preset_names,
    rows_of,
    share_rows,
    slugs,
    target_table,
    whole_rows,
)
from activeselect.study.verdicts import AXES

MOST_EXAMPLES = 500
_TEMPLATES = Path(__file__).parent / "templates"


def render(results: Results, svgs: Mapping[str, str], headline: str) -> str:
    """The page as text, with these figures (SVG made by this package) as what shows first.

    Without scripts, on paper and until the charts are ready the static figures stand there.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    examples = list(results.get("examples") or [])
    names = slugs(preset_names(results))
    charts = {f"{file}-{k}": c for n, file in names.items() for k, c in _charts(results, n).items()}
    return environment.get_template("report.html").render(
        headline=headline,
        baseline=baseline_of(results),
        axis=AXES[results.get("axis") or "unique_examples"][2],
        verdicts=verdicts_by_preset(results),
        presets=[_preset(results, n, file, svgs, charts) for n, file in names.items()],
        forecast=results.get("forecast") or {},
        examples=examples[:MOST_EXAMPLES],
        examples_total=len(examples),
        browsed=results.get("browsed") or [],
        choices={key: _choices(examples, key) for key in ("preset", "strategy", "group")},
        notes=[*(results.get("left_out") or []), *(results.get("notes") or [])],
        merged_from=results.get("merged_from") or [],
        config=_pretty(results.get("config")),
        environment=results.get("environment") or {},
        data=json_for_script({k: v for k, v in results.items() if k != "examples"}),
        charts=json_for_script(charts),
        chart_labels={key: chart["label"] for key, chart in charts.items()},
        chart_views={key: [view["name"] for view in c["views"]] for key, c in charts.items()},
        library=Markup(plotly_library()),
    )


@functools.cache
def plotly_library() -> str:
    """plotly.js, compressed and as text: 2 MB instead of 5; the browser unpacks it."""
    from plotly.offline import get_plotlyjs

    packed = gzip.compress(get_plotlyjs().encode("utf-8"), compresslevel=9, mtime=0)
    return base64.b64encode(packed).decode("ascii")


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


def _charts(results: Results, name: str) -> dict[str, interactive.Chart]:
    """The interactive figures of one dataset, by kind."""
    baseline = baseline_of(results)
    chosen, understood = rows_of(results, "selection", name), rows_of(results, "data_map", name)
    groups = datamap.group_order(understood, chosen)
    points = rows_of(results.get("forecast") or {}, "points", name)
    found = {
        "curves": interactive.learning_curves(rows_of(results, "curves", name), baseline=baseline),
        "efficiency": interactive.efficiency_forest(
            rows_of(results, "efficiency", name), baseline=baseline
        ),
        "cost": interactive.cost_bars(rows_of(results, "cost", name)),
        "forecast": interactive.forecast_scatter(points, baseline=baseline),
        "chosen": datamap.chosen_chart(datamap.chosen_table(chosen, groups), baseline),
        "understood": datamap.understood_chart(understood, groups),
    }
    return {kind: chart for kind, chart in found.items() if chart is not None}


def _preset(
    results: Results,
    name: str,
    file: str,
    svgs: Mapping[str, str],
    charts: Mapping[str, interactive.Chart],
) -> dict[str, Any]:
    budgets, lines = comparison(results, name)
    chosen, understood = rows_of(results, "selection", name), rows_of(results, "data_map", name)
    groups = datamap.group_order(understood, chosen)
    tables = (datamap.understood_table(understood, groups, m) for m in datamap.MEASURES)
    return {
        "name": name,
        "id": f"data-{file}",  # cannot meet the ids of the page itself
        "file": file,
        "svg": {
            kind: Markup(svgs.get(f"{file}-{kind}", ""))
            for kind in ("curves", "efficiency", "cost", "forecast")
        },
        "charts": {key for key in charts if key.startswith(f"{file}-")},
        "budgets": budgets,
        "lines": lines,
        "targets": target_table(rows_of(results, "targets", name)),
        "shares": share_rows(rows_of(results, "oracle_share", name)),
        "whole": whole_rows(results, name),
        "bills": bill_table(rows_of(results, "bills", name)),
        "chosen": datamap.chosen_table(chosen, groups),
        "understood": next(filter(None, tables), None),
    }


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
