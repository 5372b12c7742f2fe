"""A study never averages runs on different data: its inputs are compared at every start."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from activeselect.config import DataConfig, RecipeConfig, RoundsConfig, StudyConfig, to_plain
from activeselect.data import inputs
from activeselect.errors import StoreError
from activeselect.files import write_json
from activeselect.study.collect import collect
from activeselect.study.study import Study


def study(folder: Path, **changes: Any) -> Study:
    settings: dict[str, Any] = {
        "model": str(folder / "model"),
        "data": (
            DataConfig(
                str(folder / "train.jsonl"),
                test=str(folder / "test.jsonl"),
                target=str(folder / "asked.jsonl"),
                checker="number",
                name="train",
            ),
        ),
        "strategies": {"random": "random"},
        "rounds": RoundsConfig(budgets=(8, 16)),
        "recipe": RecipeConfig(learning_rate=1e-3, epochs=1, batch_size=8),
        "seeds": (0,),
    }
    return Study(StudyConfig(**(settings | changes)))


@pytest.fixture
def begun(tmp_path: Path) -> Path:
    """Data, a model and a study's folder with one run that was begun."""
    for name in ("train.jsonl", "test.jsonl", "asked.jsonl"):
        (tmp_path / name).write_text('{"question": "1 + 1 ?", "trace": "2"}\n')
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}\n")
    (tmp_path / "model" / "model.safetensors").write_bytes(b"weights")
    first = study(tmp_path)
    first._claim(tmp_path / "out")
    cell = first.cells[0]
    write_json(tmp_path / "out" / cell.folder / "config.json", to_plain(cell.config))
    return tmp_path


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("train.jsonl", r"another train set of train \(.*train\.jsonl\): it was changed since"),
        ("test.jsonl", r"another test set of train \(.*test\.jsonl\): it was changed since"),
        ("asked.jsonl", r"another target set of train \(.*asked\.jsonl\): it was changed since"),
        ("model/model.safetensors", r"another model .*it was changed since \(model\.safetensors\)"),
    ],
)
@pytest.mark.parametrize("seeds", [(0,), (0, 1, 2)])
def test_changed_data_of_a_study_is_refused(
    begun: Path, name: str, message: str, seeds: tuple[int, ...]
) -> None:
    content = (begun / name).read_bytes()
    (begun / name).write_bytes(content.replace(content[-3:], content[-3:][::-1]))
    with pytest.raises(StoreError, match=message):
        study(begun, seeds=seeds)._claim(begun / "out")
    (begun / name).write_bytes(content)
    study(begun, seeds=seeds)._claim(begun / "out")


def test_an_untouched_study_goes_on(begun: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(file: Path) -> str:
        raise AssertionError(f"{file} was read although its size and times are the same")

    with monkeypatch.context() as patch:
        patch.setattr(inputs, "checksum", read)
        study(begun, seeds=(0, 1))._claim(begun / "out")
    os.utime(begun / "train.jsonl", (0, 0))  # other times, the same content
    (begun / "model" / "README.md").write_text("says nothing about answers\n")
    study(begun)._claim(begun / "out")


@pytest.mark.parametrize(("part", "name"), [("pool", "train"), ("test",) * 2, ("target",) * 2])
def test_runs_on_different_data_are_not_averaged(tmp_path: Path, part: str, name: str) -> None:
    for file in ("train.jsonl", "test.jsonl"):
        (tmp_path / file).write_text("{}\n")
    two = study(tmp_path, seeds=(0, 1))
    for number, cell in enumerate(two.cells):
        result = {
            "config": to_plain(cell.config),
            **{f"{some}_fingerprint": "same" for some in ("pool", "test", "target")},
            f"{part}_fingerprint": f"{part}-{number}",
            "curve": [],
            "cost": {},
        }
        write_json(tmp_path / "out" / cell.folder / "result.json", result)
    with pytest.raises(StoreError, match=rf"{name} set of train is not the same in .*\({part}-0\)"):
        collect(json.loads(json.dumps(to_plain(two.config))), tmp_path / "out")
    shutil.rmtree(tmp_path / "out")
