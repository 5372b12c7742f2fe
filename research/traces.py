"""What traces teach: a study over ``data.traces``, read as paired differences to ``as_is``.

The arms of ``configs/traces.yaml`` share questions, answers, seeds and test; only the traces of the
train set differ. Printed per arm: test accuracy at each train-set size, its difference to the
traces as they are (mean over seeds, paired, 95% by Student's t), the same at *equal tokens* (what
the arm reaches on the tokens that the traces as they are need for their largest size, by
interpolation in the logarithm of tokens), and each audited measure in the same way::

    for seed in 100 101 102 103 104; do activeselect score --out wrong/$seed model=skills-base \\
        data.source=skills:mixed data.pool_size=2400 data.test=none seed=$seed \\
        scoring.samples=4 scoring.max_new_tokens=48 scoring.keep_completions=4; done
    activeselect compare --config traces --out traces
    python -m research.traces --study traces
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from activeselect.arrays import FloatArray
from activeselect.files import read_json
from research.script import run_script

Row = Mapping[str, Any]


def paired(arm: Mapping[int, float], base: Mapping[int, float]) -> tuple[float, float, float]:
    """Mean difference over the seeds of both, and the ends of its 95% interval (Student's t).

    Example:
        >>> paired({0: 0.5, 1: 0.7}, {0: 0.4, 1: 0.6, 2: 0.9})[0].__round__(6)
        0.1
    """
    seeds = sorted(arm.keys() & base.keys())
    differences = np.array([arm[seed] - base[seed] for seed in seeds])
    middle = float(differences.mean())
    if len(seeds) < 2:
        return middle, float("nan"), float("nan")
    half = float(stats.t.ppf(0.975, len(seeds) - 1) * stats.sem(differences))
    return middle, middle - half, middle + half


def at_tokens(tokens: Sequence[float], accuracy: Sequence[float], wanted: float) -> float:
    """Accuracy on ``wanted`` tokens; NaN beyond those that were trained on.

    Example:
        >>> at_tokens([100, 400], [0.2, 0.6], 200), at_tokens([100, 400], [0.2, 0.6], 500)
        (0.4, nan)
    """
    known: FloatArray = np.log(np.asarray(tokens, dtype=np.float64))
    found = np.interp(np.log(wanted), known, accuracy, left=np.nan, right=np.nan)
    return round(float(found), 12)


def table(results: Row) -> list[str]:
    """The lines of the table, for the datasets of a study in their order."""
    curves: Sequence[Row] = results["curves"]
    names = list(dict.fromkeys(row["dataset"] for row in curves))
    base = min(names, key=len)  # the others are called after it and their traces
    values: dict[str, dict[str, dict[int, float]]] = {name: defaultdict(dict) for name in names}
    by_seed: dict[tuple[str, int], list[tuple[float, float]]] = defaultdict(list)
    for row in curves:
        mine, seed = values[row["dataset"]], row["seed"]
        mine[f"accuracy, {row['budget']}"][seed] = row["test_accuracy"]
        by_seed[row["dataset"], seed].append((row["costs"]["tokens_trained"], row["test_accuracy"]))
        for measure, value in (row.get("audit") or {}).items():
            if value is not None and measure != "accuracy":
                mine[f"{measure}, {row['budget']}"][seed] = value
    for (name, seed), points in by_seed.items():
        wanted = max(tokens for tokens, _ in by_seed[base, seed])
        found = at_tokens(*zip(*sorted(points), strict=True), wanted)
        if np.isfinite(found):
            values[name]["accuracy, equal tokens"][seed] = found
    rows = list(dict.fromkeys(row for name in names for row in values[name]))
    lines = [
        "| | " + " | ".join(name.removeprefix(f"{base}-") for name in names) + " |",
        "|---" * (len(names) + 1) + "|",
    ]
    for row in sorted(rows, key=lambda row: (row.partition(",")[0] != "accuracy", row)):
        cells = [
            _cell(values[name].get(row), values[base].get(row), name == base) for name in names
        ]
        lines.append(f"| {row} | " + " | ".join(cells) + " |")
    return lines


def _cell(arm: Mapping[int, float] | None, base: Mapping[int, float] | None, same: bool) -> str:
    if not arm:
        return "not reached"
    mean = f"{np.mean(list(arm.values())):.3f}"
    if same or not base:
        return mean
    middle, low, high = paired(arm, base)
    if len(arm) < 2:
        return f"{mean} (1 seed)"
    return f"{mean}: {middle:+.3f} ({low:+.3f} to {high:+.3f}, {len(arm)} seeds)"


def main(study: Path) -> None:
    """Print the table of a study.

    Args:
        study: folder of ``activeselect compare --config traces``.
    """
    print("\n".join(table(read_json(study / "results.json"))))


if __name__ == "__main__":
    run_script(main)
