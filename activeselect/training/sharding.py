"""Models whose weights are spread over the ranks (FSDP2, ``torch.distributed.fsdp``)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.fsdp import FSDPModule, fully_shard

from activeselect.errors import ModelError


def shard(model: Any, mesh: Any) -> None:
    """Spread a transformers model over the ranks of ``mesh``, layer by layer.

    Args:
        model: with all its weights on this rank.
        mesh: the ranks, one-dimensional.

    Raises:
        ModelError: if the model's layers cannot be found.
    """
    for layer in _layers(model):
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)


def is_sharded(model: Any) -> bool:
    return isinstance(model, FSDPModule)


@contextmanager
def whole(model: Any) -> Iterator[None]:
    """All weights on every rank inside the block, so that ranks can compute without each other.

    Ranks generate and score different examples, in different numbers of steps; with sharded
    weights each step would need all ranks. Every rank has to enter and to leave. A model that is
    not sharded is left alone.
    """
    units = [part for part in model.modules() if isinstance(part, FSDPModule)]
    for unit in units:
        unit.set_reshard_after_forward(False, recurse=False)
        unit.unshard()
    try:
        yield
    finally:
        for unit in units:
            # as fully_shard's default: the root keeps its own weights until the backward pass
            unit.set_reshard_after_forward(unit is not model, recurse=False)
            unit.reshard()


def whole_state(model: Any) -> dict[str, Any] | None:
    """All weights of a sharded model, on rank 0's CPU (empty elsewhere); None: it is not sharded.

    Every rank has to call it.
    """
    if not is_sharded(model):
        return None
    options = StateDictOptions(full_state_dict=True, cpu_offload=True)
    state: dict[str, Any] = get_model_state_dict(model, options=options)
    return state


def _layers(model: Any) -> list[Any]:
    count = model.config.get_text_config(decoder=True).num_hidden_layers
    for part in model.modules():
        if isinstance(part, torch.nn.ModuleList) and len(part) == count:
            return list(part)
    raise ModelError(
        f"The layers of {type(model).__name__} are not a list, so they cannot be spread over "
        "devices; use parallel=ddp."
    )
