"""A content hash of a model: the same wherever it lies, another for any other bit in it."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import torch

#: Where a model was loaded from and with what says nothing about what it answers.
_IRRELEVANT = ("_name_or_path", "transformers_version")


def model_fingerprint(model: Any, tokenizer: Any) -> str:
    """Hash what decides a model's answers: its settings, its tensors, and its tokenizer's words.

    Reads every weight once, as loading the model does; about a second per gigabyte.

    Args:
        model: a transformers model.
        tokenizer: its tokenizer.

    Returns:
        16 hexadecimal digits.
    """
    settings = {k: v for k, v in model.config.to_dict().items() if k not in _IRRELEVANT}
    words = sorted(tokenizer.get_vocab().items())
    digest = hashlib.sha256(json.dumps([settings, words], sort_keys=True, default=str).encode())
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        digest.update(memoryview(flat.view(torch.uint8).numpy()))
    return digest.hexdigest()[:16]
