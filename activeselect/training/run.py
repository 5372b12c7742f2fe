"""One training run from start to result: stages of rounds, resumable at every round."""

from __future__ import annotations

import logging
import math
import shutil
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from numpy.typing import NDArray

from activeselect.config import RunConfig, to_plain
from activeselect.data.answers import get_checker
from activeselect.data.load import fit_to_context, load_data
from activeselect.data.pool import Pool
from activeselect.data.prompts import Encoded, encode
from activeselect.environment import environment
from activeselect.errors import ConfigError, StrategyError
from activeselect.files import read_json, write_json
from activeselect.scoring.scorer import LiveScorer
from activeselect.scoring.store import ScoreStore
from activeselect.selection.registry import create
from activeselect.selection.strategy import Selection, Strategy
from activeselect.training.folder import RunFolder, RunState
from activeselect.training.module import ReasoningModule, load_model, save_model
from activeselect.training.rounds import ActiveSelection, Cost, Forecaster, History

IntArray = NDArray[np.int64]

#: Told how far a run is: (examples trained so far, examples in all, what is being done).
Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class RunResult:
    """What a finished run leaves; the same as ``result.json``.

    ``curve`` has one entry per stage: stage, budget, unique_examples, samples_seen,
    test_accuracy (share in [0, 1]), test_examples, premem (dataset level, None if not measured),
    groups (train examples per group).
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
        data = load_data(config.data, seed=config.seed)
        self.prompt = config.prompt or data.prompt
        self.data = fit_to_context(
            data,
            self.tokenizer,
            self.prompt,
            max_length=self._max_length(),
            on_bad_row=config.data.on_bad_row,
        )
        self.budgets = self._budgets(len(self.data.pool))
        self.total = sum(self.budgets) * config.recipe.epochs

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
        tensorboard: bool = False,
    ) -> RunResult:
        """Train, or continue what the folder ``out`` has of this run.

        Args:
            out: the run folder (see :mod:`activeselect.training.folder`).
            progress: called after each batch.
            progress_bar: show Lightning's progress bar.
            tensorboard: log there too (needs the extra ``activeselect[tensorboard]``).

        Raises:
            StoreError: if the folder belongs to another run, or one is under way in it.
            KeyboardInterrupt: on Ctrl-C; the same call continues after the last finished round.
        """
        folder = RunFolder(out, self.config)
        if folder.file("result.json").exists():
            return _result(folder)
        with folder.locked():
            return self._run(folder, progress, progress_bar, tensorboard)

    def _run(
        self, folder: RunFolder, progress: Progress | None, progress_bar: bool, tensorboard: bool
    ) -> RunResult:
        state = folder.load_state()
        store = ScoreStore(
            folder.file("scores"), self.data.pool.fingerprint, pool_size=len(self.data.pool)
        )
        while state.stage < len(self.budgets):
            stage = _Stage(self, folder, state, store, self._starting_model(folder, state.stage))
            state = stage.run(progress, progress_bar, tensorboard)
            folder.save_state(state)
        if self.config.save_model and not folder.file("model").exists():
            folder.file("last-stage").rename(folder.file("model"))
        shutil.rmtree(folder.file("checkpoints"), ignore_errors=True)
        result = {
            "schema_version": 1,
            "config": to_plain(self.config),
            "environment": environment(),
            "pool_fingerprint": self.data.pool.fingerprint,
            "data": {name: report.to_dict() for name, report in self.data.reports.items()},
            "curve": state.curve,
            "cost": state.cost,
        }
        write_json(folder.file("result.json"), result)
        return _result(folder)

    def _starting_model(self, folder: RunFolder, stage: int) -> Any:
        """The base model, or the last stage's where the run continues from it."""
        if self.config.rounds.restart or stage == 0:
            return load_model(self.config.model)[0]
        return load_model(str(folder.file("last-stage")))[0]

    def _max_length(self) -> int:
        context = getattr(self.model.config, "max_position_embeddings", None) or sys.maxsize
        return min(self.config.recipe.max_length or context, context)

    @cached_property
    def test_items(self) -> list[Encoded]:
        test = self.data.test
        if test is None:
            return []
        return encode(test, np.arange(len(test)), self.tokenizer, self.prompt)


