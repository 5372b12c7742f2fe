"""What decides a run's result is checked before it is used: no flipped bit, no foreign file."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from activeselect.config import (
    DataConfig,
    LoraConfig,
    RoundsConfig,
    RunConfig,
    ScoringConfig,
)
from activeselect.errors import ActiveSelectError, StoreError
from activeselect.scoring.distributed import Chunks
from activeselect.scoring.scorer import Scores
from activeselect.seals import Seals
from activeselect.training.auditing import model_folder
from activeselect.training.folder import RunFolder
from activeselect.training.run import ActiveRun
from tests.support import RECIPE, small_run


@pytest.fixture(scope="module")
def model(small_model: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A train and a test file of small sums."""
    folder = tmp_path_factory.mktemp("data")
    for name, count in (("train", 24), ("test", 4)):
        rows = [
            {"question": f"{i} + 1 ?", "trace": f"{i} + 1 = {i + 1}", "answer": str(i + 1)}
            for i in range(count)
        ]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def config(model: Path, data: Path, **changes: Any) -> RunConfig:
    small = small_run(
        model,
        data=DataConfig(str(data / "train.jsonl"), test=str(data / "test.jsonl"), checker="number"),
        rounds=RoundsConfig(budgets=(8, 16), restart=False),
        recipe=replace(RECIPE, epochs=1),
        scoring=ScoringConfig(samples=1, max_new_tokens=4),
    )
    return replace(small, **changes)


class Stop(Exception):
    """A stop in the middle of a run."""


def stop_after(stage: int, before: str) -> Callable[[int, int, str], None]:
    """Progress that stops: in stage 1, once its checkpoint is there (it is tested after)."""
    seen = {"testing": -1}

    def progress(done: int, total: int, doing: str) -> None:
        if doing == "testing":
            seen["testing"] += 1
        if doing == before and seen["testing"] == stage:
            raise Stop

    return progress


def begin(settings: RunConfig, folder: Path) -> None:
    """A run that was stopped after the training of its second stage."""
    with pytest.raises(Stop):
        ActiveRun(settings).run(folder, progress=stop_after(1, "testing"))
    assert (folder / "checkpoints" / "stage-1.ckpt").exists()
    assert (folder / "state.json").exists()


