"""Slow, independent versions of the metric and of the forecast's features: loops over plain lists.

``None`` stands for "not measured". Nothing here imports numpy or the package.
"""

from __future__ import annotations

import math

Value = float | None


def premem_of_example(accuracy: list[Value], nll: list[Value], tau: float) -> list[Value]:
    """Pre-memorization accuracy of one example after each round, read off the definition."""
    result: list[Value] = []
    for now in range(len(accuracy)):
        best: Value = None
        for earlier in range(now + 1):
            seen, loss = accuracy[earlier], nll[earlier]
            if seen is None or loss is None:
                continue
            masked = seen if loss >= tau else 0.0
            best = masked if best is None or masked > best else best
        current = accuracy[now]
        if current is None or nll[now] is None or best is None:
            result.append(None)
        else:
            result.append(min(best, current))
    return result


def dataset_premem(accuracy: list[list[float]], nll: list[list[float]], tau: float) -> list[float]:
    """Mean over examples after each round; tables are [rounds][examples], all measured."""
    rounds, examples = len(accuracy), len(accuracy[0])
    totals = [0.0] * rounds
    for i in range(examples):
        one = premem_of_example(
            [accuracy[r][i] for r in range(rounds)], [nll[r][i] for r in range(rounds)], tau
        )
        for r in range(rounds):
            totals[r] += one[r] or 0.0
    return [total / examples for total in totals]


def shrunk(accuracy: list[float], samples: int) -> list[float]:
    """One round's accuracies moved towards their mean until they spread like the true ones."""
    count = len(accuracy)
    mean = sum(accuracy) / count
    variance = sum((a - mean) ** 2 for a in accuracy) / count
    sampling = mean * (1 - mean) / samples
    true = (variance - sampling) / (1 - 1 / samples)
    # reliability: share of the spread that is not sampling noise, n / (n + alpha + beta)
    weight = mean * (1 - mean) / true - 1
    factor = math.sqrt(samples / (samples + weight))
    return [mean + factor * (a - mean) for a in accuracy]
