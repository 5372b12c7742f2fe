"""What goes wrong while a run trains: each has a defined outcome, and nothing finished is lost."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from activeselect import cli
from activeselect.config import (
    RecipeConfig,
    RunConfig,
    ScoringConfig,
    to_plain,
)
from activeselect.errors import StoreError, TrainingError
from activeselect.files import make_folder, write_json
from activeselect.training.folder import RunFolder
from activeselect.training.module import ReasoningModule
from activeselect.training.run import ActiveRun
from tests.support import RECIPE, skills, small_run


def config(model: Path, **changes: Any) -> RunConfig:
    small = small_run(
        model,
        data=skills(60, 4),
        recipe=replace(RECIPE, epochs=1),
        scoring=ScoringConfig(samples=1, max_new_tokens=4),
        measure=("mean_nll",),
    )
    return replace(small, **changes)


def command(model: Path, folder: Path, **changes: Any) -> list[str]:
    file = folder.with_suffix(".yaml")
    file.write_text(yaml.safe_dump(to_plain(config(model, **changes))))
    return ["train", "--config", str(file), "--out", str(folder)]


# --- numbers -----------------------------------------------------------------------------------


def test_a_loss_that_is_no_number_stops_before_a_weight_takes_it_over(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, steps = ReasoningModule.training_step, []

    def step(self: ReasoningModule, batch: dict[str, torch.Tensor], batch_idx: int) -> Any:
        steps.append(batch_idx)
        if len(steps) == 4:  # two in the first stage, and the second step of the second
            embedding = self.model.get_input_embeddings()
            with monkeypatch.context() as patch:
                patch.setattr(embedding, "forward", lambda ids: embedding.weight[ids] * torch.nan)
                return real(self, batch, batch_idx)
        return real(self, batch, batch_idx)

    monkeypatch.setattr(ReasoningModule, "training_step", step)
    message = (
        r"loss is nan at step 1 of 3 \(learning rate now 0\.00066666\d, examples [\d, ]+\); "
        r"expected a finite number. Lower recipe.learning_rate \(0\.001\).*new folder; the rounds"
    )
    with pytest.raises(TrainingError, match=message):
        ActiveRun(config(tiny_model)).run(tmp_path / "run")
    assert json.loads((tmp_path / "run" / "state.json").read_text())["stage"] == 1
    monkeypatch.undo()
    # had it been a fault of the machine, the same command would go on
    resumed = ActiveRun(config(tiny_model)).run(tmp_path / "run")
    whole = ActiveRun(config(tiny_model)).run(tmp_path / "whole")
    assert [one["test_accuracy"] for one in resumed.curve] == [
        one["test_accuracy"] for one in whole.curve
    ]


def test_a_learning_rate_that_diverges_is_named(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = RecipeConfig(learning_rate=1e9, epochs=20, batch_size=8, clip=0.0)
    assert cli.run(command(tiny_model, tmp_path / "run", recipe=recipe)) == 2
    said = capsys.readouterr().err
    assert "activeselect: The training loss is nan at step " in said
    assert "Lower recipe.learning_rate (1e+09)" in said


def test_a_starting_model_that_is_no_number_is_named(tiny_model: Path, tmp_path: Path) -> None:
    model = shutil.copytree(tiny_model, tmp_path / "model")
    weights = load_file(model / "model.safetensors")
    weights["model.norm.weight"][3] = float("nan")
    save_file(weights, model / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(TrainingError, match=r"nan at step 0.*Check the starting model"):
        ActiveRun(config(model)).run(tmp_path / "run")


@pytest.mark.parametrize("done", [16 + 8 + 24])
def test_scores_that_vanish_are_missed(tiny_model: Path, tmp_path: Path, done: int) -> None:
    """After the first stage: a strategy would take them for never measured."""

    def stop(trained: int, total: int, doing: str) -> None:
        if trained > done and doing == "training":
            raise RuntimeError("stopped")

    recipe = RecipeConfig(learning_rate=1e-3, epochs=2, batch_size=8)
    with pytest.raises(RuntimeError, match="stopped"):
        ActiveRun(config(tiny_model, recipe=recipe)).run(tmp_path, progress=stop)
    shutil.rmtree(tmp_path / "scores")
    with pytest.raises(StoreError, match=r"Rounds 0.* missing in .*scores"):
        ActiveRun(config(tiny_model, recipe=recipe)).run(tmp_path)


# --- disks -------------------------------------------------------------------------------------


@pytest.mark.skipif(os.name != "posix", reason="limits of a process are POSIX")
def test_a_full_disk_ends_in_a_message_and_the_run_continues(
    tiny_model: Path, tmp_path: Path
) -> None:
    """A limit on the size of files stands for the full disk: writes fail in the same calls."""
    words = command(tiny_model, tmp_path / "run")
    limited = (
        "import resource, runpy, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000)); "
        "sys.argv = ['activeselect', *sys.argv[1:]]; "
        "runpy.run_module('activeselect', run_name='__main__')"
    )
    full = subprocess.run(
        [sys.executable, "-c", limited, *words],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert full.returncode == 2, full.stderr
    assert "activeselect: Cannot write" in full.stderr
    assert "File too large" in full.stderr
    assert "the same command continues" in full.stderr
    assert "Traceback" not in full.stderr
    assert cli.run(words) == 0


@pytest.mark.skipif(os.name != "posix", reason="permissions are POSIX")
def test_a_folder_that_may_not_be_written_is_named(tmp_path: Path) -> None:
    """As a user without rights, also where the tests run as root."""
    closed = tmp_path / "closed"
    closed.mkdir()
    closed.chmod(0o555)
    code = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from activeselect.errors import StoreError\n"
        "from activeselect.files import make_folder, write_json\n"
        "if os.geteuid() == 0:\n    os.setgid(65534); os.setuid(65534)\n"
        "for write in (lambda p: write_json(p, 1), lambda p: make_folder(p)):\n"
        "    try:\n        write(Path(sys.argv[1]) / 'a' / 'b')\n"
        "    except StoreError as error:\n        print(error)\n"
        "    except PermissionError:\n        print('bare')\n"
    )
    for parent in [tmp_path, *tmp_path.parents][:3]:
        parent.chmod(0o755)  # pytest's own folders are closed to others
    done = subprocess.run(
        [sys.executable, "-c", code, str(closed)], capture_output=True, text=True, check=True
    )
    first, second = done.stdout.splitlines()
    assert "Permission denied" in first
    assert "choose a folder that you may write" in first
    assert second == "bare"  # make_folder alone leaves the wording to its caller


def test_a_run_folder_below_a_file_is_named(tiny_model: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for out in (tmp_path / "file", tmp_path / "file" / "run"):
        folder = RunFolder(out, config(tiny_model))
        with (
            pytest.raises(StoreError, match="choose a path whose parents are folders"),
            folder.claimed({"train": "", "test": None, "model": {}}),
        ):
            pass
    assert (tmp_path / "file").read_text() == "mine"


def test_a_failed_write_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "deep" / "er" / "a.json"
    write_json(file, [1])
    for name in ("replace", "fsync"):

        def fail(*args: Any) -> None:
            raise OSError(122, "Disk quota exceeded", str(file))

        with monkeypatch.context() as patch:
            patch.setattr(Path if name == "replace" else os, name, fail)
            with pytest.raises(StoreError, match=r"Disk quota exceeded.*within your quota"):
                write_json(file, [2])
        assert json.loads(file.read_text()) == [1]
        assert list(file.parent.iterdir()) == [file]
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(file, float("nan"))
    make_folder(file.parent)


def test_writes_are_durable_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The content is synced before the name changes, the folder after it."""
    happened: list[str] = []
    real_fsync, real_replace = os.fsync, Path.replace

    def fsync(descriptor: int) -> None:
        happened.append(f"sync {Path(f'/proc/self/fd/{descriptor}').readlink().name}")
        real_fsync(descriptor)

    def rename(self: Path, target: Path) -> Path:
        happened.append(f"rename {self.name}")
        return real_replace(self, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Path, "replace", rename)
    write_json(tmp_path / "new" / "a.json", 1)
    name = tmp_path.name
    assert happened == [f"sync {name}", "sync .a.json.tmp", "rename .a.json.tmp", "sync new"]
