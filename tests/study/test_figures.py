"""Figures: drawn from rows, text kept as text, the same bytes twice, and no pyplot state."""

from __future__ import annotations

import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from activeselect.files import write_bytes
from activeselect.study.figure_style import (
    CYCLE,
    inline_svg,
    save_figure,
    spread,
    strategy_styles,
    svg_text,
)
from activeselect.study.figures import cost_bars, forecast_scatter, learning_curves, summarise
from activeselect.study.forest import efficiency_forest


def of(results: dict[str, Any], key: str, preset: str = "mixed") -> list[dict[str, Any]]:
    return [row for row in results[key] if row["preset"] == preset]


def test_ticks_are_the_measured_budgets(results: dict[str, Any]) -> None:
    figure = learning_curves(of(results, "curves"))
    assert list(figure.axes[0].get_xticks()) == [150, 300, 600, 1200]
    text = svg_text(figure, "x")
    assert "1,200" in text  # kept as text, not as outlines
    assert "premem" in text


def test_mean_and_band(results: dict[str, Any]) -> None:
    rows = [r for r in of(results, "curves") if r["strategy"] == "premem" and r["budget"] == 600]
    values = [row["test_accuracy"] for row in rows]
    point = summarise(rows)["premem"][0]
    assert point["mean"] == pytest.approx(np.mean(values))
    assert point["half"] == pytest.approx(2.776 * np.std(values, ddof=1) / np.sqrt(5), rel=1e-3)
    assert np.isnan(summarise(rows[:1])["premem"][0]["half"])


def test_forest_shows_censored_rows_as_bounds(results: dict[str, Any]) -> None:
    figure = efficiency_forest(of(results, "efficiency"))
    assert figure is not None
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert any(text.startswith(">") for text in texts)
    assert efficiency_forest([]) is None


def test_cost_and_forecast_with_nulls(results: dict[str, Any]) -> None:
    assert cost_bars([]) is None
    points = [p | {"forecast": None} for p in results["forecast"]["points"]]
    assert forecast_scatter(points) is None
    open_ended = [p | {"low": None, "high": None} for p in results["forecast"]["points"][:2]]
    assert forecast_scatter(open_ended) is not None
    rows = [row | {"score_s": None} for row in of(results, "cost")]
    assert cost_bars(rows) is not None


def test_files_are_deterministic_and_valid(results: dict[str, Any], tmp_path: Path) -> None:
    for folder in (tmp_path / "a", tmp_path / "b"):
        figure = efficiency_forest(of(results, "efficiency"))
        assert figure is not None
        svg = save_figure(figure, folder, "forest")
    for name in ("forest.svg", "forest.png"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert (tmp_path / "a" / "forest.svg").read_text(encoding="utf-8") == svg
    ElementTree.fromstring(svg)
    assert "dc:date" not in svg


def test_inline_svg_is_themed_and_described(results: dict[str, Any]) -> None:
    text = inline_svg(svg_text(learning_curves(of(results, "curves")), "one"), "one", 'a "<b>"')
    ElementTree.fromstring(text)
    assert text.startswith("<svg viewBox=")
    assert 'aria-label="a &quot;&lt;b&gt;&quot;"' in text
    assert "var(--x0072b2, #0072b2)" in text
    assert "url(#one-" in text


def test_strategies_keep_their_colour_and_never_the_baselines() -> None:
    names = ["random", "premem", "oracle", *(f"s{i}" for i in range(12))]
    styles = strategy_styles(names)
    assert styles["premem"]["color"] == CYCLE[0]
    assert styles["random"]["color"] not in CYCLE
    looks = {(s["color"], s["marker"], s["linestyle"]) for s in styles.values()}
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


def test_no_global_state_is_touched(results: dict[str, Any]) -> None:
    before = dict(mpl.rcParams)
    svg_text(learning_curves(of(results, "curves")), "x")
    assert dict(mpl.rcParams) == before


def test_neither_torch_nor_pyplot_is_imported() -> None:
    code = (
        "import sys, activeselect.study.report, activeselect.study.efficiency;"
        "print([m for m in ('torch', 'matplotlib.pyplot') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
