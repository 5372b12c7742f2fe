"""How long weighted drawing takes and how much memory it needs, beside numpy's permutation.

Each line is the median over pairs: the permutation and the draw are timed one after the other in
the same process, and the ratio is taken within the pair, so that a busy machine slows both. Memory
is the peak of a run of its own under tracemalloc, divided by the number of examples; positions and
weights of the selection (16 bytes) are included. numpy's permutation needs 8 bytes.
"""

from __future__ import annotations

import argparse
import statistics
import time
import tracemalloc
from collections.abc import Callable

import numpy as np

from activeselect.selection.draw import weighted_choice
from activeselect.selection.order import epoch_order
from activeselect.selection.sampler import ActiveSampler
from activeselect.selection.strategy import Selection

SHAPES: dict[str, Callable[[int], np.ndarray]] = {
    "equal": np.ones,
    "uniform": lambda n: np.random.default_rng(1).random(n),
    "pareto": lambda n: np.random.default_rng(1).pareto(1.5, n),
}


def draw_pass(selection: Selection) -> float:
    """One pass of N samples with replacement in proportion to the weights, shuffled."""
    started = time.perf_counter()
    chunks = epoch_order(selection, len(selection.index), seed=0, epoch=0)
    next(chunks)
    first = time.perf_counter() - started
    for _ in chunks:
        pass
    return first


def iterate(selection: Selection) -> float:
    """The same as a torch sampler yields it: one Python number at a time."""
    started = time.perf_counter()
    numbers = iter(ActiveSampler(selection, seed=0))
    next(numbers)
    first = time.perf_counter() - started
    for _ in numbers:
        pass
    return first


def choose_tenth(selection: Selection) -> float:
    """N / 10 examples without replacement in proportion to the weights."""
    weighted_choice(selection.weight, len(selection.weight) // 10, np.random.default_rng(0))
    return 0.0


JOBS = {
    "draw a pass": draw_pass,
    "iterate a pass": iterate,
    "choose N/10": choose_tenth,
}

ROW = "{:<15} {:<11} {:<8} {:<18} {:<10} {:<8} {}"


def selection_of(size: int, shape: str) -> Selection:
    return Selection(np.arange(size), SHAPES[shape](size))


def pair(job: str, selection: Selection) -> tuple[float, float, float]:
    """Seconds of the permutation, of the job, and until the job's first batch."""
    started = time.perf_counter()
    np.random.default_rng(0).permutation(len(selection.index))
    between = time.perf_counter()
    first = JOBS[job](selection)
    return between - started, time.perf_counter() - between, first


def peak_bytes(job: str, size: int, shape: str) -> float:
    """Most memory that Python and numpy held at a time, per example, selection included."""
    tracemalloc.start()
    JOBS[job](selection_of(size, shape))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / size


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=float, nargs="+", default=[1e6, 1e7])
    parser.add_argument("--large", action="store_true", help="10^8 too: minutes, 4 GB of memory")
    parser.add_argument("--shapes", nargs="+", default=["uniform"], choices=SHAPES)
    parser.add_argument("--pairs", type=int, default=5, help="pairs per line")
    parser.add_argument("--jobs", nargs="+", default=[*JOBS], choices=JOBS)
    args = parser.parse_args()
    head = ("job", "N", "weights", "ratio (min-max)", "ns/example", "first s", "bytes/example")
    print(ROW.format(*head))
    for size in [int(size) for size in args.sizes] + [10**8] * args.large:
        for shape in args.shapes:
            for job in args.jobs:
                print(line(job, size, shape, args.pairs), flush=True)


def line(job: str, size: int, shape: str, pairs: int) -> str:
    memory = peak_bytes(job, size, shape)
    selection = selection_of(size, shape)
    timed = [pair(job, selection) for _ in range(pairs)]
    ratios = [after / before for before, after, _ in timed]
    middle = statistics.median(ratios)
    nanoseconds = statistics.median(after for _, after, _ in timed) / size * 1e9
    first = statistics.median(first for _, _, first in timed)
    shown = f"{first:.3f}" if first else "-"
    spread = f"{middle:.2f} ({min(ratios):.2f}-{max(ratios):.2f})"
    return ROW.format(job, f"{size:,}", shape, spread, f"{nanoseconds:.1f}", shown, f"{memory:.1f}")


if __name__ == "__main__":
    main()
