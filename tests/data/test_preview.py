"""`activeselect prompt show`: the tokens that training uses, and which of them are learned."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from activeselect.cli import run
from activeselect.config import DataConfig, PromptConfig, RunConfig
from activeselect.data.prompts import preview, shown
from activeselect.errors import ConfigError
from activeselect.training.module import load_tokenizer
from activeselect.training.run import ActiveRun

SMALL = DataConfig("skills:mixed", pool_size=30, test_limit=4)


@pytest.mark.parametrize("prompt", [None, PromptConfig("{question} ", "{trace}", shots=2)])
def test_the_tokens_shown_are_those_of_training(prompt: PromptConfig | None) -> None:
    config = RunConfig(data=SMALL, prompt=prompt, seed=5)
    found = preview(config, load_tokenizer(config.model), index=7, split="train")
    train = ActiveRun(config)
    from activeselect.data.prompts import encode

    (item,) = encode(train.data.pool, [7], train.tokenizer, train.prompt)
    assert [token["id"] for token in found["tokens"]] == item.ids.tolist()
    assert [token["learned"] for token in found["tokens"]].index(True) == item.start


def test_text_shows_tokens_and_what_is_learned() -> None:
    tokens = [
        {"id": i, "text": t, "learned": i > 1} for i, t in enumerate(["Q", ":", " 7", "</s>"])
    ]
    lines = shown({"index": 0, "problems": 3, "tokens": tokens, "stop": ["\n\n"]}).splitlines()
    assert lines[0] == "Problem 0 of 3; | stands between tokens."
    assert lines[2] == "Q|:"
    assert lines[4] == " 7|</s>"
    assert lines[5] == r"--- also ends a completion: '\n\n' ---"


def test_a_problem_that_is_not_there_is_an_error() -> None:
    config = RunConfig(data=SMALL)
    with pytest.raises(ConfigError, match="index: expected 0 to 3; received 4"):
        preview(config, load_tokenizer(config.model), index=4, split="test")


def test_the_command_prints_json_without_loading_the_model(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, tiny_model: Path
) -> None:
    folder = tmp_path / "tokenizer"
    folder.mkdir()
    for file in tiny_model.iterdir():
        if file.suffix == ".json":  # no weights
            (folder / file.name).write_bytes(file.read_bytes())
    argv = ["prompt", "show", f"model={folder}", "data.source=skills:mixed", "data.pool_size=30"]
    assert run([*argv, "index=2", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["index"] == 2
    assert found["tokens"][-1]["text"] == "<eos>"
    assert found["tokens"][-1]["learned"]
