"""Compositions spend exactly what they promise on each part, and show each part what is left."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from activeselect.errors import StrategyError
from activeselect.selection.compose import apportion
from activeselect.selection.registry import create
from activeselect.selection.strategy import Selection, SelectionContext, Strategy
from activeselect.testing import World, acquiring, ask, reweighting

PROBER = {"class_path": f"{Path(__file__).with_name('prober.py')}:Prober"}


class Watcher(Strategy):
    """Takes the first candidates with growing weights, and writes down what it was shown."""

    name = "watcher"

    def __init__(self, requires: tuple[str, ...] = (), scale: float = 1.0) -> None:
        self.requires = requires
        self.scale = scale
        self.asked: list[tuple[SelectionContext, int]] = []

    def select(self, context: SelectionContext, budget: int, rng: np.random.Generator) -> Selection:
        self.asked.append((context, budget))
        index = np.sort(context.candidates)[:budget]
        return Selection.of(index, self.scale * (1 + np.arange(len(index))))


def scored(world: World, name: str, values: np.ndarray) -> World:
    return replace(world, signals={**world.signals, name: np.tile(values, (3, 1))})


# --- filter ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("keep", "passed"), [(0.5, 20), (0.3, 12), (0.01, 10), (1.0, 40)])
def test_a_filter_shows_what_passed_at_least_the_budget(keep: float, passed: int) -> None:
    then = Watcher()
    strategy = create({"name": "filter", "by": "longest", "then": then, "keep": keep})
    world = acquiring(strategy)
    length = np.random.default_rng(1).permutation(60).astype(float)
    ask(strategy, scored(world, "length", length))
    ((shown, budget),) = then.asked
    assert budget == world.budget
    by_length = world.candidates[np.argsort(-length[world.candidates])]
    assert set(shown.candidates) == set(by_length[:passed])
    assert not shown.reweights
    np.testing.assert_array_equal(shown.train, world.train)


def test_a_part_is_told_what_is_near_its_own_candidates() -> None:
    then = Watcher(requires=("premem",))
    strategy = create({"name": "filter", "by": "longest", "then": then})
    world = acquiring(strategy)
    whole = world.context()
    ask(strategy, world)
    shown = then.asked[0][0]
    where = np.searchsorted(world.candidates, shown.candidates)
    np.testing.assert_array_equal(shown.scores("premem"), whole.scores("premem")[where])
    weight = np.arange(20.0)
    np.testing.assert_array_equal(shown.spread(weight), whole.spread(weight)[where])


def test_a_filter_reweights_what_passed() -> None:
    strategy = create(
        {"name": "filter", "by": {"name": "difficulty", "by": "length"}, "then": Watcher()}
    )
    world = reweighting(strategy)
    length = np.random.default_rng(1).permutation(60).astype(float)
    got = ask(strategy, scored(world, "length", length))
    by_length = world.train[np.argsort(-length[world.train])]
    assert set(got.index) == set(by_length[:10])
    assert sorted(got.weight) == list(range(1, 11))


def test_noise_is_kept_from_premem() -> None:
    """Examples that are never right are what premem alone would buy."""
    strategy = create({"name": "filter", "by": "dynamic", "then": "premem"})
    world = reweighting(strategy)
    right = np.where(world.groups == 0, 0.0, 0.5)
    world = scored(scored(world, "accuracy", right), "premem", right)
    assert 0 in world.groups[ask(create("premem"), world).index]
    assert 0 not in world.groups[ask(strategy, world).index]


# --- denoise -----------------------------------------------------------------------------------


def doubted_slowly(
    accuracy: list[float], agreement: list[float], groups: list[int], least: float, mastered: float
) -> set[int]:
    """Which of the examples are doubted, one after the other."""
    found = set()
    for i, own in enumerate(groups):
        others = [
            accuracy[j]
            for j, group in enumerate(groups)
            if group == own and j != i and not np.isnan(accuracy[j])
        ]
        rate = sum(others) / len(others) if others else 0.0
        if accuracy[i] == 0 and agreement[i] >= least and rate >= mastered:
            found.add(i)
    return found


MEASURED = st.tuples(
    st.sampled_from([0.0, 0.0, 0.25, 0.5, 1.0, float("nan")]),
    st.sampled_from([0.25, 0.5, 0.75, 1.0]),
    st.integers(0, 2),
)


@given(st.lists(MEASURED, min_size=1, max_size=30), st.sampled_from([0.25, 0.5, 0.8]))
def test_what_the_model_contradicts_is_doubted(
    measured: list[tuple[float, float, int]], mastered: float
) -> None:
    accuracy, agreement, groups = (list(column) for column in zip(*measured, strict=True))
    agreement = [a if b == b else float("nan") for a, b in zip(agreement, accuracy, strict=True)]
    then = Watcher()
    strategy = create({"name": "denoise", "then": then, "mastered": mastered})
    everything = np.arange(len(groups))
    context = SelectionContext(
        round=1,
        candidates=everything,
        train=everything,
        times_seen=everything,
        groups=np.array(groups, dtype=np.int32),
        signals={
            "accuracy": lambda: np.array([accuracy]),
            "agreement": lambda: np.array([agreement]),
        },
    )
    wanted = set(everything) - doubted_slowly(accuracy, agreement, groups, 0.5, mastered)
    chosen = strategy.select(context, len(groups), np.random.default_rng(0))
    assert set(chosen.index.tolist()) == wanted == set(then.asked[0][0].candidates.tolist())
    weighed = strategy.weigh(context, np.random.default_rng(0))
    assert weighed is not None
    assert set(weighed.index.tolist()) == wanted


class Odd(Strategy):
    """Trains on the odd positions, in proportion to them."""

    name = "odd"

    def select(self, context: SelectionContext, budget: int, rng: np.random.Generator) -> Selection:
        return Selection.of(context.candidates[:budget])

    def weigh(self, context: SelectionContext, rng: np.random.Generator) -> Selection:
        odd = context.train[context.train % 2 == 1]
        return Selection.of(odd, odd.astype(float))


class FromTen(Odd):
    """Trains on what stands from position 10 on."""

    name = "from-ten"

    def weigh(self, context: SelectionContext, rng: np.random.Generator) -> Selection:
        return Selection.of(context.train[context.train >= 10])


def test_what_one_part_leaves_out_is_left_out() -> None:
    world = reweighting(Odd())
    rng = np.random.default_rng(0)
    both = create({"name": "filter", "by": Odd(), "then": FromTen()})
    weighed = both.weigh(world.context(), rng)
    wanted = [i for i in sorted(world.train.tolist()) if i % 2 and i >= 10]
    assert weighed is not None
    assert sorted(weighed.index.tolist()) == wanted
    np.testing.assert_array_equal(weighed.weight, weighed.index)
    steps = create({"name": "schedule", "steps": {0: "random", 1: Odd()}})
    assert steps.weigh(replace(world, round=0).context(), rng) is None
    assert steps.weigh(replace(world, round=1).context(), rng) is not None
    alike = create({"name": "filter", "by": "loss", "then": "random"})
    assert [part.weighs for part in (both, steps, alike)] == [True, True, False]
    assert alike.weigh(world.context(), rng) is None


# --- mixture -----------------------------------------------------------------------------------


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(1e-3, 1), min_size=1, max_size=6), st.integers(0, 500))
def test_shares_become_whole_numbers_that_add_up(shares: list[float], total: int) -> None:
    share = np.array(shares) / sum(shares)
    quota = apportion(share, total)
    assert quota.sum() == total
    assert np.all(np.abs(quota - share * total) < 1 + 1e-6)


@pytest.mark.parametrize("budget", [1, 7, 10, 39, 40, 45])
def test_each_part_of_a_mixture_spends_its_share_of_what_is_left(budget: int) -> None:
    parts = [Watcher(), Watcher(), Watcher()]
    shares = (0.2, 0.5, 0.3)
    spec = [{"share": s, "strategy": p} for s, p in zip(shares, parts, strict=True)]
    strategy = create({"name": "mixture", "parts": spec})
    world = replace(acquiring(strategy), budget=budget)
    got = ask(strategy, world)
    size = min(budget, 40)
    assert len(got.index) == size
    assert set(got.weight) == {1.0}
    quotas = apportion(np.array(shares), size)
    left = np.sort(world.candidates)
    for part, quota in zip(parts, quotas, strict=True):
        if quota:
            ((shown, asked),) = part.asked
            assert asked == quota
            np.testing.assert_array_equal(np.sort(shown.candidates), left)
        left = left[quota:]


def test_a_mixture_scales_weights_to_the_shares() -> None:
    loud, quiet = Watcher(scale=1e300), Watcher(scale=1e-6)
    parts = [{"share": 0.25, "strategy": loud}, {"share": 0.75, "strategy": quiet}]
    world = reweighting(loud)
    world = replace(world, candidates=world.train[::-1], train=world.train[::-1])
    got = ask(create({"name": "mixture", "parts": parts}), world)
    order = np.argsort(got.index)
    expected = (1 + np.arange(20)) / 210  # both parts prefer alike: the scale must not matter
    np.testing.assert_allclose(got.weight[order], expected)
    parts = [{"share": 0.25, "strategy": loud}, {"share": 0.75, "strategy": "full"}]
    got = ask(create({"name": "mixture", "parts": parts}), world)
    np.testing.assert_allclose(np.sort(got.weight), np.sort(0.25 * expected + 0.75 / 20))


def test_a_mixture_keeps_to_its_budget_when_it_reweights() -> None:
    parts = [{"share": 0.5, "strategy": "longest"}, {"share": 0.5, "strategy": "random"}]
    strategy = create({"name": "mixture", "parts": parts})
    world = replace(reweighting(strategy), budget=7)
    assert len(ask(strategy, world).index) == 7


def test_probes_come_out_of_the_share_of_their_part() -> None:
    plain = Watcher()
    parts = [{"share": 0.6, "strategy": PROBER}, {"share": 0.4, "strategy": plain}]
    strategy = create({"name": "mixture", "parts": parts})
    assert strategy.requires == ("prequential",)
    world = replace(acquiring(strategy), budget=20)
    rng = np.random.default_rng(0)
    probed = strategy.probe(world.context(), 20, rng)
    assert len(probed.index) == 4  # a third of 12
    strategy_again = create({"name": "mixture", "parts": parts})
    strategy_again.load_state_dict(strategy.state_dict())
    rest = replace(world, candidates=np.setdiff1d(world.candidates, probed.index))
    for one in (strategy, strategy_again):
        got = one.select(rest.context(), 16, np.random.default_rng(1))
        assert len(got.index) == 16
        assert plain.asked[-1][1] == 8


# --- schedule ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("round", "expected"), [(0, 0), (1, 0), (2, 1), (4, 1), (5, 2), (99, 2)])
def test_a_schedule_goes_by_rounds(round: int, expected: int) -> None:
    steps = [Watcher(), Watcher(), Watcher()]
    strategy = create({"name": "schedule", "steps": {5: steps[2], 0: steps[0], "2": steps[1]}})
    ask(strategy, replace(acquiring(strategy), round=round))
    assert [len(step.asked) for step in steps] == [i == expected for i in range(3)]


def test_a_schedule_goes_by_stages_through_an_interruption() -> None:
    first, second = Watcher(), Watcher()
    spec = {"name": "schedule", "unit": "stage", "steps": {0: first, 3: second}}
    strategy = create(spec)
    for stage in (1, 2, 3, 4):
        again = create(spec)
        again.load_state_dict(strategy.state_dict())
        ask(again, acquiring(again))
        assert (len(first.asked), len(second.asked)) == (min(stage, 2), max(stage - 2, 0))
        strategy = again


# --- all of them -------------------------------------------------------------------------------


def test_what_the_parts_need_is_measured_once() -> None:
    mixture = {
        "name": "mixture",
        "parts": [{"share": 0.5, "strategy": "premem"}, {"share": 0.5, "strategy": "cartography"}],
    }
    strategy = create({"name": "schedule", "steps": {0: "loss", 1: mixture, 2: "premem"}})
    assert strategy.requires == ("loss", "premem", "variability")
    assert create({"name": "filter", "by": "random", "then": "full"}).requires == ()


def test_a_reference_model_is_handed_up() -> None:
    rho = {"name": "rho-loss", "reference": "a"}
    assert create({"name": "filter", "by": rho, "then": "premem"}).reference == "a"
    same = {"name": "perplexity", "reference": "a"}
    assert create({"name": "filter", "by": rho, "then": same}).reference == "a"
    with pytest.raises(StrategyError, match=r"share one reference model; received \['a', 'b'\]"):
        create({"name": "filter", "by": rho, "then": {**same, "reference": "b"}})


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"name": "filtr", "by": "random"}, r"no strategy 'filtr'. Did you mean 'filter'\?"),
        ({"name": "filter", "by": "random"}, "missing 1 required .*'then'"),
        ({"name": "filter", "by": "random", "than": "premem"}, r"Did you mean 'then'\?"),
        (
            {"name": "filter", "by": "random", "then": "premm"},
            r"'filter', then: There is no strategy 'premm'. Did you mean 'premem'\?",
        ),
        (
            {"name": "filter", "by": {"name": "ifd", "kep": 1}, "then": "premem"},
            r"'filter', by: Strategy 'ifd' has no parameter 'kep'. Did you mean 'keep'\?",
        ),
        (
            {"name": "filter", "by": "random", "then": "premem", "keep": 0},
            r"keep: expected a share in \(0, 1\]; received 0",
        ),
        ({"name": "filter", "by": 3, "then": "premem"}, "by: expected a strategy; received 3"),
        ({"name": "mixture", "parts": []}, "parts: expected a list of {share: ..., strategy"),
        ({"name": "mixture", "parts": "random"}, "parts: expected a list"),
        ({"name": "mixture", "parts": ["random"]}, "one is 'random'"),
        (
            {"name": "mixture", "parts": [{"share": 0.4, "strategy": "random"}]},
            r"shares that add up to 1; received \[0.4\]",
        ),
        (
            {"name": "mixture", "parts": [{"share": "x", "strategy": "random"}]},
            r"share: expected a share in \(0, 1\]; received 'x'",
        ),
        (
            {"name": "mixture", "parts": [{"share": 1, "strategy": "randm"}]},
            r"'mixture', parts\[0\]: There is no strategy 'randm'",
        ),
        ({"name": "schedule", "steps": {1: "random"}}, r"a step 0 to begin with; received \[1\]"),
        ({"name": "schedule", "steps": {}}, r"a step 0 to begin with; received \[\]"),
        ({"name": "schedule", "steps": {"now": "random"}}, "steps: expected a strategy per number"),
        ({"name": "schedule", "steps": ["random"]}, "steps: expected a strategy per number"),
        ({"name": "schedule", "steps": {0: "random", "0": "premem"}}, "received 0 twice"),
        ({"name": "schedule", "steps": {0: "random"}, "unit": "epoch"}, "one of round, stage"),
        ({"name": "schedule", "steps": {0: "randm"}}, r"'schedule', steps\[0\]: There is no"),
    ],
)
def test_a_mistake_in_a_composition_is_located(spec: Any, message: str) -> None:
    with pytest.raises(StrategyError, match=message):
        create(spec)
