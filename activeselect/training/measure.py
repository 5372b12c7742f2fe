"""Scores rounds, and keeps what was measured: in the metric, the history and the store."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from activeselect.arrays import FloatArray, IntArray
from activeselect.config import PromptConfig, ScoringConfig
from activeselect.data.answers import get_checker
from activeselect.data.pool import Pool
from activeselect.data.prompts import Encoded, EncodedSet, encode
from activeselect.errors import ConfigError
from activeselect.scoring.distributed import (
    Parts,
    once,
    rank,
    score_in_chunks,
    together,
    weights_hash,
    world_size,
)
from activeselect.scoring.guards import sampling_quality
from activeselect.scoring.metric import PreMemorizationAccuracy
from activeselect.scoring.scorer import LiveScorer, Scores, joined
from activeselect.scoring.store import ScoreStore
from activeselect.scoring.text_features import text_features
from activeselect.scoring.trajectory import Counts
from activeselect.scoring.turns import policy_of, sample_in_turns, within_subset
from activeselect.training.adapt import is_sharded, whole
from activeselect.training.history import Cost, History
from activeselect.training.module import load_model

# --- Runs the model in training over examples, in chunks shared by all ranks; puts it on the bill


#: Examples encoded at once where a whole pool is looked at.
_CHUNK = 4096
#: Size of a turn's chunks, in those of a whole round: a turn samples less, and each chunk ends with
#: small batches. Larger ones would leave ranks without work.
_TURN = 2


class Measurer:
    """Every pass of the model over examples that is not training.

    Args:
        pool, tokenizer, scoring, prompt, seed: as for :class:`ActiveSelection`.
        stage: part of what a kept chunk is found by.
        cost: spent so far.
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
        seed: int,
        stage: int,
        cost: Cost,
        encoded: EncodedSet,
        reference: str | None,
        parts: Parts | None = None,
    ) -> None:
        self.pool, self.tokenizer, self.scoring, self.prompt = pool, tokenizer, scoring, prompt
        self.stage, self.cost, self.encoded = stage, cost, encoded
        self.parts = parts or Parts(None)
        self._features: tuple[IntArray, FloatArray] | None = None
        self.scorer = LiveScorer(
            tokenizer,
            get_checker(pool.checker),
            scoring,
            seed=seed,
            stop=prompt.stop,
            reference=None if reference is None else lambda: load_model(reference)[0],
        )

    def measure(
        self,
        model: Any,
        index: IntArray,
        what: frozenset[str],
        *,
        round: int,
        samples: int | None = None,
        offset: IntArray | None = None,
    ) -> Scores:
        """One pass over the examples ``index``, int ``[B]``.

        Args:
            what: measurements.
            round: number of the round, part of the random streams' key.
            samples: completions of each; default: as configured.
            offset: number of each example's first completion in its round, int ``[B]``; default: 0.
        """
        wanted = (self.scoring.samples if samples is None else samples) if "samples" in what else 0
        first = np.zeros(len(self.pool) if offset is not None else 0, dtype=np.int64)
        key: list[Any] = [self.stage, round, sorted(what)]
        if offset is not None:
            first[index] = offset
            key += [wanted, offset.tolist()]

        def score(some: IntArray) -> Scores:
            return self.scorer.score(
                model,
                self.encode(some),
                [problem.answer for problem in self.pool.problems(some)],
                what=what,
                round=round,
                samples=wanted,
                offset=None if offset is None else first[some],
            )

        lengths = self.scorer.lengths(model, self.encode(index), samples=wanted)
        with whole(model):
            scores = score_in_chunks(
                score,
                index,
                lengths,
                batch_tokens=self.scoring.batch_tokens * (1 if offset is None else _TURN),
                parts=self.parts,
                key=[*key, self._weights(model)],  # which can be read only where they are whole
            )
        self.cost.score_s += scores.seconds
        self.cost.tokens_generated += scores.tokens_generated
        self.cost.completions += wanted * len(index)
        return scores

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

    def text_features(self, index: IntArray) -> FloatArray:
        """Features of the problems ``index``, ``[B, F]``; kept: rounds mostly ask for the same."""
        if self._features is None or not np.array_equal(self._features[0], index):
            problems = self.pool.problems(index)
            texts = [p.question for p in problems], [p.trace for p in problems]
            self._features = index.copy(), text_features(*texts)
        return self._features[1]

    def _weights(self, model: Any) -> str | None:
        """Which weights the parts of a pass belong to; not needed where none are kept."""
        if self.parts.folder is None:
            return None
        trained = ((n, w) for n, w in model.named_parameters() if w.requires_grad)
        return once(lambda: weights_hash(trained))

    def reference_loss(self, index: IntArray, device: Any) -> FloatArray:
        """Mean NLL of each trace under the reference model, nats per token, float64 ``[B]``."""
        started = time.perf_counter()
        loss = score_in_chunks(
            lambda some: self.scorer.reference_loss(self.encode(some), device),
            index,
            self.scorer.lengths(None, self.encode(index), samples=0),
            batch_tokens=self.scoring.batch_tokens,
            parts=self.parts,
            key=["reference"],
        ).columns["reference_loss"]
        self.cost.score_s += time.perf_counter() - started
        return loss


