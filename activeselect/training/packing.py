"""Examples read one after the other in a single row, without padding and without a leak.

Layers that work token by token do not notice; attention is computed example by example. Which
tokens belong together travels in the place of the attention mask, as the lengths of the examples,
int64 ``[1, 1, 1, B]`` on the CPU: any attention but ours fails on such a mask instead of looking
from one example into another.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from activeselect.scoring.families import reads_padding, rereads_after

#: What transformers calls our attention.
_NAME = "activeselect-packed"
#: Largest difference, in units of the largest logit, that is rounding: in 32 bits and in 16.
_ROUNDING, _COARSE = 1e-4, 5e-2


def _attend(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Any, **options: Any
) -> tuple[Tensor, None]:
    """Causal attention within each example; heads are ``[1, H, T, D]``, the result [1, T, H, D]."""
    if not isinstance(attention_mask, Tensor) or attention_mask.dtype != torch.int64:
        raise TypeError("expected the lengths of packed examples in the place of a mask")
    lengths = attention_mask.flatten().tolist()
    window = options.get("sliding_window")
    options = {**options, "is_causal": True}
    # split, not slices: its backward pass is one concatenation
    heads = zip(*(torch.split(part, lengths, dim=2) for part in (query, key, value)), strict=True)
    found = []
    for length, (q, k, v) in zip(lengths, heads, strict=True):
        mask = _band(length, window, query.device)
        found.append(sdpa_attention_forward(module, q, k, v, mask, **options)[0])
    return torch.cat(found, dim=1), None


def _band(length: int, window: int | None, device: torch.device) -> Tensor | None:
    """Mask of a window that is shorter than the text, bool ``[1, 1, L, L]``."""
    if window is None or length <= window:
        return None
    place = torch.arange(length, device=device)
    distance = place[:, None] - place[None]
    return ((distance >= 0) & (distance < window))[None, None]


AttentionInterface.register(_NAME, _attend)


@contextmanager
def packed_attention(model: Any) -> Iterator[None]:
    """Inside, forward and backward passes of the model are over packed examples."""
    config = model.config.get_text_config(decoder=True)
    before = config._attn_implementation
    config._attn_implementation = _NAME
    try:
        yield
    finally:
        config._attn_implementation = before


def packed_inputs(tokens: Tensor, lengths: Tensor) -> dict[str, Tensor]:
    """What the model is given for B examples with T tokens in all.

    Args:
        tokens: int64 ``[T]``, one example after the other.
        lengths: int64 ``[B]``.

    Example:
        >>> packed_inputs(torch.tensor([7, 8, 9]), torch.tensor([2, 1]))["position_ids"]
        tensor([[0, 1, 0]])
    """
    on_cpu = lengths.cpu()  # read in every layer
    places = torch.cat([torch.arange(length) for length in on_cpu.tolist()])
    return {
        "input_ids": tokens[None],
        "position_ids": places.to(tokens.device)[None],
        "attention_mask": on_cpu.view(1, 1, 1, -1),
    }


def reads_packed(model: Any) -> bool:
    """Whether a model gives packed examples the logits that it gives each of them alone.

    Read off its settings where they say no (recurrent layers, chunked attention, positions that
    depend on the longest text, another attention than torch's), else tried on three short texts:
    neither may depend on its neighbours, and each has to come out as it does alone.
    """
    config = model.config.get_text_config(decoder=True)
    if (
        config._attn_implementation != "sdpa"
        or not reads_padding(config)
        or rereads_after(config) is not None
        or getattr(config, "attention_chunk_size", None) is not None
    ):
        return False
    training = model.training
    model.eval()
    try:
        return _tried(model, getattr(config, "sliding_window", None) or 0)
    except (TypeError, ValueError, RuntimeError, IndexError, AttributeError):
        return False  # it reads its mask or its positions in a way of its own
    finally:
        model.train(training)


@torch.no_grad()
def _tried(model: Any, window: int) -> bool:
    vocabulary, device = model.get_input_embeddings().num_embeddings, model.device
    texts = [
        (torch.arange(length, device=device) * step + step) % vocabulary
        for length, step in ((6, 3), (min(window, 24) + 5, 7), (4, 5))
    ]
    lengths = torch.tensor([len(text) for text in texts])

    def middle(first: Tensor, last: Tensor) -> Tensor:
        inputs = packed_inputs(torch.cat([first, texts[1], last]), lengths)
        with packed_attention(model):
            logits = model(**inputs, use_cache=False).logits
        found: Tensor = logits.split(lengths.tolist(), dim=1)[1].float()
        return found

    packed = middle(texts[0], texts[2])
    others = middle((texts[0] + 1) % vocabulary, (texts[2] + 1) % vocabulary)
    alone = model(input_ids=texts[1][None], use_cache=False).logits.float()
    unit = alone.abs().max()
    exact = model.dtype in (torch.float32, torch.float64)
    # in 16 bits a small leak would pass for rounding: there, not a bit may change
    apart = torch.allclose(packed, others, rtol=0, atol=_ROUNDING * unit if exact else 0)
    far = (packed - alone).abs().max()
    return bool(apart and far <= (_ROUNDING if exact else _COARSE) * unit)
