"""The measurer: every pass of the model over examples that is not training, and its record.

A scored round measures signals of some examples with the model as it is. What was measured goes
into the history (what strategies read), into the store (what stays on the disk), and its price into
the cost.
"""

from __future__ import annotations

import time
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from activeselect.arrays import FloatArray, IntArray
from activeselect.config import PromptConfig, ScoringConfig
from activeselect.data.answers import get_checker
from activeselect.data.pool import Pool
from activeselect.data.prompts import Encoded, EncodedSet, Sizes, encode, encoded
from activeselect.errors import ConfigError
from activeselect.scoring.distributed import (
    Chunks,
    once,
    rank,
    score_in_chunks,
    together,
    weights_hash,
    world_size,
)
from activeselect.scoring.functional import skip_memorized
from activeselect.scoring.guards import sampling_quality
from activeselect.scoring.metric import PreMemorizationAccuracy
from activeselect.scoring.pace import Tell, unheard
from activeselect.scoring.precision import in_training_precision
from activeselect.scoring.scorer import LiveScorer, Scores, joined
from activeselect.scoring.signals import OF_SAMPLES
from activeselect.scoring.store import ScoreStore
from activeselect.training.adapt import is_sharded, whole
from activeselect.training.history import Cost, History
from activeselect.training.module import load_model

#: Examples encoded at once where a whole pool is read.
_CHUNK = 4096
_SAMPLES = frozenset({"samples"})


