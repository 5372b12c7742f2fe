"""Slow references, loaded from their files; the public conformance suite."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from activeselect import testing

TESTS = Path(__file__).resolve().parents[1]


def load(path: Path) -> ModuleType:
    name = f"activeselect_tests_{path.stem}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def sampling_reference() -> ModuleType:
    return load(TESTS / "references" / "sampling.py")


@pytest.fixture(scope="session")
def conformance() -> ModuleType:
    return testing


@pytest.fixture(scope="session")
def vector_reference() -> ModuleType:
    return load(TESTS / "references" / "vectors.py")


@pytest.fixture(scope="session")
def allocation_reference() -> ModuleType:
    return load(TESTS / "references" / "allocation.py")
