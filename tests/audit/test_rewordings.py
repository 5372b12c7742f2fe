"""Premem beside accuracy on rewordings."""

from __future__ import annotations

import numpy as np

from activeselect.audit.rewordings import by_premem, rank_correlation, rewordings
from activeselect.data.interventions import written_by_skills
from activeselect.data.skills import build_preset


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
