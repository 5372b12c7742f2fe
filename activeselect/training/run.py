"""One training run from start to result: stages of rounds, resumable at every round."""

from __future__ import annotations

import json
import math
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import lightning
import numpy as np

from activeselect.arrays import IntArray
from activeselect.config import (
    NO_TEST,
    RunConfig,
    config_hash,
    prompt_of,
    settings_of_scores,
    to_plain,
)
from activeselect.data.answers import get_checker
from activeselect.data.inputs import changed, model_source, snapshot
from activeselect.data.load import GIVEN, fit_to_context, load_data
from activeselect.data.pool import Pool
from activeselect.data.prompts import Encoded, check_texts, encode, with_examples
from activeselect.data.regions import with_regions
from activeselect.environment import environment
from activeselect.errors import ConfigError, DataError, LabelsNeeded, StoreError
from activeselect.files import explained, read_json, read_object, write_text
from activeselect.forecast.live import Forecaster, RunForecaster, forecaster_for
from activeselect.scoring.distributed import Chunks, once, rank, world_size
from activeselect.scoring.families import context_length
from activeselect.scoring.scorer import LiveScorer, Scores
from activeselect.scoring.signals import measurements
from activeselect.scoring.store import ScoreStore
from activeselect.selection.registry import create
from activeselect.selection.strategy import Strategy
from activeselect.streams import Stream
from activeselect.training.adapt import adapt, check, is_sharded, merged, weight_type, whole_state
from activeselect.training.auditing import AuditEpochs, RunAudit
from activeselect.training.callback import (
    ActiveSelection,
    EpochLines,
    FitCheckpoint,
    Progress,
    Report,
    StageOfRun,
    StreamedCheckpoint,
)
from activeselect.training.folder import (
    RunFolder,
    RunState,
    code_fingerprint,
    model_fingerprint,
    readable,
)
from activeselect.training.history import Cost, History
from activeselect.training.labels import Label, Labels, labeler_of
from activeselect.training.launch import check_accelerator, connected, quiet, strategy_of
from activeselect.training.loggers import checked_loggers, close_loggers, make_loggers
from activeselect.training.memory import MemoryWatch, after_memorization, watched
from activeselect.training.module import ReasoningModule, load_model, save_model
from activeselect.training.points import TestPoints, accuracy_of, write_predictions
from activeselect.training.shared import (
    KeepEpochs,
    common_stage,
    follow,
    training_rows,
)

# --- Stage


