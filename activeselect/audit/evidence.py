"""Evidence for a measure: what its validation on built-in skills says (``docs/research/audit.md``).

``validation.json`` is written by ``research/audit_validation.py``.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from activeselect.files import read_json

VALIDATION = Path(__file__).parent / "validation.json"


@cache
def _areas() -> dict[str, Any]:
    return dict(read_json(VALIDATION)["measures"]) if VALIDATION.is_file() else {}


def evidence(name: str) -> str:
    """Whether a measure tells models that need their steps from models that do not.

    Returns:
        ``tells apart`` (the interval of its area under the ROC curve lies above 0.5), ``at chance``
        (it does not), or ``not validated``.
    """
    entry = _areas().get(name)
    if entry is None:
        return "not validated"
    return "tells apart" if entry["low"] > 0.5 else "at chance"
