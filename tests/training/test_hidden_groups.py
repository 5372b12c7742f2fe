"""Hidden groups: no strategy sees them, the oracle and the report do."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from activeselect.config import DataConfig, RoundsConfig, RunConfig, ScoringConfig
from activeselect.data.load import load_data
from activeselect.errors import ConfigError
from activeselect.selection.strategy import Selection, SelectionContext, Strategy
from activeselect.training.run import ActiveRun
from tests.support import RECIPE, small_run

DATA = DataConfig("skills:mixed", pool_size=80, test_limit=10, groups="hidden")


class Looks(Strategy):
    """Notes the groups it is shown, and takes the first candidates."""

    name = "looks"

    def __init__(self) -> None:
        self.seen: list[tuple[str, ...]] = []

    def select(self, context: SelectionContext, budget: int, rng: np.random.Generator) -> Selection:
        self.seen.append(context.group_names)
        assert set(context.groups.tolist()) == set(range(len(context.group_names)))
        return Selection.of(context.candidates[:budget])


class Knows(Looks):
    """The same, as a reference that knows the groups."""

    knows_groups = True


def config(model: Path, **changes: Any) -> RunConfig:
    small = small_run(
        model,
        data=DATA,
        rounds=RoundsConfig(budgets=(12, 24)),
        recipe=replace(RECIPE, epochs=1, batch_size=12),
        scoring=ScoringConfig(samples=2, max_new_tokens=4),
    )
    return replace(small, **changes)


@pytest.mark.parametrize("regions", [None, 3])
def test_strategies_see_no_group_and_the_report_tells_them_apart(
    tiny_model: Path, tmp_path: Path, regions: int | None
) -> None:
    strategy = Looks()
    settings = config(tiny_model, rounds=RoundsConfig(budgets=(12, 24), regions=regions))
    run = ActiveRun(settings, strategy=strategy)
    curve = run.run(tmp_path / "run").curve
    (seen,) = strategy.seen
    stated = run.data.pool.stated()
    assert len(seen) == (regions or 1)
    assert not set(seen) & set(stated.group_names)
    taken = np.random.default_rng([settings.seed, 0, 6]).choice(80, 12, replace=False)
    names = np.array(stated.group_names)[stated.groups]
    assert curve[0]["groups"] == dict(sorted(Counter(names[taken].tolist()).items()))
    assert sum(curve[1]["groups"].values()) == 24


def test_a_reference_is_shown_the_groups_of_the_data(tiny_model: Path) -> None:
    for regions in (None, 3):
        settings = config(tiny_model, rounds=RoundsConfig(budgets=(12, 24), regions=regions))
        told = ActiveRun(settings, strategy=Knows()).data.pool
        assert told.group_names == told.stated().group_names
        assert len(told.group_names) == 14


def test_hiding_changes_no_problem() -> None:
    hidden = load_data(DATA, seed=0)
    visible = load_data(replace(DATA, groups="visible"), seed=0)
    assert hidden.pool.group_names == ("",)
    assert hidden.pool.fingerprint == visible.pool.fingerprint
    assert hidden.pool.stated().group_names == visible.pool.group_names
    assert hidden.test is not None
    assert len(hidden.test.group_names) > 5  # the report may tell them apart


def test_what_stands_in_brackets_is_never_shown() -> None:
    for name in ("noisy", "duplicates", "steps"):
        data = DataConfig(f"skills:{name}", pool_size=200, test_limit=10)
        pool = load_data(data, seed=0).pool
        assert any("(" in group for group in pool.stated().group_names)
        assert not any("(" in group for group in pool.group_names)


def test_groups_are_visible_or_hidden() -> None:
    with pytest.raises(ConfigError, match=r"data.groups: expected visible or hidden"):
        DataConfig(groups="gone")  # type: ignore[arg-type]
