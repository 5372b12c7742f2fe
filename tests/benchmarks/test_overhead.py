"""The benchmark of what selecting adds: its figures on known input, and one run of it."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """Imports a module of the folder, as the scripts do among themselves."""
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module


@pytest.mark.slow
def test_a_run_at_a_tiny_size(tmp_path: Path) -> None:
    file = tmp_path / "found.json"
    tiny = ["--budgets", "16", "32", "--pool-size", "120", "--test-size", "60", "--sizes", "16"]
    more = ["64", "--samples", "1", "2", "--rows", "ours", "loss", "--json", str(file)]
    command = [sys.executable, str(FOLDER / "overhead.py"), *tiny, *more]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    assert "--dataflex" in done.stdout  # how to get the rows that are missing
    found = json.loads(file.read_text())
    ours, loss = found["rows"]
    assert 0 < ours["scored"] <= 48
    assert ours["generated_tokens"] > ours["scored"]
    assert loss["generated_tokens"] == 0
    assert 0 < loss["adds"] < ours["adds"]
    assert 0 < loss["operations"] < ours["operations"]
    assert all(row["correlation"][1] <= row["correlation"][0] for row in (ours, loss))
    assert [row["scored"] for row in found["growth"]] == [16, 64]
    one, two = found["samples"]
    assert one["scored"] == two["scored"] == 64
    assert 0 < one["generated_tokens"] < two["generated_tokens"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--dataflex", "/nowhere/python"], "a python that has DataFlex"),
        (["--strategy", "premium"], "--strategy: expected one of random, balanced, premem, oracle"),
    ],
)
def test_a_mistake_is_named(
    benchmark: Callable[[str], ModuleType],
    words: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["overhead.py", *words])
    with pytest.raises(SystemExit) as stopped:
        benchmark("overhead").main()
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


def test_the_clock_books_each_second_once(benchmark: Callable[[str], ModuleType]) -> None:
    class Job:
        def whole(self) -> None:
            time.sleep(0.02)
            self.part()

        def part(self) -> None:
            time.sleep(0.05)

    clock, kept = benchmark("clock").Clock(), []
    clock.watch(Job, "whole", "whole")
    clock.watch(Job, "part", "part", lambda *_: (time.sleep(0.1), kept.append(1)))
    started = time.perf_counter()
    Job().whole()
    spent = time.perf_counter() - started
    clock.forget()
    Job().part()
    assert kept == [1]
    assert clock.wall["part"] >= 0.05
    assert clock.wall["whole"] >= 0.02
    assert sum(clock.wall.values()) <= spent - 0.1  # what is done afterwards is on no bill


def test_correlation_of_scores_with_their_groups_accuracy(
    benchmark: Callable[[str], ModuleType],
) -> None:
    found = benchmark("information")
    rng = np.random.default_rng(0)
    accuracy = np.linspace(0, 1, 12)
    group = rng.integers(0, 12, 600)
    perfect = (accuracy[group], group, accuracy)
    noise = (rng.normal(size=600), group, accuracy)
    constant = (np.ones(600), group, accuracy)
    assert found.correlation([perfect]) == pytest.approx((1, 1, 1))
    low, high = found.correlation([noise])[1:]
    assert -0.3 < low < 0 < high < 0.3
    assert found.correlation([constant])[0] == 0
    assert found.bits(0.0) == 0
    assert found.bits(0.5) == pytest.approx(0.2075, abs=1e-4)
    assert found.correlation([]) is None


def test_growth_is_fitted(benchmark: Callable[[str], ModuleType]) -> None:
    runs = benchmark("overhead_runs")
    rows = [runs.Row("", score=2 * n**1.5, scored=n) for n in (10, 100, 1000)]
    assert runs.exponent(rows) == pytest.approx(1.5)


def test_dataflex_is_given_the_same_tokens(
    benchmark: Callable[[str], ModuleType], tmp_path: Path
) -> None:
    from activeselect.config import RecipeConfig
    from activeselect.data.load import SKILLS_PROMPT
    from activeselect.data.prompts import encode
    from activeselect.data.skills import build_preset
    from activeselect.training.module import load_tokenizer

    python = tmp_path / "python"
    python.write_text('#!/bin/sh\necho \'{"cpu": {}, "wall": {}, "passes": []}\' > "$3"\n')
    python.chmod(0o755)
    pool = build_preset("mixed", 1000, pool_size=40, test_size=10).pool
    where = tmp_path / "run"
    benchmark("dataflex_side").run_dataflex(
        str(python),
        "loss",
        model="skills-base",
        pool=pool,
        end="<eos>",
        recipe=RecipeConfig(),
        steps=[3, 4, 4],
        seed=1000,
        where=where,
    )
    tokenizer = load_tokenizer("skills-base")
    rows = json.loads((where / "pool.json").read_text())
    ours = encode(pool, range(len(pool)), tokenizer, SKILLS_PROMPT)
    assert len(rows) == len(ours) == 40
    for row, item in zip(rows, ours, strict=True):
        prompt, target = tokenizer(row["instruction"]).input_ids, tokenizer(row["output"]).input_ids
        assert [*prompt, *target] == item.ids.tolist()
        assert len(prompt) == item.start
