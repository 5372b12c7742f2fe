"""Active data selection for fine-tuning language models to reason.

Names are loaded on first use, so that light commands do not wait for torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from activeselect.config import (
        DataConfig,
        PromptConfig,
        RecipeConfig,
        RoundsConfig,
        RunConfig,
        ScoringConfig,
        StudyConfig,
    )
    from activeselect.data.load import load_data, load_pool
    from activeselect.data.pool import Pool, Problem
    from activeselect.errors import ActiveSelectError
    from activeselect.forecast.regressor import TestAccuracyRegressor
    from activeselect.scoring.functional import pre_memorization_accuracy
    from activeselect.scoring.metric import PreMemorizationAccuracy
    from activeselect.scoring.scorer import LiveScorer
    from activeselect.scoring.store import ScoreStore
    from activeselect.selection.sampler import ActiveSampler
    from activeselect.selection.strategy import Selection, SelectionContext, Strategy
    from activeselect.study.study import Study
    from activeselect.training.callback import ActiveSelection
    from activeselect.training.module import ReasoningModule, load_model
    from activeselect.training.run import ActiveRun

_HOME = {
    "ActiveRun": "training.run",
    "ActiveSampler": "selection.sampler",
    "ActiveSelectError": "errors",
    "ActiveSelection": "training.callback",
    "DataConfig": "config",
    "LiveScorer": "scoring.scorer",
    "Pool": "data.pool",
    "PreMemorizationAccuracy": "scoring.metric",
    "Problem": "data.pool",
    "PromptConfig": "config",
    "ReasoningModule": "training.module",
    "RecipeConfig": "config",
    "RoundsConfig": "config",
    "RunConfig": "config",
    "ScoreStore": "scoring.store",
    "ScoringConfig": "config",
    "Selection": "selection.strategy",
    "SelectionContext": "selection.strategy",
    "Strategy": "selection.strategy",
    "Study": "study.study",
    "StudyConfig": "config",
    "TestAccuracyRegressor": "forecast.regressor",
    "load_data": "data.load",
    "load_model": "training.module",
    "load_pool": "data.load",
    "pre_memorization_accuracy": "scoring.functional",
}

__all__ = [
    "ActiveRun",
    "ActiveSampler",
    "ActiveSelectError",
    "ActiveSelection",
    "DataConfig",
    "LiveScorer",
    "Pool",
    "PreMemorizationAccuracy",
    "Problem",
    "PromptConfig",
    "ReasoningModule",
    "RecipeConfig",
    "RoundsConfig",
    "RunConfig",
    "ScoreStore",
    "ScoringConfig",
    "Selection",
    "SelectionContext",
    "Strategy",
    "Study",
    "StudyConfig",
    "TestAccuracyRegressor",
    "load_data",
    "load_model",
    "load_pool",
    "pre_memorization_accuracy",
]


def __getattr__(name: str) -> Any:
    if name == "testing":
        return importlib.import_module("activeselect.testing")
    if name not in _HOME:
        raise AttributeError(f"module 'activeselect' has no attribute '{name}'")
    return getattr(importlib.import_module(f"activeselect.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
