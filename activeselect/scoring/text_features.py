"""What the text of a problem says about its difficulty before any model has read it (numpy)."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from activeselect.arrays import FloatArray

FEATURES = ("question length", "trace length", "question numbers", "trace numbers", "trace lines")
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")


def text_features(questions: Sequence[str], traces: Sequence[str]) -> FloatArray:
    """Columns for the line of log-odds (:mod:`activeselect.scoring.trajectory`), ``[N, 5]``.

    Characters of question and reference trace, numbers in each, lines of the trace that are not
    blank; as ``log(1 + count)``, because a second step adds more difficulty than a tenth, and
    standardized over the N problems. A column that says the same of all of them is 0: text without
    numbers, or in one line, loses those columns and nothing else.

    Args:
        questions: N of them.
        traces: their reference traces.

    Example:
        >>> features = text_features(["1 + 1 ?", "1 + 1 + 1 ?"], ["2", "1 + 1 = 2,\\n2 + 1 = 3"])
        >>> features.round(6).tolist()[1]
        [1.0, 1.0, 1.0, 1.0, 1.0]
        >>> text_features(["Why?", "Whence?"], ["So.", "No."]).round(6).tolist()[1]
        [1.0, 0.0, 0.0, 0.0, 0.0]
    """
    counts = [_counts(q, t) for q, t in zip(questions, traces, strict=True)]
    logs = np.log1p(np.array(counts, dtype=np.float64).reshape(-1, len(FEATURES)))
    return standardized(logs)


def standardized(columns: FloatArray) -> FloatArray:
    """Columns ``[N, F]`` with mean 0 and standard deviation 1; 0 where a column is constant."""
    if not len(columns):
        return columns
    varies = np.ptp(columns, axis=0) > 0
    centred = columns - columns.mean(axis=0)
    scaled: FloatArray = np.where(varies, centred / np.where(varies, centred.std(axis=0), 1), 0.0)
    return scaled


def _counts(question: str, trace: str) -> tuple[int, ...]:
    lines = sum(bool(line.strip()) for line in trace.splitlines())
    numbers = (len(_NUMBER.findall(text)) for text in (question, trace))
    return (len(question), len(trace), *numbers, lines)
