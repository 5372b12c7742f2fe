"""Environment of a result: package versions and machine."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version

PACKAGES = (
    "activeselect",
    "torch",
    "lightning",
    "transformers",
    "datasets",
    "torchmetrics",
    "scikit-learn",
    "numpy",
)


def environment() -> dict[str, str | int]:
    """Versions and machine, for the record beside a result."""
    found: dict[str, str | int] = {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpus": os.cpu_count() or 1,
    }
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found
