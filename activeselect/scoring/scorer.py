"""The live scorer: samples, checks answers, and measures the reference trace's likelihood."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from activeselect.arrays import FloatArray, IntArray
from activeselect.config import ScoringConfig
from activeselect.data.answers import AnswerChecker
from activeselect.data.prompts import Encoded, Sizes
from activeselect.errors import ModelError, StrategyError
from activeselect.scoring.batch import CHECK_EVERY
from activeselect.scoring.families import rereads_after
from activeselect.scoring.forward import (
    embed_questions,
    project_gradients,
    target_statistics,
    token_log_probs,
    without_question,
)
from activeselect.scoring.generate import (
    Engine,
    before_stop,
    end_tokens_of,
    generate,
    longest_completions,
    pad_token_of,
    start_token_of,
    stream_keys,
)
from activeselect.scoring.guards import count_answers
from activeselect.scoring.own_answers import own_answer_signals, self_certainty
from activeselect.scoring.signals import ONE_PASS

# --- Scores


@dataclass(frozen=True)
class Scores:
    """What one scoring pass measured (B examples, S samples); None = not measured.

    ``sampled`` says how many columns of ``correct`` count for each example; None = all.
    ``nll_sum`` in nats over ``tokens`` target tokens, the end token included. ``columns`` holds
    the other measured signals by name, float64 ``[B]`` each; ``tally`` counts what says whether the
    sampled answers can be trusted (:func:`activeselect.scoring.guards.sampling_quality`).

    Example:
        >>> correct = np.array([[True, False], [True, True]])
        >>> Scores(np.array([3, 5]), correct=correct).correct.mean(axis=1).tolist()
        [0.5, 1.0]
    """

    index: IntArray
    correct: NDArray[np.bool_] | None = None
    nll_sum: FloatArray | None = None
    tokens: IntArray | None = None
    columns: dict[str, FloatArray] = field(default_factory=dict)
    completions: tuple[tuple[str, ...], ...] | None = None
    tokens_generated: int = 0
    truncated: int = 0
    seconds: float = 0.0
    tally: dict[str, float] = field(default_factory=dict)
    sampled: IntArray | None = None

    @property
    def right(self) -> IntArray:
        """How many of each example's completions are right, int64 ``[B]``."""
        assert self.correct is not None
        right: IntArray = self.correct.sum(axis=1)
        return right

    def outcomes(self) -> list[list[bool]]:
        """Right or wrong of each example's completions, as many as were sampled."""
        assert self.correct is not None
        rows: list[list[bool]] = self.correct.tolist()
        if self.sampled is None:
            return rows
        return [row[:count] for row, count in zip(rows, self.sampled.tolist(), strict=True)]

    def take(self, rows: IntArray) -> Scores:
        """These rows, in this order; what is counted over all of them stays."""
        return replace(
            self,
            index=self.index[rows],
            correct=None if self.correct is None else self.correct[rows],
            sampled=None if self.sampled is None else self.sampled[rows],
            nll_sum=None if self.nll_sum is None else self.nll_sum[rows],
            tokens=None if self.tokens is None else self.tokens[rows],
            columns={name: values[rows] for name, values in self.columns.items()},
            completions=self.completions and tuple(self.completions[row] for row in rows),
        )

    def with_samples(self, rows: IntArray, sampled: Scores, samples: int) -> Scores:
        """These scores with the completions of ``sampled``, which are those of ``rows``.

        Args:
            rows: places in this pass, int64 ``[K]``; the other examples were not sampled.
            sampled: a pass over them, in the same order.
            samples: completions of each.
        """
        size = len(self.index)
        columns = {name: np.full(size, np.nan) for name in sampled.columns}
        for name, column in columns.items():
            column[rows] = sampled.columns[name]
        correct = np.zeros((size, samples if len(rows) else 0), dtype=np.bool_)
        counts = np.zeros(size, dtype=np.int64)
        texts: list[tuple[str, ...]] = [()] * size
        if len(rows):
            correct[rows], counts[rows] = sampled.correct, samples
            for row, text in zip(rows.tolist(), sampled.completions or (), strict=False):
                texts[row] = text
        return replace(
            self,
            correct=correct,
            columns={**self.columns, **columns},
            sampled=counts,
            completions=tuple(texts),
            tally={**self.tally, **sampled.tally},
            tokens_generated=self.tokens_generated + sampled.tokens_generated,
            truncated=self.truncated + sampled.truncated,
            seconds=self.seconds + sampled.seconds,
        )

    def to_plain(self) -> dict[str, Any]:
        """JSON-ready; floats survive to the bit."""
        plain = {**vars(self), "columns": {n: v.tolist() for n, v in self.columns.items()}}
        return {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in plain.items()}

    @classmethod
    def from_plain(cls, plain: dict[str, Any]) -> Scores:
        """Scores from what ``to_plain`` wrote."""
        columns = {n: np.array(values, np.float64) for n, values in plain["columns"].items()}
        kinds: dict[str, Any] = {
            "index": np.int64, "correct": np.bool_, "nll_sum": np.float64, "tokens": np.int64,
            "sampled": np.int64,
        }  # fmt: skip
        arrays = {n: None if plain[n] is None else np.array(plain[n], k) for n, k in kinds.items()}
        texts = plain["completions"]
        completions = None if texts is None else tuple(tuple(row) for row in texts)
        return cls(**{**plain, **arrays, "columns": columns, "completions": completions})


