"""The live scorer: samples, checks answers, and measures the reference trace's likelihood."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from activeselect.config import ScoringConfig
from activeselect.data.answers import AnswerChecker
from activeselect.data.prompts import IGNORED, Encoded, batches_by_tokens, collate
from activeselect.errors import StrategyError, did_you_mean
from activeselect.scoring.generate import generate, longest_completion, stream_keys

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]

#: Signal -> the measurements it is made of.
SIGNALS: dict[str, frozenset[str]] = {
    "accuracy": frozenset({"samples"}),
    "mean_nll": frozenset({"nll"}),
    "premem": frozenset({"samples", "nll"}),
}


def measurements(signals: Sequence[str]) -> frozenset[str]:
    """What has to be measured for these signals, and nothing else.

    Raises:
        StrategyError: if a signal is unknown.

    Example:
        >>> sorted(measurements(["premem"]))
        ['nll', 'samples']
    """
    for name in signals:
        if name not in SIGNALS:
            raise StrategyError(f"There is no signal '{name}'. {did_you_mean(name, SIGNALS)}")
    return frozenset().union(*(SIGNALS[name] for name in signals))


@dataclass(frozen=True)
class Scores:
    """What one scoring pass measured (B examples, S samples); None = not measured.

    ``nll_sum`` in nats over ``tokens`` target tokens, the end token included.
    """

    index: IntArray
    correct: NDArray[np.bool_] | None = None
    nll_sum: FloatArray | None = None
    tokens: IntArray | None = None
    completions: tuple[tuple[str, ...], ...] | None = None
    tokens_generated: int = 0
    truncated: int = 0
    seconds: float = 0.0


@contextmanager
def evaluating(model: Any) -> Iterator[None]:
    """Eval mode inside; after it every submodule is in the mode that it was in before."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


class LiveScorer:
    """Measures problems with a model, in the middle of its training.

    Args:
        tokenizer: the model's.
        checker: extracts and compares final answers.
        config: samples, temperature, batch size.
        seed: of the completions; each depends on (seed, round, example, sample) alone.
    """

    def __init__(
        self, tokenizer: Any, checker: AnswerChecker, config: ScoringConfig, *, seed: int = 0
    ) -> None:
        self.tokenizer = tokenizer
        self.checker = checker
        self.config = config
        self.seed = seed

    def score(
        self,
        model: Any,
        items: Sequence[Encoded],
        answers: Sequence[str],
        *,
        what: frozenset[str],
        round: int,
    ) -> Scores:
        """Measure examples after a round.

        Args:
            model: a transformers causal LM; its training mode is restored afterwards.
            items: the encoded problems, B of them.
            answers: their final answers.
            what: ``samples`` and/or ``nll`` (see :func:`measurements`).
            round: number of the round, part of the random streams' key.
        """
        started = time.perf_counter()
        index = np.array([item.index for item in items], dtype=np.int64)
        correct, nll, tokens, kept, generated, cut = None, None, None, None, 0, 0
        with evaluating(model):
            if "nll" in what:
                nll, tokens = self.target_nll(model, items)
            if "samples" in what:
                texts, generated, cut = self.complete(
                    model, items, samples=self.config.samples, round=round
                )
                correct = self.check(texts, answers)
                kept = tuple(tuple(row[: self.config.keep_completions]) for row in texts)
        seconds = time.perf_counter() - started
        return Scores(index, correct, nll, tokens, kept, generated, cut, seconds)

    def evaluate(
        self, model: Any, items: Sequence[Encoded], answers: Sequence[str]
    ) -> tuple[NDArray[np.bool_], int]:
        """Greedy answers: right or wrong per problem, bool ``[B]``, and tokens generated."""
        with evaluating(model):
            texts, generated, _ = self.complete(model, items, samples=1, round=0, greedy=True)
        return self.check(texts, answers)[:, 0], generated

    def check(self, texts: Sequence[Sequence[str]], answers: Sequence[str]) -> NDArray[np.bool_]:
        """Whether each completion reaches its problem's answer, bool ``[B, S]``."""
        correct = [
            [self.checker.check(text, answer) for text in row]
            for row, answer in zip(texts, answers, strict=True)
        ]
        return np.array(correct, dtype=bool).reshape(len(texts), len(texts[0]) if texts else 1)

    def complete(
        self,
        model: Any,
        items: Sequence[Encoded],
        *,
        samples: int,
        round: int,
        greedy: bool = False,
    ) -> tuple[list[list[str]], int, int]:
        """Completions as text, tokens generated (end tokens included), and how many were cut."""
        index = np.array([item.index for item in items], dtype=np.int64)
        ids = generate(
            model,
            [item.prompt for item in items],
            samples=samples,
            temperature=0.0 if greedy else self.config.temperature,
            top_p=self.config.top_p,
            max_new_tokens=self.config.max_new_tokens,
            keys=stream_keys(index, samples, seed=self.seed, round=round),
            end_tokens=sorted(self._end_tokens(model)),
            pad_token=pad_token_of(self.tokenizer),
            batch_tokens=self.config.batch_tokens,
        )
        flat = [row for rows in ids for row in rows]
        cut = sum(
            len(row) == longest_completion(model, item.prompt, self.config.max_new_tokens)
            for item, rows in zip(items, ids, strict=True)
            for row in rows
        )
        texts = self.tokenizer.batch_decode(flat, skip_special_tokens=True) if flat else []
        generated = sum(len(row) for row in flat) + len(flat) - cut
        return [texts[i : i + samples] for i in range(0, len(texts), samples)], generated, cut

    @torch.inference_mode()
    def target_nll(self, model: Any, items: Sequence[Encoded]) -> tuple[FloatArray, IntArray]:
        """Negative log-likelihood of each reference trace: sum in nats ``[B]``, tokens ``[B]``."""
        nll = np.zeros(len(items))
        tokens = np.array([len(item.ids) - item.start for item in items], dtype=np.int64)
        lengths = [len(item.ids) for item in items]
        for rows in batches_by_tokens(lengths, self.config.batch_tokens):
            batch = collate([items[i] for i in rows], pad_token_of(self.tokenizer))
            batch = {name: value.to(model.device) for name, value in batch.items()}
            logits = model(
                input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]
            ).logits[:, :-1]
            # row by row: a float32 copy of all logits would be the largest tensor of the run
            losses = [
                torch.nn.functional.cross_entropy(
                    row.float(), labels, ignore_index=IGNORED, reduction="none"
                ).sum(dtype=torch.float64)
                for row, labels in zip(logits, batch["labels"][:, 1:], strict=True)
            ]
            nll[rows] = torch.stack(losses).cpu().numpy()
        return nll, tokens

    def _end_tokens(self, model: Any) -> set[int]:
        configured = getattr(model.generation_config, "eos_token_id", None)
        ends = configured if isinstance(configured, list) else [configured]
        return {int(end) for end in [*ends, self.tokenizer.eos_token_id] if end is not None}


def pad_token_of(tokenizer: Any) -> int:
    """The pad token, or the end token where the tokenizer has none (padding is masked anyway)."""
    pad = tokenizer.pad_token_id
    return int(tokenizer.eos_token_id if pad is None else pad)
