"""Memorization by its definition, the verdict after it, and premem beside rewordings."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from activeselect.audit.rewordings import by_premem, rank_correlation, rewordings
from activeselect.audit.saturation import memorized_since, saturated_since, since_saturation
from activeselect.data.interventions import written_by_skills
from activeselect.data.skills import build_preset
from activeselect.study.audited import accuracy_signs, audit_rows, audit_section, audit_verdicts

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


def test_rewordings_differ_from_each_other_and_from_the_problem() -> None:
    pool = build_preset("mixed", seed=0, pool_size=30, test_size=1).pool
    for problem in pool:
        rng = np.random.default_rng(problem.id)
        found = [new.question for new in rewordings(problem, 3, rng, written_by_skills)]
        assert len({*found, problem.question}) == len(found) + 1 <= 4


def test_bins_of_premem_hold_every_example_once() -> None:
    rng = np.random.default_rng(0)
    premem = rng.choice([0, 0.2, 0.25, 0.6, 1.0, np.nan], size=300)
    right = (rng.random(300) < np.nan_to_num(premem)).astype(float)
    right[:10] = np.nan
    rows = by_premem(premem, right, right, rng)
    assert sum(row["n"] for row in rows) == (~np.isnan(premem) & ~np.isnan(right)).sum()
    assert [row["reworded"] for row in rows] == sorted(row["reworded"] for row in rows)
    assert rank_correlation(premem, right) > 0.5
    assert np.isnan(rank_correlation(premem, np.ones(300)))


def study(values: dict[str, list[float]]) -> dict[str, object]:
    curves = [
        {"dataset": "mixed", "strategy": name, "seed": seed, "budget": budget}
        | {"test_accuracy": 0.5 + 0.01 * (seed % 2), "audit": {"filler": value}}
        for name, row in values.items()
        for seed, value in enumerate(row)
        for budget in (100, 200)
    ]
    return {"config": {"baseline": "random"}, "curves": curves}


def test_a_study_says_whose_answers_depend_less_on_their_steps() -> None:
    results = study({"random": [0.8, 0.82, 0.81], "quick": [0.4, 0.43, 0.41], "same": [0.8] * 3})
    rows = audit_rows(results)
    quick = next(r for r in rows if r["strategy"] == "quick" and r["budget"] == 200)
    assert quick["difference"] == pytest.approx(-0.3967, abs=1e-4)
    assert quick["low"] < quick["difference"] < quick["high"] < 0
    sentences = audit_verdicts(rows, accuracy_signs(results))
    assert sentences == [
        "mixed: quick: same accuracy, less dependence on its steps (filler in place of the chain).",
        "mixed: same: same accuracy, no difference seen in dependence on its steps.",
    ]
    section = audit_section({**results, "audit": rows}, "mixed")
    assert "Filler in place of the chain" in section
    assert "<svg" in section
    assert audit_section(results, "mixed") == ""