def joined(parts: Sequence[Scores]) -> Scores:
    """Several passes that measured the same things, as one."""

    def column(name: str) -> Any:
        values = [getattr(part, name) for part in parts]
        return np.concatenate(values) if values and values[0] is not None else None

    names = parts[0].columns if parts else ()
    texts = [row for part in parts for row in part.completions or ()]
    counted = sorted({name for part in parts for name in part.tally})
    return Scores(
        np.empty(0, np.int64) if not parts else column("index"),
        column("correct"),
        column("nll_sum"),
        column("tokens"),
        {name: np.concatenate([part.columns[name] for part in parts]) for name in names},
        tuple(texts) if parts and parts[0].completions is not None else None,
        sum(part.tokens_generated for part in parts),
        sum(part.truncated for part in parts),
        sum(part.seconds for part in parts),
        {name: sum(part.tally.get(name, 0) for part in parts) for name in counted},
        column("sampled"),
    )


#: Tokens of a chunk's first completion that are compared with a fresh pass of the model.
_COMPARED = 64
_SHORT = (torch.bfloat16, torch.float16)


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
        stop: texts that end a completion, besides the end token.
        reference: loads the reference model, for :meth:`reference_loss`.
        engine: completes prompts; default: with the model itself.

    Example:
        >>> from activeselect import Pool, Problem, ScoringConfig, load_model
        >>> from activeselect.config import PromptConfig
        >>> from activeselect.data.answers import get_checker
        >>> from activeselect.data.prompts import encode
        >>> model, tokenizer = load_model("skills-base")
        >>> pool = Pool.from_problems(
        ...     [Problem(0, "ann has 3 pens", "so answer : 3", "3")], checker="marker:answer :")
        >>> scorer = LiveScorer(tokenizer, get_checker(pool.checker), ScoringConfig(samples=2))
        >>> items = encode(pool, [0], tokenizer, PromptConfig())
        >>> scores = scorer.score(model, items, ["3"], what=frozenset({"nll"}), round=0)
        >>> bool(scores.nll_sum[0] > 0)
        True
    """

    def __init__(
        self,
        tokenizer: Any,
        checker: AnswerChecker,
        config: ScoringConfig,
        *,
        seed: int = 0,
        stop: Sequence[str] = (),
        reference: Callable[[], Any] | None = None,
        engine: Engine = generate,
    ) -> None:
        self.engine = engine
        self.tokenizer = tokenizer
        self.checker = checker
        self.config = config
        self.seed = seed
        self.stop = tuple(stop)
        self._load_reference = reference

    def score(
        self,
        model: Any,
        items: Sequence[Encoded],
        answers: Sequence[str],
        *,
        what: frozenset[str],
        round: int,
        samples: int | None = None,
        trained: Any = None,
    ) -> Scores:
        """Measure examples after a round.

        Args:
            model: a transformers causal LM; its training mode is restored afterwards.
            items: the encoded problems, B of them.
            answers: their final answers.
            what: measurements (``activeselect.scoring.signals``): ``samples``, what follows from
                them (``own answers``, ``certainty``), ``alone`` and those of one pass; the others
                have methods of their own and are ignored.
            round: number of the round, part of the random streams' key.
            samples: completions of each; default: as configured.
            trained: the model in training, where ``model`` is a copy of it: what the copy says of
                sampled tokens is compared with it; default: ``model``.
        """
        started = time.perf_counter()
        index = np.array([item.index for item in items], dtype=np.int64)
        correct, kept, generated, cut = None, None, 0, 0
        tally: dict[str, float] = {}
        with evaluating(model):
            nll, tokens, columns = self._passes(model, items, what)
            if "samples" in what:
                number = self.config.samples if samples is None else samples
                said: dict[int, list[float]] = {}
                if "certainty" in what:
                    said = {row: [] for row in range(number * len(items))}
                texts, generated, cut = self.complete(
                    model,
                    items,
                    samples=number,
                    round=round,
                    tally=tally,
                    trained=trained,
                    log_probs=said,
                )
                columns |= self._own_answers(texts, said, what)
                correct = self.check(texts, answers)
                tally |= count_answers(self.checker, texts, answers, correct)
                kept = tuple(tuple(row[: self.config.keep_completions]) for row in texts)
        seconds = time.perf_counter() - started
        return Scores(index, correct, nll, tokens, columns, kept, generated, cut, seconds, tally)

    def _own_answers(
        self, texts: Sequence[Sequence[str]], said: dict[int, list[float]], what: frozenset[str]
    ) -> dict[str, FloatArray]:
        """What completions say without the right answer, float64 ``[B]`` each."""
        columns: dict[str, FloatArray] = {}
        if "own answers" in what:
            given = [[self.checker.extract(text) for text in row] for row in texts]
            columns |= own_answer_signals(given, self.checker.equal)
        if "certainty" in what:
            rows = iter(said.values())  # in the order of the completions
            certainty = [self_certainty([next(rows) for _ in row]) for row in texts]
            columns["self_certainty"] = np.array(certainty, dtype=np.float64)
        return columns

    def lengths(self, model: Any, sizes: Sizes, *, samples: int) -> IntArray:
        """Tokens that measuring each example may take, int64 ``[B]``.

        Args:
            sizes: how long the examples are.
            samples: completions of each; 0: the reference trace is read only.
        """
        if not samples:
            return sizes.tokens
        longest = longest_completions(model, sizes.prompt, self.config.max_new_tokens)
        return samples * (sizes.prompt + longest)

    def evaluate(self, model: Any, items: Sequence[Encoded], answers: Sequence[str]) -> Scores:
        """Greedy answers: right or wrong per problem, in ``correct``, bool ``[B, 1]``."""
        started = time.perf_counter()
        with evaluating(model):
            texts, generated, cut = self.complete(model, items, samples=1, round=0, greedy=True)
        return Scores(
            np.array([item.index for item in items], dtype=np.int64),
            self.check(texts, answers),
            tokens_generated=generated,
            truncated=cut,
            seconds=time.perf_counter() - started,
        )

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
        tally: dict[str, float] | None = None,
        trained: Any = None,
        log_probs: dict[int, list[float]] | None = None,
    ) -> tuple[list[list[str]], int, int]:
        """Completions as text, tokens generated (end tokens included), and how many were cut.

        With ``tally``, what the sampler says of some tokens is compared with the model, or with
        ``trained``, of which it is a copy; the summed difference and their number are put there.
        ``log_probs`` as for :func:`activeselect.scoring.generate.generate`.
        """
        index = np.array([item.index for item in items], dtype=np.int64)
        said: dict[int, list[float]] = {} if log_probs is None else log_probs
        if tally is not None and items:
            said.setdefault(0, [])
        ids = self.engine(
            model,
            [item.prompt for item in items],
            samples=samples,
            temperature=0.0 if greedy else self.config.temperature,
            top_p=self.config.top_p,
            max_new_tokens=self.config.max_new_tokens,
            keys=stream_keys(index, samples, seed=self.seed, round=round),
            end_tokens=sorted(end_tokens_of(model, self.tokenizer, items)),
            pad_token=pad_token_of(self.tokenizer),
            batch_tokens=self.config.batch_tokens,
            stopped=self._stopped if self.stop else None,
            log_probs=said,
        )
        if tally is not None and items:
            tally |= self._compared(model, trained, items[0], ids[0][0], said[0])
        flat = [row for rows in ids for row in rows]
        found = self.tokenizer.batch_decode(flat, skip_special_tokens=True) if flat else []
        texts = [before_stop(text, self.stop) for text in found]
        prompts = np.array([item.start for item in items], dtype=np.int64)
        limits = longest_completions(model, prompts, self.config.max_new_tokens)
        longest = np.repeat(limits, samples).tolist()
        cut = sum(
            len(row) == limit and text == whole
            for row, limit, text, whole in zip(flat, longest, texts, found, strict=True)
        )
        generated = sum(len(row) for row in flat) + len(flat) - cut
        return [texts[i : i + samples] for i in range(0, len(texts), samples)], generated, cut

    def _compared(
        self, model: Any, trained: Any, item: Encoded, tokens: list[int], said: list[float]
    ) -> dict[str, float]:
        """What a sampler said of its tokens against a fresh pass of the model."""
        switch = rereads_after(model.config)
        if switch is not None and item.start <= switch:
            tokens = tokens[: switch - item.start]  # later ones were read with other positions
        tokens = tokens[:_COMPARED]
        if len(said) < len(tokens):
            raise ModelError(
                f"The sampling engine reported {len(said)} log-probabilities of a completion of "
                f"{len(tokens)} tokens; expected one of each token (see scoring.generate.Engine)."
            )
        whole = model if trained is None else trained
        with evaluating(whole):
            fresh = token_log_probs(whole, item.prompt, tokens)
        gap = np.abs(np.array(said[: len(tokens)]) - fresh)
        short = any(weight.dtype in _SHORT for weight in model.parameters())
        short |= torch.is_autocast_enabled(model.device.type)
        compared = {"gap": float(gap.sum()), "compared": len(tokens)}
        return {**compared, "compared_in_16_bits": len(tokens) * short}

    def _stopped(self, tokens: Sequence[Sequence[int]]) -> list[bool]:
        """Whether the newest of these tokens of each row hold a stop text."""
        newest = CHECK_EVERY + 4 * max(map(len, self.stop))  # a character has at most four bytes
        texts = self.tokenizer.batch_decode(
            [row[-newest:] for row in tokens], skip_special_tokens=True
        )
        return [before_stop(text, self.stop) != text for text in texts]

    def _passes(
        self, model: Any, items: Sequence[Encoded], what: frozenset[str]
    ) -> tuple[FloatArray | None, IntArray | None, dict[str, FloatArray]]:
        """All forward passes: summed NLL and token counts if wanted, and the other signals."""
        columns = self._statistics(model, items, what & ONE_PASS) if what & ONE_PASS else {}
        nll = columns.pop("nll", None)
        tokens = np.array([len(item.ids) - item.start for item in items], dtype=np.int64)
        if "alone" in what and nll is not None:
            traces = without_question(items, start_token_of(self.tokenizer))
            # the same tokens in numerator and denominator: the ratio of sums is that of means
            columns["ifd"] = nll / self._statistics(model, traces, frozenset({"nll"}))["nll"]
        return nll, (None if nll is None else tokens), columns

    def _statistics(
        self, model: Any, items: Sequence[Encoded], want: frozenset[str]
    ) -> dict[str, FloatArray]:
        return target_statistics(
            model,
            items,
            want,
            batch_tokens=self.config.batch_tokens,
            pad_token=pad_token_of(self.tokenizer),
            entropy_share=self.config.entropy_share,
        )

    def target_nll(self, model: Any, items: Sequence[Encoded]) -> tuple[FloatArray, IntArray]:
        """Negative log-likelihood of each reference trace: sum in nats ``[B]``, tokens ``[B]``."""
        tokens = np.array([len(item.ids) - item.start for item in items], dtype=np.int64)
        return self._statistics(model, items, frozenset({"nll"}))["nll"], tokens

    def reference_loss(self, items: Sequence[Encoded], device: Any) -> Scores:
        """Mean NLL of each reference trace under the reference model, nats per token."""
        started = time.perf_counter()
        nll, tokens = self.target_nll(self._reference.to(device), items)
        index = np.array([item.index for item in items], dtype=np.int64)
        columns = {"reference_loss": nll / tokens}
        return Scores(index, columns=columns, seconds=time.perf_counter() - started)

    def embed(self, model: Any, items: Sequence[Encoded]) -> NDArray[np.float32]:
        """Pooled hidden state of each question, float32 ``[B, D]``."""
        with evaluating(model):
            return embed_questions(
                model,
                items,
                batch_tokens=self.config.batch_tokens,
                pad_token=pad_token_of(self.tokenizer),
            )

    def gradients(self, model: Any, items: Sequence[Encoded]) -> NDArray[np.float32]:
        """Projected gradient of each trace's loss, float32 ``[B, P]``."""
        with evaluating(model):
            return project_gradients(
                model,
                items,
                dim=self.config.gradient_dim,
                seed=self.seed,
                modules=self.config.gradient_modules,
            )

    @cached_property
    def _reference(self) -> Any:
        if self._load_reference is None:
            raise StrategyError(
                "The signal 'reference_loss' needs a reference model; set the strategy's "
                "`reference` to a model folder."
            )
        return self._load_reference().eval()
