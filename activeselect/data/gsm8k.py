"""GSM8K: grade-school word problems in JSON Lines, or ``openai/gsm8k`` on the hub (config main).

One record; the ``answer`` is the trace, and the final answer stands after ``####``::

    {"question": "Natalia sold clips to 48 of her friends in April, and then she sold half as many
                  clips in May. How many clips did Natalia sell altogether in April and May?",
     "answer": "Natalia sold 48/2 = <<48/2=24>>24 clips in May.\\nNatalia sold 48+24 =
                <<48+24=72>>72 clips altogether in April and May.\\n#### 72"}
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from activeselect.data.columns import ColumnNames, Layout

_NOTE = re.compile(r"<<[^<>\n]*>>")


def strip_calculator_notes(trace: str) -> str:
    """Remove the ``<<48/2=24>>`` notes of GSM8K; the paper keeps them in its targets.

    Example:
        >>> strip_calculator_notes("48/2 = <<48/2=24>>24 clips")
        '48/2 = 24 clips'
    """
    return _NOTE.sub("", trace)


def solution_lines(trace: object) -> float | None:
    """Lines of a solution, the one with the final answer not counted: the paper's difficulty.

    Example:
        >>> solution_lines("48/2 = 24 clips in May.\\n48+24 = 72 clips.\\n#### 72")
        2.0
    """
    if not isinstance(trace, str):
        return None
    lines = (line.strip() for line in trace.splitlines())
    return float(sum(bool(line) and not line.startswith("####") for line in lines))


def _recognise(row: Mapping[str, object]) -> bool:
    answer = row.get("answer")
    return "question" in row and "trace" not in row and isinstance(answer, str) and "####" in answer


GSM8K = Layout(
    name="gsm8k",
    columns=ColumnNames(question="question", trace="answer", difficulty="answer"),
    checker="gsm8k",
    hub_ids=("openai/gsm8k", "gsm8k"),
    configs=("main",),
    recognise=_recognise,
    difficulty=solution_lines,
)
