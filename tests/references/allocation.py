"""Slow, independent versions of the allocation over groups: plain Python, one number at a time."""

from __future__ import annotations

import math
from collections.abc import Sequence


def evidence(
    rows: Sequence[Sequence[float]], groups: Sequence[int], group: int
) -> list[tuple[int, int, float]]:
    """Per row that measures something: trained on before, measured, sum of shares, of a group."""
    found, before = [], 0
    for row in rows:
        measured = [i for i, value in enumerate(row) if not math.isnan(value)]
        if measured:
            own = [i for i in measured if groups[i] == group]
            found.append((before, len(own), sum(row[i] for i in own)))
            before += len(own)
    return found


def accuracy(shape: Sequence[float], examples: float) -> float:
    """start + (ceiling - start) / (1 + (scale / n)^steepness)."""
    start, ceiling, scale, steepness = shape
    if examples == 0:
        return start
    return start + (ceiling - start) / (1 + (scale / examples) ** steepness)


def posterior(
    shapes: Sequence[Sequence[float]],
    prior: Sequence[float],
    measured: Sequence[Sequence[tuple[float, float, float]]],
    rounds: int,
) -> list[list[float]]:
    """Expectation maximization over the groups' common prior, which starts from ``prior``."""
    likelihood = []
    for own in measured:
        row = []
        for shape in shapes:
            product = 1.0
            for examples, trials, right in own:
                p = accuracy(shape, examples)
                product *= p**right * (1 - p) ** (trials - right)
            row.append(product)
        likelihood.append(row)
    common = list(prior)
    for _ in range(rounds):
        belief = []
        for row in likelihood:
            joint = [fit * share for fit, share in zip(row, common, strict=True)]
            belief.append([value / sum(joint) for value in joint])
        counted = [b for b, own in zip(belief, measured, strict=True) if any(t for _, t, _ in own)]
        common = [2 * prior[h] + sum(row[h] for row in counted) for h in range(len(prior))]
        common = [value / sum(common) for value in common]
    return belief


def best_split(gain: Sequence[Sequence[float]], room: Sequence[int], budget: int) -> float:
    """The largest total gain of any whole numbers that add up to the budget."""
    best = {0: 0.0}
    for own, limit in zip(gain, room, strict=True):
        reached: dict[int, float] = {}
        for spent, value in best.items():
            for n in range(min(limit, budget - spent) + 1):
                total = value + own[n]
                reached[spent + n] = max(reached.get(spent + n, -math.inf), total)
        best = reached
    return best[budget]
