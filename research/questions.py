"""The texts of recorded examples: the runs hold their ids only."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from activeselect.arrays import FloatArray, IntArray
from activeselect.data.tabular import BadRow, open_file
from activeselect.errors import DataError
from activeselect.scoring.text_features import text_features

Texts = list[tuple[str, str]]  # question and reference trace of each row of a file

ALIKE = 0.7  # correlation of log lengths; in tokens and characters .96 on GSM8K, shifted a row .02


def read_texts(path: Path) -> Texts:
    """Question and reference trace of every row: columns ``question`` and ``trace``, or ``answer``.

    Raises:
        DataError: if the file cannot be read, or a row lacks one of them.
    """
    source = open_file(path)
    texts = []
    for row in source.read(None):
        if isinstance(row, BadRow):
            raise DataError(f"{path}, {source.unit} {row.line}: {row.reason}; repair it")
        question, trace = row.values.get("question"), row.values.get("trace")
        trace = row.values.get("answer") if trace is None else trace
        if not isinstance(question, str) or not isinstance(trace, str):
            raise DataError(
                f"{path}, {source.unit} {row.line}: expected texts in the columns question and "
                f"trace (or answer), found {', '.join(map(str, row.values)) or 'nothing'}"
            )
        texts.append((question, trace))
    return texts


def features_of(ids: IntArray, tokens: FloatArray | None, texts: Texts, path: Path) -> FloatArray:
    """Text features of recorded examples, ``[N, F]``; an example's id is its row, from 0.

    Args:
        ids: of the examples, ``[N]``.
        tokens: recorded lengths of their traces, ``[N]``, to recognise the texts by.
        texts: of the file.
        path: of the file, for messages.

    Raises:
        DataError: if the file has too few rows, or other lengths than were recorded.
    """
    if not len(ids) or ids.min() < 0 or ids.max() >= len(texts):
        raise DataError(
            f"{path}: has {len(texts)} rows, expected one for each example id up to "
            f"{ids.max(initial=0)}; give the train split of the recorded dataset"
        )
    questions, traces = zip(*(texts[int(i)] for i in ids), strict=True)
    if tokens is None:
        raise DataError(f"{path}: no n_tokens were recorded to recognise its rows by; leave it out")
    lengths = np.log1p(np.array([list(map(len, traces)), tokens], dtype=np.float64))
    varied = np.all(np.ptp(lengths, axis=1) > 0)
    alike = float(np.corrcoef(lengths)[0, 1]) if varied else 0.0
    if alike < ALIKE:
        raise DataError(
            f"{path}: trace lengths do not match the recorded n_tokens (correlation {alike:.2f}, "
            f"expected at least {ALIKE}); give the recorded dataset's train split, unshuffled"
        )
    return text_features(questions, traces)
