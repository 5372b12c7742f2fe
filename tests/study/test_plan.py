"""A study's cells and the oracle's allocation."""

from __future__ import annotations

import warnings
from dataclasses import replace
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from activeselect.config import DataConfig, RecipeConfig, RoundsConfig, StudyConfig
from activeselect.data.skills import get_preset, tuning
from activeselect.errors import ConfigError, StrategyError
from activeselect.study import study as module
from activeselect.study.oracle import (
    REHEARSAL,
    allocate,
    dense_curve,
    informed_targets,
    oracle_targets,
)
from activeselect.study.plan import dataset_names, plan


def study(**changes: object) -> StudyConfig:
    base = StudyConfig(
        strategies={"random": "random", "premem": "premem", "oracle": "preset"},
        seeds=(0, 1),
        rounds=RoundsConfig(budgets=(150, 300, 600)),
    )
    return replace(base, **changes)  # type: ignore[arg-type]


def test_cells_are_paired_and_unique() -> None:
    cells = plan(study(data=(DataConfig("skills:mixed"), DataConfig("skills:even"))))
    assert len(cells) == 3 * 2 * 2
    assert len({cell.folder for cell in cells}) == len(cells)
    for cell in cells:
        assert cell.config.seed == cell.seed
        assert cell.config.data.preset == cell.dataset
        chosen = tuning(cell.dataset)["recipe"]["chosen"]
        assert cell.config.recipe == replace(RecipeConfig(), **chosen)


def test_whole_seeds_come_first() -> None:
    cells = plan(study())
    assert [cell.seed for cell in cells] == [0, 0, 0, 1, 1, 1]


def test_datasets_of_one_name_stay_apart() -> None:
    data = (DataConfig("a/train.jsonl"), DataConfig("b/train.jsonl"), DataConfig("skills:mixed"))
    assert dataset_names(data) == ["train", "train-2", "mixed"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rounds": RoundsConfig(mode="reweight")}, "Leave the oracle out"),
        ({"rounds": RoundsConfig(budgets=(150,))}, "at least two"),
        ({"data": (DataConfig("mine.jsonl"),)}, "recipe: expected learning_rate"),
        (
            {"data": (DataConfig("mine.jsonl"),), "recipe": RecipeConfig()},
            "'preset' stands for the oracle of a built-in preset",
        ),
    ],
)
def test_a_study_that_cannot_work_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        plan(study(**changes))


def test_an_unknown_strategy_is_refused_before_anything_runs() -> None:
    with pytest.raises(StrategyError, match="Did you mean 'premem'"):
        plan(study(strategies={"random": "random", "mine": "premm"}))


def test_seeds_must_differ() -> None:
    with pytest.raises(ConfigError, match="distinct numbers"):
        study(seeds=(1, 1))


# --- the oracle ------------------------------------------------------------------------------


def best_by_trying_all(curves: np.ndarray, mass: np.ndarray, budget: int) -> float:
    """Independent reference: every allocation, the best value."""
    groups = len(mass)
    return max(
        float(sum(mass[g] * curves[g, n] for g, n in enumerate(counts)))
        for counts in product(range(budget + 1), repeat=groups)
        if sum(counts) == budget
    )


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 6))
def test_allocation_is_optimal_on_concave_curves(seed: int, budget: int) -> None:
    rng = np.random.default_rng(seed)
    steps = np.sort(rng.random((3, budget)), axis=1)[:, ::-1] / budget
    curves = np.concatenate([np.zeros((3, 1)), np.cumsum(steps, axis=1)], axis=1)
    mass = rng.dirichlet(np.ones(3))
    counts = allocate(curves, mass, np.zeros(3, dtype=np.int64), budget)
    value = float(sum(mass[g] * curves[g, n] for g, n in enumerate(counts)))
    assert counts.sum() == budget
    assert value == pytest.approx(best_by_trying_all(curves, mass, budget))


def test_allocation_looks_past_a_flat_start() -> None:
    slow_start = np.array([0.0, 0.0, 0.0, 0.9])
    gentle = np.array([0.0, 0.1, 0.15, 0.2])
    counts = allocate(np.stack([slow_start, gentle]), np.array([0.5, 0.5]), np.zeros(2, int), 3)
    assert counts.tolist() == [3, 0]


def test_flat_curves_share_the_rest_by_test_mass() -> None:
    flat = np.ones((2, 11))
    counts = allocate(flat, np.array([0.8, 0.2]), np.zeros(2, dtype=np.int64), 10)
    assert counts.tolist() == [8, 2]


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000))
def test_a_dense_curve_never_falls_and_meets_monotone_points(seed: int) -> None:
    rng = np.random.default_rng(seed)
    accuracy = np.sort(rng.random(4))
    curve = dense_curve([0, 10, 40, 80], accuracy.tolist(), 120)
    assert (np.diff(curve) >= 0).all()
    np.testing.assert_allclose(curve[[0, 10, 40, 80]], accuracy)
    assert curve[-1] == accuracy[-1]  # nothing is promised beyond what was measured


