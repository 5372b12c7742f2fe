"""Rounds in turns: what a policy asks for is what is completed, in order and once."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from activeselect.config import ScoringConfig
from activeselect.config import rounds as settings
from activeselect.errors import ConfigError
from activeselect.scoring.budget import POLICIES, Adaptive
from activeselect.scoring.generate import stream_keys
from activeselect.scoring.scorer import Scores, joined
from activeselect.scoring.trajectory import Counts
from activeselect.scoring.turns import policy_of, sample_in_turns, within_subset

NONE = (np.zeros((0, 4), np.int64), np.zeros((0, 4), np.int64), np.zeros((0, 4)))


def measured(size: int = 4) -> Scores:
    """Likelihoods of a round, nothing sampled."""
    return Scores(
        np.arange(size) * 3, nll_sum=np.linspace(0.5, 9.0, size), tokens=np.full(size, 10)
    )


def truth(size: int, samples: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).random((size, samples)) < 0.5


@given(st.lists(st.lists(st.integers(0, 3), min_size=4, max_size=4), max_size=6), st.integers(0, 9))
def test_every_completion_asked_for_is_made_once_and_in_order(
    turns: list[list[int]], seed: int
) -> None:
    outcomes = truth(4, 18, seed)
    plan = iter([*(turn for turn in turns if any(turn)), [0] * 4])
    done: list[tuple[int, int]] = []

    def complete(rows: np.ndarray, samples: int, offset: np.ndarray) -> Scores:
        places = offset[:, None] + np.arange(samples)
        done.extend((int(r), int(p)) for r, some in zip(rows, places, strict=True) for p in some)
        texts = tuple(tuple(f"{r}:{p}" for p in some) for r, some in zip(rows, places, strict=True))
        correct = outcomes[rows[:, None], places]
        return Scores(rows * 3, correct, completions=texts, tally={"n": samples * len(rows)})

    scores, counts = sample_in_turns(lambda _: np.array(next(plan)), NONE, measured(), complete)
    wanted = np.sum([turn for turn in turns if any(turn)], axis=0) if any(map(any, turns)) else 0
    assert scores.sampled is not None
    np.testing.assert_array_equal(scores.sampled, np.zeros(4, int) + wanted)
    assert sorted(done) == [(r, p) for r in range(4) for p in range(scores.sampled[r])]
    for row, count in enumerate(scores.sampled):
        assert scores.outcomes()[row] == outcomes[row, :count].tolist()
        assert scores.completions is not None
        assert scores.completions[row] == tuple(f"{row}:{p}" for p in range(count))
    assert scores.tally.get("n", 0) == len(done)
    np.testing.assert_array_equal(counts.sampled[-1], scores.sampled)
    np.testing.assert_array_equal(counts.right[-1], [sum(row) for row in scores.outcomes()])


def test_the_policy_sees_the_earlier_rounds_first() -> None:
    earlier = (np.array([[1, 0]]), np.array([[2, 0]]), np.array([[0.4, np.nan]]))
    seen: list[Counts] = []

    def ask(counts: Counts) -> np.ndarray:
        seen.append(counts)
        return np.array([0, 1]) - counts.sampled[-1]

    features = np.array([[0.5, -1.0], [0.0, 1.0]])
    sample_in_turns(
        ask,
        earlier,
        measured(2),
        lambda rows, *_: Scores(rows, np.ones((len(rows), 1), bool)),
        features,
    )
    assert [counts.sampled.tolist() for counts in seen] == [[[2, 0], [0, 0]], [[2, 0], [0, 1]]]
    assert seen[0].measured.tolist() == [[True, False], [True, True]]
    assert seen[-1].right.tolist() == [[1, 0], [0, 1]]
    assert all(counts.features is features for counts in seen)


def test_without_likelihoods_there_is_nothing_to_decide_by() -> None:
    blind = Scores(np.arange(2))
    with pytest.raises(ValueError, match="needs the likelihood"):
        sample_in_turns(lambda counts: counts.sampled[-1], NONE, blind, lambda *_: blind)


def test_a_subset_stays_the_same_and_newcomers_get_one_of_their_own() -> None:
    rng = np.random.default_rng(0)
    nll = rng.uniform(0.1, 2.0, (2, 60))
    nll[0, 40:] = np.nan  # acquired before the second round
    ask = within_subset(lambda counts: np.ones(counts.right.shape[1], np.int64), 0.25, seed=3)

    def counts(rounds: int, size: int) -> Counts:
        nothing = np.zeros((rounds, size), np.int64)
        return Counts(nothing, nothing, nll[:rounds, :size])

    first, second = ask(counts(1, 40)), ask(counts(2, 60))
    np.testing.assert_array_equal(first, second[:40])
    assert first.sum() == 10
    assert second[40:].sum() == 5
    chosen = np.sort(nll[0, :40].argsort().argsort()[first > 0])
    assert np.all(np.diff(chosen) == 4), "evenly spread over the likelihoods"
    other = within_subset(lambda counts: np.ones(counts.right.shape[1], np.int64), 0.25, seed=4)
    assert len({tuple(some(counts(1, 40))) for some in (ask, other)}) == 2


@given(st.integers(1, 6), st.integers(0, 6), st.integers(0, 3))
def test_streams_that_go_on_are_those_drawn_at_once(first: int, further: int, seed: int) -> None:
    index = np.array([7, 0, 3])
    whole = stream_keys(index, first + further, seed=seed, round=2)
    start = stream_keys(index, first, seed=seed, round=2)
    rest = stream_keys(index, further, seed=seed, round=2, offset=np.full(3, first))
    np.testing.assert_array_equal(np.hstack([start, rest]), whole)
    own = np.array([0, 1, 2])
    mixed = stream_keys(index, 1, seed=seed, round=2, offset=own)
    np.testing.assert_array_equal(
        mixed[:, 0], stream_keys(index, 3, seed=seed, round=2)[np.arange(3), own]
    )


def test_scores_of_unequal_counts_survive_the_disk_and_a_new_order() -> None:
    scores = Scores(
        np.array([4, 2]), np.array([[True, False], [True, True]]), sampled=np.array([1, 2])
    )
    back = Scores.from_plain(scores.to_plain())
    assert back.outcomes() == [[True], [True, True]]
    assert back.take(np.array([1, 0])).outcomes() == [[True, True], [True]]
    assert joined([scores, back]).outcomes() == [[True], [True, True]] * 2
    assert scores.right.tolist() == [1, 2]


def test_the_config_knows_the_policies_that_there_are() -> None:
    assert set(settings.POLICIES) == set(POLICIES)
    for name in POLICIES:
        assert policy_of(ScoringConfig(policy=name), rounds=2).name == name
    adaptive = policy_of(
        ScoringConfig(policy="adaptive", share=0.3, samples=4, tau=0.2), rounds=3, threshold=0.6
    )
    assert adaptive == Adaptive(4, 0.2, 3, 0.3, 0.6)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"policy": "adaptiv"}, "Did you mean 'adaptive'"),
        ({"share": 0.5}, "only adaptive has a share"),
        ({"policy": "adaptive", "share": 0.0}, r"a share in \(0, 1\]"),
        ({"policy": "adaptive", "share": 1.5}, r"a share in \(0, 1\]"),
        ({"subset": 0.5}, "only adaptive imputes the others"),
        ({"policy": "adaptive", "subset": 0.0}, r"a share in \(0, 1\]"),
        ({"policy": "skip-memorized", "tau": 0.0}, "nothing counts as memorized"),
    ],
)
def test_settings_that_make_no_sense_are_refused(changes: dict[str, object], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        ScoringConfig(**changes)  # type: ignore[arg-type]
