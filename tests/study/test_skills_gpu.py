"""The study for a GPU as shipped, on a CPU: a tiny base of another size, small budgets."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from research.base_model import BaseSize, build_base

CONFIGS = Path(__file__).resolve().parents[2] / "configs"


def test_it_is_the_study_of_the_shipped_base_without_the_oracle() -> None:
    mine, shipped = (
        yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())
        for name in ("skills-gpu", "benchmark")
    )
    del shipped["strategies"]["oracle"]
    for setting in ("data", "strategies", "baseline", "seeds"):
        assert mine[setting] == shipped[setting], setting
    assert mine["rounds"]["budgets"] == shipped["rounds"]["budgets"]


@pytest.mark.slow
def test_the_config_runs_with_a_base_of_another_size(tmp_path: Path) -> None:
    size = BaseSize(16, 2, 2, tokens=5_000, batch=16, rate=4e-3)
    config = yaml.safe_load((CONFIGS / "skills-gpu.yaml").read_text())
    build_base(tmp_path / config["model"], size=size, progress=False)
    command = [sys.executable, "-m", "activeselect", "compare", "--config", "skills-gpu"]
    command += ["--out", "out", "--data", '[{"source": "skills:mixed", "test_limit": 20}]']
    command += ["--seeds", "[0]", "rounds.budgets=[8, 16]", "recipe.epochs=2", "workers=1"]
    command += ["strategies={random: random, premem: premem}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=250, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    results = {
        file.parent.parent.name: json.loads(file.read_text())
        for file in (tmp_path / "out").rglob("result.json")
    }
    assert set(results) == {"random", "premem"}
    for result in results.values():
        assert result["config"]["model"] == config["model"]
        assert result["config"]["scoring"]["tau"] == 0.1
        assert [stage["budget"] for stage in result["curve"]] == [8, 16]
        assert result["curve"][-1]["premem"] is not None  # of every strategy, for the forecast
        assert result["config"]["rounds"]["score_until"] is None
    assert (tmp_path / "out" / "report.html").is_file()
