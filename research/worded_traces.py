r"""ASDiv's formulas written out in words, so that a reference trace has wording to memorize.

A bare formula as a trace breaks pre-memorization accuracy: whoever understands the problem also
predicts every token of it. Here each step of the formula becomes a sentence, by one of several
openers, orders and wordings, with the unit of the question now and then::

    ( 3 * 12 ) + 5 = 41   ->   To begin with, 3 groups of 12 make 36 pens. Then adding 5 to 36
                               gives 41. Hence 41.
                               #### 41

ASDiv (Miao et al. 2020) is licensed CC BY-NC 4.0: what this script writes is for studies, and is
neither shipped nor quoted. Input and output are JSON lines with ``question``, ``solution`` (the
formula, then ``#### N``), ``answer`` and ``group``::

    python -m research.worded_traces --train ASDIV/train.jsonl --test ASDIV/test.jsonl \
        --out data/asdiv-worded

A train problem whose formula cannot be read, or does not give its answer, is left out and counted.
A test problem always stays, with its formula if need be: only its answer is looked at.
"""

from __future__ import annotations

import ast
import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from research.script import run_script

FIRST = (
    "First, ", "We start here: ", "To begin with, ", "Let us see: ", "From the problem, ", "",
    "Step one: ", "Note that ", "Reading the story, ", "Here ", "We know that ", "Initially, ",
)  # fmt: skip
THEN = (
    "Then ", "Next, ", "After that, ", "So ", "From there, ", "Now ", "With that, ", "",
    "Step two: ", "Continuing, ", "It follows that ", "Afterwards, ",
)  # fmt: skip
LAST = (
    "The answer is {n}.", "So it is {n}.", "That leaves us with {n}.", "Hence {n}.",
    "This is what was asked: {n}.", "In the end we get {n}.", "", "", "", "",
)  # fmt: skip
#: Wordings of a step; {a} and {b} are what goes in, {c} what comes out, {u} the unit or nothing.
WORDED: dict[type[ast.operator], tuple[str, ...]] = {
    ast.Add: (
        "{a} and {b} make {c}{u}.", "adding {b} to {a} gives {c}{u}.", "{a} plus {b} is {c}{u}.",
        "we put {a} and {b} together: {c}{u}.", "the sum of {a} and {b} is {c}{u}.",
        "{a} + {b} = {c}{u}.", "there are {a} and another {b}, that is {c}{u}.",
        "{b} more than {a} is {c}{u}.", "if {a} and {b} are joined, we have {c}{u}.",
    ),
    ast.Sub: (
        "{a} minus {b} leaves {c}{u}.", "taking {b} from {a} leaves {c}{u}.",
        "{a} - {b} = {c}{u}.", "{b} less than {a} is {c}{u}.",
        "the difference of {a} and {b} is {c}{u}.", "of {a}, {b} are gone, so {c}{u} remain.",
        "we subtract {b} from {a} and get {c}{u}.", "from {b} up to {a} it is {c}{u}.",
        "without {b} of the {a} there are {c}{u}.",
    ),
    ast.Mult: (
        "{a} times {b} is {c}{u}.", "{a} groups of {b} make {c}{u}.", "{a} * {b} = {c}{u}.",
        "multiplying {a} by {b} gives {c}{u}.", "the product of {a} and {b} is {c}{u}.",
        "{b} for each of {a} comes to {c}{u}.", "we take {b} as often as {a}: {c}{u}.",
        "{a} lots of {b} are {c}{u}.",
    ),
    ast.Div: (
        "{a} divided by {b} is {c}{u}.", "sharing {a} among {b} gives {c}{u} each.",
        "{a} / {b} = {c}{u}.", "{b} goes into {a} exactly {c} times.",
        "we split {a} into {b} parts of {c}{u}.", "out of {a}, one part in {b} is {c}{u}.",
        "dividing {a} by {b} gives {c}{u}.", "{a} over {b} is {c}{u}.",
    ),
    ast.Pow: ("{a} to the power of {b} is {c}.", "{a} taken {b} times as a factor is {c}."),
}  # fmt: skip
COMMUTES = (ast.Add, ast.Mult)
COMMON = {
    "GCD": (
        "the largest number that divides {all} is {c}{u}.", "{all} share {c} as their greatest "
        "factor.", "the greatest common divisor of {all} is {c}.", "{c} divides all of {all}, and "
        "nothing larger does.", "GCD of {all} = {c}{u}.", "we look for the biggest common factor "
        "of {all}: {c}.",
    ),
    "LCM": (
        "the smallest number that {all} divide is {c}{u}.", "{all} meet first at {c}{u}.",
        "the least common multiple of {all} is {c}.", "{c} is a multiple of {all}, and no smaller "
        "number is.", "LCM of {all} = {c}{u}.", "counting in steps of {all}, they agree at {c}.",
    ),
}  # fmt: skip
RATIO = (
    "{a} to {b} is the same as {c} to {d}.", "from {a}:{b} follows {c}:{d}.",
    "scaling {a} to {c} turns {b} into {d}.", "{a} parts are {c}, so {b} parts are {d}{u}.",
    "the ratio {a}:{b} equals {c}:{d}.", "we multiply both sides of {a}:{b} and get {c}:{d}.",
)  # fmt: skip
_NUMBER = r"\d+(?:\.\d+)?"


class Unreadable(Exception):
    """A formula that is none of the known kinds."""


