"""Slow, independent versions of sampling and drawing: plain Python, one outcome at a time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import permutations


def next_token_distribution(
    logits: Sequence[float], temperature: float, top_p: float
) -> list[float]:
    """Softmax at a temperature, cut to the nucleus (Holtzman et al. 2020), renormalised."""
    highest = max(logits)
    raw = [math.exp((value - highest) / temperature) for value in logits]
    probability = [value / sum(raw) for value in raw]
    kept: list[int] = []
    mass = 0.0
    for token in sorted(range(len(raw)), key=lambda t: (-probability[t], t)):
        if mass >= top_p:
            break
        kept.append(token)
        mass += probability[token]
    return [probability[t] / mass if t in kept else 0.0 for t in range(len(raw))]


def successive_draws(weight: Sequence[float], size: int) -> dict[tuple[int, ...], float]:
    """Probability of every outcome of drawing ``size`` positions one by one without replacement."""
    outcomes: dict[tuple[int, ...], float] = {}
    for order in permutations(range(len(weight)), size):
        left, chance = sum(weight), 1.0
        for position in order:
            chance *= weight[position] / left if left > 0 else 0.0
            left -= weight[position]
        outcomes[order] = chance
    return outcomes
