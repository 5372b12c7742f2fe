"""Results again from what a study left, and several studies as one."""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from activeselect.config import DataConfig, StudyConfig, to_plain
from activeselect.errors import StoreError, StudyError
from activeselect.study.collect import Answers, read_answers, write_answers
from activeselect.study.compare import compare
from activeselect.study.merge import conclude, merge, rebuild

Measured = tuple[Path, dict[str, Any], Answers]
BUDGETS = (150, 300, 600)


def measured(
    name: str, strategies: dict[str, Any], seeds: tuple[int, ...] = (0, 1, 2), **config: Any
) -> Measured:
    """A study whose answers are drawn from the seed and the strategy alone."""
    settings = StudyConfig(
        data=(DataConfig("skills:mixed"),), strategies=strategies, seeds=seeds, **config
    )
    rows, answers = [], {}
    for label in strategies:
        for seed in seeds:
            rng = np.random.default_rng([seed, len(label)])
            chance = np.array([0.5, 0.6, 0.7]) + 0.02 * len(label)
            answers["mixed", label, seed] = rng.random((3, 200)) < chance[:, None]
            for stage, budget in enumerate(BUDGETS):
                correct = answers["mixed", label, seed][stage]
                costs = {"unique_examples": budget, "samples_seen": 8.0 * budget}
                row = {"dataset": "mixed", "strategy": label, "seed": seed, "budget": budget}
                row |= {"unique_examples": budget, "samples_seen": 8 * budget, "premem": None}
                row |= {"test_accuracy": float(correct.mean()), "test_examples": 200}
                rows.append(row | {"costs": costs})
    body: dict[str, Any] = {
        "schema_version": 2,
        "config": to_plain(settings),
        "environment": {},
        "datasets": ["mixed"],
        "recipes": {"mixed": {"epochs": 8}},
        "shared_test": {"mixed": False},
        "curves": rows,
        **{
            key: []
            for key in ("cost", "selection", "data_map", "examples", "browsed", "choices", "notes")
        },
        "within_fits": [],
    }
    return Path(name), body, answers


RANDOM = {"random": "random"}
PREMEM = {"random": "random", "premem": {"name": "premem", "threshold": 0.5}}


def test_answers_survive_their_file(tmp_path: Path) -> None:
    _, _, answers = measured("a", PREMEM)
    write_answers(tmp_path / "answers.parquet", answers)
    found = read_answers(tmp_path / "answers.parquet")
    assert found.keys() == answers.keys()
    assert all(np.array_equal(found[key], answers[key]) for key in answers)
    with pytest.raises(StoreError, match="Cannot read"):
        read_answers(tmp_path / "absent.parquet")


def test_two_halves_of_a_study_merge_into_the_whole() -> None:
    other = {"random": "random", "other-one": "random"}
    whole = measured("whole", {**PREMEM, **other})
    body, answers = merge([measured("a", PREMEM), measured("b", other)])
    assert answers.keys() == whole[2].keys()
    one, two = compare(body, answers), compare(whole[1], whole[2])
    assert one["efficiency"] == two["efficiency"]
    assert one["verdicts"] == two["verdicts"]
    assert one["merged_from"] == ["a", "b"]


def test_more_seeds_merge() -> None:
    body, answers = merge([measured("a", PREMEM), measured("b", PREMEM, seeds=(3, 4))])
    results = compare(body, answers)
    assert results["config"]["seeds"] == [0, 1, 2, 3, 4]
    assert results["efficiency"][0]["seeds"] == 5


def test_another_baseline_is_refused_by_name() -> None:
    first = measured("a", PREMEM)
    changed = copy.deepcopy(measured("b", RANDOM))
    changed[1]["recipes"]["mixed"]["epochs"] = 4
    with pytest.raises(StudyError, match=r"b cannot be compared with a.*recipe.mixed.epochs: 8"):
        merge([first, changed])
    other = measured("c", RANDOM, model="elsewhere")
    with pytest.raises(StudyError, match=r"model: skills-base -> elsewhere"):
        merge([first, other])


def test_one_label_for_two_strategies_is_refused() -> None:
    other = {"random": "random", "premem": {"name": "premem", "threshold": 0.9}}
    with pytest.raises(StudyError, match=r"strategy 'premem' \(strategy.threshold: 0.5 -> 0.9"):
        merge([measured("a", PREMEM), measured("b", other, seeds=(3, 4))])


def test_the_same_run_with_other_answers_is_refused() -> None:
    first, second = measured("a", PREMEM), measured("b", RANDOM)
    second[2]["mixed", "random", 1][0, 0] ^= True
    with pytest.raises(StudyError, match=r"mixed · random · seed 1 too, with other answers"):
        merge([first, second])


def test_seeds_left_out_are_named() -> None:
    body, answers = merge([measured("a", PREMEM), measured("b", RANDOM, seeds=(7,))])
    results = compare(body, answers)
    assert "seeds 7 are in the curves but not in the comparison" in results["left_out"][0]


def test_an_axis_that_was_not_recorded_is_refused() -> None:
    _, body, answers = measured("a", PREMEM)
    assert compare(body, answers, "samples_seen")["efficiency"][0]["cost"] == "samples_seen"
    with pytest.raises(StudyError, match="unique_examples, samples_seen only; received seconds"):
        compare(body, answers, "seconds")


def test_small_files_are_enough_to_judge_again(tmp_path: Path) -> None:
    _, body, answers = measured("a", PREMEM)
    results, page = conclude(body, answers, tmp_path / "a")
    assert page.exists()
    kept = tmp_path / "kept"
    kept.mkdir()
    for name in ("results.json", "answers.parquet"):
        shutil.copy(tmp_path / "a" / name, kept / name)
    rebuild([kept])
    assert json.loads((kept / "results.json").read_text()) == json.loads(json.dumps(results))
    rebuild([kept], axis="samples_seen")
    assert json.loads((kept / "results.json").read_text())["axis"] == "samples_seen"
    (kept / "answers.parquet").unlink()
    rebuild([kept])  # drawn again
    with pytest.raises(StudyError, match="cannot be merged"):
        rebuild([kept, tmp_path / "a"], tmp_path / "both")
    with pytest.raises(StudyError, match="not judged on another axis"):
        rebuild([kept], axis="unique_examples")


def test_what_rebuild_needs_is_said(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="--out DIR"):
        rebuild([tmp_path, tmp_path])
    with pytest.raises(StoreError, match="holds no finished run"):
        rebuild([tmp_path])
