"""Every script in examples/ runs as its first lines say."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
NEEDS = {"trl_sft": "trl"}
SAYS = {
    "pytorch_loop": "epoch 1: loss",
    "transformers_trainer": "rounds scored: 1",
    "trl_sft": "rounds scored: 1",
}


@pytest.mark.parametrize("script", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.stem)
def test_the_example_runs(script: Path, tmp_path: Path) -> None:
    needed = NEEDS.get(script.stem)
    if needed and importlib.util.find_spec(needed) is None:
        pytest.skip(f"{needed} is not installed (extra activeselect[{needed}])")
    done = subprocess.run(
        [sys.executable, str(script), "--epochs", "1"],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert SAYS[script.stem] in done.stdout
