"""Tuning a recipe: which runs it makes, what it chooses, and where that is written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from activeselect.data.skills.presets import tuning_file
from activeselect.study import tune
from activeselect.study.plan import Cell
from research import benchmark_tuning as benchmark


def test_a_model_of_ones_own_gets_its_own_recipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Runs are stood in for by accuracies of which 2e-4 with 8 epochs has the highest mean."""
    seen: list[Cell] = []

    def stand_in(cells: list[Cell], out: Path, **_: object) -> list[str]:
        seen.extend(cells)
        for cell in cells:
            recipe = cell.config.recipe
            accuracy = 0.9 - abs(recipe.learning_rate - 2e-4) * 1e3 - abs(recipe.epochs - 8) / 100
            folder = out / cell.folder
            folder.mkdir(parents=True)
            curve = [{"test_accuracy": accuracy - 0.2}, {"test_accuracy": accuracy}]
            curve = [{**entry, "test_examples": 500} for entry in curve]
            (folder / "result.json").write_text(json.dumps({"curve": curve}))
        return []

    monkeypatch.setattr(tune, "run_cells", stand_in)
    shipped = tuning_file("mixed").read_bytes()
    benchmark.recipe("mixed", tmp_path, seeds=1, model="./mine", learning_rates=(1e-4, 2e-4))
    assert {cell.config.model for cell in seen} == {"./mine"}
    assert [cell.config.recipe.learning_rate for cell in seen] == [1e-4] * 3 + [2e-4] * 3
    assert {cell.seed for cell in seen} == {1000}
    assert {cell.config.strategy for cell in seen} == {"random"}
    found = json.loads((tmp_path / "recipe-mixed.json").read_text())
    assert found["chosen"] == {"learning_rate": 2e-4, "epochs": 8, "batch_size": 16}
    assert "--model ./mine --learning_rates '[0.0001, 0.0002]'" in found["command"]
    assert tuning_file("mixed").read_bytes() == shipped
