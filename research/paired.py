"""Paired comparisons between strategies of two studies that ran on the same data and seeds.

A study compares its own strategies. This sets them beside those of another study, which may have
had other strategies or another recipe. Differences are taken seed by seed, with a 95% interval over
seeds (Student's t)::

    python -m research.paired --study docs/noise --against docs/benchmark-hidden
    python -m research.paired --study tokens --against tokens-all --each --measure forking

With ``--cost`` the answer is a ratio over the whole curve: how many times less of it a strategy of
the first study needs than one of the second, with the interval that every report has::

    python -m research.paired --study continued --against docs/benchmark-hidden --cost tokens_total
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.stats import t

from activeselect.arrays import FloatArray
from activeselect.errors import StudyError
from activeselect.study.curves import mean_gain
from activeselect.study.efficiency import analyse
from activeselect.study.resampling import CurveSet
from activeselect.study.results import read_results
from activeselect.study.verdicts import ratio_with_interval
from research.script import run_script

Curves = dict[tuple[str, str], dict[int, dict[int, float]]]


def curves_of(study: Path, measure: str) -> Curves:
    """Of each dataset and strategy the measure, or the cost, by seed and budget."""
    found: Curves = {}
    for row in read_results(study)["curves"]:
        known = (row.get("audit") or {}) | row["costs"] | {"test_accuracy": row["test_accuracy"]}
        if known.get(measure) is not None:
            runs = found.setdefault((row["dataset"], row["strategy"]), {})
            runs.setdefault(row["seed"], {})[row["budget"]] = known[measure]
    return found


@dataclass(frozen=True)
class Both:
    """A strategy of each study on one dataset, at the seeds and budgets that both have.

    Attributes:
        left, right: the measure, float ``[S, B]``.
    """

    dataset: str
    mine: str
    theirs: str
    seeds: list[int]
    budgets: list[int]
    left: FloatArray
    right: FloatArray

    def line(self, at: str, means: str, said: str) -> str:
        """A row of the table."""
        return f"| {self.dataset} | {self.mine} | {self.theirs} | {at} | {means} | {said} |"


def pairs(one: Curves, other: Curves) -> Iterator[Both]:
    """Every strategy of one study with every one of the other."""
    for (dataset, mine), runs in one.items():
        for (name, theirs), others in other.items():
            seeds = sorted(runs.keys() & others.keys())
            if name != dataset or not seeds:
                continue
            shared = [runs[seed].keys() & others[seed].keys() for seed in seeds]
            budgets = sorted(set.intersection(*map(set, shared)))
            if budgets:
                left, right = (_table(some, seeds, budgets) for some in (runs, others))
                yield Both(dataset, mine, theirs, seeds, budgets, left, right)


def _table(runs: dict[int, dict[int, float]], seeds: list[int], budgets: list[int]) -> FloatArray:
    return np.array([[runs[seed][budget] for budget in budgets] for seed in seeds])


def with_interval(difference: FloatArray) -> str:
    """Mean and 95% interval (Student's t) of paired differences, float ``[S]``."""
    mean, seeds = float(difference.mean()), len(difference)
    wide = 0.0
    if seeds > 1:
        wide = float(t.ppf(0.975, seeds - 1) * difference.std(ddof=1) / seeds**0.5)
    ends = f"({mean - wide:+.3f} to {mean + wide:+.3f})" if wide > 0 else "(no interval)"
    return f"{mean:+.3f} {ends}"


def ratio(both: Both, mine: Curves, theirs: Curves, cost: str) -> str:
    """How many times less of a cost the first needs, over the whole curve."""
    spent = {
        "mine": _table(mine[both.dataset, both.mine], both.seeds, both.budgets),
        "theirs": _table(theirs[both.dataset, both.theirs], both.seeds, both.budgets),
    }
    correct = {"mine": both.left[..., None], "theirs": both.right[..., None]}
    curves = CurveSet(both.budgets, correct, cost=cost, spent=spent)
    rows = analyse(curves, "theirs", rng=np.random.default_rng(0)).efficiency
    return ratio_with_interval(next(row for row in rows if row["budget"] is None))


def main(
    study: Path,
    against: Path,
    measure: str = "test_accuracy",
    each: bool = False,
    cost: str | None = None,
) -> None:
    """Print a Markdown table.

    Args:
        study, against: folders of the two studies, with their ``results.json``.
        measure: ``test_accuracy``, or a measure of their audits.
        each: a line per budget in the place of one for the whole curve.
        cost: compare what is spent for the same test accuracy: ``tokens_total``,
            ``tokens_trained``, ``samples_seen`` or ``seconds``.
    """
    names = [measure] if cost is None else [measure, cost]
    one, other = ([curves_of(folder, name) for name in names] for folder in (study, against))
    found = list(pairs(one[0], other[0]))
    if not found or not all(one) or not all(other):
        raise StudyError(
            f"{study} and {against} share no dataset and seed with {' and '.join(names)}; received "
            f"{sorted({name for name, _ in one[0]})} and {sorted({name for name, _ in other[0]})}."
        )
    print("| dataset | strategy | against | at | means | difference (95%) |")
    print("|---|---|---|---|---|---|")
    for both in found:
        if each:
            for place, budget in enumerate(both.budgets):
                x, y = both.left[:, place], both.right[:, place]
                means = f"{x.mean():.3f}, {y.mean():.3f}"
                print(both.line(f"{budget:,}", means, with_interval(x - y)))
        elif len(both.budgets) > 1:
            if cost:
                said = ratio(both, one[1], other[1], cost)
            else:
                grid = np.array(both.budgets, dtype=float)
                said = with_interval(mean_gain(grid, both.left, both.right))
            print(both.line("whole curve", "", said))


if __name__ == "__main__":
    run_script(main)
