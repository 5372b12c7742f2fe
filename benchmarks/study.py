"""Wall time of a study against the same runs one by one: ``--help``.

The same cells (strategies x seeds on the built-in benchmark) are computed in several ways, by
turns, each in processes of its own:

    fresh processes     `activeselect train`, one process after the other, as one would by hand
    one process         `activeselect compare workers=1 share=false`
    one, sharing        the same with share=true
    N processes         workers=N share=false
    N, sharing          workers=N share=true: what `compare` does on N cores

All but the first write the report, too. Wall time, processor time of all processes, and ratios of
wall time to the first two (medians over rounds of turns); then the parts: what a process needs
before it can begin, what the report takes, and what share of the billed tokens and seconds was
computed. Every way has to end in the same answers, or the benchmark fails.

With --threads: one or N runs at once, on one or N threads each.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import yaml
from rich.console import Console
from rich.table import Table

from activeselect.config import DataConfig, RoundsConfig, ScoringConfig, StudyConfig, to_plain
from activeselect.study.plan import plan

COMMAND = [sys.executable, "-m", "activeselect"]
Spent = tuple[float, float]


def study(options: argparse.Namespace) -> StudyConfig:
    """Like configs/quickstart.yaml, but smaller; tuning seeds, for nothing is judged here."""
    return StudyConfig(
        data=(DataConfig("skills:mixed", pool_size=options.pool, test_limit=options.test),),
        strategies={name: name for name in options.strategies},
        baseline=options.strategies[0],
        seeds=tuple(range(1000, 1000 + options.seeds)),
        rounds=RoundsConfig(budgets=tuple(options.budgets), score_every=2, score_until=2),
        scoring=ScoringConfig(samples=4, max_new_tokens=48),
    )


def timed(*commands: list[str], threads: int = 1) -> Spent:
    """Wall and processor seconds of commands, side by side; a failure ends the benchmark."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    wall, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    running = [
        subprocess.Popen(
            command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        for command in commands
    ]
    for process in running:
        _, said = process.communicate()
        if process.returncode:
            raise SystemExit(f"{' '.join(process.args)}:\n{said[-2000:]}")  # type: ignore[arg-type]
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = (after.ru_utime - before.ru_utime) + (after.ru_stime - before.ru_stime)
    return time.perf_counter() - wall, spent


def compare(work: Path, name: str, workers: int, share: bool) -> Spent:
    settings = [f"workers={workers}", f"share={str(share).lower()}"]
    config = str(work / "study.yaml")
    return timed([*COMMAND, "compare", "--config", config, "--out", str(work / name), *settings])


def one_by_one(work: Path, config: StudyConfig) -> Spent:
    wall = processor = 0.0
    for number, cell in enumerate(plan(config)):
        file = work / f"cell-{number}.yaml"
        file.write_text(yaml.safe_dump(to_plain(cell.config)))
        out = work / "fresh" / cell.folder
        spent = timed([*COMMAND, "train", "--config", str(file), "--out", str(out)])
        wall, processor = wall + spent[0], processor + spent[1]
    return wall, processor


def curves(folder: Path) -> dict[str, list[float]]:
    """Test accuracies of each run."""
    return {
        str(file.parent.relative_to(folder)): [
            entry["test_accuracy"] for entry in json.loads(file.read_text())["curve"]
        ]
        for file in sorted(folder.glob("cells/*/*/*/result.json"))
    }


def one_round(config: StudyConfig, workers: int, work: Path) -> dict[str, Spent]:
    """Every way once."""
    (work / "study.yaml").write_text(yaml.safe_dump(to_plain(config)))
    found = {
        "fresh processes": one_by_one(work, config),
        "one process": compare(work, "one", 1, False),
        "one, sharing": compare(work, "one-shared", 1, True),
        f"{workers} processes": compare(work, "several", workers, False),
        f"{workers}, sharing": compare(work, "several-shared", workers, True),
    }
    expected = curves(work / "fresh")
    for name in ("one", "one-shared", "several", "several-shared"):
        if curves(work / name) != expected:
            raise SystemExit(f"The answers of '{name}' differ from those of the runs one by one.")
    return found


