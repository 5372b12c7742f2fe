"""The audit's part of a study: what each strategy's models depend on, beside their accuracy.

One value per run, stage and measure (``curves`` of ``results.json``, field ``audit``); strategies
are compared with the baseline by paired seeds, as accuracies are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np
from markupsafe import Markup
from scipy.stats import t as student

from activeselect.audit.catalogue import MEASURES
from activeselect.audit.evidence import evidence
from activeselect.audit.page import chart

Results = Mapping[str, Any]
Row = dict[str, Any]


def audit_rows(results: Results) -> list[Row]:
    """Mean of every measure per dataset, strategy and budget, and its difference to the baseline.

    Args:
        results: ``results.json`` of a study, or what is collected for it.

    Returns:
        dataset, strategy, budget, measure, value, seeds, and difference with low and high (95%,
        Student's t over paired seeds; None with fewer than two).
    """
    baseline = results["config"]["baseline"]
    found: dict[tuple[str, str, int, str], dict[int, float]] = {}
    for row in results["curves"]:
        for name, value in (row.get("audit") or {}).items():
            if value is not None:
                key = (row["dataset"], row["strategy"], row["budget"], name)
                found.setdefault(key, {})[row["seed"]] = value
    rows = []
    for (dataset, strategy, budget, name), by_seed in found.items():
        base = found.get((dataset, baseline, budget, name), {})
        both = sorted(by_seed.keys() & base.keys())
        differences = np.array([by_seed[seed] - base[seed] for seed in both])
        entry: Row = {"dataset": dataset, "strategy": strategy, "budget": budget, "measure": name}
        entry |= {"value": float(np.mean(list(by_seed.values()))), "seeds": len(by_seed)}
        entry |= dict.fromkeys(("difference", "low", "high"))
        if strategy != baseline and len(both):
            entry["difference"] = float(differences.mean())
        if strategy != baseline and len(both) > 1:
            error = differences.std(ddof=1) / np.sqrt(len(both))
            half = float(student.ppf(0.975, len(both) - 1) * error)
            if half > 0:  # equal differences say how coarse the audit is, and are no certainty
                entry |= {"low": entry["difference"] - half, "high": entry["difference"] + half}
        rows.append(entry)
    return rows


def audit_verdicts(rows: Sequence[Row], accuracy: Mapping[tuple[str, str], int]) -> list[str]:
    """A sentence per strategy on accuracy and dependence on the steps, after the largest budget.

    Args:
        rows: of :func:`audit_rows`.
        accuracy: per dataset and strategy, 1 where its test accuracy is clearly above the
            baseline's there, -1 where it is clearly below, 0 otherwise.
    """
    sentences = []
    for dataset, strategy in dict.fromkeys((row["dataset"], row["strategy"]) for row in rows):
        mine = [r for r in rows if (r["dataset"], r["strategy"]) == (dataset, strategy)]
        last = max(row["budget"] for row in mine)
        judged = [
            row
            for row in mine
            if row["budget"] == last and row["low"] is not None and _counts(row["measure"])
        ]
        if not judged:
            continue
        word = {1: "higher", -1: "lower", 0: "same"}[accuracy.get((dataset, strategy), 0)]
        more, less = (
            [MEASURES[row["measure"]].title.lower() for row in judged if _direction(row) == side]
            for side in (1, -1)
        )
        if more and less:
            found = f"more dependence on its steps by {_and(more)}, less by {_and(less)}"
        elif more or less:
            found = f"{'more' if more else 'less'} dependence on its steps ({_and(more or less)})"
        else:
            found = "no difference seen in dependence on its steps"
        sentences.append(f"{dataset}: {strategy}: {word} accuracy, {found}.")
    return sentences


def _counts(name: str) -> bool:
    return bool(MEASURES[name].dependence) and evidence(name) != "at chance"


def _direction(row: Row) -> int:
    sign = 1 if row["low"] > 0 else -1 if row["high"] < 0 else 0
    return sign * MEASURES[row["measure"]].dependence


def _and(names: Sequence[str]) -> str:
    return " and ".join(names)


def accuracy_signs(results: Results) -> dict[tuple[str, str], int]:
    """Whether a strategy's test accuracy at the largest budget is clearly another's, by seeds."""
    runs = [{**row, "audit": {"accuracy": row["test_accuracy"]}} for row in results["curves"]]
    rows = audit_rows({"config": results["config"], "curves": runs})
    found: dict[tuple[str, str], int] = {}
    for row in sorted(rows, key=lambda row: row["budget"]):
        if row["low"] is not None:
            sign = 1 if row["low"] > 0 else -1 if row["high"] < 0 else 0
            found[row["dataset"], row["strategy"]] = sign
    return found


def audit_section(results: Results, dataset: str) -> Markup:
    """The table after the largest budget and a curve per measure; empty where nothing was asked."""
    rows = [row for row in results.get("audit") or [] if row["dataset"] == dataset]
    if not rows:
        return Markup("")
    budgets = sorted({row["budget"] for row in rows})
    names = [name for name in MEASURES if any(row["measure"] == name for row in rows)]
    strategies = list(dict.fromkeys(row["strategy"] for row in rows))
    values = {(row["strategy"], row["budget"], row["measure"]): row for row in rows}
    head = "".join(f"<th scope='col'>{escape(MEASURES[name].title)}</th>" for name in names)
    lines = []
    for strategy in strategies:
        cells = [_cell(values.get((strategy, budgets[-1], name))) for name in names]
        lines.append(f"<tr><th scope='row'>{escape(strategy)}</th>{''.join(cells)}</tr>")
    table = (
        "<div class='scroll' tabindex='0' role='region' aria-label='Reasoning audit'><table>"
        f"<thead><tr><th scope='col'>strategy</th>{head}</tr></thead>"
        f"<tbody>{''.join(lines)}</tbody></table></div>"
    )
    figures = []
    for name in names if len(budgets) > 1 else ():
        measure = MEASURES[name]
        series = {
            s: [(values.get((s, b, name)) or {"value": None})["value"] for b in budgets]
            for s in strategies
        }
        plot = {"kind": "line", "x": budgets, "x_label": "budget", "series": series}
        drawn = chart({**plot, "y_label": f"{measure.title} ({measure.unit})"}, None, measure.title)
        figures.append(f"<figure>{drawn}</figure>")
    return Markup(
        "<h3>Reasoning audit</h3><p class='caption'>What the answers depend on, after the largest "
        "budget: mean over seeds; below it the difference to the baseline with its 95% interval "
        "over paired seeds. None of these numbers proves that a chain tells how its answer was "
        f"found.</p>{table}<div class='figures'>{''.join(figures)}</div>"
    )


def _cell(row: Row | None) -> str:
    if row is None:
        return "<td></td>"
    shown = f"{row['value']:.3f}"
    if row["low"] is not None:
        ends = f"{row['low']:+.3f} to {row['high']:+.3f}"
        shown += f"<small>{row['difference']:+.3f} ({ends})</small>"
    return f"<td>{shown}</td>"
