"""Test points within a fit, short stages, and what each model of a run costs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from activeselect.config import RecipeConfig, RoundsConfig, RunConfig, ScoringConfig
from activeselect.errors import ConfigError
from activeselect.training.points import TestPoints, point_at
from activeselect.training.run import ActiveRun
from tests.support import RECIPE, skills, small_run

SECONDS = ("train_s", "score_s", "select_s", "eval_s")


def config(model: Path, **changes: Any) -> RunConfig:
    small = small_run(
        model,
        data=skills(80, 12),
        strategy={"name": "premem", "threshold": 0.0, "floor": 0.5},
        rounds=RoundsConfig(mode="reweight", budgets=(20,), evaluate_every=0.5),
        recipe=replace(RECIPE, batch_size=4),
    )
    return replace(small, **changes)


def without_seconds(curve: list[dict[str, Any]]) -> list[dict[str, Any]]:
    plain: list[dict[str, Any]] = json.loads(json.dumps(curve))
    for entry in plain:
        for cost in (entry["cost"], entry["cost_of_model"]):
            for name in SECONDS:
                del cost[name]
    return plain


@given(
    every=st.floats(0.5, 50),
    batch=st.integers(1, 40),
    batches=st.integers(1, 60),
)
def test_points_pass_in_order_and_each_at_the_first_batch_that_reaches_it(
    every: float, batch: int, batches: int
) -> None:
    total = batch * batches
    seen = [batch * (i + 1) for i in range(batches)]
    numbers = [point_at(n, every, total) for n in seen]
    assert numbers[-1] == 0  # the end is tested by the run itself
    for before, n, number in zip([0, *seen], seen[:-1], numbers[:-1], strict=False):
        assert number * every <= n + 1e-6 < (number + 1) * every + 2e-6
        assert number >= point_at(before, every, total)


def test_a_fit_is_tested_on_its_way(tiny_model: Path, tmp_path: Path) -> None:
    result = ActiveRun(config(tiny_model)).run(tmp_path)
    # half of 20 samples is reached by the third batch of 4
    assert [entry["samples_seen"] for entry in result.curve] == [12, 20, 32, 40]
    for entry in result.curve:
        correct = pq.read_table(tmp_path / "predictions" / entry["predictions"])["correct"]
        assert np.mean(correct.to_numpy()) == entry["test_accuracy"]
        assert sum(entry["groups"].values()) == entry["samples_seen"]
    # a model pays for the scores before it and not for those after it
    generated = [entry["cost_of_model"]["tokens_generated"] for entry in result.curve]
    assert generated[0] == generated[1] == 0 < generated[2] == generated[3]
    assert result.cost["tokens_generated"] > generated[3]


def test_testing_on_the_way_changes_nothing_else(tiny_model: Path, tmp_path: Path) -> None:
    with_points = ActiveRun(config(tiny_model)).run(tmp_path / "points")
    rounds = RoundsConfig(mode="reweight", budgets=(20,))
    without = ActiveRun(config(tiny_model, rounds=rounds)).run(tmp_path / "none")
    assert without_seconds(with_points.curve)[-1] == without_seconds(without.curve)[0]
    files = [tmp_path / name / "predictions" / "stage-0.parquet" for name in ("points", "none")]
    assert files[0].read_bytes() == files[1].read_bytes()


class Stop(BaseException):
    """Like Ctrl-C."""


@pytest.mark.parametrize(("point", "every"), [(2, None), (3, 1)])
def test_points_survive_a_stop(
    tiny_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    point: int,
    every: int | None,
) -> None:
    chosen = config(tiny_model, checkpoint_every_steps=every)
    whole = ActiveRun(chosen).run(tmp_path / "whole")
    tested: list[str] = []
    keep = TestPoints._keep

    def stopping(self: TestPoints, number: int, scores: Any) -> None:
        if number == point:
            raise Stop
        tested.append(f"{number}")
        keep(self, number, scores)

    with monkeypatch.context() as patched:
        patched.setattr(TestPoints, "_keep", stopping)
        with pytest.raises(Stop):
            ActiveRun(chosen).run(tmp_path / "stopped")

    def counting(self: TestPoints, number: int, scores: Any) -> None:
        tested.append(f"{number} again")
        keep(self, number, scores)

    monkeypatch.setattr(TestPoints, "_keep", counting)
    continued = ActiveRun(chosen).run(tmp_path / "stopped")
    assert without_seconds(continued.curve) == without_seconds(whole.curve)
    before, after = [f"{n}" for n in range(1, point)], [f"{n} again" for n in range(point, 4)]
    assert tested == [*before, *after]  # what was kept is not tested again


def test_short_stages_choose_the_same_for_less(tiny_model: Path, tmp_path: Path) -> None:
    rounds = RoundsConfig(budgets=(12, 20, 28), score_until=1, score_last=False)
    recipe = RecipeConfig(learning_rate=1e-3, epochs=3, batch_size=4)
    whole = config(tiny_model, rounds=rounds, recipe=recipe)
    short = config(tiny_model, rounds=replace(rounds, short_stages=True), recipe=recipe)
    long_run = ActiveRun(whole).run(tmp_path / "long")
    short_run = ActiveRun(short).run(tmp_path / "short")
    states = [
        json.loads((tmp_path / name / "state.json").read_text()) for name in ("long", "short")
    ]
    assert states[0]["train"] == states[1]["train"]
    assert short_run.cost["samples_seen"] == 12 + 20 + 28 * 3
    assert [entry["test_accuracy"] is None for entry in short_run.curve] == [True, True, False]
    # the bill of the whole run is what the short one really spends
    spent = {k: v for k, v in short_run.cost.items() if k not in SECONDS}
    billed = long_run.curve[-1]["cost_of_model"]
    assert {k: billed[k] for k in spent} == spent


def test_a_stage_without_measurements_is_not_trained_for_nothing(
    tiny_model: Path, tmp_path: Path
) -> None:
    rounds = RoundsConfig(budgets=(12, 20), short_stages=True)
    result = ActiveRun(config(tiny_model, rounds=rounds, strategy="random")).run(tmp_path)
    assert result.cost["samples_seen"] == 20 * 2


def test_the_share_masked_is_read_off_the_scores(tiny_model: Path, tmp_path: Path) -> None:
    for tau in (0.0, 100.0):
        scoring = ScoringConfig(samples=2, max_new_tokens=8, tau=tau)
        result = ActiveRun(config(tiny_model, scoring=scoring)).run(tmp_path / f"{tau}")
        assert result.curve[-1]["masked"] == [float(tau > 0)] * 2
    random = ActiveRun(config(tiny_model, strategy="random")).run(tmp_path / "random")
    assert random.curve[-1]["masked"] is None


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"budgets": (10,), "evaluate_every": 1.0}, "nothing with rounds.mode=acquire"),
        ({"budgets": (10,), "restart": False, "short_stages": True}, "false with rounds.restart"),
        ({"mode": "reweight", "short_stages": True}, "false with rounds.mode=reweight"),
        ({"mode": "reweight", "evaluate_every": 0.0}, "above 0 epochs"),
        ({"mode": "reweight", "budgets": (10,), "samples": (15,)}, "multiples of the one size"),
        ({"mode": "reweight", "samples": (20,)}, "which names none"),
        ({"mode": "reweight", "budgets": (10,), "samples": (20, 10)}, "ascending numbers"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(
    settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        RoundsConfig(**settings)
