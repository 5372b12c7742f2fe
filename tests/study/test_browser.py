"""The report in a real browser: drawn without an error, filtered, themed, hostile text dead."""

from __future__ import annotations

import copy
import json
import re
import shutil
import subprocess
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from activeselect.study.report import write_report

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="chromium is not on this machine")

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--enable-logging=stderr",
    "--v=0",
    "--virtual-time-budget=180000",
    "--window-size=1100,1400",
]
#: Appended to a page: does what a reader does, and leaves what it saw in the page.
PROBE = """
<script>
window.alerts = [];
window.alert = (text) => window.alerts.push(text);
window.addEventListener("load", async () => {
  const seen = {};
  const wait = (ms) => new Promise((done) => setTimeout(done, ms));
  for (let i = 0; i < 400 && !document.querySelector(".ready .live svg"); i++) await wait(100);
  for (const figure of document.querySelectorAll("[data-chart]")) {
    figure.scrollIntoView();
    for (let i = 0; i < 400 && !figure.querySelector(".live svg"); i++) await wait(50);
  }
  const charts = Array.from(document.querySelectorAll("[data-chart]"));
  seen.charts = charts.map((c) => [c.dataset.chart, Boolean(c.querySelector(".live svg"))]);
  seen.staticShown = charts.filter((c) => {
    const box = c.querySelector(".static");
    return box && getComputedStyle(box).display !== "none";
  }).length;
  const form = document.getElementById("filters");
  const shown = () => document.querySelectorAll("details.example:not([hidden])").length;
  const ask = (name, value) => {
    form.elements[name].value = value;
    form.dispatchEvent(new Event("input"));
    return [shown(), document.getElementById("count").textContent];
  };
  seen.all = shown();
  seen.search = ask("search", "APPLES tom");
  seen.none = ask("search", "no such words");
  ask("search", "");
  seen.group = ask("group", "percent");
  ask("group", "");
  seen.always = ask("score", "always");
  ask("score", "");
  const curves = document.querySelector('[data-chart$="-curves"]');
  const chooser = curves.querySelector(".choices select");
  const texts = () => Array.from(curves.querySelectorAll(".live svg text"), (t) => t.textContent);
  const title = () => texts().find((text) => text.endsWith("(log scale)"));
  seen.axisBefore = title();
  seen.axes = Array.from(chooser.options, (option) => option.textContent);
  chooser.selectedIndex = 1;
  chooser.dispatchEvent(new Event("change"));
  await wait(500);
  seen.axisAfter = title();
  const name = (text) => Array.from(curves.querySelectorAll(".live svg text"))
    .find((item) => item.textContent.startsWith(text));
  const faint = () =>
    ["random", "oracle"].map((text) => Number(name(text).getAttribute("opacity")));
  seen.unpicked = faint();
  for (const type of ["mousedown", "mouseup", "click"]) {
    const box = name("oracle").getBoundingClientRect();
    name("oracle").dispatchEvent(new MouseEvent(type, {
      bubbles: true, clientX: box.x + box.width / 2, clientY: box.y + box.height / 2 }));
  }
  await wait(500);
  seen.picked = faint();
  const ground = () => getComputedStyle(document.body).backgroundColor;
  const line = () => getComputedStyle(name("random")).fill;
  seen.light = [ground(), line()];
  document.getElementById("theme").click();
  await wait(300);
  seen.dark = [ground(), line()];
  seen.wide = document.documentElement.scrollWidth - document.documentElement.clientWidth;
  seen.alerts = window.alerts;
  const out = document.createElement("output");
  out.id = "seen";
  out.textContent = JSON.stringify(seen);
  document.body.append(out);
});
</script>
"""


