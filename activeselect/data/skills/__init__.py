"""The built-in benchmark: word problems of several skills, and a tiny base model to fine-tune.

One real record, the prompt being the question and a space::

    question  cat is 26 years old . leo is half as old and ann is 10 years older than leo . how
              many years between cat and ann ?
    trace     well 26 / 2 = 13 . so 13 + 10 = 23 . so 26 - 23 = 3 . finally answer : 3
    answer    3
    group     ages
"""

from __future__ import annotations

from pathlib import Path

from activeselect.data.skills.presets import (
    PRESETS,
    TARGETS,
    Preset,
    SkillsData,
    build_preset,
    get_preset,
    like,
    shown,
    target_questions,
    tuning,
)
from activeselect.data.skills.relatives import SKILLS
from activeselect.data.skills.skill import TUNING_SEED
from activeselect.data.skills.stories import vocabulary

__all__ = [
    "PRESETS",
    "SKILLS",
    "TARGETS",
    "TUNING_SEED",
    "Preset",
    "SkillsData",
    "base_path",
    "build_preset",
    "get_preset",
    "like",
    "shown",
    "target_questions",
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
