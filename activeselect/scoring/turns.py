"""A scored round under a sampling policy: ask, sample, count, ask again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from activeselect.arrays import FloatArray, IntArray
from activeselect.config import ScoringConfig
from activeselect.config.rounds import SHARE
from activeselect.scoring.budget import (
    POLICIES,
    Adaptive,
    Exact,
    SamplingPolicy,
    SkipMemorized,
    systematic_subset,
)
from activeselect.scoring.scorer import Scores
from activeselect.scoring.trajectory import Counts

#: Completes some rows of a round, int ``[K]``, that many times each, from each one's completion
#: number ``[K]`` on.
Complete = Callable[[IntArray, int, IntArray], Scores]


def policy_of(
    config: ScoringConfig, *, rounds: int, threshold: float | None = None
) -> SamplingPolicy:
    """The policy that a config names.

    Args:
        rounds: so far and planned, for ``adaptive``.
        threshold: accuracy at which the strategy's decision turns, for ``adaptive``.

    Example:
        >>> policy_of(ScoringConfig(policy="skip-memorized", samples=4), rounds=1)
        SkipMemorized(samples=4, tau=0.1)
    """
    kind = POLICIES[config.policy]
    if kind is Adaptive:
        share = config.share or SHARE
        return Adaptive(config.samples, config.tau, rounds, share, threshold)
    assert kind in (Exact, SkipMemorized)
    return kind(config.samples, config.tau)


def sample_in_turns(
    ask: Callable[[Counts], IntArray],
    earlier: tuple[IntArray, IntArray, FloatArray],
    measured: Scores,
    complete: Complete,
    features: FloatArray | None = None,
) -> tuple[Scores, Counts]:
    """One round of B examples, whose likelihoods are measured.

    Args:
        ask: further completions wanted of each, given the counts so far, int ``[B]``.
        earlier: right and sampled completions and mean NLL of the rounds before, ``[R, B]`` each.
        measured: the likelihoods, and whatever else was measured without sampling.
        complete: makes the completions.
        features: of the examples' texts, ``[B, F]``.

    Returns:
        ``measured`` with the completions' outcomes, and the counts, the round itself last.
    """
    size = len(measured.index)
    scores = replace(
        measured,
        correct=np.zeros((size, 0), dtype=np.bool_),
        sampled=np.zeros(size, dtype=np.int64),
        completions=((),) * size,
    )
    while True:
        counts = _counts(earlier, scores, features)
        asked = ask(counts)
        if not asked.any():
            return scores, counts
        for samples in np.unique(asked[asked > 0]):
            rows = np.flatnonzero(asked == samples)
            assert scores.sampled is not None
            scores = _with(scores, rows, complete(rows, int(samples), scores.sampled[rows]))


def within_subset(
    ask: Callable[[Counts], IntArray], share: float, *, seed: int
) -> Callable[[Counts], IntArray]:
    """Let a policy see and ask for a part of the examples only, the same in every round.

    The part is spread evenly over the NLLs of each example's first measured round
    (:func:`~activeselect.scoring.budget.systematic_subset`); whatever estimates accuracies from the
    counts imputes the others.

    Args:
        ask: the policy's.
        share: part of the examples, in (0, 1].
        seed: of where each subset starts.
    """

    def asked(counts: Counts) -> IntArray:
        first = counts.measured.argmax(axis=0)  # round in which each was first measured
        chosen = []
        for round in np.unique(first[counts.measured[-1]]):
            cohort = np.flatnonzero((first == round) & counts.measured[-1])
            rng = np.random.default_rng([seed, int(round), 10])
            chosen.append(cohort[systematic_subset(counts.mean_nll[round, cohort], share, rng)])
        some = np.sort(np.concatenate(chosen)) if chosen else np.arange(0)
        wanted = np.zeros(counts.right.shape[1], dtype=np.int64)
        if len(some):
            features = None if counts.features is None else counts.features[some]
            part = (counts.right[:, some], counts.sampled[:, some], counts.mean_nll[:, some])
            wanted[some] = ask(Counts(*part, features))
        return wanted

    return asked


def _counts(
    earlier: tuple[IntArray, IntArray, FloatArray], scores: Scores, features: FloatArray | None
) -> Counts:
    assert scores.sampled is not None
    if scores.nll_sum is None or scores.tokens is None:
        raise ValueError("a sampling policy needs the likelihood of every example of the round")
    now = (scores.right, scores.sampled, scores.nll_sum / scores.tokens)
    right, sampled, mean_nll = (np.vstack(pair) for pair in zip(earlier, now, strict=True))
    return Counts(right, sampled, mean_nll, features)


def _with(scores: Scores, rows: IntArray, more: Scores) -> Scores:
    """``scores`` with further completions of some rows."""
    assert scores.correct is not None
    assert scores.sampled is not None
    assert more.correct is not None
    new = more.correct.shape[1]
    width = int(scores.sampled[rows].max()) + new
    correct = np.pad(scores.correct, ((0, 0), (0, max(0, width - scores.correct.shape[1]))))
    places = scores.sampled[rows, None] + np.arange(new)
    correct[rows[:, None], places] = more.correct
    sampled = scores.sampled.copy()
    sampled[rows] += new
    texts = list(scores.completions or ())
    for row, text in zip(rows.tolist(), more.completions or [()] * len(rows), strict=True):
        texts[row] += text
    tally = {
        name: scores.tally.get(name, 0) + more.tally.get(name, 0)
        for name in sorted(scores.tally.keys() | more.tally.keys())
    }
    return replace(
        scores,
        correct=correct,
        sampled=sampled,
        completions=tuple(texts),
        tally=tally,
        tokens_generated=scores.tokens_generated + more.tokens_generated,
        truncated=scores.truncated + more.truncated,
        seconds=scores.seconds + more.seconds,
    )
