"""Whether sampled answers can be trusted: pure functions of what a scoring pass has seen."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from activeselect.data.answers import AnswerChecker
from activeselect.errors import ModelError

FloatArray = NDArray[np.float64]


def sampling_reliability(correct: ArrayLike) -> float:
    """How reliable the mean of S samples is as a measure of each example, at most 1.

    The share of the variance between examples' accuracies that is not noise of sampling: one minus
    the mean square within examples over that between them. That is the Spearman-Brown prophecy for
    S samples from the agreement of two, ``ICC(1, S)``. Two runs that draw anew correlate by this
    much; 0 and below: the measured accuracies say nothing about which example is harder.

    Args:
        correct: whether each sample was right, bool ``[B, S]``.

    Returns:
        NaN with fewer than two examples or samples, or if all examples have the same accuracy.

    Source:
        Shrout and Fleiss (1979), Psychological Bulletin 86(2).

    Example:
        >>> round(sampling_reliability([[1, 1, 1], [0, 0, 0], [1, 0, 1], [1, 1, 0]]), 3)
        0.684
    """
    values = np.asarray(correct, dtype=np.float64)
    examples, samples = values.shape
    if examples < 2 or samples < 2:
        return float("nan")
    means = values.mean(axis=1)
    between = samples * np.square(means - means.mean()).sum() / (examples - 1)
    within = np.square(values - means[:, None]).sum() / (examples * (samples - 1))
    return float(1 - within / between) if between > 0 else float("nan")


def answer_shares(
    checker: AnswerChecker,
    texts: Sequence[Sequence[str]],
    answers: Sequence[str],
    correct: NDArray[np.bool_],
) -> dict[str, float]:
    """How many completions state an answer, and how many are right if any last number counts.

    Args:
        checker: of the answers.
        texts: S completions of each of B examples.
        answers: the right ones.
        correct: whether each completion is right in the expected form, bool ``[B, S]``.

    Returns:
        shares in [0, 1]: ``unanswered`` (no answer in the expected form), ``unanswered_flexible``
        (no number at all) and ``accuracy_flexible`` (right in the expected form, or else in the
        last number).
    """
    missing, nothing, right = 0, 0, int(correct.sum())
    for row, answer in zip(texts, answers, strict=True):
        for text in row:
            if checker.extract(text) is not None:
                continue
            missing += 1
            found = checker.extract_flexible(text)
            nothing += found is None
            right += found is not None and checker.equal(found, answer)
    total = max(1, correct.size)
    return {
        "unanswered": missing / total,
        "unanswered_flexible": nothing / total,
        "accuracy_flexible": right / total,
    }


def check_gap(sampler: FloatArray, trainer: FloatArray, *, allowed: float) -> float:
    """Mean difference between what the sampler and the model in training say of the same tokens.

    Args:
        sampler, trainer: log-probabilities of sampled tokens, nats, ``[T]``.
        allowed: largest mean absolute difference.

    Returns:
        the mean absolute difference, nats per token; 0 for no tokens.

    Raises:
        ModelError: if it is larger than allowed, or no number.

    Example:
        >>> round(check_gap(np.array([-1.0, -2.0]), np.array([-1.01, -2.0]), allowed=0.02), 4)
        0.005
    """
    gap = float(np.abs(sampler - trainer).mean()) if len(sampler) else 0.0
    if not gap <= allowed:
        raise ModelError(
            f"The sampler and the model in training disagree on {len(sampler)} sampled tokens by "
            f"{gap:.3g} nats per token; expected at most {allowed:.3g}. The sampler runs stale or "
            "other weights: load it again, or allow more with scoring.largest_gap."
        )
    return gap
