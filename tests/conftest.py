"""Shared fixtures: where the real measurements lie, and small problems to work on."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import settings

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