@pytest.mark.parametrize("preset", ["mixed", "even", "trap"])
def test_targets_grow_and_add_up(preset: str) -> None:
    chosen = get_preset(preset)
    measured = tuning(preset)["oracle"]["curves"]
    targets = oracle_targets(measured, chosen.pool_mass, chosen.test_mass, (150, 300, 600))
    for size, counts in targets.items():
        assert sum(counts.values()) == int(size)
    for before, after in (("150", "300"), ("300", "600")):
        assert all(targets[after][name] >= n for name, n in targets[before].items())
    noise = [targets["600"][name] - targets["150"][name] for name in chosen.noise]
    assert not any(noise)  # the oracle never buys what the test does not ask for


def test_an_unmeasured_group_is_refused() -> None:
    with pytest.raises(ConfigError, match="no learning curves for b"):
        oracle_targets({"a": {"examples": [0], "accuracy": [1]}}, {"a": 1}, {"b": 1}, (1, 2))


def test_what_was_tuned_for_the_built_in_model_is_not_used_for_another() -> None:
    with pytest.raises(ConfigError, match="recipe: expected one for this model"):
        plan(StudyConfig(model="models/other"))


@pytest.mark.parametrize(
    "name", ["mixed-sizes", "relatives", "trap-sizes", "shift", "even-sizes", "steps"]
)
def test_the_informed_oracle_buys_what_is_asked_and_not_mastered(name: str) -> None:
    preset = get_preset(name).drawn(1000)
    sizes = (100, 300, 700)
    targets = informed_targets(preset.pool_mass, preset.test_mass, preset.mastered, sizes)
    for before, after in pairwise(sizes):
        gained = {g: targets[str(after)][g] - targets[str(before)][g] for g in targets[str(after)]}
        assert sum(gained.values()) == after - before
        assert all(n == 0 for g, n in gained.items() if g not in preset.test_mass)
        assert not any(gained[g] for g in preset.noise)
        known = sum(n for g, n in gained.items() if g in preset.mastered)
        wanted = REHEARSAL * (after - before) if preset.mastered else 0
        assert abs(known - wanted) <= len(gained)
    assert sum(targets["100"].values()) == 100


def test_an_informed_oracle_has_the_sizes_of_its_seed() -> None:
    study = StudyConfig(
        data=(DataConfig("skills:mixed-sizes", groups="hidden"),),
        strategies={"random": "random", "oracle": "informed"},
        recipe=RecipeConfig(learning_rate=1e-3, epochs=8, batch_size=16),
        seeds=(1000, 1001),
    )
    one, other = (cell for cell in plan(study) if cell.strategy == "oracle")
    assert one.dataset == "mixed-sizes-hidden"
    assert one.config.strategy["targets"] != other.config.strategy["targets"]


def test_target_questions_are_in_the_name_and_asked_for_before_anything_runs() -> None:
    data = DataConfig("skills:shift", groups="hidden", target="preset")
    recipe = RecipeConfig(learning_rate=1e-3, epochs=8, batch_size=16)
    spec = {"name": "filter", "by": "target-mixture", "then": "premem"}
    strategies = {"random": "random", "follows": spec}
    study = StudyConfig(data=(data,), strategies=strategies, recipe=recipe, seeds=(1000,))
    assert {cell.dataset for cell in plan(study)} == {"shift-hidden-target"}
    both = (data, replace(data, target=None))
    assert dataset_names(both) == ["shift-hidden-target", "shift-hidden"]
    with pytest.raises(ConfigError, match=r"'filter' needs target questions.*data.target"):
        plan(replace(study, data=both))


def test_a_worker_that_joblib_replaces_is_not_reported_as_a_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Idle workers end, and others start; any other warning is still one."""

    class Display:
        text = "A worker stopped while some jobs were given to the executor. This can be caused by"

        def __init__(self, *_: object) -> None: ...

        def __enter__(self) -> Display:
            return self

        def __exit__(self, *_: object) -> None: ...

        def cell_done(self, *_: object) -> None:
            warnings.warn(self.text, UserWarning, stacklevel=1)

    monkeypatch.setattr(module, "run_cell", lambda cell, *_, **__: (cell, None))
    cells = plan(StudyConfig(recipe=RecipeConfig(), seeds=(0,)))
    options: dict[str, Any] = {"workers": 1, "console": Console(quiet=True), "display": Display}
    assert module.run_cells(cells, tmp_path, **options) == []
    Display.text = "something else"
    with pytest.raises(UserWarning, match="something else"):
        module.run_cells(cells, tmp_path, **options)
