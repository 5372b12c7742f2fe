"""Kills runs with SIGKILL at random moments of chosen phases, and compares what they end with.

A command of its own, started by ``test_resume.py``: it forks its runs from one process that has
imported everything, because tens of starts would take longer than the runs. Prints one JSON line:
the phases in which runs died, and which moments ended in other bits than the uninterrupted run.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import random
import shutil
import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import lightning
import torch

from activeselect.cli import run as command
from activeselect.scoring.distributed import Chunks
from activeselect.scoring.scorer import LiveScorer
from activeselect.scoring.store import ScoreStore
from activeselect.training.folder import RunFolder
from activeselect.training.module import ReasoningModule
from activeselect.training.select import Selector

PHASES: dict[str, tuple[Any, str]] = {
    "training": (ReasoningModule, "training_step"),
    "scoring": (LiveScorer, "score"),
    "keeping": (Chunks, "keep"),
    "storing": (ScoreStore, "append"),
    "selecting": (Selector, "_ask"),
    "checkpointing": (lightning.Trainer, "save_checkpoint"),
    "testing": (LiveScorer, "evaluate"),
    "saving": (RunFolder, "write_folder"),
}


def watched(log: Path, die: tuple[str, int, float] | None) -> None:
    """Note every entry of a phase in ``log``; die some time after the chosen one."""
    entered: Counter[str] = Counter()
    inside: list[str] = []

    def wrapped(phase: str, call: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(call)
        def watch(*args: Any, **kwargs: Any) -> Any:
            entered[phase] += 1
            inside.append(phase)
            log.write_text(json.dumps([inside, entered]))
            if die and (phase, entered[phase]) == die[:2]:
                if die[2] == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                threading.Timer(die[2], os.kill, (os.getpid(), signal.SIGKILL)).start()
            try:
                return call(*args, **kwargs)
            finally:
                inside.pop()
                log.write_text(json.dumps([inside, entered]))

        return watch

    for phase, (owner, name) in PHASES.items():
        setattr(owner, name, wrapped(phase, getattr(owner, name)))


def forked(config: Path, out: Path, log: Path, die: tuple[str, int, float] | None) -> int:
    """Run ``activeselect train`` in a process of its own; returns how it ended."""
    child = os.fork()
    if child == 0:
        silent = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silent, 1)
        watched(log, die)
        os._exit(command(["train", "--config", str(config), "--out", str(out)]))
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def digest(folder: Path) -> dict[str, str]:
    """Hash of each thing that a run decides; times are left out."""
    result = json.loads((folder / "result.json").read_text())
    costs = [entry[name] for entry in result["curve"] for name in ("cost", "cost_of_model")]
    for spent in (result["cost"], *costs):
        for name in ("train_s", "score_s", "select_s", "eval_s"):
            del spent[name]
    with (folder / "metrics.csv").open() as handle:
        rows = [
            {k: v for k, v in row.items() if "seconds" not in k} for row in csv.DictReader(handle)
        ]
    content = {
        "result": json.dumps([result["curve"], result["cost"]]).encode(),
        "metrics": json.dumps(rows).encode(),
    }
    for pattern in ("scores/*.parquet", "predictions/*.parquet", "model/*.safetensors"):
        for file in sorted(folder.glob(pattern)):
            content[file.name] = file.read_bytes()
    return {name: hashlib.sha256(data).hexdigest()[:12] for name, data in content.items()}


def main(config: Path, work: Path, moments: int, seed: int, only: str) -> None:
    torch.set_num_threads(1)
    log = work / "phase.json"
    assert forked(config, work / "whole", log, None) == 0
    expected = digest(work / "whole")
    entered = json.loads(log.read_text())[1]
    died: Counter[str] = Counter()
    wrong = []
    rng = random.Random(seed)
    for moment in range(moments):
        phase = only or sorted(entered)[moment % len(entered)]
        # first at once, so that every phase is hit for sure, then some time after it was entered
        delay = rng.choice([0.001, 0.005, 0.02, 0.05]) if moment >= len(entered) else 0.0
        die = (phase, rng.randint(1, entered[phase]), delay)
        out = work / f"killed-{moment}"
        ended = forked(config, out, log, die)
        assert ended in (-signal.SIGKILL, 0), f"{die}: exit code {ended}"
        if ended:
            inside = json.loads(log.read_text() or "[[], {}]")[0]
            died[inside[-1] if inside else "between"] += 1
        assert forked(config, out, log, None) == 0, die
        found = digest(out)
        if found != expected:
            differ = [
                name for name in {**found, **expected} if found.get(name) != expected.get(name)
            ]
            wrong.append([*die, sorted(differ)])
        else:
            shutil.rmtree(out)
    print(json.dumps({"entered": entered, "died": died, "wrong": wrong}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), sys.argv[5])
