"""Slow references, and a small model and pool to score."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from activeselect.data.pool import Pool
from activeselect.data.skills import build_preset


def _reference(name: str) -> ModuleType:
    path = Path(__file__).resolve().parents[1] / "references" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"reference_{name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def premem_reference() -> ModuleType:
    return _reference("premem")


@pytest.fixture(scope="session")
def sampling_reference() -> ModuleType:
    return _reference("sampling")


@pytest.fixture(scope="session")
def signals_reference() -> ModuleType:
    return _reference("signals")


@pytest.fixture(scope="session")
def tokenizer(tiny_model: Path) -> Any:
    return AutoTokenizer.from_pretrained(tiny_model)


@pytest.fixture(scope="session")
def model(tiny_model: Path) -> Any:
    """The tiny model, sharpened so that its texts end at different lengths."""
    built = AutoModelForCausalLM.from_pretrained(tiny_model)
    with torch.no_grad():
        for weight in built.parameters():
            weight.mul_(3.0)
    return built.eval()


@pytest.fixture(scope="session")
def pool() -> Pool:
    return build_preset("mixed", seed=0, pool_size=24, test_size=4).pool
