"""A study in which the train set is fixed and its weights are not: curves against samples seen."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from activeselect.config import RoundsConfig, StudyConfig
from activeselect.errors import ConfigError
from activeselect.study.collect import collect, model_costs, read_answers
from activeselect.study.compare import compare, masked
from activeselect.study.plan import plan
from activeselect.study.study import Study
from activeselect.study.verdicts import efficiency_verdict
from tests.support import skills, small_study

FLOOR = {"name": "premem", "threshold": 0.0, "floor": 0.5}
SEVERAL = RoundsConfig(
    mode="reweight", budgets=(16,), samples=(16, 32), evaluate_every=0.5, score_last=False
)


def study(model: Path, **changes: object) -> StudyConfig:
    small = small_study(
        model,
        data=(skills(80, 12),),
        strategies={"random": "random", "premem": FLOOR},
        seeds=(0, 1),
        rounds=RoundsConfig(mode="reweight", budgets=(16,), evaluate_every=1, score_last=False),
    )
    return replace(small, **changes)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def one_fit(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("one")
    Study(study(tiny_model)).run(out)
    return out


@pytest.fixture(scope="module")
def several_fits(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("several")
    Study(study(tiny_model, rounds=SEVERAL)).run(out)
    return out


def read(file: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(file.read_text())
    return found


def test_one_fit_is_a_curve_against_samples_seen(one_fit: Path) -> None:
    results = read(one_fit / "results.json")
    assert results["axis"] == "samples_seen"
    assert [row["budget"] for row in results["curves"]] == [16, 32] * 4
    for row in results["curves"]:
        assert row["budget"] == row["samples_seen"] == row["costs"]["samples_seen"]
        assert row["unique_examples"] == 16
        assert "unique_examples" not in row["costs"]
    axes = {"samples_seen", "tokens_trained", "tokens_total", "seconds"}
    assert {row["cost"] for row in results["efficiency_by_cost"]} == axes
    assert any("has not decayed yet" in note for note in results["notes"])
    # nothing is scored before the first epoch ends: until then the strategies are one
    first = {(r["strategy"], r["seed"]): r["test_accuracy"] for r in results["curves"][::2]}
    for seed in (0, 1):
        assert first["random", seed] == first["premem", seed]
    sentences = [row["verdict"] for row in results["efficiency"] if row["budget"] == 32]
    assert all("at 32 samples" in sentence for sentence in sentences)


def test_a_mask_that_never_acted_is_said(one_fit: Path) -> None:
    results = read(one_fit / "results.json")
    assert results["masked"] == [
        {"dataset": "mixed", "strategy": "premem", "largest": 0.0, "last": 0.0}
    ]
    said = [text for text in results["verdicts"] if "mask" in text]
    sentence = "In the runs of premem the mask never acted: premem equals accuracy here."
    assert said == [f"mixed: {sentence}"]
    acted = {"dataset": "mixed", "strategy": "premem"}
    rows = [acted | {"masked": [0.0, 0.5]}, acted | {"masked": [0.25]}, acted | {"masked": None}]
    assert masked(rows) == [acted | {"largest": 0.5, "last": 0.375}]


def test_random_reads_every_example_once_in_each_pass(one_fit: Path) -> None:
    curve = read(one_fit / "cells/mixed/random/seed-0/result.json")["curve"]
    once, twice = (entry["groups"] for entry in curve)
    assert sum(once.values()) == 16
    assert {group: 2 * count for group, count in once.items()} == twice


def test_several_lengths_are_fits_of_their_own(several_fits: Path, tiny_model: Path) -> None:
    results = read(several_fits / "results.json")
    assert [row["budget"] for row in results["curves"]] == [16, 32] * 4
    within = [row["budget"] for row in results["within_fits"] if row["fit"] == 32]
    assert within == [8, 16, 24, 32] * 4
    assert [cell.config.recipe.epochs for cell in plan(study(tiny_model, rounds=SEVERAL))[:2]] == [
        1,
        2,
    ]
    for (dataset, strategy, seed), rows in read_answers(several_fits / "answers.parquet").items():
        runs = several_fits / "cells" / dataset / strategy
        files = [runs / f"seed-{seed}-samples-{n}/predictions/stage-0.parquet" for n in (16, 32)]
        ends = [pq.read_table(file)["correct"].to_numpy() for file in files]
        np.testing.assert_array_equal(rows, np.stack(ends))


def test_a_seed_counts_when_all_its_fits_are_there(several_fits: Path) -> None:
    config = read(several_fits / "results.json")["config"]
    missing = several_fits / "cells/mixed/premem/seed-1-samples-32/result.json"
    content = missing.read_bytes()
    missing.unlink()
    try:
        found = compare(*collect(config, several_fits))
    finally:
        missing.write_bytes(content)
    assert {row["seeds"] for row in found["efficiency"]} == {1}
    assert any("seeds 1 are in the curves" in sentence for sentence in found["left_out"])


def test_repeating_trains_nothing_again(tiny_model: Path, several_fits: Path) -> None:
    files = list(several_fits.glob("cells/*/*/*/result.json"))
    assert len(files) == 2 * 2 * 2
    before = {file: file.stat().st_mtime_ns for file in files}
    Study(study(tiny_model, rounds=SEVERAL)).run(several_fits)
    assert {file: file.stat().st_mtime_ns for file in files} == before


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rounds": RoundsConfig(mode="reweight", budgets=(16,))}, "evaluate_every below"),
        ({"rounds": replace(SEVERAL, evaluate_every=None, samples=(16,))}, "at least two"),
        ({"strategies": {"random": "random", "o": "preset"}}, "Leave the oracle out"),
        ({"rounds": replace(SEVERAL, score_every=2)}, "at most recipe.epochs = 1"),
        ({"rounds": RoundsConfig(budgets=(8, 16), short_stages=True)}, "needs whole stages"),
    ],
)
def test_what_would_be_no_curve_is_refused(
    tiny_model: Path, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        plan(study(tiny_model, **changes))


def test_train_examples_are_no_axis_where_there_is_one_train_set(tiny_model: Path) -> None:
    with pytest.raises(ConfigError, match="axis: expected one of samples_seen"):
        study(tiny_model, axis="unique_examples")


def test_the_bill_is_that_of_who_wants_the_model_alone() -> None:
    whole = {"train_s": 8.0, "score_s": 4.0, "select_s": 0.0, "eval_s": 9.0}
    whole |= {"tokens_trained": 800, "tokens_generated": 90, "samples_seen": 80}
    alone = {**whole, "tokens_trained": 300, "tokens_generated": 40, "samples_seen": 30}
    old: dict[str, Any] = {"unique_examples": 10, "samples_seen": 80, "cost": whole}
    (bill,) = model_costs([{**old, "cost_of_model": alone}], needs_rounds=True)
    assert bill["tokens_total"] == 340
    assert bill["samples_seen"] == 30
    assert model_costs([old], needs_rounds=True)[0]["tokens_total"] == 890


def test_a_verdict_on_samples_says_samples() -> None:
    row: dict[str, Any] = {"strategy": "premem", "baseline": "random", "cost": "samples_seen"}
    row |= {"budget": 4800, "ratio": 1.42, "low": 1.2, "high": 1.71, "level": 0.95, "seeds": 5}
    row |= {"censored": None, "evidence": "better", "unit": "samples"}
    assert "fewer training samples than random at 4,800 samples" in efficiency_verdict(row)
