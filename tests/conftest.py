"""Shared fixtures: where the real measurements lie, and small problems to work on."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings

if "PYTEST_XDIST_WORKER" in os.environ:  # before torch: a worker per core, a thread per worker
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# a deadline per example would time the machine, not the code
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder with the paper's real runs and GSM8K; the test is skipped where it is absent."""
    folder = SHARED / "data"
    if not folder.is_dir():
        pytest.skip("real measurements (../shared/data) are not on this machine")
    return folder


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A randomly initialised Llama over the benchmark's words, as a model folder."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from activeselect.data.skills import base_path

    folder = tmp_path_factory.mktemp("tiny")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).write_bytes((base_path() / name).read_bytes())
    config = LlamaConfig.from_pretrained(base_path())
    config.hidden_size, config.intermediate_size, config.num_hidden_layers = 16, 32, 2
    config.num_attention_heads = config.num_key_value_heads = 2
    config.head_dim = 8
    torch.manual_seed(0)
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def small_model() -> Callable[..., Path]:
    """Writes a tiny random model of an architecture, with a tokenizer of bytes, into a folder."""

    def build(folder: Path, architecture: str = "Qwen2Config") -> Path:
        import torch
        import transformers
        from tokenizers import Tokenizer, decoders, models, pre_tokenizers

        from activeselect.training.module import save_model

        alphabet = ["<end>", "<pad>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
        built = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[]))
        built.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        built.decoder = decoders.ByteLevel()
        tokenizer = transformers.PreTrainedTokenizerFast(
            tokenizer_object=built, eos_token="<end>", pad_token="<pad>"
        )
        config = getattr(transformers, architecture)(
            vocab_size=len(tokenizer),
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=2048,
            eos_token_id=0,
            pad_token_id=1,
            bos_token_id=None,
        )
        torch.manual_seed(0)
        save_model(transformers.AutoModelForCausalLM.from_config(config), tokenizer, folder)
        return folder

    return build
