"""Runs killed in every phase end with the same bits as the uninterrupted run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from activeselect.config import (
    RoundsConfig,
    RunConfig,
    ScoringConfig,
    to_plain,
)
from tests.support import RECIPE, skills, small_run

SCRIPT = Path(__file__).with_name("kill_moments.py")


def config(model: Path, **changes: Any) -> RunConfig:
    small = small_run(
        model,
        data=skills(120, 20),
        strategy="premem",
        recipe=replace(RECIPE, batch_size=4),
        scoring=ScoringConfig(samples=2, max_new_tokens=8, batch_tokens=400),
        checkpoint_every_steps=2,
        save_model=True,
    )
    return replace(small, **changes)


def in_turns(policy: str) -> ScoringConfig:
    return ScoringConfig(samples=3, max_new_tokens=8, batch_tokens=400, policy=policy, tau=5.4)


@pytest.fixture(scope="module")
def model_with_dropout(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Draws random numbers in training, which have to be the same after a stop."""
    folder = tmp_path_factory.mktemp("dropout")
    for file in tiny_model.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**settings, "attention_dropout": 0.2}))
    return folder


def kill_and_compare(
    chosen: RunConfig, folder: Path, moments: int, seed: int, only: str = ""
) -> dict[str, Any]:
    file = folder / "config.yaml"
    file.write_text(yaml.safe_dump(to_plain(chosen)))
    command = [sys.executable, str(SCRIPT), str(file), str(folder), str(moments), str(seed), only]
    done = subprocess.run(
        command,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert found["wrong"] == [], found
    return found


def test_killed_while_training_scoring_and_checkpointing(
    model_with_dropout: Path, tmp_path: Path
) -> None:
    found = kill_and_compare(config(model_with_dropout), tmp_path, 4, seed=1)
    assert sum(found["died"].values()) >= 3


@pytest.mark.slow
def test_killed_within_the_turns_of_a_sampling_policy(
    model_with_dropout: Path, tmp_path: Path
) -> None:
    chosen = config(model_with_dropout, scoring=in_turns("skip-memorized"))
    found = kill_and_compare(chosen, tmp_path, 4, seed=3, only="scoring")
    assert found["died"]["scoring"] >= 3


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {
            "rounds": RoundsConfig(mode="reweight", budgets=(24,), evaluate_every=0.5),
            "strategy": {"name": "premem", "threshold": 0.0, "floor": 0.5},
        },
        {"measure": ("prequential",)},
        {
            "scoring": in_turns("skip-memorized"),
            "rounds": RoundsConfig(budgets=(16, 24), restart=False),
        },
    ],
    ids=["acquire", "reweight", "prequential", "skip-memorized"],
)
def test_killed_at_many_random_moments(
    model_with_dropout: Path, tmp_path: Path, changes: dict[str, Any]
) -> None:
    found = kill_and_compare(config(model_with_dropout, **changes), tmp_path, 32, seed=2)
    assert sum(found["died"].values()) >= 20, found
    assert set(found["entered"]) <= set(found["died"]), found
    assert len(found["entered"]) == 8
