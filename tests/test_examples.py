"""Every script and notebook in examples/ runs as its first lines say."""

from __future__ import annotations

import importlib.util
import json
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


def code_of(notebook: Path) -> list[dict[str, object]]:
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    return [cell for cell in cells if cell["cell_type"] == "code"]


@pytest.mark.parametrize("notebook", sorted(EXAMPLES.glob("*.ipynb")), ids=lambda path: path.stem)
def test_the_notebook_was_executed_in_order_without_an_error(notebook: Path) -> None:
    cells = code_of(notebook)
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    text = json.dumps(cells)
    for word in ('"output_type": "error"', "stderr", "Warning", "/tmp/", "/home/", "site-packages"):
        assert word not in text
    assert "image/png" in text or notebook.stem == "lightning_module"
    assert notebook.stat().st_size < 700_000


@pytest.mark.parametrize(
    "name",
    [
        "read_study",
        pytest.param("first_run", marks=pytest.mark.slow),
        pytest.param("lightning_module", marks=pytest.mark.slow),
    ],
)
def test_the_notebook_runs(name: str, tmp_path: Path) -> None:
    code = "\n".join("".join(cell["source"]) for cell in code_of(EXAMPLES / f"{name}.ipynb"))  # type: ignore[arg-type]
    (tmp_path / "examples").mkdir()
    (tmp_path / "docs").symlink_to(EXAMPLES.parent / "docs")
    (tmp_path / f"{name}.py").write_text(code, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-W", "error::DeprecationWarning:__main__", str(tmp_path / f"{name}.py")],
        cwd=tmp_path / "examples",
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
