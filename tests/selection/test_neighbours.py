"""How weight on scored examples reaches the candidates near them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from activeselect.data.pool import Pool, Problem
from activeselect.errors import ConfigError
from activeselect.selection import neighbours as acquire
from activeselect.selection.carry_over import CarryOver
from activeselect.selection.neighbours import (
    EmbeddingNeighbourhood,
    GroupNeighbourhood,
    TextNeighbourhood,
    neighbourhood_of,
)


def pool_of(questions: list[str], groups: list[str] | None = None) -> Pool:
    return Pool.from_problems(
        (
            Problem(i, question, f"so {i}", str(i), groups[i] if groups else "")
            for i, question in enumerate(questions)
        ),
        checker="number",
    )


@settings(max_examples=200, deadline=None)
@given(st.integers(2, 40), st.integers(1, 6), st.integers(0, 1000))
def test_groups_conserve_the_weight_that_has_somewhere_to_go(
    size: int, number: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    groups = rng.integers(0, number, size).astype(np.int32)
    order = rng.permutation(size)
    cut = int(rng.integers(0, size + 1))
    train, candidates = order[:cut], order[cut:]
    weight = rng.random(len(train)) * rng.integers(0, 2, len(train))
    carried = GroupNeighbourhood(groups, train, candidates).spread(weight)
    assert carried.shape == (len(candidates),)
    for group in range(number):
        there = groups[candidates] == group
        wanted = weight[groups[train] == group].sum() if there.any() else 0.0
        assert carried[there].sum() == pytest.approx(wanted)
        assert len(set(carried[there].tolist())) <= 1


def test_nothing_to_spread_over_is_no_error() -> None:
    nothing = np.empty(0, dtype=np.int64)
    groups = np.array([0, 1], np.int32)
    assert GroupNeighbourhood(groups, np.array([0]), nothing).spread(np.ones(1)).shape == (0,)
    assert GroupNeighbourhood(groups, nothing, np.array([0])).spread(np.ones(0)).tolist() == [0.0]
    assert GroupNeighbourhood(groups[:0], nothing, nothing).spread(np.ones(0)).shape == (0,)
    pool = pool_of(["one apple", "two apples"])
    assert TextNeighbourhood(pool, np.array([0]), nothing).spread(np.ones(1)).shape == (0,)
    assert TextNeighbourhood(pool, nothing, np.array([0])).spread(np.ones(0)).tolist() == [0.0]


TRAINS = [f"a train leaves town {i} at noon , how far is it after {i} hours ?" for i in range(12)]
SHOPS = [f"a shop sells {i} pears and {i} plums , what do they cost ?" for i in range(12)]


def test_text_carries_weight_to_similar_questions() -> None:
    pool = pool_of([*TRAINS, *SHOPS])
    train, candidates = np.array([0, 12]), np.array([*range(1, 12), *range(13, 24)])
    near = TextNeighbourhood(pool, train, candidates, neighbours=5)
    carried = near.spread(np.array([2.0, 0.0]))
    assert carried.sum() == pytest.approx(2.0)
    assert np.flatnonzero(carried).max() < 11
    assert sorted(carried)[-5:] == pytest.approx([0.4] * 5)
    other = near.spread(np.array([0.0, 1.0]))
    assert np.flatnonzero(other).min() >= 11
    np.testing.assert_allclose(near.spread(np.array([2.0, 1.0])), carried + other)


def test_text_without_weight_carries_none() -> None:
    pool = pool_of([*TRAINS, *SHOPS])
    near = TextNeighbourhood(pool, np.array([0, 12]), np.arange(1, 12))
    assert near.spread(np.zeros(2)).tolist() == [0.0] * 11


def test_fewer_candidates_than_neighbours_share_it_all() -> None:
    near = TextNeighbourhood(pool_of(TRAINS), np.array([0]), np.array([3, 5]), neighbours=16)
    assert near.spread(np.array([1.0])).tolist() == [0.5, 0.5]


def test_numbers_and_single_letters_are_words_too() -> None:
    """Bare sums have no word of two letters; a vocabulary of words alone would be empty."""
    pool = pool_of(["7 + 7 ?", "7 + 7 = ?", "x - y ?", "x - y = ?"])
    near = TextNeighbourhood(pool, np.array([0, 2]), np.array([1, 3]), neighbours=1)
    assert near.spread(np.array([1.0, 0.0])).tolist() == [1.0, 0.0]
    assert near.spread(np.array([0.0, 1.0])).tolist() == [0.0, 1.0]


def test_questions_without_any_word_are_all_near() -> None:
    pool = pool_of(["∮ ?", "+ ?", "± ?", "÷ ?"])
    near = TextNeighbourhood(pool, np.array([0, 1]), np.array([2, 3]), neighbours=1)
    assert near.spread(np.array([1.0, 2.0])).tolist() == [1.5, 1.5]


def test_a_question_unlike_all_candidates_still_carries_its_weight() -> None:
    pool = pool_of([*TRAINS, "zebra"])
    carried = TextNeighbourhood(pool, np.array([12]), np.arange(12), neighbours=4).spread(
        np.array([1.0])
    )
    assert carried.sum() == pytest.approx(1.0)


def test_groups_are_used_where_there_are_any() -> None:
    train, candidates, weight = np.array([0, 1]), np.array([2, 3]), np.array([1.0, 3.0])
    grouped = pool_of(TRAINS[:4], ["a", "b", "b", "a"])
    assert neighbourhood_of(grouped, train, candidates).spread(weight).tolist() == [3.0, 1.0]
    plain = pool_of([TRAINS[0], SHOPS[0], SHOPS[1], TRAINS[1]])
    assert neighbourhood_of(plain, train, candidates).spread(weight).sum() == pytest.approx(4.0)


@settings(max_examples=200, deadline=None)
@given(st.integers(2, 40), st.integers(1, 6), st.integers(0, 1000))
def test_a_candidate_takes_the_mean_of_what_is_known_in_its_group(
    size: int, number: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    groups = rng.integers(0, number, size).astype(np.int32)
    order = rng.permutation(size)
    cut = int(rng.integers(0, size + 1))
    value = np.where(rng.random(size) < 0.5, rng.random(size), np.nan)
    found = GroupNeighbourhood(groups, order[:cut], order[cut:]).average(value)
    for position, mean in zip(order[cut:], found, strict=True):
        known = [value[j] for j in range(size) if groups[j] == groups[position]]
        known = [v for v in known if not np.isnan(v)]
        assert mean == pytest.approx(np.mean(known)) if known else np.isnan(mean)


def test_text_averages_over_the_similar_questions_that_are_known() -> None:
    pool = pool_of([*TRAINS, *SHOPS])
    value = np.full(24, np.nan)
    value[[0, 1, 2]], value[[12, 13, 14]] = 0.2, 0.8
    near = TextNeighbourhood(pool, np.arange(3), np.array([5, 20]), neighbours=3)
    assert near.average(value) == pytest.approx([0.2, 0.8])
    assert np.isnan(near.average(np.full(24, np.nan))).all()


# --- embeddings --------------------------------------------------------------------------------


def nearest_mean(vectors: np.ndarray, value: np.ndarray, of: int, k: int) -> float:
    """Mean value of the k known examples of the highest cosine, by sorting."""
    known = [i for i in range(len(value)) if not np.isnan(value[i])]

    def cosine(i: int) -> float:
        a, b = vectors[i].astype(float), vectors[of].astype(float)
        return float(a @ b / np.sqrt((a @ a) * (b @ b)))

    return float(np.mean([value[i] for i in sorted(known, key=cosine)[-k:]]))


def test_embeddings_carry_the_scores_of_the_nearest() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(60, 5)).astype(np.float32)
    train, candidates = np.arange(20), np.arange(20, 60)
    value = np.full(60, np.nan)
    value[:25] = rng.random(25)  # some candidates were scored themselves
    near = EmbeddingNeighbourhood(vectors, train, candidates, neighbours=4)
    wanted = [nearest_mean(vectors, value, i, 4) for i in candidates]
    np.testing.assert_allclose(near.average(value), wanted)
    carried = near.spread(np.eye(20)[7])
    assert carried.sum() == pytest.approx(1.0)
    cosine = vectors[candidates] @ vectors[7] / np.linalg.norm(vectors[candidates], axis=1)
    assert set(np.flatnonzero(carried)) == set(np.argsort(cosine)[-4:])
    assert np.isnan(near.average(np.full(60, np.nan))).all()


def test_an_approximate_search_finds_most_of_the_nearest() -> None:
    pytest.importorskip("faiss")
    rng = np.random.default_rng(0)
    middles = rng.normal(size=(50, 16))
    vectors = (middles[rng.integers(0, 50, 5000)] + 0.5 * rng.normal(size=(5000, 16))).astype("f4")
    rows, k = acquire.unit(vectors), 8
    exact = acquire._exact(rows[:4000], rows[4000:], k)
    found = acquire._approximate(rows[:4000], rows[4000:], k)
    recall = np.mean([len(set(a) & set(b)) / k for a, b in zip(exact, found, strict=True)])
    assert recall > 0.95
    again = acquire._approximate(rows[:4000], rows[4000:], k)
    np.testing.assert_array_equal(found, again)
    value = np.where(np.arange(5000) < 4000, vectors[:, 0].astype(float), np.nan)
    near = EmbeddingNeighbourhood(vectors, np.arange(4000), np.arange(4000, 5000), exact=10)
    assert np.corrcoef(near.average(value), vectors[4000:, 0])[0, 1] > 0.7


def test_a_sparse_cell_never_points_outside() -> None:
    pytest.importorskip("faiss")
    rng = np.random.default_rng(0)
    rows = acquire.unit(rng.normal(size=(200, 6)))
    found = acquire._approximate(rows[:100], rows[100:], 64, probes=1)
    assert found.shape == (100, 64)
    assert found.min() >= 0
    assert found.max() < 100


def test_without_faiss_a_large_search_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "faiss", None)
    vectors = np.eye(9, dtype=np.float32)
    near = EmbeddingNeighbourhood(vectors, np.arange(4), np.arange(4, 9), exact=3)
    with pytest.raises(ConfigError, match=r"pip install 'activeselect\[ann\]', or set rounds.near"):
        near.spread(np.ones(4))


# --- which one ---------------------------------------------------------------------------------


def test_rounds_near_decides() -> None:
    train, candidates = np.array([0]), np.array([1, 2])
    grouped, plain = pool_of(TRAINS[:3], ["a", "b", "a"]), pool_of(TRAINS[:3])
    vectors = np.eye(3, dtype=np.float32)

    def kind(pool: Pool, near: str) -> type:
        return type(neighbourhood_of(pool, train, candidates, near=near, embedding=vectors))

    assert kind(grouped, "group") is GroupNeighbourhood
    assert kind(plain, "text") is kind(grouped, "text") is TextNeighbourhood
    assert kind(plain, "auto") is kind(grouped, "auto") is kind(plain, "regression") is CarryOver
    assert kind(plain, "embedding") is kind(grouped, "embedding") is EmbeddingNeighbourhood
    with pytest.raises(ConfigError, match=r"expected a pool with groups.*rounds\.regions"):
        kind(plain, "group")
    with pytest.raises(ConfigError, match="none were measured"):
        neighbourhood_of(plain, train, candidates, near="embedding")
