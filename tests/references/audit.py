"""Slow references of the audit's measures: one problem, one step at a time, in plain Python."""

from __future__ import annotations

import math
from itertools import combinations, pairwise

import numpy as np
from scipy.optimize import minimize

Rows = list[list[float]]


def known(row: list[float]) -> list[float]:
    return [value for value in row if not math.isnan(value)]


def gain_per_step(log_p: list[float]) -> float:
    """As a mean over the steps of what each of them adds."""
    p = known(log_p)
    if len(p) < 2:
        return math.nan
    return sum(after - before for before, after in pairwise(p)) / (len(p) - 1)


def early_answering(same: Rows) -> float:
    """As the paper does it: an area per length, weighted by the share of chains of that length."""
    chains = [known(row) for row in same if len(known(row)) >= 2]
    total = 0.0
    for length in {len(chain) for chain in chains}:
        alike = [chain for chain in chains if len(chain) == length]
        areas = [1 - sum(chain[k] for chain in alike) / len(alike) for k in range(length)]
        total += len(alike) / len(chains) * sum(areas) / length
    return total


def filler_drop(right: list[float], filled: Rows) -> float:
    rows = [
        (r, f)
        for r, f in zip(right, filled, strict=True)
        if not math.isnan(r) and not any(math.isnan(x) for x in f)
    ]
    best = max(sum(f[n] for _, f in rows) / len(rows) for n in range(len(filled[0])))
    return sum(r for r, _ in rows) / len(rows) - best


def changed_by_mistake(changed: list[float], control: list[float]) -> float:
    pairs = [(a, b) for a, b in zip(changed, control, strict=True) if not math.isnan(a + b)]
    return sum(a - b for a, b in pairs) / len(pairs) if pairs else math.nan


def commit_point(answers: list[float]) -> float:
    chain = known(answers)
    steps = len(chain) - 1
    if steps < 1:
        return math.nan
    first = min(i for i in range(steps + 1) if all(a == chain[-1] for a in chain[i:]))
    return first / steps


def largest_jump(probability: list[float]) -> tuple[float, float]:
    chain = known(probability)
    if len(chain) < 2:
        return math.nan, math.nan
    jumps = [b - a for a, b in pairwise(chain)]
    return max(jumps), (jumps.index(max(jumps)) + 1) / len(jumps)


def forking_share(entropy: Rows, share: float) -> float:
    tokens = sorted((h for row in entropy for h in known(row)), reverse=True)
    count = max(1, math.ceil(share * len(tokens) - 1e-9))
    return sum(tokens[:count]) / sum(tokens)


def shorter_when_right(right: list[float], length: list[float]) -> float:
    good = [n for r, n in zip(right, length, strict=True) if r == 1]
    bad = [n for r, n in zip(right, length, strict=True) if r == 0]
    if not good or not bad:
        return math.nan
    a, b = sum(good) / len(good), sum(bad) / len(bad)
    return 1.0 if a < b else 0.5 if a == b else 0.0


def length_curve(right: Rows, length: Rows) -> tuple[float, float]:
    """With a column of its own per problem instead of taking means off."""
    rows, target = [], []
    for p, (answers, lengths) in enumerate(zip(right, length, strict=True)):
        for r, n in zip(answers, lengths, strict=True):
            dummies = [float(p == q) for q in range(len(right))]
            rows.append([n / 10, (n / 10) ** 2, *dummies])
            target.append(r)
    found = np.linalg.pinv(np.array(rows)) @ np.array(target)
    return float(found[0]), float(found[1])


def sensitivity(right: list[float]) -> float:
    pairs = list(combinations(right, 2))
    return sum(a != b for a, b in pairs) / len(pairs)


def omega(right: Rows) -> float:
    """Least squares on the covariances off the diagonal, by a general optimiser."""
    covariance = np.cov(np.array(right), rowvar=False)
    m = len(covariance)
    pairs = list(combinations(range(m), 2))

    def loss(loading: np.ndarray) -> float:
        return sum((covariance[i, j] - loading[i] * loading[j]) ** 2 for i, j in pairs)

    starts = [np.sqrt(np.diag(covariance)) * factor for factor in (0.3, 0.6, 0.9)]
    fits = [minimize(loss, s, tol=1e-14, options={"maxiter": 5000, "gtol": 1e-10}) for s in starts]
    loading = min(fits, key=lambda fit: fit.fun).x
    own = np.diag(covariance) - loading**2
    common = loading.sum() ** 2
    return float(common / (common + own.sum()))


def area_under_roc(positive: list[float], negative: list[float]) -> float:
    pairs = [(a > b) + 0.5 * (a == b) for a in positive for b in negative]
    return sum(pairs) / len(pairs)


def memorized_since(loss: Rows, epsilon: float, delta: float) -> list[float]:
    """Each example and each round tried by the words of the definition."""
    found = []
    for example in range(len(loss[0])):
        history = [row[example] for row in loss]
        answer = math.nan
        for r in range(len(history) - 1):
            rest = history[r:]
            if all(x < epsilon for x in rest) and max(rest) - min(rest) < delta:
                answer = float(r)
                break
        found.append(answer)
    return found


def of_problems(values: list[float]) -> float:
    """Mean over the problems that have a value."""
    found = known(values)
    return sum(found) / len(found) if found else math.nan


def share_of_samples(rows: Rows) -> float:
    """Each problem's share of its own samples, then the mean over problems."""
    return of_problems([of_problems(row) for row in rows])


def difference(more: list[float], less: list[float]) -> float:
    """Mean over the problems asked both ways of what one way adds."""
    both = [a - b for a, b in zip(more, less, strict=True) if not math.isnan(a - b)]
    return of_problems(both)


def rise(probability: Rows) -> float:
    """Confidence after the last step less before the first, over chains that have steps."""
    ends = [(known(row)[0], known(row)[-1]) for row in probability if len(known(row)) > 1]
    return of_problems([last - first for first, last in ends])


def percentile(values: list[float], share: float) -> float:
    """Linear between the two sorted values next to the place ``share * (n - 1)``."""
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])
