"""Runs the model in training over examples, in chunks shared by all ranks; puts it on the bill."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from activeselect.config import PromptConfig, ScoringConfig
from activeselect.data.answers import get_checker
from activeselect.data.pool import Pool
from activeselect.data.prompts import Encoded, EncodedSet, encode
from activeselect.errors import ConfigError
from activeselect.scoring.passes import Parts, score_in_chunks, weights_hash
from activeselect.scoring.ranks import once, rank, together, world_size
from activeselect.scoring.scorer import LiveScorer
from activeselect.scoring.scores import Scores
from activeselect.scoring.text_features import text_features
from activeselect.training.history import Cost
from activeselect.training.module import load_model
from activeselect.training.sharding import is_sharded, whole

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]

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