class Measurer:
    """Measures examples of a pool with the model in training, and keeps what was measured.

    Args:
        pool: all problems.
        tokenizer: the model's.
        scoring, prompt: settings of the scorer and of the text.
        what: measurements of a scored round (:func:`activeselect.scoring.signals.measurements`).
        encoded: the train set, encoded already.
        seed: of the completions.
        stage: number of the stage; recorded with the scores.
        history: signals of earlier fits of the same run; rounds are numbered on from there.
        look_back: whether premem includes that history (the model was not restarted).
        cost: spent so far.
        store: where scores are appended; None keeps them in memory only.
        chunks: keeps the finished chunks of a pass until its round is safe.
        reference: path of the reference model, if a signal needs one.
        precision: of the training, as in Lightning; None: that of the weights.

    Attributes:
        tell: told how far a pass is.
    """

    def __init__(
        self,
        pool: Pool,
        tokenizer: Any,
        scoring: ScoringConfig,
        prompt: PromptConfig,
        *,
        what: frozenset[str],
        encoded: EncodedSet,
        seed: int = 0,
        stage: int = 0,
        history: History | None = None,
        look_back: bool = False,
        cost: Cost | None = None,
        store: ScoreStore | None = None,
        chunks: Chunks | None = None,
        reference: str | None = None,
        precision: str | None = None,
    ) -> None:
        self.precision = precision
        self.tell: Tell = unheard
        self.pool, self.tokenizer, self.scoring, self.prompt = pool, tokenizer, scoring, prompt
        self.stage, self.encoded, self.store = stage, encoded, store
        self.history = history or History(len(pool))
        self.cost = cost or Cost()
        self.chunks = chunks or Chunks(None)
        self.skips = scoring.policy == "skip-memorized" and "samples" in what
        # whether a trace is memorized is read off its likelihood
        self.what = what | {"nll"} if self.skips else what
        self.since = 0 if look_back else self.history.rounds
        self.metric = PreMemorizationAccuracy(len(pool), scoring.tau)
        self.quality: dict[str, float] = {}  # of the newest round's samples, for the log
        self.scorer = LiveScorer(
            tokenizer,
            get_checker(pool.checker),
            scoring,
            seed=seed,
            stop=prompt.stop,
            reference=None if reference is None else lambda: load_model(reference)[0],
        )
        self._prequential: list[Scores] = []  # measured, not stored yet
        self._refill_metric()

    # --- scored rounds -------------------------------------------------------------------------

    def score(self, model: Any, index: IntArray, *, epoch: int) -> dict[str, FloatArray]:
        """Score one round over the examples ``index``.

        Args:
            model: the transformers model, as it is now.
            index: positions in the pool, int64 ``[B]``.
            epoch: recorded with the scores.

        Returns:
            what was measured, by name of the signal, float64 ``[B]`` each.
        """
        scores = self._skip(model, index) if self.skips else self._pass(model, index, self.what)
        signals = self._signals(scores)
        self.quality = sampling_quality(
            scores.correct,
            scores.truncated,
            scores.tally,
            sampled=scores.sampled,
            largest_gap=self.scoring.largest_gap,
        )
        if "reference" in self.what:
            signals["reference_loss"] = self._reference_loss(index, model.device)
        self.history.add(index, signals)
        if scores.sampled is not None:
            self.history.count(index, scores.right, scores.sampled)
        self._store(scores, signals, epoch)
        return signals

    def score_prequential(self, model: Any, index: IntArray) -> None:
        """Sample answers to examples that the model was never trained on.

        Calls before :meth:`store_prequential` belong to one round: the same model answers them.
        Each example is sampled ``scoring.samples`` times, whatever the policy.
        """
        scores = self._pass(model, index, _SAMPLES)
        assert scores.correct is not None
        accuracy = scores.correct.mean(axis=1)
        if self._prequential:
            self.history.extend("prequential", index, accuracy)
        else:
            self.history.add(index, {"prequential": accuracy})
        self._prequential.append(scores)

    def store_prequential(self, *, epoch: int) -> None:
        """Store what :meth:`score_prequential` measured since the last call."""
        if self._prequential:
            scores = joined(self._prequential)
            assert scores.correct is not None
            self._store(scores, {"prequential": scores.correct.mean(axis=1)}, epoch)
            self._prequential = []

    def _skip(self, model: Any, index: IntArray) -> Scores:
        """Likelihoods of all; samples of those whose trace is not memorized."""
        scores = self._pass(model, index, self.what - OF_SAMPLES)
        nats, tokens = scores.nll_sum, scores.tokens
        assert nats is not None
        assert tokens is not None
        # decided on rank 0: rounding may differ between machines, and all ranks sample alike
        opened = once(lambda: nats / tokens >= self.scoring.tau)
        rows = np.flatnonzero(opened)
        self.cost.completions_saved += self.scoring.samples * (len(index) - len(rows))
        sampled = self._pass(model, index[rows], self.what & OF_SAMPLES)
        return scores.with_samples(rows, sampled, self.scoring.samples)

    def _pass(self, model: Any, index: IntArray, what: frozenset[str]) -> Scores:
        """One pass over ``index``, int64 ``[B]``, in chunks shared by all ranks."""
        round = self.history.rounds - bool(self._prequential)
        samples = self.scoring.samples if "samples" in what else 0

        def score(some: IntArray) -> Scores:
            return self.scorer.score(
                reading,
                self.encode(some),
                [problem.answer for problem in self.pool.problems(some)],
                what=what,
                round=round,
                samples=samples,
                trained=model,
            )

        lengths = self.scorer.lengths(model, self.sizes(index), samples=samples)
        with whole(model), in_training_precision(model, self.precision) as reading:
            scores = score_in_chunks(
                score,
                index,
                lengths,
                batch_tokens=self.scoring.batch_tokens,
                chunks=self.chunks,
                # the weights can be read only where they are whole
                key=[self.stage, round, sorted(what), self._weights(model)],
                tell=partial(self.tell, "scoring"),
            )
        self.cost.score_s += scores.seconds
        self.cost.tokens_generated += scores.tokens_generated
        self.cost.completions += samples * len(index)
        return scores

    def _signals(self, scores: Scores) -> dict[str, FloatArray]:
        signals = dict(scores.columns)
        if scores.nll_sum is not None and scores.tokens is not None:
            signals["mean_nll"] = scores.nll_sum / scores.tokens
        if self.skips:
            return signals | self._carried(scores, signals["mean_nll"])
        if scores.correct is not None:
            signals["accuracy"] = scores.correct.mean(axis=1)
        if {"accuracy", "mean_nll"} <= signals.keys():
            accuracy, mean_nll = signals["accuracy"], signals["mean_nll"]
            self._update_metric(self.history.rounds, scores.index, accuracy, mean_nll)
            signals["premem"] = self.metric.compute()[-1].numpy()[scores.index]
        return signals

    def _carried(self, scores: Scores, mean_nll: FloatArray) -> dict[str, FloatArray]:
        """Accuracy and premem where memorized examples were not sampled."""
        right, sampled, nll = self.history.counts(scores.index, since=self.since)
        assert scores.sampled is not None
        accuracy, premem = skip_memorized(
            np.concatenate([right, scores.right[None]]),
            np.concatenate([sampled, scores.sampled[None]]),
            np.concatenate([nll, mean_nll[None]]),
            self.scoring.tau,
        )
        return {"accuracy": accuracy, "premem": premem}

    def _reference_loss(self, index: IntArray, device: Any) -> FloatArray:
        """Mean NLL of each trace under the reference model, nats per token, float64 ``[B]``.

        Taken from earlier rounds where it can be: the reference model never changes.
        """
        loss = np.full(self.history.size, np.nan)
        for known, values in self.history.signals.get("reference_loss", {}).values():
            loss[known] = values
        unknown = index[np.isnan(loss[index])]
        if len(unknown):
            started = time.perf_counter()
            loss[unknown] = score_in_chunks(
                lambda some: self.scorer.reference_loss(self.encode(some), device),
                unknown,
                self.scorer.lengths(None, self.sizes(unknown), samples=0),
                batch_tokens=self.scoring.batch_tokens,
                chunks=self.chunks,
                key=["reference"],
            ).columns["reference_loss"]
            self.cost.score_s += time.perf_counter() - started
        return loss[index]

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
            columns["correct"] = scores.outcomes()
        if scores.sampled is not None:
            columns["sampled"] = scores.sampled
        if scores.tokens is not None:
            columns["n_tokens"] = scores.tokens
        if scores.completions is not None and self.scoring.keep_completions:
            kept = self.scoring.keep_completions
            columns["completions"] = [list(row[:kept]) for row in scores.completions]
        self.store.append(self.history.rounds - 1, columns)

    # --- other passes --------------------------------------------------------------------------

    def vectors(self, signal: str, model: Any, index: IntArray) -> NDArray[np.float32]:
        """``embedding`` or ``gradient`` of examples, float32 ``[N, D]``; NaN for all others."""
        started = time.perf_counter()
        measure = {"embedding": self.scorer.embed, "gradient": self.scorer.gradients}[signal]
        if signal == "gradient" and is_sharded(model):
            raise ConfigError("The signal 'gradient' needs whole models; set parallel=ddp.")
        chunks = [index[start : start + _CHUNK] for start in range(0, len(index), _CHUNK)]

        def work() -> list[tuple[IntArray, NDArray[np.float32]]]:
            mine = chunks[rank() :: world_size()]
            return [(some, measure(reading, self.encode(some))) for some in mine]

        # gradients are taken of the weights that are trained
        precision = None if signal == "gradient" else self.precision
        with whole(model), in_training_precision(model, precision) as reading:
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
            problems = [items[i] for i in some]
            return scorer.evaluate(reading, problems, [answers[int(i)] for i in some])

        with whole(model), in_training_precision(model, self.precision) as reading:
            scores = score_in_chunks(
                score,
                np.arange(len(items)),
                scorer.lengths(model, Sizes.of(items), samples=1),
                batch_tokens=self.scoring.batch_tokens,
                chunks=self.chunks,
                key=["test", self.stage, self._weights(model)],
                tell=partial(self.tell, "testing"),
            )
        self.cost.eval_s += scores.seconds
        return scores

    def encode(self, index: IntArray) -> list[Encoded]:
        """Tokens of the problems ``index``; those of the train set are kept."""
        if self.encoded.holds(index):
            return self.encoded.take(index)
        return encode(self.pool, index, self.tokenizer, self.prompt)

    def sizes(self, index: IntArray) -> Sizes:
        """How long the problems ``index`` are; only a chunk of them is encoded at a time."""
        if self.encoded.holds(index):
            return self.encoded.sizes(index)
        return Sizes.of(encoded(self.pool, index, self.tokenizer, self.prompt))

    def lengths(self) -> FloatArray:
        """Tokens of every reference trace of the pool, float64 ``[N]``; the end token included."""
        sizes = self.sizes(np.arange(len(self.pool)))
        return (sizes.tokens - sizes.prompt).astype(np.float64)

    def _weights(self, model: Any) -> str | None:
        """Which weights the chunks of a pass belong to; not needed where none are kept."""
        if self.chunks.folder is None:
            return None
        trained = ((n, w) for n, w in model.named_parameters() if w.requires_grad)
        return once(lambda: weights_hash(trained))

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
        measured = self.history.measured("accuracy", "mean_nll", since=self.since)
        for round in [] if self.skips else measured:
            index, accuracy = self.history.signals["accuracy"][round]
            _, mean_nll = self.history.signals["mean_nll"][round]
            self._update_metric(round, index, accuracy, mean_nll)

    def _update_metric(
        self, round: int, index: IntArray, accuracy: FloatArray, mean_nll: FloatArray
    ) -> None:
        self.metric.update(
            round - self.since,
            torch.from_numpy(index),
            torch.from_numpy(accuracy)[:, None],
            torch.from_numpy(mean_nll),
            torch.ones(len(index)),
        )