def worded(problem: dict[str, Any], rng: np.random.Generator) -> str:
    """The trace of one problem in words.

    Args:
        problem: with ``question``, ``solution`` and ``answer``.
        rng: of the wordings.

    Raises:
        Unreadable: if the formula cannot be read or does not give the answer.

    Example:
        >>> problem = {"question": "How many pens?", "solution": "4 * 10 = 40", "answer": "40"}
        >>> worded(problem, np.random.default_rng(1)).splitlines()[-1]
        '#### 40'
    """
    formula = problem["solution"].split("\n")[0].strip()
    unit = _unit(problem["question"])

    def pick(some: tuple[str, ...]) -> str:
        return some[int(rng.integers(len(some)))]

    def say(text: str, **parts: str) -> str:
        named = f" {unit}" if unit and rng.random() < 0.5 else ""
        return text.format(u=named, **parts)

    steps = _special(formula, pick, say) or _arithmetic(formula, problem["answer"], pick, say, rng)
    lines = []
    for i, step in enumerate(steps):
        line = pick(FIRST if i == 0 else THEN) + step
        lines.append(line[0].upper() + line[1:])
    end = pick(LAST).format(n=problem["answer"])
    text = " ".join([*lines, end] if end else lines)
    return f"{text}\n#### {problem['answer']}"


def _special(
    formula: str, pick: Callable[[tuple[str, ...]], str], say: Callable[..., str]
) -> list[str]:
    """Common divisors and multiples, and ratios; empty for anything else."""
    common = re.fullmatch(r"(GCD|LCM)\s*[\[(]\s*([\d,\s]+?)\s*[\])]\s*=\s*(\d+)", formula)
    if common:
        numbers = [int(n) for n in common[2].split(",")]
        function = {"GCD": math.gcd, "LCM": math.lcm}[common[1]]
        if function(*numbers) != int(common[3]):
            raise Unreadable(formula)
        named = " and ".join([", ".join(map(str, numbers[:-1])), str(numbers[-1])])
        return [say(pick(COMMON[common[1]]), all=named, c=common[3])]
    number = rf"({_NUMBER})"
    ratio = re.fullmatch(rf"{number}:{number}\s*=\s*{number}:{number}", formula)
    if ratio:
        a, b, c, d = map(float, ratio.groups())
        if abs(a * d - b * c) > 1e-6 * max(1.0, a * d):
            raise Unreadable(formula)
        return [say(pick(RATIO), **dict(zip("abcd", ratio.groups(), strict=True)))]
    return []


def _arithmetic(
    formula: str,
    answer: str,
    pick: Callable[[tuple[str, ...]], str],
    say: Callable[..., str],
    rng: np.random.Generator,
) -> list[str]:
    left, equals, _ = formula.partition("=")
    if not equals or not re.fullmatch(r"[\d.\s()+*/^-]+", left):
        raise Unreadable(formula)
    try:
        tree = ast.parse(left.strip().replace("^", "**"), mode="eval").body
    except SyntaxError as error:
        raise Unreadable(formula) from error
    steps: list[str] = []

    def value(node: ast.expr) -> float:
        if isinstance(node, ast.Constant):
            return float(node.value)  # type: ignore[arg-type]
        if not isinstance(node, ast.BinOp) or type(node.op) not in WORDED:
            raise Unreadable(formula)
        turned = isinstance(node.op, COMMUTES) and rng.random() < 0.5
        a, b = (
            value(part) for part in ((node.right, node.left) if turned else (node.left, node.right))
        )
        c = _apply(node.op, a, b)
        said = {"a": _shown(a), "b": _shown(b), "c": _shown(c)}
        steps.append(say(pick(WORDED[type(node.op)]), **said))
        return c

    found = value(tree)
    if not steps or abs(found - float(answer)) > 0.05:
        raise Unreadable(formula)
    return steps


def _apply(operator: ast.operator, a: float, b: float) -> float:
    if isinstance(operator, ast.Div) and b == 0:
        raise Unreadable("division by 0")
    results: dict[type[ast.operator], Callable[[], float]] = {
        ast.Add: lambda: a + b,
        ast.Sub: lambda: a - b,
        ast.Mult: lambda: a * b,
        ast.Div: lambda: a / b,
        ast.Pow: lambda: a**b,
    }
    return results[type(operator)]()


def _shown(number: float) -> str:
    return f"{round(number, 3):g}" if abs(number) < 1e6 else f"{number:.0f}"


def _unit(question: str) -> str | None:
    """The word after "how many", if it is a noun in the plural."""
    found = re.search(r"[Hh]ow many (?:more |extra |total )?([a-z]+s)\b", question)
    return found[1] if found and found[1] not in ("times", "is", "was", "does") else None


def write(source: Path, to: Path, *, seed: int, keeps_all: bool) -> None:
    """Write the problems of one file with worded traces, and say how many were left out."""
    rng = np.random.default_rng([seed, 16])
    rows, left_out = [], 0
    for line in source.read_text(encoding="utf-8").splitlines():
        problem = json.loads(line)
        try:
            problem["solution"] = worded(problem, rng)
        except Unreadable:
            left_out += 1
            if not keeps_all:
                continue
        rows.append(json.dumps(problem))
    to.parent.mkdir(parents=True, exist_ok=True)
    to.write_text("\n".join(rows) + "\n", encoding="utf-8")
    print(f"{to}: {len(rows)} problems; {left_out} formulas not put into words")


def write_both(train: Path, test: Path, out: Path, seed: int = 0) -> None:
    """Write ``train.jsonl`` and ``test.jsonl`` with worded traces into a folder.

    Args:
        train: ASDiv's train problems.
        test: its test problems; those whose formula cannot be read keep it as their trace.
        out: the folder.
        seed: of the wordings.
    """
    write(train, out / "train.jsonl", seed=seed, keeps_all=False)
    write(test, out / "test.jsonl", seed=seed + 1, keeps_all=True)


if __name__ == "__main__":
    run_script(write_both)
