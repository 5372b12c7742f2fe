"""Promises about the shape of the code that no other tool here can see."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from activeselect.cli.commands import compare
from activeselect.config import RecipeConfig, RoundsConfig
from activeselect.selection.sampler import ActiveSampler
from tests.support import skills, small_study

ROOT = Path(__file__).parents[1]
ALLOWED = {"activeselect.selection.strategy", "numpy", "scipy", "sklearn", "__future__"}
STRATEGIES = sorted(path for path in (ROOT / "strategies").glob("*.py") if path.stem != "__init__")


@pytest.mark.parametrize("file", STRATEGIES, ids=lambda file: file.stem)
def test_a_strategy_imports_the_interface_and_arrays_only(file: Path) -> None:
    for node in ast.walk(ast.parse(file.read_text())):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            names = [node.module or "."]
        for name in names:
            standard = name.split(".")[0] in sys.stdlib_module_names
            assert standard or any(name == a or name.startswith(f"{a}.") for a in ALLOWED), name


def test_the_core_names_no_strategy() -> None:
    for file in (ROOT / "activeselect").rglob("*.py"):
        assert "activeselect.strategies." not in file.read_text(), file


@pytest.mark.parametrize(
    "module",
    [
        "activeselect",
        "activeselect.config",
        "activeselect.forecast.evaluate",
        "activeselect.scoring.functional",
        "activeselect.scoring.store",
        "activeselect.selection.order",
        "activeselect.selection.registry",
        "activeselect.study.report",
    ],
)
def test_light_modules_do_not_load_torch(module: str) -> None:
    code = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_imports_point_left() -> None:
    linter = Path(sys.executable).parent / "lint-imports"
    done = subprocess.run([linter], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_every_package_is_installed() -> None:
    listed = (ROOT / "pyproject.toml").read_text().split("packages = [")[1].split("]")[0]
    for init in (ROOT / "activeselect").rglob("__init__.py"):
        name = ".".join(init.parent.relative_to(ROOT).parts)
        assert f'"{name}"' in listed, name


def test_the_sampler_is_eight_calls_from_the_command(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    walks = []
    draw = ActiveSampler.__iter__

    def noted(sampler: ActiveSampler) -> Iterator[int]:
        ours = [call for call in inspect.stack() if "/activeselect/" in call.filename]
        walks.append([f"{Path(call.filename).stem}.{call.function}" for call in reversed(ours)])
        return draw(sampler)

    monkeypatch.setattr(ActiveSampler, "__iter__", noted)
    config = small_study(
        tiny_model,
        data=(skills(8, 2),),
        strategies={"random": "random"},
        rounds=RoundsConfig(budgets=(4, 6)),
        recipe=RecipeConfig(epochs=1, batch_size=4),
    )
    compare(tmp_path / "study", config)
    assert len(walks) == 2  # stages
    assert walks[0] == [
        "commands.compare",
        "study.run",
        "study.run_cells",
        "cell.run_cell",
        "run.run",
        "stage.run",
        "stage._train_and_test",
        "stage._fit",
    ]  # and the eighth call, through Lightning and torch, is that of the sampler