class Stage:
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
        self.resumes = once(folder.checkpoint(self.number).exists)
        self.common = common_stage(run.shared, run.config, self.number, self.train, len(self.pool))
        self.followed = False  # another run has trained it
        self.losses: list[float | None] = [None, None]  # before training, in the last epoch
        # a reference model is each strategy's own
        shares = self.common if run.strategy.reference is None else None
        self.chunks = Chunks(folder.chunks, shares.chunks if shares else None)
        # only rank 0 has the store; what it read, all have to know
        history = once(lambda: self._stored_history(store))
        run.strategy.load_state_dict(state.strategy)
        self.active = ActiveSelection(
            self.pool,
            run.tokenizer,
            run.strategy,
            scoring=self.config.scoring,
            prompt=run.prompt,
            rounds=self.config.rounds,
            train=self.train,
            measure=self.config.measure,
            seed=self.config.seed,
            precision=self.config.recipe.precision,
            _stage=StageOfRun(
                number=self.number,
                last_scored=self.config.rounds.last_scored(self.number, self.config.recipe.epochs),
                history=history,
                look_back=not self.config.rounds.restart,
                cost=self._spent(),
                store=store if rank() == 0 else None,
                chunks=self.chunks,
                forecaster=self._forecaster(),
                selections=folder.file("selections"),
            ),
        )
        rounds, size = self.config.rounds, len(self.train)
        self.points = TestPoints(
            folder.predictions(self.number).parent,
            self.number,
            folder.seals,
            every=size * (rounds.evaluate_every or math.inf),
            total=size * self.config.recipe.epochs,
            seen=lambda: self.active.cost.samples_seen - self._spent().samples_seen,
            test=self._test,
            entry=self._curve_entry,
        )
        if rounds.evaluate_every and run.data.test is not None:
            self.active.test = self.points

    @property
    def last(self) -> bool:
        """Whether nothing is chosen after this stage."""
        return self.number + 1 == len(self.run_.budgets)

    @property
    def _epochs(self) -> int:
        """Passes over the train set; fewer than the recipe's where no more is needed."""
        rounds, epochs = self.config.rounds, self.config.recipe.epochs
        stops = rounds.short_stages and rounds.restart and not self.last
        if not stops or self.active.measures_at_choice:
            return epochs
        return rounds.last_scored(self.number, epochs) if self.active.measurer.what else 0

    def _forecaster(self) -> Forecaster | None:
        """One that knows the tests of the stages before, where it can use them."""
        forecaster = self.run_.forecaster
        if isinstance(forecaster, RunForecaster):
            return forecaster.after(self.state.curve)
        return forecaster

    def _spent(self) -> Cost:
        """Before this stage."""
        return Cost(**self.state.cost)  # type: ignore[arg-type]  # counts are written as integers

    def _choosing(self, trained: Cost) -> Cost:
        """What choosing the train sets has cost a run with short stages, this choice included.

        Args:
            trained: spent when the stage was trained and tested.
        """
        whole = self.active.measures_at_choice or not self.config.rounds.restart
        measured = (trained if whole else self.active.measured_cost) - self._spent()
        before = Cost(**self.state.cost_of_choices)  # type: ignore[arg-type]
        return before + measured + (self.active.cost - trained)

    def _cost_of_model(self, *, complete: bool) -> Cost:
        """What the model as it is costs a run that wants no other: no test, no score after it."""
        now = self.active.cost
        if self.config.rounds.mode == "reweight":
            return self.active.trained_cost if complete else now
        choices = Cost(**self.state.cost_of_choices)  # type: ignore[arg-type]
        return choices + (now - self._spent()).of_training

    def _stored_history(self, store: ScoreStore) -> History:
        if not self.resumes:
            store.drop_after(self.state.rounds)  # a checkpoint says itself which rounds it includes
        store.expect(self.state.scored)
        return History.from_store(store, self.state.rounds)

    def _train_set(self) -> IntArray:
        if self.state.train:
            return np.array(self.state.train, dtype=np.int64)
        return self.run_.first_train_set()

    def run(
        self, progress: Progress | None, progress_bar: bool, loggers: Sequence[str]
    ) -> RunState:
        """Train, test, and choose what joins the train set; returns the state after the stage."""
        accuracy = self._train_and_test(progress, progress_bar, loggers)
        entries = [*self.points.entries(), self._curve_entry(accuracy, complete=True)]
        train, trained = self.train, replace(self.active.cost)
        if not self.last:
            self.active.epoch = self.config.recipe.epochs  # a short stage draws as a whole one does
            train = self._acquire(self.run_.budgets[self.number + 1] - len(train))
        self._note_shared()
        last = self.last
        if (last and self.config.save_model) or not (last or self.config.rounds.restart):
            self._save_model(last)
        return RunState(
            stage=self.number + 1,
            rounds=self.active.round,
            scored=self.store.rounds(),
            train=train.tolist(),
            cost=asdict(self.active.cost),
            labels=self.state.labels,
            cost_of_choices=asdict(self._choosing(trained)),
            strategy=self.run_.strategy.state_dict(),
            curve=[*self.state.curve, *entries],
        )

    def _save_model(self, last: bool) -> None:
        state = whole_state(self.model)
        lora = self.config.recipe.lora
        merges = last and lora is not None and lora.save == "merged"

        def save(where: Path) -> None:
            model = self.model
            if state is not None:  # a sharded model cannot write itself on one rank
                model = self.run_.starting_model(self.folder, self.number)
                model.load_state_dict(state)
            save_model(merged(model) if merges else model, self.tokenizer, where)

        once(lambda: self.folder.write_folder(self.folder.after_stage(self.number), save))

    # --- training ------------------------------------------------------------------------------

    def _train_and_test(
        self, progress: Progress | None, progress_bar: bool, loggers: Sequence[str]
    ) -> float | None:
        """Test accuracy after the stage, which is trained here unless another run has done so."""
        common = self.common
        if self._epochs < self.config.recipe.epochs:  # nobody wants to know how good it is
            if self._epochs:
                self._fit(progress, progress_bar, loggers)
            return None
        if common is None:
            self._fit(progress, progress_bar, loggers)
            return self._evaluate(progress)
        with common.led() as leads:
            if leads or self.resumes:  # what is half trained already follows nobody
                keep = [KeepEpochs(common, self.active, self._spent())] if leads else []
                self._fit(progress, progress_bar, loggers, *keep)
                accuracy = self._evaluate(progress)
                if leads:
                    common.publish(training_rows(self.folder.file("metrics.csv"), self.number))
                return accuracy
        made = make_loggers(loggers, self.folder.path, self.folder.log_version(self.number))
        try:
            follow(common, self.active, self.model, self.config, made)
        finally:
            close_loggers(made)
            self.folder.merge_logs()
        self.followed = True
        return self._evaluate(progress)

    def _note_shared(self) -> None:
        """Beside the bill, which is that of a run alone: what of it others have computed."""
        if self.common is None:
            return
        seconds, tokens = self.chunks.seconds_taken, 0
        if self.followed:
            cost, start = self.active.cost, self._spent()
            seconds += cost.train_s - start.train_s
            tokens = cost.tokens_trained - start.tokens_trained
        self.folder.note_shared(self.number, {"seconds": seconds, "tokens_trained": tokens})

    def _fit(
        self,
        progress: Progress | None,
        progress_bar: bool,
        loggers: Sequence[str],
        *keeping: lightning.Callback,
    ) -> None:
        recipe = self.config.recipe
        steps = math.ceil(len(self.train) / recipe.batch_size) * recipe.epochs
        lightning.seed_everything(self.config.seed * 1000 + self.number, verbose=False)
        self.model.train()  # from_pretrained leaves it in eval mode
        module = ReasoningModule(self.model, recipe, total_steps=steps)
        checkpoint = self.folder.checkpoint(self.number)
        made = make_loggers(loggers, self.folder.path, self.folder.log_version(self.number))
        if self.resumes:
            remedy = "nothing of it was run; delete it, and the same command repeats the stage"
            once(lambda: self.folder.seals.check(checkpoint, remedy))
        callbacks: list[Any] = [
            *keeping,
            self.active,
            FitCheckpoint(
                checkpoint, self.config.checkpoint_every_steps, self.chunks, self.folder.seals
            ),
        ]
        if self.run_.audit is not None and self.run_.audit.every:
            callbacks.append(AuditEpochs(self.run_.audit))
        if (watch := self._memory_watch()) is not None:
            callbacks.append(watch)
        if self.run_.say is not None:
            place = f"stage {self.number + 1} of {len(self.run_.budgets)}"
            callbacks.append(
                EpochLines(self.run_.say, self.active, place, recipe.epochs, self.run_.total)
            )
        if progress is not None:
            callbacks.append(Report(progress, self.active, self.run_.total))
        with quiet(), readable(checkpoint):
            trainer = lightning.Trainer(
                accelerator=self.config.accelerator,
                devices=self.config.devices,
                num_nodes=self.config.num_nodes,
                strategy=strategy_of(self.config),
                precision=recipe.precision,  # type: ignore[arg-type]  # checked by Lightning
                # sharded weights are gathered and written in a way of their own
                plugins=None if self.config.parallel == "fsdp" else [StreamedCheckpoint()],
                max_epochs=self._epochs,
                gradient_clip_val=recipe.clip or None,
                accumulate_grad_batches=recipe.accumulate,
                use_distributed_sampler=False,
                logger=made,
                callbacks=callbacks,
                enable_progress_bar=progress_bar,
                enable_model_summary=False,
                enable_checkpointing=False,
                log_every_n_steps=1,
            )
            try:
                trainer.fit(
                    module,
                    self.active.dataloader(
                        recipe.batch_size // (recipe.accumulate * world_size()), pad=True
                    ),
                    ckpt_path=str(checkpoint) if self.resumes else None,
                    weights_only=True,
                )
            except SystemExit:  # Lightning turns Ctrl-C into an exit; callers want to know
                raise KeyboardInterrupt from None
            finally:
                self.losses = module.losses
                close_loggers(made)
                if rank() == 0:
                    self.folder.merge_logs()
        if not is_sharded(self.model):
            self.model.to(trainer.strategy.root_device)  # Lightning has moved it to the CPU

    # --- after training ------------------------------------------------------------------------

    def _evaluate(self, progress: Progress | None) -> float | None:
        """Greedy test accuracy; right or wrong per problem is kept for paired statistics."""
        if self.run_.data.test is None:
            return None
        if progress is not None:
            progress(self.active.cost.samples_seen, self.run_.total, "testing")
        scores = self._test(self.model)
        if rank() == 0:
            write_predictions(self.folder.predictions(self.number), scores, self.folder.seals)
        return accuracy_of(scores)

    def _test(self, model: Any) -> Scores:
        """Greedy answers of the model as it is."""
        test = self.run_.data.test
        assert test is not None
        scorer = LiveScorer(
            self.tokenizer,
            get_checker(test.checker),
            self.config.scoring,
            seed=self.config.seed,
            stop=self.run_.prompt.stop,
        )
        return self.active.measurer.evaluate(model, scorer, test, self.run_.test_items)

    def _memory_watch(self) -> MemoryWatch | None:
        audit = self.run_.audit
        if audit is None or not audit.memory:
            return None
        index = watched(self.train, audit.memory, self.config.seed)
        return MemoryWatch(
            encode(self.pool, index, self.tokenizer, self.run_.prompt),
            audit,
            self.folder.path,
            stage=self.number,
            epochs=self.config.recipe.epochs,
            batch_tokens=self.config.scoring.batch_tokens,
        )

    def _memory(self) -> dict[str, Any] | None:
        file = self.folder.file("memory.json")
        rows = read_json(file) if self.run_.audit and file.exists() else []
        if not any(row["stage"] == self.number for row in rows):
            return None
        return after_memorization(rows, self.number, self.config.seed)

    def _curve_entry(self, accuracy: float | None, *, complete: bool = False) -> dict[str, Any]:
        history = self.active.history
        measured = history.measured("premem", since=self.active.measurer.since)
        premem = history.signals["premem"][measured[-1]][1].mean() if measured else None
        seen = self.train
        if self.config.rounds.mode == "reweight":  # the set is fixed; how often each is read is not
            seen = np.repeat(np.arange(len(self.pool)), self.active.times_seen)
        hidden = self.config.data.groups == "hidden"  # from strategies, not from the report
        told = self.pool.stated() if hidden else self.pool
        names, counts = np.unique(told.groups[seen], return_counts=True)
        audited = self.run_.audit.values(self.model) if self.run_.audit and complete else None
        return {
            "stage": self.number,
            "round": self.active.round,
            "budget": len(self.train),
            "unique_examples": len(self.train),
            "samples_seen": self.active.cost.samples_seen,
            "test_accuracy": accuracy,
            "predictions": self.folder.predictions(self.number).name,
            "test_examples": len(self.run_.test_items),
            "premem": None if premem is None else float(premem),
            "masked": self.active.masked(),
            "forecast": self._forecast(),
            "warnings": self._warnings(accuracy),
            **({} if audited is None else {"audit": audited, "memory": self._memory()}),
            "cost": asdict(self.active.cost),  # up to here, all stages together
            "cost_of_model": asdict(self._cost_of_model(complete=complete)),
            "groups": {
                told.group_names[int(name)]: int(count)
                for name, count in zip(names, counts, strict=True)
            },
        }

    def _warnings(self, accuracy: float | None) -> list[str]:
        """What a person has to know before believing the stage's numbers."""
        before, after = self.losses
        if before is None or after is None or after <= 1.1 * before + 0.1:
            return []
        right = "" if accuracy is None else f" and answers {accuracy:.1%} of the test problems"
        return [
            f"Training on {len(self.train)} examples made the model worse: its loss on them rose "
            f"from {before:.3g} to {after:.3g} nats per token{right}. Lower "
            f"recipe.learning_rate ({self.config.recipe.learning_rate:g})."
        ]

    def _forecast(self) -> dict[str, Any] | None:
        now = self.active.forecast()
        if now is None:
            return None
        return now._asdict()

    def _acquire(self, budget: int) -> IntArray:
        """The train set and ``budget`` new problems that the strategy chooses."""
        taken = np.zeros(len(self.pool), dtype=bool)
        taken[self.train] = True
        chosen = self.active.acquire(self.model, np.flatnonzero(~taken), budget)
        return np.sort(np.concatenate([self.train, chosen]))


