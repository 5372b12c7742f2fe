"""A run that is audited: the same training, its values in the result, memorization watched."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from activeselect.cli import run
from activeselect.config import (
    RecipeConfig,
    RoundsConfig,
    RunAuditConfig,
    ScoringConfig,
)
from activeselect.errors import ConfigError
from activeselect.training.memory import MemoryWatch
from activeselect.training.run import ActiveRun
from tests.support import skills, small_run

CONFIG = small_run(
    data=skills(24, 8, traces="swapped"),
    rounds=RoundsConfig(budgets=(8, 12)),
    recipe=RecipeConfig(epochs=2, batch_size=4),
    scoring=ScoringConfig(samples=1, max_new_tokens=40),
    audit=RunAuditConfig(every=1, problems=4, measures=("accuracy", "filler"), memory=4),
)

WATCHED = replace(
    CONFIG,
    rounds=RoundsConfig(budgets=(8,)),
    recipe=RecipeConfig(epochs=3, batch_size=4),
    audit=RunAuditConfig(every=1, problems=2, measures=("accuracy",), memory=4),
)


class Stop(Exception):
    """A stop in the middle of a run."""


@pytest.fixture(scope="module")
def watched_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing disturbed."""
    out = tmp_path_factory.mktemp("watched") / "run"
    ActiveRun(WATCHED).run(out)
    return out


def kept(folder: Path, name: str) -> Any:
    """What the audit and the watch of a run have left: a file, or columns and curve."""
    if name == "memory.json":
        return json.loads((folder / name).read_text())
    with (folder / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    columns = [key for key in rows[0] if key.startswith(("audit/", "memory/"))]
    curve = json.loads((folder / "result.json").read_text())["curve"]
    values = [[row["epoch"], *(row[key] for key in columns)] for row in rows]
    return columns, values, [(entry["audit"], entry["memory"]) for entry in curve]


def test_an_audited_run(tmp_path: Path) -> None:
    audited = ActiveRun(CONFIG).run(tmp_path / "audited")
    plain = ActiveRun(replace(CONFIG, audit=None)).run(tmp_path / "plain")
    for with_audit, without in zip(audited.curve, plain.curve, strict=True):
        assert with_audit["test_accuracy"] == without["test_accuracy"]  # training is the same
        assert set(with_audit["audit"]) == {"accuracy", "filler"}
        assert "audit" not in without
        assert 0 <= with_audit["memory"]["memorized"] <= 1
    with (tmp_path / "audited" / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 4
    assert all(float(row["audit/accuracy"]) >= 0 for row in rows)
    watched = json.loads((tmp_path / "audited" / "memory.json").read_text())
    assert [(row["stage"], row["epoch"]) for row in watched] == [(0, 1), (0, 2), (1, 1), (1, 2)]
    assert all(len(row["loss"]) == 4 and row["distance"] > 0 for row in watched)
    assert all("test" in row for row in watched if row["epoch"] == 2)


def test_the_plan_counts_the_audit(capsys: pytest.CaptureFixture[str]) -> None:
    """By hand: asked after two epochs and at the end of each of two stages, 4 watched examples."""
    from activeselect.study.estimate import Shape, work_of

    sizes = Shape(24, 8, 30.0, 20.0, 1.0, 1.0, 1, 1, 1, "cpu", asked=1000)
    assert work_of(CONFIG, sizes).audited == 2 * 3 * 1000 + 2 * 2 * 4 * 30
    assert work_of(replace(CONFIG, audit=None), sizes).audited == 0
    data = ["data.source=skills:mixed", "data.pool_size=24", "data.test_limit=8"]
    asks = ["--audit", '{"measures": ["accuracy"], "problems": 4}', "--out", "nowhere"]
    assert run(["train", *data, "--strategy", "random", *asks, "--dry-run"]) == 0
    assert "The audit reads and writes about" in capsys.readouterr().out
    assert not Path("nowhere").exists()


def test_bad_settings_are_answered_in_a_line() -> None:
    with pytest.raises(ConfigError, match="no second model"):
        RunAuditConfig(measures=("information_gain",))
    unknown = replace(CONFIG, audit=RunAuditConfig(measures=("fillr",)))
    with pytest.raises(ConfigError, match="Did you mean 'filler'"):
        ActiveRun(unknown)


def test_scores_beside_rewordings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "scores"
    small = ["data.pool_size=10", "scoring.samples=2", "scoring.max_new_tokens=40"]
    command = ["score", "--data", "skills:mixed", "--out", str(out), "--perturb", "2", *small]
    assert run(command) == 0
    printed = capsys.readouterr().out
    found = json.loads((out / "rewordings.json").read_text())
    assert sum(row["n"] for row in found["bins"]) <= len(found["examples"]) == 10
    assert all(value is None or 0 <= value <= 1 for value in found["examples"])
    assert "on rewordings" in printed
    before = (out / "rewordings.json").stat().st_mtime_ns
    assert run(command) == 0  # what is known is not asked again
    assert (out / "rewordings.json").stat().st_mtime_ns == before
    assert run([*command, "signals=[loss]"]) == 2
    assert "premem among the signals" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("call", [2])  # in the middle of the fit
@pytest.mark.parametrize("before", [True, False], ids=["before it is kept", "once it is kept"])
def test_the_watch_goes_on_where_a_run_was_stopped(
    watched_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: int, before: bool
) -> None:
    """Stopped in the epoch's measurement, each in turn: no epoch is lost, no value another."""
    calls: list[int] = []
    measure = MemoryWatch._measure

    def stopping(self: MemoryWatch, *args: Any) -> Any:
        calls.append(1)
        row = {} if before and len(calls) == call else measure(self, *args)
        if len(calls) == call:
            raise Stop
        return row

    monkeypatch.setattr(MemoryWatch, "_measure", stopping)
    with pytest.raises(Stop):
        ActiveRun(WATCHED).run(tmp_path / "stopped")
    ActiveRun(WATCHED).run(tmp_path / "stopped")
    for name in ("memory.json", "audited"):
        assert kept(tmp_path / "stopped", name) == kept(watched_run, name), name
