"""Pre-memorization accuracy and its relatives as pure functions of arrays (numpy only)."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from activeselect.arrays import FloatArray, IntArray


def pre_memorization_accuracy(accuracy: ArrayLike, mean_nll: ArrayLike, tau: float) -> FloatArray:
    """Per-example pre-memorization train accuracy after every scored round.

    Below ``tau`` the reference trace counts as memorized and the sampled accuracy of that round
    is masked to 0; ``premem[r] = min(max over r' <= r of masked[r'], accuracy[r])``.

    Args:
        accuracy: share of an example's sampled completions whose final answer is right,
            in [0, 1], shape ``[R, N]``; NaN where an example was not scored in a round.
        mean_nll: mean negative log-likelihood of the reference trace, nats per token,
            shape ``[R, N]``; NaN where not scored.
        tau: memorization threshold, nats per token.

    Returns:
        float64 array ``[R, N]``; NaN where the accuracy or the NLL of that round is NaN.

    Raises:
        ValueError: if the shapes differ or are not two-dimensional, an accuracy lies outside
            [0, 1], or ``tau`` is negative or not finite.

    Source:
        Kang et al., arXiv 2411.07681, section 4.

    Example:
        >>> accuracy = [[0.2, 0.0], [0.6, 1.0], [1.0, 1.0]]
        >>> mean_nll = [[0.9, 0.9], [0.5, 0.04], [0.03, 0.01]]
        >>> pre_memorization_accuracy(accuracy, mean_nll, tau=0.1).tolist()
        [[0.2, 0.0], [0.6, 0.0], [0.6, 0.0]]
    """
    acc, nll = _checked(accuracy, mean_nll, tau)
    masked = np.where(nll >= tau, acc, np.where(np.isnan(acc) | np.isnan(nll), np.nan, 0.0))
    best = np.fmax.accumulate(masked, axis=0)
    premem: FloatArray = np.where(np.isnan(masked), np.nan, np.minimum(best, acc))
    return premem


def skip_memorized(
    right: IntArray, sampled: IntArray, mean_nll: FloatArray, tau: float
) -> tuple[FloatArray, FloatArray]:
    """Accuracy and premem of the last round where memorized examples are not sampled.

    A memorized example keeps its best masked accuracy as both. That is exact where the best masked
    accuracy is 0. Elsewhere it is wrong only if the example's accuracy has fallen below its best.

    Args:
        right: completions with the right answer, int ``[R, B]``.
        sampled: completions sampled, int ``[R, B]``.
        mean_nll: of the reference trace, nats per token, ``[R, B]``; NaN where not measured.
        tau: memorization threshold, nats per token.

    Returns:
        accuracy and premem of the last round, float64 ``[B]`` each.

    Example:
        >>> right, sampled = np.array([[1, 3], [2, 0]]), np.array([[4, 4], [4, 0]])
        >>> nll = np.array([[0.5, 0.5], [0.4, 0.05]])
        >>> [values.tolist() for values in skip_memorized(right, sampled, nll, tau=0.1)]
        [[0.5, 0.75], [0.5, 0.75]]
    """
    known = sampled > 0
    accuracy = np.where(known, right / np.maximum(sampled, 1), np.nan)
    opened = mean_nll >= tau
    best = np.where(opened & known, accuracy, 0.0).max(axis=0)
    premem = np.where(opened[-1], np.minimum(best, accuracy[-1]), best)
    premem = np.where(np.isnan(mean_nll[-1]), np.nan, premem)
    return np.where(np.isnan(accuracy[-1]), premem, accuracy[-1]), premem


def _checked(accuracy: ArrayLike, mean_nll: ArrayLike, tau: float) -> tuple[FloatArray, FloatArray]:
    acc = np.asarray(accuracy, dtype=np.float64)
    nll = np.asarray(mean_nll, dtype=np.float64)
    if acc.ndim != 2 or acc.shape != nll.shape:
        raise ValueError(
            "accuracy and mean_nll must both have shape [rounds, examples]; "
            f"received {acc.shape} and {nll.shape}"
        )
    if not np.isfinite(tau) or tau < 0:
        raise ValueError(f"tau must be finite and at least 0 nats per token; received {tau}")
    if np.any((acc < 0) | (acc > 1)):
        raise ValueError(
            f"accuracy must lie in [0, 1]; received {np.nanmin(acc)} to {np.nanmax(acc)}"
        )
    return acc, nll
