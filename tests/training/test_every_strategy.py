"""Every strategy through `activeselect train`, in both modes, on the built-in benchmark."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from activeselect.cli import run
from activeselect.files import read_json
from activeselect.scoring.signals import measurements
from activeselect.selection.registry import create, strategies

#: What a strategy cannot do without; all others run as they are.
PARAMETERS: dict[str, dict[str, Any]] = {
    "difficulty": {"by": "length"},
    "rho-loss": {"reference": "skills-base"},
    "oracle": {"targets": {"120": {"tank": 60, "ages": 30}}},
    "filter": {
        "by": "dynamic",
        "then": {
            "name": "mixture",
            "parts": [
                {"share": 0.25, "strategy": "random"},
                {"share": 0.75, "strategy": "target-difficulty"},
            ],
        },
    },
    "mixture": {
        "parts": [{"share": 0.2, "strategy": "random"}, {"share": 0.8, "strategy": "premem"}]
    },
    "schedule": {"steps": {0: "random", 2: "group-bandit"}},
}
TINY = (
    "data.source=skills:mixed",
    "data.pool_size=600",
    "data.test_limit=100",
    "recipe.learning_rate=2e-3",
    "recipe.epochs=2",
    "recipe.batch_size=16",
    "scoring.samples=2",
    "scoring.max_new_tokens=24",
    "forecast=off",
    "save_model=false",
)


def train(name: str, mode: str, out: Path, *more: str) -> dict[str, Any]:
    spec = {"name": name, **PARAMETERS.get(name, {})}
    budgets = "[60,120]" if mode == "acquire" else "[60]"
    settings = [f"strategy={json.dumps(spec)}", f"rounds.mode={mode}", f"rounds.budgets={budgets}"]
    assert run(["train", "--out", str(out), *TINY, *settings, *more]) == 0
    result: dict[str, Any] = read_json(out / "result.json")
    return result


def check(result: dict[str, Any], mode: str) -> None:
    budgets = [60, 120] if mode == "acquire" else [60]
    assert [stage["unique_examples"] for stage in result["curve"]] == budgets
    assert all(0 <= stage["test_accuracy"] <= 1 for stage in result["curve"])


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["acquire", "reweight"])
def test_a_composition_trains(mode: str, tmp_path: Path) -> None:
    check(train("filter", mode, tmp_path / "run"), mode)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["acquire", "reweight"])
@pytest.mark.parametrize(
    "name",
    [name for name, cls in strategies().items() if cls.__module__.startswith("activeselect")],
)
def test_every_strategy_trains(name: str, mode: str, tmp_path: Path) -> None:
    check(train(name, mode, tmp_path / "run"), mode)


def reads_answers() -> list[str]:
    """Strategies whose signals are made of sampled completions."""
    known = {n: c for n, c in strategies().items() if c.__module__.startswith("activeselect")}
    made = {n: create({"name": n, **PARAMETERS.get(n, {})}) for n in known}
    return [n for n, one in made.items() if "samples" in measurements(one.requires)]


@pytest.mark.slow
@pytest.mark.parametrize("name", reads_answers())
def test_every_strategy_gets_all_values_from_a_sampling_policy(name: str, tmp_path: Path) -> None:
    check(train(name, "acquire", tmp_path / "run", "scoring.policy=skip-memorized"), "acquire")
    sampled = 0
    for file in sorted((tmp_path / "run" / "scores").glob("*.parquet")):
        table = pq.read_table(file).to_pydict()
        assert np.all(np.isfinite([table[column] for column in ("accuracy", "premem")]))
        sampled += sum(table["sampled"])
    assert 0 < sampled <= 2 * 2 * (60 + 120)
