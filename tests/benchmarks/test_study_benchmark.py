"""The benchmark of a study's wall time at a tiny size; it checks itself that all ways agree."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from activeselect.cli import run

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "study.py"
TINY = "--strategies random longest --seeds 1 --budgets 8 12 --pool 60 --test 6 --epochs 2"


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("study_benchmark", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def here(*commands: list[str], threads: int = 1) -> tuple[float, float]:
        for command in commands:  # in this process: starting others would take most of the time
            if "activeselect" in command:
                assert run(command[3:]) == 0
        return 2.0, 1.0

    monkeypatch.setattr(module, "timed", here)
    return module


@pytest.mark.slow
def test_a_run_at_a_tiny_size(
    benchmark: ModuleType, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    benchmark.main([*TINY.split(), "--workers", "1"])
    said = capsys.readouterr().out
    assert "All ways gave the same test accuracies" in said
    tokens = next(line for line in said.splitlines() if "billed tokens_trained" in line)
    assert 70 < float(tokens.split()[-1].rstrip("%")) < 90  # 32 of 40 examples, in tokens
    monkeypatch.setattr(benchmark, "timed", lambda *_, **__: (1.0, 1.0))
    monkeypatch.setattr(benchmark, "curves", lambda folder: {"of": str(folder)})
    with pytest.raises(SystemExit, match="answers of 'one' differ"):
        benchmark.main([*TINY.split(), "--workers", "1"])
