"""Signals of a model's own answers, which need no label: pure functions (numpy only).

Of S sampled completions of a question, each states an answer or none. Answers that the checker
calls equal are one answer; a completion that states none agrees with no other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from activeselect.arrays import FloatArray


def answer_counts(
    answers: Sequence[str | None], equal: Callable[[str, str], bool]
) -> tuple[list[int], int]:
    """How often each distinct answer was given, in order of first appearance, and how often none.

    Args:
        answers: of the S completions of one question; None where a completion states none.
        equal: whether two answers are the same.

    Example:
        >>> answer_counts(["7", None, "7.0", "8"], lambda a, b: float(a) == float(b))
        ([2, 1], 1)
    """
    kinds: list[tuple[str, int]] = []
    for answer in answers:
        if answer is None:
            continue
        for place, (kind, count) in enumerate(kinds):
            if kind == answer or equal(kind, answer):
                kinds[place] = kind, count + 1
                break
        else:
            kinds.append((answer, 1))
    counts = [count for _, count in kinds]
    return counts, len(answers) - sum(counts)


def agreement(counts: Sequence[int], unanswered: int) -> float:
    """Share of the completions that state the most frequent answer, in [0, 1].

    ``max(counts) / S``; 0 where no completion states an answer.

    Args:
        counts: how often each distinct answer was given.
        unanswered: completions that state none.

    Source:
        Wang et al., self-consistency, arXiv 2203.11171.

    Example:
        >>> agreement([2, 1], 1)
        0.5
    """
    total = sum(counts) + unanswered
    return max(counts, default=0) / total if total else float("nan")


def answer_entropy(counts: Sequence[int], unanswered: int) -> float:
    """Entropy of the distribution of the answers, nats, from 0 to log S.

    ``-sum(p log p)`` over the distinct answers; each completion without an answer counts as an
    answer of its own, else a model that never answers would look certain.

    Args:
        counts, unanswered: as for :func:`agreement`.

    Source:
        Entropy over classes of equal answers, as in Kuhn et al., arXiv 2302.09664.

    Example:
        >>> round(answer_entropy([2, 2], 0), 3), answer_entropy([4], 0)
        (0.693, 0.0)
    """
    share = np.array([*counts, *[1] * unanswered], dtype=np.float64)
    if not len(share):
        return float("nan")
    share /= share.sum()
    return float(np.abs(share @ np.log(share)))


def own_answer_signals(
    answers: Sequence[Sequence[str | None]], equal: Callable[[str, str], bool]
) -> dict[str, FloatArray]:
    """``agreement``, ``answer_entropy`` and ``unanswered`` of B questions, float64 ``[B]`` each.

    ``unanswered`` is the share of the completions that state no answer.

    Args:
        answers: those of the S completions of each question; NaN where S is 0.
        equal: whether two answers are the same.

    Example:
        >>> found = own_answer_signals([["1", "1", "2", None]], str.__eq__)
        >>> {name: round(float(value[0]), 3) for name, value in found.items()}
        {'agreement': 0.5, 'answer_entropy': 1.04, 'unanswered': 0.25}
    """
    counted = [answer_counts(row, equal) for row in answers]
    missing = [none / len(row) if row else np.nan for row, (_, none) in zip(
        answers, counted, strict=True
    )]  # fmt: skip
    return {
        "agreement": np.array([agreement(*pair) for pair in counted], dtype=np.float64),
        "answer_entropy": np.array([answer_entropy(*pair) for pair in counted], dtype=np.float64),
        "unanswered": np.array(missing, dtype=np.float64),
    }


def self_certainty(log_probs: Sequence[Sequence[float]]) -> float:
    """Mean log-probability that a model gives its own completions, nats per token, at most 0.

    The mean over the completions of each one's mean over its tokens, at temperature 1; the end
    token is not counted, and a completion without tokens says nothing (NaN where all are empty).

    Args:
        log_probs: log-probability of each token of the S completions of one question.

    Source:
        Length-normalized sequence likelihood, as in Malinin and Gales, arXiv 2002.07650; applied to
        sampled answers.

    Example:
        >>> self_certainty([[-1.0, -3.0], [-1.0], []])
        -1.5
    """
    means = [float(np.mean(row)) for row in log_probs if len(row)]
    return float(np.mean(means)) if means else float("nan")
