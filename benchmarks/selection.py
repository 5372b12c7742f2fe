"""How long a strategy takes to choose, next to sorting as many numbers: ``--help``.

Each line is one strategy on one pool of N examples: its processor time over that of
``np.sort`` of N floats in the same run (the median of several pairs, strategy and sort by
turns), and its peak memory in units of N floats (8 N bytes), beyond what it was given. What it
was given: one measured round of every signal that it requires (uniform in steps of 0.2, a fifth
missing, known for the train set only when acquiring), 100 groups, embeddings and gradients of 64
numbers in 100 unequal clusters. *reweight*: the train set is the pool. *acquire*: a tenth of the
pool is the train set, a hundredth of it is bought.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
import tracemalloc
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from activeselect.errors import ActiveSelectError
from activeselect.scoring.signals import VECTORS
from activeselect.selection.neighbours import GroupNeighbourhood
from activeselect.selection.registry import create, strategies
from activeselect.selection.strategy import SelectionContext, Strategy, unit

GROUPS, WIDTH = 100, 64
#: Pool on which approximations are compared with the rules over all pairs.
ALL_PAIRS = 5_000


def made_up_vectors(size: int, seed: int = 0) -> np.ndarray:
    """100 unequal clusters, float32 ``[N, 64]``."""
    rng = np.random.default_rng(seed)
    middles = rng.normal(size=(GROUPS, WIDTH)).astype(np.float32)
    of = rng.choice(GROUPS, size, p=rng.dirichlet(np.full(GROUPS, 0.5)))
    return middles[of] + 0.5 * rng.normal(size=(size, WIDTH)).astype(np.float32)


def context_of(strategy: Strategy, size: int, mode: str) -> tuple[SelectionContext, int]:
    """What the strategy is shown, and its budget."""
    rng = np.random.default_rng(1)
    everything = np.arange(size)
    train = everything if mode == "reweight" else np.sort(rng.choice(size, size // 10, False))
    candidates = everything if mode == "reweight" else np.setdiff1d(everything, train)
    signals: dict[str, Callable[[], np.ndarray]] = {}
    vectors: dict[str, Callable[[], np.ndarray]] = {}
    for name in strategy.requires:
        if name in VECTORS:
            vectors[name] = partial(np.asarray, made_up_vectors(size))
            continue
        row = np.full((1, size), np.nan)
        row[0, train] = rng.integers(0, 6, len(train)) / 5
        row[0, train[rng.random(len(train)) < 0.2]] = np.nan
        if name in ("length", "difficulty"):
            row = rng.integers(1, 300, (1, size)).astype(float)
        signals[name] = partial(np.asarray, row)
    groups = rng.integers(0, GROUPS, size).astype(np.int32)
    near = GroupNeighbourhood(groups, train, candidates)
    seen = np.zeros(size, np.int64)
    names = tuple(f"g{i}" for i in range(GROUPS))
    context = SelectionContext(
        1, candidates, train, seen, groups, names, signals, vectors, near=near
    )
    return context, size if mode == "reweight" else max(1, size // 100)


def specs(size: int, mode: str) -> dict[str, Any]:
    """Every registered strategy, with parameters where it cannot do without."""
    total = size // 10 + max(1, size // 100) if mode == "acquire" else 2 * size
    needs: dict[str, dict[str, Any]] = {
        "oracle": {"targets": {str(total): {f"g{i}": total / GROUPS for i in range(GROUPS)}}},
        "rho-loss": {"reference": "not-loaded-here"},
        "filter": {"by": "loss", "then": "premem"},
        "mixture": {
            "parts": [{"share": 0.5, "strategy": "random"}, {"share": 0.5, "strategy": "premem"}]
        },
        "schedule": {"steps": {"0": "random", "1": "premem"}},
    }
    return {name: {"name": name, **needs.get(name, {})} for name in strategies()}


def measured(spec: Any, size: int, mode: str, pairs: int) -> dict[str, float]:
    """Median ratio of processor time to the sort's, seconds, and peak memory in N floats."""
    strategy = create(spec)
    context, budget = context_of(strategy, size, mode)
    numbers = np.random.default_rng(2).random(size)
    rng = np.random.default_rng(3)
    ratios, seconds = [], []
    for _ in range(pairs):
        started = time.process_time()
        np.sort(numbers)
        between = time.process_time()
        create(spec).select(context, budget, rng)
        ended = time.process_time()
        ratios.append((ended - between) / max(between - started, 1e-9))
        seconds.append(ended - between)
    tracemalloc.start()
    create(spec).select(context, budget, rng)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return {
        "ratio": statistics.median(ratios),
        "seconds": statistics.median(seconds),
        "memory": peak / (8 * size),
    }


