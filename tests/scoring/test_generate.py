"""Batched generation: the tokens of transformers' own loop, and the frequencies of the softmax."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from activeselect.errors import ModelError
from activeselect.scoring.generate import draw, generate, longest_completions, stream_keys

VOCABULARY, CONTEXT, PAD, END = 29, 40, 0, 1
ENDS = [END, 7, 11, 13, 20]
_COMMON = {
    "vocab_size": VOCABULARY,
    "eos_token_id": END,
    "bos_token_id": None,
    "pad_token_id": PAD,
    "initializer_range": 0.5,
}
_LLAMA_LIKE = {
    **_COMMON,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": CONTEXT,
}
_NEOX = {name: v for name, v in _LLAMA_LIKE.items() if name != "num_key_value_heads"}
_GPT2 = {**_COMMON, "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": CONTEXT}
_SLIDING = {**_LLAMA_LIKE, "sliding_window": 4}  # shorter than the prompts
# the prompts and completions lie on both sides of the original context
_LONGROPE = {
    **_LLAMA_LIKE,
    "original_max_position_embeddings": 10,
    "rope_parameters": {
        "rope_type": "longrope",
        "rope_theta": 1e4,
        "short_factor": [1.0, 1.1, 1.2, 1.3],
        "long_factor": [2.0, 3.0, 4.0, 5.0],
    },
}
_QWEN_NEXT = {
    **_LLAMA_LIKE,
    "head_dim": 8,
    "linear_num_value_heads": 2,
    "linear_num_key_heads": 1,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "num_experts": 2,
    "num_experts_per_tok": 1,
    "moe_intermediate_size": 16,
    "shared_expert_intermediate_size": 16,
    "layer_types": ["linear_attention", "full_attention"],
}
_RWKV = {**_COMMON, "hidden_size": 16, "num_hidden_layers": 2, "context_length": CONTEXT}
ARCHITECTURES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("LlamaConfig", _LLAMA_LIKE),
    "qwen2": ("Qwen2Config", _LLAMA_LIKE),
    "mistral-sliding": ("MistralConfig", _SLIDING),
    "gemma": ("GemmaConfig", {**_LLAMA_LIKE, "head_dim": 8}),
    "gemma2-mixed": ("Gemma2Config", {**_SLIDING, "head_dim": 8, "query_pre_attn_scalar": 8}),
    "gpt-neox": ("GPTNeoXConfig", _NEOX),
    "gpt2-learned-positions": ("GPT2Config", _GPT2),
    "qwen3": ("Qwen3Config", {**_LLAMA_LIKE, "head_dim": 8}),
    "gemma3-mixed": ("Gemma3TextConfig", {**_SLIDING, "head_dim": 8, "query_pre_attn_scalar": 8}),
    "phi": ("PhiConfig", _NEOX),
    "phi3-sliding": ("Phi3Config", _SLIDING),
    "phi3-longrope": ("Phi3Config", _LONGROPE),
    "olmo2": ("Olmo2Config", _LLAMA_LIKE),
    "bloom-alibi": ("BloomConfig", {**_COMMON, "hidden_size": 16, "n_layer": 2, "n_head": 2}),
    "qwen3-next-recurrent": ("Qwen3NextConfig", _QWEN_NEXT),
    "lfm2-convolution": ("Lfm2Config", {**_LLAMA_LIKE, "layer_types": ["conv", "full_attention"]}),
    "mamba-recurrent": ("MambaConfig", {**_COMMON, "hidden_size": 16, "num_hidden_layers": 2}),
    "rwkv-without-cache": ("RwkvConfig", _RWKV),
}


def build(name: str) -> Any:
    config_class, settings = ARCHITECTURES[name]
    torch.manual_seed(0)
    config = getattr(transformers, config_class)(**settings)
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    return model.eval()


def prompts_of(lengths: list[int], seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.integers(2, VOCABULARY, size=n).astype(np.int32) for n in lengths]


def complete(model: Any, prompts: list[np.ndarray], **changes: Any) -> list[list[list[int]]]:
    settings: dict[str, Any] = {
        "samples": 3,
        "temperature": 1.0,
        "top_p": 0.95,
        "max_new_tokens": 12,
        "end_tokens": [END],
        "pad_token": PAD,
        "batch_tokens": 10_000,
        **changes,
    }
    keys = stream_keys(np.arange(len(prompts)), settings["samples"], seed=0, round=0)
    return generate(model, prompts, **{"keys": keys, **settings})


def unbatched(model: Any, prompt: np.ndarray, max_new_tokens: int) -> list[int]:
    """Greedy tokens by transformers' generate, one prompt at a time, without the end token."""
    ids = torch.from_numpy(prompt[None].astype(np.int64))
    out = model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=max_new_tokens,
        do_sample=False,
        eos_token_id=ENDS,
    )
    return up_to_end(out[0, len(prompt) :].tolist(), ENDS)


