"""What scoring passes measured, one after the other or joined."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Scores:
    """What one scoring pass measured (B examples, S samples); None = not measured.

    ``sampled`` says how many columns of ``correct`` count for each example; None = all.
    ``nll_sum`` in nats over ``tokens`` target tokens, the end token included. ``columns`` holds
    the other measured signals by name, float64 ``[B]`` each; ``tally`` counts what says whether the
    sampled answers can be trusted (:func:`activeselect.scoring.guards.sampling_quality`).
    """

    index: IntArray
    correct: NDArray[np.bool_] | None = None
    nll_sum: FloatArray | None = None
    tokens: IntArray | None = None
    columns: dict[str, FloatArray] = field(default_factory=dict)
    completions: tuple[tuple[str, ...], ...] | None = None
    tokens_generated: int = 0
    truncated: int = 0
    seconds: float = 0.0
    tally: dict[str, float] = field(default_factory=dict)
    sampled: IntArray | None = None

    @property
    def right(self) -> IntArray:
        """How many of each example's completions are right, int64 ``[B]``."""
        assert self.correct is not None
        right: IntArray = self.correct.sum(axis=1)
        return right

    def outcomes(self) -> list[list[bool]]:
        """Right or wrong of each example's completions, as many as were sampled."""
        assert self.correct is not None
        rows: list[list[bool]] = self.correct.tolist()
        if self.sampled is None:
            return rows
        return [row[:count] for row, count in zip(rows, self.sampled.tolist(), strict=True)]

    def take(self, rows: IntArray) -> Scores:
        """These rows, in this order; what is counted over all of them stays."""
        return replace(
            self,
            index=self.index[rows],
            correct=None if self.correct is None else self.correct[rows],
            sampled=None if self.sampled is None else self.sampled[rows],
            nll_sum=None if self.nll_sum is None else self.nll_sum[rows],
            tokens=None if self.tokens is None else self.tokens[rows],
            columns={name: values[rows] for name, values in self.columns.items()},
            completions=self.completions and tuple(self.completions[row] for row in rows),
        )

    def to_plain(self) -> dict[str, Any]:
        """JSON-ready; floats survive to the bit."""
        plain = {**vars(self), "columns": {n: v.tolist() for n, v in self.columns.items()}}
        return {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in plain.items()}

    @classmethod
    def from_plain(cls, plain: dict[str, Any]) -> Scores:
        columns = {n: np.array(values, np.float64) for n, values in plain["columns"].items()}
        kinds: dict[str, Any] = {
            "index": np.int64, "correct": np.bool_, "nll_sum": np.float64, "tokens": np.int64,
            "sampled": np.int64,
        }  # fmt: skip
        arrays = {n: None if plain[n] is None else np.array(plain[n], k) for n, k in kinds.items()}
        texts = plain["completions"]
        completions = None if texts is None else tuple(tuple(row) for row in texts)
        return cls(**{**plain, **arrays, "columns": columns, "completions": completions})


def joined(parts: Sequence[Scores]) -> Scores:
    """Several passes that measured the same things, as one."""

    def column(name: str) -> Any:
        values = [getattr(part, name) for part in parts]
        return np.concatenate(values) if values and values[0] is not None else None

    names = parts[0].columns if parts else ()
    texts = [row for part in parts for row in part.completions or ()]
    counted = sorted({name for part in parts for name in part.tally})
    return Scores(
        np.empty(0, np.int64) if not parts else column("index"),
        column("correct"),
        column("nll_sum"),
        column("tokens"),
        {name: np.concatenate([part.columns[name] for part in parts]) for name in names},
        tuple(texts) if parts and parts[0].completions is not None else None,
        sum(part.tokens_generated for part in parts),
        sum(part.truncated for part in parts),
        sum(part.seconds for part in parts),
        {name: sum(part.tally.get(name, 0) for part in parts) for name in counted},
        column("sampled"),
    )
