"""Batches without padding: the loss and the gradient of examples that are read one at a time."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st

from activeselect.config import RecipeConfig
from activeselect.data.prompts import Encoded, collate, parts_by_length
from activeselect.training.adapt import adapt
from activeselect.training.step import BatchLoss, packed_attention, packed_inputs

WORDS = 50
LLAMA = {
    "vocab_size": WORDS,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "initializer_range": 0.3,
    "pad_token_id": 0,
}
GPT2 = {
    **{"vocab_size": WORDS, "n_embd": 16, "n_layer": 2, "n_head": 4, "n_positions": 64},
    **dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0),
    "initializer_range": 0.3,
}
SLIDING = {**LLAMA, "sliding_window": 5}
GEMMA = {**SLIDING, "head_dim": 8, "query_pre_attn_scalar": 8, "tie_word_embeddings": True}
MAMBA = {"vocab_size": WORDS, "hidden_size": 16, "num_hidden_layers": 2, "state_size": 4}
LONG_ROPE = {
    **LLAMA,
    "original_max_position_embeddings": 16,
    "rope_parameters": {
        "rope_type": "longrope",
        "rope_theta": 1e4,
        "short_factor": [1.0, 1.5],
        "long_factor": [3.0, 9.0],
        "original_max_position_embeddings": 16,
    },
}

#: Config class, settings, and what the reader can do with it: packs, fuses head and loss.
FAMILIES: dict[str, tuple[str, dict[str, Any], bool, bool]] = {
    "llama": ("LlamaConfig", LLAMA, True, True),
    "llama-tied": ("LlamaConfig", {**LLAMA, "tie_word_embeddings": True}, True, True),
    "qwen2": ("Qwen2Config", LLAMA, True, True),
    "qwen3": ("Qwen3Config", {**LLAMA, "head_dim": 8}, True, True),
    "gpt2": ("GPT2Config", GPT2, True, True),
    "phi (biased head)": ("PhiConfig", LLAMA, True, True),
    "mistral (window)": ("MistralConfig", SLIDING, True, True),
    "gemma2 (capped)": ("Gemma2Config", GEMMA, False, False),
    "gemma3 (window, in turns)": ("Gemma3TextConfig", GEMMA, True, True),
    "granite (scaled)": ("GraniteConfig", {**LLAMA, "logits_scaling": 4.0}, True, False),
    "mixtral (experts)": ("MixtralConfig", {**LLAMA, "num_local_experts": 4}, True, True),
    "phi3 (LongRoPE)": ("Phi3Config", LONG_ROPE, False, True),
    "lfm2 (convolution)": (
        "Lfm2Config",
        {**LLAMA, "layer_types": ["conv", "full_attention"]},
        False,
        True,
    ),
    "bloom (no positions)": (
        "BloomConfig",
        {"vocab_size": WORDS, "hidden_size": 16, "n_layer": 2, "n_head": 4},
        False,
        True,
    ),
    "mamba (state space)": ("MambaConfig", MAMBA, False, True),
}


@cache
def reader(family: str, **options: Any) -> BatchLoss:
    config_class, settings, _, _ = FAMILIES[family]
    torch.manual_seed(0)
    config = getattr(transformers, config_class)(**settings)
    return BatchLoss(transformers.AutoModelForCausalLM.from_config(config).train(), **options)


def items_of(shapes: list[tuple[int, int]], seed: int = 0) -> list[Encoded]:
    """Random texts of so many prompt and target tokens."""
    rng = np.random.default_rng(seed)
    return [
        Encoded(i, rng.integers(1, WORDS, prompt + target).astype(np.int32), prompt)
        for i, (prompt, target) in enumerate(shapes)
    ]


def gradient(model: Any) -> torch.Tensor:
    parts = [w.grad.flatten() for w in model.parameters() if w.grad is not None]
    return torch.cat(parts)


def step(read: BatchLoss, items: list[Encoded]) -> tuple[float, torch.Tensor]:
    """Mean loss of a batch, and its gradient."""
    read.model.zero_grad()
    total, count = read.loss(collate(items, 0))
    with read.attention():
        (total / count).backward()
    return total.item() / count, gradient(read.model)


def one_by_one(model: Any, items: list[Encoded]) -> tuple[list[float], torch.Tensor]:
    """Sum of the loss of each example alone by transformers, and the gradient of their mean."""
    model.zero_grad()
    count = sum(len(item.ids) - item.start for item in items)
    sums = []
    for item in items:
        batch = collate([item], 0)
        own = len(item.ids) - item.start
        nats = model(input_ids=batch["input_ids"], labels=batch["labels"], use_cache=False).loss
        (nats * own / count).backward()
        sums.append(nats.item() * own)
    return sums, gradient(model)


def assert_the_same(read: BatchLoss, items: list[Encoded]) -> None:
    sums, expected = one_by_one(read.model, items)
    count = sum(len(item.ids) - item.start for item in items)
    mean, found = step(read, items)
    assert mean == pytest.approx(sum(sums) / count, rel=1e-5)
    assert float((found - expected).norm() / expected.norm()) < 2e-5
    for item, nats in zip(items, sums, strict=True):
        total, _ = read.loss(collate([item], 0))
        assert total.item() == pytest.approx(nats, rel=1e-5, abs=1e-5)


shapes = st.lists(st.tuples(st.integers(1, 25), st.integers(1, 25)), min_size=1, max_size=6)


@pytest.mark.parametrize("family", FAMILIES)
@settings(max_examples=6)
@given(shapes, st.integers(0, 1000))
def test_a_step_is_that_of_single_examples(
    family: str, lengths: list[tuple[int, int]], seed: int
) -> None:
    assert_the_same(reader(family), items_of(lengths, seed))


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_known_of_a_family(family: str) -> None:
    _, _, packs, fuses = FAMILIES[family]
    assert (reader(family).packs, reader(family).fuses) == (packs, fuses)
    assert reader(family).model.training


@pytest.mark.parametrize("options", [{"pack": False}, {"pack": False, "at_once": True}])
@settings(max_examples=6)
@given(shapes, st.integers(0, 1000))
def test_so_it_is_without_packing(
    options: dict[str, bool], lengths: list[tuple[int, int]], seed: int
) -> None:
    assert_the_same(reader("gemma3 (window, in turns)", **options), items_of(lengths, seed))


@pytest.mark.parametrize("family", FAMILIES)
@settings(max_examples=4)
@given(
    st.lists(st.tuples(st.integers(1, 12), st.integers(1, 12)), min_size=2, max_size=4),
    st.data(),
)
def test_no_example_sees_another(
    family: str, lengths: list[tuple[int, int]], data: st.DataObject
) -> None:
    """The gradient at the other examples' inputs is exactly zero, whatever they are."""
    read = reader(family)
    items = items_of(lengths)
    own = data.draw(st.integers(0, len(items) - 1))
    batch = collate(items, 0)
    batch["labels"][[row for row in range(len(items)) if row != own]] = -100
    caught: list[torch.Tensor] = []

    def catch(module: Any, inputs: Any, output: torch.Tensor) -> torch.Tensor:
        caught.append(output.detach().requires_grad_())
        return caught[-1]

    hook = read.model.get_input_embeddings().register_forward_hook(catch)
    try:
        with read.attention():
            total, _ = read.loss(batch)
            total.backward()
    finally:
        hook.remove()
    reached = sum(
        int((row.grad.abs().sum(dim=-1) > 0).sum()) for row in caught if row.grad is not None
    )
    assert 0 < reached <= len(items[own].ids) - 1


