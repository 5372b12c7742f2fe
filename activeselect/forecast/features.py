"""Features of the forecast, computed from what a run recorded about its train examples.

Two changes to the paper's metric, both measured in docs/research/forecast.md:

* sampled accuracies are first shrunk until they spread as the true ones do (`shrink_accuracy`),
  because the metric is made of maxima and minima of them, and those depend on how much noise is in;
* the threshold is ``tau = max(floor, ratio x scale)``, where ``scale`` is the mean NLL at the run's
  first scored checkpoint: a run that starts out with a high NLL memorizes at a higher one.

`feature_matrix` has one column per candidate ``(floor, ratio)``; which column is used is a choice
of the regressor, made on the runs it is fitted on.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from activeselect.arrays import FloatArray
from activeselect.scoring.functional import pre_memorization_accuracy

FEATURES_VERSION = 1


@dataclass(frozen=True)
class MaskSetting:
    """One way to decide that a reference trace is memorized.

    Attributes:
        floor: smallest threshold, nats per token.
        ratio: threshold as a share of the mean NLL at the run's first scored checkpoint.

    Example:
        >>> MaskSetting(floor=0.09, ratio=0.25).tau(scale=0.6)
        0.15
        >>> MaskSetting(floor=0.09, ratio=0.25).tau(scale=0.3)
        0.09
    """

    floor: float
    ratio: float

    def tau(self, scale: float) -> float:
        """Return the threshold in nats per token for a run of this scale (nats per token)."""
        return max(self.floor, self.ratio * scale)


# Exact ties between columns go to the first. Ratios near 0.25 come first, and high floors do: where
# every run seen has a threshold above the floor, any lower floor does as well, and the highest one
# does not lower the threshold of a run with a lower NLL beyond what was seen.
RATIOS = (0.25, 0.2, 0.3, 0.15, 0.35, 0.1, 0.4, 0.0)
FLOORS = tuple(round(float(np.exp(x / 10)), 6) for x in range(-45, 1))
SETTINGS: tuple[MaskSetting, ...] = tuple(MaskSetting(f, r) for r in RATIOS for f in FLOORS[::-1])


def shrink_accuracy(accuracy: ArrayLike, samples: ArrayLike) -> FloatArray:
    """Shrink sampled accuracies until they spread as much as the true ones do.

    Sampled shares spread more than the accuracies behind them (beta-binomial model); posterior
    means spread less. The metric takes maxima and minima of them, so their spread matters: each is
    moved towards its round's mean by the square root of the posterior mean's factor, which makes
    their variance that of the true accuracies. With many samples almost nothing changes. Rounds
    with one sample per example fall back to a prior worth one sample, as one sample cannot tell
    spread from noise.

    Args:
        accuracy: shares of right completions, ``[R, N]``; NaN where not sampled.
        samples: completions per example, a number or ``[R, N]``; ignored where accuracy is NaN.

    Returns:
        float64 ``[R, N]``; NaN where ``accuracy`` is.

    Source:
        Louis (1984), "Estimating a population of parameter values using Bayes and empirical Bayes
        methods"; Ghosh (1992), "Constrained Bayes estimation".

    Example:
        >>> shrink_accuracy([[0.0, 0.5, 1.0]], 2).round(3).tolist()
        [[0.146, 0.5, 0.854]]
    """
    acc = np.asarray(accuracy, dtype=np.float64)
    count = np.broadcast_to(np.asarray(samples, dtype=np.float64), acc.shape)
    result = acc.copy()
    for row, n, out in zip(acc, count, result, strict=True):
        seen = ~np.isnan(row)
        if seen.sum() < 2:
            continue
        mean = float(row[seen].mean())
        weight = prior_weight(row[seen], n[seen])
        moved = mean + np.sqrt(n[seen] / (n[seen] + weight)) * (row[seen] - mean)
        out[seen] = np.clip(moved, 0.0, 1.0)  # rounding may step over the edge
    return result


def prior_weight(accuracy: FloatArray, samples: FloatArray) -> float:
    """Return the weight, in samples, of the beta prior that fits one round (alpha + beta).

    Its mean and variance are those of the true accuracies, by moments (Kleinman 1973).

    Args:
        accuracy: sampled shares, ``[N]``, none NaN.
        samples: completions per example, ``[N]``.

    Example:
        >>> round(prior_weight(np.array([0.0, 0.5, 1.0]), np.array([2.0, 2.0, 2.0])), 6)
        2.0
    """
    mean = float(accuracy.mean())
    binomial = mean * (1 - mean)
    noise = float(np.mean(1 / samples))
    if binomial <= 0:
        return 0.0
    if noise > 0.999:
        return 1.0
    spread = (float(accuracy.var()) - binomial * noise) / (1 - noise)
    # No spread beyond sampling noise: every example gets (almost) the mean.
    return binomial / max(spread, 1e-6) - 1 if spread < binomial else 0.0


def infer_samples(accuracy: ArrayLike, largest: int = 1000) -> int:
    """Return the smallest number of samples that explains all accuracies as shares of it.

    Raises:
        ValueError: if no number up to ``largest`` does.

    Example:
        >>> infer_samples([[0.25, 0.5, 1.0]])
        4
    """
    values = np.asarray(accuracy, dtype=np.float64)
    values = np.unique(values[~np.isnan(values)])
    for n in range(1, largest + 1):
        # Stored as 32-bit floats, a share is off by about 1e-7.
        if np.all(np.abs(values * n - np.rint(values * n)) < 1e-5 + 2e-7 * n):
            return n
    raise ValueError(f"accuracies are not shares of at most {largest} samples; pass `samples`")


def run_scale(mean_nll: ArrayLike) -> float:
    """Return the mean NLL (nats per token) at the first checkpoint that has any, from ``[R, N]``.

    Raises:
        ValueError: if nothing was scored.
    """
    for row in np.asarray(mean_nll, dtype=np.float64):
        if not np.all(np.isnan(row)):
            return float(np.nanmean(row))
    raise ValueError("mean_nll has no value: expected at least one scored checkpoint")


def dataset_premem(accuracy: ArrayLike, mean_nll: ArrayLike, tau: float) -> FloatArray:
    """Return the mean pre-memorization accuracy after every round, ``[R]``.

    An example whose NLL is known but that was not sampled in a round (a scorer skips memorized
    examples) keeps its best value so far; one that was not visited at all in a round keeps its
    last value; one never visited does not count.

    Args:
        accuracy: ``[R, N]`` in [0, 1]; NaN where not sampled.
        mean_nll: nats per token, ``[R, N]``; NaN where not scored.
        tau: threshold, nats per token.

    Source:
        Kang et al., arXiv 2411.07681, section 4.

    Example:
        >>> nan = float("nan")
        >>> dataset_premem([[0.4, 0.0], [nan, 1.0]], [[0.9, 0.9], [0.01, 0.5]], 0.1).tolist()
        [0.2, 0.7]
    """
    acc, nll = np.array(accuracy, dtype=np.float64), np.array(mean_nll, dtype=np.float64)
    if acc.shape == nll.shape:  # else the metric says so
        skipped = np.isnan(acc) & ~np.isnan(nll)
        # A negative NLL is masked at any tau, accuracy 1 caps nothing: the best so far remains.
        acc[skipped], nll[skipped] = 1.0, -1.0
    premem = pre_memorization_accuracy(acc, nll, tau)
    return _mean_of_last(premem)


def _mean_of_last(values: FloatArray) -> FloatArray:
    """Mean over examples of each example's last known value, per round."""
    if not np.isnan(values).any():
        return np.asarray(values.mean(axis=1))
    last = np.full(values.shape[1], np.nan)
    means = np.full(len(values), np.nan)
    for r, row in enumerate(values):
        last = np.where(np.isnan(row), last, row)
        if not np.all(np.isnan(last)):
            means[r] = np.nanmean(last)
    return means


