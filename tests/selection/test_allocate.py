"""The allocation over groups: its parts against slow references, and what it must do as a whole."""

from __future__ import annotations

from dataclasses import replace
from types import ModuleType

import numpy as np
import pytest
from activeselect.strategies.allocate import (
    Allocate,
    curve,
    curve_family,
    evidence,
    posterior,
    water_fill,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from activeselect.selection.strategy import SelectionContext

SHAPES, PRIOR = curve_family(0.5)


def context_of(
    measured: list[list[tuple[int, float]]], room: list[int], *, reweight: bool = False
) -> SelectionContext:
    """Per group, the examples and accuracy of each row in turn, and the candidates left."""
    groups, rows, train = [], [], []
    for group, (own, left) in enumerate(zip(measured, room, strict=True)):
        for row, (examples, accuracy) in enumerate(own):
            for i in range(examples):
                train.append(len(groups))
                rows.append((row, float(i < round(accuracy * examples))))
                groups.append(group)
        groups += [group] * left
        rows += [(-1, 0.0)] * left
    history = np.full((max(row for row, _ in rows) + 1, len(groups)), np.nan)
    for i, (row, value) in enumerate(rows):
        if row >= 0:
            history[row, i] = value
    positions = np.array(train, dtype=np.int64)
    return SelectionContext(
        round=1,
        candidates=positions if reweight else np.setdiff1d(np.arange(len(groups)), positions),
        train=positions,
        times_seen=np.zeros(len(groups), dtype=np.int64),
        groups=np.array(groups, dtype=np.int32),
        group_names=tuple(f"g{i}" for i in range(len(measured))),
        signals={"prequential": lambda: history},
    )


def test_evidence_is_what_the_model_of_each_row_had_seen(allocation_reference: ModuleType) -> None:
    rng = np.random.default_rng(0)
    groups = rng.integers(0, 3, 40).astype(np.int32)
    history = np.full((5, 40), np.nan)
    when = rng.choice([0, 2, 3, -1], 40)  # rows 1 and 4 measure nothing
    for i in np.flatnonzero(when >= 0):
        history[when[i], i] = rng.choice([0.0, 0.25, 0.5, 1.0])
    got = np.stack(evidence(history, groups, 3), axis=-1)
    for group in range(3):
        np.testing.assert_allclose(
            got[group], allocation_reference.evidence(history, groups, group)
        )


def test_posterior_agrees_with_the_slow_one(allocation_reference: ModuleType) -> None:
    rng = np.random.default_rng(1)
    seen = np.sort(rng.integers(0, 60, (4, 3)), axis=1).astype(float)
    trials = rng.integers(0, 12, (4, 3)).astype(float)
    trials[2] = 0  # a group that was never measured
    right = np.floor(trials * rng.random((4, 3)) * 4) / 4
    own = [list(zip(*group, strict=True)) for group in zip(seen, trials, right, strict=True)]
    expected = allocation_reference.posterior(SHAPES.tolist(), PRIOR.tolist(), own, 20)
    np.testing.assert_allclose(
        posterior(SHAPES, PRIOR, seen, trials, right), expected, rtol=1e-9, atol=1e-12
    )


def test_prior_gives_the_flat_curves_their_share() -> None:
    for unlearnable in (0.0, 0.3):
        shapes, prior = curve_family(unlearnable)
        assert prior.sum() == pytest.approx(1)
        assert prior[shapes[:, 0] == shapes[:, 1]].sum() == pytest.approx(unlearnable)


@pytest.mark.parametrize(("scale", "steepness"), [(32.0, 2.0), (128.0, 1.0)])
def test_posterior_finds_the_curve_that_made_the_data(scale: float, steepness: float) -> None:
    """Its expected accuracy is the true one between the measurements and beyond them."""
    truth = np.array([[0.1, 0.99, scale, steepness]])
    seen = np.array([[0.0, 20.0, 50.0, 120.0]])
    trials = np.full((1, 4), 500.0)
    belief = posterior(SHAPES, PRIOR, seen, trials, trials * curve(truth, seen[0]).T)[0]
    ahead = np.array([35.0, 80.0, 240.0])
    np.testing.assert_allclose(curve(SHAPES, ahead) @ belief, curve(truth, ahead)[:, 0], atol=0.02)


@settings(max_examples=60)
@given(
    st.integers(0, 2**32 - 1),
    st.lists(st.integers(0, 12), min_size=1, max_size=4),
    st.integers(0, 20),
)
def test_water_fill_of_concave_gains_is_the_best(
    allocation_reference: ModuleType, seed: int, room: list[int], budget: int
) -> None:
    budget = min(budget, sum(room))
    slopes = -np.sort(-np.random.default_rng(seed).exponential(size=(len(room), 20)), axis=1)
    gain = np.concatenate([np.zeros((len(room), 1)), np.cumsum(slopes, axis=1)], axis=1)
    quota = water_fill(gain, np.arange(21), np.array(room), budget)
    assert quota.sum() == budget
    assert (quota >= 0).all()
    assert (quota <= room).all()
    reached = sum(own[n] for own, n in zip(gain, quota, strict=True))
    assert reached == pytest.approx(allocation_reference.best_split(gain, room, budget))


def test_water_fill_looks_past_a_flat_start() -> None:
    late = np.array([0.0, 0.0, 0.0, 9.0])
    early = np.array([0.0, 1.0, 2.0, 3.0])
    room = np.array([3, 3])
    assert water_fill(np.stack([late, early]), np.arange(4), room, 3).tolist() == [3, 0]
    # with room for two the jump is out of reach
    assert water_fill(np.stack([late, early]), np.arange(4), np.array([2, 3]), 3).tolist() == [0, 3]


@settings(max_examples=40)
@given(st.data())
def test_the_budget_is_spent_within_the_room(data: st.DataObject) -> None:
    groups = data.draw(st.integers(1, 5))
    rows = st.lists(st.tuples(st.integers(0, 9), st.floats(0, 1)), min_size=1, max_size=3)
    measured = [data.draw(rows) for _ in range(groups)]
    room = [data.draw(st.integers(0, 30)) for _ in range(groups)]
    if not any(room) or not any(examples for own in measured for examples, _ in own):
        return
    context = context_of(measured, room)
    budget = data.draw(st.integers(1, sum(room)))
    quota = Allocate().quota(context, budget)
    assert quota.sum() == budget
    assert (quota <= room[: len(quota)]).all()
    drawn = Allocate().select(context, budget, np.random.default_rng(0)).index
    np.testing.assert_array_equal(np.bincount(context.groups[drawn], minlength=len(quota)), quota)


def test_mastered_groups_get_little_and_half_known_ones_much() -> None:
    rising = [(20, 0.0), (20, 0.4), (20, 0.6)]
    mastered = [(20, 1.0), (20, 1.0), (20, 1.0)]
    quota = Allocate().quota(context_of([rising, mastered], [200, 200]), 100)
    assert quota[0] > 80


def test_without_progress_after_many_examples_a_group_gets_little() -> None:
    rising = [(20, 0.0), (20, 0.3), (60, 0.5)]
    stuck = [(20, 0.0), (100, 0.0), (200, 0.0)]
    context = context_of([rising, stuck], [900, 900])
    assert Allocate().quota(context, 100)[1] < 10
    # after few it is still worth a try
    early = context_of([rising, [(5, 0.0), (2, 0.0)]], [900, 1200])
    assert Allocate().quota(early, 200)[1] > 20


def test_a_larger_group_gets_more_and_trust_says_how_much() -> None:
    same = [(20, 0.0), (20, 0.4)]
    context = context_of([same, same], [1000, 100])
    shares = [Allocate(trust=trust).quota(context, 60)[0] / 60 for trust in (0.0, 0.5, 1.0)]
    assert shares[0] == pytest.approx(0.5, abs=0.05)
    assert shares[0] + 0.1 < shares[1] < shares[2]


def test_a_small_group_keeps_its_uncertainty() -> None:
    """Three right answers out of three are not mastery; a hundred out of a hundred nearly are."""
    few, many = [(4, 0.0), (3, 1.0)], [(4, 0.0), (100, 1.0)]
    other = [(20, 0.0), (20, 0.2), (20, 0.5)]
    seen, trials, right = evidence(
        context_of([few, many, other], [1, 1, 1]).history("prequential"),
        context_of([few, many, other], [1, 1, 1]).groups,
        3,
    )
    belief = posterior(SHAPES, PRIOR, seen, trials, right)
    at_infinity = belief @ SHAPES[:, 1]
    spread = np.sqrt(belief @ SHAPES[:, 2] ** 2 - (belief @ SHAPES[:, 2]) ** 2)
    assert at_infinity[0] < at_infinity[1]
    assert spread[0] > spread[1]


def test_groups_learn_from_each_other() -> None:
    """A group without measurements is believed to rise where the measured ones did."""
    good = [[(20, 0.0), (20, 0.9)]] * 6
    bad = [[(20, 0.0), (20, 0.0), (100, 0.0)]] * 6
    new: list[tuple[int, float]] = [(1, 0.0)]
    ceilings = []
    for others in (good, bad):
        context = context_of([*others, new], [50] * 7)
        found = evidence(context.history("prequential"), context.groups, 7)
        ceilings.append(float((posterior(SHAPES, PRIOR, *found) @ SHAPES[:, 1])[-1]))
    assert ceilings[0] > ceilings[1] + 0.3


def test_probe_is_a_random_part_of_the_budget() -> None:
    context = context_of([[(10, 0.5)], [(10, 0.5)]], [300, 100])
    strategy = Allocate(probe_share=0.25)
    counts = np.zeros(2)
    for seed in range(100):
        index = strategy.probe(context, 80, np.random.default_rng(seed)).index
        assert len(np.unique(index)) == 20
        counts += np.bincount(context.groups[index], minlength=2)
    assert counts[0] / counts.sum() == pytest.approx(0.75, abs=0.04)
    assert len(Allocate(probe_share=1.0).probe(context, 400, np.random.default_rng(0)).index) == 400


def test_reweighting_prefers_the_same_groups() -> None:
    context = context_of([[(20, 0.0), (20, 0.5)], [(20, 1.0), (20, 1.0)]], [0, 0], reweight=True)
    selection = Allocate().select(context, 80, np.random.default_rng(0))
    groups = context.groups[selection.index]
    assert len(selection.index) == 80
    assert selection.weight[groups == 0].min() > 2 * selection.weight[groups == 1].max()
    assert selection.weight.min() >= 0.3
    assert selection.weight.mean() == pytest.approx(1)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"probe_share": 1.5}, "probe_share: expected a share in"),
        ({"unlearnable": -0.1}, "unlearnable: expected a share in"),
        ({"unlearnable": 1.0}, "unlearnable: expected a share below 1"),
        ({"trust": 2}, "trust: expected a share in"),
    ],
)
def test_refuses_parameters_out_of_range(parameters: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Allocate(**parameters)


def test_target_questions_decide_which_groups_count() -> None:
    """Groups alike in all but what is asked: the budget follows the questions, whatever trust."""
    same = [(20, 0.0), (20, 0.4)]
    context = context_of([same, same, same], [1000, 100, 1000])
    asked = replace(context, target=np.array([0.09, 0.9, 0.01]))
    quotas = [Allocate(trust=trust).quota(asked, 60) for trust in (0.0, 0.5, 1.0)]
    assert all(quota.tolist() == quotas[0].tolist() for quota in quotas)
    assert quotas[0][1] > 40
    assert quotas[0][2] == 0
    alike = Allocate().quota(replace(context, target=np.full(3, 1 / 3)), 60)
    assert alike.tolist() == Allocate(trust=0.0).quota(context, 60).tolist()


def test_the_probe_is_mixed_as_the_target_questions() -> None:
    context = context_of([[(10, 0.5)], [(10, 0.5)]], [3000, 1000])
    asked = replace(context, target=np.array([0.2, 0.8]))
    counts = np.zeros(2)
    for seed in range(50):
        index = Allocate(probe_share=0.25).probe(asked, 80, np.random.default_rng(seed)).index
        assert len(np.unique(index)) == 20
        counts += np.bincount(context.groups[index], minlength=2)
    assert counts[1] / counts.sum() == pytest.approx(0.8, abs=0.04)
