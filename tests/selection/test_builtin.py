"""The built-in strategies prefer what their cards say."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
from dataclasses import replace
from types import ModuleType

import numpy as np
import pytest

from activeselect.errors import StrategyError
from activeselect.selection.registry import create
from activeselect.selection.strategy import Selection, Strategy

PACKAGE = importlib.import_module("activeselect.strategies")


def world_of(conformance: ModuleType, strategy: Strategy, premem: dict[str, float]) -> object:
    """The train examples of each group have one premem."""
    world = conformance.acquiring(strategy)
    values = np.full((1, len(world.groups)), np.nan)
    for i in world.train:
        values[0, i] = premem[world.group_names[world.groups[i]]]
    return replace(world, signals=dict.fromkeys(strategy.requires, values))


def shares(
    conformance: ModuleType, strategy: Strategy, world: object, draws: int = 200
) -> np.ndarray:
    """Mean number of selected examples per group."""
    total = np.zeros(3)
    for seed in range(draws):
        selection: Selection = conformance.ask(strategy, world, seed)
        total += np.bincount(world.groups[selection.index], minlength=3)  # type: ignore[attr-defined]
    return total / draws


def test_random_draws_every_candidate_equally(conformance: ModuleType) -> None:
    strategy = create("random")
    world = conformance.acquiring(strategy)
    seen = np.zeros(conformance.SIZE)
    for seed in range(1000):
        seen[conformance.ask(strategy, world, seed).index] += 1
    expected = 1000 * conformance.BUDGET / len(world.candidates)
    assert seen[world.candidates] == pytest.approx(expected, abs=5 * np.sqrt(expected))


def test_premem_buys_near_what_is_not_understood(conformance: ModuleType) -> None:
    strategy = create("premem")
    low_b = world_of(conformance, strategy, {"a": 0.8, "b": 0.6, "c": 1.0})
    got = shares(conformance, strategy, low_b)
    there = int((low_b.groups[low_b.candidates] == 1).sum())  # type: ignore[attr-defined]
    assert got[1] == min(there, conformance.BUDGET)
    with_floor = shares(conformance, create({"name": "premem", "floor": 0.3}), low_b)
    assert with_floor.min() > 0
    assert with_floor[1] > with_floor[[0, 2]].max()


def test_premem_counts_the_unscored_as_not_understood(conformance: ModuleType) -> None:
    strategy = create({"name": "premem", "floor": 0.1})
    unscored_c = world_of(conformance, strategy, {"a": 1.0, "b": 1.0, "c": np.nan})
    got = shares(conformance, strategy, unscored_c)
    assert got[2] > 2 * got[:2].max()


def test_premem_reweights_by_the_threshold_itself(conformance: ModuleType) -> None:
    strategy = create({"name": "premem", "threshold": 0.6, "floor": 0.25})
    world = world_of(conformance, strategy, {"a": 0.6, "b": 0.61, "c": 0.0})
    both = replace(world, candidates=world.train, budget=len(world.train))  # type: ignore[type-var,attr-defined]
    selection = conformance.ask(strategy, both)
    expected = np.array([1.0, 0.25, 1.0])[both.groups[selection.index]]
    np.testing.assert_array_equal(selection.weight, expected)
    assert len(selection.index) == len(both.train)
    dropped = conformance.ask(create({"name": "premem", "floor": 0.0}), both)
    assert set(both.groups[dropped.index]) == {0, 2}
    default = conformance.ask(create("premem"), both)  # nothing is dropped without being told to
    np.testing.assert_array_equal(default.weight, selection.weight)


def test_the_oracle_reaches_its_targets(conformance: ModuleType) -> None:
    names = ("a", "b", "c")
    probe = create({"name": "oracle", "targets": {}})
    world = conformance.acquiring(probe)
    have = np.bincount(world.groups[world.train], minlength=3)
    wanted = have + np.array([6, 0, 4])
    targets = {str(wanted.sum()): dict(zip(names, wanted.tolist(), strict=True))}
    oracle = create({"name": "oracle", "targets": targets})
    for seed in range(20):
        selection = conformance.ask(oracle, world, seed)
        after = have + np.bincount(world.groups[selection.index], minlength=3)
        assert after.tolist() == wanted.tolist()


def test_the_oracle_fills_up_at_random_where_a_group_has_run_out(conformance: ModuleType) -> None:
    oracle = create({"name": "oracle", "targets": {"50": {"a": 1000.0}}})
    world = replace(conformance.acquiring(oracle), budget=30)
    selection = conformance.ask(oracle, world)
    assert len(selection.index) == 30
    all_a = set(world.candidates[world.groups[world.candidates] == 0])
    assert all_a <= set(selection.index)


def test_the_oracle_says_which_size_it_lacks(conformance: ModuleType) -> None:
    oracle = create({"name": "oracle", "targets": {"40": {"a": 1.0}, 20: {"a": 1.0}}})
    shown = conformance.acquiring(oracle).context()
    with pytest.raises(StrategyError, match=r"targets for train-set sizes \[20, 40\]; .*needs 30"):
        oracle.select(shown, conformance.BUDGET, np.random.default_rng(0))


@pytest.mark.parametrize("name", [info.name for info in pkgutil.iter_modules(PACKAGE.__path__)])
def test_the_examples_in_a_card_run(name: str) -> None:
    module = importlib.import_module(f"activeselect.strategies.{name}")
    assert doctest.testmod(module).failed == 0
