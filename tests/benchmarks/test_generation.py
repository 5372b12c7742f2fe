"""The benchmark of generation at a tiny size."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from activeselect.data.skills import base_path

FILE = Path(__file__).resolve().parents[2] / "benchmarks" / "generation.py"


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    spec = importlib.util.spec_from_file_location("benchmark_of_generation", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_both_sides_complete_the_same_prompts_within_the_memory(
    benchmark: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    threads = torch.get_num_threads()
    words = ["generation.py", "--prompts", "8", "--memory", "900", "--pairs", "1", "--samples", "2"]
    monkeypatch.setattr(sys, "argv", [*words, "--cases", "skills"])
    benchmark.main()
    torch.set_num_threads(threads)
    head, theirs, ours = capsys.readouterr().out.strip().splitlines()
    assert head.split()[-2:] == ["ratio", "(min-max)"]
    assert theirs.split()[1] == "transformers"
    assert ours.split()[1] == "activeselect"
    assert int(ours.split()[5].replace(",", "")) <= 900


def test_texts_are_as_long_as_those_of_gsm8k(benchmark: ModuleType) -> None:
    """Prompts of one length and a chance to end at each position give the table's lengths."""
    chance = benchmark.ending_chance().numpy()
    alive = np.concatenate([[1.0], np.cumprod(1 - chance)])
    for share, length in zip(np.linspace(0, 1, len(benchmark.WHOLE)), benchmark.WHOLE, strict=True):
        assert 1 - alive[length] == pytest.approx(share, abs=0.02)


def test_a_completion_ends_once_though_it_is_padded_with_the_end_token(
    benchmark: ModuleType,
) -> None:
    rows = [[5, 1, 1, 1], [5, 6, 7, 8], [1, 1, 1, 1], [5, 6, 7, 1]]
    assert benchmark.lengths_of(torch.tensor(rows), end=1) == [2, 4, 1, 4]


def test_packing_leaves_nobody_out_and_fits(benchmark: ModuleType) -> None:
    rng = np.random.default_rng(0)
    prompts = [np.full(n, i, np.int32) for i, n in enumerate(rng.integers(1, 40, 30))]
    grown = np.array([len(prompt) for prompt in prompts]) + rng.integers(1, 60, 30)
    case = benchmark.Case(None, prompts, 1, 0, 60)
    batches = benchmark.packed(case, 3, 1000, grown)
    assert sorted(int(p[0]) for batch in batches for p in batch) == list(range(30))
    for batch in batches:
        assert len(batch) * 3 * max(grown[int(p[0])] for p in batch) <= 1000


def test_a_pretrained_model_has_a_side_in_32_bits(
    benchmark: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    threads = torch.get_num_threads()
    questions = tmp_path / "test.jsonl"
    questions.write_text('{"question": "ann has 3 pens . how many ?"}\n' * 4)
    words = ["generation.py", "--model", str(base_path()), "--data", str(questions)]
    small = ["--prompts", "4", "--samples", "2", "--longest", "6", "--pairs", "1"]
    monkeypatch.setattr(sys, "argv", [*words, *small])
    benchmark.main()
    torch.set_num_threads(threads)
    _, *sides = capsys.readouterr().out.strip().splitlines()
    assert [side.split()[1] for side in sides] == ["transformers", "activeselect", "in"]
    shares = [float(part[:-1]) for side in sides for part in side.split() if part.endswith("%")]
    assert len(shares) == 3
    assert all(0 <= share < 100 for share in shares)  # of a tiny model next to nothing
