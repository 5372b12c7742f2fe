"""Settings that train in seconds; a test says only what is different about its own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from activeselect.config import (
    DataConfig,
    RecipeConfig,
    RoundsConfig,
    RunConfig,
    ScoringConfig,
    StudyConfig,
)

RECIPE = RecipeConfig(learning_rate=1e-3, epochs=2, batch_size=8)
SCORING = ScoringConfig(samples=2, max_new_tokens=8)


def skills(pool: int = 60, test: int = 6, **changes: Any) -> DataConfig:
    """A few problems of the built-in benchmark."""
    return DataConfig("skills:mixed", pool_size=pool, test_limit=test, **changes)


def small_run(model: Path | str | None = None, **changes: Any) -> RunConfig:
    """A run of seconds; ``model``: a folder, default: the built-in one."""
    small = RunConfig(
        data=skills(),
        strategy="random",
        rounds=RoundsConfig(budgets=(16, 24)),
        recipe=RECIPE,
        scoring=SCORING,
        forecast="off",
        save_model=False,
    )
    named = {} if model is None else {"model": str(model)}
    return replace(small, **(named | changes))


def small_study(model: Path | str | None = None, **changes: Any) -> StudyConfig:
    """A study of seconds: two strategies and one seed, in this process."""
    small = StudyConfig(
        data=(skills(),),
        strategies={"random": "random", "premem": "premem"},
        seeds=(0,),
        rounds=RoundsConfig(budgets=(16, 24)),
        recipe=RECIPE,
        scoring=SCORING,
        workers=1,
    )
    named = {} if model is None else {"model": str(model)}
    return replace(small, **(named | changes))
