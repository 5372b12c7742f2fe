"""Each rule against the same rule written out, one example at a time."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from activeselect.errors import StrategyError
from activeselect.selection.neighbours import GroupNeighbourhood
from activeselect.selection.registry import create
from activeselect.selection.strategy import Selection, SelectionContext, ranks

SIZE = 12
NAN = float("nan")


def reweigh(spec: Any, *, seed: int = 0, budget: int = SIZE, **signals: Any) -> Selection:
    """The selection among twelve train examples; a signal is one row, or several."""
    rows = {name: np.atleast_2d(np.asarray(value, float)) for name, value in signals.items()}
    train = np.arange(SIZE)
    context = SelectionContext(
        round=3,
        candidates=train,
        train=train,
        times_seen=np.ones(SIZE, np.int64),
        groups=np.zeros(SIZE, np.int32),
        signals={name: (lambda v=v: v) for name, v in rows.items()},
    )
    return create(spec).select(context, budget, np.random.default_rng(seed))


def acquire(
    spec: Any, groups: list[int], *, budget: int = 4, seed: int = 0, **signals: Any
) -> Selection:
    """The selection among candidates 6 to 11; examples 0 to 5 are trained on and scored."""
    rows = {name: np.atleast_2d(np.asarray(value, float)) for name, value in signals.items()}
    train, candidates = np.arange(6), np.arange(6, SIZE)
    members = np.array(groups, np.int32)
    context = SelectionContext(
        round=3,
        candidates=candidates,
        train=train,
        times_seen=np.isin(np.arange(SIZE), train).astype(np.int64),
        groups=members,
        group_names=tuple("abc"),
        signals={name: (lambda v=v: v) for name, v in rows.items()},
        near=GroupNeighbourhood(members, train, candidates),
    )
    return create(spec).select(context, budget, np.random.default_rng(seed))


SPREAD = np.array([3, 9, 1, 11, 0, 7, 5, 10, 2, 8, 4, 6]) / 12


@settings(max_examples=200, deadline=None)
@given(st.lists(st.one_of(st.integers(0, 4).map(float), st.just(NAN)), max_size=30))
def test_ranks_count_who_is_below_and_half_of_who_is_equal(values: list[float]) -> None:
    known = [v for v in values if not math.isnan(v)]
    expected = []
    for value in values:
        others = len(known) - 1
        below = sum(other < value for other in known)
        equal = sum(other == value for other in known) - 1
        expected.append((below + equal / 2) / others if others else 0.5)
    expected = [NAN if math.isnan(v) else e for v, e in zip(values, expected, strict=True)]
    np.testing.assert_allclose(ranks(np.array(values)), expected)


# --- rules that keep the top -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "signal", "worth"),
    [
        ({"name": "el2n"}, "el2n", lambda x: x),
        ({"name": "grand"}, "grand", lambda x: x),
        ({"name": "hes"}, "hes", lambda x: x),
        ({"name": "ifd"}, "ifd", lambda x: x),
        ({"name": "longest"}, "length", lambda x: x),
        ({"name": "difficulty"}, "difficulty", lambda x: x),
        ({"name": "difficulty", "by": "length", "direction": "easy"}, "length", lambda x: -x),
        ({"name": "difficulty", "direction": "middle"}, "difficulty", lambda x: -abs(x - 5.5 / 12)),
        ({"name": "perplexity", "band": "low"}, "mean_nll", lambda x: -x),
        ({"name": "perplexity"}, "mean_nll", lambda x: -abs(x - 5.5 / 12)),
        ({"name": "perplexity", "band": "high"}, "mean_nll", lambda x: x),
        ({"name": "perplexity", "reference": "m"}, "reference_loss", lambda x: -abs(x - 5.5 / 12)),
        ({"name": "cartography"}, "variability", lambda x: x),
        ({"name": "cartography", "region": "hard"}, "confidence", lambda x: -x),
        ({"name": "cartography", "region": "easy"}, "confidence", lambda x: x),
    ],
)
@pytest.mark.parametrize("keep", [0.5, 1 / 3])
def test_a_rule_keeps_its_top(spec: dict[str, Any], signal: str, worth: Any, keep: float) -> None:
    got = reweigh({**spec, "keep": keep}, **{signal: SPREAD})
    best = sorted(range(SIZE), key=lambda i: -worth(SPREAD[i]))[: round(keep * SIZE)]
    assert got.index.tolist() == sorted(best)
    assert set(got.weight) == {1.0}


def test_ifd_puts_misleading_questions_last() -> None:
    ratio = np.linspace(0.5, 1.6, SIZE)  # the sixth is the first at 1
    assert reweigh({"name": "ifd", "keep": 0.25}, ifd=ratio).index.tolist() == [2, 3, 4]


def test_noise_at_the_top_can_be_skipped() -> None:
    order = np.argsort(-SPREAD)
    got = reweigh({"name": "el2n", "keep": 0.25, "skip": 0.2}, el2n=SPREAD)
    assert set(got.index) == set(order[3:6])  # ranks above 0.8: three of twelve


def test_no_more_is_skipped_than_the_share() -> None:
    """Two of twelve are at most 2/11 of them; the third, exactly at the edge, would be too many."""
    order = np.argsort(-SPREAD)
    got = reweigh({"name": "el2n", "keep": 0.25, "skip": 1 - 9 / 11}, el2n=SPREAD)
    assert set(got.index) == set(order[2:5])


def test_rho_loss_is_what_the_reference_does_not_lose() -> None:
    loss, reference = SPREAD * 3, np.roll(SPREAD, 5) * 3
    got = reweigh(
        {"name": "rho-loss", "reference": "m", "keep": 0.25}, loss=loss, reference_loss=reference
    )
    assert set(got.index) == set(np.argsort(reference - loss)[:3])
    noise = reweigh(
        {"name": "rho-loss", "reference": "m", "keep": 0.25},
        loss=np.r_[np.full(6, 9.0), np.full(6, 2.0)],
        reference_loss=np.r_[np.full(6, 9.0), np.full(6, 0.5)],
    )
    assert noise.index.min() >= 6


def test_rho_loss_says_what_it_needs() -> None:
    with pytest.raises(StrategyError, match=r"'rho-loss': reference: expected the path .*save_mo"):
        create("rho-loss")


def test_what_was_never_right_counts_as_forgotten_most() -> None:
    count = [0, 1, 2, 0] * 3
    right = np.array([1.0, 1.0, 1.0, 0.0] * 3)
    first = reweigh({"name": "forgetting", "keep": 0.25}, forgetting=count, accuracy=right)
    assert first.index.tolist() == [3, 7, 11]
    last = reweigh(
        {"name": "forgetting", "keep": 0.75, "unlearned": "last"}, forgetting=count, accuracy=right
    )
    assert 3 not in last.index % 4
    once = np.stack([np.ones(SIZE), np.zeros(SIZE)])  # right once is learned once
    got = reweigh({"name": "forgetting", "keep": 0.25}, forgetting=count, accuracy=once)
    assert got.index.tolist() == [2, 6, 10]


def test_where_all_candidates_are_known_the_best_are_taken() -> None:
    got = acquire("longest", [0, 1] * 6, length=[9.0] * 6 + [1, 5, 3, 6, 4, 2])
    assert sorted(got.index) == [7, 8, 9, 10]


@pytest.mark.parametrize("name", ["el2n", "hes", "grand", "ifd"])
def test_what_was_never_scored_counts_by_the_best_near_it(name: str) -> None:
    """Two of three in group 0 belong to the best half, one of three in group 1."""
    groups = [0, 0, 0, 1, 1, 1] * 2
    value = [0.9, 0.8, 0.1, 0.7, 0.2, 0.3, *[NAN] * 6]
    taken = np.zeros(SIZE)
    for seed in range(500):
        got = acquire(name, groups, budget=1, seed=seed, **{name: value})
        taken[got.index] += 1
    assert taken[6:9].sum() / 500 == pytest.approx(2 / 3, abs=0.08)
    own = [*value[:6], NAN, NAN, 0.95, 0.05, NAN, NAN]  # two candidates were scored themselves
    got = [acquire(name, groups, budget=5, seed=s, **{name: own}).index for s in range(30)]
    assert all(8 in index and 9 not in index for index in got)


# --- rules that weigh --------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "signal"), [("loss", "loss"), ("delta-loss", "delta_loss")])
@pytest.mark.parametrize("sharpness", [0, 1, 2.5])
def test_a_rank_becomes_a_weight(name: str, signal: str, sharpness: float) -> None:
    got = reweigh({"name": name, "sharpness": sharpness}, **{signal: SPREAD})
    below = [sum(value > SPREAD) / 11 for value in SPREAD]
    expected = np.array([share**sharpness for share in below])
    assert got.index.tolist() == np.flatnonzero(expected).tolist()
    np.testing.assert_allclose(got.weight, expected[got.index])


def test_premem_falls_off_with_the_rank() -> None:
    premem = np.array([0.0, 0.5, 1.0] * 4)
    got = reweigh({"name": "premem-rank", "temperature": 0.2}, premem=premem)
    rank = np.array([1.5, 5.5, 9.5] * 4) / 11
    np.testing.assert_allclose(got.weight, np.exp(-rank / 0.2))


def test_learnability_is_the_variance_of_success() -> None:
    p = np.array([0, 0.25, 0.5, 1.0] * 3)
    got = reweigh("learnability", accuracy=p)
    assert set(p[got.index]) == {0.25, 0.5}
    np.testing.assert_allclose(got.weight, 4 * p[got.index] * (1 - p[got.index]))
    got = reweigh({"name": "learnability", "floor": 0.2, "sharpness": 2}, accuracy=p)
    np.testing.assert_allclose(got.weight, 0.2 + 0.8 * (4 * p * (1 - p)) ** 2)


def test_dynamic_drops_all_right_and_all_wrong() -> None:
    p = np.array([0, 0.2, 0.9, 1.0] * 3)
    assert set(p[reweigh("dynamic", accuracy=p).index]) == {0.2, 0.9}
    got = reweigh({"name": "dynamic", "floor": 0.1}, accuracy=p)
    assert got.weight.tolist() == [0.1, 1, 1, 0.1] * 3


@pytest.mark.parametrize("name", ["dynamic", "learnability"])
def test_solved_and_hopeless_neighbours_do_not_look_half_learned(name: str) -> None:
    """The mean of 0 and 1 is one half; the rule is carried over, not what goes into it."""
    groups = [0, 0, 0, 1, 1, 1, 0, 0, 0, 1, 1, 1]
    accuracy = [0, 1, 1, 0.5, 0.5, 0.5, *[NAN] * 6]
    got = acquire(name, groups, budget=3, accuracy=accuracy)
    assert sorted(got.index) == [9, 10, 11]


# --- rules with a state or with groups ---------------------------------------------------------


def test_the_target_moves_as_the_paper_says() -> None:
    strategy: Any = create({"name": "target-difficulty", "start": 0.2, "step": 0.3, "goal": 0.4})
    target = 0.2
    for mean in (0.1, *[0.9] * 6, *[0.0] * 6):
        p = np.full(SIZE, mean)
        reweigh(strategy, accuracy=p)
        target = min(1.0, max(0.0, target + 0.3 * math.tanh(2 * (mean - 0.4))))
        assert strategy.target == pytest.approx(target)
        assert strategy.state_dict() == {"target": strategy.target}
    assert target == 0.0
    strategy.load_state_dict({})
    assert strategy.target == 0.2


def test_what_is_nearest_the_target_is_kept() -> None:
    p = np.linspace(0, 1, SIZE)
    got = reweigh({"name": "target-difficulty", "step": 0, "start": 0.25, "keep": 0.25}, accuracy=p)
    assert got.index.tolist() == [7, 8, 9]  # a quarter of wrong answers
    by_rank = {"name": "target-difficulty", "by": "length", "step": 0, "start": 0.0, "keep": 0.25}
    got = reweigh(by_rank, accuracy=p, length=1000 * SPREAD)
    assert set(got.index) == set(np.argsort(SPREAD)[:3])


def test_the_bandit_follows_its_formula() -> None:
    groups = np.array([0] * 4 + [1] * 2 + [2] * 6, np.int32)
    p = np.array([[0.5] * 4 + [1.0] * 2 + [0.2] * 6, [0.9] * 4 + [NAN] * 2 + [0.2] * 6])
    seen = np.array([3] * 4 + [1] * 2 + [2] * 6)
    train = np.arange(SIZE)
    context = SelectionContext(
        round=2,
        candidates=train,
        train=train,
        times_seen=seen,
        groups=groups,
        group_names=tuple("abc"),
        signals={"accuracy": lambda: p},
    )
    spec = {"name": "group-bandit", "temperature": 0.5, "exploration": 0.7}
    got = create(spec).select(context, SIZE, np.random.default_rng(0))
    value = []
    for group in range(3):
        known = [2 * math.sqrt(x * (1 - x)) for row in p for x in row[groups == group] if x == x]
        count = seen[groups == group].sum()
        value.append(np.mean(known) + 0.7 * math.sqrt(2 * math.log(26 + 1) / (count + 1)))
    chance = np.exp(np.array(value) / 0.5)
    chance /= chance.sum()
    share = np.bincount(groups, got.weight) / got.weight.sum()
    np.testing.assert_allclose(share, chance)
    newest = create({**spec, "window": 1, "exploration": 0}).select(
        context, SIZE, np.random.default_rng(0)
    )
    value = [2 * math.sqrt(0.09), 0.0, 2 * math.sqrt(0.16)]
    chance = np.exp(np.array(value) / 0.5) / np.exp(np.array(value) / 0.5).sum()
    share = np.bincount(groups, newest.weight) / newest.weight.sum()
    np.testing.assert_allclose(share, chance)


def test_a_group_that_ran_out_does_not_bend_the_bandit() -> None:
    groups = [0, 0, 0, 1, 1, 2, 1, 1, 1, 2, 2, 2]
    accuracy = [0.5, 0.5, 0.5, 0.5, 0.5, 0.0, *[NAN] * 6]
    got = acquire("group-bandit", groups, budget=3, accuracy=accuracy)
    assert sorted(got.index)[0] >= 6


# --- parameters --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"name": "el2n", "keep": 0}, r"keep: expected a share in \(0, 1\]; received 0"),
        ({"name": "ifd", "keep": "half"}, r"keep: expected a share in \(0, 1\]; received 'half'"),
        ({"name": "hes", "keep": True}, "received True"),
        ({"name": "grand", "skip": 1}, r"skip: expected a share in \[0, 1\); received 1"),
        ({"name": "loss", "sharpness": -1}, "sharpness: expected a number of at least 0"),
        ({"name": "premem-rank", "temperature": 0}, "temperature: expected a number above 0"),
        ({"name": "premem-rank", "temperature": NAN}, "temperature: expected a number above 0"),
        ({"name": "cartography", "region": "odd"}, "one of ambiguous, hard, easy; received 'odd'"),
        ({"name": "perplexity", "band": 3}, "band: expected one of low, middle, high; received 3"),
        ({"name": "forgetting", "unlearned": ""}, "unlearned: expected one of first, last"),
        ({"name": "learnability", "floor": 2}, r"floor: expected a share in \[0, 1\]; received 2"),
        ({"name": "dynamic", "floor": None}, "floor: expected a share"),
        ({"name": "group-bandit", "window": 0}, "window: expected a whole number of at least 1"),
        ({"name": "group-bandit", "window": 1.5}, "window: expected a whole number of at least 1"),
        ({"name": "difficulty", "by": "age"}, "by: expected one of difficulty, length"),
        ({"name": "target-difficulty", "goal": -1}, r"goal: expected a share in \[0, 1\]"),
        ({"name": "longest", "keeep": 1}, r"no parameter 'keeep'. Did you mean 'keep'\?"),
    ],
)
def test_a_bad_parameter_is_named(spec: Any, message: str) -> None:
    with pytest.raises(StrategyError, match=message):
        create(spec)
