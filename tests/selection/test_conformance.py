"""The conformance suite over every registered strategy, and over strategies that must fail it."""

from __future__ import annotations

import inspect
from types import ModuleType
from typing import Any, ClassVar

import numpy as np
import pytest

from activeselect.errors import StrategyError
from activeselect.selection.registry import create, strategies
from activeselect.selection.strategy import Selection, SelectionContext, Strategy

TARGETS = {
    str(size): {"a": size * 0.5, "b": size * 0.3, "c": size * 0.2, "x": 1.0} for size in range(101)
}

#: Strategy -> the parameters it is tested with; every parameter of a strategy has to occur.
PARAMETERS: dict[str, list[dict[str, Any]]] = {
    "random": [{}],
    "premem": [{}, {"threshold": 0.0, "floor": 0.0}, {"threshold": 1.0}, {"floor": 0.2}],
    "oracle": [{"targets": TARGETS}],
}
CASES = [(name, parameters) for name, some in PARAMETERS.items() for parameters in some]
CHECKS = [
    "is_described",
    "keeps_its_parameters",
    "keeps_its_promises",
    "accepts_or_refuses_nothing",
    "repeats",
    "leaves_its_inputs_alone",
    "pickles",
    "resumes",
    "groups_of_any_name",
]


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize(("name", "parameters"), CASES)
def test_conforms(
    conformance: ModuleType, check: str, name: str, parameters: dict[str, Any]
) -> None:
    getattr(conformance, f"check_{check}")(lambda: create({"name": name, **parameters}))


def test_every_check_runs(conformance: ModuleType) -> None:
    assert [f"check_{check}" for check in CHECKS] == [c.__name__ for c in conformance.CHECKS]


def test_every_strategy_and_parameter_has_a_row() -> None:
    own = {
        name: cls for name, cls in strategies().items() if cls.__module__.startswith("activeselect")
    }
    assert set(PARAMETERS) == set(own)
    for name, cls in own.items():
        used = {key for parameters in PARAMETERS[name] for key in parameters}
        assert used == set(inspect.signature(cls).parameters), name


class _Good(Strategy):
    """Takes the first candidates.

    Prefers: the first. Helps: never. Hurts: often. Costs: nothing. Source: a test.
    """

    name: ClassVar[str] = "good"

    def select(self, context: SelectionContext, budget: int, rng: np.random.Generator) -> Selection:
        return Selection.of(context.candidates[:budget])


class _Undescribed(_Good):
    """Takes the first candidates."""


class _Greedy(_Good):
    __doc__ = _Good.__doc__

    def select(self, context: SelectionContext, budget: int, rng: np.random.Generator) -> Selection:
        return Selection.of(context.candidates[: budget + 1])


class _Sorter(_Good):
    __doc__ = _Good.__doc__

    def select(self, context: SelectionContext, budget: int, rng: np.random.Generator) -> Selection:
        context.candidates.sort()
        return super().select(context, budget, rng)


class _Global(_Good):
    __doc__ = _Good.__doc__

    def select(self, context: SelectionContext, budget: int, rng: np.random.Generator) -> Selection:
        return Selection.of(np.random.permutation(context.candidates)[:budget])  # noqa: NPY002


class _Counting(_Good):
    __doc__ = _Good.__doc__

    def __init__(self) -> None:
        self.calls = 0

    def select(self, context: SelectionContext, budget: int, rng: np.random.Generator) -> Selection:
        self.calls += 1
        return Selection.of(np.roll(context.candidates, self.calls)[:budget])


class _Changing(_Good):
    __doc__ = (_Good.__doc__ or "") + "\n    Args:\n        share: what it keeps."

    def __init__(self, share: float = 0.3) -> None:
        self.share = share * 2


def test_the_suite_passes_a_strategy_of_ones_own(conformance: ModuleType) -> None:
    conformance.check_strategy(_Good)


@pytest.mark.parametrize(
    ("cls", "broken", "error"),
    [
        (_Undescribed, "is_described", AssertionError),
        (_Greedy, "keeps_its_promises", StrategyError),
        (_Sorter, "leaves_its_inputs_alone", ValueError),
        (_Global, "repeats", AssertionError),
        (_Counting, "resumes", AssertionError),
        (_Changing, "keeps_its_parameters", AssertionError),
    ],
)
def test_the_suite_finds_what_is_broken(
    conformance: ModuleType, cls: type[Strategy], broken: str, error: type[Exception]
) -> None:
    with pytest.raises(error):
        getattr(conformance, f"check_{broken}")(cls)
