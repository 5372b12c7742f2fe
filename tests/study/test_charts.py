"""Charts: valid Vega-Lite that holds what the rows say, and the same bytes twice."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from activeselect.errors import DataError
from activeselect.files import write_bytes
from activeselect.study import charts, tables
from activeselect.study.report import charts_of
from activeselect.study.tables import summarise
from activeselect.study.theme import (
    CYCLE,
    DARK,
    AnyChart,
    inline_svg,
    page_spec,
    save_chart,
    spec_of,
    spread,
    strategy_styles,
    svg_text,
)

KINDS = {"curves", "efficiency", "cost", "forecast", "chosen", "understood"}


def of(results: dict[str, Any], key: str, dataset: str = "mixed") -> list[dict[str, Any]]:
    return [row for row in results[key] if row["dataset"] == dataset]


def data_in(chart: AnyChart | None) -> Iterator[dict[str, Any]]:
    """Every row of data of a chart."""
    assert chart is not None
    return itertools.chain.from_iterable(spec_of(chart)["datasets"].values())


def choices(chart: AnyChart | None) -> dict[str, list[str]]:
    """What the reader of a chart may choose, by parameter."""
    assert chart is not None
    found = spec_of(chart)["params"]
    return {p["name"]: p["bind"]["options"] for p in found if isinstance(p.get("bind"), dict)}


@pytest.fixture(scope="module")
def drawn(results: dict[str, Any]) -> dict[str, AnyChart]:
    return charts_of(results, "mixed")


def test_every_chart_is_valid_vega_lite_and_draws(drawn: dict[str, AnyChart]) -> None:
    assert set(drawn) == KINDS
    for kind, chart in drawn.items():
        chart.to_dict(validate=True)
        text = svg_text(chart)
        ElementTree.fromstring(text)
        assert "NaN" not in text, kind
        assert "undefined" not in text, kind


def test_colours_have_a_dark_partner(drawn: dict[str, AnyChart]) -> None:
    for kind, chart in drawn.items():
        text = json.dumps(spec_of(chart))
        used = {text[i : i + 7] for i in range(len(text)) if text[i - 1 : i + 1] == '"#'}
        assert used <= set(DARK), kind


def test_ticks_are_the_measured_budgets(drawn: dict[str, AnyChart]) -> None:
    text = svg_text(drawn["curves"])
    for tick in ("150", "300", "600", "1,200"):
        assert f">{tick}<" in text
    assert ">training examples (log scale)<" in text
    assert ">premem  9" in text  # its name and accuracy at the end of its curve


def test_mean_and_band(results: dict[str, Any], drawn: dict[str, AnyChart]) -> None:
    rows = [r for r in of(results, "curves") if r["strategy"] == "premem" and r["budget"] == 600]
    values = [row["test_accuracy"] for row in rows]
    point = summarise(rows)["premem"][0]
    assert point["mean"] == pytest.approx(np.mean(values))
    assert point["half"] == pytest.approx(2.776 * np.std(values, ddof=1) / np.sqrt(5), rel=1e-3)
    assert np.isnan(summarise(rows[:1])["premem"][0]["half"])
    shown = next(
        row
        for row in data_in(drawn["curves"])
        if row.get("strategy") == "premem" and row.get("budget") == 600 and "half" in row
    )
    assert shown["accuracy"] == pytest.approx(point["mean"], rel=1e-4)
    assert shown["high"] - shown["low"] == pytest.approx(2 * point["half"], rel=1e-3)


def test_one_seed_draws_no_band(results: dict[str, Any]) -> None:
    rows = [row for row in of(results, "curves") if row["seed"] == 0]
    assert all(
        row["half"] is None for row in data_in(charts.learning_curves(rows)) if "half" in row
    )


def test_the_reader_chooses_an_axis_that_all_runs_have() -> None:
    rows = [
        {"strategy": "random", "seed": s, "budget": b, "test_accuracy": 0.5 + b / 100}
        | {"costs": {"unique_examples": b, "seconds": 2.0 * b} | ({"tokens_total": 9} if s else {})}
        for s in (0, 1)
        for b in (10, 20)
    ]
    chart = charts.learning_curves(rows)
    assert choices(chart) == {"cost": ["unique_examples", "seconds"]}
    means = [row for row in data_in(chart) if "half" in row]
    assert [row["seconds"] for row in means] == pytest.approx([20, 40])
    for row in rows:
        row["costs"] = {}
    assert choices(charts.learning_curves(rows)) == {}
    assert charts.learning_curves([]) is None


def test_a_forest_draws_bounds_as_arrows_and_names_them(results: dict[str, Any]) -> None:
    rows = of(results, "efficiency")
    chart = charts.efficiency_forest(rows)
    lines = [row for row in data_in(chart) if "place" in row]
    assert len(lines) == len([row for row in rows if row["ratio"] is not None])
    assert any(row["value"].startswith(">") for row in lines)
    assert all(row["low"] <= row["high"] for row in lines)
    assert any(row.get("shape") == "triangle-right" and "x" in row for row in data_in(chart))
    assert charts.efficiency_forest([]) is None


def test_an_interval_beyond_the_axis_ends_in_an_arrow(results: dict[str, Any]) -> None:
    row = of(results, "efficiency")[0] | {"low": 1e-9, "ratio": 40.0, "high": 1e9}
    lines = [row for row in data_in(charts.efficiency_forest([row])) if "place" in row]
    assert (lines[0]["low"], lines[0]["ratio"], lines[0]["high"]) == (0.1, 10.0, 10.0)


def test_cost_and_forecast_with_nulls(results: dict[str, Any]) -> None:
    assert charts.cost_bars([]) is None
    points = results["forecast"]["points"]
    assert charts.forecast_scatter([p | {"forecast": None} for p in points]) is None
    open_ended = charts.forecast_scatter([p | {"low": None, "high": None} for p in points[:2]])
    assert open_ended is not None
    svg_text(open_ended)
    rows = [row | {"score_s": None} for row in of(results, "cost")]
    chart = charts.cost_bars(rows)
    assert choices(chart) == {"unit": ["seconds", "tokens"]}
    scoring = [row for row in data_in(chart) if row.get("part") == "scoring"]
    assert [row["value"] for row in scoring] == [0.0] * 3


def selection(strategy: str, seed: int, counts: dict[int, dict[str, int]]) -> list[dict[str, Any]]:
    key = {"strategy": strategy, "seed": seed}
    return [key | {"budget": b, "groups": groups} for b, groups in counts.items()]


CHOSEN = [
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
    assert tables.group_order(SCORES, CHOSEN) == ["hard", "easy"]
    assert tables.group_order([], CHOSEN) == ["easy", "hard"]


def test_only_what_is_new_at_a_budget_counts_as_chosen() -> None:
    table = tables.chosen_table(CHOSEN, ["hard", "easy"])
    assert table is not None
    columns = {(c["strategy"], c["head"]): c for c in table["columns"]}
    assert columns["premem", "10"]["shares"] == pytest.approx([0.2, 0.8])
    assert columns["premem", "20"]["counts"] == pytest.approx([7.5, 2.5])  # mean over seeds
    assert columns["premem", "20"]["shares"] == pytest.approx([0.75, 0.25])
    assert columns["random", "20"]["shares"] == pytest.approx([0.2, 0.8])
    assert tables.chosen_table([], []) is None


def test_maps_hold_the_tables() -> None:
    chart = charts.chosen_map(tables.chosen_table(CHOSEN, ["hard", "easy"]), baseline="premem")
    assert choices(chart) == {"view": ["random", "premem"]}  # the baseline last
    shares = {(c["view"], c["column"], c["group"]): c["share"] for c in data_in(chart)}
    assert shares["premem", "20", "hard"] == pytest.approx(0.75)
    understood = charts.understood_map(
        {m: tables.understood_table(SCORES, ["hard", "easy"], m) for m in ("premem", "accuracy")}
    )
    cells = [c for c in data_in(understood) if c["view"] == "premem: premem"]
    assert [c["share"] for c in cells if c["group"] == "hard"][:2] == [0.1, 0.6]
    assert cells[0]["column"] == "stage 1, epoch 2"
    assert charts.chosen_map(None) is None
    assert charts.understood_map({"premem": None}) is None


def test_a_group_that_was_not_scored_is_left_open() -> None:
    table = tables.understood_table(SCORES[:3], ["hard", "easy"], "premem")
    assert table is not None
    assert table["columns"][1]["shares"] == [None, 0.9]
    assert tables.understood_table([], ["hard"], "premem") is None


def test_files_are_deterministic_and_of_three_kinds(
    drawn: dict[str, AnyChart], results: dict[str, Any], tmp_path: Path
) -> None:
    again = charts_of(results, "mixed")
    for kind, chart in drawn.items():
        assert spec_of(chart) == spec_of(again[kind])
    starts = {"svg": b"<svg", "png": b"\x89PNG", "pdf": b"%PDF"}
    for ending, start in starts.items():
        path = save_chart(drawn["cost"], tmp_path / "new" / f"a.{ending}")
        assert path.read_bytes().startswith(start)
    first = (tmp_path / "new" / "a.png").read_bytes()
    assert save_chart(again["cost"], tmp_path / "b.png").read_bytes() == first
    with pytest.raises(DataError, match=r"a\.txt: expected a name ending in \.svg, \.png, \.pdf"):
        save_chart(drawn["cost"], tmp_path / "a.txt")


def test_inline_svg_is_described_and_keeps_its_ids_apart(drawn: dict[str, AnyChart]) -> None:
    text = inline_svg(svg_text(drawn["curves"]), "one", 'a "<b>"')
    ElementTree.fromstring(text)
    assert text.startswith("<svg viewBox=")
    assert 'aria-label="a &quot;&lt;b&gt;&quot;"' in text
    assert 'fill="#0072b2"' in text  # the page's style sheet names this colour
    assert "url(#one-" in text
    assert 'fill="#ffffff"' not in text  # no ground of its own


def test_a_page_gives_a_chart_its_width(drawn: dict[str, AnyChart]) -> None:
    for chart in drawn.values():
        spec = page_spec(chart)
        assert spec["width"] == "container"
        assert "title" not in spec


def test_strategies_keep_their_colour_and_never_the_baselines() -> None:
    names = ["random", "premem", "oracle", *(f"s{i}" for i in range(12))]
    styles = strategy_styles(names)
    assert styles["premem"]["color"] == CYCLE[0]
    assert styles["random"]["color"] not in CYCLE
    looks = {(s["color"], s["shape"], str(s["dash"])) for s in styles.values()}
    assert len(looks) == len(names)


@settings(deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_labels_keep_their_distance_and_order(ends: list[float]) -> None:
    moved = np.array(spread(ends, 0.1))
    order = np.argsort(ends, kind="stable")
    assert np.all(np.diff(moved[order]) >= 0.1 - 1e-9)


def test_atomic_write_leaves_the_old_file_on_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.txt"
    write_bytes(path, b"old")

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write_bytes(path, b"new")
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_a_report_imports_no_other_drawing_library() -> None:
    code = (
        "import sys, activeselect.study.report, activeselect.study.efficiency;"
        "print([m for m in ('torch', 'matplotlib', 'plotly', 'pandas') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
