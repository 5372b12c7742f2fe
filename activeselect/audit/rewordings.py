"""Rewordings of train problems: is what premem calls understood still right when the text changes?

Claim 2 of Kang et al. (arXiv 2411.07681) about single examples: those of low pre-memorization
accuracy break under harmless changes. A rewording renames people and objects, exchanges sentences,
or puts in other numbers where the trace can be executed (:mod:`activeselect.audit.perturb`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from activeselect.arrays import FloatArray
from activeselect.audit.asker import Asker
from activeselect.audit.measures import interval, mean
from activeselect.audit.perturb import RULES
from activeselect.data.chains import Known
from activeselect.data.pool import Pool, Problem
from activeselect.streams import Stream

#: Upper ends of the bins of premem; the first holds exactly 0.
BINS = (0.0, 0.25, 0.5, 0.75, 1.0)


def rewordings(
    problem: Problem, count: int, rng: np.random.Generator, known: Known
) -> list[Problem]:
    """Up to ``count`` different rewordings of a problem, the rules taking turns."""
    found: dict[str, Problem] = {}
    rules = list(RULES.values())
    for turn in range(3 * count):
        new = rules[turn % len(rules)](problem, rng, known)
        if new is not None and new.question != problem.question:
            found.setdefault(new.question, new)
        if len(found) == count:
            break
    return list(found.values())


def accuracy_on_rewordings(asker: Asker, pool: Pool, count: int, *, seed: int) -> FloatArray:
    """Share of each problem's rewordings that are answered rightly (greedily), float64 ``[N]``.

    NaN for a problem that no rule can reword.
    """
    asked: list[Problem] = []
    owner: list[int] = []
    for position, problem in enumerate(pool):
        rng = np.random.default_rng([seed, position, Stream.REWORDED])
        for new in rewordings(problem, count, rng, asker.known):
            asked.append(new)
            owner.append(position)
    texts = asker.complete([asker.prompt(p) for p in asked], range(len(asked)), greedy=True)
    right, total = np.zeros(len(pool)), np.zeros(len(pool))
    for position, problem, row in zip(owner, asked, texts, strict=True):
        right[position] += asker.checker.check(row[0], problem.answer)
        total[position] += 1
    return np.where(total > 0, right / np.maximum(total, 1), np.nan)


def by_premem(
    premem: FloatArray, accuracy: FloatArray, reworded: FloatArray, rng: np.random.Generator
) -> list[dict[str, Any]]:
    """Accuracy as it is and on rewordings, by bins of premem.

    Args:
        premem, accuracy, reworded: per train example, float64 ``[N]``; NaN where not known.

    Returns:
        per bin: low, high, n, accuracy, reworded, and the 95% interval of the latter.
    """
    known = ~np.isnan(premem) & ~np.isnan(reworded)
    rows = []
    for low, high in zip((-1.0, *BINS[:-1]), BINS, strict=True):
        here = known & (premem > low) & (premem <= high)
        if not here.any():
            continue
        ends = interval(lambda a: mean(a["x"]), {"x": reworded[here]}, rng)
        rows.append(
            {
                "premem_above": None if low < 0 else low,
                "premem_up_to": high,
                "n": int(here.sum()),
                "accuracy": mean(accuracy[here]),
                "reworded": mean(reworded[here]),
                "low": None if np.isnan(ends[0]) else ends[0],
                "high": None if np.isnan(ends[1]) else ends[1],
            }
        )
    return rows


def rank_correlation(premem: FloatArray, reworded: FloatArray) -> float:
    """Spearman's correlation of premem and accuracy on rewordings; NaN where one is constant."""
    from scipy.stats import rankdata

    known = ~np.isnan(premem) & ~np.isnan(reworded)
    a, b = (rankdata(values[known]) for values in (premem, reworded))
    if len(a) < 3 or a.std() == 0 or b.std() == 0:
        return float("nan")
    return float(np.corrcoef(a, b)[0, 1])


def in_words(result: Mapping[str, Any]) -> list[str]:
    """The result as lines, for the command.

    Args:
        result: what ``rewordings.json`` holds: perturb, spearman, bins.
    """
    correlation = result["spearman"]
    shown = "none" if correlation is None else f"{correlation:.2f}"
    lines = [f"Premem and accuracy on up to {result['perturb']} rewordings (Spearman {shown}):"]
    for row in result["bins"]:
        above = row["premem_above"]
        where = "premem 0" if above is None else f"premem {above:g} to {row['premem_up_to']:g}"
        known = row["low"] is not None
        ends = f" ({row['low']:.3f} to {row['high']:.3f})" if known else ""
        lines.append(
            f"  {where}: {row['reworded']:.3f}{ends} on rewordings, {row['accuracy']:.3f} as it "
            f"is, {row['n']} examples"
        )
    return lines
