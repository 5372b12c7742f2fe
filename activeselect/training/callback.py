"""The callback that makes a Lightning fit active: score, select, update the sampler."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO
from torch.utils.data import DataLoader

from activeselect.arrays import FloatArray, IntArray
from activeselect.config import PromptConfig, RoundsConfig, ScoringConfig, prompt_of, settings_from
from activeselect.data.pool import Pool
from activeselect.data.prompts import EncodedSet, collate, encoded, with_examples
from activeselect.errors import ConfigError, DataError
from activeselect.files import explained, make_folder, sync
from activeselect.forecast.live import Forecaster, LiveForecast
from activeselect.scoring.distributed import Chunks
from activeselect.scoring.generate import pad_token_of
from activeselect.scoring.signals import PER_ROUND, measurements
from activeselect.scoring.store import ScoreStore
from activeselect.seals import Seals
from activeselect.selection.registry import StrategySpec, check_target, create
from activeselect.selection.sampler import ActiveSampler
from activeselect.selection.strategy import Selection, Strategy
from activeselect.streams import Stream
from activeselect.training.history import Cost, History, forecast_inputs
from activeselect.training.measure import Measurer
from activeselect.training.select import Selector
from activeselect.training.selections import next_round

#: Told how far a run is: (examples trained so far, examples in all, what is being done).
Progress = Callable[[int, int, str], None]

_REWEIGHT = RoundsConfig(mode="reweight")
#: Arguments of earlier versions, and where they are now.
_RETIRED = {
    "score_every": "rounds=RoundsConfig(mode='reweight', score_every=...)",
    "score_until": "rounds=RoundsConfig(mode='reweight', score_until=...)",
    "near": "rounds=RoundsConfig(mode='reweight', near=...)",
    "reselect": "rounds=RoundsConfig(mode='reweight') selects, mode='acquire' only measures",
    "epochs": "nothing: it is not needed any more",
}


@dataclass(frozen=True)
class StageOfRun:
    """What a run tells the callback of one of its stages; a fit of its own needs none of it.

    Attributes:
        number: of the stage; recorded with the scores.
        last_scored: epoch after which nothing is scored; None: all epochs are.
        history: signals of the stages before; rounds are numbered on from there.
        look_back: whether premem includes that history (the model was not restarted).
        cost: spent by the stages before.
        store: where scores are appended.
        chunks: keeps the finished chunks of a scoring pass, so that a stop loses little.
        forecaster: forecasts test accuracy after each round that measured premem.
        selections: folder in which every selection is recorded.
        test: called with the model after each step, and after each pass before it is scored.
    """

    number: int = 0
    last_scored: int | None = None
    history: History | None = None
    look_back: bool = False
    cost: Cost | None = None
    store: ScoreStore | None = None
    chunks: Chunks | None = None
    forecaster: Forecaster | None = None
    selections: Path | None = None
    test: Callable[[Any], None] | None = None


class ActiveSelection(lightning.Callback):
    """Scores the train set after each round and lets a strategy choose what comes next.

    In a script of your own::

        selection = ActiveSelection(pool, tokenizer, strategy="premem")
        trainer = Trainer(max_epochs=6, callbacks=[selection], use_distributed_sampler=False)
        trainer.fit(module, selection.dataloader(batch_size=16))

    The fitted module is expected to hold the transformers model as ``module.model`` (or to be
    one); pass ``model_of`` otherwise. In any other loop call :meth:`begin` before the first step,
    :meth:`trained` after each step and :meth:`end_epoch` after each pass.

    Args:
        pool: all problems.
        tokenizer: the model's.
        strategy: a name, a config mapping, or a Strategy; default: every example is read alike,
            and only measured.
        scoring: settings of the measurements, also as a mapping; default: ``ScoringConfig()``.
        prompt: settings of the text: by name (``plain``, ``gsm8k``, ``math``, ``chat``), as a
            mapping, or ``PromptConfig()``, the default.
        rounds: when to score and select. ``mode="reweight"``, the default, selects after each
            round; with ``mode="acquire"`` the callback only measures, and :meth:`acquire` selects.
        train: positions of the train set in the pool, int ``[T]``; default: every problem.
        measure: signals measured besides those that the strategy requires, for the record.
        seed: of sampling order, completions and selection.
        precision: of the training, e.g. ``bf16-mixed``: scoring computes in it, too; Lightning and
            transformers say it themselves.
        model_of: finds the transformers model in the fitted module.
        selections: folder in which every selection is recorded
            (:mod:`activeselect.training.selections`); acquisitions are numbered on from those
            that led to ``train``.
        target: share of each group of the pool among the questions that the model will be asked,
            float ``[G]`` (:func:`activeselect.data.target.target_shares`); default: not known.

    Raises:
        ConfigError: if a setting is out of its range, a signal is unknown, or the strategy needs
            target shares and there are none.
        StrategyError: if there is no such strategy.
    """

    def __init__(
        self,
        pool: Pool,
        tokenizer: Any,
        strategy: StrategySpec | Strategy = "random",
        *,
        scoring: ScoringConfig | Mapping[str, Any] | None = None,
        prompt: PromptConfig | Mapping[str, Any] | str | None = None,
        rounds: RoundsConfig = _REWEIGHT,
        train: IntArray | None = None,
        measure: tuple[str, ...] = ("premem",),
        seed: int = 0,
        precision: str | None = None,
        model_of: Callable[[Any], Any] | None = None,
        selections: Path | str | None = None,
        target: FloatArray | None = None,
        _stage: StageOfRun | None = None,
        **retired: Any,
    ) -> None:
        _refuse(retired)
        if _stage is None:
            _refuse_what_runs_do(rounds)
        stage = _stage or StageOfRun(last_scored=rounds.score_until)
        self.pool, self.tokenizer, self.rounds, self.seed = pool, tokenizer, rounds, seed
        self.strategy = create(strategy)
        check_target(self.strategy, given=target is not None)
        if target is not None and np.shape(target) != (len(pool.group_names),):
            raise ConfigError(
                f"target: expected one share for each of the pool's {len(pool.group_names)} "
                f"groups; received shape {np.shape(target)}. Count them with "
                "activeselect.data.target.target_shares."
            )
        self.scoring = settings_from(ScoringConfig, "scoring", scoring or {})
        named = prompt_of(prompt) if isinstance(prompt, str) else prompt
        template = settings_from(PromptConfig, "prompt", named or {})
        self.prompt = with_examples(template, pool, seed=seed)
        self.train = np.arange(len(pool)) if train is None else np.asarray(train, dtype=np.int64)
        unlabelled = int((~pool.is_labelled[self.train]).sum())
        if unlabelled:
            raise DataError(
                f"train: {unlabelled} of {len(self.train)} problems have no trace and no answer. "
                "Label them, or leave them out of train."
            )
        self.sampler = ActiveSampler(Selection.of(self.train), seed=seed)
        self.reweights = rounds.mode == "reweight"
        near = "auto" if self.reweights else rounds.near  # reweighting has no unscored candidates
        between = ("embedding",) if near == "embedding" else ()
        self.what = measurements([*self.strategy.requires, *measure, *between])
        self.times_seen = np.zeros(len(pool), dtype=np.int64)
        self.epoch = 0
        self.consumed = 0  # samples of the epoch under way, over all ranks
        self.encoded = EncodedSet(encoded(pool, self.train, tokenizer, self.prompt))
        self.measurer = Measurer(
            pool,
            tokenizer,
            self.scoring,
            self.prompt,
            what=self.what & PER_ROUND,
            encoded=self.encoded,
            seed=seed,
            stage=stage.number,
            history=stage.history,
            look_back=stage.look_back,
            cost=stage.cost,
            store=stage.store,
            chunks=stage.chunks,
            reference=self.strategy.reference,
            precision=precision,
        )
        record = stage.selections if selections is None else Path(selections)
        round = stage.number + 1
        if record is not None and _stage is None:
            round = next_round(record, self.train)
        self.selector = Selector(
            self.strategy,
            self.measurer,
            what=self.what,
            near=near,
            seed=seed,
            record=record,
            round=round,
            target=target,
        )
        if round == 1 and record is not None:
            self.selector.note(
                0, [(Selection.of(self.train), ["first train set"] * len(self.train))]
            )
        self.forecaster = stage.forecaster
        self._last_scored = stage.last_scored
        self._model_of = model_of or _inner_model
        self._clock = 0.0
        self._step = 0
        #: Spent when the last pass ended, and when the last round was measured.
        self.trained_cost, self.measured_cost = replace(self.cost), replace(self.cost)
        #: Tests the model on its way, if anybody wants to know; set by a run.
        self.test = stage.test

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
        return self.measurer.history

    @property
    def round(self) -> int:
        """Rounds so far."""
        return self.history.rounds

    @property
    def cost(self) -> Cost:
        """Spent so far."""
        return self.measurer.cost

    # --- what Lightning's hooks call, and any other loop ---------------------------------------

    def begin(self, model: Any) -> None:
        """Before the first step: measure what has to be measured before anything is trained on."""
        if "prequential" in self.what:
            rows = self.history.signals.get("prequential", {}).values()
            known = np.concatenate([self.train[:0], *(index for index, _ in rows)])
            fresh = self.train[self.times_seen[self.train] == 0]
            unknown = np.setdiff1d(fresh, known)
            if len(unknown):
                self.measurer.score_prequential(model, unknown)
                self.measurer.store_prequential(epoch=0)
        if self.round and not (self.reweights or self.epoch or self.consumed):
            self._weigh(model)  # by what earlier stages have measured

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
            epoch: epochs so far, from 1.
            log: called with a name and a number for each thing worth logging.
        """
        self.epoch = epoch
        self.consumed = 0
        self.trained_cost = replace(self.cost)
        self.sampler.resume(epoch, 0)
        late = self._last_scored is not None and epoch > self._last_scored
        if epoch % self.rounds.score_every == 0 and not late:
            self._score(model, log)
            if self.measurer.what:
                self.measured_cost = replace(self.cost)
            if self.reweights:
                self.sampler.selection = self.selector.reweight(
                    model, self.train, times_seen=self.times_seen, epoch=epoch
                )
                log("select/examples", float(len(self.sampler.selection.index)))
            else:
                self._weigh(model, log)

    def _weigh(self, model: Any, log: Callable[..., None] = lambda *_, **__: None) -> None:
        selection = self.selector.weigh(
            model, self.train, times_seen=self.times_seen, epoch=self.epoch
        )
        if selection is not None:
            self.sampler.selection = selection
            log("select/examples", float(len(selection.index)))

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
        return self.selector.acquire(
            model,
            self.train,
            candidates,
            budget,
            times_seen=self.times_seen,
            epoch=self.epoch,
        )

    @property
    def measures_at_choice(self) -> bool:
        """Whether :meth:`acquire` asks the model, and not only what was measured before."""
        scores = self.scoring.candidates > 0 and bool(self.measurer.what)
        return scores or bool(self.what - PER_ROUND)

    def masked(self) -> list[float] | None:
        """Share of the scored examples that counted as memorized, for each round of this fit.

        Their accuracy is masked to 0 in that round (arXiv 2411.07681). Where all shares are 0, the
        mask never acts, and premem is nothing but accuracy. None if premem is not measured.
        """
        rounds = self.history.measured("premem", "mean_nll", since=self.measurer.since)
        shares = [self.history.signals["mean_nll"][r][1] < self.scoring.tau for r in rounds]
        return [float(share.mean()) for share in shares] or None

    def forecast(self) -> LiveForecast | None:
        """What to expect on the test after the last scored round; a function of the history."""
        rows = self.history.measured("premem", since=self.measurer.since)
        if self.forecaster is None or not rows:
            return None
        accuracy, mean_nll = forecast_inputs(self.history.matrix, self.scoring.policy)
        return self.forecaster(accuracy[rows], mean_nll[rows])

    def _score(self, model: Any, log: Callable[..., None]) -> None:
        if not self.measurer.what:
            self.history.add(self.train[:0], {})
            return
        before = replace(self.cost)
        index = self._scored_examples()
        for name, values in self.measurer.score(model, index, epoch=self.epoch).items():
            log(f"score/{name}", float(values.mean()))
        for name, value in self.measurer.quality.items():
            if np.isfinite(value):
                log(f"score/{name}", value)
        for name in ("completions", "completions_saved"):
            log(f"score/{name}", float(getattr(self.cost, name) - getattr(before, name)))
        log("score/seconds", self.cost.score_s - before.score_s)
        now = self.forecast()
        if now is not None:
            log("forecast/test_accuracy", now.value, prog_bar=True)
            log("forecast/low", now.low)
            log("forecast/high", now.high)

    def _scored_examples(self) -> IntArray:
        limit = self.scoring.limit
        if limit is None or limit >= len(self.train):
            return self.train
        # The same subset in every round: premem looks back, and an example that is first seen
        # when it is memorized already would count as never understood.
        rng = np.random.default_rng([self.seed, Stream.SCORED])
        return np.sort(rng.choice(self.train, limit, replace=False))

    # --- Lightning's hooks ---------------------------------------------------------------------

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Tell the sampler this process' rank and the number of processes."""
        self.sampler.rank, self.sampler.world_size = trainer.global_rank, trainer.world_size
        if self.measurer.precision is None:
            self.measurer.precision = trainer.precision

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Prepare measuring with the model as it is before training."""
        self._check_loader(trainer.train_dataloader)
        self.begin(self._model_of(pl_module))
        self._clock, self._step = time.perf_counter(), trainer.global_step

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        """Start the clock of training time."""
        self._clock = time.perf_counter()

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count the examples and tokens that were trained on."""
        if not isinstance(batch, Mapping) or "index" not in batch:
            raise ConfigError(
                "batch: expected a mapping with 'index' (positions in the pool), as the loader of "
                f"selection.dataloader(batch_size) gives it; received {type(batch).__name__}"
                + (f" with {', '.join(batch)}." if isinstance(batch, Mapping) else ".")
            )
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
        stepped, self._step = trainer.global_step > self._step, trainer.global_step
        if stepped and not trainer.is_last_batch:  # what ends a pass is tested after its checkpoint
            self._test(pl_module)

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Score and select after the epoch, where a round is due."""
        self._tick()
        self._test(pl_module)
        self.end_epoch(self._model_of(pl_module), trainer.current_epoch + 1, pl_module.log)

    def _test(self, pl_module: Any) -> None:
        if self.test is not None:
            self.test(self._model_of(pl_module))
            self._clock = time.perf_counter()  # testing is not training

    def _check_loader(self, loader: Any) -> None:
        """Refuse to score and select while training goes on over something else."""
        fix = "Train with trainer.fit(module, selection.dataloader(batch_size))"
        if not isinstance(loader, DataLoader):
            raise ConfigError(
                "dataloader: expected one loader over the selection's examples; received "
                f"{type(loader).__name__}. {fix}."
            )
        samplers = (loader.sampler, getattr(loader.batch_sampler, "sampler", None))
        if not any(sampler is self.sampler for sampler in samplers):
            raise ConfigError(
                "dataloader: expected a loader that draws from the selection's sampler; received "
                f"one that draws from {type(loader.sampler).__name__}, so training would ignore "
                f"what is selected. {fix}, with Trainer(use_distributed_sampler=False) and without "
                "overfit_batches."
            )

    def _tick(self) -> None:
        now = time.perf_counter()
        self.cost.train_s, self._clock = self.cost.train_s + now - self._clock, now

    # --- checkpointing -------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Place in the epoch, current selection, history and cost, for Lightning's checkpoint."""
        selection = self.sampler.selection
        return {
            "epoch": self.epoch,
            "consumed": self.consumed,
            "selection_index": torch.from_numpy(selection.index),
            "selection_weight": torch.from_numpy(selection.weight),
            "times_seen": torch.from_numpy(self.times_seen.copy()),
            "cost": vars(self.cost).copy(),
            "measured_cost": vars(self.measured_cost).copy(),
            "strategy": self.strategy.state_dict(),
            "rounds": self.history.rounds,
            "history": self.history.tensors(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned."""
        self.epoch, self.consumed = state["epoch"], state["consumed"]
        self.sampler.resume(self.epoch, self.consumed)
        self.sampler.selection = Selection.of(
            state["selection_index"].numpy(), state["selection_weight"].numpy()
        )
        self.times_seen = state["times_seen"].numpy().copy()
        self.strategy.load_state_dict(state["strategy"])
        self.measurer.cost = Cost(**state["cost"])
        self.measured_cost = Cost(**state["measured_cost"])
        self.measurer.load_history(
            History.from_tensors(len(self.pool), state["rounds"], state["history"])
        )


class ActiveLoader(DataLoader[Any]):
    """A loader that Lightning may go on with in the middle of an epoch.

    Lightning counts the batches before the stop, so the length is that of a whole pass; what it
    asks for beyond that, the callback keeps.
    """

    def __len__(self) -> int:
        if not isinstance(self.sampler, ActiveSampler) or self.batch_size is None:
            raise ConfigError(
                "dataloader: the selection's sampler was replaced. Use "
                "Trainer(use_distributed_sampler=False), and no overfit_batches."
            )
        whole = self.sampler.whole
        return whole // self.batch_size if self.drop_last else -(-whole // self.batch_size)

    def state_dict(self) -> dict[str, Any]:
        """Nothing: the sampler's place is in the callback's state."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore nothing (see :meth:`state_dict`)."""


class StreamedCheckpoint(TorchCheckpointIO):
    """Writes a checkpoint into its file as it is made.

    Lightning's own makes the whole file in memory first, and a copy of it: with Adam, 24 bytes per
    weight more than the training itself. It does so to never leave half a file;
    :class:`FitCheckpoint` writes beside the checkpoint and renames.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None
    ) -> None:
        """Write ``checkpoint`` to the file ``path``.

        Raises:
            OSError: if the disk refuses it; half a file is removed.
        """
        make_folder(Path(path).parent)
        try:
            with Path(path).open("wb") as file:
                torch.save(checkpoint, file)
        except BaseException as error:
            Path(path).unlink(missing_ok=True)
            # torch ends the file before it lets the disk's error through, and fails at that again
            if isinstance(error, RuntimeError) and isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise


class FitCheckpoint(lightning.Callback):
    """Saves a checkpoint after each epoch's last batch, before scoring, so that a stop during
    scoring costs no training; and after every ``every`` optimizer steps.

    The newest checkpoint replaces the one before by a rename.
    """

    def __init__(self, path: Path, every: int | None, chunks: Chunks, seals: Seals) -> None:
        self.path, self.every, self.chunks, self.seals = path, every, chunks, seals
        self._step = 0

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Note the step at which this fit starts or continues."""
        self._step = trainer.global_step

    def on_train_batch_end(self, trainer: Any, *args: Any) -> None:
        """Save a checkpoint every ``every`` steps, and after each epoch's last batch."""
        # within a step, between two micro-batches, there are gradients that nobody saves
        stepped = trainer.global_step > self._step
        due = self.every is not None and stepped and trainer.global_step % self.every == 0
        self._step = trainer.global_step
        if trainer.is_last_batch or due:
            temporary = self.path.with_suffix(".tmp")
            with explained(self.path):
                trainer.save_checkpoint(temporary)
                if trainer.is_global_zero:
                    sync(temporary)
                    self.seals.announce({self.path: temporary})
                    temporary.replace(self.path)
                    sync(self.path.parent)
                    self.seals.settle([self.path])
            self.chunks.clear()

    def on_save_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """Mark the epoch as not ended, so that its scoring is repeated on resume."""
        # else Lightning takes an epoch whose batches are done for one that has ended, hooks and all
        checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]["is_last_batch"] = False


class Report(lightning.Callback):
    """Tells how many examples the run has trained."""

    def __init__(self, progress: Progress, active: ActiveSelection, total: int) -> None:
        self.progress, self.active, self.total = progress, active, total

    def on_train_batch_end(self, *args: Any) -> None:
        """Report how many examples the stage has trained on."""
        self.progress(self.active.cost.samples_seen, self.total, "training")


class EpochLines(lightning.Callback):
    """Says one plain line after each epoch: for logs, where no progress bar can move.

    Args:
        say: called with the line.
        active: the callback of the fit; it stands before this one in the list.
        place: which part of the run the fit is, in words.
        epochs: of the fit.
        total: examples that the whole run trains on.
    """

    def __init__(
        self,
        say: Callable[[str], None],
        active: ActiveSelection,
        place: str,
        epochs: int,
        total: int,
    ) -> None:
        self.say, self.active, self.place = say, active, place
        self.epochs, self.total = epochs, total

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Note what the run had spent before this fit."""
        self._started, self._seen = time.perf_counter(), self.active.cost.samples_seen
        self._cost, self._round = replace(self.active.cost), self.active.round

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Say what the epoch did; the selection's own hook has run by then."""
        cost, before = self.active.cost, self._cost
        words = [f"{time.strftime('%H:%M:%S')} {self.place}"]
        words.append(f"epoch {trainer.current_epoch + 1} of {self.epochs}")
        words.append(f"loss {pl_module.epoch_loss:.3f}")
        if self.active.round > self._round:
            words += self._scored(cost, before)
        left = self.total - cost.samples_seen
        if left > 0 and cost.samples_seen > self._seen:
            pace = (time.perf_counter() - self._started) / (cost.samples_seen - self._seen)
            words.append(f"{left:,} of {self.total:,} examples left, about {left * pace:.0f} s")
        self.say(", ".join(words))
        self._cost, self._round = replace(cost), self.active.round

    def _scored(self, cost: Cost, before: Cost) -> list[str]:
        history, seconds = self.active.history, cost.score_s - before.score_s
        last = history.rounds - 1
        names = [n for n in ("accuracy", "premem") if last in history.signals.get(n, {})]
        words = []
        if self.active.measurer.what:
            words.append(f"scored in {seconds:.1f} s")
        tokens = cost.tokens_generated - before.tokens_generated
        if tokens and seconds > 0:
            words.append(f"{tokens / seconds:,.0f} sampled tokens/s")
        for name in names:
            index, values = history.signals[name][last]
            words.append(f"{name} {float(values.mean()):.3f} of {len(index)} examples")
        if self.active.reweights:
            words.append(f"selected {len(self.active.sampler.selection.index)}")
        return words


def _inner_model(module: Any) -> Any:
    model = getattr(module, "model", module)
    if not hasattr(model, "get_output_embeddings"):
        raise ConfigError(
            "module: expected a transformers model as module.model; received "
            f"{type(model).__name__}. Pass model_of=lambda module: module.NAME."
        )
    return model


def _refuse(retired: dict[str, Any]) -> None:
    for name in retired:
        if name not in _RETIRED:
            raise TypeError(f"ActiveSelection has no argument '{name}'.")
        raise ConfigError(f"ActiveSelection: '{name}' has moved. Use {_RETIRED[name]}.")


def _refuse_what_runs_do(rounds: RoundsConfig) -> None:
    """Settings that only a run can follow, which knows its test set and where a fit ends."""
    settings = {
        "evaluate_every": "Test the model in a callback of your own",
        "short_stages": "Set max_epochs in your Trainer",
        "samples": "Make a fit for each",
    }
    if rounds.mode == "reweight" and not rounds.score_last:
        raise ConfigError(
            "rounds.score_last: false needs a run, which knows its last epoch. With a Trainer of "
            "your own set rounds.score_until to max_epochs - 1."
        )
    for name, remedy in settings.items():
        if getattr(rounds, name):
            raise ConfigError(
                f"rounds.{name}: expected nothing in ActiveSelection; received "
                f"{getattr(rounds, name)}. It is for runs (`activeselect train`) and studies. "
                f"{remedy}."
            )
