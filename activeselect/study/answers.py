"""Right or wrong for every test problem of a study, in one small file.

With it a study can be judged again, on another axis or beside another study, without its run
folders.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from activeselect.errors import StoreError
from activeselect.files import write_bytes

FILE = "answers.parquet"
#: Dataset, strategy and seed of a run.
Key = tuple[str, str, int]
#: Per run bool ``[B, E]``: budget, test problem.
Answers = dict[Key, NDArray[np.bool_]]


def write_answers(path: Path, answers: Mapping[Key, NDArray[np.bool_]]) -> None:
    """Write all answers, eight to a byte.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / FILE
        >>> write_answers(file, {("mixed", "random", 0): np.array([[True, False, True]])})
        >>> read_answers(file)["mixed", "random", 0].tolist()
        [[True, False, True]]
    """
    rows = [(key, stage, row) for key, array in answers.items() for stage, row in enumerate(array)]
    table = pa.table(
        {
            "dataset": [key[0] for key, _, _ in rows],
            "strategy": [key[1] for key, _, _ in rows],
            "seed": [key[2] for key, _, _ in rows],
            "stage": [stage for _, stage, _ in rows],
            "examples": [len(row) for _, _, row in rows],
            "correct": [np.packbits(row).tobytes() for _, _, row in rows],
        }
    )
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    write_bytes(path, buffer.getvalue())


def read_answers(path: Path) -> Answers:
    """Read what :func:`write_answers` wrote.

    Raises:
        StoreError: if the file is absent or damaged.
    """
    try:
        rows = pq.read_table(path).to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise StoreError(f"Cannot read {path}: {error}") from error
    found: dict[Key, list[NDArray[np.bool_]]] = {}
    for row in sorted(rows, key=lambda row: row["stage"]):
        bits = np.unpackbits(np.frombuffer(row["correct"], dtype=np.uint8), count=row["examples"])
        found.setdefault((row["dataset"], row["strategy"], row["seed"]), []).append(bits == 1)
    return {key: np.stack(arrays) for key, arrays in found.items()}
