"""A whole small study: worker processes, the result's fields, continuing, and failing cells."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from activeselect.config import (
    RecipeConfig,
    RoundsConfig,
    StudyConfig,
)
from activeselect.errors import ModelError, StoreError, StudyError
from activeselect.study.study import Study
from tests.support import RECIPE, skills, small_study


def study(model: Path, **changes: object) -> StudyConfig:
    small = small_study(
        model,
        data=(skills(120, 30),),
        strategies={
            "random": "random",
            "premem": {"name": "premem", "threshold": 0.5},
            "oracle": "preset",
        },
        seeds=(0, 1, 2),
        rounds=RoundsConfig(budgets=(16, 32)),
        recipe=replace(RECIPE, epochs=1),
        workers=2,
    )
    return replace(small, **changes)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def finished(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("study")
    Study(study(tiny_model)).run(out)
    return out


def test_results_have_the_documented_fields(finished: Path) -> None:
    results = json.loads((finished / "results.json").read_text())
    assert results["schema_version"] == 2
    assert set(results) >= {"config", "environment", "curves", "efficiency", "forecast", "cost"}
    assert len(results["curves"]) == 3 * 3 * 2
    chosen = [(row["strategy"], row["round"], row["examples"]) for row in results["choices"]]
    labels = ("random", "premem", "oracle")
    assert chosen == [(label, number, 16) for label in labels for number in (0, 1)]
    assert "Selections: what was chosen" in (finished / "report.html").read_text()
    assert set(results["curves"][0]) >= {
        "strategy",
        "seed",
        "budget",
        "unique_examples",
        "samples_seen",
        "test_accuracy",
        "test_examples",
    }
    assert set(results["efficiency"][0]) >= {
        "strategy",
        "baseline",
        "cost",
        "target_accuracy",
        "ratio",
        "low",
        "high",
    }
    assert set(results["forecast"]) >= {"protocol", "r2", "mae", "coverage", "n_checkpoints"}
    assert results["forecast"]["n_checkpoints"] == 3 * 2  # only premem runs measure it
    assert set(results["cost"][0]) >= {
        "strategy",
        "seed",
        "train_s",
        "score_s",
        "select_s",
        "eval_s",
        "tokens_trained",
        "tokens_generated",
    }
    assert results["config"]["level"] == 0.95


def test_the_report_stands_beside_the_results(finished: Path) -> None:
    assert (finished / "report.html").stat().st_size > 10_000
    assert list((finished / "figures").glob("*.png"))
    assert list((finished / "figures").glob("*.svg"))


def test_every_strategy_starts_from_the_same_model(finished: Path) -> None:
    curves = json.loads((finished / "results.json").read_text())["curves"]
    first = {
        (row["seed"], row["strategy"]): row["test_accuracy"]
        for row in curves
        if row["budget"] == 16
    }
    for seed in (0, 1, 2):
        assert first[seed, "random"] == first[seed, "premem"]


def test_repeating_trains_nothing_again(tiny_model: Path, finished: Path) -> None:
    files = list(finished.glob("cells/*/*/*/result.json"))
    before = {file: file.stat().st_mtime_ns for file in files}
    Study(study(tiny_model)).run(finished)
    assert {file: file.stat().st_mtime_ns for file in files} == before


def test_other_settings_are_refused(tiny_model: Path, finished: Path) -> None:
    changed = study(tiny_model, recipe=RecipeConfig(learning_rate=1e-3, epochs=2, batch_size=8))
    with pytest.raises(StoreError, match=r"recipe.epochs: 1 -> 2"):
        Study(changed).run(finished)


def test_a_broken_strategy_does_not_take_the_others_down(tiny_model: Path, tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "from activeselect import Strategy\n"
        "class Broken(Strategy):\n"
        "    name = 'broken'\n"
        "    def select(self, context, budget, rng):\n"
        "        raise RuntimeError('out of ideas')\n"
    )
    broken = study(
        tiny_model,
        strategies={"random": "random", "broken": {"class_path": f"{file}:Broken"}},
        seeds=(0,),
    )
    out = tmp_path / "study"
    with pytest.raises(StudyError, match=r"1 of 2 runs failed.*out of ideas"):
        Study(broken).run(out)
    results = json.loads((out / "results.json").read_text())
    assert {row["strategy"] for row in results["curves"]} == {"random"}
    assert "out of ideas" in next(out.glob("cells/*/broken/*/error.txt")).read_text()


def test_a_missing_model_is_said_once_before_anything_runs(tmp_path: Path) -> None:
    model = str(tmp_path / "absent")  # a path: what looks like a hub id is asked for several times
    config = StudyConfig(model=model, recipe=RecipeConfig(), seeds=(0,))
    with pytest.raises(ModelError, match="absent"):
        Study(config).run(tmp_path / "study")
    assert not (tmp_path / "study").exists()
