"""The free controls against the same rules written out, one example at a time."""

from __future__ import annotations

import numpy as np
from activeselect.strategies.balanced import level
from hypothesis import given, settings
from hypothesis import strategies as st

from activeselect.selection.registry import create
from activeselect.selection.strategy import SelectionContext

counts = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=6)


def context(groups: np.ndarray, train: np.ndarray, candidates: np.ndarray) -> SelectionContext:
    return SelectionContext(
        round=1,
        candidates=candidates,
        train=train,
        times_seen=np.zeros(len(groups), np.int64),
        groups=groups.astype(np.int32),
        group_names=tuple("abcdef"),
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
