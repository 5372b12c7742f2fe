"""The history and the cost of a run: what it has measured and spent so far."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from activeselect.arrays import FloatArray, IntArray
from activeselect.scoring.signals import STORED
from activeselect.scoring.store import ScoreStore, count_right

_Rows = dict[int, tuple[IntArray, NDArray[Any]]]
_Tensors = dict[int, tuple[torch.Tensor, torch.Tensor]]


def forecast_inputs(
    read: Callable[[str], FloatArray], policy: str
) -> tuple[FloatArray, FloatArray]:
    """Accuracy and mean NLL as a forecaster takes them, ``[R, N]`` each.

    It knows itself what to make of memorized examples that were not sampled (NaN), and takes the
    noise of sampling off, which the values that ``skip-memorized`` carried on do not have.
    """
    accuracy = read("accuracy")
    if policy == "skip-memorized":
        accuracy = np.where(read("sampled") == 0, np.nan, accuracy)
    return accuracy, read("mean_nll")


@dataclass
class Cost:
    """What a run has spent so far: seconds per part, tokens trained and generated.

    ``completions`` were sampled of train examples and candidates; a sampling policy saved
    ``completions_saved`` against ``scoring.samples`` of every scored example. ``labels`` were
    bought for questions that came without.
    """

    train_s: float = 0.0
    score_s: float = 0.0
    select_s: float = 0.0
    eval_s: float = 0.0
    tokens_trained: int = 0
    tokens_generated: int = 0
    samples_seen: int = 0
    completions: int = 0
    completions_saved: int = 0
    labels: int = 0

    def __add__(self, other: Cost) -> Cost:
        return Cost(**{name: value + getattr(other, name) for name, value in vars(self).items()})

    def __sub__(self, other: Cost) -> Cost:
        return Cost(**{name: value - getattr(other, name) for name, value in vars(self).items()})

    @property
    def of_training(self) -> Cost:
        """The part that training alone took."""
        return Cost(**{name: getattr(self, name) for name in TRAINING})


#: What training costs; the rest is for measuring and choosing.
TRAINING = ("train_s", "tokens_trained", "samples_seen")


@dataclass
class History:
    """Measured signals of the rounds so far, as they came: round -> positions and values.

    A round is one scoring pass; it measures some signals on some examples. Where a sampling policy
    decides, ``right`` and ``sampled`` (int32) hold its counts: it is a function of these.
    """

    size: int
    rounds: int = 0
    signals: dict[str, _Rows] = field(default_factory=dict)

    @classmethod
    def from_store(cls, store: ScoreStore, rounds: int) -> History:
        """What the first ``rounds`` of a run measured, read back from its store."""
        history = cls(store.pool_size, rounds)
        for round in (number for number in store.rounds() if number < rounds):
            table = store.read(round)
            for name in STORED:
                if name in table.column_names:
                    index, values = table["index"].to_numpy().copy(), table[name].to_numpy().copy()
                    history.signals.setdefault(name, {})[round] = (index, values)
            if "sampled" in table.column_names:
                history._count(
                    round, table["index"].to_numpy().copy(), *count_right(table["correct"])
                )
        return history

    @classmethod
    def from_tensors(cls, size: int, rounds: int, tensors: Mapping[str, _Tensors]) -> History:
        """Undo :meth:`tensors`."""
        signals = {
            name: {round: (i.numpy(), values.numpy()) for round, (i, values) in rows.items()}
            for name, rows in tensors.items()
        }
        return cls(size, rounds, signals)

    def tensors(self) -> dict[str, _Tensors]:
        """The signals as tensors, which a checkpoint may hold and be read without code."""
        return {
            name: {
                round: (torch.from_numpy(index), torch.from_numpy(values))
                for round, (index, values) in rows.items()
            }
            for name, rows in self.signals.items()
        }

    def add(self, index: IntArray, columns: Mapping[str, FloatArray]) -> None:
        """Append one round, measured on the examples ``index``."""
        for name, values in columns.items():
            self.signals.setdefault(name, {})[self.rounds] = (index, values)
        self.rounds += 1

    def count(self, index: IntArray, right: IntArray, sampled: IntArray) -> None:
        """Keep how often the examples of the last round were sampled, and how often right."""
        self._count(self.rounds - 1, index, right, sampled)

    def _count(self, round: int, index: IntArray, right: IntArray, sampled: IntArray) -> None:
        for name, values in (("right", right), ("sampled", sampled)):
            self.signals.setdefault(name, {})[round] = (index, values.astype(np.int32))

    def counts(self, index: IntArray, *, since: int) -> tuple[IntArray, IntArray, FloatArray]:
        """Right and sampled completions and mean NLL of examples in the rounds that counted them.

        Args:
            index: positions, int ``[B]``.
            since: first round to look at.

        Returns:
            int64 ``[R, B]`` twice and float64 ``[R, B]``, NaN where not measured. A round that
            measured none of these examples is left out.
        """
        place = np.full(self.size, -1)
        place[index] = np.arange(len(index))
        rows: list[tuple[IntArray, IntArray, FloatArray]] = []
        for round in self.measured("right", "sampled", "mean_nll", since=since):
            where = place[self.signals["sampled"][round][0]]
            known = where >= 0
            if known.any():
                right, sampled = np.zeros((2, len(index)), dtype=np.int64)
                mean_nll = np.full(len(index), np.nan)
                for name, row in (("right", right), ("sampled", sampled), ("mean_nll", mean_nll)):
                    row[where[known]] = self.signals[name][round][1][known]
                rows.append((right, sampled, mean_nll))
        found = [np.reshape([row[k] for row in rows], (len(rows), len(index))) for k in range(3)]
        return found[0].astype(np.int64), found[1].astype(np.int64), found[2]

    def extend(self, name: str, index: IntArray, values: FloatArray) -> None:
        """Measure more examples in the last round."""
        known, before = self.signals[name][self.rounds - 1]
        self.signals[name][self.rounds - 1] = (
            np.concatenate([known, index]),
            np.concatenate([before, values]),
        )

    def matrix(self, name: str) -> FloatArray:
        """float64 ``[R, N]``; NaN where not measured."""
        matrix = np.full((self.rounds, self.size), np.nan)
        for round, (index, values) in self.signals.get(name, {}).items():
            matrix[round, index] = values
        return matrix

    def measured(self, *names: str, since: int = 0) -> list[int]:
        """Rounds from ``since`` on that measured all of these signals."""
        rounds = [self.signals.get(name, {}).keys() for name in names]
        return [r for r in range(since, self.rounds) if all(r in found for found in rounds)]
