"""Mutants: small errors put into the code, each of which some test has to notice.

    python -m research.mutants            # all; prints a table and the share that was caught
    python -m research.mutants premem     # those whose file or text holds the word

Each runs the tests of its room alone, in a copy of the repository.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
_LEFT_OUT = shutil.ignore_patterns(
    ".git", "docs", "*.pyc", "__pycache__", ".hypothesis", ".*_cache"
)


class Mutant(NamedTuple):
    """One error: ``right`` becomes ``wrong`` in a file; these tests should fail."""

    file: str
    right: str
    wrong: str
    tests: str


#: Per file: the tests that judge it, and its errors as (right, wrong).
ERRORS: dict[str, tuple[str, list[tuple[str, str]]]] = {
    "activeselect/scoring/functional.py": (
        "tests/scoring/test_functional.py",
        [
            ("nll >= tau, acc", "nll > tau, acc"),
            ("np.minimum(best, acc)", "best"),
            ("np.fmax.accumulate", "np.fmin.accumulate"),
        ],
    ),
    "strategies/premem.py": (
        "tests/selection/test_builtin.py tests/selection/test_edges.py",
        [
            ("premem > self.threshold", "premem >= self.threshold"),
            ("self.threshold, self.floor, 1.0)", "self.threshold, 0.0, 1.0)"),
        ],
    ),
    "strategies/learnability.py": (
        "tests/selection/test_rules.py",
        [("(4 * p * (1 - p))", "(4 * p * (1.02 - p))")],
    ),
    "strategies/group_bandit.py": (
        "tests/selection/test_rules.py",
        [("2 * np.sqrt(known", "1.9 * np.sqrt(known")],
    ),
    "strategies/el2n.py": (
        "tests/selection/test_rules.py",
        [("> 1 - self.skip", ">= 1 - self.skip")],
    ),
    "strategies/allocate.py": (
        "tests/selection/test_allocate.py tests/selection/test_edges.py",
        [
            ("np.exp(fit - fit", "np.exp(1.02 * fit - 1.02 * fit"),
            ("_PRIOR_GROUPS * prior", "1.1 * _PRIOR_GROUPS * prior"),
            ("(total - correct) @", "1.02 * (total - correct) @"),
        ],
    ),
    "activeselect/selection/neighbours.py": (
        "tests/selection/test_neighbours.py",
        [
            ("where=members > 0", "where=members > 1"),
            ("weight[anchors] / k", "weight[anchors]"),
        ],
    ),
    "activeselect/selection/order.py": (
        "tests/selection/test_order.py",
        [
            ("range(consumed + rank, total", "range(consumed + rank + 1, total"),
            ("np.ceil(edges * self._scale", "np.floor(edges * self._scale"),
        ],
    ),
    "activeselect/study/efficiency.py": (
        "tests/study/test_efficiency.py tests/study/test_axes.py",
        [
            ("np.mean(draws == 0) / 2", "np.mean(draws == 0)"),
            ("1 - 3 / (4 *", "1 - 4 / (4 *"),
        ],
    ),
    "activeselect/study/resampling.py": (
        "tests/study/test_efficiency.py",
        [
            ("/ np.sqrt(seeds * (seeds - 1))", "/ np.sqrt(seeds * seeds)"),
            ("tail = (1 - level) / 2", "tail = 1 - level"),
        ],
    ),
    "activeselect/study/curves.py": (
        "tests/study/test_efficiency.py",
        [("(knots <= wanted)", "(knots < wanted)")],
    ),
    "activeselect/training/callback.py": (
        "tests/training/test_schedule.py",
        [
            ("epoch % self.rounds.score_every", "(epoch + 1) % self.rounds.score_every"),
            ("epoch > self._last_scored", "epoch >= self._last_scored"),
        ],
    ),
    "activeselect/training/module.py": (
        "tests/training/test_schedule.py",
        [
            ("(step + 1) / (warm + 1)", "step / (warm + 1)"),
            ("self.total_steps - warm)", "self.total_steps)"),
            ("return 1.0 - done", "return 1.02 - done"),
        ],
    ),
}
MUTANTS = [
    Mutant(file, right, wrong, tests)
    for file, (tests, errors) in ERRORS.items()
    for right, wrong in errors
]


def copied(folder: Path) -> Path:
    """A copy of the repository in which every module is imported from the copy."""
    copy = Path(shutil.copytree(ROOT, folder / "repo", ignore=_LEFT_OUT, symlinks=True))
    for name, where in (("strategies", "strategies"), ("configs", "configs")):
        if not (copy / "activeselect" / name).exists():  # an installation maps them there
            (copy / "activeselect" / name).symlink_to(copy / where)
    return copy


def caught(mutant: Mutant, copy: Path) -> str:
    """The test that fails once the error is in; empty where none does."""
    file = copy / mutant.file
    whole = file.read_text(encoding="utf-8")
    if whole.count(mutant.right) != 1:
        raise SystemExit(
            f"{mutant.file}: '{mutant.right}' occurs {whole.count(mutant.right)} times"
        )
    tests = [test for test in mutant.tests.split() if (copy / test).exists()]
    if not tests:
        return ""
    file.write_text(whole.replace(mutant.right, mutant.wrong), encoding="utf-8")
    try:
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests]
        environment = {**os.environ, "PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}
        run = subprocess.run(
            command, cwd=copy, env=environment, capture_output=True, text=True, check=False
        )
    finally:
        file.write_text(whole, encoding="utf-8")
    if run.returncode not in (0, 1):
        raise SystemExit(run.stdout[-2000:] + run.stderr[-2000:])
    if run.returncode == 0:
        return ""
    return next(line for line in run.stdout.splitlines() if line.startswith(("FAILED", "ERROR")))


def main() -> None:
    """Try the mutants that the arguments name; all without arguments."""
    words = sys.argv[1:]
    chosen = [m for m in MUTANTS if not words or any(w in f"{m.file} {m.right}" for w in words)]
    with tempfile.TemporaryDirectory() as folder:
        copy = copied(Path(folder))
        count = 0
        for mutant in chosen:
            found = caught(mutant, copy)
            count += bool(found)
            verdict = found.partition("::")[2].partition(" ")[0] or found or "SURVIVED"
            print(
                f"| {mutant.file} | `{mutant.right}` -> `{mutant.wrong}` | {verdict} |", flush=True
            )
    print(f"{count} of {len(chosen)} caught")


if __name__ == "__main__":
    main()
