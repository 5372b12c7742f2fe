"""Precision of the passes that do not train: the one that the training computes in.

Under mixed precision the weights that are trained have 32 bits, but the training multiplies them in
16. A pass that samples or reads with the 32-bit weights themselves would be several times slower
and measure another model than the training sees. Casting them again at every token (autocast)
costs more than it saves. So a pass runs on a copy in 16 bits, made anew for each pass, which cannot
be stale. On a CPU adapters are merged into such a copy, too: read beside the weights, they take
three times as long over a prompt, and half as long again over a token.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.distributed.fsdp import FSDPModule

#: Rows that the weights are laid out for: those of a step of sampling, about.
_ROWS = 64
_SHORT = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}


def short_type(model: Any, precision: str | None) -> torch.dtype | None:
    """Type in which a training with ``precision`` multiplies, where the weights have more bits.

    Args:
        model: in training.
        precision: as in Lightning, e.g. ``bf16-mixed``.

    Returns:
        None where the model computes in the type of its weights: without mixed precision, and where
        most weights are stored in 16 bits (the frozen ones below adapters).

    Example:
        >>> short_type(torch.nn.Linear(2, 2), "bf16-mixed")
        torch.bfloat16
    """
    dtype = _SHORT.get(precision or "")
    if dtype is None:
        return None
    weights = list(model.parameters())
    long = sum(weight.numel() for weight in weights if weight.dtype == torch.float32)
    return dtype if 2 * long > sum(weight.numel() for weight in weights) else None


@contextmanager
def in_training_precision(model: Any, precision: str | None) -> Iterator[Any]:
    """The model for a pass that does not train, in the precision of the training.

    Args:
        model: in training; its weights are whole and stay as they are.
        precision: of the training, as in Lightning; None: that of the weights.

    Yields:
        a copy in 16 bits under mixed precision (two bytes per weight, given back afterwards); on a
        CPU a copy with its adapters merged, where it has any; the model itself, computing in 16
        bits, where its weights are those of several ranks; else the model as it is.

    Example:
        >>> model = torch.nn.Linear(2, 2)
        >>> with in_training_precision(model, "bf16-mixed") as short:
        ...     short.weight.dtype, model.weight.dtype
        (torch.bfloat16, torch.float32)
    """
    dtype = short_type(model, precision)
    sharded = isinstance(model, FSDPModule)
    on_cpu = next(model.parameters()).device.type == "cpu"
    merges = on_cpu and not sharded and hasattr(model, "merge_and_unload")
    if dtype is None and not merges:
        yield model
    elif sharded:  # copying it would copy how it gathers its weights
        with torch.autocast(next(model.parameters()).device.type, dtype):
            yield model
    else:
        short = short_copy(model, dtype or torch.float32)
        if merges:
            short = short.merge_and_unload().requires_grad_(False)
        if on_cpu and _mostly(short) == torch.bfloat16:
            lay_out(short)
        yield short


def _mostly(model: Any) -> torch.dtype:
    """Type of the largest weight."""
    largest: torch.dtype = max(model.parameters(), key=torch.Tensor.numel).dtype
    return largest


def short_copy(model: Any, dtype: torch.dtype) -> Any:
    """A copy of a model with its 32-bit weights in ``dtype``; tied weights stay tied.

    Buffers (the frequencies of rotary positions) keep their type, as ``from_pretrained`` leaves
    them, and so do weights that the family wants in 32 bits.
    """
    kept = {
        *(getattr(model, "_keep_in_fp32_modules", None) or ()),
        *(getattr(model, "_keep_in_fp32_modules_strict", None) or ()),
    }
    made: dict[int, Any] = {}
    for name, weight in model.named_parameters():
        keeps = weight.dtype != torch.float32 or not kept.isdisjoint(name.split("."))
        short = weight.detach().to(weight.dtype if keeps else dtype, copy=True)
        made[id(weight)] = torch.nn.Parameter(short, requires_grad=False)
    return copy.deepcopy(model, made)  # which finds the weights in `made` and copies the rest


def lay_out(model: Any) -> None:
    """Put a copy's linear layers into the order in which a CPU multiplies 16-bit numbers.

    Otherwise each product puts its weights in order first, which takes longer than the product with
    the few rows of a step of sampling. The layers can then be read, and no longer changed or saved.
    Nothing happens on a CPU without such an order.

    Args:
        model: on the CPU, with weights in bfloat16; tied weights keep their plain form as well.
    """
    ops = torch.ops.mkldnn
    available = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    if not (available and hasattr(ops, "_reorder_linear_weight")):
        return
    if not ops._is_mkldnn_bf16_supported():
        return
    linear = [part for part in model.modules() if type(part) is torch.nn.Linear]
    own = {id(part.weight) for part in linear}
    shared = {
        id(weight)
        for part in model.modules()
        if type(part) is not torch.nn.Linear
        for weight in part.parameters(recurse=False)
    } & own
    for layer in linear:
        if layer.weight.dtype != torch.bfloat16:
            continue
        ordered = ops._reorder_linear_weight(layer.weight.detach(), _ROWS)
        vars(layer)["forward"] = partial(_multiply, ordered, layer.bias)
        if id(layer.weight) not in shared:
            layer.weight = torch.nn.Parameter(layer.weight.new_empty(0), requires_grad=False)


def _multiply(ordered: Tensor, bias: Tensor | None, inputs: Tensor) -> Tensor:
    result: Tensor = torch.ops.mkldnn._linear_pointwise(inputs, ordered, bias, "none", [], "")
    return result
