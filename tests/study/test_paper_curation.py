"""The paper's experiment as shipped, on a few rows and a model that knows nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_the_papers_experiment_is_one_config(tiny_model: Path, tmp_path: Path) -> None:
    data = tmp_path / "gsm8k"
    data.mkdir()
    lines = []
    for i in range(30):
        solution = "so\n" * (1 + i % 3) + f"#### {i + 2}"
        lines.append(json.dumps({"question": f"what is {i} + 2 ?", "answer": solution}))
    (data / "train.jsonl").write_text("\n".join(lines[:24]))
    (data / "test.jsonl").write_text("\n".join(lines[24:]))
    out = tmp_path / "out"
    short = ["--seeds", "[0]", "rounds.budgets=[6, 10]", "recipe.epochs=1", "recipe.batch_size=6"]
    command = [sys.executable, "-m", "activeselect", "compare", "--config", "paper-curation"]
    command += ["--model", str(tiny_model), "--data", json.dumps([{"source": str(data)}])]
    command += [*short, "scoring.max_new_tokens=8", "--workers", "1", "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stderr
    files = out.rglob("result.json")
    results = {file.parent.parent.name: json.loads(file.read_text()) for file in files}
    assert set(results) == {"random", "premem", "ifd", "difficulty"}
    for result in results.values():
        assert [stage["budget"] for stage in result["curve"]] == [6, 10]
        assert result["config"]["rounds"]["near"] == "embedding"
    assert results["premem"]["curve"][-1]["premem"] is not None
    assert results["random"]["curve"][-1]["premem"] is None
