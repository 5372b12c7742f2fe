"""Memorization by its definition, and the verdict after it."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from activeselect.audit.saturation import memorized_since, saturated_since, since_saturation

seeds = st.integers(0, 10_000).map(np.random.default_rng)


@given(rng=seeds, rounds=st.integers(1, 6), examples=st.integers(1, 6))
def test_memorized_since(
    reference: ModuleType, rng: np.random.Generator, rounds: int, examples: int
) -> None:
    loss = rng.choice([0.01, 0.04, 0.08, 0.3], size=(rounds, examples))
    expected = reference.memorized_since(loss.tolist(), 0.1, 0.05)
    np.testing.assert_array_equal(memorized_since(loss, 0.1, 0.05), expected)


def test_saturated_since_the_first_round_with_enough() -> None:
    loss = np.full((5, 20), 1.0)
    loss[2:, :19] = 0.01
    assert saturated_since(loss) == 2
    loss[4, 5] = 0.5  # it was forgotten again
    assert saturated_since(loss) is None


@pytest.mark.parametrize(
    ("gain", "verdict"), [(0.3, "still rising"), (0, "flat"), (-0.3, "falling")]
)
def test_verdict_after_saturation(gain: float, verdict: str) -> None:
    rng = np.random.default_rng(0)
    then = (rng.random(200) < 0.5).astype(float)
    flips = rng.random(200) < abs(gain)
    now = np.where(flips, float(gain > 0), then)
    if not gain:  # as many answers are lost as are won
        then[:20] = np.arange(20) % 2
        now[:20] = 1 - then[:20]
    found = since_saturation(then, now, rng)
    assert found["verdict"] == verdict
    assert found["low"] <= found["value"] <= found["high"]