@pytest.fixture(scope="module")
def begun(model: Path, files: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "begun"
    begin(config(model, files), folder)
    return folder


def flip(file: Path, bit: int) -> None:
    content = bytearray(file.read_bytes())
    content[bit // 8] ^= 1 << bit % 8
    file.write_bytes(bytes(content))


DECISIVE = [
    "checkpoints/stage-1.ckpt",
    "checkpoints/after-stage-0/model.safetensors",
    "checkpoints/after-stage-0/config.json",
    "checkpoints/after-stage-0/tokenizer.json",
    "state.json",
    "inputs.json",
    "seals.json",
]


@pytest.mark.parametrize("name", DECISIVE)
def test_a_flipped_bit_is_refused(
    begun: Path, model: Path, files: Path, tmp_path: Path, name: str
) -> None:
    rng = np.random.default_rng(len(name))
    run = ActiveRun(config(model, files))
    size = (begun / name).stat().st_size
    for bit in rng.integers(0, 8 * size, 3):
        folder = shutil.copytree(begun, tmp_path / f"bit-{bit}")
        flip(folder / name, int(bit))
        with pytest.raises(StoreError, match=Path(name).name):
            run.run(folder)


def test_files_of_another_run_are_refused(
    begun: Path, model: Path, files: Path, tmp_path: Path
) -> None:
    begin(config(model, files, seed=1), tmp_path / "other")
    run = ActiveRun(config(model, files))
    for name in ("checkpoints/stage-1.ckpt", "state.json"):
        folder = shutil.copytree(begun, tmp_path / Path(name).stem)
        shutil.copy(tmp_path / "other" / name, folder / name)
        with pytest.raises(StoreError, match="belongs to another run"):
            run.run(folder)


def test_an_unaltered_run_continues_to_the_same_result(
    begun: Path, model: Path, files: Path, tmp_path: Path
) -> None:
    run = ActiveRun(config(model, files))
    continued = run.run(shutil.copytree(begun, tmp_path / "continued"))
    whole = run.run(tmp_path / "whole")
    assert [e["test_accuracy"] for e in continued.curve] == [
        e["test_accuracy"] for e in whole.curve
    ]


@pytest.mark.parametrize(
    "name", ["result.json", "predictions/stage-0.parquet", "predictions/stage-1.parquet"]
)
def test_a_finished_run_with_a_flipped_bit_is_refused(
    finished: Path, model: Path, files: Path, tmp_path: Path, name: str
) -> None:
    folder = shutil.copytree(finished, tmp_path / "copy")
    flip(folder / name, 8 * ((folder / name).stat().st_size // 2))
    with pytest.raises(StoreError, match=Path(name).name):
        ActiveRun(config(model, files)).run(folder)


@pytest.fixture(scope="module")
def finished(begun: Path, model: Path, files: Path) -> Path:
    folder = shutil.copytree(begun, begun.with_name("finished"))
    ActiveRun(config(model, files)).run(folder)
    return folder


def edit(data: Path, name: str) -> None:
    """Change one answer of one file."""
    file = data / f"{name}.jsonl"
    old, new = (f'"3 + 1 = {value}", "answer": "{value}"' for value in (4, 5))
    file.write_text(file.read_text().replace(old, new))


@pytest.mark.parametrize("name", ["train", "test"])
@pytest.mark.parametrize("when", ["begun", "finished"])
def test_changed_data_is_refused(
    model: Path, files: Path, tmp_path: Path, name: str, when: str
) -> None:
    data = shutil.copytree(files, tmp_path / "data")
    settings = config(model, data)
    if when == "begun":
        with pytest.raises(Stop):
            ActiveRun(settings).run(tmp_path / "run", progress=stop_after(-1, "training"))
    else:
        ActiveRun(settings).run(tmp_path / "run")
    edit(data, name)
    with pytest.raises(StoreError, match=rf"the {name} set is not the one that it was begun with"):
        ActiveRun(settings).run(tmp_path / "run")


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json"])
def test_a_changed_model_is_refused(model: Path, files: Path, tmp_path: Path, name: str) -> None:
    copy = shutil.copytree(model, tmp_path / "model")
    settings = config(copy, files)
    begin(settings, tmp_path / "run")
    if name == "tokenizer.json":
        words = json.loads((copy / name).read_text())
        (copy / name).write_text(json.dumps(words, indent=1))
    else:
        flip(copy / name, 8 * ((copy / name).stat().st_size - 1))
    with pytest.raises(StoreError, match=rf"the model was changed since it was begun \({name}\)"):
        ActiveRun(settings).run(tmp_path / "run")


def test_a_model_overwritten_between_stages_is_refused(
    model: Path, files: Path, tmp_path: Path
) -> None:
    copy = shutil.copytree(model, tmp_path / "model")
    settings = config(copy, files, rounds=RoundsConfig(budgets=(8, 16), restart=True))
    weights = copy / "model.safetensors"

    def overwrite(done: int, total: int, doing: str) -> None:
        if doing == "testing" and weights.exists():
            flip(weights, 8 * (weights.stat().st_size - 1))

    with pytest.raises(StoreError, match="was changed while the run in"):
        ActiveRun(settings).run(tmp_path / "run", progress=overwrite)


def test_a_config_that_is_a_list_is_refused(
    begun: Path, model: Path, files: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(begun, tmp_path / "run")
    (folder / "config.json").write_text("[1, 2]\n")
    with pytest.raises(StoreError, match=r"config\.json is damaged: .* received a list"):
        ActiveRun(config(model, files)).run(folder)


def scores(value: float) -> Scores:
    return Scores(index=np.arange(2), seconds=0.0, columns={"loss": np.full(2, value)})


def test_a_part_under_another_number_is_not_taken(tmp_path: Path) -> None:
    parts = Chunks(tmp_path)
    parts.keep("pass", 0, scores(0.5))
    parts.keep("pass", 1, scores(0.25))
    assert sorted(parts.of("pass")) == [0, 1]
    (tmp_path / "pass-0.json").replace(tmp_path / "pass-2.json")
    shutil.copy(tmp_path / "pass-1.json", tmp_path / "other-1.json")
    assert sorted(parts.of("pass")) == [1]
    assert not parts.of("other")
    flip(tmp_path / "pass-1.json", 8 * 20)
    assert not parts.of("pass")


@pytest.mark.parametrize("cut", range(1, 60, 7))
def test_a_log_cut_in_a_row_is_recovered(
    finished: Path, model: Path, files: Path, tmp_path: Path, cut: int
) -> None:
    folder = RunFolder(shutil.copytree(finished, tmp_path / "run"), config(model, files))
    before = folder.file("metrics.csv").read_bytes()
    log = sorted(folder.file("logs").glob("stage-1*/metrics.csv"))[0]
    log.write_bytes(log.read_bytes()[:-cut])
    folder.merge_logs()
    assert folder.file("metrics.csv").read_bytes() == before, "the merged file has the row"
    folder.file("metrics.csv").write_bytes(before[:-cut])
    log.write_bytes((finished / log.relative_to(folder.path)).read_bytes())
    folder.merge_logs()
    assert folder.file("metrics.csv").read_bytes() == before, "the logs have the row"


def test_a_stop_between_a_checksum_and_its_file_leaves_one_that_fits(tmp_path: Path) -> None:
    file, seals = tmp_path / "a.json", Seals(tmp_path)
    seals.write_json(file, 1)
    for value in (2, 3):
        later = tmp_path / "later"
        later.write_text(str(value))
        seals.announce({file: later})  # and the process ends here
        assert Seals(tmp_path).read_json(file, "-") == 1
    later.replace(file)
    assert Seals(tmp_path).read_json(file, "-") == 3
    seals.settle([file])
    file.write_text("1\n")
    with pytest.raises(ActiveSelectError, match="belongs to another run"):
        seals.check(file, "start again")


def test_adapters_whose_base_model_was_changed_are_refused(
    model: Path, files: Path, tmp_path: Path
) -> None:
    pytest.importorskip("peft")
    base = Path(shutil.copytree(model, tmp_path / "base"))
    lora = replace(RECIPE, epochs=1, lora=LoraConfig(rank=2))
    first = config(base, files, recipe=lora, rounds=RoundsConfig(budgets=(8,)), save_model=True)
    ActiveRun(first).run(tmp_path / "first")
    adapters = tmp_path / "first" / "model"
    assert (adapters / "adapter_config.json").is_file()
    second = config(adapters, files, recipe=lora)
    ActiveRun(second).run(tmp_path / "second")
    settings = base / "generation_config.json"
    settings.write_text(settings.read_text().replace("{", "{ ", 1))
    with pytest.raises(StoreError, match=r"model was changed .*\(base/generation_config.json\)"):
        ActiveRun(second).run(tmp_path / "second")


def test_another_commit_of_the_hub_is_refused(
    model: Path, files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = config(model, files)
    for module in ("run", "stage"):
        monkeypatch.setattr(f"activeselect.training.{module}.commit_of", lambda _: "a" * 40)
    run = ActiveRun(small)
    assert run.inputs["model"]["commit"][3] == "a" * 40
    monkeypatch.setattr("activeselect.training.stage.commit_of", lambda _: "b" * 40)
    with pytest.raises(StoreError, match=f"now .commit {'b' * 40}. than the run in"):
        run.run(tmp_path / "moved")
    monkeypatch.setattr("activeselect.training.run.commit_of", lambda _: "b" * 40)
    with pytest.raises(StoreError, match=r"the model was changed since it was begun \(commit\)"):
        ActiveRun(small).run(tmp_path / "moved")


def test_a_refusal_names_the_commits_of_the_data(model: Path, files: Path, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run", config(model, files))
    begun = {"train": "1f", "test": None, "model": {}, "revisions": {"train": "a" * 40}}
    with folder.claimed(begun):
        pass
    now = {**begun, "train": "2f", "revisions": {"train": "b" * 40}}
    with pytest.raises(StoreError, match=f"now 2f; commit {'a' * 40} of the hub, now {'b' * 40}"):
        folder.check_inputs(now)


def test_a_flipped_bit_of_the_last_weights_is_refused(
    model: Path, files: Path, tmp_path: Path
) -> None:
    """Stopped between the move of the weights to model/ and the result."""
    small = config(model, files, save_model=True)
    ActiveRun(small).run(tmp_path / "run")
    result = tmp_path / "run" / "result.json"
    result.unlink()
    ActiveRun(small).run(tmp_path / "run")
    assert result.exists()
    assert model_folder(str(tmp_path / "run")) == str(tmp_path / "run" / "model")
    weights = tmp_path / "run" / "model" / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[len(data) // 2] ^= 1
    weights.write_bytes(bytes(data))
    with pytest.raises(StoreError, match=r"model\.safetensors is damaged, or was altered"):
        model_folder(str(tmp_path / "run"))  # what an audit reads
    result.unlink()
    with pytest.raises(StoreError, match=r"model\.safetensors is damaged, or was altered"):
        ActiveRun(small).run(tmp_path / "run")
