"""Stage of a run: one train set that is trained on, tested and grown."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import lightning
import numpy as np

from activeselect.arrays import FloatArray, IntArray
from activeselect.config import PromptConfig, RunConfig
from activeselect.data.answers import get_checker
from activeselect.data.load import LoadedData
from activeselect.data.pool import Pool
from activeselect.data.prompts import Encoded, encode
from activeselect.errors import StoreError
from activeselect.files import read_json
from activeselect.forecast.live import Forecaster, RunForecaster
from activeselect.scoring.distributed import Chunks, once, rank, world_size
from activeselect.scoring.pace import Pace
from activeselect.scoring.scorer import LiveScorer, Scores
from activeselect.scoring.store import ScoreStore
from activeselect.selection.strategy import Strategy
from activeselect.training.adapt import adapt, is_sharded, merged, weight_type, whole_state
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
from activeselect.training.folder import RunFolder, RunState, readable
from activeselect.training.history import Cost, History
from activeselect.training.launch import quiet, strategy_of
from activeselect.training.loggers import close_loggers, make_loggers
from activeselect.training.memory import MemoryWatch, after_memorization, watched
from activeselect.training.module import ReasoningModule, commit_of, load_model, save_model
from activeselect.training.points import TestPoints, accuracy_of, write_predictions
from activeselect.training.shared import KeepEpochs, common_stage, follow, training_rows


@dataclass(frozen=True)
class StageInputs:
    """What a run gives to each of its stages.

    Attributes:
        config: all settings of the run.
        data: pool and test set; the pool has the labels that were bought so far.
        test_items: the encoded test problems; empty without test data.
        tokenizer, prompt: how a problem becomes token ids.
        strategy: decides; its state is that of the run.
        budgets: train-set sizes of all stages.
        forecaster: forecasts test accuracy after each round that measured premem.
        audit: asks the model as it is, where the config wants it.
        target: share of each group among the target questions, float64 ``[G]``; None: none.
        shared: folder in which runs that differ in their strategy alone meet.
        commit: of the hub that the model came from; None for a folder.
        loggers: names of the loggers of metrics.
        say: called with one plain line after each epoch.
        progress: called after each batch.
        progress_bar: whether Lightning's progress bar is shown.
    """

    config: RunConfig
    data: LoadedData
    test_items: list[Encoded]
    tokenizer: Any
    prompt: PromptConfig
    strategy: Strategy
    budgets: tuple[int, ...]
    forecaster: Forecaster | None
    audit: RunAudit | None
    target: FloatArray | None
    shared: Path | None
    commit: str | None
    loggers: Sequence[str]
    say: Callable[[str], None] | None
    progress: Progress | None
    progress_bar: bool

    @property
    def total(self) -> int:
        """Examples that the whole run trains on."""
        return sum(self.budgets) * self.config.recipe.epochs


class Stage:
    """One train-set size: fit, evaluate, acquire.

    Args:
        given: what the run gives to each of its stages.
        folder: of the run.
        state: of the run after the stage before.
        store: where scores are appended.
        train: positions of the train set, int64 ``[T]``.
    """

    def __init__(
        self,
        given: StageInputs,
        folder: RunFolder,
        state: RunState,
        store: ScoreStore,
        train: IntArray,
    ) -> None:
        self.given, self.config, self.folder, self.state = given, given.config, folder, state
        self.number, self.train, self.store = state.stage, train, store
        self.model, self.tokenizer = self._starting_model(), given.tokenizer
        self.pool: Pool = given.data.pool
        self.resumes = once(folder.checkpoint(self.number).exists)
        shared = None if given.strategy.weighs else given.shared  # it trains in a way of its own
        self.common = common_stage(shared, self.config, self.number, train, len(self.pool))
        self.followed = False  # another run has trained it
        self.losses: list[float | None] = [None, None]  # before training, in the last epoch
        # a reference model is each strategy's own
        shares = self.common if given.strategy.reference is None else None
        self.chunks = Chunks(folder.chunks, shares.chunks if shares else None)
        # only rank 0 has the store; what it read, all have to know
        history = once(lambda: self._stored_history(store))
        given.strategy.load_state_dict(state.strategy)
        self.active = ActiveSelection(
            self.pool,
            given.tokenizer,
            given.strategy,
            scoring=self.config.scoring,
            prompt=given.prompt,
            rounds=self.config.rounds,
            train=train,
            measure=self.config.measure,
            seed=self.config.seed,
            precision=self.config.recipe.precision,
            target=given.target,
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
        rounds, size = self.config.rounds, len(train)
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
        if rounds.evaluate_every and given.data.test is not None:
            self.active.test = self.points

    @property
    def last(self) -> bool:
        """Whether nothing is chosen after this stage."""
        return self.number + 1 == len(self.given.budgets)

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
        forecaster = self.given.forecaster
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

    def run(self) -> RunState:
        """Train, test, and choose what joins the train set; returns the state after the stage."""
        accuracy = self._train_and_test()
        entries = [*self.points.entries(), self._curve_entry(accuracy, complete=True)]
        train, trained = self.train, replace(self.active.cost)
        if not self.last:
            self.active.epoch = self.config.recipe.epochs  # a short stage draws as a whole one does
            train = self._acquire(self.given.budgets[self.number + 1] - len(train))
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
            strategy=self.given.strategy.state_dict(),
            curve=[*self.state.curve, *entries],
        )

    def _starting_model(self) -> Any:
        """The base model, or the last stage's where the run continues from it."""
        fresh = self.config.rounds.restart or self.number == 0
        source = self.config.model if fresh else str(self.folder.after_stage(self.number - 1))
        recipe = self.config.recipe
        model, _ = load_model(source, weight_type(recipe))
        begun, now = self.given.commit, commit_of(model)
        if begun is not None and now is not None and begun != now:
            raise StoreError(
                f"The hub gives another version of the model '{source}' now (commit {now}) than "
                f"the run in {self.folder.path} was begun with ({begun}). Download that commit "
                "into a folder and name the folder, or start over in a new folder."
            )
        return adapt(model, recipe, seed=self.config.seed * 1000 + self.number)

    def _save_model(self, last: bool) -> None:
        state = whole_state(self.model)
        lora = self.config.recipe.lora
        merges = last and lora is not None and lora.save == "merged"

        def save(where: Path) -> None:
            model = self.model
            if state is not None:  # a sharded model cannot write itself on one rank
                model = self._starting_model()
                model.load_state_dict(state)
            save_model(merged(model) if merges else model, self.tokenizer, where)

        once(lambda: self.folder.write_folder(self.folder.after_stage(self.number), save))

    # --- training ------------------------------------------------------------------------------

    def _train_and_test(self) -> float | None:
        """Test accuracy after the stage, which is trained here unless another run has done so."""
        common = self.common
        if self._epochs < self.config.recipe.epochs:  # nobody wants to know how good it is
            if self._epochs:
                self._fit()
            return None
        if common is None:
            self._fit()
            return self._evaluate()
        with common.led() as leads:
            if leads or self.resumes:  # what is half trained already follows nobody
                keep = [KeepEpochs(common, self.active, self._spent())] if leads else []
                self._fit(*keep)
                accuracy = self._evaluate()
                if leads:
                    common.publish(training_rows(self.folder.file("metrics.csv"), self.number))
                return accuracy
        made = self._loggers()
        try:
            follow(common, self.active, self.model, self.config, made)
        finally:
            close_loggers(made)
            self.folder.merge_logs()
        self.followed = True
        return self._evaluate()

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

    def _fit(self, *keeping: lightning.Callback) -> None:
        recipe = self.config.recipe
        steps = math.ceil(len(self.train) / recipe.batch_size) * recipe.epochs
        lightning.seed_everything(self.config.seed * 1000 + self.number, verbose=False)
        self.model.train()  # from_pretrained leaves it in eval mode
        module = ReasoningModule(self.model, recipe, total_steps=steps)
        checkpoint = self.folder.checkpoint(self.number)
        made = self._loggers()
        if self.resumes:
            remedy = "delete it, and the same command repeats the stage"
            once(lambda: self.folder.seals.check(checkpoint, remedy))
        callbacks: list[Any] = [
            *keeping,
            self.active,
            FitCheckpoint(
                checkpoint, self.config.checkpoint_every_steps, self.chunks, self.folder.seals
            ),
        ]
        if self.given.audit is not None and self.given.audit.every:
            callbacks.append(AuditEpochs(self.given.audit))
        if (watch := self._memory_watch()) is not None:
            callbacks.append(watch)
        if self.given.say is not None:
            place = f"stage {self.number + 1} of {len(self.given.budgets)}"
            callbacks.append(
                EpochLines(self.given.say, self.active, place, recipe.epochs, self.given.total)
            )
        if self.given.progress is not None:
            callbacks.append(Report(self.given.progress, self.active, self.given.total))
            self.active.measurer.tell = self._tell
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
                enable_progress_bar=self.given.progress_bar,
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

    def _evaluate(self) -> float | None:
        """Greedy test accuracy; right or wrong per problem is kept for paired statistics."""
        if self.given.data.test is None:
            return None
        if self.given.progress is not None:
            self.given.progress(self.active.cost.samples_seen, self.given.total, "testing")
        scores = self._test(self.model)
        if rank() == 0:
            write_predictions(self.folder.predictions(self.number), scores, self.folder.seals)
        return accuracy_of(scores)

    def _tell(self, doing: str, pace: Pace) -> None:
        """Report how far a pass is, between the reports of training."""
        assert self.given.progress is not None
        self.given.progress(self.active.cost.samples_seen, self.given.total, f"{doing} {pace}")

    def _test(self, model: Any) -> Scores:
        """Greedy answers of the model as it is."""
        test = self.given.data.test
        assert test is not None
        scorer = LiveScorer(
            self.tokenizer,
            get_checker(test.checker),
            self.config.scoring,
            seed=self.config.seed,
            stop=self.given.prompt.stop,
        )
        return self.active.measurer.evaluate(model, scorer, test, self.given.test_items)

    def _loggers(self) -> list[Any]:
        version = self.folder.log_version(self.number)
        return make_loggers(self.given.loggers, self.folder.path, version)

    def _memory_watch(self) -> MemoryWatch | None:
        audit = self.given.audit
        if audit is None or not audit.memory:
            return None
        index = watched(self.train, audit.memory, self.config.seed)
        return MemoryWatch(
            encode(self.pool, index, self.tokenizer, self.given.prompt),
            audit,
            self.folder.path,
            stage=self.number,
            epochs=self.config.recipe.epochs,
            batch_tokens=self.config.scoring.batch_tokens,
        )

    def _memory(self) -> dict[str, Any] | None:
        file = self.folder.file("memory.json")
        rows = read_json(file) if self.given.audit and file.exists() else []
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
        audited = self.given.audit.values(self.model) if self.given.audit and complete else None
        return {
            "stage": self.number,
            "round": self.active.round,
            "budget": len(self.train),
            "unique_examples": len(self.train),
            "samples_seen": self.active.cost.samples_seen,
            "test_accuracy": accuracy,
            "predictions": self.folder.predictions(self.number).name,
            "test_examples": len(self.given.test_items),
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
