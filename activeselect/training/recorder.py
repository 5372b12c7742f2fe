"""Measures examples with the model in training, and keeps what was measured."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from activeselect.config import PromptConfig, ScoringConfig
from activeselect.data.answers import get_checker
from activeselect.data.pool import Pool
from activeselect.data.prompts import Encoded, EncodedSet, encode
from activeselect.errors import ConfigError
from activeselect.scoring.guards import sampling_quality
from activeselect.scoring.metric import PreMemorizationAccuracy
from activeselect.scoring.passes import Parts, score_in_chunks, weights_hash
from activeselect.scoring.ranks import once, rank, together, world_size
from activeselect.scoring.scorer import LiveScorer
from activeselect.scoring.scores import Scores, joined
from activeselect.scoring.store import ScoreStore
from activeselect.training.history import Cost, History
from activeselect.training.module import load_model
from activeselect.training.sharding import is_sharded, whole

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]

#: Examples encoded at once where a whole pool is looked at.
_CHUNK = 4096


class Recorder:
    """Scores examples; the results go into the metric, the history, the store and the bill.

    Args:
        pool, tokenizer, scoring, prompt, seed: as for :class:`ActiveSelection`.
        what: measurements of a scoring round.
        stage: recorded with the scores.
        history: signals of earlier fits of the same run; the rounds are numbered on from there.
        carry_over: whether premem looks back into that history (the model was not restarted).
        cost: spent so far.
        store: where scores are appended; None keeps them in memory only.
        encoded: the train set, encoded already.
        reference: path of the reference model, if a signal needs it.
        parts: keeps the finished chunks of a pass until its round is safe.
    """

    def __init__(
        self,
        pool: Pool,
        tokenizer: Any,
        scoring: ScoringConfig,
        prompt: PromptConfig,
        *,
        what: frozenset[str],
        seed: int,
        stage: int,
        history: History,
        carry_over: bool,
        cost: Cost,
        store: ScoreStore | None,
        encoded: EncodedSet,
        reference: str | None,
        parts: Parts | None = None,
    ) -> None:
        self.pool, self.tokenizer, self.scoring, self.prompt = pool, tokenizer, scoring, prompt
        self.what, self.stage, self.history = what, stage, history
        self.cost, self.store, self.encoded = cost, store, encoded
        self.parts = parts or Parts(None)
        self.since = 0 if carry_over else history.rounds
        self.metric = PreMemorizationAccuracy(len(pool), scoring.tau)
        self.scorer = LiveScorer(
            tokenizer,
            get_checker(pool.checker),
            scoring,
            seed=seed,
            stop=prompt.stop,
            reference=None if reference is None else lambda: load_model(reference)[0],
        )
        self.quality: dict[str, float] = {}  # of the newest round's samples, for the log
        self._open: list[Scores] = []
        self._refill_metric()

    # --- measuring -----------------------------------------------------------------------------

    def score(self, model: Any, index: IntArray, *, epoch: int) -> dict[str, FloatArray]:
        """One scoring round over the examples ``index``.

        Returns:
            what was measured, by name of the signal, float64 ``[B]`` each.
        """
        scores = self._scored(model, index, self.what)
        signals = self._signals(scores)
        self.quality = sampling_quality(
            scores.correct,
            scores.truncated,
            scores.tally,
            largest_gap=self.scoring.largest_gap,
        )
        if "reference" in self.what:
            signals["reference_loss"] = self._reference_loss(index, model.device)
        self.history.add(index, signals)
        self._store(scores, signals, epoch)
        return signals

    def before(self, model: Any, index: IntArray) -> None:
        """Prequential accuracy of examples that the model was never trained on.

        Calls before :meth:`close` belong to one round: the same model answers them.
        """
        scores = self._scored(model, index, frozenset({"samples"}))
        assert scores.correct is not None
        accuracy = scores.correct.mean(axis=1)
        if self._open:
            self.history.extend("prequential", index, accuracy)
        else:
            self.history.add(index, {"prequential": accuracy})
        self._open.append(scores)

    def close(self, *, epoch: int) -> None:
        """Store what :meth:`before` measured since the last call."""
        if self._open:
            scores = joined(self._open)
            assert scores.correct is not None
            self._store(scores, {"prequential": scores.correct.mean(axis=1)}, epoch)
            self._open = []

    def vectors(self, signal: str, model: Any, index: IntArray) -> NDArray[np.float32]:
        """``embedding`` or ``gradient`` of examples, float32 ``[N, D]``; NaN for all others."""
        started = time.perf_counter()
        measure = {"embedding": self.scorer.embed, "gradient": self.scorer.gradients}[signal]
        if signal == "gradient" and is_sharded(model):
            raise ConfigError("The signal 'gradient' needs whole models; set parallel=ddp.")
        chunks = [index[start : start + _CHUNK] for start in range(0, len(index), _CHUNK)]

        def work() -> list[tuple[IntArray, NDArray[np.float32]]]:
            mine = chunks[rank() :: world_size()]
            return [(some, measure(model, self.encode(some))) for some in mine]

        with whole(model):
            rows = [row for share in together(work) for row in share]
        width = rows[0][1].shape[1] if rows else 0
        vectors = np.full((len(self.pool), width), np.nan, dtype=np.float32)
        for some, part in rows:
            vectors[some] = part
        self.cost.score_s += time.perf_counter() - started
        return vectors

    def evaluate(self, model: Any, scorer: LiveScorer, test: Pool, items: list[Encoded]) -> Scores:
        """Greedy answers to all problems of a test set, whose ``items`` are encoded."""
        answers = test.dataset["answer"]

        def score(some: IntArray) -> Scores:
            return scorer.evaluate(model, [items[i] for i in some], [answers[int(i)] for i in some])

        with whole(model):
            scores = score_in_chunks(
                score,
                np.arange(len(items)),
                scorer.lengths(model, items, samples=1),
                batch_tokens=self.scoring.batch_tokens,
                parts=self.parts,
                key=["test", self.stage, self._weights(model)],
            )
        self.cost.eval_s += scores.seconds
        return scores

    def encode(self, index: IntArray) -> list[Encoded]:
        if all(int(i) in self.encoded for i in index):
            return self.encoded.take(index)
        return encode(self.pool, index, self.tokenizer, self.prompt)

    def lengths(self) -> FloatArray:
        """Tokens of every reference trace of the pool, float64 ``[N]``; the end token included."""
        whole = np.arange(len(self.pool))
        parts = (
            self.encode(whole[start : start + _CHUNK]) for start in range(0, len(whole), _CHUNK)
        )
        return np.array([len(item.ids) - item.start for part in parts for item in part], float)

    def _scored(self, model: Any, index: IntArray, what: frozenset[str]) -> Scores:
        round = self.history.rounds - bool(self._open)

        def score(some: IntArray) -> Scores:
            answers = [problem.answer for problem in self.pool.problems(some)]
            return self.scorer.score(model, self.encode(some), answers, what=what, round=round)

        samples = self.scoring.samples if "samples" in what else 0
        lengths = self.scorer.lengths(model, self.encode(index), samples=samples)
        with whole(model):
            scores = score_in_chunks(
                score,
                index,
                lengths,
                batch_tokens=self.scoring.batch_tokens,
                parts=self.parts,
                key=[self.stage, round, sorted(what), self._weights(model)],
            )
        self.cost.score_s += scores.seconds
        self.cost.tokens_generated += scores.tokens_generated
        return scores

    def _weights(self, model: Any) -> str | None:
        """Which weights the parts of a pass belong to; not needed where none are kept."""
        if self.parts.folder is None:
            return None
        trained = ((n, w) for n, w in model.named_parameters() if w.requires_grad)
        return once(lambda: weights_hash(trained))

    def _reference_loss(self, index: IntArray, device: Any) -> FloatArray:
        """Known from earlier rounds where it can be: the reference model never changes."""
        started = time.perf_counter()
        loss = np.full(len(self.pool), np.nan)
        for known, values in self.history.signals.get("reference_loss", {}).values():
            loss[known] = values
        unknown = index[np.isnan(loss[index])]
        if len(unknown):
            loss[unknown] = score_in_chunks(
                lambda some: self.scorer.reference_loss(self.encode(some), device),
                unknown,
                self.scorer.lengths(None, self.encode(unknown), samples=0),
                batch_tokens=self.scoring.batch_tokens,
                parts=self.parts,
                key=["reference"],
            ).columns["reference_loss"]
        self.cost.score_s += time.perf_counter() - started
        return loss[index]

    # --- keeping -------------------------------------------------------------------------------

    def _signals(self, scores: Scores) -> dict[str, FloatArray]:
        signals = dict(scores.columns)
        if scores.correct is not None:
            signals["accuracy"] = scores.correct.mean(axis=1)
        if scores.nll_sum is not None and scores.tokens is not None:
            signals["mean_nll"] = scores.nll_sum / scores.tokens
            if scores.correct is not None:
                self.metric.update(
                    self.history.rounds - self.since,
                    torch.from_numpy(scores.index),
                    torch.from_numpy(scores.correct),
                    torch.from_numpy(scores.nll_sum),
                    torch.from_numpy(scores.tokens),
                )
                signals["premem"] = self.metric.compute()[-1].numpy()[scores.index]
        return signals

    def _store(self, scores: Scores, signals: dict[str, FloatArray], epoch: int) -> None:
        if self.store is None:
            return
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
        self.store.append(self.history.rounds - 1, columns)

    # --- checkpointing -------------------------------------------------------------------------

    def load_history(self, history: History) -> None:
        """Go back to a checkpoint: what was measured after it is forgotten and measured again."""
        self.history = history
        self._refill_metric()
        if self.store is not None:
            self.store.drop_after(history.rounds)

    def _refill_metric(self) -> None:
        """The metric is a function of the history, so only the history is checkpointed."""
        self.metric.reset()
        for round in self.history.measured("accuracy", "mean_nll", since=self.since):
            index, accuracy = self.history.signals["accuracy"][round]
            _, mean_nll = self.history.signals["mean_nll"][round]
            self.metric.update(
                round - self.since,
                torch.from_numpy(index),
                torch.from_numpy(accuracy)[:, None],
                torch.from_numpy(mean_nll),
                torch.ones(len(index)),
            )