def parts(work: Path) -> dict[str, str]:
    """What is no training, and what sharing saved."""
    computed = json.loads((work / "several-shared" / "results.json").read_text())["computed"]
    start = timed([sys.executable, "-c", "import activeselect.training.run"])
    report = timed([*COMMAND, "report", str(work / "one")])
    return {
        "start of a process": f"{start[0]:.1f} s wall, {start[1]:.1f} s processor",
        "report": f"{report[0]:.1f} s wall, {report[1]:.1f} s processor",
        **{
            f"computed of the billed {what}": (
                f"{computed[f'{what}_computed'] / computed[f'{what}_billed']:.1%}"
            )
            for what in ("tokens_trained", "seconds")
        },
    }


def on_threads(config: StudyConfig, workers: int, work: Path) -> Table:
    """Runs per minute of wall time: more threads for one, or more runs at once."""
    file = work / "cell.yaml"
    file.write_text(yaml.safe_dump(to_plain(plan(config)[0].config)))
    table = Table("runs at once", "threads each", "wall s", "processor s", "runs per minute")
    for runs, threads in ((1, 1), (1, workers), (workers, 1), (workers, workers)):
        outs = [str(work / f"threads-{runs}-{threads}-{number}") for number in range(runs)]
        commands = [[*COMMAND, "train", "--config", str(file), "--out", out] for out in outs]
        wall, processor = timed(*commands, threads=threads)
        numbers = (f"{wall:.1f}", f"{processor:.1f}", f"{60 * runs / wall:.1f}")
        table.add_row(str(runs), str(threads), *numbers)
    return table


def ways_table(rounds: list[dict[str, Spent]]) -> Table:
    table = Table("way", "wall s", "processor s", "of fresh processes", "of one process")
    for name in rounds[0]:
        wall, processor = (statistics.median(r[name][k] for r in rounds) for k in (0, 1))
        ratios = [
            f"{statistics.median(r[name][0] / r[other][0] for r in rounds):.2f}"
            for other in ("fresh processes", "one process")
        ]
        table.add_row(name, f"{wall:.1f}", f"{processor:.1f}", *ratios)
    return table


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--strategies", nargs="+", default=["random", "premem", "learnability"])
    parser.add_argument("--seeds", type=int, default=2, help="how many")
    parser.add_argument("--budgets", type=int, nargs="+", default=[60, 120, 240])
    parser.add_argument("--pool", type=int, default=8000, help="examples")
    parser.add_argument("--test", type=int, default=300, help="test problems")
    parser.add_argument("--epochs", type=int, help="default: the preset's tuned recipe")
    parser.add_argument("--workers", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--rounds", type=int, default=1, help="of turns")
    parser.add_argument(
        "--threads", action="store_true", help="only: runs and threads side by side"
    )
    options = parser.parse_args(arguments)
    config = study(options)
    if options.epochs:
        recipe = plan(config)[0].config.recipe
        config = replace(config, recipe=replace(recipe, epochs=options.epochs))
    console = Console(width=110)
    console.print(
        f"{len(plan(config))} runs ({', '.join(options.strategies)}; {options.seeds} seeds), "
        f"budgets {options.budgets}, {options.test} test problems, pool of {options.pool}, one "
        f"thread per process, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}."
    )
    with tempfile.TemporaryDirectory() as folder:
        if options.threads:
            console.print(on_threads(config, options.workers, Path(folder)))
            return
        rounds = []
        for number in range(options.rounds):
            work = Path(folder) / str(number)
            work.mkdir()
            rounds.append(one_round(config, options.workers, work))
        console.print(ways_table(rounds))
        for name, value in parts(work).items():
            console.print(f"{name}: {value}", highlight=False)
    console.print("All ways gave the same test accuracies.")


if __name__ == "__main__":
    main()
