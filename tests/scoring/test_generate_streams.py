"""The random streams: each completion its own, uniform, and unrelated to the others."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from activeselect.scoring.generate import stream_keys, uniforms

STREAMS, SAMPLES, STEPS = 100, 4, 400


@pytest.fixture(scope="module")
def table() -> np.ndarray:
    """Numbers of 400 streams, [example, sample, step]; positions in the pool are neighbours."""
    keys = stream_keys(np.arange(STREAMS), SAMPLES, seed=0, round=0)
    return np.stack([uniforms(keys, step) for step in range(STEPS)], axis=-1)


def test_numbers_are_uniform(table: np.ndarray) -> None:
    assert table.min() >= 0
    assert table.max() < 1
    assert stats.kstest(table.ravel(), "uniform").pvalue > 1e-3
    assert table.mean() == pytest.approx(0.5, abs=5 / np.sqrt(12 * table.size))
    assert table.var() == pytest.approx(1 / 12, rel=0.01)


def test_numbers_of_one_step_are_uniform_too(table: np.ndarray) -> None:
    worst = min(stats.kstest(table[..., step].ravel(), "uniform").pvalue for step in range(STEPS))
    assert worst > 1e-3 / STEPS


@pytest.mark.parametrize("axis", [0, 1, 2], ids=["example", "sample", "step"])
@pytest.mark.parametrize("lag", [1, 2, 3])
def test_neighbours_are_uncorrelated(table: np.ndarray, axis: int, lag: int) -> None:
    one = np.take(table, range(table.shape[axis] - lag), axis).ravel()
    other = np.take(table, range(lag, table.shape[axis]), axis).ravel()
    assert abs(np.corrcoef(one, other)[0, 1]) < 5 / np.sqrt(one.size)


def test_no_number_repeats_and_no_stream_is_another_one_shifted(table: np.ndarray) -> None:
    assert len(np.unique(table)) == table.size


def test_the_largest_number_is_below_1() -> None:
    keys = np.arange(10_000, dtype=np.uint64) * np.uint64(2**50)
    assert max(uniforms(keys, step).max() for step in range(3)) < 1


def test_keys_differ_in_seed_round_example_and_sample() -> None:
    keys = [
        stream_keys(np.arange(50), 5, seed=seed, round=round).ravel()
        for seed in range(3)
        for round in range(3)
    ]
    assert len(np.unique(np.concatenate(keys))) == 9 * 50 * 5


def test_a_key_depends_on_its_own_example_and_sample_alone() -> None:
    whole = stream_keys(np.arange(20), 5, seed=1, round=2)
    some = stream_keys(np.array([7, 3, 19]), 2, seed=1, round=2)
    np.testing.assert_array_equal(some, whole[[7, 3, 19], :2])


def test_keys_never_change_between_releases() -> None:
    """A stored run must be sampled again the same way: these numbers are part of the format."""
    keys = stream_keys(np.array([0, 5]), 2, seed=3, round=1)
    assert keys.tolist() == KEYS
    assert uniforms(keys, 4).round(12).tolist() == UNIFORMS


KEYS = [[7547057287707962918, 9231744867611360757], [10835528655259705697, 6566205773406658168]]
UNIFORMS = [[0.019139926092, 0.239482498998], [0.256209730233, 0.439345409572]]
