"""A run with target questions: who sees them, what is recorded, and that they stay the same."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from activeselect.config import DataConfig, RoundsConfig, RunConfig, ScoringConfig
from activeselect.data.target import target_shares
from activeselect.errors import ConfigError, StoreError
from activeselect.selection.strategy import Selection, SelectionContext, Strategy
from activeselect.training.callback import ActiveSelection
from activeselect.training.run import ActiveRun
from activeselect.training.selections import read_selections
from tests.support import RECIPE, small_run

HIDDEN = DataConfig("skills:shift", pool_size=150, test_limit=8, groups="hidden", target="preset")


class Looks(Strategy):
    """Notes the target shares it is shown, and takes the first candidates."""

    name = "looks"

    def __init__(self) -> None:
        self.seen: list[np.ndarray | None] = []

    def select(self, context: SelectionContext, budget: int, rng: np.random.Generator) -> Selection:
        self.seen.append(context.target)
        return Selection.of(context.candidates[:budget])


def config(model: Path, data: DataConfig = HIDDEN, **changes: Any) -> RunConfig:
    small = small_run(
        model,
        data=data,
        rounds=RoundsConfig(budgets=(12, 40), regions=6 if data.groups == "hidden" else None),
        recipe=replace(RECIPE, epochs=1, batch_size=12),
        scoring=ScoringConfig(samples=1, max_new_tokens=2),
    )
    return replace(small, **changes)


@pytest.mark.parametrize("groups", ["hidden", "visible"])
def test_a_strategy_sees_the_shares_of_its_groups(
    tiny_model: Path, tmp_path: Path, groups: Any
) -> None:
    strategy = Looks()
    run = ActiveRun(config(tiny_model, replace(HIDDEN, groups=groups)), strategy=strategy)
    run.run(tmp_path / "run")
    (seen,) = strategy.seen
    assert seen is not None
    assert run.data.target is not None
    assert seen.shape == (len(run.data.pool.group_names),)
    np.testing.assert_allclose(seen, target_shares(run.data.pool, run.data.target))
    if groups == "visible":  # what the test asks for has most of it
        assert run.data.test is not None
        asked = [name in run.data.test.group_names for name in run.data.pool.group_names]
        assert seen[asked].sum() > 0.9
    told = json.loads((tmp_path / "run" / "result.json").read_text())
    assert told["target"]["questions"] == 100
    assert list(told["target"]["shares"]) == list(run.data.pool.group_names)
    np.testing.assert_allclose(list(told["target"]["shares"].values()), seen, atol=1e-6)


def test_the_mixture_of_the_questions_is_bought(tiny_model: Path, tmp_path: Path) -> None:
    run = ActiveRun(config(tiny_model, strategy="target-mixture"))
    curve = run.run(tmp_path / "run").curve
    assert run.target is not None
    assert curve[-1]["unique_examples"] == 40
    chosen = np.concatenate(
        [table["index"].to_numpy() for table in read_selections(tmp_path / "run").values()]
    )
    share = np.bincount(run.data.pool.groups[chosen], minlength=6) / 40
    pool = np.bincount(run.data.pool.groups, minlength=6) / 150
    assert np.abs(share - run.target).sum() < np.abs(pool - run.target).sum()


@pytest.mark.parametrize("strategy", ["random", "balanced", "loss"])
def test_who_does_not_read_them_selects_the_same(
    tiny_model: Path, tmp_path: Path, strategy: str
) -> None:
    chosen = []
    for name, data in {"with": HIDDEN, "without": replace(HIDDEN, target=None)}.items():
        run = ActiveRun(config(tiny_model, data, strategy=strategy))
        assert (run.target is None) == (name == "without")
        run.run(tmp_path / name)
        chosen.append(read_selections(tmp_path / name))
    assert chosen[0].keys() == chosen[1].keys()
    assert all(chosen[0][number].equals(chosen[1][number]) for number in chosen[0])


def rows(*questions: str, **more: Any) -> str:
    return "".join(json.dumps({"question": question, **more}) + "\n" for question in questions)


def test_other_questions_are_refused_by_content(tiny_model: Path, tmp_path: Path) -> None:
    file = tmp_path / "asked.jsonl"
    file.write_text(rows("ann has 3 kites . how many kites ?", answer="3"))
    settings = config(tiny_model, replace(HIDDEN, target=str(file)), strategy="target-mixture")
    first = ActiveRun(settings)
    first.run(tmp_path / "run")
    file.write_text(rows("ann has 3 kites . how many kites ?", answer="never read"))
    ActiveRun(settings).run(tmp_path / "run")
    file.write_text(rows("ann has 4 kites . how many kites ?"))
    other = ActiveRun(settings)
    assert other.content_hash() != first.content_hash()
    with pytest.raises(StoreError, match=r"the target set is not the one that it was begun with"):
        other.run(tmp_path / "run")
    with pytest.raises(StoreError, match=r"data.target: .*asked.jsonl -> preset"):
        ActiveRun(config(tiny_model, strategy="target-mixture")).run(tmp_path / "run")


def test_what_cannot_be_used_is_refused_before_anything_is_trained(tiny_model: Path) -> None:
    with pytest.raises(ConfigError, match=r"'target-mixture' needs target questions"):
        ActiveRun(config(tiny_model, replace(HIDDEN, target=None), strategy="target-mixture"))
    with pytest.raises(ConfigError, match=r"received one group. Set rounds.regions"):
        ActiveRun(config(tiny_model, rounds=RoundsConfig(budgets=(12, 24))))


def test_a_loop_of_ones_own_is_given_the_shares(tiny_model: Path) -> None:
    run = ActiveRun(config(tiny_model, replace(HIDDEN, groups="visible")))
    own = {"strategy": "target-mixture", "rounds": RoundsConfig(mode="reweight")}
    with pytest.raises(ConfigError, match=r"needs target questions"):
        ActiveSelection(run.data.pool, run.tokenizer, **own)
    with pytest.raises(ConfigError, match=r"expected one share for each of the pool's 14 groups"):
        ActiveSelection(run.data.pool, run.tokenizer, target=np.ones(3), **own)
    selection = ActiveSelection(run.data.pool, run.tokenizer, target=run.target, **own)
    assert selection.selector.target is run.target
