"""Signals of a model's own answers against slow references, and on a real model."""

from __future__ import annotations

from dataclasses import replace
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from activeselect.config import PromptConfig, ScoringConfig
from activeselect.data.answers import get_checker
from activeselect.data.pool import Pool
from activeselect.data.prompts import Encoded, encode
from activeselect.scoring.generate import end_tokens_of, generate, stream_keys
from activeselect.scoring.own_answers import own_answer_signals
from activeselect.scoring.scorer import LiveScorer
from activeselect.scoring.signals import OF_SAMPLES

CONFIG = ScoringConfig(samples=3, max_new_tokens=12, keep_completions=3)


@pytest.fixture(scope="module")
def items(pool: Pool, tokenizer: Any) -> list[Encoded]:
    return encode(pool, np.arange(len(pool)), tokenizer, PromptConfig("{question} ", "{trace}"))


@given(answers=st.lists(st.one_of(st.none(), st.integers(0, 3)), min_size=1, max_size=9))
def test_signals_equal_a_comparison_of_all_pairs(
    answers: list[int | None], signals_reference: ModuleType
) -> None:
    written = [None if a is None else f"{a}.{'0' * (i % 3 + 1)}" for i, a in enumerate(answers)]
    found = own_answer_signals([written], lambda a, b: float(a) == float(b))
    wanted = signals_reference.own_answers(answers)
    assert {name: value[0] for name, value in found.items()} == pytest.approx(wanted, abs=1e-12)


def test_no_completion_is_no_measurement() -> None:
    found = own_answer_signals([[], ["1"]], str.__eq__)
    assert all(np.isnan(value[0]) and not np.isnan(value[1]) for value in found.values())


def test_a_model_is_asked_for_what_it_said(
    model: Any, tokenizer: Any, pool: Pool, items: list[Encoded], signals_reference: ModuleType
) -> None:
    """All four signals from the kept completions of a scoring pass, written out."""
    checker = get_checker(pool.checker)
    scorer = LiveScorer(tokenizer, checker, CONFIG)
    some = items[:4]
    scores = scorer.score(model, some, ["0"] * 4, what=OF_SAMPLES, round=0)
    other = scorer.score(model, some, ["7"] * 4, what=OF_SAMPLES, round=0)
    said: dict[int, list[float]] = {row: [] for row in range(12)}
    texts = scorer.complete(model, some, samples=3, round=0, log_probs=said)[0]
    assert scores.completions == tuple(map(tuple, texts))
    for i, row in enumerate(texts):
        given = [checker.extract(text) for text in row]
        wanted = signals_reference.own_answers(given)
        for name, value in wanted.items():
            assert scores.columns[name][i] == pytest.approx(value)
            assert other.columns[name][i] == scores.columns[name][i]  # whatever the answer is
    ids = generate(
        model,
        [item.prompt for item in some],  # together: a rounding may turn a draw
        samples=3,
        temperature=CONFIG.temperature,
        top_p=CONFIG.top_p,
        max_new_tokens=CONFIG.max_new_tokens,
        keys=stream_keys(scores.index, 3, seed=0, round=0),
        end_tokens=sorted(end_tokens_of(model, tokenizer, some)),
        pad_token=0,
        batch_tokens=CONFIG.batch_tokens,
    )[0]
    wanted = signals_reference.self_certainty(model, some[0].prompt, ids)
    assert scores.columns["self_certainty"][0] == pytest.approx(wanted, abs=1e-3)


def test_only_what_is_asked_for_is_kept(
    model: Any, tokenizer: Any, pool: Pool, items: list[Encoded]
) -> None:
    scorer = LiveScorer(
        tokenizer, get_checker(pool.checker), replace(CONFIG, samples=2, keep_completions=2)
    )
    what = frozenset({"samples", "own answers"})
    scores = scorer.score(model, items[:3], ["0"] * 3, what=what, round=0)
    assert set(scores.columns) == {"agreement", "answer_entropy", "unanswered"}
    rows = np.array([0, 2])
    part = scores.take(rows)
    whole = replace(scores, columns={}, correct=None).with_samples(rows, part, 2)
    assert np.isnan(whole.columns["agreement"]).tolist() == [False, True, False]
