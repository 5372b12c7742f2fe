"""The starter config runs as it is, and the plan counts what a run does."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from activeselect.cli import run
from activeselect.config import (
    DataConfig,
    LoraConfig,
    RecipeConfig,
    RoundsConfig,
    RunConfig,
    ScoringConfig,
)
from activeselect.errors import ConfigError
from activeselect.study.estimate import Rates, Shape, estimate_runs, memory_of, shape_of, work_of
from activeselect.study.starter import write_starter
from activeselect.training.run import ActiveRun
from tests.support import skills, small_run

SIZES = Shape(
    pool=100,
    test=10,
    tokens=50,
    target_tokens=30,
    parameters=1e9,
    trainable=1e9,
    layers=20,
    width=2000,
    vocabulary=32_000,
    device="CPU",
    free_gigabytes=8.0,
    rates=Rates(1.0, 2.0, 0.5, "measured"),
)


def rows(path: Path, count: int = 20) -> Path:
    lines = [
        {"Problem": f"ann has {i} pens and buys 2 more . how many ?", "Solution": f"so {i} + 2 = "
         f"{i + 2} . Answer: {i + 2}", "level: hard?": "easy #1"}
        for i in range(count)
    ]  # fmt: skip
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@pytest.mark.parametrize("kind", ["train", "compare"])
def test_the_starter_config_is_accepted_as_it_is(
    kind: str, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = rows(tmp_path / "my data.jsonl")
    file = tmp_path / "start.yaml"
    argv = ["init", str(source), "--model", str(tiny_model), "--out", str(file), "--kind", kind]
    assert run(argv) == 0
    said = capsys.readouterr().out
    assert "column 'Problem'" in said
    assert "marker:Answer:" in said
    assert "guessed" in file.read_text()
    argv = [kind, "--config", str(file), "--out", str(tmp_path / "run"), "--dry-run"]
    assert run([*argv, *(["seeds=[0]"] if kind == "compare" else [])]) == 0
    plan = capsys.readouterr().out
    assert "measured by a few real steps" in plan
    assert "Memory: about" in plan
    assert not (tmp_path / "run").exists()


def test_a_config_is_never_overwritten(tiny_model: Path, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("precious")
    with pytest.raises(ConfigError, match="not overwritten"):
        write_starter("skills:mixed", str(tiny_model), file)
    assert file.read_text() == "precious"


def test_what_cannot_be_guessed_is_left_to_fill_in(tiny_model: Path, tmp_path: Path) -> None:
    source = tmp_path / "odd.csv"
    source.write_text("x,y\n1 + 1 ?,2\n")
    said = write_starter(str(source), str(tiny_model), tmp_path / "odd.yaml")
    assert any("The guesses do not fit the data yet" in sentence for sentence in said)
    assert "question: FILL_IN" in (tmp_path / "odd.yaml").read_text()


def test_a_test_file_beside_the_train_file_is_found(tiny_model: Path, tmp_path: Path) -> None:
    source = rows(tmp_path / "train.jsonl")
    rows(tmp_path / "test.jsonl")
    write_starter(str(source), str(tiny_model), tmp_path / "c.yaml")
    assert f"test: {tmp_path / 'test.jsonl'}" in (tmp_path / "c.yaml").read_text()


def test_the_plan_counts_what_the_run_does(tiny_model: Path, tmp_path: Path) -> None:
    config = small_run(
        tiny_model,
        data=skills(120, 30),
        strategy="premem",
        rounds=RoundsConfig(budgets=(16, 32), score_every=1, score_until=1),
    )
    shape = shape_of(config)
    work = work_of(config, shape)
    result = ActiveRun(config).run(tmp_path / "run")
    assert work.trained == result.cost["samples_seen"]
    assert work.tokens_trained == pytest.approx(result.cost["tokens_trained"], rel=0.15)
    assert result.cost["tokens_generated"] <= work.generated_most
    assert work.scored == 16 + 32
    assert work.tested == 60
    assert (shape.pool, shape.test) == (120, 30)


def test_measuring_costs_only_where_a_strategy_asks_for_it() -> None:
    config = RunConfig(strategy="random", rounds=RoundsConfig(budgets=(10, 20)))
    assert work_of(config, SIZES).scored == 0
    measured = work_of(replace(config, measure=("premem",)), SIZES)
    assert measured.scored == (10 + 20) * config.recipe.epochs
    assert measured.read > 0
    without_last = replace(config.rounds, score_last=False)
    less = work_of(replace(config, measure=("premem",), rounds=without_last), SIZES)
    assert less.scored == 10 * config.recipe.epochs


def test_memory_shrinks_with_what_the_recipe_saves() -> None:
    config = RunConfig(recipe=RecipeConfig(batch_size=64))
    most = memory_of(config, SIZES)
    assert most > 16  # weights, gradients and two moments of a billion weights
    for saving in (
        {"accumulate": 8},
        {"gradient_checkpointing": True},
        {"precision": "bf16-true"},
    ):
        recipe = replace(config.recipe, **saving)  # type: ignore[arg-type]
        assert memory_of(replace(config, recipe=recipe), SIZES) < most
    few = replace(SIZES, trainable=1e6)
    assert memory_of(config, few) < most - 11


def test_adapters_take_a_merged_copy_on_a_cpu() -> None:
    # so many completions that the peak is in scoring
    config = RunConfig(
        recipe=RecipeConfig(batch_size=1),
        scoring=ScoringConfig(batch_tokens=2**21),
        accelerator="cpu",
    )
    few = replace(SIZES, trainable=1e6, pool=100_000)
    adapted = replace(config, recipe=replace(config.recipe, lora=LoraConfig()))
    copy = few.parameters * 4 / 1e9
    assert memory_of(adapted, few) - memory_of(config, few) == pytest.approx(copy)


def test_what_does_not_fit_is_said_and_not_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("activeselect.study.estimate.shape_of", lambda config: SIZES)
    config = RunConfig(strategy="random", rounds=RoundsConfig(budgets=(10, 20)))
    plan = estimate_runs([("random", config), ("random", replace(config, seed=1))], workers=2)
    assert plan.lines[0].runs == 2
    assert any("does NOT fit into the 8.0 GB" in line for line in plan.remarks)
    small = replace(SIZES, parameters=1e6, trainable=1e6, layers=2, width=64, vocabulary=100)
    monkeypatch.setattr("activeselect.study.estimate.shape_of", lambda config: small)
    plan = estimate_runs([("random", config)])
    assert any("fits into" in line for line in plan.remarks)


def test_a_model_too_large_to_try_is_planned_from_its_config(
    tiny_model: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "large"
    folder.mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).write_bytes((tiny_model / name).read_bytes())
    settings = json.loads((tiny_model / "config.json").read_text())
    settings |= {"hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32}
    settings |= {"num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128}
    (folder / "config.json").write_text(json.dumps(settings))
    config = RunConfig(model=str(folder), data=DataConfig("skills:mixed", pool_size=60))
    shape = shape_of(config)
    assert 6e9 < shape.parameters < 9e9
    assert "too large to try" in shape.rates.how
    assert shape.rates.train > shape.rates.read > 0


def test_a_chat_template_is_used_and_both_texts_are_shown(
    small_model: Callable[..., Path], tmp_path: Path
) -> None:
    folder = small_model(tmp_path / "model")
    template = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"
    template += "{% if add_generation_prompt %}<assistant>{% endif %}"
    tokens = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps({**tokens, "chat_template": template}))
    source = rows(tmp_path / "train.jsonl")
    said = "\n".join(write_starter(str(source), str(folder), tmp_path / "c.yaml"))
    assert "as chat:  '<user>ann has 0 pens and buys 2 more . how many ?<assistant>'" in said
    assert "as plain: 'ann has 0 pens and buys 2 more . how many ?\\nAnswer:'" in said
    assert yaml.safe_load((tmp_path / "c.yaml").read_text())["prompt"] == "chat"
