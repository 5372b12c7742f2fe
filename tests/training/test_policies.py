"""Sampling policies in real runs: the same completions, fewer of them, and every value complete."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from activeselect.scoring.budget import Adaptive, SkipMemorized
from activeselect.scoring.text_features import text_features
from activeselect.scoring.trajectory import Counts

from activeselect.config import DataConfig, RecipeConfig, RoundsConfig, RunConfig, ScoringConfig
from activeselect.errors import ConfigError
from activeselect.scoring.scorer import LiveScorer
from activeselect.scoring.store import ScoreStore
from activeselect.training.callback import ActiveSelection
from activeselect.training.history import History
from activeselect.training.run import ActiveRun

TAU = 0.3  # half of the examples of the little run below are under it
SCORING = ScoringConfig(samples=3, max_new_tokens=24, batch_tokens=400, tau=TAU, keep_completions=3)


def config(policy: str = "exact", **changes: Any) -> RunConfig:
    """Two scored epochs of the built-in model on 24 problems."""
    small = RunConfig(
        data=DataConfig("skills:mixed", pool_size=80, test_limit=10),
        rounds=RoundsConfig(budgets=(24,)),
        recipe=RecipeConfig(learning_rate=2e-3, epochs=2, batch_size=8),
        scoring=replace(SCORING, policy=policy),
        forecast="off",
        accelerator="cpu",
    )
    return replace(small, **changes)


def rounds_of(folder: Path) -> list[dict[str, list[Any]]]:
    return [pq.read_table(file).to_pydict() for file in sorted((folder / "scores").glob("*.parq*"))]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("policies")
    for policy in ("exact", "skip-memorized", "adaptive"):
        ActiveRun(config(policy)).run(folder / policy)
    return {policy.name: policy for policy in folder.iterdir()}


@pytest.mark.parametrize("policy", ["skip-memorized", "adaptive"])
def test_the_first_samples_are_those_of_exact(runs: dict[str, Path], policy: str) -> None:
    fewer = 0
    for exact, other in zip(rounds_of(runs["exact"]), rounds_of(runs[policy]), strict=True):
        assert exact["index"] == other["index"]
        np.testing.assert_allclose(exact["mean_nll"], other["mean_nll"], rtol=1e-5)
        for name in ("correct", "completions"):
            for all_of_them, some in zip(exact[name], other[name], strict=True):
                assert some == all_of_them[: len(some)]
        assert other["sampled"] == list(map(len, other["correct"]))
        fewer += 3 * len(other["index"]) - sum(other["sampled"])
    cost = json.loads((runs[policy] / "result.json").read_text())["cost"]
    assert cost["completions_saved"] == fewer > 0
    assert cost["completions"] + fewer == 2 * 24 * 3
    exact_cost = json.loads((runs["exact"] / "result.json").read_text())["cost"]
    assert (exact_cost["completions"], exact_cost["completions_saved"]) == (2 * 24 * 3, 0)
    assert cost["tokens_generated"] < exact_cost["tokens_generated"]


@pytest.mark.parametrize("policy", ["skip-memorized", "adaptive"])
def test_what_is_kept_follows_from_the_counts(runs: dict[str, Path], policy: str) -> None:
    rows = rounds_of(runs[policy])
    problems = ActiveRun(config(policy)).data.pool.problems(rows[0]["index"])
    features = text_features([p.question for p in problems], [p.trace for p in problems])
    made = {
        "skip-memorized": SkipMemorized(3, TAU),
        "adaptive": Adaptive(3, TAU, 2, 0.4, 0.6),  # the strategy is premem
    }[policy]
    for last in (1, 2):
        counts = Counts(
            np.array([[sum(row) for row in r["correct"]] for r in rows[:last]]),
            np.array([r["sampled"] for r in rows[:last]]),
            np.array([r["mean_nll"] for r in rows[:last]]),
            features,
        )
        assert not made.ask(counts).any()
        np.testing.assert_array_equal(made.premem(counts), rows[last - 1]["premem"])
        np.testing.assert_array_equal(made.accuracy(counts), rows[last - 1]["accuracy"])
    unsampled = np.array(rows[1]["sampled"]) == 0
    assert unsampled.any()
    assert np.all(np.isfinite(rows[1]["accuracy"]))
    if policy == "adaptive":
        assert sum(sum(r["sampled"]) for r in rows) <= 0.4 * 3 * 24 * 2


def test_memorized_examples_are_not_sampled_and_the_others_are_exact(
    runs: dict[str, Path],
) -> None:
    for exact, skip in zip(*(rounds_of(runs[p]) for p in ("exact", "skip-memorized")), strict=True):
        opened = np.array(skip["mean_nll"]) >= TAU
        np.testing.assert_array_equal(np.array(skip["sampled"]), np.where(opened, 3, 0))
        for name in ("accuracy", "premem"):
            values = np.array([exact[name], skip[name]])[:, opened]
            np.testing.assert_array_equal(values[0], values[1])


@pytest.mark.parametrize("policy", ["skip-memorized", "adaptive"])
def test_stopped_inside_a_round_it_ends_with_the_same_bits(
    runs: dict[str, Path], policy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    score = LiveScorer.score
    for stop in (1, 3, 5, 8):
        calls = 0

        def stopping(self: LiveScorer, *args: Any, **kwargs: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == stop:  # noqa: B023  (called within this iteration only)
                raise RuntimeError("stopped")
            return score(self, *args, **kwargs)

        folder = tmp_path / f"stop-{stop}"
        with monkeypatch.context() as patch:
            patch.setattr(LiveScorer, "score", stopping)
            with pytest.raises(RuntimeError, match="stopped"):
                ActiveRun(config(policy)).run(folder)
        ActiveRun(config(policy)).run(folder)
        for file in sorted((runs[policy] / "scores").glob("*.parquet")):
            assert (folder / "scores" / file.name).read_bytes() == file.read_bytes(), stop
        files = [where / "result.json" for where in (runs[policy], folder)]
        costs = [json.loads(file.read_text())["cost"] for file in files]
        for name in ("completions", "completions_saved", "tokens_generated"):
            assert costs[0][name] == costs[1][name], (stop, name)


def test_the_store_gives_back_what_the_policy_decides_by(runs: dict[str, Path]) -> None:
    run = ActiveRun(config("adaptive"))
    store = ScoreStore(runs["adaptive"] / "scores", run.data.pool.fingerprint, pool_size=80)
    history = History.from_store(store, 2)
    index = np.array(rounds_of(runs["adaptive"])[0]["index"])[::-1]
    right, sampled, mean_nll = history.counts(index, since=0)
    for row, table in enumerate(rounds_of(runs["adaptive"])):
        assert right[row].tolist() == [sum(some) for some in table["correct"]][::-1]
        assert sampled[row].tolist() == table["sampled"][::-1]
        assert mean_nll[row].tolist() == table["mean_nll"][::-1]
    back = History.from_tensors(80, 2, history.tensors())
    for one, other in zip(history.counts(index, since=1), back.counts(index, since=1), strict=True):
        np.testing.assert_array_equal(one, other)
    unseen = np.setdiff1d(np.arange(80), index)
    assert [part.shape for part in history.counts(unseen, since=0)] == [(0, len(unseen))] * 3


@pytest.mark.parametrize("policy", ["skip-memorized", "adaptive"])
def test_examples_acquired_later_lack_the_earlier_rounds(policy: str, tmp_path: Path) -> None:
    grown = config(
        policy, rounds=RoundsConfig(budgets=(16, 24), restart=False), strategy="learnability"
    )
    ActiveRun(grown).run(tmp_path / "run")
    rows = rounds_of(tmp_path / "run")
    assert [len(row["index"]) for row in rows] == [16, 16, 24, 24]
    for row in rows:
        for name in ("accuracy", "premem", "mean_nll"):
            assert np.all(np.isfinite(row[name])), name


def test_outside_the_subset_accuracies_are_imputed(tmp_path: Path) -> None:
    chosen = config("adaptive")
    chosen = replace(chosen, scoring=replace(chosen.scoring, subset=0.25, share=1.0, tau=0.0))
    ActiveRun(chosen).run(tmp_path / "run")
    first, second = rounds_of(tmp_path / "run")
    inside = np.array(first["sampled"]) > 0
    assert inside.sum() == 6
    np.testing.assert_array_equal(inside, np.array(second["sampled"]) > 0)
    for row in (first, second):
        assert np.all(np.isfinite([row["accuracy"], row["premem"]]))
        assert len(np.unique(np.array(row["accuracy"])[~inside])) > 1


def test_candidates_are_sampled_by_the_policy_too(tmp_path: Path) -> None:
    chosen = config("adaptive", rounds=RoundsConfig(budgets=(16, 24)))
    chosen = replace(chosen, scoring=replace(chosen.scoring, candidates=10, keep_completions=1))
    ActiveRun(chosen).run(tmp_path / "run")
    candidates = rounds_of(tmp_path / "run")[2]
    assert len(candidates["index"]) == 10
    assert 0 < sum(candidates["sampled"]) <= 0.4 * 3 * 10
    shown = [len(row) for row in candidates["completions"]]
    assert shown == np.minimum(candidates["sampled"], 1).tolist()


def test_answers_before_training_stay_exact(tmp_path: Path) -> None:
    chosen = config("adaptive", measure=("prequential",), strategy="random")
    ActiveRun(chosen).run(tmp_path / "run")
    (first,) = rounds_of(tmp_path / "run")
    assert [len(row) for row in first["correct"]] == [3] * 24
    assert "sampled" not in first


def test_a_loop_of_ones_own_says_how_many_epochs_there_are() -> None:
    run = ActiveRun(config("adaptive"))
    train = np.arange(4)
    selection = ActiveSelection(
        run.data.pool, run.tokenizer, scoring=config("adaptive").scoring, train=train
    )
    with pytest.raises(ConfigError, match=r"ActiveSelection\(epochs="):
        selection.end_epoch(run.model, 1)
    selection = ActiveSelection(
        run.data.pool, run.tokenizer, scoring=config("adaptive").scoring, train=train, epochs=1
    )
    selection.end_epoch(run.model, 1)
    assert np.all(np.isfinite(selection.history.matrix("premem")[0, train]))


@pytest.mark.parametrize("command", ["train", "compare", "score"])
def test_a_policy_that_there_is_not_ends_in_one_line(command: str, tmp_path: Path) -> None:
    ended = subprocess.run(
        [
            *(sys.executable, "-m", "activeselect", command),
            *("--out", str(tmp_path / "out"), "--scoring.policy", "adaptve"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 2
    assert "Traceback" not in ended.stderr
    assert "Did you mean 'adaptive'?" in " ".join(ended.stderr.split())
