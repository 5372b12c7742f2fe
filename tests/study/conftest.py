"""One synthetic study, shared by the tests of tables, figures and report."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="session")
def results() -> dict[str, Any]:
    """A results.json as a study writes it; tests that change it copy it first."""
    path = Path(__file__).with_name("synthetic_results.py")
    spec = importlib.util.spec_from_file_location("synthetic_results", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    made: dict[str, Any] = module.synthetic_results()
    return made
