"""The conformance suite over every registered strategy, and over strategies that must fail it."""

from __future__ import annotations

import inspect
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from activeselect.selection.registry import create, strategies
from activeselect.selection.strategy import Selection, SelectionContext, Strategy, draw_top
from activeselect.testing import CHECKS, check_strategy
from activeselect.testing.worlds import acquiring

Check = Callable[[Callable[[], Strategy]], None]

TARGETS = {
    str(size): {"a": size * 0.5, "b": size * 0.3, "c": size * 0.2, "x": 1.0} for size in range(101)
}

#: Requires prequential accuracy and probes for it.
PROBER = f"{Path(__file__).with_name('prober.py')}:Prober"

#: Strategy -> the parameters it is tested with; every parameter of a strategy has to occur.
PARAMETERS: dict[str, list[dict[str, Any]]] = {
    "random": [{}],
    "balanced": [{}],
    "target-mixture": [{}],
    "accuracy": [{}, {"threshold": 0.0, "floor": 0.0}, {"threshold": 1.0}, {"floor": 0.2}],
    "premem": [{}, {"threshold": 0.0, "floor": 0.0}, {"threshold": 1.0}, {"floor": 0.2}],
    "oracle": [{"targets": TARGETS}],
    "full": [{}],
    "allocate": [{}, {"probe_share": 0.0, "trust": 1.0}, {"probe_share": 1.0, "unlearnable": 0.0}],
    "premem-rank": [{}, {"temperature": 0.01}],
    "loss": [{}, {"sharpness": 3}, {"sharpness": 0}],
    "delta-loss": [{}, {"sharpness": 0.5}],
    "ifd": [{}, {"keep": 0.1}],
    "el2n": [{}, {"keep": 0.1}, {"skip": 0.3}],
    "grand": [{}, {"keep": 0.7}, {"skip": 0.9}],
    "forgetting": [{}, {"keep": 0.2}, {"unlearned": "last"}],
    "cartography": [{"region": region} for region in ("ambiguous", "hard", "easy")]
    + [{"keep": 0.33}],
    "perplexity": [{"band": band} for band in ("low", "middle", "high")]
    + [{"keep": 0.3}, {"reference": "some/model"}],
    "rho-loss": [{"reference": "some/model"}, {"reference": "some/model", "keep": 0.1}],
    "learnability": [{}, {"sharpness": 4.0}, {"floor": 0.1}],
    "target-difficulty": [{"by": by} for by in ("accuracy", "difficulty", "length")]
    + [{"start": 0.0, "goal": 0.7, "step": 0.1, "sensitivity": 1, "keep": 0.2}],
    "dynamic": [{}, {"floor": 0.1}],
    "hes": [{}, {"keep": 0.2}],
    "group-bandit": [{}, {"temperature": 1.0}, {"exploration": 0}, {"window": 1}],
    "difficulty": [{"direction": direction} for direction in ("hard", "easy", "middle")]
    + [{"by": "length"}, {"keep": 0.1}],
    "longest": [{}, {"keep": 0.1}],
    "k-center": [{}, {"keep": 0.2, "leaf": 5}],
    "facility-location": [{}, {"keep": 0.3, "neighbours": 3, "leaf": 6, "trees": 3}],
    "dedup": [
        {},
        {"threshold": 0.2, "prototypes": 0.0, "leaf": 5},
        {"threshold": -1.0, "clusters": 2},
        {"prototypes": 0.9},
    ],
    "less": [{}, {"reduce": "mean", "keep": 0.2}, {"targets": None}],
    "filter": [
        {"by": "dynamic", "then": "premem", "keep": 0.3},
        {"by": {"name": "mixture", "parts": [{"share": 1.0, "strategy": "ifd"}]}, "then": "loss"},
        {"by": "random", "then": {"class_path": PROBER}},
        {"by": "target-mixture", "then": "allocate"},
        {"by": {"class_path": PROBER}, "then": "target-difficulty"},
        {"by": "denoise", "then": "loss", "keep": 1.0},
    ],
    "denoise": [
        {"then": "premem", "agreement": 1.0, "mastered": 0.2},
        {},
        {"then": {"class_path": PROBER}},
        {"then": {"name": "denoise", "then": "allocate"}},
    ],
    "mixture": [
        {"parts": [{"share": 0.2, "strategy": "random"}, {"share": 0.8, "strategy": "premem"}]},
        {"parts": [{"share": 0.2, "strategy": "random"}, {"share": 0.8, "strategy": "allocate"}]},
        {
            "parts": [
                {"share": 0.3, "strategy": {"class_path": PROBER}},
                {"share": 0.25, "strategy": "target-difficulty"},
                {"share": 0.45, "strategy": {"class_path": PROBER}},
            ]
        },
    ],
    "schedule": [
        {"steps": {0: "random", 2: "premem"}},
        {"steps": {"0": {"class_path": PROBER}, "2": "target-difficulty"}, "unit": "stage"},
    ],
}
CASES = [(name, parameters) for name, some in PARAMETERS.items() for parameters in some]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize(("name", "parameters"), CASES)
def test_conforms(check: Check, name: str, parameters: dict[str, Any]) -> None:
    check(lambda: create({"name": name, **parameters}))


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
        order = np.random.permutation(len(context.candidates))  # noqa: NPY002
        return Selection.of(context.candidates[order[:budget]])


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


