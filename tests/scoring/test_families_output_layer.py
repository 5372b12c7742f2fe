"""Logits of target tokens alone, in batches, against all logits of each text alone."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st

from activeselect.data.prompts import Encoded
from activeselect.scoring.families import probe_output_layer, replaced
from activeselect.scoring.forward import target_statistics

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
WINDOW = {**LLAMA, "sliding_window": 5, "head_dim": 8, "query_pre_attn_scalar": 8}
LONG_ROPE = {
    "rope_type": "longrope",
    "rope_theta": 1e4,
    "short_factor": [1.0, 1.5],
    "long_factor": [3.0, 9.0],
    "original_max_position_embeddings": 16,
}
WANT = frozenset({"nll", "entropy", "hes"})
SMALL = {"vocab_size": WORDS, "hidden_size": 16, "n_layer": 2, "n_head": 4}

#: Config class, settings; may the output layer be asked for less, and is it the last?
FAMILIES: dict[str, tuple[str, dict[str, Any], tuple[bool, bool]]] = {
    "llama": ("LlamaConfig", LLAMA, (True, True)),
    "gpt2": ("GPT2Config", {**SMALL, "n_positions": 64}, (True, True)),
    "phi (biased)": ("PhiConfig", {**LLAMA, "num_key_value_heads": 4}, (True, True)),
    "mistral (window)": ("MistralConfig", WINDOW, (True, True)),
    "gemma2 (capped)": (
        "Gemma2Config",
        {**WINDOW, "tie_word_embeddings": True, "final_logit_softcapping": 0.5},
        (True, False),
    ),
    "granite (scaled)": ("GraniteConfig", {**LLAMA, "logits_scaling": 4.0}, (True, False)),
    "phi3 (LongRoPE)": (
        "Phi3Config",
        {**LLAMA, "original_max_position_embeddings": 16, "rope_parameters": LONG_ROPE},
        (True, True),
    ),
    "lfm2 (convolution)": (
        "Lfm2Config",
        {**LLAMA, "layer_types": ["conv", "full_attention"]},
        (True, True),
    ),
    "bloom (no positions)": ("BloomConfig", SMALL, (True, True)),
    "mamba (state space)": (
        "MambaConfig",
        {"vocab_size": WORDS, "hidden_size": 16, "num_hidden_layers": 2, "state_size": 4},
        (True, True),
    ),
}


@cache
def model_of(family: str) -> Any:
    config_class, settings_, _ = FAMILIES[family]
    torch.manual_seed(0)
    config = getattr(transformers, config_class)(**settings_)
    return transformers.AutoModelForCausalLM.from_config(config).eval()


@torch.inference_mode()
def alone(model: Any, item: Encoded) -> dict[str, float]:
    """Loss and entropy by definition, from all logits of one text."""
    ids = torch.from_numpy(item.ids.astype(np.int64))
    logits = model(input_ids=ids[None]).logits[0, item.start - 1 : -1].double()
    log_p = torch.log(torch.softmax(logits, dim=-1))
    nll = -sum(float(row[word]) for row, word in zip(log_p, ids[item.start :], strict=True))
    entropy = [-float((row.exp() * row).sum()) for row in log_p]
    return {"nll": nll, "entropy": sum(entropy) / len(entropy), "hes": max(entropy)}


def assert_as_alone(model: Any, items: list[Encoded], batch_tokens: int) -> None:
    last_layer = model.get_output_embeddings()
    want = WANT if last_layer is None else WANT | {"el2n", "grand"}
    found = target_statistics(model, items, want, batch_tokens=batch_tokens, pad_token=0)
    for row, item in enumerate(items):
        for name, value in alone(model, item).items():
            assert found[name][row] == pytest.approx(value, rel=1e-5, abs=1e-5), name
        single = target_statistics(model, [item], want, batch_tokens=1, pad_token=0)
        for name in want:
            assert found[name][row] == pytest.approx(single[name][0], rel=1e-4, abs=1e-5), name


shapes = st.lists(st.tuples(st.integers(1, 25), st.integers(1, 25)), min_size=1, max_size=6)


def items_of(lengths: list[tuple[int, int]], seed: int = 0) -> list[Encoded]:
    rng = np.random.default_rng(seed)
    return [
        Encoded(i, rng.integers(1, WORDS, prompt + target).astype(np.int32), prompt)
        for i, (prompt, target) in enumerate(lengths)
    ]


@pytest.mark.parametrize("family", FAMILIES)
@settings(max_examples=6)
@given(shapes, st.integers(0, 1000), st.sampled_from([1, 100, 16_384]))
def test_a_batch_tells_what_each_text_alone_tells(
    family: str, lengths: list[tuple[int, int]], seed: int, batch_tokens: int
) -> None:
    assert_as_alone(model_of(family), items_of(lengths, seed), batch_tokens)


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_known_of_a_family(family: str) -> None:
    assert probe_output_layer(model_of(family)) == FAMILIES[family][2]


def test_a_model_without_a_known_output_layer_makes_all_logits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = model_of("llama")
    monkeypatch.setattr(model, "get_output_embeddings", lambda: None)
    assert_as_alone(model, items_of([(9, 8), (4, 11), (12, 3)]), 100)


@pytest.mark.parametrize("family", ["llama", "granite (scaled)"])
def test_only_targets_have_logits(family: str) -> None:
    """The prompt's 40 tokens never reach the output layer's product, one position aside."""
    model, made = model_of(family), []
    layer = model.get_output_embeddings()
    plain = layer.forward

    def counted(hidden: torch.Tensor) -> torch.Tensor:
        made.append(hidden.shape[1])
        result: torch.Tensor = plain(hidden)
        return result

    with replaced(layer, counted):
        target_statistics(model, items_of([(20, 3), (20, 4)]), WANT, batch_tokens=100, pad_token=0)
    assert 7 <= sum(made) <= 9  # the trial and, where it is the last, its answer: one each


def test_a_replaced_layer_comes_back_with_what_it_had() -> None:
    layer = torch.nn.Linear(2, 2)
    with replaced(layer, lambda x: x + 1):
        assert float(layer(torch.zeros(1))) == 1
        with replaced(layer, lambda x: x + 2):
            assert float(layer(torch.zeros(1))) == 2
        assert float(layer(torch.zeros(1))) == 1
    assert layer(torch.zeros(1, 2)).shape == (1, 2)
