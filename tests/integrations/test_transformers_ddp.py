"""Several processes under transformers' Trainer: one order, one selection, scoring shared."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

SCRIPT = Path(__file__).parent / "ddp_script.py"

# each run starts an interpreter per process, which takes a minute on a busy machine
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


def train(
    model: Path, out: Path, size: int, batch: int, epochs: int, processes: int, **other: Any
) -> list[dict[str, Any]]:
    command = [sys.executable]
    if processes > 1:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            port = taken.getsockname()[1]
        command += ["-m", "torch.distributed.run", "--nproc_per_node", str(processes)]
        command += ["--master_port", str(port)]
    words = [str(word) for word in (SCRIPT, model, out, size, batch, epochs, json.dumps(other))]
    words += ["--several"] if processes > 1 else []
    environment = {k: v for k, v in os.environ.items() if k not in ("LOCAL_RANK", "WORLD_SIZE")}
    done = subprocess.run(
        [*command, *words],
        env={**environment, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=560,
    )
    if done.returncode:
        raise RuntimeError(done.stdout[-2000:] + done.stderr[-2000:])
    return [json.loads((out / f"told-{rank}.json").read_text()) for rank in range(processes)]


def test_two_processes_choose_what_one_does(tiny_model: Path, tmp_path: Path) -> None:
    first, second = train(tiny_model, tmp_path / "two", 32, 8, 2, processes=2)
    for name in ("index", "weight", "loss", "times_seen", "model", "rounds"):
        assert first[name] == second[name], name
    # each example is scored once, by one of them
    assert first["scored"] + second["scored"] == 2 * 32
    assert min(first["scored"], second["scored"]) > 0
    trained = first["trained"] + second["trained"]
    assert sorted(trained[:16] + trained[32:48]) == list(range(32))  # the first epoch, shared out
    assert np.bincount(trained, minlength=32).tolist() == first["times_seen"]
    assert [file for file in first["files"] if file.endswith(".tmp")] == []
    (alone,) = train(tiny_model, tmp_path / "one", 32, 16, 2, processes=1)
    assert alone["times_seen"] == first["times_seen"]
    assert alone["index"] == first["index"]
    np.testing.assert_allclose(alone["weight"], first["weight"], rtol=1e-3)
    np.testing.assert_allclose(alone["loss"], first["loss"], rtol=1e-4)


def test_what_is_filled_up_is_counted_and_a_resumed_run_ends_the_same(
    tiny_model: Path, tmp_path: Path
) -> None:
    whole = train(tiny_model, tmp_path / "whole", 27, 4, 2, processes=2)
    for told in whole:
        trained = whole[0]["trained"] + whole[1]["trained"]
        assert len(trained) == 2 * 32  # 27 filled up to batches of 4 for each of two processes
        assert np.bincount(trained, minlength=27).tolist() == told["times_seen"]
    train(tiny_model, tmp_path / "parts", 27, 4, 1, processes=2)
    parts = train(tiny_model, tmp_path / "parts", 27, 4, 2, processes=2)
    for name in ("index", "weight", "loss", "times_seen", "model"):
        assert parts[0][name] == parts[1][name] == whole[0][name], name


def test_what_cannot_work_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    shares = {"accelerator_config": {"split_batches": True}}
    with pytest.raises(RuntimeError, match=r"refused: accelerator_config: expected split_batches"):
        train(tiny_model, tmp_path / "out", 24, 4, 1, processes=2, **shares)
