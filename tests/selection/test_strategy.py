"""What a strategy is shown, what it may return, and how weights become draws."""

from __future__ import annotations

from dataclasses import replace
from types import ModuleType
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import stats

from activeselect.errors import StrategyError
from activeselect.selection.neighbours import GroupNeighbourhood
from activeselect.selection.strategy import (
    Selection,
    SelectionContext,
    Strategy,
    choose,
    draw_best,
    weighted_choice,
)

WEIGHTS = st.lists(
    st.one_of(st.just(0.0), st.floats(0, 5), st.floats(0, allow_infinity=False)), max_size=30
)


# --- weighted_choice ---------------------------------------------------------------------------


#: The keys are given block by block; a few weights fill as many blocks as millions do.
in_blocks = pytest.mark.parametrize("block", [2**16, 2], ids=["one block", "many blocks"])


@in_blocks
@settings(max_examples=300, deadline=None)
@given(weights=WEIGHTS, seed=st.integers(0, 2**32), data=st.data())
@example(weights=[5e-324, 0.0, 1e308], seed=0, data=None)
@example(weights=[1e-320, 0.0], seed=3, data=None)
def test_draws_are_distinct_and_prefer_any_weight_to_none(
    block: int, weights: list[float], seed: int, data: Any
) -> None:
    weight = np.array(weights)
    size = data.draw(st.integers(0, len(weight))) if data else len(weight) - 1
    drawn = weighted_choice(weight, size, np.random.default_rng(seed), block=block)
    assert drawn.shape == (size,)
    assert drawn.dtype == np.int64
    assert len(set(drawn.tolist())) == size
    assert weight[drawn].astype(bool).sum() == min(size, np.count_nonzero(weight))
    empty_from = np.count_nonzero(weight[drawn])
    assert not weight[drawn[empty_from:]].any()


@in_blocks
@pytest.mark.parametrize("weight", [[1.0, 2.0, 3.0, 4.0], [0.01, 5.0, 0.2, 1.0], [1.0] * 4])
@pytest.mark.parametrize("size", [1, 2, 3])
def test_frequencies_are_those_of_successive_draws(
    sampling_reference: ModuleType, block: int, weight: list[float], size: int
) -> None:
    expected = sampling_reference.successive_draws(weight, size)
    rng, draws = np.random.default_rng(0), 6000
    seen: dict[tuple[int, ...], int] = dict.fromkeys(expected, 0)
    for _ in range(draws):
        drawn = weighted_choice(np.array(weight), size, rng, block=block)
        seen[tuple(drawn.tolist())] += 1
    for outcome, chance in expected.items():
        tolerance = 5 * np.sqrt(chance * (1 - chance) / draws) + 1e-9
        assert seen[outcome] / draws == pytest.approx(chance, abs=tolerance), outcome


@in_blocks
@pytest.mark.parametrize(
    "weight",
    [
        [1.0] * 8,
        [float(2**i) for i in range(8)],
        [50.0, 1, 1, 1, 1, 1, 1, 1],
        [0.0, 3, 0, 1, 1, 0, 2, 5],
    ],
    ids=["equal", "steep", "one large", "with zeros"],
)
@pytest.mark.parametrize("size", [1, 4])
def test_inclusion_has_its_exact_probability(
    sampling_reference: ModuleType, block: int, weight: list[float], size: int
) -> None:
    """How often each position is among those drawn, against all successive draws enumerated."""
    inclusion = np.zeros(8)
    for outcome, chance in sampling_reference.successive_draws(weight, size).items():
        inclusion[list(outcome)] += chance
    rng, draws = np.random.default_rng(1), 1500
    seen = sum(
        np.bincount(weighted_choice(np.array(weight), size, rng, block=block), minlength=8)
        for _ in range(draws)
    )
    for count, chance in zip(np.asarray(seen), inclusion, strict=True):
        assert stats.binomtest(int(count), draws, min(1.0, chance)).pvalue > 1e-5


def test_a_draw_does_not_depend_on_the_blocks() -> None:
    weight = np.random.default_rng(0).pareto(1.0, 5000) * (np.arange(5000) % 3 > 0)
    drawn = []
    for block in (1, 7, 64, 2**16):
        for n in (10, 3000, 4990):
            drawn.append(weighted_choice(weight, n, np.random.default_rng(5), block=block))
    for i, one in enumerate(drawn):
        np.testing.assert_array_equal(one, drawn[i % 3])


def test_empty_positions_are_taken_uniformly() -> None:
    weight = np.array([0.0, 3.0, 0.0, 0.0, 1.0])
    rng = np.random.default_rng(0)
    last = [int(weighted_choice(weight, 3, rng)[-1]) for _ in range(3000)]
    assert set(last) == {0, 2, 3}
    assert np.bincount(last)[[0, 2, 3]] == pytest.approx([1000] * 3, abs=130)


