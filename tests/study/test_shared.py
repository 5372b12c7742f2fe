"""What cells of one seed have in common is computed once, and changes nothing but the time."""

from __future__ import annotations

import csv
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml
from safetensors.torch import load_file, save_file

from activeselect.config import (
    LoraConfig,
    RecipeConfig,
    RoundsConfig,
    ScoringConfig,
    StudyConfig,
    to_plain,
)
from activeselect.errors import StoreError
from activeselect.scoring.distributed import Chunks
from activeselect.study.study import Study
from activeselect.training.module import ReasoningModule
from activeselect.training.shared import CommonStage
from tests.support import RECIPE, skills, small_study

POOL = 24
SECONDS = ("train_s", "score_s", "select_s", "eval_s")


def study(model: Path, **changes: Any) -> StudyConfig:
    small = small_study(
        model,
        data=(skills(POOL, 6),),
        rounds=RoundsConfig(budgets=(8, 12, POOL), score_until=2),
        recipe=replace(RECIPE, epochs=3),
        scoring=ScoringConfig(samples=2, max_new_tokens=6, batch_tokens=500),
    )
    return replace(small, **changes)


def artefacts(out: Path) -> dict[str, Any]:
    """All that the cells of a study leave, times apart."""
    found: dict[str, Any] = {}
    for folder in sorted(out.glob("cells/*/*/*")):
        name = "/".join(folder.parts[-2:])
        result = json.loads((folder / "result.json").read_text())
        costs = [entry[name] for entry in result["curve"] for name in ("cost", "cost_of_model")]
        for spent in (result["cost"], *costs):
            for part in SECONDS:
                spent.pop(part)
        found[f"{name} result"] = result
        found[f"{name} metrics"] = without_times((folder / "metrics.csv").read_text())
        found[f"{name} scored"] = (folder / "scored.json").read_text()
        for file in sorted(folder.glob("*/*.parquet")):
            found[f"{name} {file.name}"] = pq.read_table(file).to_pylist()
    return found


