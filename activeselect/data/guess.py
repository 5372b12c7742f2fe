"""Which columns and which checker someone's data probably needs: a start, to be looked at."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from activeselect.data.rows import Row
from activeselect.data.sources import open_source, recognised

#: Usual names of each role, the likeliest first; a column is used for one role only.
_NAMES = {
    "question": "question problem prompt instruction query input q text",
    "trace": "trace solution rationale reasoning steps cot explanation response completion output "
    "answer a",
    "answer": "answer final_answer short_answer expected target label ground_truth",
    "group": "group subject topic category skill type domain level difficulty",
    "id": "id idx index uuid unique_id question_id",
}
_MARKERS = ("####", "Final answer:", "final answer:", "Answer:", "answer :", "answer:", "ANSWER:")


@dataclass(frozen=True)
class Guess:
    """What a source seems to be.

    Attributes:
        layout: name of a known dataset's layout, or ``columns``.
        columns: role -> column name; empty for a known layout, which needs none.
        checker: name of the answer checker; None where the layout has one.
        because: one sentence per guess.
    """

    layout: str
    columns: dict[str, str] = field(default_factory=dict)
    checker: str | None = None
    because: list[str] = field(default_factory=list)


def look_at(source: str) -> Guess:
    """Read the first rows of a source and guess what its columns are.

    Raises:
        DataError: if it cannot be read.
    """
    rows = open_source(source, "train")
    values = [row.values for row in rows.sample if isinstance(row, Row)]
    layout = recognised(rows, source)
    if layout != "columns":
        return Guess(layout, because=[f"{rows.name} has the layout of {layout}."])
    columns = guess_columns(rows.columns)
    because = [
        f"{role}: column '{name}' (the columns are {', '.join(rows.columns)})."
        for role, name in columns.items()
    ]
    lost = [role for role in ("question", "trace") if role not in columns]
    because += [f"{role}: no column has a usual name; fill it in." for role in lost]
    checker, why = guess_checker(_texts(values, columns.get("trace")))
    return Guess(layout, columns, checker, [*because, why])


def guess_columns(columns: Sequence[str]) -> dict[str, str]:
    """Roles of columns by their usual names.

    Example:
        >>> guess_columns(["problem", "solution", "answer", "level"])
        {'question': 'problem', 'trace': 'solution', 'answer': 'answer', 'group': 'level'}
        >>> guess_columns(["Question", "Answer"])
        {'question': 'Question', 'trace': 'Answer'}
    """
    free = {name.lower(): name for name in reversed(columns)}
    found = {}
    for role, names in _NAMES.items():
        name = next((name for name in names.split() if name in free), None)
        if name is not None:
            found[role] = free.pop(name)
    return found


def guess_checker(traces: Sequence[str]) -> tuple[str, str]:
    """The checker that finds an answer in most traces, and why.

    Example:
        >>> guess_checker(["so 1 + 1 = 2\\n#### 2"])[0], guess_checker([r"is $\\boxed{x^2}$"])[0]
        ('gsm8k', 'math')
        >>> guess_checker(["thus. Answer: blue", "so. Answer: red"])[0]
        'marker:Answer:'
        >>> guess_checker(["2 of 3 are left, so 5"])[0]
        'number'
    """
    most = 0.5 * len(traces)
    if sum(r"\boxed" in trace for trace in traces) > most:
        return "math", r"checker: math, because traces end in \boxed{...}."
    for marker in _MARKERS:
        if sum(marker in trace for trace in traces) > most:
            name = "gsm8k" if marker == "####" else f"marker:{marker}"
            return name, f"checker: {name}, because traces say '{marker}' before the answer."
    numbers = sum(bool(re.search(r"\d", trace)) for trace in traces)
    return (
        "number",
        f"checker: number (the last one in the text), which {numbers} of {len(traces)} traces "
        "have; math, gsm8k or marker:TEXT may fit better.",
    )


def _texts(values: Sequence[Mapping[str, object]], column: str | None) -> list[str]:
    found = [row.get(column) for row in values] if column else []
    return [text for text in found if isinstance(text, str)]
