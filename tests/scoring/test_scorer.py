"""The live scorer: likelihoods to the digit, counts that add up, and a model left as it was."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from activeselect.config import PromptConfig, ScoringConfig
from activeselect.data.answers import AnswerChecker, get_checker
from activeselect.data.pool import Pool
from activeselect.data.prompts import Encoded, encode
from activeselect.errors import StrategyError
from activeselect.scoring.generate import before_stop, end_tokens_of, generate, pad_token_of
from activeselect.scoring.scorer import LiveScorer, evaluating
from activeselect.scoring.signals import measurements

CONFIG = ScoringConfig(samples=3, max_new_tokens=8, batch_tokens=300, keep_completions=2)
BOTH = frozenset({"samples", "nll"})


class Recorder(AnswerChecker):
    """Calls a completion right if it has an even number of words; remembers what it was shown."""

    name = "recorder"

    def __init__(self) -> None:
        self.seen: list[tuple[str, str]] = []

    def extract(self, text: str) -> str | None:
        return text

    def render(self, answer: str) -> str:
        return answer

    def check(self, completion: str, answer: str) -> bool:
        self.seen.append((completion, answer))
        return len(completion.split()) % 2 == 0


@pytest.fixture(scope="session")
def items(pool: Pool, tokenizer: Any) -> list[Encoded]:
    return encode(pool, np.arange(len(pool)), tokenizer, PromptConfig("{question} ", "{trace}"))


@pytest.fixture
def scorer(tokenizer: Any) -> LiveScorer:
    return LiveScorer(tokenizer, Recorder(), CONFIG, seed=1)


def answers_of(items: list[Encoded]) -> list[str]:
    return [f"answer {item.index}" for item in items]


@torch.inference_mode()
def slow_nll(model: Any, item: Encoded) -> float:
    """One example, one token at a time, in double precision, without cache or padding."""
    total = 0.0
    for position in range(item.start, len(item.ids)):
        before = torch.from_numpy(item.ids[:position].astype(np.int64))[None]
        logits = model(input_ids=before).logits[0, -1].double()
        total -= float(torch.log_softmax(logits, dim=-1)[int(item.ids[position])])
    return total


@pytest.mark.parametrize("batch_tokens", [1, 120, 100_000])
def test_nll_equals_a_loop_over_tokens(
    model: Any, tokenizer: Any, items: list[Encoded], batch_tokens: int
) -> None:
    config = replace(CONFIG, batch_tokens=batch_tokens)
    scorer = LiveScorer(tokenizer, Recorder(), config)
    nll, tokens = scorer.target_nll(model, items[:8])
    expected = [slow_nll(model, item) for item in items[:8]]
    np.testing.assert_allclose(nll / tokens, np.array(expected) / tokens, atol=1e-4)
    assert tokens.tolist() == [len(item.ids) - item.start for item in items[:8]]
    assert nll.dtype == np.float64
    assert tokens.dtype == np.int64


def test_nll_ignores_the_prompt_and_counts_the_end_token(model: Any, scorer: LiveScorer) -> None:
    item = Encoded(0, np.array([5, 6, 7, 8, 1], np.int32), 4)
    nll, tokens = scorer.target_nll(model, [item])
    assert tokens.tolist() == [1]
    assert nll[0] == pytest.approx(slow_nll(model, item), abs=1e-4)


def test_scores_have_the_shapes_they_promise(
    model: Any, scorer: LiveScorer, items: list[Encoded]
) -> None:
    some = items[5:0:-1]
    scores = scorer.score(model, some, answers_of(some), what=BOTH, round=0)
    assert scores.index.tolist() == [5, 4, 3, 2, 1]
    assert scores.correct is not None
    assert scores.correct.shape == (5, 3)
    assert scores.correct.dtype == bool
    assert scores.completions is not None
    assert [len(row) for row in scores.completions] == [2] * 5
    assert scores.seconds > 0


def test_completions_meet_their_own_answer_and_verdict(
    model: Any, scorer: LiveScorer, items: list[Encoded]
) -> None:
    scores = scorer.score(model, items[:6], answers_of(items[:6]), what=BOTH, round=0)
    checker = scorer.checker
    assert isinstance(checker, Recorder)
    assert [answer for _, answer in checker.seen] == [f"answer {i // 3}" for i in range(18)]
    assert scores.correct is not None
    assert scores.completions is not None
    verdicts = [len(text.split()) % 2 == 0 for text, _ in checker.seen]
    assert scores.correct.ravel().tolist() == verdicts
    kept = [text for row in scores.completions for text in row]
    assert kept == [text for i, (text, _) in enumerate(checker.seen) if i % 3 < 2]


@pytest.mark.parametrize("what", ["samples", "nll"])
def test_nothing_else_is_measured(
    model: Any, scorer: LiveScorer, items: list[Encoded], what: str
) -> None:
    scores = scorer.score(model, items[:2], answers_of(items[:2]), what=frozenset({what}), round=0)
    assert (scores.correct is None) == (what == "nll")
    assert (scores.completions is None) == (what == "nll")
    assert (scores.nll_sum is None) == (what == "samples")
    assert (scores.tokens is None) == (what == "samples")
    assert bool(scores.tokens_generated) == (what == "samples")


def test_counts_of_tokens_and_cuts_add_up(model: Any, tokenizer: Any, items: list[Encoded]) -> None:
    made: list[list[int]] = []

    def spy(*args: Any, **kwargs: Any) -> list[list[list[int]]]:
        ids = generate(*args, **kwargs)
        made.extend(row for rows in ids for row in rows)
        return ids

    scorer = LiveScorer(tokenizer, Recorder(), CONFIG, engine=spy)
    scores = scorer.score(model, items, answers_of(items), what=BOTH, round=0)
    cut = sum(len(row) == CONFIG.max_new_tokens for row in made)
    assert 0 < cut < len(made), "the fixture should make both kinds of completions"
    assert scores.truncated == cut
    ended = len(made) - cut
    assert scores.tokens_generated == sum(map(len, made)) + ended  # each end token was generated


def test_a_completion_cut_by_the_context_counts_as_cut(model: Any, tokenizer: Any) -> None:
    """The model cannot write on, so it is no answer that ended by itself."""
    context = model.config.max_position_embeddings
    ids = np.full(context, 5, np.int32)
    ids[-1] = tokenizer.eos_token_id
    item = Encoded(0, ids, context - 3)
    scorer = LiveScorer(tokenizer, Recorder(), replace(CONFIG, samples=20, keep_completions=0))
    texts, generated, cut = scorer.complete(model, [item], samples=20, round=0)
    words = [len(text.split()) for text in texts[0]]
    assert max(words) <= 3
    assert cut > 0
    assert generated <= 60


def test_completions_depend_on_seed_round_and_example_alone(
    model: Any, tokenizer: Any, items: list[Encoded]
) -> None:
    def texts(part: list[Encoded], *, seed: int = 1, round: int = 0) -> list[list[str]]:
        scorer = LiveScorer(tokenizer, Recorder(), CONFIG, seed=seed)
        return scorer.complete(model, part, samples=3, round=round)[0]

    whole = texts(items)
    assert texts(items) == whole
    assert texts(items[7:3:-1]) == whole[7:3:-1]
    assert texts(items, seed=2) != whole
    assert texts(items, round=1) != whole


def test_evaluation_is_greedy_and_aligned(model: Any, tokenizer: Any, items: list[Encoded]) -> None:
    scorer = LiveScorer(tokenizer, Recorder(), CONFIG, seed=1)
    other = LiveScorer(tokenizer, Recorder(), replace(CONFIG, batch_tokens=1), seed=2)
    found = scorer.evaluate(model, items, answers_of(items))
    again = other.evaluate(model, items, answers_of(items))
    assert found.correct is not None
    assert found.correct.shape == (len(items), 1)
    np.testing.assert_array_equal(found.correct, again.correct)
    assert found.tokens_generated == again.tokens_generated > 0
    assert isinstance(scorer.checker, Recorder)
    assert [answer for _, answer in scorer.checker.seen] == answers_of(items)


@pytest.mark.parametrize("what", [BOTH, frozenset({"samples"}), frozenset({"nll"})])
def test_nothing_to_score_is_no_error(model: Any, scorer: LiveScorer, what: frozenset[str]) -> None:
    scores = scorer.score(model, [], [], what=what, round=0)
    assert scores.index.shape == (0,)
    assert scores.tokens_generated == scores.truncated == 0
    assert scorer.evaluate(model, [], []).correct.shape == (0, 1)


def test_problems_without_an_answer_each_are_refused(
    model: Any, scorer: LiveScorer, items: list[Encoded]
) -> None:
    with pytest.raises(ValueError, match="zip"):
        scorer.score(model, items[:2], ["1"], what=BOTH, round=0)


def test_every_submodule_is_left_in_its_mode(tiny_model: Path, scorer: LiveScorer) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    model.train()
    frozen = model.model.layers[0]
    frozen.eval()
    modes = {name: module.training for name, module in model.named_modules()}
    with evaluating(model):
        assert not any(module.training for module in model.modules())
    assert {name: module.training for name, module in model.named_modules()} == modes
    with pytest.raises(RuntimeError, match="stop"), evaluating(model):
        raise RuntimeError("stop")
    assert {name: module.training for name, module in model.named_modules()} == modes


def test_scoring_leaves_weights_gradients_and_random_state_alone(
    tiny_model: Path, tokenizer: Any, items: list[Encoded]
) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny_model).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    scorer = LiveScorer(tokenizer, Recorder(), CONFIG)
    scorer.score(model, items[:3], answers_of(items[:3]), what=BOTH, round=0)
    assert torch.rand(1) == expected
    assert model.training
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    model(input_ids=torch.tensor([[5, 6]])).logits.sum().backward()  # still trainable


def test_all_configured_end_tokens_end(tiny_model: Path, tokenizer: Any) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    end = tokenizer.eos_token_id
    model.generation_config.eos_token_id = [7, 9]
    assert end_tokens_of(model, tokenizer, []) == {7, 9, end}
    other = Encoded(0, np.array([5, 6, 3], np.int32), 1)  # a chat's end of message
    assert end_tokens_of(model, tokenizer, [other]) == {7, 9, end, 3}
    model.generation_config.eos_token_id = None
    assert end_tokens_of(model, tokenizer, []) == {end}
    model.generation_config = None
    assert end_tokens_of(model, tokenizer, []) == {end}


def test_stop_texts_end_completions_and_change_nothing_before_them(
    model: Any, tokenizer: Any, items: list[Encoded]
) -> None:
    config = replace(CONFIG, max_new_tokens=40)
    free = LiveScorer(tokenizer, Recorder(), config, seed=1)
    texts, generated, cut = free.complete(model, items, samples=3, round=0)
    words = [word for row in texts for text in row for word in text.split()[5:]]
    stop = tuple(sorted(set(words), key=words.count)[-2:])
    ended = LiveScorer(tokenizer, Recorder(), config, seed=1, stop=stop)
    shorter, fewer, less = ended.complete(model, items, samples=3, round=0)
    assert shorter == [[before_stop(text, stop) for text in row] for row in texts]
    assert (
        sum(
            a != b
            for old, new in zip(texts, shorter, strict=True)
            for a, b in zip(old, new, strict=True)
        )
        > 5
    )
    assert fewer < generated
    assert 0 < less < cut


def test_a_tokenizer_without_padding_pads_with_its_end_token() -> None:
    class Tokenizer:
        pad_token_id: int | None = None
        eos_token_id = 7

    assert pad_token_of(Tokenizer()) == 7
    padded = Tokenizer()
    padded.pad_token_id = 0  # 0 is a token, not the absence of one
    assert pad_token_of(padded) == 0


def test_measurements_are_the_union_of_what_the_signals_need() -> None:
    assert measurements([]) == frozenset()
    assert measurements(["accuracy"]) == {"samples"}
    assert measurements(["mean_nll"]) == {"nll"}
    assert measurements(["mean_nll", "accuracy"]) == measurements(["premem"]) == BOTH


def test_an_unknown_signal_is_named() -> None:
    with pytest.raises(StrategyError, match=r"no signal 'premm'. Did you mean 'premem'\?"):
        measurements(["accuracy", "premm"])


def test_the_right_text_is_recognised(tokenizer: Any, pool: Pool) -> None:
    """The reference trace, through the tokenizer and back, is a right answer."""
    scorer = LiveScorer(tokenizer, get_checker(pool.checker), CONFIG)
    texts = [
        [tokenizer.decode(tokenizer(problem.trace)["input_ids"], skip_special_tokens=True)]
        for problem in pool
    ]
    assert scorer.check(texts, [problem.answer for problem in pool]).all()
