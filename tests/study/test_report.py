"""The report: complete, self-contained, escaped, and honest when parts are missing."""

from __future__ import annotations

import base64
import copy
import csv
import gzip
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from activeselect.errors import StoreError
from activeselect.study.report import headline_of, write_report
from activeselect.study.results import read_results, upgraded
from activeselect.study.tables import escaped, results_table, summarise

VOID = {"meta", "br", "input", "link", "img", "hr", "path", "use", "rect"}


class Page(HTMLParser):
    """Collects tags, ids and the text of scripts; fails on tags that do not nest."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append("")
        if tag not in VOID and tag != "option":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID and tag != "option":
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "script":
            self.scripts[-1] += data


@pytest.fixture(scope="module")
def written(results: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("study")
    assert write_report(results, out) == out / "report.html"
    return out


@pytest.fixture(scope="module")
def page(written: Path) -> str:
    return (written / "report.html").read_text(encoding="utf-8")


def small(results: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """The same study on one dataset, which renders quickly."""
    one: dict[str, Any] = copy.deepcopy(results) | {"datasets": ["mixed"], **changes}
    return one


def test_writes_every_form(written: Path) -> None:
    names = {path.name for path in written.iterdir()}
    assert names == {"report.html", "report.md", "curves.csv", "figures"}
    figures = {path.name for path in (written / "figures").iterdir()}
    kinds = ("curves", "efficiency", "cost", "forecast")
    datasets = ("mixed", "even", "trap")
    assert figures == {f"{p}-{k}.{e}" for p in datasets for k in kinds for e in ("svg", "png")}


def test_headline_has_an_interval_and_comes_first(results: dict[str, Any], page: str) -> None:
    headline = headline_of(results)
    assert headline.startswith("On mixed: premem needs 1.")
    assert "95% interval" in headline
    assert f"<h1>{headline}</h1>" in page


def test_the_headline_is_of_no_control_where_anything_else_was_compared() -> None:
    rows = [
        {"dataset": "mixed", "strategy": name, "budget": None, "verdict": f"{name} is judged."}
        | {"evidence": "none"}
        for name in ("balanced", "premem")
    ]
    controls = [{"dataset": "mixed", "strategy": "premem"}]
    assert headline_of({"efficiency": rows, "controls": controls, "datasets": ["mixed"]}) == (
        "On mixed: premem is judged."
    )
    assert headline_of({"efficiency": rows[:1], "controls": [], "datasets": ["mixed"]}) == (
        "On mixed: balanced is judged."
    )


def test_needs_no_network(page: str) -> None:
    assert "@import" not in page
    for tag, attributes in Page(page).tags:
        for name in ("src", "href", "action", "data"):
            value = attributes.get(name)
            assert value is None or value.startswith("#"), (tag, name, value)
    for url in re.findall(r"(?:https?:)?//[\w.-]+\.\w+", page):
        assert url in {"http://www.w3.org"}, url  # the names of XML namespaces, never fetched
    for url in re.findall(r"url\(([^)]*)\)", page):
        assert url.startswith("#")


def test_tags_nest_and_ids_are_unique(page: str) -> None:
    parsed = Page(page)
    assert parsed.open == []
    ids = [attributes["id"] for _, attributes in parsed.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    targets = {a["href"] for _, a in parsed.tags if (a.get("href") or "").startswith("#")}
    assert {str(t)[1:] for t in targets} <= set(ids)


def test_dataset_text_is_escaped_everywhere(page: str) -> None:
    parsed = Page(page)
    assert len(parsed.scripts) == 3  # charts, library and ours: none from a question
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert" in page
    assert "<i>trap</i>" not in page
    assert "<b>&amp;" not in page


def unpacked(page: str, number: int) -> str:
    return gzip.decompress(base64.b64decode(Page(page).scripts[number])).decode("utf-8")


def test_the_page_carries_its_charts_and_their_library(page: str) -> None:
    kinds = ("curves", "efficiency", "chosen", "understood", "cost", "forecast")
    specs = json.loads(unpacked(page, 0))
    assert list(specs) == [f"{name}-{kind}" for name in ("mixed", "even", "trap") for kind in kinds]
    assert "vegaEmbed" in unpacked(page, 1)


def test_hostile_names_and_nan_stay_in_the_packed_charts(
    results: dict[str, Any], tmp_path: Path
) -> None:
    one = small(results, efficiency=[])
    name = "</script><!--\u2028"
    one["cost"] = [row | {"strategy": name, "train_s": float("nan")} for row in one["cost"]]
    page = write_report(one, tmp_path).read_text(encoding="utf-8")
    assert len(Page(page).scripts) == 3
    bars = json.loads(unpacked(page, 0))["mixed-cost"]["datasets"]["bars"]
    assert {bar["strategy"] for bar in bars} == {name}
    assert "NaN" not in unpacked(page, 0)


def test_a_report_is_small(page: str) -> None:
    assert len(page.encode("utf-8")) < 1_000_000  # of it 0.4 MB are the library


def test_data_needed_for_the_baselines_accuracy(page: str) -> None:
    assert "Data needed for the accuracy of random" in page


def test_pictures_are_described(page: str) -> None:
    pictures = [a for tag, a in Page(page).tags if tag == "svg"]
    assert len(pictures) == 12
    assert all(a.get("role") == "img" and a.get("aria-label") for a in pictures)


def test_csv_holds_every_point(results: dict[str, Any], written: Path) -> None:
    rows = list(csv.DictReader(io.StringIO((written / "curves.csv").read_text())))
    assert len(rows) == len(results["curves"])
    first = results["curves"][0]
    assert float(rows[0]["test_accuracy"]) == first["test_accuracy"]


def test_markdown_names_pictures_that_exist(written: Path) -> None:
    text = (written / "report.md").read_text(encoding="utf-8")
    for target in re.findall(r"\]\((figures/[^)]*)\)", text):
        assert (written / target).is_file()
    assert "| premem | 0.7" in text


def test_same_results_same_bytes(results: dict[str, Any], tmp_path: Path) -> None:
    one = small(results)
    first, second = (write_report(one, tmp_path / name).parent for name in "ab")
    for path in first.rglob("*.*"):
        assert path.read_bytes() == (second / path.relative_to(first)).read_bytes(), path.name


def test_too_few_runs_and_missing_parts_are_said(results: dict[str, Any], tmp_path: Path) -> None:
    one = small(
        results,
        forecast={
            "protocol": None,
            "r2": None,
            "mae": None,
            "tau": None,
            "n_checkpoints": 0,
            "points": [],
            "note": "only two runs",
        },
        verdicts=[],
    )
    for key in ("oracle_share", "selection", "targets", "examples", "cost", "efficiency"):
        del one[key]
    page = write_report(one, tmp_path).read_text(encoding="utf-8")
    assert "No forecast is stated: only two runs" in page
    assert "Nothing was compared in this study." in page
    assert 'id="examples"' not in page
    alone = one | {"curves": [row for row in one["curves"] if row["strategy"] == "random"]}
    assert headline_of(alone) == "Every run of this study used one strategy: random."


def test_rows_without_our_extra_fields_are_read(results: dict[str, Any], tmp_path: Path) -> None:
    """Only the documented fields: what another version or another tool may have written."""
    fields = "dataset strategy baseline cost budget target_accuracy ratio low high level censored"
    one = small(results)
    one["efficiency"] = [{k: row[k] for k in fields.split()} for row in one["efficiency"]]
    page = write_report(one, tmp_path).read_text(encoding="utf-8")
    assert "premem needs 1." in page


def test_one_seed_and_hostile_names(results: dict[str, Any], tmp_path: Path) -> None:
    one = copy.deepcopy(results) | {"datasets": ["<x>/$y$"], "examples": []}
    one["curves"] = [
        row | {"dataset": "<x>/$y$", "strategy": f"{row['strategy']}$<b>$"}
        for row in one["curves"]
        if row["seed"] == 0 and row["dataset"] == "mixed"
    ]
    one["efficiency"] = one["selection"] = one["cost"] = one["oracle_share"] = []
    page = write_report(one, tmp_path).read_text(encoding="utf-8")
    assert Page(page).open == []
    assert "<x>" not in page
    assert "premem$&lt;b&gt;$" in page  # as it is, not as mathematics


def test_long_lists_of_examples_say_what_is_left_out(
    results: dict[str, Any], tmp_path: Path
) -> None:
    one = small(results, examples=results["examples"] * 30)
    page = write_report(one, tmp_path).read_text(encoding="utf-8")
    assert "The first 500 of 720 are shown." in page


def test_results_of_the_version_before_are_read(results: dict[str, Any], tmp_path: Path) -> None:
    names = {"dataset": "preset", "costs": "bill"}

    def older(value: Any) -> Any:
        if not isinstance(value, list) or not all(isinstance(row, dict) for row in value):
            return value
        return [{names.get(key, key): item for key, item in row.items()} for row in value]

    old = {key: older(value) for key, value in results.items()} | {"schema_version": 1}
    old |= {"bills": old.pop("efficiency_by_cost"), "presets": old.pop("datasets")}
    old["forecast"] = old["forecast"] | {"points": older(results["forecast"]["points"])}
    assert upgraded(old) == results
    (tmp_path / "results.json").write_text(json.dumps(old))
    assert read_results(tmp_path)["curves"] == results["curves"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "expected the folder of a study"),
        ("{", "results.json"),
        ('{"schema_version": 9}', "version 1 or 2; received 9"),
    ],
)
def test_other_files_are_refused(text: str | None, message: str, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / "results.json").write_text(text)
    with pytest.raises(StoreError, match=message):
        read_results(tmp_path)


def test_nothing_half_written_remains(written: Path) -> None:
    assert not [path for path in written.rglob("*") if path.name.startswith(".")]


def test_terminal_table(results: dict[str, Any]) -> None:
    console = Console(width=160, file=io.StringIO(), color_system=None)
    console.print(results_table(results))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "1,200" in text
    assert re.search(r"1\.\d\dx.*\(1\.\d\d-", text, re.DOTALL)
    assert "±" in text


def test_of_many_points_the_terminal_shows_five(results: dict[str, Any]) -> None:
    row = results["curves"][0]
    seen = [row | {"budget": budget, "samples_seen": budget} for budget in range(600, 5400, 600)]
    table = results_table({"curves": seen, "config": results["config"]})
    heads = [str(column.header) for column in table.columns]
    assert heads == ["strategy", "600", "1,800", "3,000", "3,600", "4,800", "whole curve"]
    assert "3 more points are in the report" in str(table.caption)
    assert "more points" not in str(results_table(results).caption)


@pytest.mark.parametrize("accuracies", [[0.0, 0.0], [1.0, 1.0, 1.0], [0.4]])
def test_equal_seeds_give_no_interval_that_is_a_point(accuracies: list[float]) -> None:
    rows = [
        {"dataset": "", "strategy": "random", "seed": seed, "budget": 8, "test_accuracy": value}
        for seed, value in enumerate(accuracies)
    ]
    assert np.isnan(summarise(rows)["random"][0]["half"])
    console = Console(width=80, file=io.StringIO(), color_system=None)
    console.print(results_table({"curves": rows, "config": {"baseline": "random"}}))
    assert "±" not in console.file.getvalue()  # type: ignore[attr-defined]


def test_markdown_text_is_escaped() -> None:
    assert escaped("a|b_<c>") == "a\\|b\\_\\<c\\>"
