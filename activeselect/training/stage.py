"""One stage of a run: fit on one train-set size, test, and choose what joins the train set."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lightning
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from activeselect.data.answers import get_checker
from activeselect.data.pool import Pool
from activeselect.files import replacing
from activeselect.scoring.passes import Parts
from activeselect.scoring.ranks import once, rank, world_size
from activeselect.scoring.scorer import LiveScorer
from activeselect.scoring.store import ScoreStore
from activeselect.training.adapt import merged
from activeselect.training.callbacks import FitCheckpoint, Progress, Report
from activeselect.training.folder import RunFolder, RunState, readable
from activeselect.training.history import Cost, History
from activeselect.training.launch import quiet, strategy_of
from activeselect.training.loggers import close_loggers, make_loggers
from activeselect.training.module import ReasoningModule, save_model
from activeselect.training.rounds import ActiveSelection
from activeselect.training.sharding import is_sharded, whole_state
from activeselect.training.shared import (
    KeepEpochs,
    common_stage,
    follow,
    training_rows,
)

if TYPE_CHECKING:
    from activeselect.training.run import ActiveRun

IntArray = NDArray[np.int64]


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
        # a reference model is each strategy's own
        shares = self.common if run.strategy.reference is None else None
        self.parts = Parts(folder.parts, shares.parts if shares else None)
        # only rank 0 has the store; what it read, all have to know
        history = once(lambda: self._stored_history(store))
        run.strategy.load_state_dict(state.strategy)
        self.active = ActiveSelection(
            self.pool,
            run.tokenizer,
            run.strategy,
            scoring=self.config.scoring,
            prompt=run.prompt,
            train=self.train,
            score_every=self.config.rounds.score_every,
            score_until=self.config.rounds.last_scored(self.number, self.config.recipe.epochs),
            reselect=self.config.rounds.mode == "reweight",
            near=self.config.rounds.near,
            measure=self.config.measure,
            store=store if rank() == 0 else None,
            seed=self.config.seed,
            stage=self.number,
            epochs=self.config.recipe.epochs,
            history=history,
            carry_over=not self.config.rounds.restart,
            forecaster=run.forecaster,
            cost=self._spent(),
            parts=self.parts,
        )

    def _spent(self) -> Cost:
        """Before this stage."""
        return Cost(**self.state.cost)  # type: ignore[arg-type]  # counts are written as integers

    def _stored_history(self, store: ScoreStore) -> History:
        if not self.resumes:
            store.drop_after(self.state.rounds)  # a checkpoint says itself which rounds it includes
        store.expect(self.state.scored)
        return History.from_store(store, self.state.rounds)

    def _train_set(self) -> IntArray:
        if self.number:
            return np.array(self.state.train, dtype=np.int64)
        if self.run_.initial is not None:
            return np.sort(self.run_.initial)
        # The first examples are random and the same for every strategy: runs stay paired.
        rng = np.random.default_rng([self.config.seed, 0, 6])
        return np.sort(rng.choice(len(self.pool), self.run_.budgets[0], replace=False))

    def run(
        self, progress: Progress | None, progress_bar: bool, loggers: Sequence[str]
    ) -> RunState:
        accuracy = self._train_and_test(progress, progress_bar, loggers)
        entry = self._curve_entry(accuracy)
        train = self.train
        if self.number + 1 < len(self.run_.budgets):
            train = self._acquire(self.run_.budgets[self.number + 1] - len(train))
        self._note_shared()
        last = self.number + 1 == len(self.run_.budgets)
        if (last and self.config.save_model) or not (last or self.config.rounds.restart):
            self._save_model(last)
        return RunState(
            stage=self.number + 1,
            rounds=self.active.round,
            scored=self.store.rounds(),
            train=train.tolist(),
            cost=asdict(self.active.cost),
            strategy=self.run_.strategy.state_dict(),
            curve=[*self.state.curve, entry],
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
        seconds, tokens = self.parts.seconds_taken, 0
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
        callbacks: list[Any] = [
            *keeping,
            self.active,
            FitCheckpoint(checkpoint, self.config.checkpoint_every_steps, self.active),
        ]
        if progress is not None:
            callbacks.append(Report(progress, self.active, self.run_.total))
        with quiet(), readable(checkpoint):
            trainer = lightning.Trainer(
                accelerator=self.config.accelerator,
                devices=self.config.devices,
                num_nodes=self.config.num_nodes,
                strategy=strategy_of(self.config),
                precision=recipe.precision,  # type: ignore[arg-type]  # checked by Lightning
                max_epochs=recipe.epochs,
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
                close_loggers(made)
                if rank() == 0:
                    self.folder.merge_logs()
        if not is_sharded(self.model):
            self.model.to(trainer.strategy.root_device)  # Lightning has moved it to the CPU

    # --- after training ------------------------------------------------------------------------

    def _evaluate(self, progress: Progress | None) -> float | None:
        """Greedy test accuracy; right or wrong per problem is kept for paired statistics."""
        test = self.run_.data.test
        if test is None:
            return None
        if progress is not None:
            progress(self.active.cost.samples_seen, self.run_.total, "testing")
        scorer = LiveScorer(
            self.tokenizer,
            get_checker(test.checker),
            self.config.scoring,
            seed=self.config.seed,
            stop=self.run_.prompt.stop,
        )
        measurer = self.active.recorder.measurer
        scores = measurer.evaluate(self.model, scorer, test, self.run_.test_items)
        assert scores.correct is not None
        correct = scores.correct[:, 0]
        if rank() == 0:
            table = pa.table({"index": scores.index, "correct": correct})
            with replacing(self.folder.predictions(self.number)) as temporary:
                pq.write_table(table, temporary)
        return float(correct.mean())

    def _curve_entry(self, accuracy: float | None) -> dict[str, Any]:
        history = self.active.history
        measured = history.measured("premem", since=self.active.recorder.since)
        premem = history.signals["premem"][measured[-1]][1].mean() if measured else None
        names, counts = np.unique(self.pool.groups[self.train], return_counts=True)
        return {
            "stage": self.number,
            "round": self.active.round,
            "budget": len(self.train),
            "unique_examples": len(self.train),
            "samples_seen": self.active.cost.samples_seen,
            "test_accuracy": accuracy,
            "test_examples": len(self.run_.test_items),
            "premem": None if premem is None else float(premem),
            "forecast": self._forecast(),
            "cost": asdict(self.active.cost),  # up to here, all stages together
            "groups": {
                self.pool.group_names[int(name)]: int(count)
                for name, count in zip(names, counts, strict=True)
            },
        }

    def _forecast(self) -> dict[str, Any] | None:
        now = self.active.forecast()
        if now is None:
            return None
        return {"value": now.value, "low": now.low, "high": now.high, "source": now.source}

    def _acquire(self, budget: int) -> IntArray:
        """The train set and ``budget`` new problems that the strategy chooses."""
        taken = np.zeros(len(self.pool), dtype=bool)
        taken[self.train] = True
        chosen = self.active.acquire(self.model, np.flatnonzero(~taken), budget)
        return np.sort(np.concatenate([self.train, chosen]))
