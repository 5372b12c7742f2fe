"""The formula: against a slow reference, and the facts that follow from it."""

from __future__ import annotations

import math
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from activeselect.scoring.functional import pre_memorization_accuracy

TAU = 0.1
SHAPES = hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=6)


@st.composite
def measurements(draw: st.DrawFn, *, holes: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """Accuracies and NLLs of one shape; values around tau are likely, holes are independent."""
    shape = draw(SHAPES)
    accuracy = st.sampled_from([0.0, 0.2, 0.4, 0.6, 0.8, 1.0])
    nll = st.one_of(st.sampled_from([0.0, 0.05, TAU, 0.2]), st.floats(0, 3))
    if holes:
        accuracy, nll = accuracy | st.just(math.nan), nll | st.just(math.nan)
    return draw(hnp.arrays(float, shape, elements=accuracy)), draw(
        hnp.arrays(float, shape, elements=nll)
    )


def _slow(module: ModuleType, accuracy: np.ndarray, nll: np.ndarray, tau: float) -> np.ndarray:
    def plain(column: np.ndarray) -> list[float | None]:
        return [None if math.isnan(value) else value for value in column.tolist()]

    columns = [
        module.premem_of_example(plain(accuracy[:, i]), plain(nll[:, i]), tau)
        for i in range(accuracy.shape[1])
    ]
    return np.array(columns, dtype=float).T


@settings(max_examples=200, deadline=None)
@given(measurements())
def test_equals_the_reference(
    premem_reference: ModuleType, table: tuple[np.ndarray, np.ndarray]
) -> None:
    got = pre_memorization_accuracy(*table, TAU)
    np.testing.assert_array_equal(got, _slow(premem_reference, *table, TAU))


@settings(max_examples=100, deadline=None)
@given(measurements(), st.floats(0, 3), st.floats(0, 3))
def test_never_above_the_accuracy_and_falls_as_tau_rises(
    table: tuple[np.ndarray, np.ndarray], one: float, other: float
) -> None:
    low, high = (pre_memorization_accuracy(*table, tau) for tau in sorted((one, other)))
    known = ~np.isnan(low)
    assert np.array_equal(known, ~np.isnan(high))
    assert (low[known] <= table[0][known]).all()
    assert (high[known] <= low[known]).all()


@settings(max_examples=50, deadline=None)
@given(measurements(holes=False))
def test_tau_0_is_plain_accuracy(table: tuple[np.ndarray, np.ndarray]) -> None:
    np.testing.assert_array_equal(pre_memorization_accuracy(*table, 0.0), table[0])


@settings(max_examples=50, deadline=None)
@given(measurements())
def test_a_tau_above_every_nll_gives_0(table: tuple[np.ndarray, np.ndarray]) -> None:
    got = pre_memorization_accuracy(*table, 99.0)
    assert not got[~np.isnan(got)].any()


@settings(max_examples=50, deadline=None)
@given(measurements())
def test_later_rounds_do_not_change_earlier_ones(table: tuple[np.ndarray, np.ndarray]) -> None:
    whole = pre_memorization_accuracy(*table, TAU)
    for rounds in range(1, len(whole)):
        part = pre_memorization_accuracy(table[0][:rounds], table[1][:rounds], TAU)
        np.testing.assert_array_equal(part, whole[:rounds])


@settings(max_examples=50, deadline=None)
@given(measurements(), st.randoms(use_true_random=False))
def test_examples_do_not_affect_each_other(
    table: tuple[np.ndarray, np.ndarray], random: object
) -> None:
    order = np.arange(table[0].shape[1])
    random.shuffle(order)  # type: ignore[attr-defined]
    shuffled = pre_memorization_accuracy(table[0][:, order], table[1][:, order], TAU)
    np.testing.assert_array_equal(shuffled, pre_memorization_accuracy(*table, TAU)[:, order])


def test_the_threshold_itself_is_not_memorized() -> None:
    assert pre_memorization_accuracy([[1.0]], [[TAU]], TAU).item() == 1.0
    assert pre_memorization_accuracy([[1.0]], [[np.nextafter(TAU, 0)]], TAU).item() == 0.0


def test_inputs_are_not_changed() -> None:
    accuracy, nll = np.array([[0.5, np.nan]]), np.array([[0.01, 1.0]])
    before = accuracy.copy(), nll.copy()
    pre_memorization_accuracy(accuracy, nll, TAU)
    np.testing.assert_array_equal(accuracy, before[0])
    np.testing.assert_array_equal(nll, before[1])


@pytest.mark.parametrize("shape", [(0, 3), (2, 0), (0, 0)])
def test_nothing_measured_gives_nothing(shape: tuple[int, int]) -> None:
    assert pre_memorization_accuracy(np.zeros(shape), np.zeros(shape), TAU).shape == shape


@pytest.mark.parametrize(
    ("accuracy", "nll", "tau", "message"),
    [
        ([[0.5]], [[0.5, 0.5]], TAU, r"\[rounds, examples\]; received \(1, 1\) and \(1, 2\)"),
        ([0.5], [0.5], TAU, r"received \(1,\) and \(1,\)"),
        ([[0.5]], [[0.5]], -0.1, r"tau must be finite and at least 0.*received -0.1"),
        ([[0.5]], [[0.5]], math.nan, "received nan"),
        ([[0.5]], [[0.5]], math.inf, "received inf"),
        ([[1.5, math.nan]], [[0.5, 0.5]], TAU, r"lie in \[0, 1\]; received 1.5 to 1.5"),
        ([[-0.1, 1.0]], [[0.5, 0.5]], TAU, r"received -0.1 to 1.0"),
    ],
)
def test_errors_say_what_came(accuracy: object, nll: object, tau: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        pre_memorization_accuracy(accuracy, nll, tau)  # type: ignore[arg-type]
