"""The README's example runs as it stands, and its two lines are the ones that CI knows."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def test_the_example_runs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    example = re.findall(r"```python\n(.*?)```", README, re.DOTALL)[0]
    exec(compile(example, "README.md", "exec"), {})
    printed = capsys.readouterr().out
    assert re.search(r"\[\(100, 0\.\d+\), \(200, 0\.\d+\)\]", printed)
    assert (tmp_path / "runs" / "first" / "result.json").exists()


def test_the_two_lines_are_there() -> None:
    assert len(re.findall(r"^python3 -m venv .* activeselect compare .*$", README, re.M)) == 1
    assert len(re.findall(r"^pip install -e .*\[test\].*pytest$", README, re.M)) == 1


def test_every_linked_page_exists() -> None:
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (Path(__file__).parents[1] / target).exists(), target
