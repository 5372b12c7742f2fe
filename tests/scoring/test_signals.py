"""Which measurements signals share, and signals that follow from earlier rounds."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from activeselect.errors import StrategyError
from activeselect.scoring.signals import (
    MEASUREMENTS,
    SIGNALS,
    STORED,
    history_of,
    measurements,
    relative_cost,
)

HISTORIES = arrays(
    np.float64,
    st.tuples(st.integers(0, 6), st.integers(1, 5)),
    elements=st.one_of(st.sampled_from([0.0, 0.5, 1.0, np.nan]), st.floats(0, 3)),
)


@pytest.mark.parametrize("name", ["delta_loss", "forgetting", "confidence", "variability"])
@given(history=HISTORIES)
def test_derived_signals_equal_a_loop_over_examples(
    name: str, history: np.ndarray, signals_reference: ModuleType
) -> None:
    before = history.copy()
    found = history_of(name, lambda _: history)
    assert found.shape == history.shape
    for example in range(history.shape[1]):
        values = [None if np.isnan(v) else float(v) for v in history[:, example]]
        expected = signals_reference.derived(name, values)
        for got, wanted in zip(found[:, example], expected, strict=True):
            if wanted is None:
                assert np.isnan(got)
            else:
                # the spread of equal values is a rounding error, whose root is not
                assert got == pytest.approx(wanted, abs=1e-7)
    np.testing.assert_array_equal(before, history)


def test_measured_signals_are_read_as_they_are() -> None:
    rows = np.array([[0.5, np.nan]])
    for name in STORED:
        assert history_of(name, lambda asked: rows if asked == name else None) is rows  # type: ignore[arg-type,return-value]  # noqa: B023


def test_signals_are_made_of_measurements_that_exist() -> None:
    for name, signal in SIGNALS.items():
        assert signal.needs <= MEASUREMENTS.keys(), name
        assert signal.about
    assert measurements(SIGNALS) == MEASUREMENTS.keys()


def test_signals_of_one_pass_cost_one_pass() -> None:
    assert relative_cost(["loss"]) == relative_cost(["loss", "el2n", "grand", "hes"]) == 1
    assert relative_cost(["ifd"]) == 2
    assert relative_cost(["accuracy"], samples=3) == 3
    assert relative_cost(["premem", "accuracy", "loss"], samples=3) == 4
    assert relative_cost(["length"]) == 0


def test_a_mistyped_signal_gets_the_nearest_right_one() -> None:
    with pytest.raises(StrategyError, match=r"There is no signal 'el2m'\. Did you mean 'el2n'"):
        measurements(["el2m"])
