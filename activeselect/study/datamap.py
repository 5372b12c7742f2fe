"""Who was chosen when, and how well each group was understood by then: tables and charts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from activeselect.study.figure_style import CYCLE, INK
from activeselect.study.interactive import Chart, axis, ink, layout, plain

Rows = Sequence[Mapping[str, Any]]
Table = dict[str, Any]
MEASURES = {
    "premem": "pre-memorization accuracy",
    "accuracy": "accuracy of the samples",
    "prequential": "accuracy before it was trained on",
}


def group_order(understood: Rows, chosen: Rows) -> list[str]:
    """Groups from the least to the best understood at first; by name where nothing was measured."""
    names = sorted({group for row in chosen for group in row["groups"]})
    names += sorted({str(row["group"]) for row in understood} - set(names))
    first: dict[str, float] = {}
    for row in sorted(understood, key=lambda row: row["round"]):
        value = row.get("premem") if row.get("premem") is not None else row.get("accuracy")
        if value is not None:
            first.setdefault(str(row["group"]), float(value))
    return sorted(names, key=lambda name: (first.get(name, 2.0), name))


def chosen_table(rows: Rows, groups: Sequence[str]) -> Table | None:
    """What joined the train set at each budget, by group.

    Args:
        rows: ``selection`` rows of one dataset.
        groups: in the order to show.

    Returns:
        ``groups``, and ``columns``: dicts ``strategy, head, shares`` (of the examples that are
        new at the budget, mean over seeds) and ``counts``; None when there is nothing to show.
    """
    if not rows or not groups:
        return None
    columns = []
    for strategy in dict.fromkeys(row["strategy"] for row in rows):
        own = [row for row in rows if row["strategy"] == strategy]
        before = np.zeros(len(groups))
        for budget in sorted({row["budget"] for row in own}):
            counts = np.mean(
                [[r["groups"].get(g, 0) for g in groups] for r in own if r["budget"] == budget],
                axis=0,
            )
            new = np.clip(counts - before, 0, None)
            shares = new / max(float(new.sum()), 1e-9)
            column = {"strategy": strategy, "head": f"{budget:,g}", "shares": shares.tolist()}
            columns.append(column | {"counts": new.tolist(), "totals": counts.tolist()})
            before = counts
    return {"groups": list(groups), "columns": columns}


def understood_table(rows: Rows, groups: Sequence[str], measure: str) -> Table | None:
    """A measure over rounds, by group: as :func:`chosen_table`, ``shares`` None if not scored."""
    rows = [row for row in rows if row.get(measure) is not None]
    rows = [row for row in rows if row.get("kind") != "candidates"]
    if not rows or not groups:
        return None
    columns = []
    for strategy in dict.fromkeys(row["strategy"] for row in rows):
        own = [row for row in rows if row["strategy"] == strategy]
        for number in sorted({row["round"] for row in own}):
            found = {row["group"]: row for row in own if row["round"] == number}
            one = next(iter(found.values()))
            columns.append(
                {
                    "strategy": strategy,
                    "head": _when(one),
                    "shares": [found[g][measure] if g in found else None for g in groups],
                    "counts": [found[g]["scored"] if g in found else 0 for g in groups],
                }
            )
    return {"groups": list(groups), "columns": columns}


def _when(row: Mapping[str, Any]) -> str:
    if row.get("stage") is None:
        return f"round {row['round'] + 1}"
    return f"stage {row['stage'] + 1}, epoch {row['epoch']}"


def chosen_chart(table: Table | None, baseline: str) -> Chart | None:
    """New examples per group at each budget; one view per strategy, the baseline's last."""
    if table is None:
        return None
    columns = sorted(table["columns"], key=lambda column: column["strategy"] == baseline)
    table = {**table, "columns": columns}
    top = max(share for column in table["columns"] for share in column["shares"])
    return _heat(
        table,
        "Strategy",
        title="train-set size",
        color=CYCLE[0],
        top=top,
        hover="%{z:.0%} of what was new at %{x}<br>about %{customdata:.0f} examples",
    )


def understood_chart(rows: Rows, groups: Sequence[str]) -> Chart | None:
    """Each measure over rounds; one view per strategy and measure."""
    views: list[Chart] = []
    for measure, words in MEASURES.items():
        table = understood_table(rows, groups, measure)
        if table is None:
            continue
        chart = _heat(
            table,
            "",
            title="",
            color=CYCLE[2],
            top=1.0,
            hover=f"%{{z:.2f}} {words} after %{{x}}<br>about %{{customdata:.0f}} examples scored",
        )
        views += [view | {"name": f"{view['name']}: {words}"} for view in chart["views"]]
    return {"label": "Strategy and measure", "views": views} if views else None


def _heat(table: Table, label: str, *, title: str, color: str, top: float, hover: str) -> Chart:
    groups = [plain(group or "all") for group in table["groups"]]
    views = []
    for strategy in dict.fromkeys(column["strategy"] for column in table["columns"]):
        own = [column for column in table["columns"] if column["strategy"] == strategy]
        by_group = [[column["shares"][i] for column in own] for i in range(len(groups))]
        trace = {
            "type": "heatmap",
            "x": [plain(column["head"]).replace(", ", "<br>") for column in own],
            "y": groups,
            "z": by_group,
            "customdata": [[column["counts"][i] for column in own] for i in range(len(groups))],
            "zmin": 0,
            "zmax": top,
            "xgap": 2,
            "ygap": 2,
            "colorscale": [[0, ink(color, 0)], [1, ink(color, 0.55)]],  # text stays readable
            "showscale": False,
            "texttemplate": "%{z:.0%}" if len(own) <= 8 else "",
            "textfont": {"color": ink(INK), "size": 12},
            "hovertemplate": f"<b>%{{y}}</b><br>{hover}<extra></extra>",
        }
        figure = layout(
            90 + 26 * len(groups),
            xaxis=axis(title, type="category", showgrid=False),
            yaxis=axis(type="category", autorange="reversed", showgrid=False),
        )
        views.append({"name": strategy, "traces": [trace], "layout": figure})
    return {"label": label, "views": views}