class _Stage:
    """One train-set size: fit, evaluate, acquire."""

    def __init__(
        self,
        run: ActiveRun,
        folder: RunFolder,
        state: RunState,
        store: ScoreStore,
        model: Any,
    ) -> None:
        self.run_, self.config, self.folder, self.state = run, run.config, folder, state
        self.model, self.tokenizer, self.store = model, run.tokenizer, store
        self.pool: Pool = run.data.pool
        self.number = state.stage
        self.train = self._train_set()
        if not folder.checkpoint(self.number).exists():
            store.drop_after(state.rounds)  # a checkpoint says itself which rounds it includes
        run.strategy.load_state_dict(state.strategy)
        self.active = ActiveSelection(
            self.pool,
            run.tokenizer,
            run.strategy,
            scoring=self.config.scoring,
            prompt=run.prompt,
            train=self.train,
            score_every=self.config.rounds.score_every,
            score_until=self.config.rounds.score_until,
            reselect=self.config.rounds.mode == "reweight",
            measure=self.config.measure,
            store=store,
            seed=self.config.seed,
            stage=self.number,
            history=History.from_store(store, state.rounds),
            carry_over=not self.config.rounds.restart,
            forecaster=run.forecaster,
            cost=Cost(**state.cost),  # type: ignore[arg-type]  # counts are written as integers
        )

    def _train_set(self) -> IntArray:
        if self.number:
            return np.array(self.state.train, dtype=np.int64)
        if self.run_.initial is not None:
            return np.sort(self.run_.initial)
        # The first examples are random and the same for every strategy: runs stay paired.
        rng = np.random.default_rng([self.config.seed, 0, 6])
        return np.sort(rng.choice(len(self.pool), self.run_.budgets[0], replace=False))

    def run(self, progress: Progress | None, progress_bar: bool, tensorboard: bool) -> RunState:
        self._fit(progress, progress_bar, tensorboard)
        accuracy = self._evaluate(progress)
        entry = self._curve_entry(accuracy)
        train = self.train
        if self.number + 1 < len(self.run_.budgets):
            train = self._acquire(self.run_.budgets[self.number + 1] - len(train))
        last = self.number + 1 == len(self.run_.budgets)
        if (last and self.config.save_model) or not (last or self.config.rounds.restart):
            self.folder.replace_folder(
                "last-stage", lambda where: save_model(self.model, self.tokenizer, where)
            )
        return RunState(
            stage=self.number + 1,
            rounds=self.active.round,
            train=train.tolist(),
            cost=asdict(self.active.cost),
            strategy=self.run_.strategy.state_dict(),
            curve=[*self.state.curve, entry],
        )

    # --- training ------------------------------------------------------------------------------

    def _fit(self, progress: Progress | None, progress_bar: bool, tensorboard: bool) -> None:
        recipe = self.config.recipe
        steps = math.ceil(len(self.train) / recipe.batch_size) * recipe.epochs
        lightning.seed_everything(self.config.seed * 1000 + self.number, verbose=False)
        self.model.train()  # from_pretrained leaves it in eval mode
        module = ReasoningModule(self.model, recipe, total_steps=steps)
        checkpoint = self.folder.checkpoint(self.number)
        callbacks: list[Any] = [self.active, _Checkpoint(checkpoint)]
        if progress is not None:
            callbacks.append(_Report(progress, self.active.cost, self.run_.total))
        with _quiet():
            trainer = lightning.Trainer(
                accelerator=self.config.accelerator,
                devices=self.config.devices,
                precision=recipe.precision,  # type: ignore[arg-type]  # checked by Lightning
                max_epochs=recipe.epochs,
                gradient_clip_val=recipe.clip or None,
                use_distributed_sampler=False,
                logger=self._loggers(tensorboard),
                callbacks=callbacks,
                enable_progress_bar=progress_bar,
                enable_model_summary=False,
                enable_checkpointing=False,
                log_every_n_steps=1,
            )
            try:
                trainer.fit(
                    module,
                    self.active.dataloader(recipe.batch_size),
                    ckpt_path=str(checkpoint) if checkpoint.exists() else None,
                    weights_only=True,
                )
            except SystemExit:  # Lightning turns Ctrl-C into an exit; callers want to know
                raise KeyboardInterrupt from None
            finally:
                self.folder.merge_logs()

    def _loggers(self, tensorboard: bool) -> list[Any]:
        version = self.folder.log_version(self.number)
        kinds = [(CSVLogger, "logs"), (TensorBoardLogger, "tensorboard")][: 1 + tensorboard]
        return [kind(self.folder.path, name=name, version=version) for kind, name in kinds]

    # --- after training ------------------------------------------------------------------------

    def _evaluate(self, progress: Progress | None) -> float | None:
        """Greedy test accuracy; right or wrong per problem is kept for paired statistics."""
        test = self.run_.data.test
        if test is None:
            return None
        if progress is not None:
            progress(self.active.cost.samples_seen, self.run_.total, "testing")
        started = time.perf_counter()
        scorer = LiveScorer(
            self.tokenizer, get_checker(test.checker), self.config.scoring, seed=self.config.seed
        )
        answers = test.dataset["answer"]
        correct, _ = scorer.evaluate(self.model, self.run_.test_items, list(answers))
        self.active.cost.eval_s += time.perf_counter() - started
        table = pa.table({"index": np.arange(len(correct)), "correct": correct})
        target = self.folder.predictions(self.number)
        target.parent.mkdir(exist_ok=True)
        pq.write_table(table, target.with_suffix(".tmp"))
        target.with_suffix(".tmp").replace(target)
        return float(correct.mean())

    def _curve_entry(self, accuracy: float | None) -> dict[str, Any]:
        premem = self.active.history.matrix("premem")
        names, counts = np.unique(self.pool.groups[self.train], return_counts=True)
        return {
            "stage": self.number,
            "round": self.active.round,
            "budget": len(self.train),
            "unique_examples": len(self.train),
            "samples_seen": self.active.cost.samples_seen,
            "test_accuracy": accuracy,
            "test_examples": len(self.run_.test_items),
            "premem": float(np.nanmean(premem[-1])) if len(premem) else None,
            "forecast": self._forecast(),
            "groups": {
                self.pool.group_names[int(name)]: int(count)
                for name, count in zip(names, counts, strict=True)
            },
        }

    def _forecast(self) -> dict[str, Any] | None:
        now = self.active.forecast
        if now is None:
            return None
        return {"value": now.value, "low": now.low, "high": now.high, "source": now.source}

    def _acquire(self, budget: int) -> IntArray:
        """The train set and ``budget`` new problems that the strategy chooses."""
        taken = np.zeros(len(self.pool), dtype=bool)
        taken[self.train] = True
        selection: Selection = self.active.select(np.flatnonzero(~taken), budget)
        if len(selection.index) < budget:
            raise StrategyError(
                f"Strategy '{self.run_.strategy.name}' acquired {len(selection.index)} examples; "
                f"the budget asks for {budget}."
            )
        return np.sort(np.concatenate([self.train, selection.index]))


class _Checkpoint(lightning.Callback):
    """Saves the fit after every epoch, the newest only, by rename."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        temporary = self.path.with_suffix(".tmp")
        trainer.save_checkpoint(temporary)
        if trainer.is_global_zero:
            temporary.replace(self.path)


class _Report(lightning.Callback):
    """Tells how many examples the run has trained."""

    def __init__(self, progress: Progress, cost: Cost, total: int) -> None:
        self.progress, self.cost, self.total = progress, cost, total

    def on_train_batch_end(self, *args: Any) -> None:
        self.progress(self.cost.samples_seen, self.total, "training")


def _result(folder: RunFolder) -> RunResult:
    stored = read_json(folder.file("result.json"))
    return RunResult(folder.path, stored["curve"], stored["cost"])


@contextmanager
def _quiet() -> Iterator[None]:
    """Mute what Lightning says about hardware and workers; it is noise for a run of minutes."""
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*does not have many workers.*")
            warnings.filterwarnings("ignore", message=".*GPU available but not used.*")
            # Lightning 2.6 with torch 2.13 uses a deprecated test in its own code
            warnings.filterwarnings("ignore", message=".*isinstance.treespec, LeafSpec.*")
            yield
    finally:
        logger.setLevel(level)
