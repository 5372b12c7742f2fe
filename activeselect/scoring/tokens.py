"""Where texts begin and end, by what a model and its tokenizer say."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from activeselect.data.prompts import Encoded


def before_stop(text: str, stop: Sequence[str]) -> str:
    """The text up to the first of the stop texts.

    Example:
        >>> before_stop("It is 7.\\nDone. And", ["And", "\\nDone."])
        'It is 7.'
    """
    return text[: min((text.index(end) for end in stop if end in text), default=len(text))]


def pad_token_of(tokenizer: Any) -> int:
    """The pad token, or the end token where the tokenizer has none (padding is masked anyway)."""
    pad = tokenizer.pad_token_id
    return int(tokenizer.eos_token_id if pad is None else pad)


def start_token_of(tokenizer: Any) -> int:
    """The token that stands before a text, or the end token where the tokenizer has none."""
    begin = tokenizer.bos_token_id
    return int(tokenizer.eos_token_id if begin is None else begin)


def end_tokens_of(model: Any, tokenizer: Any, items: Sequence[Encoded]) -> set[int]:
    """What ends a completion: the model's, the tokenizer's, and the targets' own end."""
    configured = getattr(model.generation_config, "eos_token_id", None)
    ends = configured if isinstance(configured, list) else [configured]
    ends = [*ends, tokenizer.eos_token_id, *(item.ids[-1] for item in items)]
    return {int(end) for end in ends if end is not None}
