"""Measuring at the right moment: before an example is trained on, and candidates themselves."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from activeselect.config import DataConfig, RoundsConfig, RunConfig, ScoringConfig
from activeselect.data.answers import get_checker
from activeselect.data.prompts import encode
from activeselect.errors import StrategyError
from activeselect.scoring.scorer import LiveScorer
from activeselect.scoring.signals import SIGNALS, VECTORS
from activeselect.selection.neighbours import GroupNeighbourhood
from activeselect.selection.strategy import Selection, SelectionContext, Strategy
from activeselect.training.module import load_model
from activeselect.training.run import ActiveRun
from tests.support import skills, small_run

PROBE = 6


class Prober(Strategy):
    """Has a few examples answered first, takes the rest at random, and keeps what it saw."""

    name = "prober"
    requires: tuple[str, ...] = ("prequential",)

    def __init__(self) -> None:
        self.contexts: list[SelectionContext] = []
        self.histories: list[np.ndarray] = []
        self.budgets: list[int] = []

    def probe(self, context: SelectionContext, budget: int, rng: np.random.Generator) -> Selection:
        return Selection.of(rng.choice(context.candidates, PROBE, replace=False))

    def select(self, context: SelectionContext, budget: int, rng: np.random.Generator) -> Selection:
        self.contexts.append(context)
        self.histories.append(context.history("prequential"))
        self.budgets.append(budget)
        return Selection.of(rng.choice(context.candidates, budget, replace=False))


class Asks(Strategy):
    """Reads every signal it is told to require."""

    name = "asks"

    def __init__(self, *signals: str, reference: str | None = None) -> None:
        self.requires, self.reference = signals, reference
        self.contexts: list[SelectionContext] = []

    def select(self, context: SelectionContext, budget: int, rng: np.random.Generator) -> Selection:
        self.contexts.append(context)
        return Selection.of(rng.choice(context.candidates, budget, replace=False))


def config(model: Path, **changes: Any) -> RunConfig:
    small = small_run(
        model, data=skills(80, 10), rounds=RoundsConfig(budgets=(12, 24, 40)), save_model=True
    )
    return replace(small, **changes)


def test_every_example_is_answered_once_before_it_is_trained_on(
    tiny_model: Path, tmp_path: Path
) -> None:
    strategy = Prober()
    run = ActiveRun(config(tiny_model), strategy=strategy)
    run.run(tmp_path / "run")
    assert strategy.budgets == [12 - PROBE, 16 - PROBE]
    first, second = strategy.histories
    # one row per model: the base model on the first set, then one for each acquisition
    assert first.shape == (4, 80)  # and a row of nothing per epoch
    known = ~np.isnan(second)
    assert known.sum(axis=0).max() == 1
    assert known.sum(axis=1).tolist() == [12, 0, 0, 12, 0, 0, PROBE]
    assert set(np.flatnonzero(known.any(axis=0))) == set(strategy.contexts[1].train)
    files = sorted((tmp_path / "run" / "scores").glob("*.parquet"))
    assert [pq.read_table(file).num_rows for file in files] == [12, 12, 16]


def test_the_first_answers_are_those_of_the_base_model(tiny_model: Path, tmp_path: Path) -> None:
    strategy = Prober()
    run = ActiveRun(config(tiny_model), strategy=strategy)
    run.run(tmp_path / "run")
    model, tokenizer = load_model(str(tiny_model))
    pool = run.data.pool
    first = strategy.contexts[0]
    index = np.flatnonzero(~np.isnan(first.history("prequential")[0]))
    scorer = LiveScorer(tokenizer, get_checker(pool.checker), run.config.scoring, seed=0)
    items = encode(pool, index, tokenizer, run.prompt)
    answers = [problem.answer for problem in pool.problems(index)]
    scores = scorer.score(model, items, answers, what=frozenset({"samples"}), round=0)
    stored = pq.read_table(tmp_path / "run" / "scores" / "round-00000.parquet").to_pydict()
    assert stored["index"] == index.tolist()
    assert scores.completions is not None
    assert stored["completions"] == [list(row) for row in scores.completions]
    assert scores.correct is not None
    np.testing.assert_array_equal(
        first.history("prequential")[0, index], scores.correct.mean(axis=1)
    )


@pytest.mark.parametrize("mode", ["acquire", "reweight"])
def test_stopped_anywhere_the_answers_before_training_stay_the_same(
    tiny_model: Path, tmp_path: Path, mode: str
) -> None:
    budgets = (12, 24) if mode == "acquire" else (24,)
    chosen = config(
        tiny_model, rounds=RoundsConfig(mode=mode, budgets=budgets), measure=("accuracy",)
    )
    whole = tmp_path / "whole"
    ActiveRun(chosen, strategy=Prober()).run(whole)
    for stop in range(1, 7):
        folder, calls = tmp_path / f"stop-{stop}", 0

        def interrupt(done: int, total: int, doing: str) -> None:
            nonlocal calls
            calls += 1
            if calls == stop:  # noqa: B023  (called within this iteration only)
                raise RuntimeError("stopped")

        with pytest.raises(RuntimeError, match="stopped"):
            ActiveRun(chosen, strategy=Prober()).run(folder, progress=interrupt)
        ActiveRun(chosen, strategy=Prober()).run(folder)
        for file in sorted((whole / "scores").glob("*.parquet")):
            there = pq.read_table(folder / "scores" / file.name)
            assert there.equals(pq.read_table(file)), f"{file.name}, stopped at {stop}"
        one, other = (json.loads((f / "result.json").read_text()) for f in (whole, folder))
        assert one["curve"][-1]["groups"] == other["curve"][-1]["groups"]


def test_every_signal_is_measured_when_it_is_named(tiny_model: Path, tmp_path: Path) -> None:
    names = [name for name in SIGNALS if name != "difficulty"]  # the preset states none
    strategy = Asks(*names, reference=str(tiny_model))
    ActiveRun(config(tiny_model), strategy=strategy).run(tmp_path / "run")
    context = strategy.contexts[-1]
    for name in names:
        if name in VECTORS:
            vectors = context.vectors(name)
            assert vectors.shape[0] == 80
            assert np.isfinite(vectors).all()  # train set and candidates are the whole pool
        else:
            assert np.isfinite(context.latest(name)[context.train]).all(), name
    length = context.latest("length")
    assert np.isfinite(length).all()
    # no round measured the other signals of a candidate, so its group answers for it
    assert np.isnan(context.latest("loss")[context.candidates]).all()
    trained = context.groups[context.train]
    place = np.flatnonzero(context.groups[context.candidates] == trained[0])[0]
    mean = context.latest("loss")[context.train[trained == trained[0]]].mean()
    assert context.scores("loss")[place] == pytest.approx(mean)


def test_a_reference_model_is_asked_once_per_example(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    real = LiveScorer.reference_loss

    def note(self: LiveScorer, items: Any, device: Any) -> Any:
        asked.extend(item.index for item in items)
        return real(self, items, device)

    monkeypatch.setattr(LiveScorer, "reference_loss", note)
    strategy = Asks("reference_loss", reference=str(tiny_model))
    ActiveRun(config(tiny_model), strategy=strategy).run(tmp_path / "run")
    assert len(asked) == len(set(asked)) == 40
    table = pq.read_table(tmp_path / "run" / "scores" / "round-00001.parquet")
    assert table["reference_loss"].null_count == 0


def test_a_missing_reference_model_is_named(tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(StrategyError, match="'reference_loss' needs a reference model"):
        ActiveRun(config(tiny_model), strategy=Asks("reference_loss")).run(tmp_path / "run")


def test_candidates_are_scored_themselves_on_demand(tiny_model: Path, tmp_path: Path) -> None:
    strategy = Asks("loss")
    scoring = ScoringConfig(samples=1, max_new_tokens=4, candidates=30)
    ActiveRun(config(tiny_model, scoring=scoring), strategy=strategy).run(tmp_path / "run")
    first = strategy.contexts[0]
    own = np.isfinite(first.latest("loss")[first.candidates])
    assert own.sum() == 30
    np.testing.assert_array_equal(
        first.scores("loss")[own], first.latest("loss")[first.candidates[own]]
    )
    assert np.isfinite(first.scores("loss")).all()


def test_how_often_is_scored_changes_no_draw(tiny_model: Path, tmp_path: Path) -> None:
    """Random selection is the same in studies with other scoring schedules."""
    groups = []
    for every in (1, 2):
        rounds = RoundsConfig(budgets=(12, 24, 40), score_every=every)
        result = ActiveRun(config(tiny_model, rounds=rounds)).run(tmp_path / str(every))
        groups.append([entry["groups"] for entry in result.curve])
    assert groups[0] == groups[1]


def test_what_is_no_selection_is_refused_by_name(tiny_model: Path, tmp_path: Path) -> None:
    class Lists(Strategy):
        name = "lists"

        def select(self, *_: Any) -> Selection:
            return [1, 2]  # type: ignore[return-value]

    with pytest.raises(StrategyError, match="'lists' must return a Selection; received list"):
        ActiveRun(config(tiny_model), strategy=Lists()).run(tmp_path / "run")


def test_candidates_may_be_judged_by_the_nearest_embeddings(
    tiny_model: Path, tmp_path: Path
) -> None:
    rounds = RoundsConfig(budgets=(12, 24), near="embedding")
    strategy = Asks("loss")
    ActiveRun(config(tiny_model, rounds=rounds), strategy=strategy).run(tmp_path / "run")
    context = strategy.contexts[-1]
    vectors, loss = context.vectors("embedding"), context.latest("loss")
    rows = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    cosine = rows[context.candidates] @ rows[context.train].T
    assert len(context.train) == 12  # fewer than the 16 that count as near: all of them do
    np.testing.assert_allclose(context.scores("loss"), loss[context.train].mean(), rtol=1e-6)
    spread = context.near.spread(np.eye(12)[3])  # type: ignore[attr-defined]
    assert set(np.flatnonzero(spread)) == set(np.argsort(cosine[:, 3])[-16:])


def test_reweighting_embeds_nothing_for_neighbours(tiny_model: Path, tmp_path: Path) -> None:
    rounds = RoundsConfig(mode="reweight", budgets=(12,), near="embedding")
    strategy = Asks("loss")
    ActiveRun(config(tiny_model, rounds=rounds), strategy=strategy).run(tmp_path / "run")
    assert not strategy.contexts[-1].vector_signals


def test_regions_are_groups_and_a_resumed_run_has_the_same(
    tiny_model: Path, tmp_path: Path
) -> None:
    rounds = RoundsConfig(budgets=(12, 24), regions=5, near="group")
    settings = config(tiny_model, rounds=rounds)
    first, second = ActiveRun(settings), ActiveRun(settings)
    assert len(first.data.pool.group_names) == 5
    assert first.data.pool.group_names == second.data.pool.group_names
    np.testing.assert_array_equal(first.data.pool.groups, second.data.pool.groups)
    strategy = Asks("loss")
    run = ActiveRun(settings, strategy=strategy).run(tmp_path / "run")
    context = strategy.contexts[-1]
    assert context.group_names == first.data.pool.group_names
    assert isinstance(context.near, GroupNeighbourhood)
    assert set(run.curve[-1]["groups"]) <= set(context.group_names)
    plain = ActiveRun(config(tiny_model))
    assert plain.data.pool.fingerprint == first.data.pool.fingerprint


def test_the_difficulty_of_the_data_is_shown_or_missed_by_name(
    tiny_model: Path, tmp_path: Path
) -> None:
    rows = [
        {"question": f"what is {i} + 2 ?", "answer": f"{i} + 2 = {i + 2}\n" * (1 + i % 3)}
        for i in range(20)
    ]
    for i, row in enumerate(rows):
        row["answer"] += f"#### {i + 2}"
    file = tmp_path / "train.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    rounds = RoundsConfig(budgets=(4, 8))
    settings = config(tiny_model, rounds=rounds, data=DataConfig(str(file), test="none"))
    strategy = Asks("difficulty")
    ActiveRun(settings, strategy=strategy).run(tmp_path / "run")
    assert strategy.contexts[-1].latest("difficulty").tolist() == [1 + i % 3 for i in range(20)]
    with pytest.raises(StrategyError, match=r"states none; name a column.*data.difficulty"):
        ActiveRun(config(tiny_model, strategy="difficulty")).run(tmp_path / "none")
