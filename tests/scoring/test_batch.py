"""Rows that join, wait and leave: nobody's tokens change, and the memory is never exceeded."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import LlamaConfig, LlamaForCausalLM

from activeselect.scoring.cache import closed_up
from activeselect.scoring.generate import generate, stream_keys

END, LONGEST = 1, 30


@pytest.fixture(scope="module")
def llama() -> Any:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=29,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        initializer_range=0.5,
        eos_token_id=END,
        pad_token_id=0,
    )
    return LlamaForCausalLM(config).eval()


class Watched:
    """Looks at every pass of a model: its rows, and what the cache holds after it."""

    def __init__(self, model: Any) -> None:
        self.held: list[int] = []
        self.rows: list[int] = []
        self.tokens_read = self.texts_read = 0
        self._hook = model.register_forward_hook(self._look, with_kwargs=True)

    def _look(self, _: Any, args: Any, given: dict[str, Any], out: Any) -> None:
        keys = given["past_key_values"].layers[0].keys
        self.held.append(keys.untyped_storage().nbytes() // (4 * keys.shape[1] * keys.shape[3]))
        if given["input_ids"].shape[1] == 1:
            self.rows.append(len(keys))
        elif "attention_mask" in given:
            self.texts_read += len(keys)
        if "attention_mask" in given:  # not a look at what the family can do
            self.tokens_read += int(
                given["attention_mask"][:, -given["input_ids"].shape[1] :].sum()
            )

    def __enter__(self) -> Watched:
        return self

    def __exit__(self, *_: object) -> None:
        self._hook.remove()


def complete(model: Any, lengths: list[int], **changes: Any) -> list[list[list[int]]]:
    rng = np.random.default_rng(len(lengths))
    settings: dict[str, Any] = {
        "samples": 3,
        "temperature": 1.0,
        "top_p": 0.95,
        "max_new_tokens": LONGEST,
        "end_tokens": [END],
        "pad_token": 0,
        "batch_tokens": 10**6,
        **changes,
    }
    return generate(
        model,
        [rng.integers(2, 29, size=n).astype(np.int32) for n in lengths],
        keys=stream_keys(np.arange(len(lengths)), settings["samples"], seed=0, round=0),
        **settings,
    )


@settings(max_examples=25)
@given(
    st.lists(st.integers(1, 25), min_size=1, max_size=25),
    st.integers(1, 3000),
    st.integers(1, 4),
)
def test_no_completion_depends_on_the_memory(
    llama: Any, lengths: list[int], memory: int, samples: int
) -> None:
    expected = complete(llama, lengths, samples=samples)
    with Watched(llama) as seen:
        assert complete(llama, lengths, samples=samples, batch_tokens=memory) == expected
    alone = samples * (max(lengths) + LONGEST)  # a prompt's samples run together whatever it is
    assert max(seen.held) <= max(memory, alone)


def test_rows_join_while_others_go_on(llama: Any) -> None:
    lengths = [10] * 60
    with Watched(llama) as seen:
        rows = complete(llama, lengths, samples=2, batch_tokens=600)
    new = sum(len(row) for some in rows for row in some) + 60 * 2
    assert seen.tokens_read >= 60 * 10
    busy = [n for n in seen.rows[: len(seen.rows) // 2] if n]
    assert min(busy) > max(busy) / 3  # no batch runs out before the next one begins
    assert len(seen.rows) < new / 6


def test_rows_that_had_to_wait_go_on_where_they_were(llama: Any) -> None:
    """Few texts outgrow the memory; those are read again, prompt and tokens so far."""
    lengths = [12] * 40 + [5] * 40
    expected = complete(llama, lengths, samples=4, max_new_tokens=100)
    with Watched(llama) as seen:
        rows = complete(llama, lengths, samples=4, max_new_tokens=100, batch_tokens=300)
    assert rows == expected
    assert seen.texts_read > len(lengths)
    assert max(seen.held) <= 300
    new = sum(len(row) for some in rows for row in some)
    assert seen.tokens_read <= 1.05 * (sum(lengths) + new)


@given(st.lists(st.booleans(), max_size=40))
def test_rows_close_up_by_moving_few(stays: list[bool]) -> None:
    mask = np.array(stays, dtype=bool)
    order = closed_up(mask)
    assert sorted(order.tolist()) == np.flatnonzero(mask).tolist()
    moved = order != np.arange(len(order))
    assert moved.sum() <= (~mask).sum()
    assert (order[moved] >= len(order)).all()  # so nothing is overwritten that is still needed


@pytest.mark.parametrize("in_place", [False, True])
def test_a_compiled_model_is_not_compiled_for_every_shape(llama: Any, in_place: bool) -> None:
    graphs = []

    def backend(graph: Any, inputs: Any) -> Any:
        graphs.append(graph)
        return graph.forward

    expected = complete(llama, [4, 7, 9])
    copy = LlamaForCausalLM(llama.config).eval()
    copy.load_state_dict(llama.state_dict())
    if in_place:
        copy.compile(backend=backend)
    compiled = copy if in_place else torch.compile(copy, backend=backend)
    assert complete(compiled, [4, 7, 9]) == expected
    assert not graphs
