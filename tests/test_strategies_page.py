"""The page on strategies: its table is the registry's, its configs and its package work."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from activeselect.cli import run
from activeselect.selection.registry import create, describe, strategies
from activeselect.testing import check_strategy

PAGE = (Path(__file__).parents[1] / "docs" / "guide" / "strategies.md").read_text(encoding="utf-8")
CONFIGS = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
FILES = dict(re.findall(r"^`([\w.]+)`:\n\n```\w+\n(.*?)```", PAGE, re.DOTALL | re.MULTILINE))


def test_the_table_is_in_step_with_the_registry() -> None:
    rows = re.findall(r"^\| ([a-z][\w-]*) \| .* \| (.*?) \| (.*?) \| .*\|$", PAGE, re.M)
    told = {name: (signals, cost) for name, signals, cost in rows if name != "strategy"}
    own = {n: c for n, c in strategies().items() if c.__module__.startswith("activeselect")}
    assert set(told) == set(own)
    for name, cls in own.items():
        entry = describe(cls)
        signals = "of its parts" if entry.requires is None else ", ".join(entry.requires) or "none"
        assert told[name] == (signals, "" if entry.cost is None else str(entry.cost)), name


@pytest.mark.parametrize("text", CONFIGS, ids=lambda text: yaml.safe_load(text)["strategy"]["name"])
def test_the_configs_keep_every_promise(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = yaml.safe_load(text)["strategy"]
    check_strategy(create(spec))
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    with pytest.raises(SystemExit) as stopped:
        run(["train", "--config", str(file), "--out", str(tmp_path / "run"), "--print_config"])
    assert stopped.value.code == 0
    composed = yaml.safe_load(capsys.readouterr().out)["strategy"]
    assert vars(create(composed)).keys() == vars(create(spec)).keys()
    assert create(composed).requires == create(spec).requires


def test_all_compositions_are_shown() -> None:
    assert {yaml.safe_load(text)["strategy"]["name"] for text in CONFIGS} == {
        "denoise",
        "filter",
        "mixture",
        "schedule",
    }


@pytest.fixture
def package(tmp_path: Path) -> dict[str, Any]:
    """The package of the page, installed as pip leaves it, for processes with this environment."""
    tomllib = pytest.importorskip("tomllib")  # Python 3.11
    project = tomllib.loads(FILES["pyproject.toml"])["project"]
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    info = tmp_path / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    )
    entries = [
        f"[{group}]\n" + "".join(f"{key} = {value}\n" for key, value in members.items())
        for group, members in project["entry-points"].items()
    ]
    (info / "entry_points.txt").write_text("\n".join(entries))
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    return {"cwd": tmp_path, "env": {**os.environ, "PYTHONPATH": path}, "text": True}


def test_an_installed_package_is_listed_and_shown(package: dict[str, Any]) -> None:
    command = [sys.executable, "-m", "activeselect", "strategies"]
    listed = subprocess.run([*command, "--json"], capture_output=True, check=True, **package)
    (row,) = [r for r in json.loads(listed.stdout) if r["name"] == "short-first"]
    assert row["summary"] == "Prefer short traces, softly."
    assert row["requires"] == ["length"]
    card = subprocess.run(
        [*command, "show", "short-first"], capture_output=True, check=True, **package
    )
    assert "In a config: {name: short-first, power: 1.0}" in card.stdout
    near = subprocess.run([*command, "show", "short-frist"], capture_output=True, **package)
    assert near.returncode == 2
    assert "Did you mean 'short-first'?" in near.stderr


def test_the_packages_own_test_passes(package: dict[str, Any]) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", os.devnull]
    done = subprocess.run(
        [*command, "--rootdir=.", "test_short_first.py"], capture_output=True, **package
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout


def test_the_example_for_contributors_keeps_every_promise(tmp_path: Path) -> None:
    guide = (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text(encoding="utf-8")
    file = tmp_path / "high_loss.py"
    file.write_text(re.findall(r"```python\n(.*?)```", guide, re.DOTALL)[0])
    check_strategy(create({"class_path": f"{file}:HighLoss"}))
