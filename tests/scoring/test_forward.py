"""What one forward pass tells, against autograd and loops over tokens in double precision."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from activeselect.config import PromptConfig
from activeselect.data.pool import Pool
from activeselect.data.prompts import Encoded, encode
from activeselect.scoring.forward import embed_questions, target_statistics, without_question
from activeselect.scoring.generate import pad_token_of

ALL = frozenset({"nll", "el2n", "grand", "entropy", "hes"})


@pytest.fixture(scope="session")
def items(pool: Pool, tokenizer: Any) -> list[Encoded]:
    prompt = PromptConfig("{question} ", "{trace}")
    return encode(pool, np.arange(6), tokenizer, prompt)


@pytest.mark.parametrize("batch_tokens", [1, 150, 100_000])
def test_statistics_equal_autograd_and_loops(
    model: Any,
    tokenizer: Any,
    items: list[Encoded],
    signals_reference: ModuleType,
    batch_tokens: int,
) -> None:
    found = target_statistics(
        model,
        items,
        ALL,
        batch_tokens=batch_tokens,
        pad_token=pad_token_of(tokenizer),
        entropy_share=0.2,
    )
    assert found.keys() == ALL
    for row, item in enumerate(items):
        expected = signals_reference.token_statistics(model, item.ids, item.start, 0.2)
        for name, value in expected.items():
            assert found[name][row] == pytest.approx(value, rel=2e-4, abs=1e-5), name


def test_only_what_is_wanted_is_computed(model: Any, tokenizer: Any, items: list[Encoded]) -> None:
    calls = 0

    def count(_: Any, inputs: Any, given: dict[str, Any]) -> None:
        nonlocal calls
        calls += given["input_ids"].shape != (1, 2)  # two tokens are a trial

    hook = model.register_forward_pre_hook(count, with_kwargs=True)
    try:
        for want in ({"nll"}, {"hes", "grand"}, ALL):
            calls = 0
            found = target_statistics(
                model, items, frozenset(want), batch_tokens=100_000, pad_token=0
            )
            assert found.keys() == want
            assert calls == 1  # one pass for all of them
    finally:
        hook.remove()
    assert not model.get_output_embeddings()._forward_pre_hooks


def test_the_trace_alone_keeps_its_tokens(items: list[Encoded]) -> None:
    for item, alone in zip(items, without_question(items, 7), strict=True):
        assert alone.ids[0] == 7
        assert alone.start == 1
        assert alone.ids[1:].tolist() == item.ids[item.start :].tolist()
        assert alone.index == item.index


@torch.inference_mode()
@pytest.mark.parametrize("batch_tokens", [1, 60, 100_000])
def test_embeddings_are_means_over_the_question_alone(
    model: Any, items: list[Encoded], batch_tokens: int
) -> None:
    found = embed_questions(model, items, batch_tokens=batch_tokens, pad_token=0)
    assert found.dtype == np.float32
    for row, item in zip(found, items, strict=True):
        ids = torch.from_numpy(item.prompt.astype(np.int64))[None]
        hidden = model(input_ids=ids, output_hidden_states=True).hidden_states[-1][0]
        np.testing.assert_allclose(row, hidden.mean(dim=0).numpy(), rtol=1e-4, atol=1e-5)
    assert embed_questions(model, [], batch_tokens=10, pad_token=0).shape == (0, 0)
