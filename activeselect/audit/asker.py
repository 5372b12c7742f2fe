"""The asker: what the audit asks of a model, in texts; it counts the tokens that this costs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from activeselect.arrays import FloatArray
from activeselect.config import PromptConfig, ScoringConfig
from activeselect.data.answers import AnswerChecker
from activeselect.data.chains import sentences
from activeselect.data.pool import Pool, Problem
from activeselect.data.prompts import IGNORED, Encoded, batches_by_tokens, collate, encode, to_text
from activeselect.scoring.families import TargetLogits, length_kinds
from activeselect.scoring.forward import target_statistics
from activeselect.scoring.generate import pad_token_of
from activeselect.scoring.memory import run_batches
from activeselect.scoring.scorer import LiveScorer, evaluating

#: Tokens that an answer may have beyond the longest one known.
_SPARE = 4


@dataclass
class Spent:
    """Tokens read and written."""

    read: int = 0
    written: int = 0

    @property
    def tokens(self) -> int:
        """Both together."""
        return self.read + self.written


class Asker:
    """Asks one model: completions, forced answers, probabilities of answers, entropies.

    Args:
        model: a transformers causal LM; its training mode is restored after each question.
        tokenizer: the model's.
        pool: the problems, for the end token of a target and the length of answers.
        template: how a problem becomes text.
        scoring: sampling settings.
        seed: of the samples.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        pool: Pool,
        checker: AnswerChecker,
        template: PromptConfig,
        scoring: ScoringConfig,
        *,
        seed: int,
    ) -> None:
        self.model, self.tokenizer, self.checker = model, tokenizer, checker
        self.template, self.scoring, self.seed = template, scoring, seed
        self.spent = Spent()
        self._end = int(encode(pool, [0], tokenizer, template)[0].ids[-1])
        answers = [ids for problem in pool for ids in [self._tokens(" " + problem.answer)]]
        self._answer_tokens = max(map(len, answers)) + _SPARE
        before = checker.render("\0").partition("\0")[0]
        self._marker = before.strip()
        self._space = " " if before != before.rstrip() or not before else ""

    def known(self, text: str) -> bool:
        """Whether the tokenizer can write a text."""
        unknown = self.tokenizer.unk_token_id
        return unknown is None or unknown not in self._tokens(text)

    def prompt(self, problem: Problem, template: PromptConfig | None = None) -> str:
        """The text that the model reads; by the usual template, or another one."""
        return to_text(problem, template or self.template, self.tokenizer).prompt

    def trace(self, problem: Problem) -> str:
        """The reference trace as a completion would have it."""
        target = to_text(problem, self.template, self.tokenizer).target
        trace = problem.trace if problem.trace in target else problem.trace.strip()
        return target[: target.find(trace) + len(trace)]

    def count(self, text: str) -> int:
        """Tokens of a text."""
        return len(self._tokens(text))

    def complete(
        self,
        texts: Sequence[str],
        index: Sequence[int],
        *,
        samples: int = 1,
        round: int = 0,
        greedy: bool = False,
        limit: int | None = None,
    ) -> list[list[str]]:
        """Completions of each text.

        Args:
            index: decides the random numbers of each text, with ``round``.
            limit: of new tokens; default: as configured.
        """
        if not texts:
            return []
        items = []
        for number, text in zip(index, texts, strict=True):
            ids = self._tokens(text, special=not self.template.chat)
            items.append(Encoded(int(number), np.array([*ids, self._end], np.int32), len(ids)))
        config = replace(self.scoring, max_new_tokens=limit or self.scoring.max_new_tokens)
        scorer = LiveScorer(
            self.tokenizer, self.checker, config, seed=self.seed, stop=self.template.stop
        )
        with evaluating(self.model):
            found, written, _ = scorer.complete(
                self.model, items, samples=samples, round=round, greedy=greedy
            )
        self.spent.read += sum(item.start for item in items)
        self.spent.written += written
        return found

    def force(self, texts: Sequence[str]) -> list[str | None]:
        """The answer that the model gives at once after each text, which ends by announcing it."""
        found = self.complete(texts, range(len(texts)), greedy=True, limit=self._answer_tokens)
        return [self._answer(row[0]) for row in found]

    def _answer(self, text: str) -> str | None:
        if not self._marker:  # the answer is a number: the first sentence's
            text = (sentences(text) or [""])[0]
        return self.checker.extract(f"{self._marker}{self._space}{text.lstrip(' ')}")

    def log_probs(self, texts: Sequence[str], answers: Sequence[str]) -> FloatArray:
        """Log-probability of each answer's tokens after its text, nats, float64 ``[B]``."""
        items = []
        for number, (text, answer) in enumerate(zip(texts, answers, strict=True)):
            ids, start = self._continued(text, self._space + answer)
            items.append(Encoded(number, ids, start))
        self.spent.read += sum(len(item.ids) for item in items)
        if not items:
            return np.zeros(0)
        with evaluating(self.model):
            nll = target_statistics(
                self.model,
                items,
                frozenset({"nll"}),
                batch_tokens=self.scoring.batch_tokens,
                pad_token=pad_token_of(self.tokenizer),
            )["nll"]
        return -nll

    def entropies(
        self, texts: Sequence[str], completions: Sequence[str]
    ) -> list[tuple[FloatArray, list[str]]]:
        """Entropy of the next-token distribution at each token of a completion, and its text."""
        items = [
            Encoded(number, *self._continued(text, completion))
            for number, (text, completion) in enumerate(zip(texts, completions, strict=True))
        ]
        self.spent.read += sum(len(item.ids) for item in items)
        with evaluating(self.model):
            found = token_entropies(
                self.model,
                items,
                batch_tokens=self.scoring.batch_tokens,
                pad_token=pad_token_of(self.tokenizer),
            )
        words = [[self.tokenizer.decode([i]) for i in item.ids[item.start :]] for item in items]
        return list(zip(found, words, strict=True))

    def _continued(self, text: str, more: str) -> tuple[NDArray[np.int32], int]:
        """Tokens of both texts as one, and the first that reaches past the first text."""
        batch = self.tokenizer(
            text + more,
            return_offsets_mapping=True,
            add_special_tokens=not self.template.chat,
            verbose=False,
        )
        ids, offsets = list(batch["input_ids"]), list(batch["offset_mapping"])
        while len(ids) > 1 and ids[-1] == self.tokenizer.eos_token_id:
            ids, offsets = ids[:-1], offsets[:-1]
        past = [i for i, (_, stop) in enumerate(offsets) if stop > len(text)]
        return np.array(ids, np.int32), max(1, past[0] if past else len(ids) - 1)

    def _tokens(self, text: str, special: bool = False) -> list[int]:
        ids = list(self.tokenizer(text, add_special_tokens=special, verbose=False)["input_ids"])
        while special and len(ids) > 1 and ids[-1] == self.tokenizer.eos_token_id:
            ids = ids[:-1]  # some tokenizers close the text themselves
        return ids


