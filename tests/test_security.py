"""What comes from elsewhere (models, datasets, completions, configs, folders) runs no code."""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from activeselect import cli
from activeselect.config import (
    DataConfig,
    RecipeConfig,
    RoundsConfig,
    RunConfig,
    ScoringConfig,
    StudyConfig,
)
from activeselect.data.math_answers import MathChecker
from activeselect.errors import ActiveSelectError, ConfigError, DataError, ModelError, StoreError
from activeselect.selection.registry import create
from activeselect.study.plan import plan
from activeselect.training.module import load_model
from activeselect.training.run import ActiveRun
from tests.support import skills, small_run


class Attack:
    """Unpickled, it leaves a mark."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.mark}",)


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    """A file that exists once an attack has run; the attack of these tests does work."""
    works = tmp_path / "works"
    pickle.loads(pickle.dumps(Attack(works)))
    assert works.exists()
    return tmp_path / "mark"


def config(model: Path, **changes: Any) -> RunConfig:
    small = small_run(
        model,
        data=skills(40, 4),
        rounds=RoundsConfig(budgets=(16,)),
        scoring=ScoringConfig(samples=1, max_new_tokens=4),
    )
    return replace(small, **changes)


# --- models ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt"])
def test_a_pickled_model_is_refused_unread(
    tiny_model: Path, tmp_path: Path, mark: Path, name: str
) -> None:
    model = shutil.copytree(tiny_model, tmp_path / "model")
    (model / "model.safetensors").unlink()
    with (model / name).open("wb") as handle:
        pickle.dump(Attack(mark), handle)
    with pytest.raises(ModelError, match=rf"pickle \({name}\).*expected \*.safetensors.*anew"):
        load_model(str(model))
    assert not mark.exists()


def test_a_pickle_beside_safetensors_is_not_read(
    tiny_model: Path, tmp_path: Path, mark: Path
) -> None:
    model = shutil.copytree(tiny_model, tmp_path / "model")
    for name in ("pytorch_model.bin", "training_args.bin"):
        (model / name).write_bytes(pickle.dumps(Attack(mark)))
    load_model(str(model))
    assert not mark.exists()


def test_code_that_comes_with_a_model_is_not_run(
    tiny_model: Path, tmp_path: Path, mark: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor asked about: a prompt on a terminal would be answered by habit."""
    model = shutil.copytree(tiny_model, tmp_path / "model")
    attack = f"import os\nos.system('touch {mark}')\n"
    (model / "modeling_mine.py").write_text(attack + "class Mine: pass\n")
    (model / "tokenization_mine.py").write_text(attack + "class Mine: pass\n")
    plain = json.loads((model / "config.json").read_text())
    plain["model_type"] = "mine"
    plain["auto_map"] = {
        "AutoConfig": "modeling_mine.Mine",
        "AutoModelForCausalLM": "modeling_mine.Mine",
    }
    (model / "config.json").write_text(json.dumps(plain))
    monkeypatch.setattr("builtins.input", lambda *args: pytest.fail("asked the user"))
    with pytest.raises(ModelError, match="Cannot load the model"):
        load_model(str(model))
    shutil.copy(tiny_model / "config.json", model / "config.json")
    words = json.loads((model / "tokenizer_config.json").read_text())
    words["tokenizer_class"] = "Mine"
    words["auto_map"] = {"AutoTokenizer": ["tokenization_mine.Mine", "tokenization_mine.Mine"]}
    (model / "tokenizer_config.json").write_text(json.dumps(words))
    with contextlib.suppress(ModelError):  # refused, or loaded by the library's own class
        load_model(str(model))
    assert not mark.exists()


def test_an_altered_checkpoint_is_refused_unrun(
    tiny_model: Path, tmp_path: Path, mark: Path
) -> None:
    def stop(done: int, total: int, doing: str) -> None:
        if done > 16 and doing == "training":
            raise RuntimeError("stopped")

    run = tmp_path / "run"
    with pytest.raises(RuntimeError, match="stopped"):
        ActiveRun(config(tiny_model)).run(run, progress=stop)
    checkpoint = run / "checkpoints" / "stage-0.ckpt"
    whole = checkpoint.read_bytes()
    torch.save({"callbacks": Attack(mark), "state_dict": {}}, checkpoint)
    with pytest.raises(StoreError, match=r"stage-0\.ckpt is damaged, or was altered.*delete it"):
        ActiveRun(config(tiny_model)).run(run)
    checkpoint.write_bytes(pickle.dumps(Attack(mark), protocol=2))  # as torch.save writes
    with pytest.raises(StoreError, match=r"stage-0\.ckpt is damaged, or was altered"):
        ActiveRun(config(tiny_model)).run(run)
    checkpoint.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(StoreError, match=r"stage-0\.ckpt is damaged, or was altered"):
        ActiveRun(config(tiny_model)).run(run)
    assert not mark.exists()
    checkpoint.unlink()
    resumed = ActiveRun(config(tiny_model)).run(run)
    whole_run = ActiveRun(config(tiny_model)).run(tmp_path / "whole")
    assert resumed.curve[-1]["test_accuracy"] == whole_run.curve[-1]["test_accuracy"]


