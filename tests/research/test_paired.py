"""Differences between two studies, from results whose differences are known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from activeselect.errors import StudyError
from research import paired


def results(gain: float, dataset: str = "mixed") -> dict[str, Any]:
    return {
        "curves": [
            {
                "dataset": dataset,
                "strategy": "random",
                "seed": seed,
                "budget": budget,
                "test_accuracy": 0.5 + gain + 0.1 * seed + 0.02 * gain * seed,
                "audit": {"forking": 0.9 - gain},
                "costs": {"tokens_total": budget * (2 if gain else 1)},
            }
            for seed in (0, 1, 2)
            for budget in (100, 400)
        ]
    }


def test_seeds_are_paired_so_that_their_own_differences_cancel(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = {Path("a"): results(0.1), Path("b"): results(0.0), Path("c"): results(0.0, "trap")}
    monkeypatch.setattr(paired, "read_results", folders.__getitem__)
    paired.main(Path("a"), Path("b"))
    row = capsys.readouterr().out.splitlines()[2]
    # per seed .100, .102, .104: Student's t of two degrees is 4.303, so .102 -+ .005
    assert row == "| mixed | random | random | whole curve |  | +0.102 (+0.097 to +0.107) |"
    paired.main(Path("a"), Path("b"), measure="forking", each=True)
    row = capsys.readouterr().out.splitlines()[2]
    assert row == "| mixed | random | random | 100 | 0.800, 0.900 | -0.100 (no interval) |"
    paired.main(Path("b"), Path("b"), cost="tokens_total")
    assert "| 1.00x" in capsys.readouterr().out.splitlines()[2]
    for other, measure in (("c", "test_accuracy"), ("b", "filler")):
        with pytest.raises(StudyError, match="no dataset and seed"):
            paired.main(Path("a"), Path(other), measure=measure)


def test_a_cost_is_compared_at_equal_accuracy(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    mine, theirs = results(0.0), results(0.0)
    for row in (*mine["curves"], *theirs["curves"]):
        row["test_accuracy"] = 0.5 + (0.2 if row["budget"] == 400 else 0) + 0.01 * row["seed"]
    for row in mine["curves"]:
        row["costs"]["tokens_total"] *= 2  # twice the price for the same curve
    folders = {Path("a"): mine, Path("b"): theirs}
    monkeypatch.setattr(paired, "read_results", folders.__getitem__)
    paired.main(Path("a"), Path("b"), cost="tokens_total")
    assert "| 0.50x" in capsys.readouterr().out.splitlines()[2]