@torch.inference_mode()
def _over_targets(
    model: Any,
    items: Sequence[Encoded],
    compute: Callable[[Tensor, Tensor], FloatArray],
    *,
    batch_tokens: int,
    pad_token: int,
) -> list[FloatArray]:
    """What ``compute`` makes of each item's logits ``[T, V]`` and target tokens ``[T]``."""
    found: dict[int, FloatArray] = {}
    logits_of = TargetLogits(model)

    def measure(rows: NDArray[np.int64]) -> None:
        batch = collate([items[i] for i in rows], pad_token)
        ids, labels = (batch[name].to(model.device) for name in ("input_ids", "labels"))
        labels = torch.cat([labels[:, 1:], labels.new_full((len(rows), 1), IGNORED)], dim=1)
        keep = (labels != IGNORED).flatten().nonzero().squeeze(1)
        counts = (labels != IGNORED).sum(dim=1).tolist()
        targets = torch.split(labels.flatten()[keep], counts)
        logits = logits_of(ids, keep, counts)
        for row, made, target in zip(rows.tolist(), logits, targets, strict=True):
            found[row] = compute(made.float(), target)

    lengths = [len(item.ids) for item in items]
    kinds = length_kinds(model.config, lengths)
    run_batches(batches_by_tokens(lengths, batch_tokens, kinds), lengths, measure)
    return [found[i] for i in range(len(items))]


def token_entropies(
    model: Any, items: Sequence[Encoded], *, batch_tokens: int, pad_token: int
) -> list[FloatArray]:
    """``H = -sum p ln p`` of the next-token distribution at each target token, nats, ``[T]`` each.

    Args:
        model: a transformers causal LM in eval mode.
        items: encoded texts; their targets are measured.
        batch_tokens: padded tokens per batch, at most.
    """

    def entropy(logits: Tensor, target: Tensor) -> FloatArray:
        log_p = torch.log_softmax(logits, dim=-1)
        values: FloatArray = -(log_p.exp() * log_p).nan_to_num().sum(dim=-1).double().cpu().numpy()
        return values

    return _over_targets(model, items, entropy, batch_tokens=batch_tokens, pad_token=pad_token)


def loss_and_hits(
    model: Any, items: Sequence[Encoded], *, batch_tokens: int, pad_token: int
) -> tuple[FloatArray, FloatArray]:
    """Mean NLL of each target (nats per token), and share of its tokens that are the argmax.

    Args:
        model: a transformers causal LM in eval mode.
        items: encoded problems, B of them.
        batch_tokens: padded tokens per batch, at most.

    Returns:
        two arrays, float64 ``[B]``.
    """

    def both(logits: Tensor, target: Tensor) -> FloatArray:
        loss = torch.nn.functional.cross_entropy(logits, target).item()
        return np.array([loss, (logits.argmax(dim=-1) == target).double().mean().item()])

    found = _over_targets(model, items, both, batch_tokens=batch_tokens, pad_token=pad_token)
    table = np.stack(found) if found else np.zeros((0, 2))
    return table[:, 0], table[:, 1]
