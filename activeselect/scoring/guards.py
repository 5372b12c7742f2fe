"""Guards: numbers that say whether sampled answers can be trusted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from activeselect.data.answers import AnswerChecker
from activeselect.errors import ModelError

#: Tokens whose mean difference says something where numbers have 16 bits.
_FEWEST = 16


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


def count_answers(
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
        counts: ``unanswered`` (no answer in the expected form), ``unanswered_flexible`` (no number
        at all) and ``accuracy_flexible`` (right in the expected form, or else in the last number).
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
    return {
        "unanswered": missing,
        "unanswered_flexible": nothing,
        "accuracy_flexible": right,
    }


def sampling_quality(
    correct: NDArray[np.bool_] | None,
    truncated: int,
    tally: Mapping[str, float],
    *,
    sampled: NDArray[np.int64] | None = None,
    largest_gap: float | None = None,
) -> dict[str, float]:
    """Whether a pass's sampled answers can be trusted.

    Args:
        correct: bool ``[B, S]``.
        truncated: completions that were cut.
        tally: the counts of :func:`count_answers`, and ``gap``, the summed difference in nats of
            sampler and model on ``compared`` tokens, ``compared_in_16_bits`` of them.
        sampled: completions of each example, int ``[B]``, where they differ; the reliability is
            that of equally many and NaN then.
        largest_gap: mean difference that is allowed; default: 0.02, or 0.2 in 16 bits.

    Returns:
        ``sampler_gap``, ``reliability``, and shares of completions: ``cut``, ``unanswered``,
        ``unanswered_flexible``, ``accuracy_flexible``. Empty if nothing was sampled.

    Raises:
        ModelError: if the sampler and the model in training disagree by more than is allowed, on
            at least 16 tokens where they were read in 16 bits.
    """
    if correct is None or not correct.size or not tally:
        return {}
    compared = tally.get("compared", 0)
    gap = tally.get("gap", 0.0) / compared if compared else 0.0
    short = bool(tally.get("compared_in_16_bits"))
    allowed = largest_gap or (0.2 if short else 0.02)
    # in 16 bits a single unlikely token may differ by a nat: a few of them prove nothing
    enough = not short or largest_gap is not None or compared >= _FEWEST or np.isnan(gap)
    if enough and not gap <= allowed:
        raise ModelError(
            f"The sampler and the model in training disagree on {compared:.0f} sampled tokens by "
            f"{gap:.3g} nats per token; expected at most {allowed:.3g}. The sampler runs stale or "
            "other weights: load it again, or allow more with scoring.largest_gap."
        )
    count = correct.size if sampled is None else int(sampled.sum())
    counted = ("unanswered", "unanswered_flexible", "accuracy_flexible")
    return {
        "sampler_gap": gap,
        "reliability": sampling_reliability(correct) if sampled is None else float("nan"),
        "cut": truncated / count,
        **{name: tally.get(name, 0) / count for name in counted},
    }
