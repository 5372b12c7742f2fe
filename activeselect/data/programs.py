"""Programs: the arithmetic of a trace, executed with other numbers or turned round.

A trace whose equations use the question's numbers is a program; where one number of the question
is used once on the way to the answer, the equations can be solved for it::

    ben has 18 kites and gets 20 more but then loses 14 . how many kites now ?
    so 18 + 20 = 38 . here 38 - 14 = 24 . thus answer : 24

    ben has ? kites and gets 20 more but then loses 14 . how many kites now ?   (24)
    here 24 + 14 = 38 . so 38 - 20 = 18 . thus answer : 18
"""

from __future__ import annotations

import re
from collections.abc import Callable
from fractions import Fraction

import numpy as np

from activeselect.data.chains import Chain
from activeselect.data.pool import Problem

#: A whole number, and an equation of two of them.
NUMBER = re.compile(r"(?<![\w.])\d+(?![\w]|\.\d)")
EQUATION = re.compile(r"(\d+)\s*([-+x*/])\s*(\d+)\s*=\s*(\d+)")
#: What stands in a question for the number that is asked for.
UNKNOWN = "?"

#: A number of a step: ("given", n), ("result", i) or ("constant", n).
Operand = tuple[str, int]
Steps = list[tuple[Operand, str, Operand]]


def program_of(problem: Problem) -> tuple[list[int], Steps] | None:
    """The question's numbers and the steps on them; None where the trace is no such program.

    Every number of a step must be one of the question's, an earlier result, or a constant that the
    question does not hold, and it must be clear which.

    Example:
        >>> asked = Problem(0, "3 kites and 4 more ?", "so 3 + 4 = 7 . answer : 7", "7")
        >>> program_of(asked)
        ([3, 4], [(('given', 3), '+', ('given', 4))])
    """
    given = [int(found) for found in NUMBER.findall(problem.question)]
    found = EQUATION.findall(problem.trace)
    if not found or len(set(given)) < len(given) or not problem.trace.endswith(problem.answer):
        return None
    results: list[int] = []
    steps: Steps = []

    def operand(n: int) -> Operand:
        if n in results:
            return "result", results.index(n)
        return ("given", n) if n in given else ("constant", n)

    for left, op, right, result in found:
        if int(left) in results and int(left) in given:
            return None  # it cannot be told which of the two is meant
        steps.append((operand(int(left)), op, operand(int(right))))
        results.append(int(result))
    numbers = {n for n in given if n in results}
    as_it_stands = execute(steps, {n: n for n in given})
    if numbers or as_it_stands != results or str(results[-1]) != problem.answer:
        return None
    return given, steps


def execute(steps: Steps, given: dict[int, int]) -> list[int] | None:
    """The result of every step with the numbers ``given``; None unless all are whole and positive.

    Example:
        >>> execute([(("given", 3), "+", ("given", 4))], {3: 30, 4: 5})
        [35]
    """
    results: list[int] = []
    for left, op, right in steps:
        a, b = (_value(side, given, results) for side in (left, right))
        if op == "/" and b == 0:
            return None
        value = {"+": a + b, "-": a - b}.get(op, Fraction(a, b) if op == "/" else a * b)
        if value <= 0 or value != int(value):
            return None
        results.append(int(value))
    return results


def written(steps: Steps, given: dict[int, int], results: list[int]) -> list[str]:
    """The equations with their numbers.

    Example:
        >>> written([(("given", 3), "+", ("given", 4))], {3: 30, 4: 5}, [35])
        ['30 + 5 = 35']
    """
    return [
        f"{_value(left, given, results)} {op} {_value(right, given, results)} = {result}"
        for (left, op, right), result in zip(steps, results, strict=True)
    ]


def _value(operand: Operand, given: dict[int, int], results: list[int]) -> int:
    kind, n = operand
    return given[n] if kind == "given" else results[n] if kind == "result" else n


def turned_round(
    problem: Problem, chain: Chain, rng: np.random.Generator
) -> tuple[str, str, str] | None:
    """The question with one number unknown, and the steps that find it from the answer.

    Steps that the unknown has no part in come first, as they are; the others are solved for it, the
    last one first. A step keeps its wording where that is one word (of the built-in benchmark), and
    is its equation alone otherwise.

    Args:
        chain: the problem's trace, split.

    Returns:
        Question, trace and answer (the number that was asked for); None where the trace is no
        program, or no number of the question is used exactly once on its way to the answer.

    Source: RevThink, arXiv 2411.19865; the question is turned by rules here, not by a model.
    """
    program = program_of(problem)
    if program is None or len(chain.steps) != len(program[1]):
        return None
    given, steps = program
    results = execute(steps, {n: n for n in given}) or []
    ways = {n: way for n in given if (way := _way(steps, ("given", n))) is not None}
    if not ways:
        return None
    unknown = list(ways)[int(rng.integers(len(ways)))]
    way = ways[unknown]
    same = {n: n for n in given}
    equations = written(steps, same, results)
    lines = [_line(chain.steps[i], equations[i]) for i in range(len(steps)) if i not in way]
    for i in reversed(way):
        left, op, right = steps[i]
        a, b = _value(left, same, results), _value(right, same, results)
        target = ("given", unknown) if i == way[0] else ("result", way[way.index(i) - 1])
        solved = _SOLVED[op][0 if left == target else 1](a, b, results[i])
        lines.append(_line(chain.steps[i], solved))
    question = re.sub(rf"(?<![\w.]){unknown}(?![\w]|\.\d)", UNKNOWN, problem.question)
    return question, " ".join(lines) + f"{chain.cue} {unknown}", str(unknown)


def _way(steps: Steps, start: Operand) -> list[int] | None:
    """The steps from a number to the answer, where each is used exactly once; else None."""
    way: list[int] = []
    at = start
    while True:
        uses = [
            i for i, (left, _, right) in enumerate(steps) for side in (left, right) if side == at
        ]
        if not uses:
            return way if way and way[-1] == len(steps) - 1 else None
        if len(uses) > 1:
            return None
        way.append(uses[0])
        at = ("result", uses[0])


#: ``a op b = c`` solved for a, and for b.
_Solver = Callable[[int, int, int], str]
_SOLVED: dict[str, tuple[_Solver, _Solver]] = {
    "+": (lambda a, b, c: f"{c} - {b} = {a}", lambda a, b, c: f"{c} - {a} = {b}"),
    "-": (lambda a, b, c: f"{c} + {b} = {a}", lambda a, b, c: f"{a} - {c} = {b}"),
    "x": (lambda a, b, c: f"{c} / {b} = {a}", lambda a, b, c: f"{c} / {a} = {b}"),
    "*": (lambda a, b, c: f"{c} / {b} = {a}", lambda a, b, c: f"{c} / {a} = {b}"),
    "/": (lambda a, b, c: f"{c} x {b} = {a}", lambda a, b, c: f"{a} / {c} = {b}"),
}


def _line(step: str, equation: str) -> str:
    rest = EQUATION.sub("", step)
    if len(EQUATION.findall(step)) == 1 and len(re.findall(r"[^\W\d]+", rest)) <= 1:
        return EQUATION.sub(equation, step).strip()
    return f"{equation}."
