"""Sampled completions have the distribution of ``transformers.generate``.

Two samples of completions, ours and theirs, are compared by chi-square tests of homogeneity. Each
test alarms with probability 1e-4 where the distributions are the same, so one run of this file
alarms falsely at most once in a thousand; the seeds are fixed, so that it does not come and go.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from transformers import LlamaConfig, LlamaForCausalLM

from activeselect.scoring.generate import generate, stream_keys

VOCABULARY, PAD, END, LONGEST, SAMPLES = 70, 0, 1, 7, 8000
ALARM = 1e-4
TEMPERATURE, TOP_P = 1.2, 0.9
PROMPTS = [np.array([5, 3, 8, 2, 11], np.int32), np.array([4, 9], np.int32)]
Rows = list[list[int]]
#: What is compared of a completion.
VIEWS: dict[str, Callable[[list[int]], tuple[int, ...]]] = {
    "first token": lambda row: tuple(row[:1]),
    "length": lambda row: (len(row),),
    "first three tokens": lambda row: tuple(row[:3]),
    "last token and length": lambda row: (*row[-1:], len(row)),
}


@pytest.fixture(scope="module")
def llama() -> Any:
    torch.manual_seed(3)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        initializer_range=0.4,
        eos_token_id=END,
        pad_token_id=PAD,
    )
    return LlamaForCausalLM(config).eval()


def up_to_end(row: list[int]) -> list[int]:
    return row[: row.index(END)] if END in row else row


@pytest.fixture(scope="module")
def theirs(llama: Any) -> list[Rows]:
    """Completions of each prompt by transformers; the shorter prompt is padded."""
    torch.manual_seed(0)
    ids = torch.tensor([PROMPTS[0].tolist(), [PAD] * 3 + PROMPTS[1].tolist()])
    out = llama.generate(
        ids,
        attention_mask=(torch.arange(5) >= torch.tensor([[0], [3]])).long(),
        do_sample=True,
        num_return_sequences=SAMPLES,
        temperature=TEMPERATURE,
        top_p=TOP_P,
        top_k=0,
        max_new_tokens=LONGEST,
    )
    rows = [up_to_end(row) for row in out[:, 5:].tolist()]
    return [rows[:SAMPLES], rows[SAMPLES:]]


def ours(model: Any, *, top_p: float = TOP_P, temperature: float = TEMPERATURE) -> list[Rows]:
    """Each prompt many times over, so that rows wait, join and leave."""
    times = SAMPLES // 5
    prompts = PROMPTS * times
    keys = stream_keys(np.arange(len(prompts)), 5, seed=1, round=0)
    found = generate(
        model,
        prompts,
        samples=5,
        temperature=temperature,
        top_p=top_p,
        max_new_tokens=LONGEST,
        keys=keys,
        end_tokens=[END],
        pad_token=PAD,
        batch_tokens=20_000,
    )
    return [[row for some in found[i :: len(PROMPTS)] for row in some] for i in range(2)]


def p_value(one: Rows, other: Rows, view: Callable[[list[int]], tuple[int, ...]]) -> float:
    """Of the hypothesis that both come from one distribution; rare outcomes count together."""
    views = [view(row) for row in [*one, *other]]
    outcomes = {outcome: i for i, outcome in enumerate(sorted(set(views)))}
    side = np.arange(len(views)) >= len(one)
    counts = np.zeros((2, len(outcomes)))
    np.add.at(counts, (side.astype(int), [outcomes[v] for v in views]), 1)
    rare = counts.sum(axis=0) < 20
    table = np.column_stack([counts[:, ~rare], counts[:, rare].sum(axis=1)])
    table = table[:, table.sum(axis=0) > 0]
    return float(stats.chi2_contingency(table, correction=False).pvalue)


def p_values(one: Sequence[Rows], other: Sequence[Rows]) -> dict[str, float]:
    return {
        f"{name}, prompt {i}": p_value(one[i], other[i], view)
        for name, view in VIEWS.items()
        for i in range(len(PROMPTS))
    }


def test_completions_are_distributed_as_those_of_transformers(
    llama: Any, theirs: list[Rows]
) -> None:
    found = ours(llama)
    assert len({tuple(row) for row in found[0]}) > 500
    assert len({len(row) for row in found[0]}) == LONGEST + 1
    assert min(p_values(found, theirs).values()) > ALARM


@pytest.mark.parametrize(
    "change", [{"top_p": 0.87}, {"top_p": 0.93}, {"temperature": 1.1}, {"temperature": 1.3}]
)
def test_a_small_difference_is_noticed(
    llama: Any, theirs: list[Rows], change: dict[str, float]
) -> None:
    assert min(p_values(ours(llama, **change), theirs).values()) < ALARM


def test_a_wrong_end_is_noticed(llama: Any, theirs: list[Rows]) -> None:
    """One completion in twenty that loses its last token."""
    found = ours(llama)
    spoiled = [[row[: -1 if i % 20 == 0 else None] for i, row in enumerate(rows)] for rows in found]
    assert min(p_values(spoiled, theirs).values()) < ALARM