@pytest.mark.parametrize("size", [-1, 4])
def test_a_size_out_of_range_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match=f"between 0 and 3; received {size}"):
        weighted_choice(np.ones(3), size, np.random.default_rng(0))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -1.0])
def test_a_weight_that_is_none_is_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="finite and at least 0"):
        weighted_choice(np.array([1.0, bad, 1.0]), 2, np.random.default_rng(0))


# --- contexts ----------------------------------------------------------------------------------

HISTORY = np.array(
    [[0.1, np.nan, 0.3, np.nan], [np.nan, np.nan, 0.5, 0.0], [0.7, np.nan, np.nan, np.nan]]
)


def context(**changes: Any) -> SelectionContext:
    """Examples 0 and 1 are trained on; 2 is near 0, 3 is near 1."""
    groups = np.array([0, 1, 0, 1], np.int32)
    train, candidates = np.array([0, 1]), np.array([2, 3])
    made = SelectionContext(
        round=3,
        candidates=candidates,
        train=train,
        times_seen=np.array([3, 3, 0, 0]),
        groups=groups,
        group_names=("a", "b"),
        signals={"accuracy": lambda: HISTORY},
        near=GroupNeighbourhood(groups, train, candidates),
    )
    return replace(made, **changes)


def test_latest_is_the_newest_measurement_of_each_example() -> None:
    np.testing.assert_array_equal(context().latest("accuracy"), [0.7, np.nan, 0.5, 0.0])
    np.testing.assert_array_equal(context().history("accuracy"), HISTORY)


def test_before_the_first_round_nothing_is_known() -> None:
    early = context(signals={"accuracy": lambda: np.empty((0, 4))})
    assert np.isnan(early.latest("accuracy")).all()
    assert early.latest("accuracy").shape == (4,)


def test_latest_does_not_hand_out_the_history_itself() -> None:
    got = context(signals={"accuracy": lambda: HISTORY[:1]}).latest("accuracy")
    got[:] = 9.0
    assert HISTORY[0, 0] == 0.1


def test_signals_are_read_only_when_asked_for() -> None:
    def costly() -> np.ndarray:
        raise AssertionError("nobody asked for this signal")

    shown = context(signals={"accuracy": lambda: HISTORY, "nll": costly})
    shown.latest("accuracy")


def test_a_signal_that_is_not_measured_is_named_with_the_remedy() -> None:
    with pytest.raises(
        StrategyError, match=r"'premem' is not measured.*`requires`.*\['accuracy'\]"
    ):
        context().latest("premem")


def test_spread_is_identity_when_the_run_reweights() -> None:
    weight = np.array([0.3, 2.0])
    both = context(candidates=np.array([0, 1]))
    assert both.reweights
    assert both.spread(weight) is weight
    assert not context().reweights
    assert context().spread(weight).tolist() == [0.3, 2.0]


def test_a_context_without_neighbourhood_says_what_to_pass() -> None:
    bare = SelectionContext(0, np.array([1]), np.array([0]), np.zeros(2), np.zeros(2, np.int32))
    with pytest.raises(StrategyError, match="pass near="):
        bare.spread(np.ones(1))


# --- choose ------------------------------------------------------------------------------------


def test_reweighting_keeps_the_weights_of_what_counts() -> None:
    both = context(candidates=np.array([0, 1]))
    got = choose(both, np.array([0.0, 0.4]), 2, np.random.default_rng(0))
    assert got.index.tolist() == [1]
    assert got.weight.tolist() == [0.4]


def test_reweighting_draws_a_budget_by_weight() -> None:
    train = np.arange(100)
    both = context(candidates=train, train=train)
    weight = np.where(train < 50, 9.0, 1.0)
    got = choose(both, weight, 20, np.random.default_rng(0))
    assert len(got.index) == 20
    np.testing.assert_array_equal(got.weight, weight[got.index])
    assert (got.index < 50).sum() > 12


def test_acquiring_draws_near_the_weight_with_weights_of_1() -> None:
    got = choose(context(), np.array([0.0, 1.0]), 1, np.random.default_rng(0))
    assert got.index.tolist() == [3]
    assert got.weight.tolist() == [1.0]
    both = choose(context(), np.array([0.0, 1.0]), 2, np.random.default_rng(0))
    assert both.index.tolist() == [3, 2]  # the budget is filled all the same


def test_more_budget_than_candidates_takes_all_of_them() -> None:
    got = choose(context(), np.array([1.0, 1.0]), 9, np.random.default_rng(0))
    assert sorted(got.index.tolist()) == [2, 3]


