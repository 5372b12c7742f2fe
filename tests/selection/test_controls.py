"""The free controls against the same rules written out, one example at a time."""

from __future__ import annotations

import numpy as np
import pytest
from activeselect.strategies.balanced import level
from activeselect.strategies.target_mixture import complete
from hypothesis import given, settings
from hypothesis import strategies as st

from activeselect.errors import ConfigError, StrategyError
from activeselect.selection.registry import check_target, create
from activeselect.selection.strategy import SelectionContext

counts = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=6)


def context(
    groups: np.ndarray,
    train: np.ndarray,
    candidates: np.ndarray,
    target: list[float] | None = None,
) -> SelectionContext:
    return SelectionContext(
        round=1,
        candidates=candidates,
        train=train,
        times_seen=np.zeros(len(groups), np.int64),
        groups=groups.astype(np.int32),
        group_names=tuple("abcdef"),
        target=None if target is None else np.array(target),
    )


@settings(max_examples=300, deadline=None)
@given(counts, st.integers(0, 60), st.integers(0, 99))
def test_each_example_goes_to_a_group_that_has_fewest(
    groups: list[tuple[int, int]], budget: int, seed: int
) -> None:
    have, room = np.array(groups).T
    budget = min(budget, int(room.sum()))
    quota = level(have, room, budget, np.random.default_rng(seed))
    ends, left = have.tolist(), room.tolist()
    for _ in range(budget):
        fewest = min((ends[g], g) for g in range(len(ends)) if left[g])[1]
        ends[fewest] += 1
        left[fewest] -= 1
    assert np.all(quota <= room)
    assert quota.sum() == budget
    assert sorted((have + quota).tolist()) == sorted(ends)


def test_a_balanced_train_set_is_as_equal_as_its_candidates_allow() -> None:
    groups = np.repeat([0, 1, 2], [40, 12, 2])
    train = np.arange(10)  # all of the first group
    chosen = create("balanced").select(
        context(groups, train, np.arange(10, 54)), 20, np.random.default_rng(0)
    )
    ends = np.bincount(groups[np.concatenate([train, chosen.index])])
    assert ends.tolist() == [16, 12, 2]


def test_balanced_weights_give_every_group_the_same_share() -> None:
    groups = np.repeat([0, 1, 2], [40, 12, 2])
    every = np.arange(54)
    got = create("balanced").select(context(groups, every, every), 54, np.random.default_rng(0))
    share = np.bincount(groups[got.index], got.weight)
    np.testing.assert_allclose(share / share.sum(), 1 / 3)


def test_left_overs_go_to_groups_at_random() -> None:
    have, room = np.zeros(6, np.int64), np.full(6, 5)
    got = [level(have, room, 1, np.random.default_rng(seed)).argmax() for seed in range(60)]
    assert len(set(got)) == 6


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.sampled_from([0.0, 0.25, 0.5, 0.6, 0.75, 1.0, np.nan]), min_size=8, max_size=8),
    st.sampled_from([0.0, 0.3]),
)
def test_accuracy_is_premem_where_nothing_is_masked(values: list[float], floor: float) -> None:
    every = np.arange(8)
    rows = np.array([values])
    both = []
    for name in ("accuracy", "premem"):
        shown = SelectionContext(
            round=1,
            candidates=every,
            train=every,
            times_seen=np.ones(8, np.int64),
            groups=np.zeros(8, np.int32),
            signals={name: lambda: rows},
        )
        strategy = create({"name": name, "floor": floor})
        both.append(strategy.select(shown, 8, np.random.default_rng(1)))
    np.testing.assert_array_equal(both[0].index, both[1].index)
    np.testing.assert_array_equal(both[0].weight, both[1].weight)
    wanted = [1.0 if not value > 0.6 else floor for value in values]
    if any(wanted):
        kept = [i for i, weight in enumerate(wanted) if weight]
        assert both[0].index.tolist() == kept
        assert both[0].weight.tolist() == [wanted[i] for i in kept]


# --- the mixture of the target questions


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9), st.integers(1, 9)), min_size=1),
    st.integers(0, 60),
)
def test_each_example_goes_to_the_group_that_is_furthest_behind_its_share(
    groups: list[tuple[int, int, int]], budget: int
) -> None:
    have, room, parts = np.array(groups).T
    share = parts / parts.sum()
    budget = min(budget, int(room.sum()))
    quota = complete(have, share, room, budget)
    assert quota.sum() == budget
    assert np.all((quota >= 0) & (quota <= room))
    # no example would be less behind in another group that has room
    level = (have + quota) / share
    for got in np.flatnonzero(quota):
        for other in np.flatnonzero(quota < room):
            assert level[got] - 0.5 / share[got] <= level[other] + 0.5 / share[other] + 1e-9


@given(st.integers(0, 30), st.integers(0, 30))
def test_two_acquisitions_end_where_one_does(first: int, second: int) -> None:
    share, room = np.array([0.5, 0.3, 0.15, 0.05]), np.array([20, 20, 10, 10])
    have = np.array([0, 9, 3, 1])
    half = complete(have, share, room, first)
    both = half + complete(have + half, share, room - half, second)
    assert both.tolist() == complete(have, share, room, first + second).tolist()


def test_the_target_mixture_is_reached_where_the_pool_has_it() -> None:
    groups = np.repeat([0, 1, 2], [60, 60, 60])
    train = np.arange(10)  # all of the first group
    shown = context(groups, train, np.arange(10, 180), [0.2, 0.5, 0.3])
    chosen = create("target-mixture").select(shown, 90, np.random.default_rng(0))
    ends = np.bincount(groups[np.concatenate([train, chosen.index])])
    assert ends.tolist() == [20, 50, 30]
    within = [create("target-mixture").select(shown, 9, np.random.default_rng(i)) for i in (1, 2)]
    assert set(within[0].index) != set(within[1].index)


def test_weights_are_mixed_as_the_target() -> None:
    groups = np.repeat([0, 1, 2], [40, 12, 2])
    every = np.arange(54)
    shown = context(groups, every, every, [0.2, 0.5, 0.3])
    got = create("target-mixture").select(shown, 54, np.random.default_rng(0))
    share = np.bincount(groups[got.index], got.weight)
    np.testing.assert_allclose(share / share.sum(), [0.2, 0.5, 0.3])


def test_a_filter_makes_any_strategy_follow_the_target() -> None:
    groups = np.repeat([0, 1], [1000, 1000])
    train, candidates = np.arange(980, 1020), np.setdiff1d(np.arange(2000), np.arange(980, 1020))
    shown = context(groups, train, candidates, [0.1, 0.9])
    spec = {"name": "filter", "by": "target-mixture", "then": "random", "keep": 0.25}
    got = create(spec).select(shown, 200, np.random.default_rng(0))
    share = np.mean(groups[got.index] == 1)
    assert abs(share - 0.9) < 0.06  # three standard errors of 200 draws
    assert create(spec).needs_target


def test_without_target_questions_it_is_refused() -> None:
    shown = context(np.array([0, 1]), np.array([0]), np.array([1]))
    with pytest.raises(StrategyError, match=r"needs target questions: data\.target"):
        create("target-mixture").select(shown, 1, np.random.default_rng(0))
    for spec in ("target-mixture", {"name": "filter", "by": "target-mixture", "then": "loss"}):
        with pytest.raises(ConfigError, match=r"needs target questions.*data.target=preset"):
            check_target(create(spec), given=False)
        check_target(create(spec), given=True)
    check_target(create("allocate"), given=False)
