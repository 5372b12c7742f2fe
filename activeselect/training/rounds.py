"""The callback that makes a Lightning fit active: score, record, select, update the sampler."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import lightning
import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader

from activeselect.config import PromptConfig, ScoringConfig
from activeselect.data.answers import get_checker
from activeselect.data.pool import Pool
from activeselect.data.prompts import EncodedSet, collate, encode
from activeselect.errors import ConfigError
from activeselect.scoring.metric import PreMemorizationAccuracy
from activeselect.scoring.scorer import LiveScorer, Scores, measurements, pad_token_of
from activeselect.scoring.store import ScoreStore
from activeselect.selection.acquire import neighbourhood_of
from activeselect.selection.registry import StrategySpec, create
from activeselect.selection.sampler import ActiveSampler
from activeselect.selection.strategy import Selection, SelectionContext, Strategy
from activeselect.training.history import Cost, Forecast, Forecaster, History

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]


class ActiveSelection(lightning.Callback):
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
        measure: further signals to measure for the record.
        store: where scores are appended; None keeps them in memory only.
        seed: of sampling order, completions and selection.
        stage: recorded with the scores.
        history: signals of earlier fits of the same run; the rounds are numbered on from there.
        carry_over: whether premem looks back into that history (the model was not restarted).
        cost: spent by earlier fits of the same run.
        forecaster: forecasts test accuracy after each round that measured premem.
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
        measure: tuple[str, ...] = (),
        store: ScoreStore | None = None,
        seed: int = 0,
        stage: int = 0,
        history: History | None = None,
        carry_over: bool = False,
        cost: Cost | None = None,
        forecaster: Forecaster | None = None,
        model_of: Callable[[Any], Any] | None = None,
    ) -> None:
        self.pool = pool
        self.tokenizer = tokenizer
        self.strategy = create(strategy)
        self.scoring = scoring or ScoringConfig()
        self.prompt = prompt or PromptConfig()
        self.train = np.arange(len(pool)) if train is None else np.asarray(train, dtype=np.int64)
        self.score_every = score_every
        self.score_until = score_until
        self.reselect = reselect
        self.store = store
        self.seed = seed
        self.stage = stage
        self.what = measurements([*self.strategy.requires, *measure])
        self.cost = cost or Cost()
        self.times_seen = np.zeros(len(pool), dtype=np.int64)
        self.history = history or History(len(pool))
        self.round = self.history.rounds
        self._since = 0 if carry_over else self.round
        self.metric = PreMemorizationAccuracy(len(pool), self.scoring.tau)
        self._refill_metric()
        self.scorer = LiveScorer(tokenizer, get_checker(pool.checker), self.scoring, seed=self.seed)
        self.encoded = EncodedSet(encode(pool, self.train, tokenizer, self.prompt))
        self.answers = {
            int(i): problem.answer
            for i, problem in zip(self.train, pool.problems(self.train), strict=True)
        }
        self.sampler = ActiveSampler(Selection.of(self.train), seed=seed)
        self.forecaster = forecaster
        self._model_of = model_of or _inner_model
        self._clock = 0.0

    def dataloader(self, batch_size: int, **kwargs: Any) -> DataLoader[Any]:
        """A loader over the train set in the order that the selections ask for."""
        pad = pad_token_of(self.tokenizer)
        return DataLoader(
            self.encoded,
            batch_size=batch_size,
            sampler=self.sampler,
            collate_fn=lambda batch: collate(batch, pad),
            **kwargs,
        )

    # --- Lightning hooks -----------------------------------------------------------------------

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        if trainer.world_size > 1:
            raise ConfigError(
                f"devices: live scoring runs on one device so far; received {trainer.world_size}."
            )

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        self._clock = time.perf_counter()

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        index = batch["index"].cpu().numpy()
        np.add.at(self.times_seen, index, 1)
        self.cost.samples_seen += len(index)
        self.cost.tokens_trained += int(batch["attention_mask"].sum())

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        self.cost.train_s += time.perf_counter() - self._clock
        epoch = trainer.current_epoch + 1
        late = self.score_until is not None and epoch > self.score_until
        if epoch % self.score_every == 0 and not late:
            self._finish_round(self._model_of(pl_module), epoch, pl_module.log)

    # --- the round -----------------------------------------------------------------------------

    def _finish_round(self, model: Any, epoch: int, log: Callable[..., None]) -> None:
        if self.what:
            scores = self._score(model)
            for name, values in self._record(scores, epoch).items():
                log(f"score/{name}", float(values.mean()))
            log("score/seconds", scores.seconds)
            self._log_forecast(log)
        else:
            self.history.add(self.train[:0], {})
        self.round += 1
        if self.reselect:
            self.sampler.selection = self.select(self.train, len(self.train))
            log("select/examples", float(len(self.sampler.selection.index)))

    def forecast(self) -> Forecast | None:
        """What to expect on the test after the last scored round; a function of the history."""
        if self.forecaster is None or not {"accuracy", "mean_nll"} <= self.history.signals.keys():
            return None
        rows = slice(self._since, None)
        return self.forecaster(
            self.history.matrix("accuracy")[rows], self.history.matrix("mean_nll")[rows]
        )

    def _log_forecast(self, log: Callable[..., None]) -> None:
        now = self.forecast()
        if now is not None:
            log("forecast/test_accuracy", now.value, prog_bar=True)
            log("forecast/low", now.low)
            log("forecast/high", now.high)

    def _score(self, model: Any) -> Scores:
        index = self.train
        if self.scoring.limit is not None and self.scoring.limit < len(index):
            # The same subset in every round: premem looks back, and an example that is first seen
            # when it is memorized already would count as never understood.
            rng = np.random.default_rng([self.seed, 4])
            index = np.sort(rng.choice(index, self.scoring.limit, replace=False))
        scores = self.scorer.score(
            model,
            self.encoded.take(index),
            [self.answers[int(i)] for i in index],
            what=self.what,
            round=self.round,
        )
        self.cost.score_s += scores.seconds
        self.cost.tokens_generated += scores.tokens_generated
        return scores

    def _record(self, scores: Scores, epoch: int) -> dict[str, FloatArray]:
        """Put one scoring pass into the metric, the history and the store."""
        signals: dict[str, FloatArray] = {}
        if scores.correct is not None:
            signals["accuracy"] = scores.correct.mean(axis=1)
        if scores.nll_sum is not None and scores.tokens is not None:
            signals["mean_nll"] = scores.nll_sum / scores.tokens
            if scores.correct is not None:
                self.metric.update(
                    self.round - self._since,
                    torch.from_numpy(scores.index),
                    torch.from_numpy(scores.correct),
                    torch.from_numpy(scores.nll_sum),
                    torch.from_numpy(scores.tokens),
                )
                signals["premem"] = self.metric.compute()[-1].numpy()[scores.index]
        self.history.add(scores.index, signals)
        if self.store is not None:
            columns: dict[str, Any] = {
                "index": scores.index,
                "stage": np.full(len(scores.index), self.stage),
                "epoch": np.full(len(scores.index), epoch),
                **signals,
            }
            if scores.correct is not None:
                columns["correct"] = scores.correct.tolist()
            if scores.tokens is not None:
                columns["n_tokens"] = scores.tokens
            if scores.completions is not None and self.scoring.keep_completions:
                columns["completions"] = [list(row) for row in scores.completions]
            self.store.append(self.round, columns)
        return signals

    def select(self, candidates: IntArray, budget: int) -> Selection:
        """Ask the strategy; its promises are checked before anything is trained on."""
        started = time.perf_counter()
        context = SelectionContext(
            round=self.round,
            candidates=candidates,
            train=self.train,
            times_seen=self.times_seen.copy(),
            groups=self.pool.groups,
            group_names=self.pool.group_names,
            signals={name: _matrix_of(self.history, name) for name in self.history.signals},
            near=neighbourhood_of(self.pool, self.train, candidates),
        )
        rng = np.random.default_rng([self.seed, self.round, 5])
        selection = self.strategy.select(context, budget, rng).validated(
            candidates, budget, name=self.strategy.name
        )
        self.cost.select_s += time.perf_counter() - started
        return selection

    # --- checkpointing -------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        selection = self.sampler.selection
        return {
            "round": self.round,
            "selection_index": torch.from_numpy(selection.index),
            "selection_weight": torch.from_numpy(selection.weight),
            "times_seen": torch.from_numpy(self.times_seen.copy()),
            "cost": vars(self.cost).copy(),
            "strategy": self.strategy.state_dict(),
            "history": {
                name: torch.from_numpy(self.history.matrix(name)) for name in self.history.signals
            },
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.round = state["round"]
        self.sampler.selection = Selection.of(
            state["selection_index"].numpy(), state["selection_weight"].numpy()
        )
        self.times_seen = state["times_seen"].numpy().copy()
        self.cost = Cost(**state["cost"])
        self.strategy.load_state_dict(state["strategy"])
        history = {name: list(rows.numpy()) for name, rows in state["history"].items()}
        self.history = History(len(self.pool), self.round, history)
        self._refill_metric()
        if self.store is not None:  # scored after this checkpoint; they are scored again
            self.store.drop_after(self.round)

    def _refill_metric(self) -> None:
        """The metric is a function of the history, so only the history is checkpointed."""
        self.metric.reset()
        accuracy = self.history.matrix("accuracy")[self._since :]
        mean_nll = self.history.matrix("mean_nll")[self._since :]
        for round in range(min(len(accuracy), len(mean_nll))):
            index = np.flatnonzero(~np.isnan(accuracy[round]) & ~np.isnan(mean_nll[round]))
            self.metric.update(
                round,
                torch.from_numpy(index),
                torch.from_numpy(accuracy[round, index])[:, None],
                torch.from_numpy(mean_nll[round, index]),
                torch.ones(len(index)),
            )


def _matrix_of(history: History, name: str) -> Callable[[], FloatArray]:
    return lambda: history.matrix(name)


def _inner_model(module: Any) -> Any:
    return getattr(module, "model", module)
