"""Every shipped config that trains a model of one's own takes two steps with a small stand-in."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from activeselect.cli import run

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
#: What the name of a model says about its architecture.
ARCHITECTURES = {"qwen": "Qwen2Config", "llama": "LlamaConfig"}


def trained_by_command() -> list[Path]:
    return [
        file
        for file in sorted(CONFIGS.glob("*.yaml"))
        if file.read_text().split()[2] == "train" and file.stem != "quickstart"
    ]


def rows_for(source: str, data: dict[str, Any]) -> list[dict[str, str]]:
    """Rows with the columns of the config's dataset."""
    rows = []
    for i in range(12):
        steps, result = f"{i} and 1 make {i + 1}.", str(i + 1)
        if "math" in source:
            solution = f"{steps} So \\boxed{{{result}}}."
            rows.append(
                {"problem": f"{i} + 1?", "solution": solution, "level": "Level 1", "type": "Sums"}
            )
        elif "gsm8k" in source:
            rows.append({"question": f"{i} + 1?", "answer": f"{steps}\n#### {result}"})
        else:
            rows.append(
                {
                    data["question"]: f"{i} + 1?",
                    data["trace"]: f"{steps} {result}",
                    data["answer"]: result,
                }
            )
    return rows


@pytest.mark.parametrize("file", trained_by_command(), ids=lambda file: file.stem)
def test_the_config_takes_two_steps(
    file: Path,
    small_model: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = yaml.safe_load(file.read_text())
    if config["recipe"].get("lora"):
        pytest.importorskip("peft", reason="adapters need the extra activeselect[peft]")
    name = config.get("model", "llama").lower()
    kind = next(kind for word, kind in ARCHITECTURES.items() if word in name)
    model = small_model(tmp_path / "model", kind)
    source, data = config["data"]["source"], tmp_path / "data"
    data.mkdir()
    for split in ("train", "test"):
        lines = (json.dumps(row) + "\n" for row in rows_for(source, config["data"]))
        (data / f"{split}.jsonl").write_text("".join(lines))
    files = [str(data), "null"]
    if "test" in config["data"]:
        files = [str(data / f"{split}.jsonl") for split in ("train", "test")]
    acquires = config["rounds"]["mode"] == "acquire"
    changes = {
        "model": model,
        "data.source": files[0],
        "data.test": files[1],
        "data.limit": 12,
        "data.test_limit": 2,
        "rounds.budgets": "[2, 4]" if acquires else "[4]",
        "rounds.score_until": 1 if acquires else "null",
        "recipe.epochs": 1,
        "recipe.batch_size": 2,
        "recipe.accumulate": 1,
        "recipe.precision": "32-true",
        "scoring.max_new_tokens": 4,
        "accelerator": "cpu",
        "devices": 1,
        "parallel": "auto",
    }
    out = tmp_path / "run"
    settings = [f"{name}={value}" for name, value in changes.items()]
    monkeypatch.setenv("COLUMNS", "120")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="lightning|torch|peft")
        assert run(["train", "--config", file.stem, "--out", str(out), *settings]) == 0
    result = json.loads((out / "result.json").read_text())
    assert result["curve"][-1]["test_examples"] == 2
    assert result["cost"]["samples_seen"] == (2 + 4 if acquires else 4)
    assert len(list((out / "scores").glob("*.parquet"))) >= 1