def up_to_end(tokens: list[int], ends: list[int]) -> list[int]:
    return tokens[: next((i for i, token in enumerate(tokens) if token in ends), None)]


@pytest.fixture(scope="module")
def llama() -> Any:
    return build("llama")


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_greedy_equals_transformers(name: str) -> None:
    model = build(name)
    prompts = prompts_of([3, 9, 1, 5, 14, 7, 2])
    expected = [[unbatched(model, prompt, 12)] * 2 for prompt in prompts]
    assert len({len(tokens) for tokens, _ in expected}) > 1
    got = complete(model, prompts, samples=2, temperature=0.0, end_tokens=ENDS)
    assert got == expected


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(1, 20), min_size=1, max_size=6), st.integers(1, 200))
def test_greedy_equals_transformers_for_any_lengths(
    llama: Any, lengths: list[int], batch_tokens: int
) -> None:
    prompts = prompts_of(lengths, seed=sum(lengths))
    got = complete(
        llama, prompts, samples=1, temperature=0.0, batch_tokens=batch_tokens, end_tokens=ENDS
    )
    assert got == [[unbatched(llama, prompt, 12)] for prompt in prompts]


@pytest.mark.parametrize(
    "name",
    ["llama", "mistral-sliding", "gpt2-learned-positions", "phi3-longrope", "lfm2-convolution"],
)
def test_a_completion_does_not_depend_on_its_batch(name: str) -> None:
    model = build(name)
    prompts = prompts_of([3, 9, 1, 5, 14, 7, 2, 9])
    keys = stream_keys(np.arange(len(prompts)), 3, seed=0, round=0)
    whole = complete(model, prompts)
    assert len({len(row) for rows in whole for row in rows}) > 3  # rows left at several steps
    for batch_tokens in (1, 60, 150):
        assert complete(model, prompts, batch_tokens=batch_tokens) == whole
    order = [5, 0, 7, 2]
    some = complete(model, [prompts[i] for i in order], keys=keys[order])
    assert some == [whole[i] for i in order]
    fewer = complete(model, prompts, keys=keys[:, :2], samples=2)
    assert fewer == [rows[:2] for rows in whole]


def test_samples_differ_and_repeat_with_their_keys(llama: Any) -> None:
    prompts = prompts_of([4, 6])
    first = complete(llama, prompts, samples=8)
    assert first == complete(llama, prompts, samples=8)
    assert len({tuple(row) for row in first[0]}) > 1
    other = stream_keys(np.arange(2), 8, seed=1, round=0)
    assert first != complete(llama, prompts, samples=8, keys=other)


def distribution(
    module: ModuleType, model: Any, prompt: list[int], temperature: float, top_p: float
) -> list[float]:
    with torch.inference_mode():
        logits = model(torch.tensor([prompt])).logits[0, -1].tolist()
    result: list[float] = module.next_token_distribution(logits, temperature, top_p)
    return result


def chi_square(counts: np.ndarray, probability: np.ndarray) -> float:
    """p-value; outcomes of expected count below 5 are counted together, impossible ones never."""
    assert not counts[probability == 0].any()
    expected = probability * counts.sum()
    rare = expected < 5
    observed = np.append(counts[~rare], counts[rare].sum())
    wanted = np.append(expected[~rare], expected[rare].sum())
    keep = wanted > 0
    if keep.sum() == 1:
        return 1.0
    return float(stats.chisquare(observed[keep], wanted[keep]).pvalue)


@pytest.mark.parametrize("temperature", [0.5, 2.0, 4.0])
@pytest.mark.parametrize("top_p", [0.3, 0.8, 1.0])
def test_first_tokens_follow_the_truncated_softmax(
    llama: Any, sampling_reference: ModuleType, temperature: float, top_p: float
) -> None:
    prompt = prompts_of([6], seed=4)[0]
    rows = complete(
        llama,
        [prompt],
        samples=4000,
        temperature=temperature,
        top_p=top_p,
        max_new_tokens=1,
        end_tokens=[],
        batch_tokens=10**6,
    )[0]
    counts = np.bincount([row[0] for row in rows], minlength=VOCABULARY)
    wanted = distribution(sampling_reference, llama, prompt.tolist(), temperature, top_p)
    assert chi_square(counts, np.array(wanted)) > 1e-4


