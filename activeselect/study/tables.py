"""The tables of a study: rows of ``results.json`` for the terminal, Markdown, CSV and report."""

from __future__ import annotations

import csv
import io
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from rich.table import Table
from rich.text import Text
from scipy import stats

from activeselect.config import AXES
from activeselect.study.verdicts import AXIS_WORDS, evidence_of, range_text, ratio_with_interval

Results = Mapping[str, Any]
Rows = Sequence[Mapping[str, Any]]
GroupTable = dict[str, Any]
MEASURES = {
    "premem": "pre-memorization accuracy",
    "accuracy": "accuracy of the samples",
    "prequential": "accuracy before it was trained on",
}
_MOST_COLUMNS = 5  # that 80 columns hold
CURVE_COLUMNS = (
    "dataset",
    "strategy",
    "seed",
    "budget",
    "unique_examples",
    "samples_seen",
    "test_accuracy",
    "test_examples",
)


def dataset_names(results: Results) -> list[str]:
    """The datasets of a study in the order in which they were run."""
    named = results.get("datasets")
    if named:
        return [str(name) for name in named]
    return list(dict.fromkeys(str(row.get("dataset", "")) for row in results.get("curves", [])))


def rows_of(results: Results, key: str, dataset: str) -> list[dict[str, Any]]:
    """The rows of one table that belong to a dataset; none where the table is missing."""
    return [row for row in results.get(key) or [] if str(row.get("dataset", "")) == dataset]


def summarise(rows: Rows, level: float = 0.95) -> dict[str, list[dict[str, Any]]]:
    """Mean accuracy per strategy and budget with a t-interval over seeds.

    Args:
        rows: rows of ``results["curves"]`` of one dataset.
        level: coverage of the interval.

    Returns:
        Per strategy a list by rising budget of ``budget, mean, half, seeds``; ``half`` (half the
        width of the interval) is NaN with one seed, and where all seeds are equal: that says how
        coarse the test is, not that the mean is certain.

    Example:
        >>> rows = [dict(strategy="random", seed=s, budget=10, test_accuracy=a)
        ...         for s, a in enumerate([0.4, 0.6])]
        >>> point = summarise(rows)["random"][0]
        >>> point["mean"], round(point["half"], 2)
        (0.5, 1.27)
    """
    result: dict[str, list[dict[str, Any]]] = {}
    for name in dict.fromkeys(row["strategy"] for row in rows):
        own = [row for row in rows if row["strategy"] == name]
        for budget in sorted({row["budget"] for row in own}):
            values = [row["test_accuracy"] for row in own if row["budget"] == budget]
            half = float("nan")
            if len(values) > 1:
                error = np.std(values, ddof=1) / np.sqrt(len(values))
                half = float(stats.t.ppf((1 + level) / 2, len(values) - 1) * error) or half
            point = {"budget": budget, "mean": float(np.mean(values)), "half": half}
            result.setdefault(name, []).append(point | {"seeds": len(values)})
    return result


def baseline_of(results: Results) -> str:
    """The strategy that the others are compared with."""
    return next((str(row["baseline"]) for row in results.get("efficiency") or []), "random")


def oracle_of(results: Results) -> str:
    """What the oracle allocation is called in this study."""
    return next(
        (str(r["oracle"]) for r in results.get("oracle_share") or [] if r.get("oracle")), "oracle"
    )


def comparison(results: Results, dataset: str) -> tuple[list[Any], list[dict[str, Any]]]:
    """Budgets, and one line per strategy: accuracy and ratio at every budget.

    Returns:
        The budgets, and dicts ``strategy, overall, cells``; each cell is a dict ``accuracy,
        ratio, evidence`` of strings (empty where nothing was measured).
    """
    summary = summarise(rows_of(results, "curves", dataset))
    ratios = {
        (row["strategy"], row.get("budget")): row for row in rows_of(results, "efficiency", dataset)
    }
    budgets = sorted({point["budget"] for points in summary.values() for point in points})
    lines = []
    for name, points in summary.items():
        measured = {point["budget"]: point for point in points}
        cells = [_cell(measured.get(b), ratios.get((name, b))) for b in budgets]
        overall = _cell(None, ratios.get((name, None)))
        lines.append({"strategy": name, "cells": cells, "overall": overall})
    return budgets, lines


