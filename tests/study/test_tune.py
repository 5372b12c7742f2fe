"""A search for the recipe: what it trains on, what judges it, what it chooses and writes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

from activeselect.cli import commands, run
from activeselect.cli.configs import read_for_tuning
from activeselect.config import DataConfig, RecipeConfig, TuneConfig
from activeselect.errors import ConfigError, DataError, StoreError, StudyError
from activeselect.study import tune as module
from activeselect.study.plan import Cell
from activeselect.study.tune import tune, tuning_cells


@pytest.fixture
def source(tmp_path: Path) -> Path:
    file = tmp_path / "mine.jsonl"
    lines = [
        {"question": f"{i} + 1 ?", "trace": f"so {i + 1} . answer : {i + 1}"} for i in range(250)
    ]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return file


def settings(source: Path, **values: object) -> TuneConfig:
    data = DataConfig(str(source), test="/nowhere/test.jsonl", checker="marker:answer :")
    return replace(TuneConfig(data=data, recipe=RecipeConfig(batch_size=16)), **values)  # type: ignore[arg-type]


def test_runs_of_a_seed_are_judged_on_the_same_part_that_none_trains_on(
    source: Path, tmp_path: Path
) -> None:
    """The test set is not even opened: it does not exist here."""
    config = settings(source)
    cells = tuning_cells(config, tmp_path / "out")
    assert len(cells) == 3 * 3 * 2
    assert len({cell.folder for cell in cells}) == len(cells)
    for seed in config.tuning_seeds:
        mine = [cell for cell in cells if cell.seed == seed]
        assert len({cell.config.data for cell in mine}) == 1
        data = mine[0].config.data
        train, test = (
            set(pq.read_table(file)["question"].to_pylist()) for file in (data.source, data.test)
        )
        assert (len(train), len(test), len(train & test)) == (225, 25, 0)
        assert mine[0].config.rounds.budgets == (225,)
    held_out = {pq.read_table(cell.config.data.test)["question"].to_pylist()[0] for cell in cells}
    assert len(held_out) == 2  # each seed holds out others
    assert {cell.config.strategy for cell in cells} == {"random"}


def stand_in(accuracies: dict[tuple[float, int], float], ran: list[Cell]) -> object:
    def run_cells(cells: list[Cell], out: Path, **_: object) -> list[str]:
        for cell in cells:
            if (out / cell.folder).exists():
                continue
            ran.append(cell)
            recipe = cell.config.recipe
            value = accuracies[recipe.learning_rate, recipe.epochs]
            (out / cell.folder).mkdir(parents=True)
            curve = [{"test_accuracy": value, "test_examples": 100}]
            (out / cell.folder / "result.json").write_text(json.dumps({"curve": curve}))
        return []

    return run_cells


def test_the_best_recipe_is_chosen_and_its_limits_are_said(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[Cell] = []
    found = {(1e-4, 2): 0.4, (1e-4, 4): 0.5, (3e-4, 2): 0.5, (3e-4, 4): 0.1, (9e-4, 2): 0.7}
    found[9e-4, 4] = 0.7
    monkeypatch.setattr(module, "run_cells", stand_in(found, ran))
    config = settings(source, learning_rates=(1e-4, 3e-4), epochs=(2, 4))
    out = tmp_path / "out"
    result = tune(config, out)
    assert result["chosen"] == {"learning_rate": 3e-4, "epochs": 2}  # of equals, fewer epochs
    assert result["judged"] == 200
    # 1.96 sqrt(2 * .5 * .5 / 200) = 0.098: 0.5 is within it, 0.4 is not
    assert result["noise"] == pytest.approx(0.098)
    assert result["notes"][0] == "Within the noise of it (9.8%): 0.0001 x 4."
    assert "The chosen learning rate is the largest tried: a larger one may be better." in str(
        result["notes"]
    )
    assert "The chosen number of epochs is the smallest tried: a smaller one" in str(result)
    written = yaml.safe_load((out / "recipe.yaml").read_text())["recipe"]
    assert (written["learning_rate"], written["epochs"], written["batch_size"]) == (3e-4, 2, 16)
    assert RecipeConfig(**{**written, "tokens": RecipeConfig().tokens}).epochs == 2
    # a larger grid continues: only what is new is run
    ran.clear()
    more = tune(replace(config, learning_rates=(1e-4, 3e-4, 9e-4)), out)
    assert {cell.config.recipe.learning_rate for cell in ran} == {9e-4}
    assert more["chosen"] == {"learning_rate": 9e-4, "epochs": 2}
    with pytest.raises(StoreError, match=r"recipe\.batch_size: 16 -> 32"):
        tune(replace(config, recipe=RecipeConfig(batch_size=32)), out)


def test_nothing_is_chosen_where_nothing_is_right(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "run_cells", stand_in({(1e-4, 2): 0.0}, []))
    config = settings(source, learning_rates=(1e-4,), epochs=(2,))
    with pytest.raises(StudyError, match="No recipe reaches a single right answer"):
        tune(config, tmp_path / "out")
    assert not (tmp_path / "out" / "recipe.yaml").exists()


def test_changed_data_is_refused_before_a_search_continues(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "run_cells", stand_in({(1e-4, 2): 0.5, (1e-4, 4): 0.6}, []))
    config, out = settings(source, learning_rates=(1e-4,), epochs=(2,)), tmp_path / "out"
    # target questions are not even opened
    config = replace(config, data=replace(config.data, target="/nowhere/target.jsonl"))
    tune(config, out)
    content = source.read_text()
    source.write_text(content.replace("so 4 .", "so 5 ."))
    with pytest.raises(StoreError, match=r"another train set \(.*mine\.jsonl\): it was changed"):
        tune(replace(config, epochs=(2, 4)), out)
    source.write_text(content)
    assert tune(replace(config, epochs=(2, 4)), out)["chosen"]["epochs"] == 4
    (out / "tune.json").write_text("[]")
    with pytest.raises(StoreError, match=r"tune\.json is damaged"):
        tune(config, out)


def test_a_search_that_could_not_begin_takes_mended_data(source: Path, tmp_path: Path) -> None:
    content = source.read_text()
    source.write_text(content[:1000].rpartition("\n")[0] + "\n")
    with pytest.raises(DataError, match="held-out problems"):
        tuning_cells(settings(source), tmp_path / "out")
    source.write_text(content)
    assert tuning_cells(settings(source), tmp_path / "out")


def test_one_that_is_always_right_is_not_certain_to_be_the_best(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "run_cells", stand_in({(1e-4, 2): 1.0, (1e-4, 4): 1.0}, []))
    found = tune(settings(source, learning_rates=(1e-4,), epochs=(2, 4)), tmp_path / "out")
    # 200 answers, all right: (200 + 1) / (200 + 2) = 0.995, 1.96 sqrt(2 * .995 * .005 / 200)
    assert found["noise"] == pytest.approx(0.0138, abs=1e-4)
    assert found["notes"][0] == "Within the noise of it (1.4%): 0.0001 x 4."


def test_a_config_is_read_where_it_is_named_and_nowhere_else(tmp_path: Path) -> None:
    """A file may be called `a`, and the folder of the search after its config."""
    file = tmp_path / "a.yaml"
    file.write_text("recipe: {epochs: 3}\nrounds: {budgets: [8, 12, 16]}\nseeds: [0]\n")
    read = json.dumps({"recipe": {"epochs": 3}, "sizes": [8, 16]})
    out = f"{file}-tuned"
    assert read_for_tuning(["--config", str(file), "--out", out], commands.COMMANDS["tune"]) == [
        "--config",
        read,
        "--out",
        out,
    ]
    assert read_for_tuning([f"--config={file}", f"--out={out}"], commands.COMMANDS["tune"]) == [
        f"--config={read}",
        f"--out={out}",
    ]


@pytest.mark.parametrize(
    ("lines", "named"),
    [
        ("rounds: [1]", "rounds: expected settings by name"),
        ("rounds: {budgets: 150}", "rounds.budgets: expected a list"),
        ("rounds: {budgets: [150, x]}", "rounds.budgets: expected a list"),
        ("data: {source: nowhere.jsonl, name: 2024-01-01}", "nowhere.jsonl"),
        ("recipe: {clip: .inf}", "recipe.clip"),
    ],
)
def test_a_config_that_cannot_be_meant_is_refused(
    lines: str, named: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(lines + "\n")
    assert run(["tune", "--config", str(file), "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert named in error
    assert error.count("\n") == 1


def test_too_few_held_out_examples_judge_nothing(source: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="at least 20 held-out problems"):
        tuning_cells(settings(source, held_out=0.05), tmp_path / "a")
    with pytest.raises(DataError, match="240 left to train on"):
        tuning_cells(settings(source, sizes=(100, 240)), tmp_path / "b")
    with pytest.raises(ConfigError, match="0 for built-in presets only"):
        settings(source, held_out=0.0)


def test_the_command_reads_a_config_of_compare_and_its_answer_fits_it(
    tmp_path: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Real runs: a tiny random model, whose every answer is wrong, ends in one line."""
    study = tmp_path / "study.yaml"
    study.write_text(
        f"model: {tiny_model}\ndata: [{{source: 'skills:mixed', pool_size: 60, test_limit: 4}}]\n"
        "strategies: {random: random, premem: premem}\nseeds: [0]\n"
        "rounds: {budgets: [8, 12, 16]}\n"
        "recipe: {learning_rate: 1.0e-3, epochs: 1, batch_size: 8}\n"
        "scoring: {samples: 1, max_new_tokens: 4}\n"
    )
    argv = ["tune", "--config", str(study), "--out", str(tmp_path / "out")]
    argv += ["learning_rates=[0.001]", "epochs=[1]", "tuning_seeds=[1000]", "workers=1"]
    assert run(argv) == 2
    assert "No recipe reaches a single right answer" in capsys.readouterr().err
    cells = list((tmp_path / "out" / "cells").glob("*/*/*/config.json"))
    assert len(cells) == 1
    assert json.loads(cells[0].read_text())["rounds"]["budgets"] == [8, 16]
    # what a search writes is taken by the study
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("recipe: {learning_rate: 0.5, epochs: 1, batch_size: 8}\n")
    argv = [
        "compare",
        "--config",
        str(study),
        "--config",
        str(recipe),
        "--out",
        str(tmp_path / "x"),
    ]
    with pytest.raises(SystemExit):
        run([*argv, "--print_config"])
    assert yaml.safe_load(capsys.readouterr().out)["recipe"]["learning_rate"] == 0.5