def test_other_tokens_elsewhere_change_no_bit() -> None:
    read = reader("mistral (window)")
    items = items_of([(9, 8), (4, 11), (12, 3)])
    other = [*items_of([(9, 8)], seed=5), items[1], *items_of([(12, 3)], seed=6)]
    lengths = torch.tensor([len(item.ids) for item in items])
    found = []
    for some in (items, other):
        tokens = torch.from_numpy(np.concatenate([item.ids for item in some]).astype(np.int64))
        with packed_attention(read.model), torch.no_grad():
            logits = read.model(**packed_inputs(tokens, lengths), use_cache=False).logits
        found.append(logits[:, 17:32])
    assert torch.equal(*found)


def test_activations_computed_again_see_no_more() -> None:
    """Gradient checkpointing attends in the backward pass, when the forward pass is long over."""
    items = items_of([(9, 8), (4, 11), (12, 3)])
    _, expected = one_by_one(reader("llama").model, items)
    config = transformers.LlamaConfig(**LLAMA)
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(config).train()
    read = BatchLoss(adapt(model, RecipeConfig(gradient_checkpointing=True)))
    assert read.packs
    assert float((step(read, items)[1] - expected).norm() / expected.norm()) < 2e-5
    total, _ = read.loss(collate(items, 0))
    with pytest.raises(RuntimeError, match="mask"):  # outside, torch's own attention refuses
        total.backward()


@pytest.mark.parametrize("pack", [True, False])
def test_a_model_without_a_known_output_layer_makes_all_logits(
    monkeypatch: pytest.MonkeyPatch, pack: bool
) -> None:
    model = reader("qwen2").model
    monkeypatch.setattr(model, "get_output_embeddings", lambda: None)
    read = BatchLoss(model, pack=pack)
    assert (read.trims, read.fuses) == (False, False)
    assert_the_same(read, items_of([(9, 8), (4, 11), (12, 3)]))


def test_equal_batches_give_equal_bits() -> None:
    items = items_of([(9, 8), (4, 11), (12, 3)])
    first, second = (step(reader("llama"), items) for _ in range(2))
    assert first[0] == second[0]
    assert torch.equal(first[1], second[1])


def test_the_model_is_as_before_outside() -> None:
    read = reader("qwen2")
    step(read, items_of([(3, 4)]))
    assert read.model.config._attn_implementation == "sdpa"
    assert "forward" not in vars(read.head)


def test_a_model_that_reads_masks_in_its_own_way_is_not_packed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One that ignores the mask lets examples see each other: the trial has to notice."""
    from activeselect.training import step as packing

    def leaks(module: Any, query: Any, key: Any, value: Any, mask: Any, **options: Any) -> Any:
        return packing.sdpa_attention_forward(module, query, key, value, None, **options)

    transformers.AttentionInterface.register(packing._NAME, leaks)
    try:
        assert not packing.reads_packed(reader("llama").model)
    finally:
        transformers.AttentionInterface.register(packing._NAME, packing._attend)
    assert packing.reads_packed(reader("llama").model)


@given(
    st.lists(st.tuples(st.integers(1, 60), st.integers(0, 1)), min_size=1, max_size=30),
    st.integers(0, 100),
)
def test_parts_waste_little_and_mix_nothing(rows: list[tuple[int, int]], waste: int) -> None:
    lengths, kinds = map(list, zip(*rows, strict=True))
    parts = parts_by_length(lengths, kinds, waste)
    assert sorted(int(row) for part in parts for row in part) == list(range(len(rows)))
    for part in parts:
        assert len({kinds[row] for row in part}) == 1
        longest = max(lengths[row] for row in part)
        assert sum(longest - lengths[row] for row in part) <= waste
