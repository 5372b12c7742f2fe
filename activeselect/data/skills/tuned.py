"""What was measured beforehand for a preset: the baseline's best recipe, and learning curves.

``tuned/mixed.json`` holds ``recipe`` (``chosen`` and the whole grid) and ``oracle`` (accuracy per
skill and number of examples), each with the seeds and the command that measured it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from activeselect.data.skills.presets import get_preset
from activeselect.errors import DataError


def tuning_file(preset: str) -> Path:
    """Where the measurements of a preset are kept."""
    return Path(__file__).parent / "tuned" / f"{get_preset(preset).name}.json"


def tuning(preset: str) -> dict[str, Any]:
    """The measurements of a preset.

    Raises:
        DataError: if the preset is unknown, or nothing was measured for it.

    Example:
        >>> sorted(tuning("mixed")["recipe"]["chosen"])
        ['batch_size', 'epochs', 'learning_rate']
    """
    file = tuning_file(preset)
    if not file.is_file():
        raise DataError(
            f"The preset '{preset}' has no tuned recipe ({file}); "
            f"make it with `activeselect benchmark recipe --preset {preset}`."
        )
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return found
