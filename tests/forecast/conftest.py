"""A small world of recorded runs whose test accuracy is known, in the trace format."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pyarrow as pa
import pytest

from activeselect.forecast.traces import RunTrace, read_traces, write_traces

EXAMPLES, ROUNDS, SAMPLES = 80, 3, 5


@pytest.fixture(scope="session")
def reference() -> ModuleType:
    """The slow reference, loaded from its file."""
    path = Path(__file__).resolve().parents[1] / "references" / "premem.py"
    spec = importlib.util.spec_from_file_location("reference_premem", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def tables(runs: int, seed: int = 0, dataset: str = "toy") -> tuple[pa.Table, pa.Table]:
    """Runs that learn at different rates and memorize towards the end."""
    rng = np.random.default_rng(seed)
    examples, checkpoints = [], []
    for k in range(runs):
        skill = 0.15 + 0.6 * (k + 1) / (runs + 1)
        for r in range(ROUNDS):
            understood = skill * (0.5 + 0.25 * r)
            memorized = rng.random(EXAMPLES) < 0.3 * r
            chance = np.where(
                memorized, 0.98, rng.beta(4 * understood, 4 * (1 - understood), EXAMPLES)
            )
            nll = np.where(memorized, 0.01, 0.3 + 0.4 * rng.random(EXAMPLES)) + 0.2 * (r == 0)
            key = {"run": f"run-{k}", "step": 10 * (r + 1), "epoch": r + 1}
            examples += [
                {
                    **key,
                    "example_id": i,
                    "mean_nll": float(nll[i]),
                    "n_tokens": 20,
                    "outcomes": (rng.random(SAMPLES) < chance[i]).tolist(),
                }
                for i in range(EXAMPLES)
            ]
            checkpoints.append(
                {
                    **key,
                    "dataset": dataset,
                    "train_size": EXAMPLES,
                    "learning_rate": 1e-3,
                    "test_accuracy": float(understood),
                    "test_examples": 100,
                    "test_samples": 1,
                }
            )
    return pa.Table.from_pylist(examples), pa.Table.from_pylist(checkpoints)


@pytest.fixture(scope="session")
def toy_traces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trace folder with six runs of the dataset ``toy``."""
    folder = tmp_path_factory.mktemp("traces")
    write_traces(folder, "toy", *tables(6))
    return folder


@pytest.fixture(scope="session")
def toy_runs(toy_traces: Path) -> list[RunTrace]:
    """The six runs, read back."""
    return read_traces(toy_traces, "toy")
