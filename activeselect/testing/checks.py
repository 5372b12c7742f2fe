"""Checks of a strategy, one for each promise.

Each check takes a function that builds the strategy afresh, and raises an AssertionError that
says which promise was broken, and where.
"""

from __future__ import annotations

import inspect
import json
import pickle
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from activeselect.errors import StrategyError
from activeselect.selection.strategy import Selection, Strategy
from activeselect.testing.worlds import (
    KINDS,
    World,
    acquiring,
    preferring,
    reweighting,
    worlds,
)

Build = Callable[[], Strategy]
CARD = ("Prefers:", "Helps:", "Hurts:", "Costs:", "Source:")


def ask(strategy: Strategy, world: World, seed: int = 0, where: str = "acquire") -> Selection:
    """The selection in a world, its promises checked as a run checks them.

    A strategy that requires ``prequential`` is asked for its probe first, and chooses the rest
    after that; what is returned is both.
    """
    rng = np.random.default_rng(seed)
    try:
        probe = Selection.of([])
        if "prequential" in strategy.requires and not world.context().reweights:
            probe = strategy.probe(world.context(), world.budget, rng)
            probe = _valid(strategy, probe, world, where)
        rest = _after(world, probe)
        selection = strategy.select(rest.context(), rest.budget, rng)
        selection = _valid(strategy, selection, rest, where)
    except AssertionError:
        raise
    except Exception as error:
        broken = AssertionError(
            f"strategy '{strategy.name}' broke a promise in the situation '{where}': "
            f"{type(error).__name__}: {error}"
        )
        raise broken from error
    if not len(probe.index):
        return selection
    return Selection.of(
        np.concatenate([probe.index, selection.index]),
        np.concatenate([probe.weight, selection.weight]),
    )


def _valid(strategy: Strategy, selection: Selection, world: World, where: str) -> Selection:
    _expect(isinstance(selection, Selection), "must return a Selection", strategy, where)
    kinds = selection.index.dtype == np.int64 and selection.weight.dtype == np.float64
    _expect(kinds, "must select by int64 positions and float64 weights", strategy, where)
    return selection.validated(world.candidates, world.budget, name=strategy.name)


def _after(world: World, probe: Selection) -> World:
    """The world once the probe has been answered and has joined the train set."""
    if not len(probe.index):
        return world
    signals = {name: values.copy() for name, values in world.signals.items()}
    right = np.random.default_rng(len(probe.index)).choice([0.0, 0.5, 1.0], len(probe.index))
    if len(signals["prequential"]):
        signals["prequential"][-1, probe.index] = right
    return replace(
        world,
        signals=signals,
        train=np.concatenate([world.train, probe.index]),
        candidates=np.setdiff1d(world.candidates, probe.index),
        budget=world.budget - len(probe.index),
    )


def _expect(kept: bool, promise: str, strategy: Strategy, where: str = "") -> None:
    if not kept:
        place = f" (situation: {where})" if where else ""
        raise AssertionError(f"strategy '{strategy.name}' {promise}{place}")


def _same(one: Selection, other: Selection) -> bool:
    return np.array_equal(one.index, other.index) and np.array_equal(one.weight, other.weight)


# --- Checks


def check_is_described(build: Build) -> None:
    """A strategy has a name, a card and plain attributes."""
    strategy = build()
    cls = type(strategy)
    name = strategy.name
    _expect(bool(name) and name == name.strip().lower(), "needs a name in lower case", strategy)
    requires = strategy.requires
    plain = isinstance(requires, tuple) and all(isinstance(r, str) for r in requires)
    _expect(plain, f"needs `requires`, a tuple of signal names; it is {requires!r}", strategy)
    card = inspect.getdoc(cls) or ""
    for line in CARD:
        _expect(line in card, f"needs the line '{line}' in its docstring", strategy)
    for parameter in _parameters(strategy):
        told = f"{parameter}:" in card or f"{parameter}," in card
        _expect(told, f"does not explain its parameter '{parameter}' in its docstring", strategy)
    for signal, kind in strategy.favours.items():
        _expect(kind in KINDS, f"favours '{signal}' {kind!r}; known: {sorted(KINDS)}", strategy)
        _expect(signal in requires, f"favours '{signal}', which it does not require", strategy)


def check_keeps_its_parameters(build: Build) -> None:
    """Parameters are stored unchanged, so that a copy can be built from them."""
    strategy = build()
    for name in _parameters(strategy):
        _expect(hasattr(strategy, name), f"does not store its parameter '{name}'", strategy)
    given = {name: getattr(strategy, name) for name in _parameters(strategy)}
    try:
        again = type(strategy)(**given)
    except Exception as error:
        _expect(False, f"cannot be built from its parameters {given} ({error})", strategy)
        raise
    for name, value in given.items():
        _expect(getattr(again, name) is value, f"must store '{name}' unchanged", strategy)


def check_keeps_its_promises(build: Build) -> None:
    """Unique candidates, at most the budget (all of it when acquiring), weights that count."""
    for where, world in worlds(build()).items():
        strategy = build()
        selection = ask(strategy, world, where=where)
        _expect(len(selection.index) > 0, "selected nothing", strategy, where)
        if where.startswith("acquire"):
            wanted = min(world.budget, len(world.candidates))
            spent = len(selection.index)
            _expect(spent == wanted, f"acquired {spent} examples of {wanted}", strategy, where)


