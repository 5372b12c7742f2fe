"""Promises about the shape of the code that no other tool here can see."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

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
