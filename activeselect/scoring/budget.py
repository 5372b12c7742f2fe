"""Which train examples to sample how often, and what unequal counts say about premem (numpy).

A policy is asked in turns within a round, ``ask`` -> sample -> count -> ``ask`` again, until it
asks for nothing. It is a pure function of the counts, so a resumed run asks for the same samples,
and a recorded run can be replayed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import blake2b
from typing import ClassVar, Protocol

import numpy as np

from activeselect.arrays import FloatArray, IntArray
from activeselect.scoring.memorizing import memorized_next
from activeselect.scoring.trajectory import Counts, beliefs, best_open
from activeselect.scoring.walk import ACCURACY

TURN = 3  # each turn samples at least one in so many open examples; smaller ones pay too little
LATER = 0.1  # worth of a sample in a round that is not an example's last open one


class SamplingPolicy(Protocol):
    """Decides how often to sample, and reads the counts."""

    name: ClassVar[str]

    def ask(self, counts: Counts) -> IntArray:
        """Further samples wanted now in the last round of ``counts``, int ``[N]``; 0 = enough.

        Args:
            counts: rounds so far, the current one last, its NLLs measured. An example whose NLL is
                NaN there is not asked for.
        """
        ...

    def premem(self, counts: Counts) -> FloatArray:
        """Pre-memorization accuracy at each example's last measured round, ``[N]``; NaN if none."""
        ...

    def accuracy(self, counts: Counts) -> FloatArray:
        """Accuracy at each example's last measured round, sampled or estimated, ``[N]``."""
        ...


@dataclass(frozen=True)
class Exact:
    """The paper's protocol: every example, the same number of samples in every round."""

    name: ClassVar[str] = "exact"
    samples: int
    tau: float

    def ask(self, counts: Counts) -> IntArray:
        return np.where(counts.measured[-1], self.samples - counts.sampled[-1], 0)

    def premem(self, counts: Counts) -> FloatArray:
        last = counts.latest(counts.accuracy)
        premem: FloatArray = np.minimum(_best_masked(counts, self.tau), last)
        return premem

    def accuracy(self, counts: Counts) -> FloatArray:
        return counts.latest(counts.accuracy)


@dataclass(frozen=True)
class SkipMemorized:
    """As the paper, but a memorized example is not sampled and keeps its best accuracy.

    That is exact where the best masked accuracy is 0. Elsewhere it is wrong only if the accuracy
    of a memorized example falls below its best.

    Example:
        >>> nll = np.array([[0.5, 0.5], [0.4, 0.05]])
        >>> counts = Counts(np.array([[1, 3], [0, 0]]), np.array([[4, 4], [0, 0]]), nll)
        >>> SkipMemorized(samples=4, tau=0.1).ask(counts).tolist()
        [4, 0]
    """

    name: ClassVar[str] = "skip-memorized"
    samples: int
    tau: float

    def ask(self, counts: Counts) -> IntArray:
        opened = counts.mean_nll[-1] >= self.tau
        return np.where(opened, self.samples - counts.sampled[-1], 0)

    def premem(self, counts: Counts) -> FloatArray:
        best = _best_masked(counts, self.tau)
        last, nll = counts.latest(counts.accuracy), counts.latest(counts.mean_nll)
        premem = np.where(nll >= self.tau, np.minimum(best, last), best)
        return np.where(np.isnan(nll), np.nan, premem)

    def accuracy(self, counts: Counts) -> FloatArray:
        """Of a memorized example its best one, as in :meth:`premem`."""
        last = counts.latest(counts.accuracy)
        return np.where(np.isnan(last), self.premem(counts), last)