class _Deceiver(_Good):
    __doc__ = _Good.__doc__
    requires = ("loss",)
    favours: ClassVar[dict[str, str]] = {"loss": "low"}

    def select(self, context: SelectionContext, budget: int, rng: np.random.Generator) -> Selection:
        return draw_top(context, context.scores("loss"), budget, rng, keep=0.5)


class _Spendthrift(_Good):
    __doc__ = _Good.__doc__
    requires = ("prequential",)

    def probe(self, context: SelectionContext, budget: int, rng: np.random.Generator) -> Selection:
        return Selection.of(context.candidates[: budget + 1])


class _Saver(_Good):
    __doc__ = _Good.__doc__

    def select(self, context: SelectionContext, budget: int, rng: np.random.Generator) -> Selection:
        return Selection.of(context.candidates[: min(budget, 5)])


class _Stateful(_Good):
    __doc__ = _Good.__doc__

    def state_dict(self) -> dict[str, Any]:
        return {"seen": np.zeros(2)}


class _Local(_Good):
    __doc__ = _Good.__doc__

    def __init__(self) -> None:
        self.key = lambda: 0


@pytest.mark.parametrize("given", [_Good, _Good(), lambda: _Good()])
def test_the_suite_passes_a_strategy_of_ones_own(given: Any) -> None:
    check_strategy(given)


@pytest.mark.parametrize(
    ("cls", "message"),
    [
        (_Undescribed, r"'good' needs the line 'Prefers:' in its docstring"),
        (_Greedy, r"'acquire': StrategyError: .* selected 11 examples; the budget is 10"),
        (_Saver, r"acquired 5 examples of 10 \(situation: acquire\)"),
        (_Sorter, r"read-only"),
        (_Global, r"selects otherwise with the same seed"),
        (_Counting, r"does not resume"),
        (_Changing, r"must store 'share' unchanged"),
        (_Deceiver, r"favour what it says: 0 against 400 \(situation: loss low, acquire\)"),
        (_Spendthrift, r"selected 11 examples; the budget is 10"),
        (_Stateful, r"state that is no plain data"),
        (_Local, r"cannot be pickled"),
    ],
)
def test_the_suite_names_what_is_broken(cls: type[Strategy], message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        check_strategy(cls)


#: Strategies that draw by chance alone when they acquire: there is no score to record.
BY_CHANCE = {"random", "full"}


@pytest.mark.parametrize("name", sorted(PARAMETERS.keys() - BY_CHANCE))
def test_what_is_chosen_has_a_score_on_record(name: str) -> None:
    strategy = create({"name": name, **PARAMETERS[name][0]})
    world = acquiring(strategy)
    selection = strategy.select(world.context(), world.budget, np.random.default_rng(0))
    assert selection.score is not None
    assert selection.score.shape == selection.index.shape
    assert np.isfinite(selection.score).any() or not len(selection.index)
    assert selection.reason


def test_an_instance_that_cannot_be_copied_is_named() -> None:
    with pytest.raises(AssertionError, match="cannot be pickled"):
        check_strategy(_Local())


def test_the_suite_needs_no_pytest() -> None:
    code = (
        "import sys, activeselect; activeselect.testing.check_strategy;"
        "sys.exit('pytest' in sys.modules or 'torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
