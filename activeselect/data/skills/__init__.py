"""The built-in benchmark: word problems of several skills, and a tiny base model to fine-tune.

One real record, the prompt being the question and a space::

    question  a tank holds 20 litres . each minute 9 flow in and 4 leak out . how many litres
              after 3 minutes ?
    trace     well 9 - 4 = 5 . next 5 x 3 = 15 . now 20 + 15 = 35 . hence answer : 35
    answer    35
    group     tank
"""

from __future__ import annotations

from pathlib import Path

from activeselect.data.skills.catalogue import SKILLS
from activeselect.data.skills.presets import (
    PRESETS,
    Preset,
    SkillsData,
    build_preset,
    get_preset,
    like,
)
from activeselect.data.skills.split import TUNING_SEED
from activeselect.data.skills.tuned import tuning
from activeselect.data.skills.vocabulary import vocabulary

__all__ = [
    "PRESETS",
    "SKILLS",
    "TUNING_SEED",
    "Preset",
    "SkillsData",
    "base_path",
    "build_preset",
    "get_preset",
    "like",
    "tuning",
    "vocabulary",
]


def base_path() -> Path:
    """The folder of the tiny base model, as ``transformers`` loads it.

    Example:
        >>> (base_path() / "config.json").is_file()
        True
    """
    return Path(__file__).parent / "base"
