"""The training benchmark runs, and counts what it says it counts."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import pytest
import torch
import transformers

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "training.py"


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    spec = importlib.util.spec_from_file_location("benchmark_of_training", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    threads, verbosity = torch.get_num_threads(), transformers.logging.get_verbosity()
    spec.loader.exec_module(module)
    yield module
    torch.set_num_threads(threads)
    transformers.logging.set_verbosity(verbosity)
    datasets.enable_progress_bars()


def test_every_trainer_is_timed(
    benchmark: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--models", "built-in", "--examples", "8", "--batch-size", "4", "--rounds", "1"]
    monkeypatch.setattr(sys, "argv", ["training.py", *options])
    benchmark.main()
    found = capsys.readouterr().out.splitlines()
    assert [line[18:37].strip() for line in found[1:5]] == list(benchmark.TRAINERS)
    for line in found[1:5]:
        seconds, _, speed = (float(word.replace(",", "")) for word in line[37:66].split())
        assert seconds > 0
        assert speed > 0
    assert found[5].split()[:2] == ["8", "examples,"]


def test_the_work_is_what_it_is_called(benchmark: Any) -> None:
    (work,) = benchmark.works(["0.8M, 224 words"], 40, 8, "32-true")
    assert round(sum(w.numel() for w in work.model.parameters()) / 1e5) == 8
    lengths = [(item.start, len(item.ids) - item.start) for item in work.items]
    rows = benchmark.LENGTHS.read_text().splitlines()[1:41]
    assert lengths == [tuple(map(int, row.split(","))) for row in rows]
    seconds, operations = benchmark.floor_seconds(work)
    by_tokens = 6 * 0.8e6 * work.tokens  # the rule of thumb, which counts embeddings, too
    assert 0.5 < operations / by_tokens < 1.5
    assert seconds > 0