def check_accepts_or_refuses_nothing(build: Build) -> None:
    """Without candidates, or without a budget, nothing is selected (or a StrategyError)."""
    world = acquiring(build())
    none = world.candidates[:0]
    situations = {
        "no candidates": replace(world, candidates=none),
        "no candidates, no budget": replace(world, candidates=none, budget=0),
        "no budget": replace(world, budget=0),
        "no examples": replace(world, candidates=none, train=none, budget=0),
    }
    for where, empty in situations.items():
        strategy = build()
        try:
            selection = ask(strategy, empty, where=where)
        except AssertionError as error:
            if isinstance(error.__cause__, StrategyError):
                continue
            raise
        _expect(len(selection.index) == 0, "selected what is not there", strategy, where)


def check_repeats(build: Build) -> None:
    """All randomness comes from the generator that is passed in."""
    for where, world in worlds(build()).items():
        first = ask(build(), world, 3, where)
        np.random.seed(0)  # noqa: NPY002  (the global state must not matter)
        again = ask(build(), world, 3, where)
        _expect(_same(first, again), "selects otherwise with the same seed", build(), where)
        state = np.random.get_state()[1].tolist()  # type: ignore[index]  # noqa: NPY002
        np.random.seed(0)  # noqa: NPY002
        untouched = state == np.random.get_state()[1].tolist()  # type: ignore[index]  # noqa: NPY002
        _expect(untouched, "draws from numpy's global generator; use `rng`", build(), where)


def check_weighs(build: Build) -> None:
    """Weights over a train set that grows, if it has any, are of that train set, and repeat."""
    for where, world in worlds(build()).items():
        if not build().weighs or not world.context().reweights:
            continue
        first, again = (build().weigh(world.context(), np.random.default_rng(3)) for _ in "ab")
        if first is None or again is None:
            _expect(first is again, "weighs otherwise with the same seed", build(), where)
            continue
        whole = replace(world, budget=len(world.train))
        _valid(build(), first, whole, where)
        _expect(len(first.index) > 0, "left nothing to train on", build(), where)
        _expect(_same(first, again), "weighs otherwise with the same seed", build(), where)


def check_leaves_its_inputs_alone(build: Build) -> None:
    """Nothing that is shown to a strategy is changed, its own parameters included."""
    strategy = build()
    before = pickle.dumps({name: getattr(strategy, name) for name in _parameters(strategy)})
    for where, world in worlds(strategy).items():
        ask(build(), world, where=where)  # its arrays are read-only
    ask(strategy, acquiring(strategy))
    after = pickle.dumps({name: getattr(strategy, name) for name in _parameters(strategy)})
    _expect(before == after, "changed its own parameters", strategy)


def check_pickles(build: Build) -> None:
    """A strategy travels to worker processes."""
    strategy = build()
    try:
        copy = pickle.loads(pickle.dumps(strategy))
    except Exception as error:
        _expect(False, f"cannot be pickled ({error})", strategy)
        raise
    world = acquiring(strategy)
    _expect(_same(ask(strategy, world), ask(copy, world)), "selects otherwise once pickled", copy)


def check_resumes(build: Build) -> None:
    """Saved and loaded between two rounds, it goes on like one that was never interrupted."""
    for make in (acquiring, reweighting):
        steady, before = build(), build()
        for round in range(4):
            world = replace(make(steady, seed=round), round=round)
            try:
                saved = json.dumps(before.state_dict(), allow_nan=False)
            except (TypeError, ValueError) as error:
                _expect(False, f"has a state that is no plain data ({error})", steady)
                raise
            after = build()
            after.load_state_dict(json.loads(saved))
            same = _same(ask(steady, world, round), ask(after, world, round))
            _expect(same, f"does not resume: it selects otherwise in round {round}", steady)
            before = after


def check_groups_of_any_name(build: Build) -> None:
    """What groups are called, and in which order, does not matter unless a parameter names them."""
    world = acquiring(build())
    ask(build(), replace(world, group_names=("x", "a", "b")), where="other group names")


def check_favours_what_it_says(build: Build) -> None:
    """All else equal, examples with the values in ``favours`` get more weight.

    Over twenty seeds, in both modes, the favoured half has to get more in total.
    """
    for signal, kind in build().favours.items():
        for acquire in (True, False):
            where = f"{signal} {kind}, {'acquire' if acquire else 'reweight'}"
            total = np.zeros(2)
            for seed in range(20):
                strategy = build()
                world = preferring(strategy, signal, kind, acquire=acquire)
                got = ask(strategy, world, seed, where)
                total += np.bincount(world.groups[got.index], got.weight, minlength=2)
            told = f"does not favour what it says: {total[0]:g} against {total[1]:g}"
            _expect(total[0] > total[1], told, build(), where)


CHECKS: tuple[Callable[[Build], None], ...] = (
    check_is_described,
    check_keeps_its_parameters,
    check_keeps_its_promises,
    check_accepts_or_refuses_nothing,
    check_repeats,
    check_weighs,
    check_leaves_its_inputs_alone,
    check_pickles,
    check_resumes,
    check_groups_of_any_name,
    check_favours_what_it_says,
)


def _parameters(strategy: Strategy) -> list[str]:
    return list(inspect.signature(type(strategy)).parameters)
