"""Carry-over: what predicts held-out values is used, and what does not is not."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import spearmanr

from activeselect.data.pool import Pool, Problem
from activeselect.data.text_features import QUESTION_COUNTS, TRACE_COUNTS, text_counts
from activeselect.selection.carry_over import CarryOver, Features, by_regression
from activeselect.selection.context import SelectionContext
from activeselect.selection.neighbours import GroupNeighbourhood, neighbourhood_of
from activeselect.selection.registry import create

ROOT = Path(__file__).resolve().parents[2]


def features(size: int, seed: int = 0, **more: np.ndarray) -> Features:
    rng = np.random.default_rng(seed)
    return Features(rng.poisson(9, (size, 4)).astype("f4"), np.zeros((size, 0), "f4"), **more)


def split(value: np.ndarray, known: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The values of the first ``known`` examples, their positions, and those of the others."""
    shown = np.where(np.arange(len(value)) < known, value, np.nan)
    return shown, np.arange(known), np.arange(known, len(value))


def test_what_the_texts_tell_is_carried_over_with_its_error() -> None:
    thirds = []  # squared errors over what they were said to be, by the size of the value
    for seed in range(4):
        look = features(1500, seed)
        truth = look.counts[:, 0].astype(float)
        noise = np.random.default_rng(seed + 1).normal(size=1500)
        value = truth + noise * (0.5 + truth / 6)  # the larger, the less certain
        shown, train, rest = split(value, 500)
        carried = CarryOver({"regression": by_regression(look)}, train, rest).carried(shown)
        assert carried.by == "regression"
        assert spearmanr(carried.value, truth[rest])[0] > 0.95
        assert carried.squared_error["regression"] < 0.5 * carried.squared_error["nothing"]
        standard = ((value[rest] - carried.value) / carried.error) ** 2
        parts = np.array_split(np.argsort(carried.value), 3)
        thirds.append([standard[part].mean() for part in parts])
    assert np.sqrt(np.mean(thirds, axis=0)) == pytest.approx([1, 1, 1], abs=0.1)


def test_where_nothing_carries_over_all_candidates_are_alike() -> None:
    said = []
    for seed in range(6):
        rng = np.random.default_rng(seed)
        shown, train, rest = split(rng.random(160), 80)
        over = CarryOver({"regression": by_regression(features(160))}, train, rest)
        carried = over.carried(shown)
        said.append(carried.by)
        if carried.by == "nothing":
            assert carried.value == pytest.approx(np.full(80, shown[:80].mean()))
            assert len(set(over.spread(shown[:80]).tolist())) == 1
    assert said.count("nothing") >= 5


def test_a_strategy_draws_at_random_where_nothing_carries_over() -> None:
    """Premem of a pool whose texts say nothing: which candidates come depends on chance alone."""
    rng = np.random.default_rng(0)
    premem, train, rest = split((rng.random(400) < 0.5).astype(float), 100)
    near = CarryOver({"regression": by_regression(features(400))}, train, rest)
    context = SelectionContext(
        round=1, candidates=rest, train=train, times_seen=np.zeros(400, np.int64),
        groups=np.zeros(400, np.int32), signals={"premem": lambda: premem[None]}, near=near,
    )  # fmt: skip
    assert near.carried(np.where(np.isnan(premem), np.nan, premem <= 0.6)).by == "nothing"
    chosen = [
        create("premem").select(context, 150, np.random.default_rng(seed)).index
        for seed in range(200)
    ]
    share = np.bincount(np.concatenate(chosen), minlength=400)[rest] / 200
    assert share.std() < 0.05  # binomial: 0.035