def lines(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """One result after the other, small pools first."""
    for size in options.sizes:
        pairs = options.pairs if size < 10**7 else min(options.pairs, 3)
        for mode in options.modes:
            for name, spec in specs(size, mode).items():
                if options.strategies and name not in options.strategies:
                    continue
                line = {"strategy": name, "mode": mode, "size": size}
                try:
                    if VECTORS & set(create(spec).requires) and size > options.vectors_up_to:
                        continue
                    yield {**line, **measured(spec, size, mode, pairs)}
                except (ActiveSelectError, ValueError, TypeError) as error:
                    yield {**line, "note": " ".join(str(error).split())[:90]}


# --- the same strategy elsewhere ---------------------------------------------------------------


def peers(size: int, pairs: int) -> Iterator[dict[str, Any]]:
    """Our processor time over another library's, by turns, and whether both choose as well."""
    rows = unit(made_up_vectors(size))
    train = np.arange(size // 10)
    budget = size // 100
    for name, module, build in (
        ("k-center", "skactiveml", _core_set),
        ("facility-location", "apricot", _apricot),
    ):
        line = {"strategy": name, "size": size, "than": module}
        try:
            theirs = build(rows, train, budget)
        except ImportError:
            yield {**line, "note": f"skipped: {module} is not installed"}
            continue
        rest, nothing = np.arange(len(train), size), np.zeros(size, np.int32)
        vectors = {"embedding": partial(np.asarray, rows)}
        shown = SelectionContext(
            1, rest, train, np.zeros(size, np.int64), nothing, vector_signals=vectors
        )
        ratios = []
        for _ in range(pairs):
            started = time.process_time()
            other = theirs()
            between = time.process_time()
            ours = create(name).select(shown, budget, np.random.default_rng(0)).index
            ratios.append((time.process_time() - between) / (between - started))
        worth = (radius if name == "k-center" else gain)(rows, train, rest)
        yield {
            **line,
            "time": statistics.median(ratios),
            "ours": worth(ours),
            "theirs": worth(other),
            "random": worth(np.random.default_rng(0).choice(rest, budget, replace=False)),
        }


def _core_set(rows: np.ndarray, train: np.ndarray, budget: int) -> Callable[[], np.ndarray]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from skactiveml.pool import CoreSet
    known = np.full(len(rows), np.nan)
    known[train] = 0
    return lambda: CoreSet(random_state=0).query(rows, known, batch_size=budget)


def _apricot(rows: np.ndarray, train: np.ndarray, budget: int) -> Callable[[], np.ndarray]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from apricot import FacilityLocationSelection

    def choose() -> np.ndarray:
        made = FacilityLocationSelection(
            budget, metric="cosine", optimizer="lazy", initial_subset=train
        )
        return np.asarray(made.fit(rows).ranking)

    return choose


def radius(rows: np.ndarray, train: np.ndarray, rest: np.ndarray) -> Callable[[np.ndarray], float]:
    """Largest distance of a candidate to the nearest centre; lower is better."""

    def worth(chosen: np.ndarray) -> float:
        centres = rows[np.concatenate([train, chosen])]
        nearest = np.concatenate(
            [
                (rows[rest[at : at + 4096]] @ centres.T).max(axis=1)
                for at in range(0, len(rest), 4096)
            ]
        )
        return float(np.sqrt(np.maximum(2 - 2 * nearest, 0)).max())

    return worth


def gain(rows: np.ndarray, train: np.ndarray, rest: np.ndarray) -> Callable[[np.ndarray], float]:
    """Summed similarity to the nearest representative, beyond the train set's; higher is better."""

    def covered(chosen: np.ndarray) -> float:
        centres = rows[chosen]
        return sum(
            float((rows[rest[at : at + 4096]] @ centres.T).max(axis=1).clip(0).sum())
            for at in range(0, len(rest), 4096)
        )

    start = covered(train)
    return lambda chosen: covered(np.concatenate([train, chosen])) - start


def quality(size: int) -> Iterator[dict[str, Any]]:
    """What leaves and sparse neighbours lose against the greedy rule over all pairs."""
    exact = {
        "k-center": {"leaf": size},
        "facility-location": {"leaf": size, "neighbours": 2000},
    }
    for kind in ("clusters", "noise"):
        made = made_up_vectors(size)
        if kind == "noise":
            made = np.random.default_rng(0).normal(size=made.shape).astype(np.float32)
        rows, train = unit(made), np.arange(size // 40)
        rest = np.arange(len(train), size)
        nothing = np.zeros(size, np.int32)
        vectors = {"embedding": partial(np.asarray, rows)}
        shown = SelectionContext(
            1, rest, train, np.zeros(size, np.int64), nothing, vector_signals=vectors
        )
        for name, parameters in exact.items():
            worth = (radius if name == "k-center" else gain)(rows, train, rest)
            for budget in (size // 200, size // 20):
                found = {
                    label: worth(create(spec).select(shown, budget, np.random.default_rng(0)).index)
                    for label, spec in {
                        "default": name,
                        "exact": {"name": name, **parameters},
                        "random": "random",
                    }.items()
                }
                yield {"strategy": name, "vectors": kind, "size": size, "budget": budget, **found}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", type=_count, nargs="+", default=[10**4, 10**5, 10**6])
    parser.add_argument("--modes", nargs="+", default=["reweight", "acquire"])
    parser.add_argument("--strategies", nargs="+", help="only these")
    parser.add_argument("--pairs", type=int, default=5, help="at most 3 from 10^7 on")
    parser.add_argument(
        "--vectors-up-to", type=_count, default=10**5, help="largest pool for vector strategies"
    )
    parser.add_argument("--peers", action="store_true", help="only: against other libraries")
    parser.add_argument("--quality", action="store_true", help="only: what approximations lose")
    parser.add_argument("--json", type=Path, help="write all results there, too")
    options = parser.parse_args()
    if options.quality:
        results = quality(ALL_PAIRS)
    elif options.peers:
        results = (line for size in (2_000, 5_000) for line in peers(size, 3))
    else:
        results = lines(options)
    kept = []
    for line in results:
        kept.append(line)
        print("  ".join(f"{key}={_shown(value)}" for key, value in line.items()), flush=True)
    if options.json:
        options.json.write_text(json.dumps(kept, indent=1) + "\n")


def _count(text: str) -> int:
    return int(float(text))


def _shown(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    main()
