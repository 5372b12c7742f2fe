"""Slow, plain versions of what the strategies over vectors do; loops over pairs, no trees."""

from __future__ import annotations

import math

import numpy as np


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    """Of two vectors, in float64."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    return float(a @ b / math.sqrt((a @ a) * (b @ b)))


def k_center(vectors: np.ndarray, centres: list[int], candidates: list[int], size: int) -> set[int]:
    """The greedy rule: again and again the candidate farthest from its nearest centre."""
    centres, left = list(centres), list(candidates)
    for _ in range(size):
        farthest = max(left, key=lambda i: min(1 - cosine(vectors[i], vectors[j]) for j in centres))
        left.remove(farthest)
        centres.append(farthest)
    return set(centres) & set(candidates)


def coverage(vectors: np.ndarray, chosen: list[int], candidates: list[int]) -> float:
    """Summed similarity of each candidate to the nearest chosen one."""
    return sum(max([0.0, *(cosine(vectors[i], vectors[j]) for j in chosen)]) for i in candidates)


def facility_location(
    vectors: np.ndarray, train: list[int], candidates: list[int], size: int
) -> set[int]:
    """The greedy rule over all pairs, every gain computed anew."""
    chosen = list(train)
    for _ in range(size):
        left = [i for i in candidates if i not in chosen]
        chosen.append(max(left, key=lambda i: coverage(vectors, [*chosen, i], candidates)))
    return set(chosen) - set(train)


def less(vectors: np.ndarray, targets: list[list[int]], candidates: list[int]) -> list[float]:
    """Largest cosine to the mean unit gradient of a target group."""
    means = []
    for target in targets:
        units = [vectors[i] / math.sqrt(float(vectors[i] @ vectors[i])) for i in target]
        means.append(sum(units) / len(units))
    return [max(cosine(vectors[i], mean) for mean in means) for i in candidates]