@dataclass(frozen=True)
class Adaptive:
    """Memorized examples are skipped; the others share a budget, most where it tells most.

    A further sample is worth the squared error that it is expected to take off what matters of an
    example: its rank, or on which side of the strategy's ``threshold`` it lies. It counts fully in
    the round after which the example is memorized, or the last; the chance of that follows from how
    far NLLs fell in the last round. Accuracies are carried over rounds
    (:mod:`activeselect.scoring.trajectory`).

    What is left of the budget is divided over this round and those to come as the square root of
    that worth, for the examples that are expected to be open then.

    Args:
        samples: at most per example and round.
        tau: memorization threshold, nats per token.
        rounds: planned.
        share: at most, of what the exact protocol takes: ``samples`` of every measured example,
            with as many in each round to come as in the current one.
        threshold: of the strategy's decision, an accuracy; None = the order matters.
        resolution: premem as this many samples per round would show it; None = ``samples``.
    """

    name: ClassVar[str] = "adaptive"
    samples: int
    tau: float
    rounds: int
    share: float = 0.2
    threshold: float | None = None
    resolution: int | None = None
    _known: dict[bytes, FloatArray] = field(default_factory=dict, repr=False, compare=False)
    _last: list[tuple[Counts, tuple[FloatArray, FloatArray]]] = field(
        default_factory=list, repr=False, compare=False
    )

    def ask(self, counts: Counts) -> IntArray:
        opened = counts.mean_nll[-1] >= self.tau
        sampled = counts.sampled[-1]
        free = opened & (sampled < self.samples)
        left = min(
            self.allowance(counts) - int(sampled.sum()), int((self.samples - sampled)[free].sum())
        )
        if left < 1:
            return np.zeros(len(sampled), dtype=np.int64)
        belief = beliefs(counts, self._before(counts), fit=False)
        worth = np.where(free, gain(belief, self._matters(belief[opened])), -np.inf)
        worth = worth * self._counts_for(counts)
        turn = min(int(free.sum()), max(left // 2, min(left, int(opened.sum()) // TURN), 1))
        least = -np.partition(-worth, turn - 1)[turn - 1]
        asked = free & (worth >= least)
        # equals are asked together or not at all: the order of the examples must not matter
        return np.asarray(
            asked if int(asked.sum()) <= left else free & (worth > least),
            dtype=np.int64,
        )

    def allowance(self, counts: Counts) -> int:
        """Samples that the current round may take in all."""
        measured, opened = counts.measured, counts.mean_nll[-1] >= self.tau
        rounds_left = max(self.rounds - len(measured), 0)
        exact = self.samples * (measured.sum() + rounds_left * measured[-1].sum())
        budget = self.share * exact - counts.sampled[:-1].sum()
        if not rounds_left or not opened.any():
            return int(budget)
        need = np.sqrt(self._counts_for(counts)[opened]).mean()
        stay = 1 - memorized_next(counts, self.tau)[opened].mean()
        to_come = sum(need * stay**k for k in range(1, rounds_left)) + stay**rounds_left
        return int(budget * need / (need + to_come))

    def premem(self, counts: Counts) -> FloatArray:
        best, belief = self._fitted(counts)
        nll = counts.latest(counts.mean_nll)
        premem = np.where(nll >= self.tau, belief @ ACCURACY, best)
        return np.where(np.isnan(nll), np.nan, premem)

    def accuracy(self, counts: Counts) -> FloatArray:
        """Posterior mean; of an example that was not sampled, what earlier rounds and NLLs say."""
        known = counts.measured.any(axis=0)
        return np.where(known, self._fitted(counts)[1] @ ACCURACY, np.nan)

    def _fitted(self, counts: Counts) -> tuple[FloatArray, FloatArray]:
        """:func:`best_open`, kept: premem and accuracy of a round come from the same fits."""
        if not self._last or self._last[0][0] is not counts:
            found = best_open(counts, self.tau, self.resolution or self.samples)
            self._last[:] = [(counts, found)]
        return self._last[0][1]

    def _counts_for(self, counts: Counts) -> FloatArray:
        """What a sample of the last round counts for each example, ``[N]``."""
        if len(counts.right) >= self.rounds:
            return np.ones(counts.right.shape[1])
        return LATER + (1 - LATER) * memorized_next(counts, self.tau)

    def _matters(self, belief: FloatArray) -> FloatArray:
        """What matters about each accuracy of the grid: its rank, or its side, ``[G]``."""
        if self.threshold is not None:
            return (self.threshold <= ACCURACY).astype(np.float64)
        population = belief.mean(axis=0)
        rank: FloatArray = np.cumsum(population) - population / 2
        return rank

    def _before(self, counts: Counts) -> FloatArray | None:
        """Beliefs before the current round; kept, because every turn of the round needs them."""
        if len(counts.right) == 1:
            return None
        earlier = counts.before(len(counts.right) - 1)
        digest = blake2b()
        for known in (earlier.right, earlier.sampled, earlier.mean_nll, earlier.features):
            digest.update(b"" if known is None else known.tobytes())
        key = digest.digest()
        if key not in self._known:
            self._known.clear()
            self._known[key] = beliefs(earlier)
        return self._known[key]


def gain(belief: FloatArray, value: FloatArray) -> FloatArray:
    """Squared error that one more sample is expected to take off ``value`` of each example.

    With y the outcome of that sample, it is the variance over y of ``E[value | y]``.

    Args:
        belief: distribution over ``ACCURACY``, ``[N, G]``.
        value: of each accuracy, ``[G]``.
    """
    right = belief @ ACCURACY
    if_right = belief @ (ACCURACY * value) / right
    if_wrong = belief @ ((1 - ACCURACY) * value) / (1 - right)
    worth: FloatArray = right * (1 - right) * (if_right - if_wrong) ** 2
    return worth


def _best_masked(counts: Counts, tau: float) -> FloatArray:
    accuracy = np.where(counts.sampled > 0, counts.accuracy, 0.0)
    best: FloatArray = np.where(counts.mean_nll >= tau, accuracy, 0.0).max(axis=0)
    return best


POLICIES: dict[str, type[Exact] | type[SkipMemorized] | type[Adaptive]] = {
    policy.name: policy for policy in (Exact, SkipMemorized, Adaptive)
}


def systematic_subset(mean_nll: FloatArray, share: float, rng: np.random.Generator) -> IntArray:
    """A subset that is spread evenly over the NLLs; every example is in it with the same chance.

    So the mean over the subset is an unbiased estimate of the mean over all, closer than that of a
    simple random subset. For dataset-level use; take the same subset in every round.

    Args:
        mean_nll: of the first round, ``[N]``.
        share: part of the examples, in (0, 1].
        rng: of the starting point.

    Returns:
        sorted positions, int64 ``[about share * N]``.
    """
    if not 0 < share <= 1:
        raise ValueError(f"share must lie in (0, 1]; received {share}")
    order = np.argsort(mean_nll, kind="stable")
    marks = np.floor(np.arange(len(order) + 1) * share + rng.random())
    return np.sort(order[np.diff(marks) > 0])