def test_groups_decide_where_they_say_more_than_texts() -> None:
    rng = np.random.default_rng(0)
    groups = rng.integers(0, 5, 600).astype(np.int32)
    value = groups / 5 + rng.normal(0, 0.1, 600)
    shown, train, rest = split(value, 200)
    plain = features(600)
    near = {"group": lambda of: GroupNeighbourhood(groups, train, of)}
    over = CarryOver(
        {"group": lambda v, of: near["group"](of).average(v), "regression": by_regression(plain)},
        train,
        rest,
        nearest=near,
    )
    carried = over.carried(shown)
    assert carried.by == "group"
    np.testing.assert_allclose(carried.value, near["group"](rest).average(shown))
    weight = (shown[train] < 0.5).astype(float)
    np.testing.assert_allclose(over.spread(weight), near["group"](rest).spread(weight))


def test_a_group_counts_in_the_regression_by_its_shrunken_mean() -> None:
    rng = np.random.default_rng(0)
    groups = rng.integers(0, 4, 500).astype(np.int32)
    groups[-1] = 9  # a group that nothing is known of
    value = groups / 4 + rng.normal(0, 0.1, 500)
    shown, _, rest = split(value, 200)
    expected = by_regression(features(500, groups=groups))(shown, rest)
    assert np.corrcoef(expected[:-1], groups[rest][:-1])[0, 1] > 0.95
    assert 0.2 < expected[-1] < 0.55


def test_a_rare_miss_is_not_thought_impossible() -> None:
    """Where all of the closest predictions happen to be right, one of the others is not."""
    ratios = []
    for seed in range(8):
        look = features(4000, seed)
        rng = np.random.default_rng(seed)
        often = look.counts[:, 0] >= 13
        value = (rng.random(4000) < np.where(often, 0.5, 0.002)).astype(float)
        shown, train, rest = split(value, 500)
        carried = CarryOver({"regression": by_regression(look)}, train, rest).carried(shown)
        assert carried.by == "regression"
        ratios.append(np.mean(((value[rest] - carried.value) / carried.error) ** 2))
        assert (carried.error > 0).all()
    assert np.sqrt(np.mean(ratios)) < 1.1  # rather too careful than too sure


def test_a_group_of_which_nothing_is_known_is_no_error_where_groups_decide_all() -> None:
    groups = np.repeat([0, 1, 3], 40).astype(np.int32)  # no example of group 2
    value = (groups == 1).astype(float)
    shown, _, rest = split(value, 60)
    expected = by_regression(features(120, groups=groups))(shown, rest)
    assert np.isfinite(expected).all()


def test_numbers_that_are_not_stated_count_as_the_mean() -> None:
    rng = np.random.default_rng(0)
    stated = rng.random((400, 1)).astype("f4")
    value = stated[:, 0].astype(float)
    stated[::7] = np.nan
    shown, _, rest = split(value, 200)
    expected = by_regression(features(400, signals=stated))(shown, rest)
    known = ~np.isnan(stated[rest, 0])
    assert np.corrcoef(expected[known], value[rest][known])[0, 1] > 0.95
    assert np.isfinite(expected).all()


def test_expected_values_stay_within_what_was_measured() -> None:
    look = features(300)
    look.counts[200:] *= 50
    shown, _, rest = split((look.counts[:, 0] > 8).astype(float), 150)
    expected = by_regression(look)(shown, rest)
    assert expected.min() >= 0
    assert expected.max() <= 1


@pytest.mark.parametrize("known", [0, 1, 29])
def test_too_little_known_is_no_error(known: int) -> None:
    shown, train, rest = split(np.random.default_rng(0).random(60), known)
    carried = CarryOver({"regression": by_regression(features(60))}, train, rest).carried(shown)
    assert carried.value.shape == carried.error.shape == rest.shape
    assert np.isnan(carried.value).all() == (known == 0)
    pool = pool_of(["1 + 1 ?"] * 60)
    near = neighbourhood_of(pool, train, rest)
    assert near.spread(np.ones(known)).sum() == pytest.approx(known)
    assert neighbourhood_of(pool, train, rest[:0]).average(shown).shape == (0,)


