"""Active data selection for fine-tuning language models to reason.

Every name that a user needs, in one list: :data:`PUBLIC` says in which module each is defined. A
name is loaded when it is first used, so that light commands do not wait for torch.

Example:
    >>> import activeselect
    >>> activeselect.RoundsConfig(mode="acquire", budgets=(100, 200)).budgets
    (100, 200)
"""

from __future__ import annotations

import importlib
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from activeselect.config import AuditConfig as AuditConfig
    from activeselect.config import DataConfig as DataConfig
    from activeselect.config import LoraConfig as LoraConfig
    from activeselect.config import PromptConfig as PromptConfig
    from activeselect.config import RecipeConfig as RecipeConfig
    from activeselect.config import RoundsConfig as RoundsConfig
    from activeselect.config import RunConfig as RunConfig
    from activeselect.config import ScoreConfig as ScoreConfig
    from activeselect.config import ScoringConfig as ScoringConfig
    from activeselect.config import Shot as Shot
    from activeselect.config import StudyConfig as StudyConfig
    from activeselect.config import TokensConfig as TokensConfig
    from activeselect.config import TuneConfig as TuneConfig
    from activeselect.data.load import LoadedData as LoadedData
    from activeselect.data.load import load_data as load_data
    from activeselect.data.load import load_pool as load_pool
    from activeselect.data.pool import Pool as Pool
    from activeselect.data.pool import Problem as Problem
    from activeselect.data.stored import store_pool as store_pool
    from activeselect.data.validate import DataReport as DataReport
    from activeselect.errors import ActiveSelectError as ActiveSelectError
    from activeselect.errors import ConfigError as ConfigError
    from activeselect.errors import DataError as DataError
    from activeselect.errors import ModelError as ModelError
    from activeselect.errors import StoreError as StoreError
    from activeselect.errors import StrategyError as StrategyError
    from activeselect.errors import StudyError as StudyError
    from activeselect.errors import TrainingError as TrainingError
    from activeselect.forecast.evaluate import leave_one_run_out as leave_one_run_out
    from activeselect.forecast.live import load_pretrained as load_pretrained
    from activeselect.forecast.regressor import TestAccuracyRegressor as TestAccuracyRegressor
    from activeselect.forecast.traces import RunTrace as RunTrace
    from activeselect.forecast.traces import read_traces as read_traces
    from activeselect.integrations.transformers import SelectionCallback as SelectionCallback
    from activeselect.scoring.functional import (
        pre_memorization_accuracy as pre_memorization_accuracy,
    )
    from activeselect.scoring.metric import PreMemorizationAccuracy as PreMemorizationAccuracy
    from activeselect.scoring.scorer import LiveScorer as LiveScorer
    from activeselect.scoring.scorer import Scores as Scores
    from activeselect.scoring.store import ScoreStore as ScoreStore
    from activeselect.selection.sampler import ActiveSampler as ActiveSampler
    from activeselect.selection.strategy import Selection as Selection
    from activeselect.selection.strategy import SelectionContext as SelectionContext
    from activeselect.selection.strategy import Strategy as Strategy
    from activeselect.study.opened import open_run as open_run
    from activeselect.study.opened import open_study as open_study
    from activeselect.study.study import Study as Study
    from activeselect.study.tune import tune as tune
    from activeselect.testing import check_strategy as check_strategy
    from activeselect.training.callback import ActiveSelection as ActiveSelection
    from activeselect.training.module import ReasoningModule as ReasoningModule
    from activeselect.training.module import load_model as load_model
    from activeselect.training.offline import OfflineScoring as OfflineScoring
    from activeselect.training.run import ActiveRun as ActiveRun
    from activeselect.training.run import RunResult as RunResult

#: Public name: the module of the package that defines it.
PUBLIC: dict[str, str] = {
    "ActiveRun": "training.run",
    "ActiveSampler": "selection.sampler",
    "ActiveSelectError": "errors",
    "ActiveSelection": "training.callback",
    "AuditConfig": "config",
    "ConfigError": "errors",
    "DataConfig": "config",
    "DataError": "errors",
    "DataReport": "data.validate",
    "LiveScorer": "scoring.scorer",
    "LoadedData": "data.load",
    "LoraConfig": "config",
    "ModelError": "errors",
    "OfflineScoring": "training.offline",
    "Pool": "data.pool",
    "PreMemorizationAccuracy": "scoring.metric",
    "Problem": "data.pool",
    "PromptConfig": "config",
    "ReasoningModule": "training.module",
    "RecipeConfig": "config",
    "RoundsConfig": "config",
    "RunConfig": "config",
    "RunResult": "training.run",
    "RunTrace": "forecast.traces",
    "ScoreConfig": "config",
    "ScoreStore": "scoring.store",
    "Scores": "scoring.scorer",
    "ScoringConfig": "config",
    "Selection": "selection.strategy",
    "SelectionCallback": "integrations.transformers",
    "SelectionContext": "selection.strategy",
    "Shot": "config",
    "StoreError": "errors",
    "Strategy": "selection.strategy",
    "StrategyError": "errors",
    "Study": "study.study",
    "StudyConfig": "config",
    "StudyError": "errors",
    "TestAccuracyRegressor": "forecast.regressor",
    "TokensConfig": "config",
    "TrainingError": "errors",
    "TuneConfig": "config",
    "check_strategy": "testing",
    "leave_one_run_out": "forecast.evaluate",
    "load_data": "data.load",
    "load_model": "training.module",
    "load_pool": "data.load",
    "load_pretrained": "forecast.live",
    "open_run": "study.opened",
    "open_study": "study.opened",
    "pre_memorization_accuracy": "scoring.functional",
    "read_traces": "forecast.traces",
    "store_pool": "data.stored",
    "tune": "study.tune",
}

__all__ = list(PUBLIC)  # the imports above are for type checkers; a test keeps them in step


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return version("activeselect")
    if name == "testing":
        return importlib.import_module("activeselect.testing")
    if name not in PUBLIC:
        raise AttributeError(f"module 'activeselect' has no attribute '{name}'")
    return getattr(importlib.import_module(f"activeselect.{PUBLIC[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