def without_times(metrics: str) -> list[list[str]]:
    rows = [line.split(",") for line in metrics.splitlines()]
    kept = [place for place, name in enumerate(rows[0]) if "seconds" not in name]
    return [[row[place] for place in kept] for row in rows]


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by one with each training step of this process."""
    steps: list[int] = []
    step = ReasoningModule.training_step

    def counted(self: ReasoningModule, batch: Any, batch_idx: int) -> Any:
        steps.append(len(batch["index"]))
        return step(self, batch, batch_idx)

    monkeypatch.setattr(ReasoningModule, "training_step", counted)
    return steps


#: Each measures something else, on weights of another moment.
KINDS = {"random": "random", "premem": "premem", "allocate": "allocate", "less": "less"}
LORA = RecipeConfig(
    learning_rate=1e-3, epochs=3, batch_size=8, lora=LoraConfig(rank=2, dropout=0.1)
)


@pytest.mark.parametrize(
    "changes",
    [
        {"strategies": KINDS},
        {"rounds": RoundsConfig(budgets=(8, 12, POOL), restart=False), "recipe": LORA},
        {"recipe": replace(LORA, precision="bf16-true")},  # adapters are made in 32 bits
    ],
    ids=["restart", "continue with adapters", "adapters in 16 bits"],
)
def test_sharing_changes_nothing_but_the_time(
    tiny_model: Path, tmp_path: Path, trained: list[int], changes: dict[str, Any]
) -> None:
    config = study(tiny_model, **changes)
    Study(replace(config, share=False)).run(tmp_path / "alone")
    alone = sum(trained)
    trained.clear()
    results = Study(config).run(tmp_path / "shared")
    assert artefacts(tmp_path / "shared") == artefacts(tmp_path / "alone")
    # the first stage once; and the last one, too, where it starts from the base model again
    in_common = 3 * (8 + POOL if config.rounds.restart else 8)
    assert sum(trained) == alone - (len(config.strategies) - 1) * in_common
    computed = results["computed"]
    assert 0 < computed["tokens_trained_computed"] < computed["tokens_trained_billed"]
    assert "computed once" in results["notes"][0]
    assert not (tmp_path / "shared" / "shared").exists()  # nobody needs it any more


def test_what_one_strategy_measures_is_not_on_anothers_bill(
    tiny_model: Path, tmp_path: Path
) -> None:
    strategies = {"premem": "premem", "random": "random", "again": "premem"}
    Study(study(tiny_model, strategies=strategies)).run(tmp_path)
    cost = {
        name: json.loads((tmp_path / f"cells/mixed/{name}/seed-0/result.json").read_text())["cost"]
        for name in strategies
    }
    assert cost["random"]["tokens_generated"] == cost["random"]["score_s"] == 0
    assert cost["again"]["tokens_generated"] == cost["premem"]["tokens_generated"] > 0
    assert cost["again"]["score_s"] > 0


def test_what_is_measured_changes_no_draw(tiny_model: Path, tmp_path: Path) -> None:
    """Random selection is the same run whatever is measured beside it, and how often."""
    often = RoundsConfig(budgets=(8, 12, 20))
    Study(study(tiny_model, rounds=often, measure=("premem", "prequential"))).run(tmp_path / "a")
    seldom = replace(often, score_every=2, score_until=2)
    Study(study(tiny_model, rounds=seldom)).run(tmp_path / "b")
    found = []
    for out in ("a", "b"):
        cell = tmp_path / out / "cells/mixed/random/seed-0"
        train = json.loads((cell / "state.json").read_text())["train"]
        tests = [pq.read_table(file).to_pylist() for file in sorted(cell.glob("predictions/*"))]
        lines = (cell / "metrics.csv").read_text().splitlines()
        losses = [row["train/loss"] for row in csv.DictReader(lines)]
        found.append((train, tests, losses))
    assert found[0] == found[1]


class Stop(BaseException):
    """Like Ctrl-C, not an error that a study survives."""


TWO = RoundsConfig(budgets=(8, 16))


@pytest.fixture(scope="module")
def undisturbed(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    out = tmp_path_factory.mktemp("alone")
    Study(study(tiny_model, rounds=TWO, share=False)).run(out)
    return artefacts(out)


@pytest.mark.parametrize(
    ("owner", "name", "call"),
    [
        (ReasoningModule, "training_step", 2),  # the leader, in the stage that is shared
        (CommonStage, "keep", 2),
        (CommonStage, "publish", 1),
        (CommonStage, "load", 2),  # a follower, half through it
        (Chunks, "keep", 3),
    ],
)
def test_a_stop_anywhere_is_continued_by_another_run(
    tiny_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    undisturbed: dict[str, Any],
    owner: type,
    name: str,
    call: int,
) -> None:
    config = study(tiny_model, rounds=TWO)
    calls: list[str] = []
    whole: Callable[..., Any] = getattr(owner, name)

    def stopping(*args: Any, **kwargs: Any) -> Any:
        calls.append(name)
        if len(calls) == call:
            raise Stop
        return whole(*args, **kwargs)

    monkeypatch.setattr(owner, name, stopping)
    with pytest.raises(Stop):
        Study(config).run(tmp_path / "stopped")
    # the other strategy comes first now: it may have to train what the first had begun
    swapped = {name: config.strategies[name] for name in reversed(config.strategies)}
    Study(replace(config, strategies=swapped)).run(tmp_path / "stopped")
    assert artefacts(tmp_path / "stopped") == undisturbed


def progress(out: Path) -> frozenset[str]:
    """What is there of checkpoints, rounds and results, whether its own or shared."""
    kinds = (".ckpt", ".parquet", ".json", ".pt")
    return frozenset(str(file) for file in out.rglob("*") if file.suffix in kinds)


def compare(folder: Path, out: str, *settings: str) -> subprocess.Popen[bytes]:
    """The command on ``study.yaml``, in a process group of its own."""
    command = [sys.executable, "-m", "activeselect", "compare", "--config", "study.yaml"]
    return subprocess.Popen(
        [*command, "--out", out, *settings],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        start_new_session=True,  # so that its workers can be killed with it
    )


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_study_killed_again_and_again_ends_with_the_same_bits(
    tiny_model: Path, tmp_path: Path
) -> None:
    config = study(tiny_model, seeds=(0, 1), workers=2)
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(to_plain(config)))

    def started(out: str, *settings: str) -> subprocess.Popen[bytes]:
        return compare(tmp_path, out, *settings)

    assert started("alone", "share=false").wait() == 0
    rng, kills = random.Random(5), list[frozenset[str]]()
    for _ in range(8):
        running = started("killed")
        begun, more = progress(tmp_path / "killed"), rng.randint(1, 5)
        # files, not seconds: a start takes as long as the machine is busy
        while running.poll() is None and len(progress(tmp_path / "killed") - begun) < more:
            time.sleep(0.01)
        if running.poll() is not None:
            break
        time.sleep(rng.uniform(0, 0.2))
        os.killpg(running.pid, signal.SIGKILL)
        running.wait()
        kills.append(progress(tmp_path / "killed"))
    assert started("killed").wait() == 0
    assert len(kills) >= 3
    assert artefacts(tmp_path / "killed") == artefacts(tmp_path / "alone")


def processes_of(session: int) -> set[int]:
    """The living processes of a session, its leader included."""
    found = set()
    for file in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it may end between the two looks
            state, _, _, its_session, *_ = file.read_text().rpartition(")")[2].split()
            if int(its_session) == session and state != "Z":
                found.add(int(file.parent.name))
    return found


def wait_for(condition: Callable[[], bool], seconds: float) -> bool:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.05)
    return condition()


def kill_alone(running: subprocess.Popen[bytes]) -> None:
    """SIGKILL to the command, not to its workers, which have to end by themselves."""
    running.kill()
    running.wait()
    try:
        assert wait_for(lambda: not processes_of(running.pid), 60), "workers go on as orphans"
    finally:
        with suppress(ProcessLookupError):
            os.killpg(running.pid, signal.SIGKILL)


@pytest.mark.slow
@pytest.mark.timeout(2700)  # four starts of a study, on a busy machine
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for processes in /proc")
def test_workers_end_with_a_study_that_is_killed_alone(tiny_model: Path, tmp_path: Path) -> None:
    """SIGKILL to the parent alone, while two workers are in the middle of long cells."""
    recipe = RecipeConfig(learning_rate=1e-3, epochs=20, batch_size=8)
    rounds = RoundsConfig(budgets=(12, POOL), score_until=2)
    config = study(tiny_model, recipe=recipe, rounds=rounds, workers=2, share=False)
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(to_plain(config)))
    assert compare(tmp_path, "alone").wait() == 0

    running = compare(tmp_path, "killed")
    cells = [tmp_path / f"killed/cells/mixed/{name}/seed-0" for name in ("random", "premem")]

    def all_at_work() -> bool:
        files = [cell / "progress.json" for cell in cells]
        reports = [json.loads(file.read_text()) for file in files if file.exists()]
        return len(reports) == 2 and all(report["done"] > 0 for report in reports)

    assert wait_for(all_at_work, 400)  # loading the libraries, on a busy machine
    assert len(processes_of(running.pid)) >= 3
    kill_alone(running)
    # they were stopped, they did not just come to their end
    assert not any((cell / "result.json").exists() for cell in cells)
    assert compare(tmp_path, "killed").wait() == 0
    assert artefacts(tmp_path / "killed") == artefacts(tmp_path / "alone")


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for processes in /proc")
def test_workers_that_still_load_their_libraries_end_as_well(
    tiny_model: Path, tmp_path: Path
) -> None:
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(to_plain(study(tiny_model, workers=2))))
    running = compare(tmp_path, "killed")
    assert wait_for(lambda: len(processes_of(running.pid)) > 3, 400)  # two, and those who tidy up
    kill_alone(running)
    assert not list((tmp_path / "killed").glob("cells/*/*/*/config.json"))


# --- finished runs of other studies ------------------------------------------------------------


def test_a_finished_run_of_another_study_is_copied(
    tiny_model: Path, tmp_path: Path, trained: list[int]
) -> None:
    Study(study(tiny_model)).run(tmp_path / "first")
    trained.clear()
    labels = {"baseline": "random", "mine": "premem"}
    config = study(
        tiny_model, strategies=labels, baseline="baseline", reuse=(str(tmp_path / "first"),)
    )
    results = Study(config).run(tmp_path / "second")
    assert trained == []
    assert results["computed"]["runs_copied"] == 2
    assert results["computed"]["tokens_trained_computed"] == 0
    assert "2 of 2 runs were copied" in results["notes"][0]
    mine = tmp_path / "second/cells/mixed/mine/seed-0"
    assert json.loads((mine / "reused.json").read_text())["from"].endswith("premem/seed-0")
    theirs, ours = artefacts(tmp_path / "first"), artefacts(tmp_path / "second")
    assert theirs["premem/seed-0 result"] == ours["mine/seed-0 result"]


def test_other_code_or_another_model_is_not_reused(
    tiny_model: Path, tmp_path: Path, trained: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    only = {"random": "random"}
    model = tmp_path / "model"
    shutil.copytree(tiny_model, model)
    config = study(model, strategies=only, rounds=TWO)
    Study(config).run(tmp_path / "first")
    again = replace(config, reuse=(str(tmp_path / "first"),))
    trained.clear()
    weights = load_file(model / "model.safetensors")
    save_file({name: 2 * w for name, w in weights.items()}, model / "model.safetensors")
    Study(again).run(tmp_path / "other-model")  # in the same folder, under the same name
    assert sum(trained) == 3 * 24
    shutil.copyfile(tiny_model / "model.safetensors", model / "model.safetensors")
    Study(again).run(tmp_path / "same")
    assert sum(trained) == 3 * 24
    monkeypatch.setattr("activeselect.training.run.code_fingerprint", lambda strategy: "other")
    Study(again).run(tmp_path / "other-code")
    assert sum(trained) == 2 * 3 * 24


def test_a_folder_without_a_study_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="has no cells"):
        Study(study(tiny_model, reuse=(str(tmp_path),))).run(tmp_path / "out")
    assert not (tmp_path / "out").exists()
