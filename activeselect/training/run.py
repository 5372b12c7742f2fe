"""One training run from start to result: stages of rounds, resumable at every round."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from activeselect.config import RunConfig, config_hash, prompt_of, settings_of_scores, to_plain
from activeselect.data.load import fit_to_context, load_data
from activeselect.data.prompts import Encoded, encode
from activeselect.data.regions import with_regions
from activeselect.data.templates import check_texts, with_examples
from activeselect.environment import environment
from activeselect.errors import ConfigError
from activeselect.files import explained, read_json, write_json
from activeselect.scoring.families import context_length
from activeselect.scoring.ranks import once
from activeselect.scoring.store import ScoreStore
from activeselect.selection.registry import create
from activeselect.selection.strategy import Strategy
from activeselect.training.adapt import adapt, check, weight_type
from activeselect.training.callbacks import Progress
from activeselect.training.fingerprint import code_fingerprint, model_fingerprint
from activeselect.training.folder import RunFolder, RunState
from activeselect.training.history import Forecaster
from activeselect.training.launch import connected
from activeselect.training.loggers import checked_loggers
from activeselect.training.module import load_model
from activeselect.training.stage import Stage

IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class RunResult:
    """What a finished run leaves; the same as ``result.json``.

    ``curve`` has one entry per stage: stage, budget, unique_examples, samples_seen,
    test_accuracy (share in [0, 1]), test_examples, premem (dataset level, None if not measured),
    cost (spent up to here), groups (train examples per group).
    """

    path: Path
    curve: list[dict[str, Any]]
    cost: dict[str, float]


class ActiveRun:
    """Trains one model in rounds with live scoring and selection.

    Example::

        config = RunConfig(data=DataConfig("skills:mixed"), strategy="premem",
                           rounds=RoundsConfig(budgets=(150, 300)))
        result = ActiveRun(config).run(Path("runs/first"))

    Args:
        config: all settings.
        strategy: an instance to use instead of building ``config.strategy``.
        initial: positions of the first train set, int ``[budgets[0]]``; default: drawn at random.
        forecaster: forecasts test accuracy after each round, for the log and the result
            (``activeselect.forecast.live``).
    """

    def __init__(
        self,
        config: RunConfig,
        *,
        strategy: Strategy | None = None,
        initial: IntArray | None = None,
        forecaster: Forecaster | None = None,
    ) -> None:
        self.config = config
        self.forecaster = forecaster
        self.initial = initial
        self.strategy = strategy or create(config.strategy)
        self.model, self.tokenizer = load_model(config.model)
        check(self.model, config.recipe)
        data = load_data(config.data, seed=config.seed)
        prompt = prompt_of(config.prompt) or data.prompt
        self.prompt = with_examples(prompt, data.pool, seed=config.seed)
        check_texts(data.pool, self.prompt, self.tokenizer)
        self.data = fit_to_context(
            data,
            self.tokenizer,
            self.prompt,
            max_length=self._max_length(),
            on_bad_row=config.data.on_bad_row,
        )
        if config.rounds.regions is not None:
            pool = with_regions(self.data.pool, config.rounds.regions)
            self.data = replace(self.data, pool=pool)
        self.budgets = self._budgets(len(self.data.pool))
        self.total = sum(self.budgets) * config.recipe.epochs
        self.shared: Path | None = None  # where runs that differ in their strategy alone meet

    def _budgets(self, size: int) -> tuple[int, ...]:
        budgets = self.config.rounds.budgets or (size,)
        if max(budgets) > size:
            raise ConfigError(
                f"rounds.budgets: the largest budget is {max(budgets)}, but the pool has {size} "
                "problems; lower the budget or bring more data."
            )
        if self.initial is not None and len(self.initial) != budgets[0]:
            raise ConfigError(
                f"initial: expected rounds.budgets[0] = {budgets[0]} positions; "
                f"received {len(self.initial)}."
            )
        return budgets

    def run(
        self,
        out: Path,
        *,
        progress: Progress | None = None,
        progress_bar: bool = False,
        loggers: Sequence[str] = ("csv",),
        shared: Path | None = None,
    ) -> RunResult:
        """Train, or continue what the folder ``out`` has of this run.

        Args:
            out: the run folder (see :mod:`activeselect.training.folder`).
            progress: called after each batch.
            progress_bar: show Lightning's progress bar.
            loggers: ``csv`` (always), ``tensorboard``, ``wandb``, ``mlflow``; each but the first
                needs the extra of its name.
            shared: a folder in which runs of one seed and several strategies share what they
                have in common (:mod:`activeselect.training.shared`).

        Raises:
            StoreError: if the folder belongs to another run, or one is under way in it.
            RankError: if one of several processes stopped.
            KeyboardInterrupt: on Ctrl-C; the same call continues after the last finished round.
        """
        names = checked_loggers(loggers)  # before anything is begun
        self.shared = shared and shared / self.content_hash(of_strategy=False)
        folder = RunFolder(out, self.config)
        if folder.file("result.json").exists():
            return _result(folder)
        with connected(self.config), folder.claimed(), explained(folder.path):
            self._run(folder, progress, progress_bar, names)
            return _result(folder)

    def _run(
        self,
        folder: RunFolder,
        progress: Progress | None,
        progress_bar: bool,
        loggers: Sequence[str],
    ) -> None:
        store = once(lambda: self._store(folder))  # of rank 0: the others have nothing to write
        state = once(folder.load_state)
        while state.stage < len(self.budgets):
            stage = Stage(self, folder, state, store, self.starting_model(folder, state.stage))
            state = stage.run(progress, progress_bar, loggers)
            once(partial(folder.save_state, state))
        once(lambda: self._finish(folder, state))

    def _finish(self, folder: RunFolder, state: RunState) -> None:
        if self.config.save_model and not folder.file("model").exists():
            folder.after_stage(len(self.budgets) - 1).rename(folder.file("model"))
        shutil.rmtree(folder.file("checkpoints"), ignore_errors=True)
        result = {
            "schema_version": 1,
            "config": to_plain(self.config),
            "environment": environment(),
            "pool_fingerprint": self.data.pool.fingerprint,
            "content_hash": self.content_hash(),
            "data": {name: report.to_dict() for name, report in self.data.reports.items()},
            "curve": state.curve,
            "cost": state.cost,
        }
        write_json(folder.file("result.json"), result)

    def content_hash(self, *, of_strategy: bool = True) -> str:
        """Hash of all that decides the result: settings, data, model, code and its versions.

        Args:
            of_strategy: or of all but the strategy, and what is measured for the record.
        """
        aside = ["save_model", "rank_timeout", "checkpoint_every_steps"]
        aside += [] if of_strategy else ["strategy", "measure"]
        settings = {k: v for k, v in to_plain(self.config).items() if k not in aside}
        test = self.data.test
        return config_hash(
            {
                "settings": settings,
                "pool": self.data.pool.fingerprint,
                "test": test and test.fingerprint,
                "model": self.model_fingerprint,
                "code": code_fingerprint(type(self.strategy) if of_strategy else None),
            }
        )

    @cached_property
    def model_fingerprint(self) -> str:
        return model_fingerprint(self.model, self.tokenizer)

    def _store(self, folder: RunFolder) -> ScoreStore:
        return ScoreStore(
            folder.file("scores"),
            self.data.pool.fingerprint,
            pool_size=len(self.data.pool),
            model=self.model_fingerprint,
            config=config_hash(settings_of_scores(self.config)),
        )

    def starting_model(self, folder: RunFolder, stage: int) -> Any:
        """The base model, or the last stage's where the run continues from it."""
        fresh = self.config.rounds.restart or stage == 0
        source = self.config.model if fresh else str(folder.after_stage(stage - 1))
        recipe = self.config.recipe
        model, _ = load_model(source, weight_type(recipe))
        return adapt(model, recipe, seed=self.config.seed * 1000 + stage)

    def _max_length(self) -> int:
        context = context_length(self.model.config) or sys.maxsize
        return min(self.config.recipe.max_length or context, context)

    @cached_property
    def test_items(self) -> list[Encoded]:
        test = self.data.test
        if test is None:
            return []
        return encode(test, np.arange(len(test)), self.tokenizer, self.prompt)


def _result(folder: RunFolder) -> RunResult:
    stored = read_json(folder.file("result.json"))
    return RunResult(folder.path, stored["curve"], stored["cost"])
