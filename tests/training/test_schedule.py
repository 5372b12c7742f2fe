"""When a round is due, and what the learning rate is at each step, by their definitions."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest

from activeselect.config import RecipeConfig, RoundsConfig
from activeselect.training.callback import ActiveSelection
from activeselect.training.history import Cost
from activeselect.training.module import ReasoningModule


def scored_epochs(every: int, last: int | None, epochs: int) -> list[int]:
    """The epochs after which a callback scores."""
    scored: list[int] = []

    class Recording(ActiveSelection):
        def __init__(self) -> None:
            self.rounds = RoundsConfig(budgets=(8,), score_every=every)
            self._last_scored = last
            self.sampler = SimpleNamespace(resume=lambda *_: None)  # type: ignore[assignment]
            self.reweights = False  # type: ignore[misc]
            measurer: Any = SimpleNamespace(cost=Cost(), what=frozenset())
            self.measurer = measurer

        def _score(self, *_: Any) -> None:
            scored.append(self.epoch)

        def _weigh(self, *_: Any) -> None:
            assert scored[-1] == self.epoch  # asked after each scored round, and only then

    callback = Recording()
    for epoch in range(1, epochs + 1):
        callback.end_epoch(None, epoch)
    return scored


@pytest.mark.parametrize(
    ("every", "last", "expected"),
    [
        (1, None, [1, 2, 3, 4, 5, 6, 7]),
        (2, None, [2, 4, 6]),
        (3, None, [3, 6]),
        (2, 4, [2, 4]),
        (2, 5, [2, 4]),
        (1, 1, [1]),
        (1, 0, []),
        (7, None, [7]),
    ],
)
def test_a_round_is_due_after_every_so_many_epochs(
    every: int, last: int | None, expected: list[int]
) -> None:
    assert scored_epochs(every, last, 7) == expected


@pytest.mark.parametrize("warmup", [0.0, 0.1, 0.25])
@pytest.mark.parametrize("steps", [1, 4, 40])
@pytest.mark.parametrize("schedule", ["linear", "cosine", "constant"])
def test_the_learning_rate_follows_its_definition(schedule: str, steps: int, warmup: float) -> None:
    module = ReasoningModule.__new__(ReasoningModule)
    object.__setattr__(module, "recipe", RecipeConfig(schedule=schedule, warmup=warmup))
    object.__setattr__(module, "total_steps", steps)
    warm = round(warmup * steps)
    for step in range(steps + 1):
        if step < warm:
            expected = (step + 1) / (warm + 1)
        else:
            done = (step - warm) / max(1, steps - warm)
            expected = {
                "linear": 1 - done,
                "cosine": (1 + math.cos(math.pi * done)) / 2,
                "constant": 1.0,
            }[schedule]
        assert ReasoningModule._rate(module, step) == pytest.approx(expected, abs=1e-12)