def _shrink_with_skips(accuracy: ArrayLike, mean_nll: ArrayLike, samples: ArrayLike) -> FloatArray:
    """`shrink_accuracy`, where an example skipped because it is memorized counts as right.

    Those left are the ones not memorized: their mean alone would be too low a centre.
    """
    acc, nll = np.array(accuracy, dtype=np.float64), np.asarray(mean_nll, dtype=np.float64)
    if np.isnan(acc).all():
        raise ValueError("accuracy has no value: expected at least one sampled example")
    if acc.shape != nll.shape:
        return acc  # the metric says what is wrong
    count = np.array(np.broadcast_to(np.asarray(samples, dtype=np.float64), acc.shape))
    skipped = np.isnan(acc) & ~np.isnan(nll)
    acc[skipped], count[skipped] = 1.0, count.max()
    shrunk = shrink_accuracy(acc, count)
    shrunk[skipped] = np.nan
    return shrunk


def feature_matrix(
    accuracy: ArrayLike,
    mean_nll: ArrayLike,
    samples: ArrayLike | None = None,
    settings: tuple[MaskSetting, ...] = SETTINGS,
) -> FloatArray:
    """Return the metric of every checkpoint under every candidate mask setting.

    Only what was known at a checkpoint enters its row: a later one never changes an earlier one.

    Args:
        accuracy: ``[R, N]``, in [0, 1]; NaN where not sampled.
        mean_nll: nats per token, ``[R, N]``; NaN where not scored.
        samples: completions per example, a number or ``[R, N]``; inferred if not given.
        settings: the candidates, one column each.

    Returns:
        float64 ``[R, len(settings)]``, each value in [0, 1].

    Raises:
        ValueError: if the shapes differ, values lie outside their range, or nothing was scored.

    Example:
        >>> feature_matrix([[0.2, 0.6], [0.8, 1.0]], [[0.9, 0.8], [0.3, 0.01]]).shape
        (2, 368)
    """
    count = infer_samples(accuracy) if samples is None else samples
    shrunk = _shrink_with_skips(accuracy, mean_nll, count)
    scale = run_scale(mean_nll)
    taus = np.array([setting.tau(scale) for setting in settings])
    unique, column = np.unique(taus, return_inverse=True)
    values = [dataset_premem(shrunk, mean_nll, float(tau)) for tau in unique]
    return np.stack(values, axis=1)[:, column]