@pytest.mark.parametrize("candidates", [[0, 1], [2, 3]], ids=["reweight", "acquire"])
def test_without_any_preference_all_count_the_same(candidates: list[int]) -> None:
    shown = context(candidates=np.array(candidates))
    got = choose(shown, np.zeros(2), 2, np.random.default_rng(0))
    assert sorted(got.index.tolist()) == candidates
    assert got.weight.tolist() == [1.0, 1.0]
    drawn = [
        int(choose(shown, np.zeros(2), 1, np.random.default_rng(seed)).index[0])
        for seed in range(40)
    ]
    assert set(drawn) == set(candidates)


def test_weight_whose_groups_have_run_out_leaves_a_uniform_draw() -> None:
    groups = np.array([0, 1, 0, 0], np.int32)
    shown = context(
        groups=groups,
        near=GroupNeighbourhood(groups, np.array([0, 1]), np.array([2, 3])),
    )
    drawn = {
        int(choose(shown, np.array([0.0, 1.0]), 1, np.random.default_rng(seed)).index[0])
        for seed in range(40)
    }
    assert drawn == {2, 3}


# --- selections --------------------------------------------------------------------------------


def test_a_selection_without_weights_counts_all_the_same() -> None:
    made = Selection.of([5, 2])
    assert made.index.dtype == np.int64
    assert made.weight.tolist() == [1.0, 1.0]
    assert Selection.of([]).index.shape == (0,)
    assert Selection.of(np.array([1, 2], np.int32), [1, 2]).weight.dtype == np.float64


@pytest.mark.parametrize("index", [[0.5, 1.5], np.array([True, False]), ["a"]])
def test_positions_are_whole_numbers(index: Any) -> None:
    with pytest.raises(StrategyError, match=r"expects positions \(whole numbers\); received"):
        Selection.of(index)


@pytest.mark.parametrize(
    ("selection", "message"),
    [
        (Selection.of([1, 2], [1.0]), r"one shape \[K\]; received \(2,\) and \(1,\)"),
        (Selection.of([[1, 2]], [[1.0, 1.0]]), r"received \(1, 2\) and \(1, 2\)"),
        (Selection.of([1, 2, 3, 4]), "selected 4 examples; the budget is 3"),
        (Selection.of([1, 1]), "selected an example more than once"),
        (Selection.of([1, 8, 9]), "selected 2 examples that are no candidates.*position 8"),
        (Selection.of([1], [np.nan]), "negative or non-finite weight"),
        (Selection.of([1], [np.inf]), "negative or non-finite weight"),
        (Selection.of([1, 2], [-1.0, 2.0]), "negative or non-finite weight"),
        (Selection.of([1, 2], [0.0, 0.0]), "gave every selected example the weight 0"),
    ],
)
def test_each_broken_promise_is_named(selection: Selection, message: str) -> None:
    with pytest.raises(StrategyError, match=f"Strategy 'mine' .*{message}"):
        selection.validated(np.arange(5), 3, name="mine")


@pytest.mark.parametrize("selection", [Selection.of([]), Selection.of([4, 0], [0.0, 1e-300])])
def test_a_kept_promise_returns_the_selection(selection: Selection) -> None:
    assert selection.validated(np.arange(5), 3, name="mine") is selection


# --- state -------------------------------------------------------------------------------------


class _Plain(Strategy):
    name: ClassVar[str] = "plain"

    def select(self, context: SelectionContext, budget: int, rng: np.random.Generator) -> Selection:
        return Selection.of(context.candidates[:budget])


def test_a_state_that_nobody_loads_is_no_silent_loss() -> None:
    strategy = _Plain()
    strategy.load_state_dict(strategy.state_dict())
    with pytest.raises(StrategyError, match="'plain' has a state but no load_state_dict"):
        strategy.load_state_dict({"seen": 3})


def test_the_best_are_sought_in_proportion_to_how_many_of_them_are_near() -> None:
    """Six of eight good examples in group 0, two in group 1; group 1 must get its quarter."""
    groups = np.array([0] * 8 + [1] * 8 + [0] * 1000 + [1] * 1000, np.int32)
    value = np.full(len(groups), np.nan)
    value[:6], value[6:8] = 2.0, 0.0
    value[8:10], value[10:16] = 1.5, 0.0
    train, candidates = np.arange(16), np.arange(16, len(groups))
    context = SelectionContext(
        round=1,
        candidates=candidates,
        train=train,
        times_seen=np.zeros(len(groups), np.int64),
        groups=groups,
        near=GroupNeighbourhood(groups, train, candidates),
    )
    chosen = draw_best(context, value, 400, np.random.default_rng(0), keep=0.5)
    share = float((groups[chosen.index] == 1).mean())
    assert abs(share - 0.25) < 4 * (0.25 * 0.75 / 400) ** 0.5
    value[16] = 0.1  # a candidate with a value of its own: then candidates are ranked
    best = draw_best(context, value, 1, np.random.default_rng(0), keep=0.5)
    assert groups[best.index[0]] == 0
