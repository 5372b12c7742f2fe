"""The data map's tables, and charts that say what the rows say."""

from __future__ import annotations

from typing import Any

import pytest

from activeselect.study.datamap import (
    chosen_chart,
    chosen_table,
    group_order,
    understood_chart,
    understood_table,
)
from activeselect.study.interactive import learning_curves, plain


def selection(strategy: str, seed: int, counts: dict[int, dict[str, int]]) -> list[dict[str, Any]]:
    key = {"strategy": strategy, "seed": seed}
    return [key | {"budget": b, "groups": groups} for b, groups in counts.items()]


ROWS = [
    *selection("premem", 0, {10: {"easy": 8, "hard": 2}, 20: {"easy": 8, "hard": 12}}),
    *selection("premem", 1, {10: {"easy": 8, "hard": 2}, 20: {"easy": 13, "hard": 7}}),
    *selection("random", 0, {10: {"easy": 8, "hard": 2}, 20: {"easy": 16, "hard": 4}}),
]
SCORES = [
    {"strategy": "premem", "round": r, "stage": r, "epoch": 2, "group": g, "scored": 9.0}
    | {"premem": value, "accuracy": value}
    for r, scores in enumerate([{"easy": 0.9, "hard": 0.1}, {"easy": 0.9, "hard": 0.6}])
    for g, value in scores.items()
]


def test_groups_run_from_the_least_to_the_best_understood() -> None:
    assert group_order(SCORES, ROWS) == ["hard", "easy"]
    assert group_order([], ROWS) == ["easy", "hard"]


def test_only_what_is_new_at_a_budget_counts_as_chosen() -> None:
    table = chosen_table(ROWS, ["hard", "easy"])
    assert table is not None
    columns = {(c["strategy"], c["head"]): c for c in table["columns"]}
    assert columns["premem", "10"]["shares"] == pytest.approx([0.2, 0.8])
    assert columns["premem", "20"]["counts"] == pytest.approx([7.5, 2.5])  # mean over seeds
    assert columns["premem", "20"]["shares"] == pytest.approx([0.75, 0.25])
    assert columns["random", "20"]["shares"] == pytest.approx([0.2, 0.8])
    assert chosen_table([], []) is None


def test_charts_hold_the_tables() -> None:
    table = chosen_table(ROWS, ["hard", "easy"])
    chart = chosen_chart(table, "premem")
    assert chart is not None
    assert [view["name"] for view in chart["views"]] == ["random", "premem"]  # the baseline last
    assert chart["views"][1]["traces"][0]["z"][0] == pytest.approx([0.2, 0.75])
    understood = understood_chart(SCORES, ["hard", "easy"])
    assert understood is not None
    assert understood["views"][0]["traces"][0]["z"] == [[0.1, 0.6], [0.9, 0.9]]
    assert understood["views"][0]["traces"][0]["x"] == ["stage 1<br>epoch 2", "stage 2<br>epoch 2"]


def test_a_group_that_was_not_scored_is_left_open() -> None:
    table = understood_table(SCORES[:3], ["hard", "easy"], "premem")
    assert table is not None
    assert table["columns"][1]["shares"] == [None, 0.9]
    assert understood_table([], ["hard"], "premem") is None


def test_names_are_text_to_plotly() -> None:
    assert plain("<b>x</b> & y") == "&lt;b&gt;x&lt;/b&gt; &amp; y"


def test_one_view_per_axis_that_all_runs_have() -> None:
    rows = [
        {"strategy": "random", "seed": s, "budget": b, "test_accuracy": 0.5 + b / 100}
        | {"bill": {"unique_examples": b, "seconds": 2.0 * b} | ({"tokens_total": 9} if s else {})}
        for s in (0, 1)
        for b in (10, 20)
    ]
    chart = learning_curves(rows, baseline="random")
    assert chart is not None
    assert len(chart["views"]) == 2
    mean = next(t for t in chart["views"][1]["traces"] if t.get("name") == "random")
    assert mean["x"] == pytest.approx([20, 40])
    assert learning_curves([], baseline="random") is None
