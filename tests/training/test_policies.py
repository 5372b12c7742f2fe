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

from activeselect.config import RecipeConfig, RoundsConfig, RunConfig, ScoringConfig
from activeselect.scoring.scorer import LiveScorer
from activeselect.scoring.store import ScoreStore
from activeselect.training.history import History
from activeselect.training.run import ActiveRun
from tests.support import skills, small_run

SKIP = "skip-memorized"
TAU = 0.3  # half of the examples of the little run below are under it
SCORING = ScoringConfig(samples=3, max_new_tokens=24, batch_tokens=400, tau=TAU, keep_completions=3)


def config(policy: str = "exact", **changes: Any) -> RunConfig:
    """Two scored epochs of the built-in model on 24 problems."""
    small = small_run(
        data=skills(80, 10),
        rounds=RoundsConfig(budgets=(24,)),
        recipe=RecipeConfig(learning_rate=2e-3, epochs=2, batch_size=8),
        scoring=replace(SCORING, policy=policy),
        accelerator="cpu",
        strategy="premem",
        save_model=True,
    )
    return replace(small, **changes)


def rounds_of(folder: Path) -> list[dict[str, list[Any]]]:
    return [pq.read_table(file).to_pydict() for file in sorted((folder / "scores").glob("*.parq*"))]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("policies")
    for policy in ("exact", "skip-memorized"):
        ActiveRun(config(policy)).run(folder / policy)
    return {policy.name: policy for policy in folder.iterdir()}


def test_the_first_samples_are_those_of_exact(runs: dict[str, Path]) -> None:
    fewer = 0
    for exact, other in zip(rounds_of(runs["exact"]), rounds_of(runs[SKIP]), strict=True):
        assert exact["index"] == other["index"]
        np.testing.assert_allclose(exact["mean_nll"], other["mean_nll"], rtol=1e-5)
        for name in ("correct", "completions"):
            for all_of_them, some in zip(exact[name], other[name], strict=True):
                assert some == all_of_them[: len(some)]
        assert other["sampled"] == list(map(len, other["correct"]))
        fewer += 3 * len(other["index"]) - sum(other["sampled"])
    cost = json.loads((runs[SKIP] / "result.json").read_text())["cost"]
    assert cost["completions_saved"] == fewer > 0
    assert cost["completions"] + fewer == 2 * 24 * 3
    exact_cost = json.loads((runs["exact"] / "result.json").read_text())["cost"]
    assert (exact_cost["completions"], exact_cost["completions_saved"]) == (2 * 24 * 3, 0)
    assert cost["tokens_generated"] < exact_cost["tokens_generated"]


def test_what_is_kept_follows_from_the_counts(runs: dict[str, Path]) -> None:
    rows = rounds_of(runs[SKIP])
    unsampled = 0
    for last, row in enumerate(rows):
        for k in range(24):
            seen = [(r["correct"][k], r["mean_nll"][k]) for r in rows[: last + 1]]
            best = max([sum(c) / len(c) for c, nll in seen if nll >= TAU and c], default=0.0)
            outcomes, nll = seen[-1]
            if nll < TAU:
                assert outcomes == []
                assert row["accuracy"][k] == row["premem"][k] == best
                unsampled += 1
            else:
                assert row["accuracy"][k] == sum(outcomes) / 3
                assert row["premem"][k] == min(best, sum(outcomes) / 3)
    assert unsampled > 0


def test_memorized_examples_are_not_sampled_and_the_others_are_exact(
    runs: dict[str, Path],
) -> None:
    for exact, skip in zip(*(rounds_of(runs[p]) for p in ("exact", "skip-memorized")), strict=True):
        opened = np.array(skip["mean_nll"]) >= TAU
        np.testing.assert_array_equal(np.array(skip["sampled"]), np.where(opened, 3, 0))
        for name in ("accuracy", "premem"):
            values = np.array([exact[name], skip[name]])[:, opened]
            np.testing.assert_array_equal(values[0], values[1])


@pytest.mark.slow
def test_stopped_inside_a_round_it_ends_with_the_same_bits(
    runs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
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
                ActiveRun(config(SKIP)).run(folder)
        ActiveRun(config(SKIP)).run(folder)
        for file in sorted((runs[SKIP] / "scores").glob("*.parquet")):
            assert (folder / "scores" / file.name).read_bytes() == file.read_bytes(), stop
        files = [where / "result.json" for where in (runs[SKIP], folder)]
        costs = [json.loads(file.read_text())["cost"] for file in files]
        for name in ("completions", "completions_saved", "tokens_generated"):
            assert costs[0][name] == costs[1][name], (stop, name)


def test_the_store_gives_back_what_the_policy_decides_by(runs: dict[str, Path]) -> None:
    run = ActiveRun(config(SKIP))
    store = ScoreStore(runs[SKIP] / "scores", run.data.pool.fingerprint, pool_size=80)
    history = History.from_store(store, 2)
    index = np.array(rounds_of(runs[SKIP])[0]["index"])[::-1]
    right, sampled, mean_nll = history.counts(index, since=0)
    for row, table in enumerate(rounds_of(runs[SKIP])):
        assert right[row].tolist() == [sum(some) for some in table["correct"]][::-1]
        assert sampled[row].tolist() == table["sampled"][::-1]
        assert mean_nll[row].tolist() == table["mean_nll"][::-1]
    back = History.from_tensors(80, 2, history.tensors())
    for one, other in zip(history.counts(index, since=1), back.counts(index, since=1), strict=True):
        np.testing.assert_array_equal(one, other)
    unseen = np.setdiff1d(np.arange(80), index)
    assert [part.shape for part in history.counts(unseen, since=0)] == [(0, len(unseen))] * 3


def test_examples_acquired_later_lack_the_earlier_rounds(tmp_path: Path) -> None:
    grown = config(
        SKIP, rounds=RoundsConfig(budgets=(16, 24), restart=False), strategy="learnability"
    )
    ActiveRun(grown).run(tmp_path / "run")
    rows = rounds_of(tmp_path / "run")
    assert [len(row["index"]) for row in rows] == [16, 16, 24, 24]
    for row in rows:
        for name in ("accuracy", "premem", "mean_nll"):
            assert np.all(np.isfinite(row[name])), name


def test_answers_before_training_stay_exact(tmp_path: Path) -> None:
    chosen = config(SKIP, measure=("prequential",), strategy="random")
    ActiveRun(chosen).run(tmp_path / "run")
    (first,) = rounds_of(tmp_path / "run")
    assert [len(row) for row in first["correct"]] == [3] * 24
    assert "sampled" not in first


@pytest.mark.parametrize(
    ("command", "name", "answer"),
    [
        ("train", "skip-memorised", "Did you mean 'skip-memorized'?"),
        ("compare", "adaptive", "'adaptive' is gone"),
    ],
)
def test_a_policy_that_there_is_not_ends_in_one_line(
    command: str, name: str, answer: str, tmp_path: Path
) -> None:
    ended = subprocess.run(
        [
            *(sys.executable, "-m", "activeselect", command),
            *("--out", str(tmp_path / "out"), "--scoring.policy", name),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 2
    assert "Traceback" not in ended.stderr
    assert answer in " ".join(ended.stderr.split())
