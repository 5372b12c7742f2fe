"""Shared fixtures: where the real measurements lie, and small problems to work on."""

from __future__ import annotations

from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder with the paper's real runs and GSM8K; the test is skipped where it is absent."""
    folder = SHARED / "data"
    if not folder.is_dir():
        pytest.skip("real measurements (../shared/data) are not on this machine")
    return folder
