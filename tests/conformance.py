"""What every selection strategy has to do; run over all registered ones, usable with any instance.

Each check takes a function that builds the strategy afresh. :func:`check_strategy` runs them all::

    check_strategy(lambda: MyStrategy(threshold=0.5))
"""

from __future__ import annotations

import inspect
import json
import pickle
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from activeselect.errors import StrategyError
from activeselect.selection.acquire import GroupNeighbourhood
from activeselect.selection.strategy import Selection, SelectionContext, Strategy

Build = Callable[[], Strategy]
SIZE, BUDGET = 60, 10


def history(signals: tuple[str, ...], size: int, rounds: int, seed: int) -> dict[str, np.ndarray]:
    """Made-up measurements in [0, 1] with holes, float64 [R, N] each."""
    rng = np.random.default_rng(seed)
    made = {}
    for name in signals:
        values = rng.choice([0.0, 0.2, 0.4, 0.6, 0.8, 1.0], size=(rounds, size))
        values[rng.random((rounds, size)) < 0.2] = np.nan
        made[name] = values
    return made


@dataclass(frozen=True)
class World:
    """A situation that a strategy may meet."""

    candidates: np.ndarray
    train: np.ndarray
    groups: np.ndarray
    group_names: tuple[str, ...]
    signals: dict[str, np.ndarray]
    round: int = 3
    budget: int = BUDGET

    def context(self) -> SelectionContext:
        """The context, made of arrays that cannot be written to."""

        def frozen(array: np.ndarray) -> np.ndarray:
            copy = array.copy()
            copy.flags.writeable = False
            return copy

        groups, train = frozen(self.groups), frozen(self.train)
        candidates = frozen(self.candidates)
        return SelectionContext(
            round=self.round,
            candidates=candidates,
            train=train,
            times_seen=frozen(np.isin(np.arange(len(groups)), train).astype(np.int64)),
            groups=groups,
            group_names=self.group_names,
            signals={name: (lambda v=v: frozen(v)) for name, v in self.signals.items()},
            near=GroupNeighbourhood(groups, train, candidates),
        )


