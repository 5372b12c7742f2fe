"""Where a rule turns: a value exactly at a threshold, and a likelihood to the last digit."""

from __future__ import annotations

from dataclasses import replace
from types import ModuleType

import numpy as np
import pytest
from activeselect.strategies.allocate import posterior

from activeselect.selection.registry import create


@pytest.mark.parametrize("threshold", [0.4, 0.6, 0.8])
@pytest.mark.parametrize("floor", [0.0, 0.25])
def test_premem_at_the_threshold_counts_as_not_understood(
    conformance: ModuleType, threshold: float, floor: float
) -> None:
    strategy = create({"name": "premem", "threshold": threshold, "floor": floor})
    world = conformance.reweighting(strategy)
    premem = np.full((1, conformance.SIZE), np.nan)
    values = np.resize([threshold, np.nextafter(threshold, 1), 0.0, 1.0], len(world.train))
    premem[0, world.train] = values
    world = replace(world, signals={"premem": premem})
    selection = conformance.ask(strategy, world, 0, where="reweight")
    weight = dict(zip(selection.index.tolist(), selection.weight.tolist(), strict=True))
    got = np.array([weight.get(int(i), 0.0) for i in world.train])
    expected = np.where(values <= threshold, 1.0, floor)
    assert got / got.max() == pytest.approx(expected)


def test_a_posterior_is_bayes_rule_for_one_measurement() -> None:
    # Two curves that are flat at p and q, one group, r right of n: the odds are a closed form.
    p, q, right, trials = 0.3, 0.6, 3.0, 7.0
    curves = np.array([[p, p, 10.0, 1.0], [q, q, 10.0, 1.0]])
    prior = np.array([0.5, 0.5])
    one = np.ones((1, 1))
    got = posterior(curves, prior, one, trials * one, right * one, rounds=1)[0]
    odds = (p / q) ** right * ((1 - p) / (1 - q)) ** (trials - right)
    assert got[0] / got[1] == pytest.approx(odds, rel=1e-12)
