"""What a terminal of 80 columns shows of a run, and what a file gets."""

from __future__ import annotations

import io
import json
import re
import sys
from pathlib import Path

import pytest

from activeselect.cli import run
from activeselect.cli.terminal import Terminal

WORDS = ["--data", "skills:mixed", "data.pool_size=40", "data.test_limit=4", "scoring.samples=2"]
WORDS += ["scoring.max_new_tokens=4", "scoring.batch_tokens=400"]
TRAIN = ["rounds.mode=acquire", "rounds.budgets=[8,12]", "recipe.epochs=1", "recipe.batch_size=4"]
TRAIN += ["save_model=false"]


class Screen(io.StringIO):
    """A terminal: what stands on it after each write, as lines."""

    def isatty(self) -> bool:
        return True

    def lines(self, width: int) -> list[str]:
        """Lines that stay; fails where one is longer than the terminal is wide."""
        shown, row = [], [" "] * width
        column = 0
        for character in re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "", self.getvalue()):  # colours
            if character == "\n":
                shown.append("".join(row).rstrip())
                row, column = [" "] * width, 0
            elif character == "\r":
                column = 0
            else:
                assert column < width, "the terminal wraps"
                row[column], column = character, column + 1
        return [*shown, "".join(row).rstrip()]


def test_a_line_is_redrawn_in_place_and_cut_to_the_width(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    screen = Screen()
    with Terminal(stream=screen) as terminal:
        terminal.show("a long text " * 10)
        assert screen.lines(40)[-1].endswith("…")
        terminal.show("short")
        assert screen.lines(40) == ["short"]
        terminal.say("a line that stays and is longer than forty columns")
        assert screen.lines(40) == ["a line that stays and is longer than", "  forty columns", ""]
        terminal.progress(120, 400, "scoring")
        assert screen.lines(40)[-1] == "━━━───────  30%  120 of 400  scoring"
    monkeypatch.setattr("activeselect.cli.terminal.time.monotonic", iter([10.0, 20.0]).__next__)
    with Terminal(stream=screen) as terminal:
        terminal.progress(100, 400, "training")
        terminal.progress(200, 400, "training")  # 100 in ten seconds
        # the bar gives way, so that the time that is left can be read
        assert screen.lines(40)[-1] == "─  50%  200 of 400  training, 20 s left"
        monkeypatch.setattr("activeselect.cli.terminal.time.monotonic", lambda: 30.0)
        terminal.progress(0, 1, "one thing alone is not counted")
        assert screen.lines(40)[-1] == "──   0%  one thing alone is not counted"
    assert screen.lines(40)[-1] == ""


def test_a_file_gets_lines_alone_and_quiet_nothing() -> None:
    stream = io.StringIO()
    with Terminal(stream=stream) as terminal:
        terminal.progress(1, 2, "scoring")
        terminal.say("x" * 200)
    assert stream.getvalue() == "x" * 200 + "\n"
    with Terminal(stream=Screen(), quiet=True) as terminal:
        terminal.say("x")
        terminal.progress(1, 2, "scoring")
        assert terminal.stream.getvalue() == ""  # type: ignore[attr-defined]


@pytest.mark.parametrize("command", ["train", "score"])
def test_scoring_says_how_far_it_is(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr("activeselect.cli.terminal._SECONDS_BETWEEN_DRAWS", 0.0)
    screen = Screen()
    monkeypatch.setattr(sys, "stdout", screen)
    argv = [command, "--out", str(tmp_path / "out"), *WORDS, *(TRAIN if command == "train" else [])]
    assert run(argv) == 0
    text = screen.getvalue()
    screen.lines(80)
    frames = re.findall(r"scoring (\d+) of (\d+), ([\d,]+) tokens/s", text)
    assert len(frames) > 2
    assert {int(of) for _, of, _ in frames} == ({8, 12} if command == "train" else {40})
    assert all(int(done) <= int(of) for done, of, _ in frames)
    assert ("testing 4 of 4" in text) == (command == "train")


def test_score_speaks_to_programs_and_keeps_quiet(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["score", "--out", str(tmp_path / "out"), *WORDS]
    assert run([*argv, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["path"] == str(tmp_path / "out")
    assert [entry["examples"] for entry in found["checkpoints"]] == [40]
    assert run([*argv, "--quiet"]) == 0
    assert capsys.readouterr().out == ""


def test_compare_speaks_to_programs_and_keeps_quiet(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = "data=[{source: 'skills:mixed', pool_size: 40, test_limit: 4}]"
    argv = ["compare", "--out", str(tmp_path / "out"), data, *WORDS[4:], *TRAIN[:-1], "workers=1"]
    argv += ["seeds=[0]", "strategies={random: random}", "recipe.learning_rate=0.001"]
    assert run([*argv, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {row["budget"] for row in found["curves"]} == {8, 12}
    assert run([*argv, "--quiet"]) == 0
    assert capsys.readouterr().out == ""
