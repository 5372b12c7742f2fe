"""How much memory and time a pool takes until the first step can be trained on it, by its size.

Each size runs in a process of its own: read JSON lines, look for duplicates, count the tokens of
every problem, and encode the train set. Memory is the process's peak, less that of a process that
does the same with 1,000 rows; growth is the bytes per row between one size and the next.

    python benchmarks/pool_size.py --sizes 100000 200000
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from activeselect.data.skills import build_preset

SMALL = 1000


def write(path: Path, size: int) -> int:
    """A file of ``size`` rows, each question its own; returns its bytes."""
    problems = list(build_preset("mixed", seed=0, pool_size=4000, test_size=1).pool)
    with path.open("w") as file:
        for i in range(size):
            problem = problems[i % len(problems)]
            row = {"question": f"case {i} : {problem.question}", "trace": problem.trace}
            file.write(json.dumps(row) + "\n")
    return path.stat().st_size


def measure(path: Path) -> dict[str, float]:
    """Seconds and peak bytes of this process."""
    import numpy as np

    from activeselect.config import DataConfig
    from activeselect.data.load import SKILLS_PROMPT, fit_to_context, load_data
    from activeselect.data.prompts import EncodedSet, encoded
    from activeselect.data.skills import base_path
    from activeselect.training.module import load_tokenizer

    tokenizer = load_tokenizer(str(base_path()))
    started = time.perf_counter()
    test = path.with_name("test.jsonl")
    config = DataConfig(str(path), test=str(test), checker="marker:answer :")
    data = load_data(config, seed=0)
    read = time.perf_counter()
    data = fit_to_context(data, tokenizer, SKILLS_PROMPT, max_length=10_000, on_bad_row="stop")
    train = EncodedSet(encoded(data.pool, np.arange(len(data.pool)), tokenizer, SKILLS_PROMPT))
    assert len(train) == len(data.pool)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"read": read - started, "encode": time.perf_counter() - read, "peak": peak}


def main() -> None:
    """Print one row per size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--measure", type=Path)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(arguments.measure)))
        return
    before: tuple[int, float] | None = None
    print(
        "| rows | file MB | read s | encode s | peak MB above 1,000 rows | bytes per row | growth |"
    )
    print("|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder, "test.jsonl"), 1)
        base = 0.0
        for size in (SMALL, *arguments.sizes):
            path = Path(folder, "train.jsonl")
            file = write(path, size)
            command = [sys.executable, __file__, "--measure", str(path)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            found = json.loads(done.stdout)
            if size == SMALL:
                base = found["peak"]
                continue
            above = found["peak"] - base
            growth = "" if before is None else f"{(above - before[1]) / (size - before[0]):.0f}"
            print(
                f"| {size:,} | {file / 1e6:.0f} | {found['read']:.0f} | {found['encode']:.0f} "
                f"| {above / 1e6:.0f} | {above / size:.0f} | {growth} |",
                flush=True,
            )
            before = size, above


if __name__ == "__main__":
    main()
