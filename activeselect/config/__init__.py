"""Settings of a run and of a study, validated when they are built.

The command line, the YAML files in ``configs/`` and the Python API fill the same dataclasses; an
error says what was expected, what came, and what to do.
"""

from activeselect.config.audit import FEWEST_WORDINGS, HEDGES, AuditConfig, RunAuditConfig
from activeselect.config.data import (
    BUILT_IN_MODEL,
    NO_TEST,
    PRESET_TARGET,
    PROMPTS,
    SKILLS_PREFIX,
    DataConfig,
    PromptConfig,
    Shot,
    prompt_of,
)
from activeselect.config.plain import (
    HARDWARE,
    changes,
    config_hash,
    differences,
    from_plain,
    settings_from,
    settings_of_scores,
    to_plain,
)
from activeselect.config.recipe import PRECISIONS, SCHEDULES, LoraConfig, RecipeConfig, TokensConfig
from activeselect.config.rounds import MODES, NEAR, RoundsConfig, ScoringConfig
from activeselect.config.run import RunConfig, ScoreConfig
from activeselect.config.study import AXES, StudyConfig
from activeselect.config.tune import TuneConfig

__all__ = [
    "AXES",
    "BUILT_IN_MODEL",
    "FEWEST_WORDINGS",
    "HARDWARE",
    "HEDGES",
    "MODES",
    "NEAR",
    "NO_TEST",
    "PRECISIONS",
    "PRESET_TARGET",
    "PROMPTS",
    "SCHEDULES",
    "SKILLS_PREFIX",
    "AuditConfig",
    "DataConfig",
    "LoraConfig",
    "PromptConfig",
    "RecipeConfig",
    "RoundsConfig",
    "RunAuditConfig",
    "RunConfig",
    "ScoreConfig",
    "ScoringConfig",
    "Shot",
    "StudyConfig",
    "TokensConfig",
    "TuneConfig",
    "changes",
    "config_hash",
    "differences",
    "from_plain",
    "prompt_of",
    "settings_from",
    "settings_of_scores",
    "to_plain",
]
