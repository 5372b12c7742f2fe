"""MATH: competition problems, from the hub or as the folder that its authors distribute.

One record; the final answer stands in ``\\boxed{}``, and the subject is the group (pass
``columns={"group": "level"}`` to group by difficulty instead)::

    {"problem": "What is the value of $9^3 + 3(9^2) + 3(9) + 1$?", "level": "Level 2",
     "type": "Algebra", "solution": "The given expression is the expansion of $(9+1)^3$.
      In general, the cube of $(x+y)$ is ... so it equals $10^3 = \\boxed{1000}$."}
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from activeselect.data.columns import ColumnNames, Layout
from activeselect.data.tabular import BadRow, Row, Rows, RowSource, parse_json_object


def level(value: object) -> float | None:
    """The number in ``Level 3``; the few problems of ``Level ?`` have none.

    Example:
        >>> level("Level 3"), level("Level ?")
        (3.0, None)
    """
    number = str(value).removeprefix("Level ")
    return float(number) if number.isdecimal() else None


def _recognise(row: Mapping[str, object]) -> bool:
    solution = row.get("solution")
    return "problem" in row and isinstance(solution, str) and "\\boxed" in solution


MATH = Layout(
    name="math",
    columns=ColumnNames(question="problem", trace="solution", group="type"),
    checker="math",
    hub_ids=("hendrycks/competition_math", "lighteval/MATH"),
    configs=(),
    recognise=_recognise,
    difficulty=level,
)

MATH_BY_SUBJECT = replace(
    MATH,
    hub_ids=("EleutherAI/hendrycks_math",),
    configs=(
        "algebra",
        "counting_and_probability",
        "geometry",
        "intermediate_algebra",
        "number_theory",
        "prealgebra",
        "precalculus",
    ),
)


def math_layout(columns: Sequence[str]) -> Layout:
    """The layout for these columns: re-uploads of MATH call the subject ``type`` or ``subject``.

    The level, where there is one, is the difficulty.
    """
    group = next((name for name in ("type", "subject", "level") if name in columns), None)
    difficulty = "level" if "level" in columns else None
    return replace(MATH, columns=replace(MATH.columns, group=group, difficulty=difficulty))


def open_math_folder(folder: Path) -> RowSource | None:
    """The authors' folder of one split, ``algebra/1.json`` ..., or None if this is not one.

    Rows are numbered in the order of subject and file number.
    """
    files = sorted(folder.glob("*/*.json"), key=_by_number)
    if not files:
        return None

    def read(columns: Sequence[str] | None) -> Rows:
        for number, path in enumerate(files, start=1):
            row = parse_json_object(path.read_bytes(), number)
            if isinstance(row, BadRow):
                detail = f"{path.parent.name}/{path.name}: {row.detail}"
                yield BadRow(number, row.kind, detail)
            else:
                yield Row(number, row.values)

    return RowSource(str(folder), "row", read)


def _by_number(path: Path) -> tuple[str, int, str]:
    return path.parent.name, int(path.stem) if path.stem.isdecimal() else -1, path.name
