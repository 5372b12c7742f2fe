"""What test accuracy does once the train set is memorized, on the paper's recorded runs.

    python -m research.after_memorization --folder ../shared/data/traces

Per run: the share of train examples whose trace is memorized, by checkpoint, and test accuracy
there. The recorded runs hold no right or wrong per test problem, so the interval of a difference
between two checkpoints takes them for different test sets, which makes it too wide.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from activeselect.audit.saturation import EPSILON, SATURATED
from activeselect.forecast.traces import RunTrace, datasets_in, read_traces
from research.script import run_script


def gain(run: RunTrace, first: int, last: int) -> str:
    """Test accuracy at the last checkpoint less at the first, with its 95% interval."""
    ends = [first, last]
    p, n = run.test_accuracy[ends], run.test_examples[ends]
    half = 1.96 * float(np.sqrt((p * (1 - p) / n).sum()))
    difference = float(p[1] - p[0])
    return f"{difference:+.3f} ({difference - half:+.3f} to {difference + half:+.3f})"


def main(folder: Path, epsilon: float = EPSILON) -> None:
    """Print a Markdown table.

    Args:
        folder: of recorded runs.
        epsilon: nats per token under which a trace counts as memorized.
    """
    print(f"memorized: loss under {epsilon:g} nats per token; saturated: {SATURATED:.0%} of them")
    print("| run | memorized by checkpoint | test accuracy by checkpoint | after saturation |")
    print("|---|---|---|---|")
    for dataset in datasets_in(folder):
        for run in read_traces(folder, dataset):
            shares = (run.mean_nll < epsilon).mean(axis=1)
            test = np.asarray(run.test_accuracy, dtype=np.float64)
            reached = np.flatnonzero(shares >= SATURATED)
            since = "not saturated"
            if len(reached):
                first, last = int(reached[0]), len(test) - 1
                since = "last checkpoint" if first == last else gain(run, first, last)
            cells = (" ".join(f"{value:.2f}" for value in row) for row in (shares, test))
            print(f"| {dataset} {run.name} | {' | '.join(cells)} | {since} |")


if __name__ == "__main__":
    run_script(main)
