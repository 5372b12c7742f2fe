"""Memory that ``--dry-run`` plans with, beside the peak of the run itself.

Each setting is a run of its own in a process of its own: a few steps of training, a scored round
and a test, which is where the peak is. The peak is the most that the process was resident; the plan
is made before it. On a GPU the peak is that of the device::

    python benchmarks/memory.py --model FOLDER --data FOLDER

``FOLDER`` of data has ``train.jsonl`` and ``test.jsonl`` with question, solution and answer.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import shutil
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from activeselect.config import (
    DataConfig,
    LoraConfig,
    PromptConfig,
    RecipeConfig,
    RoundsConfig,
    RunConfig,
    ScoringConfig,
)

#: Recipes by name.
SETTINGS: dict[str, dict[str, Any]] = {
    "bf16-mixed": {"precision": "bf16-mixed", "batch_size": 8},
    "32-true": {"precision": "32-true", "batch_size": 8},
    "bf16-true": {"precision": "bf16-true", "batch_size": 8},
    "adapters": {"precision": "bf16-true", "batch_size": 8, "lora": LoraConfig(rank=16)},
}


def config_of(model: str, data: str, recipe: dict[str, Any], examples: int) -> RunConfig:
    columns = {"question": "question", "trace": "solution", "answer": "answer"}
    return RunConfig(
        model=model,
        data=DataConfig(source=data, checker="gsm8k", test_limit=examples, **columns),
        prompt=PromptConfig(prompt="Question: {question}\nAnswer:", target=" {trace}"),
        strategy="premem",
        rounds=RoundsConfig(budgets=(examples,)),
        recipe=RecipeConfig(epochs=1, learning_rate=1e-5, **recipe),
        scoring=ScoringConfig(samples=4, max_new_tokens=32),
        forecast="off",
        seed=1000,
    )


def planned_and_used(config: RunConfig) -> tuple[float, float]:
    """Gigabytes planned, and at the peak of the run; needs a process of its own."""
    import torch

    from activeselect.study.estimate import memory_of, shape_of
    from activeselect.training.run import ActiveRun

    torch.set_num_threads(1)
    planned = memory_of(config, shape_of(config))
    out = Path(tempfile.mkdtemp())
    try:
        ActiveRun(config).run(out / "run")
    finally:
        shutil.rmtree(out, ignore_errors=True)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    if torch.cuda.is_available():
        peak = torch.cuda.max_memory_allocated() / 1e9
    return planned, peak


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--examples", type=int, default=32)
    parser.add_argument("--settings", nargs="+", default=[*SETTINGS], choices=SETTINGS)
    args = parser.parse_args()
    fresh = multiprocessing.get_context("spawn")
    print(f"{'recipe':<24} {'planned':>8} {'peak':>8} {'planned / peak':>15}")
    for name in args.settings:
        config = config_of(args.model, args.data, SETTINGS[name], args.examples)
        with ProcessPoolExecutor(1, mp_context=fresh) as process:
            planned, peak = process.submit(planned_and_used, config).result()
        print(f"{name:<24} {planned:>5.1f} GB {peak:>5.1f} GB {planned / peak:>15.2f}", flush=True)


if __name__ == "__main__":
    main()