@dataclass(frozen=True)
class RunResult:
    """What a finished run leaves; the same as ``result.json``.

    ``curve`` has one entry per stage and test point: stage, budget, unique_examples, samples_seen,
    test_accuracy (share in [0, 1]), test_examples, premem (dataset level, None if not measured),
    audit (values by measure, where it was asked for), cost (spent up to here), cost_of_model
    (without what only tests and records needed), masked (share of the scored examples that counted
    as memorized, per round), groups (train examples per group; samples read when reweighting).

    Example::

        result = ActiveRun(config).run(Path("runs/first"))
        [(stage["budget"], stage["test_accuracy"]) for stage in result.curve]
    """

    path: Path
    curve: list[dict[str, Any]]
    cost: dict[str, float]

    @property
    def warnings(self) -> list[str]:
        """What a person has to know before believing the numbers, in words."""
        return [text for entry in self.curve for text in entry.get("warnings", ())]


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
        forecaster: forecasts test accuracy after each round, for the log and the result; default:
            the one that ``config.forecast`` names (:mod:`activeselect.forecast.live`).
        pool: what to learn from instead of ``config.data`` (:meth:`Pool.from_records`).
        test: what to be judged on; with ``pool`` alone there is no test.

    Raises:
        ActiveSelectError: if a setting, the data, the model or the strategy cannot be used.
    """

    def __init__(
        self,
        config: RunConfig,
        *,
        strategy: Strategy | None = None,
        initial: IntArray | None = None,
        forecaster: Forecaster | None = None,
        pool: Pool | None = None,
        test: Pool | None = None,
    ) -> None:
        config = _with_given(config, pool, test)
        self.config = config
        check_accelerator(config.accelerator)
        self.model_files = snapshot(model_source(config.model))  # before they are read
        self.initial = initial
        self.strategy = strategy or create(config.strategy)
        self.model, self.tokenizer = load_model(config.model)
        check(self.model, config.recipe)
        acquires = config.rounds.mode == "acquire"
        data = load_data(
            config.data, seed=config.seed, labels_required=not acquires, pool=pool, test=test
        )
        self.labeler = labeler_of(config.labeler, data.pool)
        if config.labeler == "hidden":  # from here on only the labeler can read them
            data = replace(data, pool=data.pool.without_labels())
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
        if self.strategy.knows_groups:
            self.data = replace(self.data, pool=self.data.pool.stated())
        elif config.rounds.regions is not None:
            pool = with_regions(self.data.pool, config.rounds.regions)
            self.data = replace(self.data, pool=pool)
        self.forecaster = forecaster or forecaster_for(
            config.forecast,
            samples=config.scoring.samples,
            dataset=self.data.reports["train"].layout if self.data.reports else "",
            model=self.model.config,
        )
        self._check_labels(self.data.pool)
        self.inputs = self._inputs()
        self.audit: RunAudit | None = None
        if config.audit is not None:
            self.audit = RunAudit(config, self.data.test, self.prompt, self.tokenizer)
        self.budgets = self._budgets(len(self.data.pool))
        self.total = sum(self.budgets) * config.recipe.epochs
        self.say: Callable[[str], None] | None = None
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

    def _check_labels(self, pool: Pool) -> None:
        """Whether the run can do without the labels that are missing; raises ConfigError."""
        if pool.is_labelled.all():
            return
        missing = int((~pool.is_labelled).sum())
        needs = {
            "rounds.mode": self.config.rounds.mode == "acquire",
            "scoring.candidates": self.config.scoring.candidates == 0,
        }
        what = measurements([*self.strategy.requires, *self.config.measure])
        for name, fits in needs.items():
            if not fits:
                raise ConfigError(
                    f"{name}: expected {'acquire' if name == 'rounds.mode' else '0'} with "
                    f"{missing} problems that have no label; they can only be chosen and labelled."
                )
        if what & {"prequential", "gradient"}:
            raise ConfigError(
                f"strategy: '{self.strategy.name}' measures candidates by their answers or traces, "
                f"and {missing} of them have no label. Choose a strategy that reads the train set."
            )

    def ask(self, out: Path, **options: Any) -> list[Label]:
        """Train until labels are needed.

        Args:
            out: the run folder.
            options: as for :meth:`run`.

        Returns:
            the questions to label (``id``, ``question``, ``why``); an empty list where the run is
            complete.
        """
        try:
            self.run(out, **options)
        except LabelsNeeded:
            labels = Labels(out, self.data.pool)
            return labels.questions()
        return []

    def tell(self, out: Path, labels: Sequence[Label]) -> None:
        """Label questions that :meth:`ask` returned; some or all of them.

        Args:
            out: the run folder.
            labels: rows with ``id``, ``trace`` (ends in the answer) and, if stated, ``answer``.

        Raises:
            DataError: if one cannot be used; then none is kept.
        """
        book = Labels(out, self.data.pool)
        round = book.pending()
        if round is None:
            raise DataError(f"{out} has not asked for labels; call ask(out) first.")
        book.tell(round, labels)

    def run(
        self,
        out: Path,
        *,
        progress: Progress | None = None,
        progress_bar: bool = False,
        say: Callable[[str], None] | None = None,
        loggers: Sequence[str] = ("csv",),
        shared: Path | None = None,
    ) -> RunResult:
        """Train, or continue what the folder ``out`` has of this run.

        Args:
            out: the run folder (see :mod:`activeselect.training.folder`).
            progress: called after each batch.
            progress_bar: show Lightning's progress bar.
            say: called with one plain line after each epoch.
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
        self.say = say
        self.shared = shared and shared / self.content_hash(of_strategy=False)
        folder = RunFolder(out, self.config)
        if folder.file("result.json").exists():
            folder.check_inputs(self.inputs)
            return _result(folder)
        with connected(self.config), folder.claimed(self.inputs), explained(folder.path):
            self._run(folder, progress, progress_bar, names)
            return _result(folder)

    def _list_duplicates(self, folder: RunFolder) -> None:
        """Questions that the test asks, too, or that the pool asks twice, one line of JSON each."""
        rows = self.data.reports["train"].duplicates if self.data.reports else ()
        if rows:
            lines = (json.dumps(row._asdict()) + "\n" for row in rows)
            write_text(folder.file("duplicates.jsonl"), "".join(lines))

    def _run(
        self,
        folder: RunFolder,
        progress: Progress | None,
        progress_bar: bool,
        loggers: Sequence[str],
    ) -> None:
        once(partial(self._list_duplicates, folder))
        store = once(lambda: self._store(folder))  # of rank 0: the others have nothing to write
        state = once(folder.load_state)
        while state.stage < len(self.budgets):
            self._buy_labels(folder, state)
            once(partial(self._check_weights, folder, state.stage))
            stage = Stage(self, folder, state, store, self.starting_model(folder, state.stage))
            state = stage.run(progress, progress_bar, loggers)
            once(partial(folder.save_state, state))
        once(lambda: self._finish(folder, state))

    def _buy_labels(self, folder: RunFolder, state: RunState) -> None:
        """Label the train set of the stage that begins; raises LabelsNeeded where a person must."""
        unlabelled = np.flatnonzero(~self.data.pool.is_labelled)
        if not len(unlabelled):
            return
        if state.stage == 0 and not state.train:
            state.train = self.first_train_set().tolist()
        index = np.intersect1d(state.train, unlabelled)
        if not len(index):
            return
        labels = Labels(folder.path, self.data.pool, self.labeler)
        known: dict[int, tuple[str, str]] = {}
        for round, bought in state.labels.items():
            labels.expect(int(round), bought["checksum"])
            known |= once(partial(labels.buy, int(round), np.array(bought["index"]), ""))
        new = np.setdiff1d(index, list(known))
        if len(new):
            why = "drawn at random for the first train set"
            if state.stage:
                rest = len(state.train) - len(new)
                why = f"chosen by {self.strategy.name} to join {rest} train examples"
            known |= once(partial(labels.buy, state.stage, new, why))
            state.labels[str(state.stage)] = {
                "index": new.tolist(),
                "checksum": labels.checksum(state.stage),
            }
            state.cost["labels"] = state.cost.get("labels", 0) + len(new)
            once(partial(folder.save_state, state))
        self.data = replace(self.data, pool=self.data.pool.with_labels(known))
        self._check_fit(np.array(sorted(known)))

    def first_train_set(self) -> IntArray:
        """Labelled problems first; what they lack of the first budget is drawn from the others."""
        if self.initial is not None:
            return np.sort(self.initial)
        # The first examples are random and the same for every strategy: runs stay paired.
        rng = np.random.default_rng([self.config.seed, 0, Stream.INITIAL])
        size, known = self.budgets[0], self.data.pool.is_labelled
        labelled, others = np.flatnonzero(known), np.flatnonzero(~known)
        if len(labelled) >= size:
            return np.sort(rng.choice(labelled, size, replace=False))
        more = rng.choice(others, size - len(labelled), replace=False)
        return np.sort(np.concatenate([labelled, more]))

    def _check_fit(self, index: IntArray) -> None:
        """Refuse labels that do not fit the context."""
        limit = self._max_length()
        for item in encode(self.data.pool, index, self.tokenizer, self.prompt):
            if len(item.ids) > limit:
                problem = self.data.pool[item.index]
                raise DataError(
                    f"The label of id {problem.id} is too long: prompt and trace have "
                    f"{len(item.ids)} tokens, the context holds {limit}. Shorten the trace."
                )

    def _finish(self, folder: RunFolder, state: RunState) -> None:
        if self.config.save_model and not folder.file("model").exists():
            folder.after_stage(len(self.budgets) - 1).rename(folder.file("model"))
        shutil.rmtree(folder.file("checkpoints"), ignore_errors=True)
        result = {
            "schema_version": 1,
            "config": to_plain(self.config),
            "environment": environment(),
            "pool_fingerprint": self.data.pool.fingerprint,
            "test_fingerprint": self.inputs["test"],
            "content_hash": self.content_hash(),
            "data": {name: report.to_dict() for name, report in self.data.reports.items()},
            "curve": state.curve,
            "cost": state.cost,
        }
        folder.seals.write_json(folder.file("result.json"), result)

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

    def _inputs(self) -> dict[str, Any]:
        """What the run reads, for :meth:`RunFolder.check_inputs`; labels come later."""
        test = self.data.test
        files = self.model_files or {"commit": [0, 0, 0, str(self.model.config._commit_hash)]}
        return {
            "train": self.data.pool.fingerprint,
            "test": test and test.fingerprint,
            "model": files,
        }

    @cached_property
    def model_fingerprint(self) -> str:
        """Hash of the model's weights and the tokenizer."""
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

    def _check_weights(self, folder: RunFolder, stage: int) -> None:
        """Refuse weights that are not those that the run began with, or that a stage has left."""
        if stage and not self.config.rounds.restart:
            remedy = f"restore it, or start again in a new folder than {folder.path}"
            folder.seals.check_folder(folder.after_stage(stage - 1), remedy)
            return
        now = snapshot(model_source(self.config.model), self.model_files)
        if files := changed(self.model_files, now):
            raise StoreError(
                f"The model '{self.config.model}' was changed while the run in {folder.path} was "
                f"under way ({', '.join(files[:3])}). Restore it to continue, or start over in a "
                "new folder."
            )

    def _max_length(self) -> int:
        context = context_length(self.model.config) or sys.maxsize
        return min(self.config.recipe.max_length or context, context)

    @cached_property
    def test_items(self) -> list[Encoded]:
        """The encoded test problems; empty without test data."""
        test = self.data.test
        if test is None:
            return []
        return encode(test, np.arange(len(test)), self.tokenizer, self.prompt)


def _with_given(config: RunConfig, pool: Pool | None, test: Pool | None) -> RunConfig:
    """The config that says which pools were given; a run folder belongs to these."""
    if pool is None:
        if test is not None:
            raise ConfigError("ActiveRun: expected pool= with test=; received a test alone.")
        return config
    judged = NO_TEST if test is None else f"{GIVEN}{test.fingerprint}"
    data = replace(config.data, source=f"{GIVEN}{pool.fingerprint}", test=judged)
    return replace(config, data=data)


def _result(folder: RunFolder) -> RunResult:
    folder.check_results()
    stored = read_object(folder.file("result.json"))
    return RunResult(folder.path, stored["curve"], stored["cost"])