def test_pairs_of_tokens_follow_the_chain_rule(llama: Any, sampling_reference: ModuleType) -> None:
    """The second token is drawn given the first: the shared cache belongs to each sample."""
    prompt = prompts_of([6], seed=4)[0]
    rows = complete(
        llama,
        [prompt],
        samples=6000,
        temperature=1.5,
        top_p=0.9,
        max_new_tokens=2,
        end_tokens=[],
        batch_tokens=10**6,
    )[0]
    counts = np.zeros((VOCABULARY, VOCABULARY))
    np.add.at(counts, tuple(np.array(rows).T), 1)
    first = distribution(sampling_reference, llama, prompt.tolist(), 1.5, 0.9)
    joint = np.array(
        [
            np.array(distribution(sampling_reference, llama, [*prompt.tolist(), t], 1.5, 0.9)) * p
            if p
            else np.zeros(VOCABULARY)
            for t, p in enumerate(first)
        ]
    )
    assert (joint > 1e-3).sum() > 20
    assert chi_square(counts.ravel(), joint.ravel()) > 1e-4


def test_a_token_of_probability_0_is_never_drawn() -> None:
    """The largest uniform number rounds up to 1, and the sum of probabilities may stay below."""
    generator = torch.Generator().manual_seed(0)
    possible = torch.randn(200, 5, generator=generator)
    logits = torch.cat([possible, torch.full((200, 3), -torch.inf)], dim=1)
    mass = torch.softmax(logits, dim=-1).sort(descending=True).values.cumsum(dim=-1)[:, -1]
    assert (mass < 1).any()
    assert (mass >= 1).any()
    for drawn, expected in ((1 - 2**-53, possible.argmin(dim=-1)), (0.0, possible.argmax(dim=-1))):
        assert torch.equal(draw(logits, np.full(200, drawn), 1.0, 1.0), expected)


def test_ties_are_broken_the_same_way_everywhere() -> None:
    drawn = np.linspace(0, 0.999, 50)
    logits = torch.zeros(50, 5)
    assert draw(logits, drawn, 1.0, 0.5).tolist() == sorted(draw(logits, drawn, 1.0, 0.5).tolist())
    assert set(draw(logits, drawn, 1.0, 0.5).tolist()) == {0, 1, 2}


def test_every_end_token_ends(llama: Any) -> None:
    prompts = prompts_of([4, 6, 8])
    free = complete(llama, prompts, end_tokens=[])
    assert any(set(row) & set(ENDS) for rows in free for row in rows)
    expected = [[up_to_end(row, ENDS) for row in rows] for rows in free]
    assert complete(llama, prompts, end_tokens=ENDS) == expected


@pytest.mark.parametrize("name", ["llama", "gpt2-learned-positions"])
def test_completions_stop_where_the_context_ends(name: str) -> None:
    model = build(name)
    prompts = prompts_of([3, CONTEXT - 5, CONTEXT - 1])
    rows = complete(model, prompts, end_tokens=[], max_new_tokens=9)
    assert [{len(row) for row in some} for some in rows] == [{9}, {5}, {1}]
    lengths = np.array([len(prompt) for prompt in prompts])
    assert longest_completions(model, lengths, 9).tolist() == [9, 5, 1]


def test_one_new_token_is_allowed(llama: Any) -> None:
    rows = complete(llama, prompts_of([4, 2]), max_new_tokens=1, end_tokens=[])
    assert [[len(row) for row in some] for some in rows] == [[1] * 3] * 2


def test_the_output_layer_multiplies_what_lies_together(
    llama: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A slice of the last positions would be multiplied row by row, many times slower."""
    plain, weight = torch.nn.functional.linear, llama.get_output_embeddings().weight
    together: list[bool] = []

    def linear(given: torch.Tensor, matrix: torch.Tensor, bias: Any = None) -> torch.Tensor:
        if matrix is weight:
            together.append(given.is_contiguous())
        return plain(given, matrix, bias)

    monkeypatch.setattr(torch.nn.functional, "linear", linear)
    complete(llama, prompts_of([5, 9, 7]), max_new_tokens=3)
    assert len(together) >= 2
    assert all(together)


def test_no_prompts_give_no_completions(llama: Any) -> None:
    assert complete(llama, []) == []


def test_a_diverged_model_is_named() -> None:
    model = build("llama")
    with torch.no_grad():
        model.lm_head.weight.fill_(torch.nan)
    with pytest.raises(ModelError, match="predicts NaN"):
        complete(model, prompts_of([4]))
