"""How much memory and time a pool takes until the first step can be trained on it, by its size.

Each size runs in a process of its own: read JSON lines, look for duplicates, hash the content, see
that every problem fits into the context, encode all of them as the train set, and train one batch.
Memory is the process's peak, all of it and less that of a process that does the same with 1,000
rows; growth is the bytes per row between one size and the next. CPU seconds are of all threads.

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
    import lightning

    from activeselect.config import DataConfig, RecipeConfig
    from activeselect.data.load import SKILLS_PROMPT, fit_to_context, load_data
    from activeselect.training.callback import ActiveSelection
    from activeselect.training.launch import quiet
    from activeselect.training.module import ReasoningModule, load_model

    model, tokenizer = load_model("skills-base")
    started, before = time.perf_counter(), time.process_time()
    test = path.with_name("test.jsonl")
    config = DataConfig(str(path), test=str(test), checker="marker:answer :")
    data = load_data(config, seed=0)
    assert data.pool.fingerprint
    read = time.perf_counter()
    data = fit_to_context(data, tokenizer, SKILLS_PROMPT, max_length=512, on_bad_row="stop")
    selection = ActiveSelection(data.pool, tokenizer, "random", prompt=SKILLS_PROMPT)
    encoded = time.perf_counter()
    module = ReasoningModule(model, RecipeConfig(learning_rate=1e-3), total_steps=1)
    with quiet():
        trainer = lightning.Trainer(
            max_steps=1,
            accelerator="cpu",
            callbacks=[selection],
            use_distributed_sampler=False,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(module, selection.dataloader(16))
    assert selection.times_seen.sum() == 16
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {
        "read": read - started,
        "encode": encoded - read,
        "step": time.perf_counter() - encoded,
        "cpu": time.process_time() - before,
        "peak": peak,
    }


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
        "| rows | file MB | read s | encode s | step s | CPU s | peak MB | above 1,000 rows "
        "| bytes per row | growth |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
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
                f"| {found['step']:.1f} | {found['cpu']:.0f} | {found['peak'] / 1e6:.0f} "
                f"| {above / 1e6:.0f} | {above / size:.0f} | {growth} |",
                flush=True,
            )
            before = size, above


if __name__ == "__main__":
    main()
