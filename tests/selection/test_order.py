"""The training order as properties: nothing lost, nothing twice, the same after any resume."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from scipy import stats

from activeselect.errors import StrategyError
from activeselect.selection import order
from activeselect.selection import order as bijection
from activeselect.selection.order import draw_samples, epoch_order, rank_order
from activeselect.selection.strategy import Selection

#: every example of a property runs the same way, so a fixture for all of them is meant
SAME_WAY = [HealthCheck.function_scoped_fixture]
SEEDS = st.integers(0, 2**32)
ROUNDS = st.integers(0, 100)
WEIGHTS = st.lists(
    st.one_of(st.just(0.0), st.just(0.1), st.floats(0, 5), st.floats(0, allow_infinity=False)),
    min_size=1,
    max_size=40,
).filter(any)


@contextmanager
def in_blocks(block: int = 4) -> Iterator[None]:
    """What large pools use, at small ones: many blocks, and a shuffle without a table."""
    with patch.object(order, "BLOCK", block), patch.object(bijection, "TABLE", 0):
        yield


WAYS = {"one block": nullcontext, "many blocks": in_blocks}


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest) -> Iterator[None]:
    with WAYS[request.param]():
        yield


def counts(selection: Selection, total: int, *, seed: int = 0, epoch: int = 0) -> np.ndarray:
    """How often each selected example is drawn."""
    drawn = draw_samples(selection, total, seed=seed, epoch=epoch)
    assert drawn.dtype == np.int64
    assert len(drawn) == total
    position = {int(index): place for place, index in enumerate(selection.index)}
    return np.bincount([position[int(i)] for i in drawn], minlength=len(position))


def positions(size: int) -> np.ndarray:
    return np.random.default_rng(size).permutation(3 * size)[:size]


@settings(max_examples=300, deadline=None, suppress_health_check=SAME_WAY)
@pytest.mark.usefixtures("way")
@given(WEIGHTS, st.integers(0, 500), SEEDS, ROUNDS)
@example([5e-324, 5e-324], 7, 0, 0)
@example([1.7e308, 1.7e308, 1.7e308], 3, 0, 0)
@example([1.0, 5e-324, 0.0], 10, 0, 0)
@example([0.1] * 10 + [0.0], 10, 0, 0)
def test_multiplicities_are_the_floor_or_ceiling_of_the_share(
    weights: list[float], total: int, seed: int, epoch: int
) -> None:
    weight = np.array(weights)
    got = counts(Selection.of(positions(len(weights)), weight), total, seed=seed, epoch=epoch)
    share = total * (weight / weight.max()) / (weight / weight.max()).sum()
    assert (got >= np.floor(share - 1e-9)).all()
    assert (got <= np.ceil(share + 1e-9)).all()
    assert not got[weight == 0].any()


@settings(max_examples=100, deadline=None, suppress_health_check=SAME_WAY)
@pytest.mark.usefixtures("way")
@given(st.integers(1, 300), st.floats(1e-300, 1e300), st.integers(1, 5), SEEDS, ROUNDS)
def test_equal_weights_give_every_example_equally_often(
    size: int, weight: float, times: int, seed: int, epoch: int
) -> None:
    selection = Selection.of(positions(size), np.full(size, weight))
    assert (counts(selection, times * size, seed=seed, epoch=epoch) == times).all()


@pytest.mark.parametrize("weight", [1.0, 0.1, 1 / 3])
def test_a_million_equal_weights_give_every_example_once(weight: float) -> None:
    size = 1_000_000
    selection = Selection.of(np.arange(size), np.full(size, weight))
    for epoch in range(3):
        drawn = draw_samples(selection, size, seed=0, epoch=epoch)
        np.testing.assert_array_equal(drawn, np.arange(size))


def test_a_tick_next_to_an_edge_is_not_moved_by_rounding(monkeypatch: pytest.MonkeyPatch) -> None:
    """The extreme offsets, which a random seed practically never draws."""
    size = 100_000
    selection = Selection.of(np.arange(size), np.full(size, 0.1))

    class Extreme:
        def __init__(self, share: float) -> None:
            self.share = share

        def permutation(self, size: int) -> np.ndarray:
            return np.arange(size)

        def integers(self, high: int, size: tuple[int, int], dtype: type) -> np.ndarray:
            return np.zeros(size, dtype=dtype)

        def uniform(self, low: float, high: float) -> float:
            return low + self.share * (high - low)

    for share in (0.0, 1.0):
        monkeypatch.setattr(np.random, "default_rng", lambda seed, s=share: Extreme(s))
        assert len(np.unique(draw_samples(selection, size, seed=0, epoch=0))) == size


def test_shares_are_right_on_average() -> None:
    weight = np.array([0.2, 0.3, 1.7, 0.0, 0.8])
    selection = Selection.of(np.arange(5), weight)
    total = sum(counts(selection, 4, seed=seed) for seed in range(3000))
    np.testing.assert_allclose(total / 3000, 4 * weight / weight.sum(), atol=0.03)


@settings(max_examples=50, deadline=None, suppress_health_check=SAME_WAY)
@pytest.mark.usefixtures("way")
@given(WEIGHTS, SEEDS, ROUNDS)
def test_draws_repeat(weights: list[float], seed: int, epoch: int) -> None:
    selection = Selection.of(positions(len(weights)), weights)
    one, two = (draw_samples(selection, 50, seed=seed, epoch=epoch) for _ in range(2))
    np.testing.assert_array_equal(one, two)


def test_seeds_and_rounds_draw_differently() -> None:
    selection = Selection.of(np.arange(50), np.linspace(0.1, 1, 50))
    drawn = {
        draw_samples(selection, 25, seed=seed, epoch=epoch).tobytes()
        for seed in range(4)
        for epoch in range(4)
    }
    assert len(drawn) == 16


def test_which_examples_are_drawn_together_is_random() -> None:
    """Every pair of 8 examples of equal weight is among 4 draws about as often."""
    together = np.zeros((8, 8))
    for seed in range(2000):
        got = counts(Selection.of(np.arange(8)), 4, seed=seed)
        together += np.outer(got, got)
    pairs = together[np.triu_indices(8, 1)] / 2000  # 4 / 8 * 3 / 7 each if drawn one by one
    assert pairs.min() > 0.15
    assert pairs.max() < 0.28


def test_nothing_asked_gives_nothing() -> None:
    assert draw_samples(Selection.of([1], [0.0]), 0, seed=0, epoch=0).shape == (0,)


@pytest.mark.parametrize(("index", "weight"), [([], []), ([4, 5], [0.0, 0.0])])
def test_samples_of_nothing_are_refused(index: list[int], weight: list[float]) -> None:
    with pytest.raises(StrategyError, match="nothing to train on: 5 samples"):
        draw_samples(Selection.of(index, weight), 5, seed=0, epoch=0)


# --- ranks -------------------------------------------------------------------------------------


def dealt(index: np.ndarray, world_size: int, seed: int, epoch: int, consumed: int) -> np.ndarray:
    """What all ranks train on, in the order in which they do so."""
    ranks = [
        rank_order(
            index, seed=seed, epoch=epoch, rank=rank, world_size=world_size, consumed=consumed
        )
        for rank in range(world_size)
    ]
    assert len({len(rank) for rank in ranks}) == 1
    return np.stack(ranks, axis=1).ravel()


@settings(max_examples=200, deadline=None, suppress_health_check=SAME_WAY)
@pytest.mark.usefixtures("way")
@given(st.integers(0, 60), st.integers(1, 8), SEEDS, ROUNDS, st.data())
def test_ranks_are_disjoint_and_exhaustive(
    size: int, world_size: int, seed: int, epoch: int, data: st.DataObject
) -> None:
    consumed = data.draw(st.integers(0, size))
    index = np.arange(size) * 7 + 3
    whole = rank_order(index, seed=seed, epoch=epoch)
    assert sorted(whole) == index.tolist()
    got = dealt(index, world_size, seed, epoch, consumed)
    left_out = (size - consumed) % world_size
    np.testing.assert_array_equal(got, whole[consumed : size - left_out])


@settings(max_examples=200, deadline=None, suppress_health_check=SAME_WAY)
@pytest.mark.usefixtures("way")
@given(
    st.integers(1, 60),
    st.lists(st.tuples(st.integers(1, 6), st.integers(0, 5)), max_size=4),
    SEEDS,
)
def test_any_chain_of_resumes_with_any_world_sizes_trains_the_same(
    size: int, chain: list[tuple[int, int]], seed: int
) -> None:
    """Each link trains some steps on some ranks, stops, and the next goes on from there."""
    index = np.repeat(np.arange(size), 2)
    whole = rank_order(index, seed=seed, epoch=1)
    trained: list[int] = []
    for world_size, steps in chain:
        part = dealt(index, world_size, seed, 1, len(trained))[: steps * world_size]
        trained += part.tolist()
    trained += rank_order(index, seed=seed, epoch=1, consumed=len(trained)).tolist()
    assert trained == whole.tolist()


def test_orders_differ_between_seeds_and_rounds() -> None:
    orders = {
        rank_order(np.arange(50), seed=seed, epoch=epoch).tobytes()
        for seed in range(4)
        for epoch in range(4)
    }
    assert len(orders) == 16


def test_every_place_is_equally_likely() -> None:
    places = [np.argmin(rank_order(np.arange(10), seed=seed, epoch=0)) for seed in range(4000)]
    assert np.bincount(places, minlength=10).min() > 300
    assert np.bincount(places, minlength=10).max() < 500


def test_inputs_are_not_changed() -> None:
    index = np.arange(10)
    index.flags.writeable = False
    rank_order(index, seed=0, epoch=0)
    weight = np.linspace(0, 1, 10)
    weight.flags.writeable = False
    draw_samples(Selection.of(index, weight), 10, seed=0, epoch=0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rank": 2, "world_size": 2}, r"rank must lie in \[0, 2\); received 2"),
        ({"rank": -1}, "received -1"),
        ({"world_size": 0}, r"\[0, 0\)"),
        ({"consumed": 11}, r"consumed must lie in \[0, 10\]; received 11"),
        ({"consumed": -1}, "received -1"),
    ],
)
def test_bounds_are_not_clipped(changes: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        rank_order(np.arange(10), seed=0, epoch=0, **changes)


# --- passes ------------------------------------------------------------------------------------


@pytest.mark.usefixtures("way")
@settings(max_examples=60, deadline=None, suppress_health_check=SAME_WAY)
@given(WEIGHTS, st.integers(1, 300), st.integers(1, 4), SEEDS, st.data())
def test_a_pass_in_chunks_is_the_samples_shuffled_and_dealt(
    weights: list[float], total: int, world_size: int, seed: int, data: st.DataObject
) -> None:
    selection = Selection.of(positions(len(weights)), weights)
    consumed = data.draw(st.integers(0, total))
    drawn = draw_samples(selection, total, seed=seed, epoch=2)
    for rank in range(world_size):
        share = {"seed": seed, "epoch": 2, "rank": rank, "world_size": world_size}
        expected = rank_order(drawn, consumed=consumed, **share)
        chunks = list(epoch_order(selection, total, consumed=consumed, **share))
        got = np.concatenate([np.empty(0, dtype=np.int64), *chunks])
        np.testing.assert_array_equal(got, expected)
        assert got.dtype == np.int64


def test_a_large_pass_is_whole_and_starts_with_little_work() -> None:
    """Beyond one block and one table: the real sizes, not those of the other tests."""
    size = 2**20 + 2**17
    weight = np.random.default_rng(0).pareto(1.5, size) * (np.arange(size) % 7 > 0)
    selection = Selection.of(np.arange(size) + 5, weight)
    chunks = epoch_order(selection, size, seed=0, epoch=0)
    first = next(chunks)
    whole = np.concatenate([first, *chunks])
    assert len(first) <= 256
    np.testing.assert_array_equal(np.sort(whole), draw_samples(selection, size, seed=0, epoch=0))
    share = size * weight / weight.sum()
    times = np.bincount(whole - 5, minlength=size)
    assert (times >= np.floor(share - 1e-6)).all()
    assert (times <= np.ceil(share + 1e-6)).all()
    for consumed in (4321, size - 3):
        rest = np.concatenate(
            list(epoch_order(selection, size, seed=0, epoch=0, consumed=consumed))
        )
        np.testing.assert_array_equal(rest, whole[consumed:])


def test_positions_beyond_32_bits_are_kept() -> None:
    index = np.array([2**31 - 1, 2**31, 2**40])
    drawn = draw_samples(Selection.of(index), 3, seed=0, epoch=0)
    np.testing.assert_array_equal(drawn, index)


SHAPES = {
    "equal": np.ones(12),
    "linear": np.arange(1.0, 13),
    "steep": 2.0 ** np.arange(-6, 6),
    "one large": np.array([100.0] + [1.0] * 11),
    "with zeros": np.array([0.0, 1, 0, 5, 2, 0, 0, 0, 0, 3, 0.5, 0]),
    "a block of zeros": np.array([0.0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8]),
}


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("shape", SHAPES)
def test_what_comes_at_a_place_is_drawn_by_weight(shape: str) -> None:
    """Over seeds, one place of the pass is an independent draw: exactly multinomial."""
    weight, draws = SHAPES[shape], 1200
    selection = Selection.of(np.arange(12), weight)
    passes = (epoch_order(selection, 5, seed=seed, epoch=1) for seed in range(draws))
    first = np.array([next(one) for one in passes])
    expected = draws * weight / weight.sum()
    likely = expected > 0
    for place in (0, 3):
        seen = np.bincount(first[:, place], minlength=12)
        assert not seen[~likely].any()
        assert stats.chisquare(seen[likely], expected[likely]).pvalue > 1e-4


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("shape", SHAPES)
def test_every_example_gets_its_share_of_the_ticks(shape: str) -> None:
    """Of a share of 2.3 the third tick falls in 30% of the passes: exactly binomial."""
    weight, passes, total = SHAPES[shape], 1200, 7
    selection = Selection.of(np.arange(12), weight)
    times = np.sum([counts(selection, total, seed=seed) for seed in range(passes)], axis=0)
    share = total * weight / weight.sum()
    certain = np.floor(share + 1e-9)
    for extra, chance in zip(times - passes * certain, share - certain, strict=True):
        assert stats.binomtest(int(extra), passes, max(0.0, chance)).pvalue > 1e-5


# --- permutations without a table --------------------------------------------------------------


def scrambled(size: int, seed: int) -> np.ndarray:
    numbers = np.random.SeedSequence(seed).generate_state(bijection.KEY, np.uint64)
    return bijection.scramble(np.arange(size), size, numbers)


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 3000), SEEDS)
@example(1, 0)
@example(2, 0)
@example(2048, 0)
@example(2049, 0)
def test_scrambling_is_one_to_one(size: int, seed: int) -> None:
    np.testing.assert_array_equal(np.sort(scrambled(size, seed)), np.arange(size))


def test_scrambling_reaches_beyond_32_bits() -> None:
    size = 2**33 + 5
    numbers = np.random.SeedSequence(0).generate_state(bijection.KEY, np.uint64)
    places = np.concatenate([np.arange(2000), np.arange(size - 2000, size)])
    out = bijection.scramble(places, size, numbers)
    assert len(np.unique(out)) == len(out)
    assert 0 <= out.min() < size // 100
    assert size - size // 100 < out.max() < size


@pytest.mark.parametrize("size", [24, 100, 1000])
def test_scrambled_places_are_independent_of_each_other(size: int) -> None:
    """Where a place goes, and how far its neighbour and the next one go from there."""
    orders = np.array([scrambled(size, seed)[:3] for seed in range(3000)])
    for value, values in (
        (orders[:, 0], size),
        (orders[:, 2], size),
        ((orders[:, 1] - orders[:, 0]) % size - 1, size - 1),
        ((orders[:, 2] - orders[:, 1]) % size - 1, size - 1),
    ):
        bins = 12
        expected = np.bincount(np.arange(values) * bins // values) / values * len(value)
        seen = np.bincount(value * bins // values, minlength=bins)
        assert stats.chisquare(seen, expected).pvalue > 1e-4


@pytest.mark.parametrize("lag", [1, 2, 64, 2**12, 2**18])
def test_one_scrambled_order_looks_random(lag: int) -> None:
    """Pairs at a distance fall evenly on the squares of a board."""
    size = 2**20 + 12_345
    p = scrambled(size, 7) * 16 // size
    pairs = p[:-lag] * 16 + p[lag:]
    assert stats.chisquare(np.bincount(pairs, minlength=256)).pvalue > 1e-4
    window = scrambled(size, 7)[: 2**14]
    assert stats.chisquare(np.bincount(window % 64)).pvalue > 1e-4


def test_a_small_permutation_is_uniform_and_a_large_one_needs_no_table() -> None:
    shuffle = bijection.permutation(10**12, [0])
    assert (
        shuffle(np.array([0, 10**12 - 1])).tolist() == shuffle(np.array([0, 10**12 - 1])).tolist()
    )
    seen = {tuple(bijection.permutation(3, [seed])(np.arange(3)).tolist()) for seed in range(60)}
    assert len(seen) == 6
