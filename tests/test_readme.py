"""The example of the page on Python runs as it stands; the README has the lines that CI knows."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
EXAMPLE = (ROOT / "docs" / "guide" / "python.md").read_text(encoding="utf-8")


def test_the_example_runs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    example = re.findall(r"```python\n(.*?)```", EXAMPLE, re.DOTALL)[0]
    exec(compile(example, "python.md", "exec"), {})
    printed = capsys.readouterr().out
    assert re.search(r"\[\(100, 0\.\d+\), \(200, 0\.\d+\)\]", printed)
    assert (tmp_path / "runs" / "first" / "result.json").exists()


def test_the_two_lines_are_there() -> None:
    assert len(re.findall(r"^python3 -m venv .* activeselect compare .*$", README, re.M)) == 1
    assert len(re.findall(r"^pip install -e .*\[test\].*pytest .*$", README, re.M)) == 1
