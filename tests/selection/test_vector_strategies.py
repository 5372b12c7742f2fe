"""Strategies over embeddings and gradients, against slow versions and on made-up geometry."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
import pytest

from activeselect.errors import StrategyError
from activeselect.selection.neighbours import GroupNeighbourhood
from activeselect.selection.registry import create
from activeselect.selection.strategy import SelectionContext, unit


def shown(
    vectors: np.ndarray,
    train: Any,
    candidates: Any = None,
    groups: Any = None,
    names: tuple[str, ...] = ("",),
) -> SelectionContext:
    """A context with these vectors under both names; by default it acquires all the others."""
    train = np.array(train, dtype=np.int64)
    everything = np.arange(len(vectors))
    wanted = np.setdiff1d(everything, train) if candidates is None else np.array(candidates)
    group = np.zeros(len(vectors), np.int32) if groups is None else np.array(groups, np.int32)
    return SelectionContext(
        round=1,
        candidates=wanted,
        train=train,
        times_seen=np.zeros(len(vectors), np.int64),
        groups=group,
        group_names=names,
        vector_signals={"embedding": lambda: vectors, "gradient": lambda: vectors},
        near=GroupNeighbourhood(group, train, wanted),
    )


def chosen(spec: Any, context: SelectionContext, budget: int, seed: int = 0) -> list[int]:
    return create(spec).select(context, budget, np.random.default_rng(seed)).index.tolist()


def noise(count: int, width: int = 6, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, width)).astype(np.float32)


def blobs(count: int, kinds: int, width: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    middles = rng.normal(size=(kinds, width))
    of = rng.choice(kinds, count, p=rng.dirichlet(np.ones(kinds)))
    return (middles[of] + 0.4 * rng.normal(size=(count, width))).astype(np.float32)


# --- k-center ----------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_k_center_is_the_greedy_rule_on_a_small_pool(
    vector_reference: ModuleType, seed: int
) -> None:
    vectors, train = noise(60, seed=seed), [3, 10, 40]
    context = shown(vectors, train)
    wanted = vector_reference.k_center(vectors, train, context.candidates.tolist(), 8)
    assert set(chosen("k-center", context, 8)) == wanted


def radius(vectors: np.ndarray, centres: list[int]) -> float:
    """Largest distance of any row to the nearest centre."""
    rows = unit(vectors)
    return float(np.sqrt((2 - 2 * rows @ rows[centres].T).min(axis=1).clip(0).max()))


@pytest.mark.parametrize("budget", [20, 200])
def test_leaves_cost_k_center_little(budget: int) -> None:
    vectors, train = blobs(4000, 40, 16), list(range(100))
    context = shown(vectors, train)
    exact = radius(vectors, train + chosen({"name": "k-center", "leaf": 4000}, context, budget))
    quick = radius(vectors, train + chosen({"name": "k-center", "leaf": 250}, context, budget))
    random = radius(vectors, train + chosen("random", context, budget))
    assert exact <= quick < 1.06 * exact < random


def test_k_center_takes_one_of_each_cluster_when_it_reweights() -> None:
    of = np.repeat(np.arange(10), 10)
    vectors = np.eye(10, dtype=np.float32)[of] + 0.01 * noise(100, 10)
    everything = np.arange(100)
    for seed in range(10):
        context = shown(vectors, everything, everything)
        index = chosen({"name": "k-center", "keep": 0.1}, context, 100, seed)
        assert sorted(of[index]) == list(range(10))


def test_k_center_leaves_the_unmeasured_to_the_end() -> None:
    vectors = noise(40)
    vectors[20:] = np.nan
    index = chosen("k-center", shown(vectors, [0, 1]), 25)
    assert set(range(2, 20)) <= set(index)
    assert len(index) == 25


# --- facility location -------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("train", [[], [3, 10]])
def test_facility_location_is_the_greedy_rule_on_a_small_pool(
    vector_reference: ModuleType, seed: int, train: list[int]
) -> None:
    vectors = noise(40, seed=seed)
    context = shown(vectors, train)
    wanted = vector_reference.facility_location(vectors, train, context.candidates.tolist(), 5)
    assert set(chosen("facility-location", context, 5)) == wanted


def test_sparse_neighbours_cost_facility_location_little(vector_reference: ModuleType) -> None:
    vectors, train = blobs(1500, 20, 16), list(range(10))
    context = shown(vectors, train)
    rows = unit(vectors)

    def worth(index: list[int]) -> float:
        return float((rows[10:] @ rows[train + index].T).max(axis=1).clip(0).sum())

    spec = {"name": "facility-location", "neighbours": 1500}
    exact = worth(chosen({**spec, "leaf": 1500}, context, 30))
    quick = worth(chosen({"name": "facility-location", "leaf": 100}, context, 30))
    start, random = worth([]), worth(chosen("random", context, 30))
    assert quick - start > 0.9 * (exact - start)
    assert random - start < 0.8 * (exact - start)


def test_facility_location_buys_where_nothing_is_covered() -> None:
    middles = np.eye(3, dtype=np.float32)
    vectors = np.concatenate([m + 0.05 * noise(30, 3, seed) for seed, m in enumerate(middles)])
    context = shown(vectors, [1, 2, 3, 4])  # the first cluster is covered
    second, third = chosen("facility-location", context, 2)
    assert 30 <= second < 60 <= third


# --- dedup -------------------------------------------------------------------------------------


def copies(count: int, width: int = 16) -> np.ndarray:
    """Every vector three times, nearly."""
    rows = np.tile(noise(count, width), (3, 1))
    return (rows + 1e-3 * noise(3 * count, width, seed=1)).astype(np.float32)


@pytest.mark.parametrize("leaf", [1000, 64])
def test_dedup_keeps_one_of_three_copies(leaf: int) -> None:
    everything = np.arange(300)
    spec = {"name": "dedup", "prototypes": 0.0, "leaf": leaf}
    index = np.array(chosen(spec, shown(copies(100), everything, everything), 300))
    if leaf == 1000:
        assert sorted(index % 100) == list(range(100))
    else:  # duplicates that never share a leaf are missed, never two of a kind lost
        assert set(index % 100) == set(range(100))
        assert len(index) < 110


def test_dedup_buys_no_copy_of_the_train_set_nor_of_what_it_buys() -> None:
    vectors = copies(50)
    index = np.array(chosen({"name": "dedup", "prototypes": 0.0}, shown(vectors, range(20)), 30))
    assert sorted(index % 50) == list(range(20, 50))


def test_dedup_fills_the_budget_with_the_least_typical_then_the_least_similar() -> None:
    rng = np.random.default_rng(0)
    typical = np.array([1.0, 0, 0, 0]) + 0.05 * rng.normal(size=(20, 4))
    vectors = np.concatenate([np.eye(4)[:1], typical]).astype(np.float32)
    spec = {"name": "dedup", "threshold": 1.0, "prototypes": 0.5, "clusters": 1}
    centre = unit(unit(vectors[1:]).mean(axis=0, keepdims=True))[0]
    far = 1 + np.argsort(unit(vectors[1:]) @ centre)
    got = chosen(spec, shown(vectors, [0]), 10)
    assert len(set(got) & set(far[:10].tolist())) >= 9  # k-means knows the centre nearly
    assert set(got) <= set(chosen(spec, shown(vectors, [0]), 12))


def test_dedup_draws_the_rest_alike() -> None:
    vectors = noise(40, 32)
    count = np.zeros(40)
    for seed in range(300):
        count[chosen({"name": "dedup", "prototypes": 0.0}, shown(vectors, []), 10, seed)] += 1
    assert count == pytest.approx(75, abs=5 * np.sqrt(75))


def test_identical_vectors_are_one_example() -> None:
    everything = np.arange(30)
    context = shown(np.ones((30, 4), np.float32), everything, everything)
    assert len(chosen("dedup", context, 30)) == 1


# --- less --------------------------------------------------------------------------------------


@pytest.mark.parametrize("groups", [[0] * 10 + [1] * 40, [0, 1] * 25])
def test_less_takes_what_points_the_way_of_a_target_group(
    vector_reference: ModuleType, groups: list[int]
) -> None:
    vectors, train = noise(50) + 0.3, list(range(8))
    context = shown(vectors, train, groups=groups, names=("a", "b"))
    targets = [[i for i in train if groups[i] == code] for code in (0, 1)]
    score = vector_reference.less(vectors, [t for t in targets if t], context.candidates.tolist())
    wanted = context.candidates[np.argsort(score)[-5:]]
    assert set(chosen("less", context, 5)) == set(wanted.tolist())


def test_less_may_have_a_target_by_name() -> None:
    vectors = np.repeat(np.eye(2, dtype=np.float32), 10, axis=0) + 0.01 * noise(20, 2)
    groups = [0] * 10 + [1] * 10
    context = shown(vectors, [0, 10], groups=groups, names=("a", "b"))
    got = chosen({"name": "less", "targets": ["b"]}, context, 5)
    assert min(got) > 10
    with pytest.raises(StrategyError, match=r"no group 'c' in the pool; targets may name a, b"):
        chosen({"name": "less", "targets": ["b", "c"]}, context, 5)


def test_the_target_stays_the_first_train_set_also_after_a_resume() -> None:
    vectors = np.repeat(np.eye(2, dtype=np.float32), 10, axis=0) + 0.01 * noise(20, 2)
    strategy = create("less")
    first = strategy.select(shown(vectors, [0, 1]), 3, np.random.default_rng(0)).index
    assert first.max() < 10
    resumed = create("less")
    resumed.load_state_dict(strategy.state_dict())
    later = shown(vectors, range(10, 16))
    assert chosen_by(resumed, later) < 10 <= chosen_by(create("less"), later)


def chosen_by(strategy: Any, context: SelectionContext) -> int:
    return int(strategy.select(context, 3, np.random.default_rng(0)).index.max())


def test_less_scale_of_a_gradient_does_not_count() -> None:
    vectors, train = noise(50) + 0.3, list(range(8))
    scaled = vectors * np.random.default_rng(1).uniform(0.1, 10, (50, 1)).astype(np.float32)
    assert chosen("less", shown(vectors, train), 7) == chosen("less", shown(scaled, train), 7)


@pytest.mark.parametrize("reduce", ["max", "mean"])
def test_less_without_gradients_draws_at_random(reduce: str) -> None:
    vectors = np.full((30, 4), np.nan, np.float32)
    drawn = [chosen({"name": "less", "reduce": reduce}, shown(vectors, [0]), 3, s) for s in (0, 1)]
    assert drawn[0] != drawn[1]


# --- parameters --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"name": "k-center", "keep": 0.0}, r"keep: expected a share in \(0, 1\]; received 0.0"),
        (
            {"name": "k-center", "leaf": 0},
            "leaf: expected a whole number of at least 1; received 0",
        ),
        (
            {"name": "facility-location", "trees": 0},
            "trees: expected a whole number of at least 1; received 0",
        ),
        (
            {"name": "dedup", "threshold": 1.5},
            r"threshold: expected a cosine in \[-1, 1\]; received 1.5",
        ),
        ({"name": "dedup", "clusters": 2.5}, "clusters: expected a whole number.*received 2.5"),
        ({"name": "dedup", "leaf": 1}, "leaf: expected a whole number of at least 2; received 1"),
        ({"name": "less", "reduce": "sum"}, "reduce: expected one of max, mean; received 'sum'"),
        ({"name": "less", "targets": "a"}, "targets: expected a list of group names; received 'a'"),
        ({"name": "less", "keep": 2.0}, r"keep: expected a share in \(0, 1\]; received 2.0"),
    ],
)
def test_a_bad_parameter_is_named(spec: dict[str, Any], message: str) -> None:
    with pytest.raises(StrategyError, match=f"Strategy '{spec['name']}': .*{message}"):
        create(spec)