def _cell(point: Mapping[str, Any] | None, row: Mapping[str, Any] | None) -> dict[str, str]:
    accuracy = ""
    if point is not None:
        accuracy = f"{point['mean']:.3f}"
        if point["half"] == point["half"]:  # NaN with one seed
            accuracy += f" ± {point['half']:.3f}"
    if row is None or row["ratio"] is None:
        return {"accuracy": accuracy, "ratio": "", "evidence": "none"}
    ratio = ratio_with_interval(row)
    return {"accuracy": accuracy, "ratio": ratio, "evidence": evidence_of(row)}


def target_table(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """What every strategy needs to reach the baseline's accuracies.

    Returns:
        ``targets`` (dicts ``budget, accuracy``) and ``lines`` (dicts ``strategy, cells``; a cell
        has ``needed`` and ``ratio`` as text and ``evidence``), or None without rows.
    """
    targets = {row["budget"]: row["target_accuracy"] for row in rows}
    lines = []
    for name in dict.fromkeys(row["strategy"] for row in rows):
        own = {row["budget"]: row for row in rows if row["strategy"] == name}
        cells = [_target_cell(own.get(budget)) for budget in sorted(targets)]
        lines.append({"strategy": name, "cells": cells})
    heads = [{"budget": b, "accuracy": f"{targets[b]:.1%}"} for b in sorted(targets)]
    return {"targets": heads, "lines": lines} if lines else None


def _target_cell(row: Mapping[str, Any] | None) -> dict[str, str]:
    if row is None or not row["ratio"]:
        return {"needed": "", "ratio": "", "evidence": "none"}
    sign = {"above": "<", "below": ">"}.get(row["censored"] or "", "")
    needed = f"{sign}{row['budget'] / row['ratio']:,.0f}"
    return {"needed": needed, "ratio": ratio_with_interval(row), "evidence": evidence_of(row)}


def results_table(results: Results) -> Table:
    """The table that ends a study in the terminal.

    One line per strategy, one column per budget: mean test accuracy with its 95% interval over
    seeds, and below it the data-efficiency ratio with its interval. Green and red mark intervals
    that exclude 1. Of more than five budgets five are shown, the last among them.
    """
    datasets = dataset_names(results)
    measured = sorted({row["budget"] for row in results.get("curves") or []})
    last = len(measured) - 1
    places = {round(i * last / (_MOST_COLUMNS - 1)) for i in range(_MOST_COLUMNS)}
    budgets = [b for i, b in enumerate(measured) if last < _MOST_COLUMNS or i in places]
    left_out = len(measured) - len(budgets)
    more = f"; {left_out} more points are in the report" if left_out else ""
    table = Table(
        title="Test accuracy, and how much less data it took than " + baseline_of(results),
        caption="95% intervals over seeds; a ratio counts only where its interval excludes 1"
        + more,
    )
    if len(datasets) > 1:
        table.add_column("dataset", style="bold")
    table.add_column("strategy", no_wrap=True)
    for budget in budgets:
        table.add_column(f"{budget:,g}", justify="right", overflow="fold")
    table.add_column("whole curve", justify="right", overflow="fold")
    for dataset in datasets:
        own_budgets, lines = comparison(results, dataset)
        for i, line in enumerate(lines):
            cells = dict(zip(own_budgets, line["cells"], strict=True))
            shown = [_terminal(cells[b]) if b in cells else Text() for b in budgets]
            head = [Text(dataset if i == 0 else "")] if len(datasets) > 1 else []
            row = [*head, Text(line["strategy"]), *shown, _terminal(line["overall"])]
            table.add_row(*row, end_section=i == len(lines) - 1)
    return table


def _terminal(cell: Mapping[str, str]) -> Text:
    colour = {"better": "green", "worse": "red"}.get(cell["evidence"], "dim")
    text = Text(cell["accuracy"])
    if cell["ratio"]:
        text.append("\n" if cell["accuracy"] else "")
        text.append(cell["ratio"].replace(" (", "\n("), style=colour)  # 80 columns are few
    return text


def curves_csv(results: Results) -> str:
    """All measured points as CSV text, one line per run and budget."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, CURVE_COLUMNS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for row in results.get("curves") or []:
        writer.writerow({key: _inert(row.get(key, "")) for key in CURVE_COLUMNS})
    return buffer.getvalue()


def _inert(value: Any) -> Any:
    """A cell that a spreadsheet shows and does not compute, whatever a strategy is called.

    Source: OWASP, "CSV Injection".

    Example:
        >>> _inert("=1+1"), _inert("premem"), _inert(-0.5)
        ("'=1+1", 'premem', -0.5)
    """
    begins = isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r"))
    return f"'{value}" if begins else value


def markdown(results: Results, headline: str) -> str:
    """The study on one page of Markdown, with the pictures beside it."""
    parts = [
        "# Study",
        "\n".join(_lines(escaped(headline))),
        *("\n".join(_lines(f"- {escaped(v)}", "  ")) for v in results.get("verdicts") or []),
    ]
    parts[2:] = ["\n".join(parts[2:])] if len(parts) > 2 else []
    for dataset, file in slugs(dataset_names(results)).items():
        parts += [f"## {escaped(dataset)}", _markdown_table(results, dataset)]
        parts.append(f"![Learning curves of {escaped(dataset)}](figures/{file}-curves.svg)")
    return "\n\n".join(parts) + "\n"


def _lines(text: str, indent: str = "") -> list[str]:
    """Lines of at most 100 columns; Markdown shows them as one."""
    return textwrap.wrap(
        text, 100, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )


def _markdown_table(results: Results, dataset: str) -> str:
    budgets, lines = comparison(results, dataset)
    head = ["strategy", *(f"{b:,g}" for b in budgets), "whole curve"]
    rows = [head, ["---"] * len(head)]
    for line in lines:
        cells = [" ".join(filter(None, (c["accuracy"], c["ratio"]))) for c in line["cells"]]
        rows.append([escaped(line["strategy"]), *cells, line["overall"]["ratio"]])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def escaped(text: str) -> str:
    """Text that Markdown shows as it is, whatever a dataset or strategy is called."""
    for character in "\\`*_[]<>|&~#":
        text = text.replace(character, "\\" + character)
    return text.replace("\n", " ")


def slug(name: str) -> str:
    """A name that is safe as a file name and as an id in a page.

    Example:
        >>> slug("my data/v2")
        'my-data-v2'
    """
    return "".join(c if c.isascii() and (c.isalnum() or c in "-_") else "-" for c in name) or "data"


def slugs(names: Sequence[str]) -> dict[str, str]:
    """A file name and id for every dataset, different even where the names nearly agree.

    Example:
        >>> slugs(["a b", "a-b"])
        {'a b': 'a-b', 'a-b': 'a-b-2'}
    """
    given: dict[str, str] = {}
    for name in names:
        candidate, number = slug(name), 1
        while candidate in given.values():
            number += 1
            candidate = f"{slug(name)}-{number}"
        given[name] = candidate
    return given


def whole_rows(results: Results, dataset: str) -> list[dict[str, str]]:
    """The whole-curve comparison of every strategy in detail, as text."""
    gains = {row["strategy"]: row for row in rows_of(results, "gain", dataset)}
    lines = []
    for row in rows_of(results, "efficiency", dataset):
        if row.get("budget") is not None:
            continue
        gain = gains.get(row["strategy"]) or {}
        together = row.get("comparisons", 1) > 1 and row.get("joint_low") is not None
        share, effect = row.get("share_of_resamples_better"), gain.get("effect_size")
        lines.append(
            {
                "strategy": row["strategy"],
                "evidence": evidence_of(row),
                "ratio": ratio_with_interval(row),
                "together": range_text(row["joint_low"], row["joint_high"]) if together else "",
                "gain": _points(gain),
                "effect": "" if effect is None else f"{effect:+.1f}",
                "seeds": f"{gain['seeds_better']} of {gain['seeds']}"
                if gain.get("seeds_better") is not None
                else "",
                "share": "" if share is None else _share(share),
            }
        )
    return lines


def _points(gain: Mapping[str, Any]) -> str:
    if gain.get("gain") is None:
        return ""
    text = f"{100 * gain['gain']:+.1f}"
    if gain.get("low") is None:
        return text
    return f"{text} ({100 * gain['low']:+.1f} to {100 * gain['high']:+.1f})"


def _share(value: float) -> str:
    """A share of resampled studies; never said to be sure."""
    return "> 99.9%" if value > 0.999 else "< 0.1%" if value < 0.001 else f"{value:.1%}"


def cost_table(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """The whole-curve ratio on every axis of cost that the runs recorded.

    Returns:
        ``axes`` (names in words) and ``lines`` (dicts ``strategy, cells``; a cell has ``ratio``
        as text and ``evidence``), or None with fewer than two axes.
    """
    axes = [axis for axis in AXES if any(row["cost"] == axis for row in rows)]
    if len(axes) < 2:
        return None
    lines = []
    for name in dict.fromkeys(row["strategy"] for row in rows):
        own = {row["cost"]: row for row in rows if row["strategy"] == name}
        cells = [
            {"ratio": ratio_with_interval(own[axis]), "evidence": evidence_of(own[axis])}
            for axis in axes
        ]
        lines.append({"strategy": name, "cells": cells})
    return {"axes": [AXIS_WORDS[axis][2] for axis in axes], "lines": lines}


def share_rows(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """The oracle-share table in words."""
    lines = []
    for row in rows:
        value = "not defined" if row["share"] is None else f"{row['share']:.0%}"
        between = "" if row.get("low") is None else f"{row['low']:.0%} to {row['high']:.0%}"
        note = row.get("note") or ""
        lines.append(
            {"strategy": row["strategy"], "share": value, "interval": between, "note": note}
        )
    return lines


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


def chosen_table(rows: Rows, groups: Sequence[str]) -> GroupTable | None:
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


def understood_table(rows: Rows, groups: Sequence[str], measure: str) -> GroupTable | None:
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


#: Rounds of a strategy that the report shows.
_ROUNDS = 8


def choice_lines(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What each strategy chose in the first rounds of its first run, in words.

    Args:
        rows: of ``results["choices"]``, of one dataset.

    Example:
        >>> row = dict(strategy="premem", seed=0, round=1, examples=8, groups={"sums": 1.0},
        ...     difficulty=None, score=[0.1, 0.5, 2.0], reasons={"premem: drawn": 8}, questions=[])
        >>> line = choice_lines([row])[0]["rounds"][0]
        >>> line["groups"], line["score"], line["why"]
        ('sums 100%', '0.1, 0.5, 2', 'premem: drawn')
    """
    found: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        found.setdefault(row["strategy"], []).append(row)
    return [
        {
            "strategy": strategy,
            "seed": own[0]["seed"],
            "left_out": max(len(own) - _ROUNDS, 0),
            "rounds": [_choice_line(row) for row in own[:_ROUNDS]],
            "questions": [
                {"round": row["round"]} | question
                for row in own[:_ROUNDS]
                for question in row["questions"]
            ],
        }
        for strategy, own in found.items()
    ]


def _choice_line(row: Mapping[str, Any]) -> dict[str, Any]:
    groups = sorted(row["groups"].items(), key=lambda item: -item[1])
    words = [f"{name or 'all'} {share:.0%}" for name, share in groups[:4]]
    words += [f"{len(groups) - 4} more"] if len(groups) > 4 else []
    return {
        "round": row["round"],
        "examples": f"{row['examples']:,}",
        "groups": ", ".join(words),
        "difficulty": "" if row["difficulty"] is None else f"{row['difficulty']:.3g}",
        "score": ", ".join(f"{value:.3g}" for value in row["score"] or ()),
        "why": "; ".join(row["reasons"]),
    }
