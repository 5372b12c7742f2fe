"""Guards on sampled answers: reliability against simulation, shares by hand, a stale sampler."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from activeselect.config import PromptConfig, ScoringConfig
from activeselect.data.answers import get_checker
from activeselect.data.pool import Pool
from activeselect.data.prompts import Encoded, encode
from activeselect.errors import ConfigError, ModelError
from activeselect.scoring.forward import token_log_probs
from activeselect.scoring.generate import generate
from activeselect.scoring.guards import count_answers, sampling_quality, sampling_reliability
from activeselect.scoring.scorer import LiveScorer, Scores, joined

CONFIG = ScoringConfig(samples=3, max_new_tokens=12, batch_tokens=400)


def draws(a: float, b: float, examples: int, samples: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.random((examples, samples)) < rng.beta(a, b, examples)[:, None]


@pytest.mark.parametrize("samples", [2, 5, 12])
@pytest.mark.parametrize(("a", "b"), [(0.5, 0.5), (2.0, 5.0)])
def test_reliability_is_the_share_of_true_variance(a: float, b: float, samples: int) -> None:
    true = a * b / ((a + b) ** 2 * (a + b + 1))
    noise = (a * b / ((a + b) * (a + b + 1))) / samples
    found = sampling_reliability(draws(a, b, 40_000, samples, seed=0))
    assert found == pytest.approx(true / (true + noise), abs=0.01)


def test_reliability_is_spearman_brown_of_two_halves() -> None:
    """The mean over all splits of six samples into three and three, and the prophecy of each."""
    values = draws(1.0, 1.0, 5000, 6, seed=1).astype(float)
    from itertools import combinations

    halves = []
    for left in combinations(range(6), 3):
        right = [i for i in range(6) if i not in left]
        one, two = values[:, list(left)].mean(axis=1), values[:, right].mean(axis=1)
        r = np.corrcoef(one, two)[0, 1]
        halves.append(2 * r / (1 + r))
    assert sampling_reliability(values) == pytest.approx(np.mean(halves), abs=0.005)


@pytest.mark.parametrize("values", [[[1, 0]], [[1], [0]], [[1, 1], [1, 1]], [[1, 0], [0, 1]]])
def test_reliability_without_differences_is_unknown(values: list[list[int]]) -> None:
    assert np.isnan(sampling_reliability(values))


def test_pure_chance_is_not_reliable() -> None:
    rng = np.random.default_rng(2)
    assert abs(sampling_reliability(rng.random((20_000, 5)) < 0.3)) < 0.05


def test_shares_count_both_ways_of_reading_an_answer() -> None:
    texts = [["#### 7", "so it is 7", "no idea"], ["#### 8", "it is 8", "#### 9 or 8"]]
    checker = get_checker("gsm8k")
    answers = ["7", "9"]
    correct = np.array(
        [[checker.check(t, a) for t in row] for row, a in zip(texts, answers, strict=True)]
    )
    counts = count_answers(checker, texts, answers, correct)
    assert counts == {"unanswered": 3, "unanswered_flexible": 1, "accuracy_flexible": 2}
    quality = sampling_quality(correct, 3, counts)
    assert quality["unanswered"] == 0.5
    assert quality["cut"] == 0.5
    assert quality["accuracy_flexible"] == pytest.approx(1 / 3)


def test_a_gap_is_an_error_with_its_size() -> None:
    correct = np.array([[True, False], [True, True]])
    tally = {"gap": 4.8, "compared": 16.0, "compared_in_16_bits": 16.0}
    assert sampling_quality(correct, 0, tally, largest_gap=0.31)["sampler_gap"] == 0.3
    with pytest.raises(ModelError, match=r"16 sampled tokens by 0.3 nats .* at most 0.2. .* stale"):
        sampling_quality(correct, 0, tally)
    few = {"gap": 3.7, "compared": 4.0, "compared_in_16_bits": 4.0}  # one unlikely token
    assert sampling_quality(correct, 0, few)["sampler_gap"] == 0.925
    with pytest.raises(ModelError, match="by nan nats"):
        sampling_quality(correct, 0, {**few, "gap": np.nan})
    exact = {"gap": 0.06, "compared": 2.0}
    with pytest.raises(ModelError, match=r"by 0.03 nats .* at most 0.02"):
        sampling_quality(correct, 0, exact)
    with pytest.raises(ModelError, match="by nan nats"):
        sampling_quality(correct, 0, {**exact, "gap": np.nan})
    assert sampling_quality(None, 0, {}) == {}
    with pytest.raises(ConfigError, match=r"scoring\.largest_gap: expected above 0"):
        ScoringConfig(largest_gap=0.0)


# --- in the scorer -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def items(pool: Pool, tokenizer: Any) -> list[Encoded]:
    return encode(pool, np.arange(len(pool)), tokenizer, PromptConfig("{question} ", "{trace}"))


def scored(
    model: Any,
    tokenizer: Any,
    pool: Pool,
    items: list[Encoded],
    engine: Any = generate,
    **changes: Any,
) -> Any:
    config = replace(CONFIG, **changes)
    scorer = LiveScorer(tokenizer, get_checker(pool.checker), config, seed=1, engine=engine)
    answers = [problem.answer for problem in pool]
    return scorer.score(model, items, answers, what=frozenset({"samples"}), round=0)


def quality_of(scores: Any, largest_gap: float | None = None) -> dict[str, float]:
    return sampling_quality(scores.correct, scores.truncated, scores.tally, largest_gap=largest_gap)


def test_a_scored_round_says_how_far_its_samples_can_be_trusted(
    model: Any, tokenizer: Any, pool: Pool, items: list[Encoded]
) -> None:
    quality = quality_of(scored(model, tokenizer, pool, items))
    assert quality.keys() == {
        "sampler_gap",
        "unanswered",
        "unanswered_flexible",
        "accuracy_flexible",
        "cut",
        "reliability",
    }
    assert 0 < quality["sampler_gap"] < 1e-4  # the same model, with and without cache and padding
    assert 0 < quality["cut"] < 1


def test_a_stale_sampler_is_an_error(
    model: Any,
    tokenizer: Any,
    pool: Pool,
    items: list[Encoded],
) -> None:
    stale = copy.deepcopy(model)
    with torch.no_grad():
        for weight in stale.parameters():
            weight.mul_(0.97)

    def engine(_: Any, *args: Any, **kwargs: Any) -> Any:
        return generate(stale, *args, **kwargs)

    scores = scored(model, tokenizer, pool, items, engine=engine)
    with pytest.raises(ModelError, match=r"disagree on \d+ sampled tokens by 0\.\d+ nats"):
        quality_of(scores)
    assert quality_of(scores, largest_gap=10.0)["sampler_gap"] > 0.02


def test_tallies_of_parts_add_up_and_survive_the_disk(
    model: Any, tokenizer: Any, pool: Pool, items: list[Encoded]
) -> None:
    scores = scored(model, tokenizer, pool, items)
    assert Scores.from_plain(json.loads(json.dumps(scores.to_plain()))).tally == scores.tally
    both = joined([scores, scores])
    assert both.tally["compared"] == 2 * scores.tally["compared"] > 0
    assert both.tally["unanswered"] == 2 * scores.tally["unanswered"]


def test_watched_log_probs_are_the_models(model: Any, tokenizer: Any, items: list[Encoded]) -> None:
    from activeselect.scoring.generate import stream_keys

    said: dict[int, list[float]] = {0: [], 3: [], 6: [9.0], 7: [], 10: []}
    rows = generate(
        model,
        [item.prompt for item in items[:6]],
        samples=2,
        temperature=0.7,
        top_p=0.9,
        max_new_tokens=9,
        keys=stream_keys(np.arange(6), 2, seed=0, round=0),
        end_tokens=[tokenizer.eos_token_id],
        pad_token=0,
        batch_tokens=200,
        log_probs=said,
    )
    for completion, found in said.items():
        i, sample = divmod(completion, 2)
        assert len(found) == len(rows[i][sample])
        expected = token_log_probs(model, items[i].prompt, rows[i][sample])
        np.testing.assert_allclose(found, expected, atol=1e-4)
