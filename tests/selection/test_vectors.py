"""Unit rows and trees of leaves."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from activeselect.selection.vectors import leaves, unit


@settings(max_examples=100)
@given(
    st.integers(0, 200),
    st.integers(1, 5),
    st.integers(1, 50),
    st.integers(0, 99),
    st.sampled_from(["normal", "alike", "few"]),
)
def test_leaves_are_a_partition_into_small_parts(
    count: int, width: int, size: int, seed: int, kind: str
) -> None:
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(count, width)).astype(np.float32)
    if kind == "alike":
        rows[:] = 1.0
    if kind == "few":
        rows = np.sign(rows)
    parts = leaves(rows, size, rng)
    assert all(0 < len(part) <= size for part in parts)
    assert sorted(np.concatenate([np.empty(0, int), *parts]).tolist()) == list(range(count))
    assert all((np.diff(part) > 0).all() for part in parts)


def test_the_nearest_row_is_usually_in_the_same_leaf() -> None:
    rows = unit(np.random.default_rng(0).normal(size=(2000, 4)))
    cosine = rows @ rows.T
    np.fill_diagonal(cosine, -1)
    leaf = np.empty(2000, int)
    for number, part in enumerate(leaves(rows, 100, np.random.default_rng(0))):
        leaf[part] = number
    assert (leaf[cosine.argmax(axis=1)] == leaf).mean() > 0.6  # 0.04 by chance


def test_another_generator_gives_another_tree_and_the_same_one_the_same() -> None:
    rows = np.random.default_rng(0).normal(size=(300, 4)).astype(np.float32)

    def tree(seed: int) -> list[list[int]]:
        return [part.tolist() for part in leaves(rows, 20, np.random.default_rng(seed))]

    assert tree(1) == tree(1)
    assert tree(1) != tree(2)


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_unit_rows_have_length_1_at_any_scale(scale: float) -> None:
    rows = np.random.default_rng(0).normal(size=(50, 7)) * scale
    np.testing.assert_allclose(np.linalg.norm(unit(rows), axis=1), 1.0, rtol=1e-6)
    wanted = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    np.testing.assert_allclose(unit(rows), wanted, atol=1e-6)


def test_what_was_not_measured_becomes_0_and_nothing_is_changed_in_place() -> None:
    rows = np.array([[1.0, np.nan], [0.0, 0.0], [np.inf, 1.0], [0.0, -2.0]], np.float32)
    before = rows.copy()
    assert unit(rows).tolist() == [[0, 0], [0, 0], [0, 0], [0, -1]]
    np.testing.assert_array_equal(rows, before)
    assert unit(rows[:0]).shape == (0, 2)
