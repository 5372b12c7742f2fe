"""Model families: what differs between them when rows share a batch and a cache.

Most families read a padded batch and keep keys and values per position; then rows of any length
go together, and may join a batch that is under way. The exceptions are found here, from the model
itself, and get a slower path:

- layers with a sliding window keep the last positions only: rows of any length, but all from the
  beginning;
- recurrent layers (Qwen3-Next, LFM2, Mamba) would carry padding in their state: rows of one
  length only;
- LongRoPE (Phi-3 with a long context) turns *all* positions differently once the text exceeds the
  original context: rows of one length, and the cache is built again at that point;
- a model that does not fill transformers' cache (RWKV) reads its whole text at every step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from activeselect.arrays import IntArray


def context_length(config: Any) -> int | None:
    """Longest text in tokens that a model reads, or None where its config names no limit."""
    length = getattr(_text(config), "max_position_embeddings", None)
    return int(length) if length else None


def rereads_after(config: Any) -> int | None:
    """Length after which a model turns all its positions differently (LongRoPE), or None."""
    rope = getattr(_text(config), "rope_parameters", None) or {}
    for part in (rope, *(value for value in rope.values() if isinstance(value, dict))):
        if part.get("rope_type") == "longrope":
            original = part.get("original_max_position_embeddings")
            return int(original or _text(config).original_max_position_embeddings)
    return None


def reads_padding(config: Any) -> bool:
    """Whether all layers are attention, which can leave padding on the left out."""
    known = (DynamicLayer, DynamicSlidingWindowLayer)
    return all(type(layer) in known for layer in DynamicCache(config=config).layers)


def keeps_all(config: Any) -> bool:
    """Whether all layers keep the keys and values of every position."""
    return all(type(layer) is DynamicLayer for layer in DynamicCache(config=config).layers)


@torch.inference_mode()
def fills_cache(model: Any) -> bool:
    """Whether the model keeps what it has read in a ``DynamicCache``; tried on two tokens."""
    cache = DynamicCache(config=model.config)
    ids = torch.zeros((1, 2), dtype=torch.long, device=model.device)
    try:
        model(input_ids=ids, past_key_values=cache, use_cache=True)
    except (TypeError, ValueError):  # it wants a cache of its own kind
        return False
    return bool(cache.layers) and all(map(_filled, cache.layers))


@contextmanager
def uncompiled(model: Any) -> Iterator[None]:
    """What ``torch.compile`` was asked for is left out: a batch that shrinks and grows has another
    shape at nearly every token, and each would be compiled."""
    compiled = any(
        hasattr(module, "_orig_mod") or getattr(module, "_compiled_call_impl", None) is not None
        for module in model.modules()
    )
    with torch.compiler.set_stance("force_eager") if compiled else nullcontext():
        yield


def length_kinds(config: Any, lengths: Sequence[int] | IntArray) -> IntArray:
    """Rows of different kinds must not share a batch when texts of ``lengths`` are read once.

    Returns:
        int64 ``[B]``; all 0 but for LongRoPE, where 1 marks the texts beyond the original context.
    """
    switch = rereads_after(config)
    long = np.zeros(len(lengths), bool) if switch is None else np.asarray(lengths) > switch
    return long.astype(np.int64)


def _text(config: Any) -> Any:
    return config.get_text_config(decoder=True)


def _filled(layer: Any) -> bool:
    states = ("is_conv_states_initialized", "is_recurrent_states_initialized")
    kept = [getattr(layer, name, False) for name in states]
    by_state = [flag for flags in kept if isinstance(flags, dict) for flag in flags.values()]
    return bool(getattr(layer, "is_initialized", False)) or any(by_state) or True in kept


# --- Output layer


@contextmanager
def replaced(layer: Any, forward: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """The layer, if any, computes something else inside."""
    if layer is None:
        yield
        return
    before = vars(layer).get("forward")
    layer.forward = forward
    try:
        yield
    finally:
        if before is None:
            del layer.forward
        else:
            layer.forward = before


def reads_whole_rows(model: Any) -> AbstractContextManager[None]:
    """Inside, the output layer of a model is given what lies together in memory.

    For the last position of each text transformers takes a slice, and on a CPU the product of a
    slice with a matrix is made text by text: 240 times as long for 16 texts, a width of 576 and
    49,152 words in 16 bits (5 times in 32).
    """
    layer = model.get_output_embeddings() if model.device.type == "cpu" else None
    plain: Any = getattr(layer, "forward", None)
    return replaced(layer, lambda hidden: plain(hidden.contiguous()))


@torch.no_grad()
def probe_output_layer(model: Any) -> tuple[bool, bool]:
    """Whether the output layer may be asked for less, and whether nothing follows it.

    Tried on two tokens. Some models scale or cap their logits after the layer.
    """
    layer = model.get_output_embeddings()
    if layer is None:
        return False, False
    made: list[Tensor] = []
    plain = layer.forward

    def answer(hidden: Tensor) -> Tensor:
        made.append(plain(hidden[:, :1]))
        return made[-1]

    ids = torch.zeros((1, 2), dtype=torch.long, device=model.device)
    training = model.training
    model.eval()
    try:
        with uncompiled(model), replaced(layer, answer):
            output = model(input_ids=ids, use_cache=False).logits
    except (TypeError, ValueError, RuntimeError, IndexError, AttributeError):
        return False, False  # it gives its output layer something else than hidden states
    finally:
        model.train(training)
    trims = len(made) == 1 and output.shape == made[0].shape
    return trims, trims and output is made[0]


class TargetLogits:
    """A model's logits at chosen positions, a row of the batch at a time.

    Args:
        model: a transformers causal LM.
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        self.trims, self.last = probe_output_layer(model)

    def __call__(self, ids: Tensor, keep: Tensor, counts: Sequence[int]) -> Iterator[Tensor]:
        """One forward pass; the logits are made as they are asked for, if they can be.

        Args:
            ids: texts padded on the right, int64 ``[B, L]``. What is causal sees no padding before
                its text, so that no mask is needed.
            keep: wanted positions of the flattened batch, ascending, int64 ``[K]``.
            counts: how many of them are in each row; K in sum.

        Returns:
            logits of each row's positions, ``[T, V]``.
        """
        layer = self.model.get_output_embeddings() if self.trims else None
        plain: Any = getattr(layer, "forward", None)
        chosen: list[Tensor] = []

        def answer(hidden: Tensor) -> Tensor:
            chosen.append(hidden.flatten(0, 1)[keep])
            logits: Tensor = plain(hidden[:, :1].contiguous() if self.last else chosen[0][None])
            return logits

        with uncompiled(self.model), replaced(layer, answer):
            logits = self.model(input_ids=ids, use_cache=False).logits
        sizes = list(counts)
        if self.last:
            return (plain(hidden[None])[0] for hidden in torch.split(chosen[0], sizes))
        made = logits[0] if self.trims else logits.flatten(0, 1)[keep]
        return iter(torch.split(made, sizes))