def browse(page: Path, profile: Path, *extra: str) -> tuple[str, list[str]]:
    """The page's DOM after a while, and what it wrote to the console."""
    assert BROWSER is not None
    command = [BROWSER, *FLAGS, *extra, f"--user-data-dir={profile}", "--dump-dom", page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    console = [line for line in done.stderr.splitlines() if ":CONSOLE" in line]
    return done.stdout, console


def hostile(results: dict[str, Any]) -> dict[str, Any]:
    """One dataset, with names that would break out of every place they are put in."""
    one = copy.deepcopy(results) | {"datasets": ["mixed"]}
    bad = "premem<img src=x onerror=alert(1)>"
    for key in ("curves", "efficiency", "targets", "gain", "cost", "selection", "data_map"):
        for row in one[key]:
            if row["strategy"] == "premem":
                row["strategy"] = bad
    one["notes"] = ["</aside><script>alert('note')</script>"]
    return one


@pytest.fixture(scope="module")
def seen(
    results: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> tuple[dict[str, Any], list[str]]:
    folder = tmp_path_factory.mktemp("browser")
    page = write_report(hostile(results), folder)
    text = page.read_text(encoding="utf-8").replace("</body>", f"{PROBE}</body>")
    (folder / "probed.html").write_text(text, encoding="utf-8")
    # virtual time runs ahead of a busy machine's drawing: a page that was late is opened again
    for attempt in range(3):
        dom, console = browse(folder / "probed.html", folder / f"profile-{attempt}")
        found = re.search(r'<output id="seen">(.*?)</output>', dom, re.DOTALL)
        assert found is not None, console
        report = json.loads(unescape(found[1]))
        if all(drawn for _, drawn in report["charts"]):
            break
    return report, console


def test_every_chart_is_drawn_and_no_error_is_logged(
    seen: tuple[dict[str, Any], list[str]],
) -> None:
    report, console = seen
    assert console == []
    kinds = {name.removeprefix("mixed-") for name, _ in report["charts"]}
    assert kinds == {"curves", "efficiency", "cost", "forecast", "chosen", "understood"}
    assert all(drawn for _, drawn in report["charts"])
    assert report["staticShown"] == 0


def test_filters_and_search_work(seen: tuple[dict[str, Any], list[str]]) -> None:
    report, _ = seen
    assert report["all"] == 24
    assert report["search"] == [1, "1 of 24 examples"]
    assert report["none"][0] == 0
    assert report["group"][0] == 8
    assert 0 < report["always"][0] < 24


def test_the_axis_can_be_chosen(seen: tuple[dict[str, Any], list[str]]) -> None:
    report, _ = seen
    assert report["axisBefore"].startswith("training examples")
    assert report["axisAfter"].startswith("seconds")
    assert len(report["axes"]) == 2


def test_a_click_on_a_name_shows_this_strategy_only(
    seen: tuple[dict[str, Any], list[str]],
) -> None:
    report, _ = seen
    assert report["unpicked"] == [1, 1]
    assert report["picked"] == [pytest.approx(0.08), 1]


def test_the_theme_reaches_page_and_charts(seen: tuple[dict[str, Any], list[str]]) -> None:
    report, _ = seen
    assert report["light"][0] == "rgb(255, 255, 255)"
    assert report["dark"][0] == "rgb(15, 20, 25)"
    assert report["light"][1] != report["dark"][1]


def test_text_from_data_and_config_does_not_run(
    seen: tuple[dict[str, Any], list[str]],
) -> None:
    assert seen[0]["alerts"] == []


def test_without_scripts_the_figures_and_examples_stand(
    results: dict[str, Any], tmp_path: Path
) -> None:
    page = write_report(hostile(results), tmp_path)
    text = page.read_text(encoding="utf-8")
    without = re.sub(r"<script.*?</script>", "", text, flags=re.DOTALL)
    (tmp_path / "plain.html").write_text(without, encoding="utf-8")
    dom, _ = browse(tmp_path / "plain.html", tmp_path / "profile")
    assert dom.count('class="static"') == 4
    assert 'class="ready"' not in dom
    assert 'details class="example"' in dom


def test_a_phone_scrolls_in_one_direction(results: dict[str, Any], tmp_path: Path) -> None:
    """In a frame of 390 px: a headless window is never narrower than 500."""
    write_report(hostile(results), tmp_path)
    probe = (
        '<iframe id="f" src="report.html" style="width:390px;height:1200px;border:0"></iframe>'
        "<script>setTimeout(() => { const d = document.getElementById('f').contentDocument"
        ".documentElement; document.title = `wide ${d.scrollWidth} ${d.clientWidth}`; }, 9000)"
        "</script>"
    )
    (tmp_path / "phone.html").write_text(probe, encoding="utf-8")
    # the frame's file is of another origin otherwise
    dom, _ = browse(tmp_path / "phone.html", tmp_path / "profile", "--allow-file-access-from-files")
    found = re.search(r"<title>wide (\d+) (\d+)</title>", dom)
    assert found is not None
    assert int(found[1]) <= int(found[2]) <= 390  # a scroll bar takes its share