def acquiring(strategy: Strategy, seed: int = 0) -> World:
    """Twenty problems are trained on; the rest may join them."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(SIZE)
    signals = history(strategy.requires, SIZE, 3, seed)
    for values in signals.values():
        values[:, order[20:]] = np.nan
    return World(
        candidates=np.sort(order[20:]),
        train=np.sort(order[:20]),
        groups=rng.integers(0, 3, SIZE).astype(np.int32),
        group_names=("a", "b", "c"),
        signals=signals,
    )


def reweighting(strategy: Strategy, seed: int = 0) -> World:
    """The twenty problems that are trained on get new weights."""
    world = acquiring(strategy, seed)
    return replace(world, candidates=world.train, budget=len(world.train))


def worlds(strategy: Strategy) -> dict[str, World]:
    """Usual and unusual situations by name."""
    usual = acquiring(strategy)
    found = {"acquire": usual, "reweight": reweighting(strategy)}
    for mode, base in list(found.items()):
        changed = {
            "never scored": lambda values: np.full_like(values, np.nan),
            "before the first round": lambda values: values[:0],
            "all scores 0": np.zeros_like,
            "all scores 1": np.ones_like,
            "all scores alike": lambda values: np.full_like(values, 0.5),
        }
        for name, change in changed.items():
            signals = {key: change(values) for key, values in base.signals.items()}
            found[f"{mode}, {name}"] = replace(base, signals=signals)
        found[f"{mode}, one group"] = replace(
            base, groups=np.zeros(SIZE, np.int32), group_names=("",)
        )
        found[f"{mode}, unsorted"] = replace(
            base, train=base.train[::-1], candidates=base.candidates[::-1]
        )
        found[f"{mode}, budget 1"] = replace(base, budget=1)
    nothing = np.empty(0, dtype=np.int64)
    found["acquire, everything"] = replace(usual, budget=len(usual.candidates))
    found["acquire, more than there is"] = replace(usual, budget=len(usual.candidates) + 5)
    found["acquire, one candidate"] = replace(usual, candidates=usual.candidates[:1])
    found["acquire, nothing trained"] = replace(usual, train=nothing)
    found["reweight, one example"] = replace(
        usual, train=usual.train[:1], candidates=usual.train[:1], budget=1
    )
    return found


def ask(strategy: Strategy, world: World, seed: int = 0) -> Selection:
    """The selection, its promises checked as a run checks them."""
    selection = strategy.select(world.context(), world.budget, np.random.default_rng(seed))
    assert isinstance(selection, Selection)
    assert selection.index.dtype == np.int64
    assert selection.weight.dtype == np.float64
    return selection.validated(world.candidates, world.budget, name=strategy.name)


def same(one: Selection, other: Selection) -> bool:
    return np.array_equal(one.index, other.index) and np.array_equal(one.weight, other.weight)


# --- the checks --------------------------------------------------------------------------------


def check_is_described(build: Build) -> None:
    """A strategy has a name, a card and plain class attributes."""
    cls = type(build())
    assert cls.name
    assert cls.name == cls.name.strip().lower()
    assert isinstance(cls.requires, tuple)
    card = inspect.getdoc(cls) or ""
    for line in ("Prefers:", "Helps:", "Hurts:", "Costs:", "Source:"):
        assert line in card, f"the card of {cls.name} lacks '{line}'"
    for parameter in inspect.signature(cls).parameters:
        assert f"{parameter}:" in card, f"the card of {cls.name} does not explain '{parameter}'"


def check_keeps_its_parameters(build: Build) -> None:
    """Parameters are stored unchanged, so that a copy can be built from them."""
    strategy = build()
    names = inspect.signature(type(strategy)).parameters
    given = {name: getattr(strategy, name) for name in names}
    again = type(strategy)(**given)
    assert all(getattr(again, name) is given[name] for name in names)


def check_keeps_its_promises(build: Build) -> None:
    """Unique candidates, at most the budget, finite weights of at least 0, not all 0."""
    for name, world in worlds(build()).items():
        selection = ask(build(), world)
        assert len(selection.index), f"nothing was selected: {name}"
        if name.startswith("acquire"):
            wanted = min(world.budget, len(world.candidates))
            assert len(selection.index) == wanted, f"the budget was not used: {name}"


def check_accepts_or_refuses_nothing(build: Build) -> None:
    """Without candidates, or without a budget, the selection is empty (or an error says so)."""
    world = acquiring(build())
    for empty in (
        replace(world, candidates=world.candidates[:0]),
        replace(world, candidates=world.candidates[:0], budget=0),
        replace(world, budget=0),
    ):
        try:
            selection = ask(build(), empty)
        except StrategyError:
            continue
        assert len(selection.index) == 0


def check_repeats(build: Build) -> None:
    """All randomness comes from the generator that is passed in."""
    for name, world in worlds(build()).items():
        first = ask(build(), world, seed=3)
        np.random.seed(0)  # noqa: NPY002  (the global state must not matter)
        assert same(first, ask(build(), world, seed=3)), f"not repeatable: {name}"
        state = np.random.get_state()[1].tolist()  # type: ignore[index]  # noqa: NPY002
        np.random.seed(0)  # noqa: NPY002
        assert state == np.random.get_state()[1].tolist(), name  # type: ignore[index]  # noqa: NPY002


def check_leaves_its_inputs_alone(build: Build) -> None:
    """Nothing that is shown to a strategy is changed, its own parameters included."""
    strategy = build()
    before = pickle.dumps({name: getattr(strategy, name) for name in _parameters(strategy)})
    for world in worlds(strategy).values():
        ask(build(), world)  # its arrays are read-only
    ask(strategy, acquiring(strategy))
    after = pickle.dumps({name: getattr(strategy, name) for name in _parameters(strategy)})
    assert before == after


def check_pickles(build: Build) -> None:
    """A strategy travels to worker processes."""
    strategy = build()
    copy = pickle.loads(pickle.dumps(strategy))
    world = acquiring(strategy)
    assert same(ask(strategy, world), ask(copy, world))


def check_resumes(build: Build) -> None:
    """Saved and loaded between two rounds, it goes on like one that was never interrupted."""
    steady, before = build(), build()
    for make in (acquiring, reweighting):
        for round in range(4):
            world = replace(make(steady, seed=round), round=round)
            after = build()
            after.load_state_dict(json.loads(json.dumps(before.state_dict(), allow_nan=False)))
            assert same(ask(steady, world, seed=round), ask(after, world, seed=round))
            before = after


def check_groups_of_any_name(build: Build) -> None:
    """What groups are called, and in which order, does not matter unless a parameter names them."""
    world = acquiring(build())
    ask(build(), replace(world, group_names=("x", "a", "b")))


CHECKS: tuple[Callable[[Build], None], ...] = (
    check_is_described,
    check_keeps_its_parameters,
    check_keeps_its_promises,
    check_accepts_or_refuses_nothing,
    check_repeats,
    check_leaves_its_inputs_alone,
    check_pickles,
    check_resumes,
    check_groups_of_any_name,
)


def check_strategy(build: Build) -> None:
    """Run every check."""
    for check in CHECKS:
        check(build)


def _parameters(strategy: Strategy) -> list[str]:
    return list(inspect.signature(type(strategy)).parameters)