def pool_of(questions: list[str], traces: list[str] | None = None) -> Pool:
    problems = (
        Problem(i, question, traces[i] if traces else "so 1", "1")
        for i, question in enumerate(questions)
    )
    return Pool.from_problems(problems, checker="number")


def test_a_pool_with_a_missing_trace_is_described_by_its_questions() -> None:
    questions = [f"what is {i} + {i} ?" for i in range(40)]
    traced = Features.of(pool_of(questions, [f"so {i}" for i in range(40)]))
    half = Features.of(pool_of(questions, ["", *(f"so {i}" for i in range(1, 40))]))
    assert traced.counts.shape == (40, len(QUESTION_COUNTS) + len(TRACE_COUNTS))
    assert half.counts.shape == (40, len(QUESTION_COUNTS))


def test_counts_of_a_real_looking_row() -> None:
    question = "A shop sold 1,200 pears on Monday and twice as many on Tuesday. How many in all?"
    trace = "Tuesday: 1200*2 = <<1200*2=2400>>2400 pears\nIn all: 1200 + 2400 = 3600\n#### 3600"
    row = dict(
        zip(QUESTION_COUNTS + TRACE_COUNTS, text_counts([question], [trace])[0], strict=True)
    )
    wanted = {
        "question: words": 16, "question: numbers": 1, "question: largest number": 1200,
        "question: sentences": 2, "question: question marks": 1, "question: comparisons": 1,
        "trace: steps": 2, "trace: times": 1, "trace: plus": 1, "trace: equals": 2,
        "trace: largest number": 3600, "trace: numbers": 6, "trace: distinct numbers": 4,
    }  # fmt: skip
    assert {name: row[name] for name in wanted} == wanted
    assert np.isfinite(text_counts(["9" * 5000], [""])).all()


# --- candidates that were measured themselves ----------------------------------------------------


def test_premem_takes_a_candidate_by_its_own_score() -> None:
    """Half of the candidates were scored, all of one group: the group's mean tells them apart not
    at all, their own scores do."""
    rng = np.random.default_rng(0)
    premem = np.full(300, np.nan)
    premem[:100] = rng.random(100) < 0.5
    train, candidates = np.arange(100), np.arange(100, 300)
    premem[100:200] = np.arange(100) % 2
    groups = np.zeros(300, np.int32)
    context = SelectionContext(
        round=1, candidates=candidates, train=train, times_seen=np.zeros(300, np.int64),
        groups=groups, signals={"premem": lambda: premem[None]},
        near=GroupNeighbourhood(groups, train, candidates),
    )  # fmt: skip
    chosen = create("premem").select(context, 80, np.random.default_rng(0)).index
    assert not (premem[chosen] == 1).any()
    assert (premem[chosen] == 0).sum() > 30
    assert np.isnan(premem[chosen]).sum() > 10  # weight one half each, those understood 0


# --- recorded runs -------------------------------------------------------------------------------


@pytest.mark.slow
def test_premem_of_recorded_runs_carries_over_better_than_a_ridge(shared_data: Path) -> None:
    command = [
        sys.executable, "research/carry_over.py", "--traces", str(shared_data / "traces"),
        "--questions", str(shared_data / "gsm8k" / "train.jsonl"), "--train", "1000",
        "--draws", "2", "--seed", "7", "--ridge", "true", "--json", "true",
    ]  # fmt: skip
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    runs = {row["run"]: row for row in json.loads(done.stdout)["runs"]}
    assert len(runs) == 10
    for row in runs.values():
        assert row["spearman"] > row["ridge_spearman"]
        assert row["enrichment"] > row["ridge_enrichment"] - 0.01  # of a draw's own .01 to .02
        assert 0.9 < row["error_ratio"] < 1.1
    judged = runs["gsm8k_orig_6epochs_full_lr2e-05_bs128"]
    assert judged["spearman"] >= 0.32
    assert judged["enrichment"] >= 1.4
