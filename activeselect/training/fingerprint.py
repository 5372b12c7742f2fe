"""Content hashes of models and of code: the same wherever they lie, another for any other bit."""

from __future__ import annotations

import hashlib
import inspect
import json
import os
from functools import cache
from pathlib import Path
from typing import Any

import torch

from activeselect.environment import PACKAGES, environment

#: The rooms whose code decides what a run's result is.
_DECISIVE = ("data", "scoring", "selection", "training")
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


@cache
def code_fingerprint(strategy: type | None = None) -> str:
    """Hash of the code that decides a result, and of the versions of the packages that it calls.

    Args:
        strategy: a class whose own file is part of it.

    Returns:
        16 hexadecimal digits.
    """
    versions = environment()
    digest = hashlib.sha256(json.dumps([versions[name] for name in PACKAGES]).encode())
    root = Path(__file__).parents[1]
    files = [file for room in _DECISIVE for file in sorted((root / room).rglob("*.py"))]
    for file in files:
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    if strategy is not None:
        try:
            digest.update(Path(inspect.getfile(strategy)).read_bytes())
        except (TypeError, OSError):  # typed into a session: nobody can say that it is the same
            digest.update(os.urandom(16))
    return digest.hexdigest()[:16]