def test_a_saved_model_has_no_pickle(tiny_model: Path, tmp_path: Path) -> None:
    ActiveRun(config(tiny_model, save_model=True)).run(tmp_path)
    assert (tmp_path / "model" / "model.safetensors").exists()
    assert not [*tmp_path.rglob("*.bin"), *tmp_path.rglob("*.pt"), *tmp_path.rglob("*.ckpt")]
    AutoModelForCausalLM.from_pretrained(tmp_path / "model", use_safetensors=True)


# --- configs -----------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["os.system", "subprocess.Popen", "builtins.eval"])
def test_a_class_path_that_names_no_strategy_is_not_called(path: str, mark: Path) -> None:
    spec = {"class_path": path, "command": f"touch {mark}", "args": f"touch {mark}"}
    with pytest.raises(ActiveSelectError, match=r"is no subclass of activeselect\.Strategy"):
        create(spec)
    assert not mark.exists()


@pytest.mark.parametrize("section", ["recipe", "scoring", "data", "rounds", "prompt"])
def test_a_class_path_elsewhere_in_a_config_is_refused(
    section: str, tmp_path: Path, mark: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "c.yaml"
    attack = {"class_path": "subprocess.Popen", "init_args": {"args": ["touch", str(mark)]}}
    file.write_text(json.dumps({section: attack}))
    assert cli.run(["train", "--config", str(file), "--out", str(tmp_path / "run")]) == 2
    assert capsys.readouterr().err.startswith("activeselect: ")
    assert not mark.exists()


def test_a_yaml_tag_builds_no_object(
    tmp_path: Path, mark: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(f"strategy: !!python/object/apply:os.system ['touch {mark}']\n")
    assert cli.run(["train", "--config", str(file), "--out", str(tmp_path / "run")]) == 2
    assert not mark.exists()
    assert "Traceback" not in capsys.readouterr().err


# --- completions -------------------------------------------------------------------------------

HOSTILE = (
    "__import__('os').system('touch {mark}')",
    r"\text{{__import__('os').system('touch {mark}')}}",
    r"\operatorname{{eval}}(\text{{__import__('os').system('touch {mark}')}})",
    "open('{mark}','w')",
    "(lambda: open('{mark}','w'))()",
    "1 + open('{mark}','w').write('1')",
    "2*__import__('os').system('touch {mark}')",
    r"\input{{/etc/passwd}}",
)


def test_a_completion_is_never_run(mark: Path) -> None:
    checker = MathChecker(timeout=20)
    for text in HOSTILE:
        answer = text.format(mark=mark)
        for completion in (f"so \\boxed{{{answer}}}", f"The final answer is {answer}", answer):
            assert not checker.check(completion, "5")
            assert not checker.equal(answer, "5")
            assert not checker.equal("5", answer)
    assert not mark.exists()
    assert checker.undecided == 0


@pytest.mark.timeout(60)
def test_a_completion_cannot_hold_up_the_run() -> None:
    """Towers of powers, factorials and deep nesting end at the time limit, and work goes on."""
    checker = MathChecker(timeout=0.5)
    for answer in ("9^{9^{9^{9^9}}}", "9**9**9**9", "(10^{10^{10}})!", "[" * 900, "(" * 900):
        assert not checker.equal(answer, "5")
    assert checker.equal(r"\frac{1}{2}", "0.5")


# --- names that become paths -------------------------------------------------------------------


@pytest.mark.parametrize("label", ["../../x", "a/b", "..", ".", "", "a\\b", "a\nb", "/etc/x"])
def test_a_label_cannot_leave_the_studys_folder(label: str) -> None:
    with pytest.raises(ConfigError, match=r"strategies: expected labels without / and \\"):
        StudyConfig(strategies={"random": "random", label: "premem"})


def test_a_dataset_cannot_leave_the_studys_folder(tmp_path: Path) -> None:
    sources = ("../../x", "..", "/", "../x/..", ".hidden", "a/../../b.jsonl", "~/x", "x/\u202e")
    for source in sources:
        cells = plan(StudyConfig(data=(DataConfig(source),), recipe=RecipeConfig()))
        for cell in cells:
            inside = (tmp_path / cell.folder).resolve().relative_to(tmp_path.resolve())
            assert inside.parts[0] == "cells"
            assert len(inside.parts) == 4
    with pytest.raises(DataError, match=r"Unknown benchmark preset '\.\./\.\./x'"):
        plan(StudyConfig(data=(DataConfig("skills:../../x"),), recipe=RecipeConfig()))


def test_groups_and_texts_of_a_dataset_become_no_paths(tiny_model: Path, tmp_path: Path) -> None:
    words = "each minute 6 litres flow in"
    rows = [
        {
            "question": words,
            "trace": f"so answer : {i}",
            "answer": str(i),
            "group": ["../../out", "/etc/x", "a\x00b"][i % 3],
        }
        for i in range(24)
    ]
    for name in ("train", "test"):
        lines = [json.dumps(row) for row in rows]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines))
    data = DataConfig(
        str(tmp_path / "train.jsonl"),
        test=str(tmp_path / "test.jsonl"),
        checker="marker:answer :",
        group="group",
    )
    before = set(tmp_path.rglob("*"))
    ActiveRun(config(tiny_model, data=data)).run(tmp_path / "deep" / "run")
    made = set(tmp_path.rglob("*")) - before
    assert all(path.is_relative_to(tmp_path / "deep") for path in made)
    assert not any("out" in path.name or "etc" in path.name for path in made)
