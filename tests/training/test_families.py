"""Each model family, with its kinds of tokenizer, from training to a reloaded model."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from activeselect.config import (
    DataConfig,
    PromptConfig,
    RecipeConfig,
    RoundsConfig,
    RunConfig,
    ScoringConfig,
)
from activeselect.data.answers import get_checker
from activeselect.data.load import load_pool
from activeselect.data.prompts import Encoded, encode
from activeselect.errors import ModelError
from activeselect.scoring.generate import pad_token_of
from activeselect.scoring.scorer import LiveScorer
from activeselect.training.module import load_model, save_model
from activeselect.training.run import ActiveRun
from tests.support import small_run

UNKNOWN, BEGIN, END, PAD = "<unk>", "<s>", "</s>", "<pad>"
NUMBERS = [(1, 2), (3, 4), (5, 1), (20, 35), (7, 7), (2, 9), (111, 4), (6, 30), (8, 1), (4, 4)]
PROBLEMS = [
    {
        "question": f"Ann has {a} " + "red " * (a % 5) + f"and {b} .",
        "answer": f"Ann has {a} + {b} = {a + b}\n#### {a + b}",
    }
    for a, b in NUMBERS
]
CORPUS = [text for row in PROBLEMS for text in row.values()] + ["Question: Answer:"]


def byte_level(begin: bool) -> Tokenizer:
    """As Llama 3's (it adds a begin token) or Qwen's (it does not)."""
    built = Tokenizer(models.BPE())
    built.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    built.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    built.train_from_iterator(
        CORPUS,
        trainers.BpeTrainer(
            vocab_size=280,
            special_tokens=[UNKNOWN, BEGIN, END],
            initial_alphabet=alphabet,
            show_progress=False,
        ),
    )
    if begin:
        built.post_processor = processors.TemplateProcessing(
            single=f"{BEGIN} $A", special_tokens=[(BEGIN, 1)]
        )
    return built


def sentencepiece() -> Tokenizer:
    """As Gemma's or Mistral's: words begin with their space, and a begin token is added."""
    built = Tokenizer(models.Unigram())
    built.pre_tokenizer = pre_tokenizers.Metaspace()
    built.decoder = decoders.Metaspace()
    built.train_from_iterator(
        CORPUS,
        trainers.UnigramTrainer(
            vocab_size=200,
            special_tokens=[UNKNOWN, BEGIN, END, PAD],
            unk_token=UNKNOWN,
            show_progress=False,
        ),
    )
    built.post_processor = processors.TemplateProcessing(
        single=f"{BEGIN} $A", special_tokens=[(BEGIN, 1)]
    )
    return built


def tokenizer_of(kind: str) -> Any:
    names = {"bos_token": BEGIN, "eos_token": END, "unk_token": UNKNOWN}
    if kind == "sentencepiece":
        return transformers.PreTrainedTokenizerFast(
            tokenizer_object=sentencepiece(), pad_token=PAD, padding_side="left", **names
        )
    built = byte_level(begin=kind == "bytes with begin")
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=built, padding_side="right", **names
    )


LLAMA = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,  # grouped queries
    "max_position_embeddings": 192,
}
SLIDING = {**LLAMA, "sliding_window": 8}
UNGROUPED = {name: value for name, value in LLAMA.items() if name != "num_key_value_heads"}
GEMMA = {**SLIDING, "head_dim": 8, "query_pre_attn_scalar": 8}
CONVOLUTION = {**LLAMA, "layer_types": ["conv", "full_attention"]}
FAMILIES: dict[str, tuple[str, dict[str, Any], str]] = {
    "llama": ("LlamaConfig", LLAMA, "bytes with begin"),
    "llama-tied": ("LlamaConfig", {**LLAMA, "tie_word_embeddings": True}, "bytes with begin"),
    "qwen2-tied": ("Qwen2Config", {**LLAMA, "tie_word_embeddings": True}, "bytes"),
    "qwen3": ("Qwen3Config", {**LLAMA, "head_dim": 8}, "bytes"),
    "gemma2-tied": ("Gemma2Config", {**GEMMA, "tie_word_embeddings": True}, "sentencepiece"),
    "gemma3-tied": ("Gemma3TextConfig", {**GEMMA, "tie_word_embeddings": True}, "sentencepiece"),
    "mistral-sliding": ("MistralConfig", SLIDING, "sentencepiece"),
    "phi": ("PhiConfig", UNGROUPED, "bytes"),
    "phi3-sliding": ("Phi3Config", {**SLIDING, "pad_token_id": None}, "sentencepiece"),
    "gpt-neox": ("GPTNeoXConfig", UNGROUPED, "bytes"),
    "olmo2": ("Olmo2Config", LLAMA, "bytes"),
    "lfm2-convolution": ("Lfm2Config", CONVOLUTION, "bytes"),
}


def build(family: str, folder: Path) -> Path:
    """A randomly initialised model with its tokenizer, as ``save_pretrained`` writes them."""
    config_class, settings, kind = FAMILIES[family]
    tokenizer = tokenizer_of(kind)
    ids = {
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    config = getattr(transformers, config_class)(
        **{"vocab_size": len(tokenizer), "initializer_range": 0.3, **ids, **settings}
    )
    torch.manual_seed(0)
    save_model(transformers.AutoModelForCausalLM.from_config(config), tokenizer, folder)
    return folder


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    file = tmp_path / "problems.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in PROBLEMS))
    return file


@pytest.fixture(params=FAMILIES)
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return build(request.param, tmp_path / "base")


def config_of(model: Path, data: Path) -> RunConfig:
    return small_run(
        model,
        data=DataConfig(str(data), test=str(data), test_limit=3, checker="gsm8k"),
        rounds=RoundsConfig(mode="reweight"),
        recipe=RecipeConfig(learning_rate=1e-2, epochs=2, batch_size=4),
        strategy="premem",
        save_model=True,
    )


def logits_of(model: Any, ids: np.ndarray) -> torch.Tensor:
    model.eval()
    with torch.inference_mode():
        logits: torch.Tensor = model(torch.from_numpy(ids[None].astype(np.int64))).logits
    return logits


def weights(run: Path) -> bytes:
    return (run / "model" / "model.safetensors").read_bytes()


def test_trains_scores_selects_and_resumes(folder: Path, data: Path, tmp_path: Path) -> None:
    config = config_of(folder, data)
    whole = ActiveRun(config).run(tmp_path / "whole")
    seen = 0

    def stop_in_the_second_epoch(samples: int, total: int, what: str) -> None:
        nonlocal seen
        seen = samples
        if samples > 12:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ActiveRun(config).run(tmp_path / "parts", progress=stop_in_the_second_epoch)
    assert 12 < seen < 20
    resumed = ActiveRun(config).run(tmp_path / "parts")
    assert weights(tmp_path / "parts") == weights(tmp_path / "whole")
    assert weights(tmp_path / "whole") != (folder / "model.safetensors").read_bytes()
    decided = ("round", "samples_seen", "test_accuracy", "premem")  # cost holds times, too
    for name in decided:
        assert resumed.curve[0][name] == whole.curve[0][name]
    for name in ("round-00000.parquet", "round-00001.parquet"):
        tables = [pq.read_table(tmp_path / run / "scores" / name) for run in ("whole", "parts")]
        assert tables[0].equals(tables[1])
    first, second = (
        pq.read_table(tmp_path / "whole" / "scores" / f"round-0000{i}.parquet")["mean_nll"]
        for i in (0, 1)
    )
    assert np.mean(second.to_numpy()) < np.mean(first.to_numpy())  # it learns


def test_a_chat_with_drawn_examples_trains(data: Path, tmp_path: Path) -> None:
    folder = build("llama", tmp_path / "base")
    _, tokenizer = load_model(str(folder))
    tokenizer.chat_template = (
        "{{ bos_token }}{% for m in messages %}{{ m.role }} {{ m.content }}{{ eos_token }}"
        "{% endfor %}{% if add_generation_prompt %}assistant {% endif %}"
    )
    tokenizer.save_pretrained(folder)
    prompt = PromptConfig(chat=True, system="Add.", shots=1, stop=("\n\n",))
    recipe = RecipeConfig(learning_rate=1e-2, epochs=1, batch_size=4)
    config = replace(config_of(folder, data), prompt=prompt, recipe=recipe, save_model=False)
    result = ActiveRun(config).run(tmp_path / "run")
    assert result.curve[0]["samples_seen"] == 10


def test_a_saved_model_is_the_same_when_reloaded(folder: Path, tmp_path: Path) -> None:
    model, tokenizer = load_model(str(folder))
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.01)
    save_model(model, tokenizer, tmp_path / "saved")
    again, _ = load_model(str(tmp_path / "saved"))
    ids = np.arange(3, 30)
    assert torch.equal(logits_of(model, ids), logits_of(again, ids))
    assert not torch.equal(logits_of(model, ids), logits_of(load_model(str(folder))[0], ids))


def items_of(folder: Path, data: Path) -> tuple[Any, Any, list[Encoded]]:
    model, tokenizer = load_model(str(folder))
    pool, _ = load_pool(data, checker="gsm8k")
    return model, tokenizer, encode(pool, np.arange(len(pool)), tokenizer, PromptConfig())


def test_each_target_is_its_trace_and_one_end(folder: Path, data: Path) -> None:
    _, tokenizer, items = items_of(folder, data)
    for item, row in zip(items, PROBLEMS, strict=True):
        target = item.ids[item.start :].tolist()
        assert tokenizer.decode(target[:-1]).strip() == row["answer"].replace("\n", " ") or (
            tokenizer.decode(target[:-1]).strip() == row["answer"]
        )
        assert target[-1] == tokenizer.eos_token_id
        assert tokenizer.eos_token_id not in target[:-1]
        prompt = tokenizer.decode(item.prompt, skip_special_tokens=True)
        assert prompt.strip().endswith("Answer:")
        assert item.ids[1:].tolist().count(tokenizer.bos_token_id) == 0


def test_a_pad_token_without_an_embedding_is_not_used(tmp_path: Path) -> None:
    model, tokenizer = load_model(str(build("qwen2-tied", tmp_path)))
    assert type(tokenizer).__name__ == "Qwen2Tokenizer"  # it brings a pad token of its own
    assert tokenizer.pad_token_id is None
    assert pad_token_of(tokenizer) == tokenizer.eos_token_id < model.config.vocab_size


def test_a_tokenizer_of_another_model_is_refused(tmp_path: Path) -> None:
    folder = build("llama", tmp_path / "base")
    tokenizer = load_model(str(folder))[1]
    tokenizer.add_special_tokens({"eos_token": "<other>"})
    tokenizer.save_pretrained(folder)
    with pytest.raises(ModelError, match=r"embeds 280 tokens, but .* with token 280; load both"):
        load_model(str(folder))


@torch.inference_mode()
def slow_nll(model: Any, item: Encoded) -> float:
    """One text, nothing padded, in double precision."""
    logits = model(torch.from_numpy(item.ids[None].astype(np.int64))).logits[0].double()
    chosen = torch.log_softmax(logits, dim=-1)[
        torch.arange(item.start - 1, len(item.ids) - 1), item.ids[item.start :]
    ]
    return -float(chosen.sum())


def test_nll_equals_an_unbatched_reference(folder: Path, data: Path) -> None:
    model, tokenizer, items = items_of(folder, data)
    scorer = LiveScorer(tokenizer, get_checker("gsm8k"), ScoringConfig(batch_tokens=200))
    nll, tokens = scorer.target_nll(model.eval(), items)
    expected = np.array([slow_nll(model.double(), item) for item in items])
    assert len({len(item.ids) for item in items}) > 2  # padded in their batches
    np.testing.assert_allclose(nll / tokens, expected / tokens, rtol=1e-4)
