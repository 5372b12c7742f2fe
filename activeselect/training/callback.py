"""What a run adds to a Lightning fit besides its rounds: checkpoints, and word of how far it is."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from torch.utils.data import DataLoader

from activeselect.arrays import IntArray
from activeselect.config import PromptConfig, ScoringConfig
from activeselect.data.pool import Pool
from activeselect.data.prompts import EncodedSet, collate, encode, with_examples
from activeselect.errors import ConfigError
from activeselect.files import explained, sync
from activeselect.scoring.distributed import Parts
from activeselect.scoring.generate import pad_token_of
from activeselect.scoring.signals import PER_ROUND, measurements
from activeselect.scoring.store import ScoreStore
from activeselect.selection.registry import StrategySpec, create
from activeselect.selection.sampler import ActiveSampler
from activeselect.selection.strategy import Selection, Strategy
from activeselect.training.history import Cost, Forecast, Forecaster, History, forecast_inputs
from activeselect.training.measure import Measurer, Recorder
from activeselect.training.select import Chooser, Moment

# --- What Lightning calls, in terms of the three calls that any other loop makes


class LightningHooks(lightning.Callback, ABC):
    """Calls :meth:`begin`, :meth:`trained` and :meth:`end_epoch` from a Lightning fit.

    Args:
        sampler: told on which of how many devices it runs.
        model_of: finds the transformers model in the fitted module; default: ``module.model``.
    """

    def __init__(
        self, sampler: ActiveSampler, model_of: Callable[[Any], Any] | None = None
    ) -> None:
        self.sampler = sampler
        self._model_of = model_of or _inner_model
        self._clock = 0.0
        self.epochs: int | None = None  # of the fit, if known

    @property
    @abstractmethod
    def cost(self) -> Cost:
        """Spent so far; the seconds of training are added here."""

    @abstractmethod
    def begin(self, model: Any) -> None:
        """Before the first step."""

    @abstractmethod
    def trained(self, index: IntArray, tokens: int) -> None:
        """After each step."""

    @abstractmethod
    def end_epoch(self, model: Any, epoch: int, log: Callable[..., None]) -> None:
        """After each pass."""

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        self.sampler.rank, self.sampler.world_size = trainer.global_rank, trainer.world_size
        if self.epochs is None and (trainer.max_epochs or 0) > 0:
            self.epochs = trainer.max_epochs

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        self.begin(self._model_of(pl_module))
        self._clock = time.perf_counter()

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        self._clock = time.perf_counter()

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        index = batch["index"]
        tokens = batch["attention_mask"].sum(dim=1)[index >= 0].sum()
        everyone = index.new_zeros(trainer.world_size, len(index) + 1)
        everyone[trainer.global_rank] = torch.cat([index, tokens[None]])
        if trainer.world_size > 1:
            everyone = trainer.strategy.reduce(everyone, reduce_op="sum")
        rows = everyone.cpu().numpy()
        positions = rows[:, :-1].reshape(-1)
        self.trained(positions[positions >= 0], int(rows[:, -1].sum()))
        self._tick()

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        self._tick()
        self.end_epoch(self._model_of(pl_module), trainer.current_epoch + 1, pl_module.log)

    def _tick(self) -> None:
        now = time.perf_counter()
        self.cost.train_s, self._clock = self.cost.train_s + now - self._clock, now


class ActiveLoader(DataLoader[Any]):
    """A loader that Lightning may go on with in the middle of an epoch.

    Lightning counts the batches before the stop, so the length is that of a whole pass; what it
    asks for beyond that, the callback keeps.
    """

    def __len__(self) -> int:
        assert isinstance(self.sampler, ActiveSampler)
        assert self.batch_size is not None
        whole = self.sampler.whole
        return whole // self.batch_size if self.drop_last else -(-whole // self.batch_size)

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        pass


def _inner_model(module: Any) -> Any:
    return getattr(module, "model", module)


# --- The callback that makes a Lightning fit active: score, record, select, update the sampler


class ActiveSelection(LightningHooks):
    """Scores the train set after each round and lets a strategy choose what comes next.

    In a script of your own::

        selection = ActiveSelection(pool, tokenizer, strategy="premem")
        trainer = Trainer(max_epochs=6, callbacks=[selection], use_distributed_sampler=False)
        trainer.fit(module, selection.dataloader(batch_size=16))

    The fitted module is expected to hold the transformers model as ``module.model`` (or to be
    one); pass ``model_of`` otherwise.

    Args:
        pool: all problems; ``train`` are positions in it (default: every problem).
        tokenizer: the model's.
        strategy: a name, a config mapping, or a Strategy.
        scoring, prompt: settings of the scorer and of the text.
        train: positions of the train set, int ``[T]``.
        score_every: epochs per round.
        score_until: last epoch that is scored; default: all.
        reselect: whether to reweight the train set after each round; without it the callback only
            measures (the run acquires between fits).
        near: what candidates that were never scored are judged by (``rounds.near``).
        measure: further signals to measure for the record.
        store: where scores are appended; None keeps them in memory only.
        seed: of sampling order, completions and selection.
        stage: recorded with the scores.
        epochs: of this fit, which ``scoring.policy: adaptive`` spreads its samples over; Lightning
            and transformers say it themselves.
        history: signals of earlier fits of the same run; the rounds are numbered on from there.
        carry_over: whether premem looks back into that history (the model was not restarted).
        cost: spent by earlier fits of the same run.
        forecaster: forecasts test accuracy after each round that measured premem.
        parts: keeps finished chunks of a scoring pass, so that a stop loses little.
    """

    def __init__(
        self,
        pool: Pool,
        tokenizer: Any,
        strategy: StrategySpec | Strategy = "premem",
        *,
        scoring: ScoringConfig | None = None,
        prompt: PromptConfig | None = None,
        train: IntArray | None = None,
        score_every: int = 1,
        score_until: int | None = None,
        reselect: bool = True,
        near: str = "auto",
        measure: tuple[str, ...] = (),
        store: ScoreStore | None = None,
        seed: int = 0,
        stage: int = 0,
        epochs: int | None = None,
        history: History | None = None,
        carry_over: bool = False,
        cost: Cost | None = None,
        forecaster: Forecaster | None = None,
        parts: Parts | None = None,
        model_of: Callable[[Any], Any] | None = None,
    ) -> None:
        self.pool = pool
        self.tokenizer = tokenizer
        self.strategy = create(strategy)
        self.scoring = scoring or ScoringConfig()
        self.prompt = with_examples(prompt or PromptConfig(), pool, seed=seed)
        self.train = np.arange(len(pool)) if train is None else np.asarray(train, dtype=np.int64)
        super().__init__(ActiveSampler(Selection.of(self.train), seed=seed), model_of)
        self.score_every = score_every
        self.score_until = score_until
        self.reselect = reselect
        self.seed = seed
        self.stage = stage
        self.epochs = epochs
        between = ("embedding",) if near == "embedding" and not reselect else ()
        self.what = measurements([*self.strategy.requires, *measure, *between])
        self.times_seen = np.zeros(len(pool), dtype=np.int64)
        self.epoch = 0
        self.consumed = 0  # samples of the epoch under way, over all ranks
        self.encoded = EncodedSet(encode(pool, self.train, tokenizer, self.prompt))
        measurer = Measurer(
            pool,
            tokenizer,
            self.scoring,
            self.prompt,
            seed=seed,
            stage=stage,
            cost=cost or Cost(),
            encoded=self.encoded,
            reference=self.strategy.reference,
            parts=parts,
        )
        self.recorder = Recorder(
            measurer,
            what=self.what & PER_ROUND,
            history=history or History(len(pool)),
            carry_over=carry_over,
            store=store,
            threshold=self.strategy.decides_at,
        )
        self.chooser = Chooser(
            self.strategy,
            self.recorder,
            what=self.what,
            near="auto" if reselect else near,  # reweighting carries nothing over
            seed=seed,
        )
        self.forecaster = forecaster

    def dataloader(self, batch_size: int, *, pad: bool = False, **kwargs: Any) -> DataLoader[Any]:
        """A loader over the train set in the order that the selections ask for.

        Args:
            batch_size: per device, as always in Lightning.
            pad: if a pass does not divide by the number of devices, train on the rest, too; the
                devices that get none of it read an example whose labels are all ignored.
        """
        token = pad_token_of(self.tokenizer)
        self.sampler.pad = pad
        return ActiveLoader(
            self.encoded,
            batch_size=batch_size,
            sampler=self.sampler,
            collate_fn=lambda batch: collate(batch, token),
            **kwargs,
        )

    @property
    def history(self) -> History:
        """Measured signals of the rounds so far."""
        return self.recorder.history

    @property
    def round(self) -> int:
        """Rounds so far."""
        return self.history.rounds

    @property
    def cost(self) -> Cost:
        """Spent so far."""
        return self.recorder.cost

    # --- what Lightning's hooks call, and any other loop ---------------------------------------

    def begin(self, model: Any) -> None:
        """Before the first step: what has to be measured before anything is trained on."""
        if "before" in self.what:
            rows = self.history.signals.get("prequential", {}).values()
            known = np.concatenate([self.train[:0], *(index for index, _ in rows)])
            fresh = self.train[self.times_seen[self.train] == 0]
            unknown = np.setdiff1d(fresh, known)
            if len(unknown):
                self.recorder.before(model, unknown)
                self.recorder.close(epoch=0)

    def trained(self, index: IntArray, tokens: int) -> None:
        """These examples (pool positions, with repetitions) were trained on, ``tokens`` in all."""
        np.add.at(self.times_seen, index, 1)
        self.consumed += len(index)
        self.cost.samples_seen += len(index)
        self.cost.tokens_trained += tokens

    def end_epoch(
        self, model: Any, epoch: int, log: Callable[..., None] = lambda *_, **__: None
    ) -> None:
        """After ``epoch`` epochs: score and select if a round is due.

        Args:
            model: the transformers model, as it is now.
            log: called with a name and a number for each thing worth logging.
        """
        self.epoch = epoch
        self.consumed = 0
        self.sampler.resume(epoch, 0)
        if self._is_scored(epoch):
            self._finish_round(model, log)

    def _is_scored(self, epoch: int) -> bool:
        late = self.score_until is not None and epoch > self.score_until
        return epoch % self.score_every == 0 and not late

    def _rounds_to_come(self) -> int:
        """Scored rounds of this fit after the current one."""
        if self.epochs is None and self.scoring.policy == "adaptive":
            raise ConfigError(
                "scoring.policy: adaptive spreads its samples over the epochs of a fit; pass "
                "ActiveSelection(epochs=...)."
            )
        return sum(map(self._is_scored, range(self.epoch + 1, (self.epochs or 0) + 1)))

    # --- the round -----------------------------------------------------------------------------

    def _finish_round(self, model: Any, log: Callable[..., None]) -> None:
        if self.recorder.what:
            before = replace(self.cost)
            for name, values in self.recorder.score(
                model, self._scored_examples(), epoch=self.epoch, to_come=self._rounds_to_come()
            ).items():
                log(f"score/{name}", float(values.mean()))
            for name, value in self.recorder.quality.items():
                if np.isfinite(value):
                    log(f"score/{name}", value)
            for name in ("completions", "completions_saved"):
                log(f"score/{name}", float(getattr(self.cost, name) - getattr(before, name)))
            log("score/seconds", self.cost.score_s - before.score_s)
            self._log_forecast(log)
        else:
            self.history.add(self.train[:0], {})
        if self.reselect:
            chosen = self.chooser.select(self._now(model), self.train, len(self.train))
            self.sampler.selection = chosen
            log("select/examples", float(len(self.sampler.selection.index)))

    def _scored_examples(self) -> IntArray:
        limit = self.scoring.limit
        if limit is None or limit >= len(self.train):
            return self.train
        # The same subset in every round: premem looks back, and an example that is first seen
        # when it is memorized already would count as never understood.
        rng = np.random.default_rng([self.seed, 4])
        return np.sort(rng.choice(self.train, limit, replace=False))

    def forecast(self) -> Forecast | None:
        """What to expect on the test after the last scored round; a function of the history."""
        rows = self.history.measured("premem", since=self.recorder.since)
        if self.forecaster is None or not rows:
            return None
        accuracy, mean_nll = forecast_inputs(self.history.matrix, self.scoring.policy)
        return self.forecaster(accuracy[rows], mean_nll[rows])

    def _log_forecast(self, log: Callable[..., None]) -> None:
        now = self.forecast()
        if now is not None:
            log("forecast/test_accuracy", now.value, prog_bar=True)
            log("forecast/low", now.low)
            log("forecast/high", now.high)

    # --- selecting -----------------------------------------------------------------------------

    def acquire(self, model: Any, candidates: IntArray, budget: int) -> IntArray:
        """Let the strategy choose new examples; measure what it asks for before it does.

        Args:
            model: as it is after training on the train set.
            candidates: positions that may be chosen, int ``[C]``.
            budget: how many.

        Returns:
            int64 ``[budget]``.

        Raises:
            StrategyError: if the strategy breaks a promise, or chooses fewer.
        """
        return self.chooser.acquire(self._now(model), candidates, budget)

    def _now(self, model: Any) -> Moment:
        return Moment(model, self.train, self.times_seen, self.epoch)

    # --- checkpointing -------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        selection = self.sampler.selection
        return {
            "epoch": self.epoch,
            "consumed": self.consumed,
            "selection_index": torch.from_numpy(selection.index),
            "selection_weight": torch.from_numpy(selection.weight),
            "times_seen": torch.from_numpy(self.times_seen.copy()),
            "cost": vars(self.cost).copy(),
            "strategy": self.strategy.state_dict(),
            "rounds": self.history.rounds,
            "history": self.history.tensors(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.epoch, self.consumed = state["epoch"], state["consumed"]
        self.sampler.resume(self.epoch, self.consumed)
        self.sampler.selection = Selection.of(
            state["selection_index"].numpy(), state["selection_weight"].numpy()
        )
        self.times_seen = state["times_seen"].numpy().copy()
        self.strategy.load_state_dict(state["strategy"])
        self.recorder.cost = Cost(**state["cost"])
        self.recorder.load_history(
            History.from_tensors(len(self.pool), state["rounds"], state["history"])
        )


#: Told how far a run is: (examples trained so far, examples in all, what is being done).
Progress = Callable[[int, int, str], None]


class FitCheckpoint(lightning.Callback):
    """Saves the fit, the newest state only, by rename.

    Saved is after an epoch's last batch, before the round is scored, so that a stop during scoring
    costs no training; and after every ``every`` optimizer steps.
    """

    def __init__(self, path: Path, every: int | None, active: ActiveSelection) -> None:
        self.path, self.every, self.active = path, every, active
        self._step = 0

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        self._step = trainer.global_step

    def on_train_batch_end(self, trainer: Any, *args: Any) -> None:
        # within a step, between two parts of its batch, there are gradients that nobody saves
        stepped = trainer.global_step > self._step
        due = self.every is not None and stepped and trainer.global_step % self.every == 0
        self._step = trainer.global_step
        if trainer.is_last_batch or due:
            temporary = self.path.with_suffix(".tmp")
            with explained(self.path):
                trainer.save_checkpoint(temporary)
                if trainer.is_global_zero:
                    sync(temporary)
                    temporary.replace(self.path)
                    sync(self.path.parent)
            self.active.recorder.measurer.parts.clear()

    def on_save_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        # else Lightning takes an epoch whose batches are done for one that has ended, hooks and all
        checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]["is_last_batch"] = False


class Report(lightning.Callback):
    """Tells how many examples the run has trained."""

    def __init__(self, progress: Progress, active: ActiveSelection, total: int) -> None:
        self.progress, self.active, self.total = progress, active, total

    def on_train_batch_end(self, *args: Any) -> None:
        self.progress(self.active.cost.samples_seen, self.total, "training")