class Recorder:
    """Scores examples; the results go into the metric, the history, the store and the bill.

    Args:
        measurer: runs the model.
        what: measurements of a scoring round. A sampling policy reads likelihoods, so they are
            measured with every sample, too.
        history: signals of earlier fits of the same run; the rounds are numbered on from there.
        carry_over: whether premem looks back into that history (the model was not restarted).
        store: where scores are appended; None keeps them in memory only.
        threshold: accuracy at which the strategy's decision turns, for ``adaptive``; None = the
            order matters.
    """

    def __init__(
        self,
        measurer: Measurer,
        *,
        what: frozenset[str],
        history: History,
        carry_over: bool,
        store: ScoreStore | None,
        threshold: float | None = None,
    ) -> None:
        self.measurer, self.history, self.store = measurer, history, store
        self.scoring, self.threshold = measurer.scoring, threshold
        self.in_turns = self.scoring.policy != "exact" and "samples" in what
        self.what = what | {"nll"} if self.in_turns else what
        self.since = 0 if carry_over else history.rounds
        self.metric = PreMemorizationAccuracy(len(measurer.pool), self.scoring.tau)
        self.quality: dict[str, float] = {}  # of the newest round's samples, for the log
        self._open: list[Scores] = []
        self._refill_metric()

    @property
    def cost(self) -> Cost:
        """Spent so far."""
        return self.measurer.cost

    @cost.setter
    def cost(self, cost: Cost) -> None:
        self.measurer.cost = cost

    # --- measuring -----------------------------------------------------------------------------

    def score(
        self, model: Any, index: IntArray, *, epoch: int, to_come: int = 0
    ) -> dict[str, FloatArray]:
        """One scoring round over the examples ``index``.

        Args:
            to_come: rounds over the same examples that are planned after this one; a sampling
                policy keeps part of its budget for them.

        Returns:
            what was measured, by name of the signal, float64 ``[B]`` each.
        """
        if self.in_turns:
            scores, counted = self._in_turns(model, index, to_come)
        else:
            scores, counted = self._measure(model, index, self.what), {}
        signals = self._signals(scores) | counted
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

    def before(self, model: Any, index: IntArray) -> None:
        """Prequential accuracy of examples that the model was never trained on.

        Calls before :meth:`close` belong to one round: the same model answers them. Each is
        sampled ``scoring.samples`` times whatever the policy: there is no earlier round to go by.
        """
        scores = self._measure(model, index, frozenset({"samples"}))
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

    def _measure(self, model: Any, index: IntArray, what: frozenset[str], **more: Any) -> Scores:
        round = self.history.rounds - bool(self._open)
        return self.measurer.measure(model, index, what, round=round, **more)

    def _in_turns(
        self, model: Any, index: IntArray, to_come: int
    ) -> tuple[Scores, dict[str, FloatArray]]:
        """A round whose samples a policy asks for, and its estimates of accuracy and premem."""
        measured = self._measure(model, index, self.what - {"samples"})
        started, spent = time.perf_counter(), self.cost.score_s
        earlier = self.history.counts(index, since=self.since)
        policy = policy_of(
            self.scoring, rounds=len(earlier[0]) + 1 + to_come, threshold=self.threshold
        )

        def complete(rows: IntArray, samples: int, offset: IntArray) -> Scores:
            what = frozenset({"samples"})
            return self._measure(model, index[rows], what, samples=samples, offset=offset)

        ask: Callable[[Counts], IntArray] = policy.ask
        if self.scoring.subset < 1:
            ask = within_subset(ask, self.scoring.subset, seed=self.measurer.scorer.seed)
        features = self.measurer.text_features(index)
        scores, counts = sample_in_turns(_decided_once(ask), earlier, measured, complete, features)
        estimates = {"accuracy": policy.accuracy(counts), "premem": policy.premem(counts)}
        assert scores.sampled is not None
        self.cost.completions_saved += self.scoring.samples * len(index) - int(scores.sampled.sum())
        # what the policy took to think, besides the passes that are on the bill already
        thought = time.perf_counter() - started - (self.cost.score_s - spent)
        self.cost.score_s += max(0.0, thought)
        return scores, estimates

    def _reference_loss(self, index: IntArray, device: Any) -> FloatArray:
        """Known from earlier rounds where it can be: the reference model never changes."""
        loss = np.full(self.history.size, np.nan)
        for known, values in self.history.signals.get("reference_loss", {}).values():
            loss[known] = values
        unknown = index[np.isnan(loss[index])]
        if len(unknown):
            loss[unknown] = self.measurer.reference_loss(unknown, device)
        return loss[index]

    # --- keeping -------------------------------------------------------------------------------

    def _signals(self, scores: Scores) -> dict[str, FloatArray]:
        signals = dict(scores.columns)
        if scores.correct is not None and not self.in_turns:
            signals["accuracy"] = scores.correct.mean(axis=1)
        if scores.nll_sum is not None and scores.tokens is not None:
            signals["mean_nll"] = scores.nll_sum / scores.tokens
        if {"accuracy", "mean_nll"} <= signals.keys():
            accuracy, mean_nll = signals["accuracy"], signals["mean_nll"]
            self._update_metric(self.history.rounds, scores.index, accuracy, mean_nll)
            signals["premem"] = self.metric.compute()[-1].numpy()[scores.index]
        return signals

    def _store(self, scores: Scores, signals: dict[str, FloatArray], epoch: int) -> None:
        if self.store is None:
            return
        columns: dict[str, Any] = {
            "index": scores.index,
            "stage": np.full(len(scores.index), self.measurer.stage),
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
            kept = self.scoring.keep_completions  # of each turn; in turns there may be more
            columns["completions"] = [list(row[:kept]) for row in scores.completions]
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
        measured = self.history.measured("accuracy", "mean_nll", since=self.since)
        for round in [] if self.in_turns else measured:
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


def _decided_once(ask: Callable[[Counts], IntArray]) -> Callable[[Counts], IntArray]:
    """Asked on rank 0: rounding may differ between machines, and every rank has to sample alike."""
    return lambda counts: once(lambda: ask(counts))
