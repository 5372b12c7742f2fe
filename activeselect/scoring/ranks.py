"""The processes of a run: one, or several that Lightning started and connected.

Every process ("rank") runs the same program. What all have to know is gathered; what must happen
once happens on rank 0, and the others are told its result, or its error.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch.distributed as dist

from activeselect.errors import ActiveSelectError

T = TypeVar("T")


def rank() -> int:
    """Number of this process, from 0."""
    return dist.get_rank() if _several() else 0


def world_size() -> int:
    """How many processes there are."""
    return dist.get_world_size() if _several() else 1


def gathered(value: T) -> list[T]:
    """The values of all ranks, in their order, on every rank."""
    if not _several():
        return [value]
    values: list[Any] = [None] * world_size()
    dist.all_gather_object(values, value)
    return values


def together(work: Callable[[], T]) -> list[T]:
    """Let every rank do its part; returns all results, or raises the first error, on every rank.

    Without this a rank that fails would leave the others waiting for it.

    Raises:
        Exception: what ``work`` raised on this rank, or else an ActiveSelectError that says what it
            raised on another one.
    """
    if not _several():
        return [work()]
    result, mine = None, None
    try:
        result = work()
    except Exception as error:
        mine = error
    outcomes = gathered((result, None if mine is None else _portable(mine)))
    if mine is not None:
        if isinstance(mine, ActiveSelectError):
            mine.elsewhere = rank() > 0
        raise mine
    for _, theirs in outcomes:
        if theirs is not None:
            theirs.elsewhere = rank() > 0
            raise theirs
    return [outcome for outcome, _ in outcomes]  # type: ignore[misc]


def once(work: Callable[[], T]) -> T:
    """Let rank 0 do something; every rank returns its result, or raises its error."""
    return together(lambda: work() if rank() == 0 else None)[0]  # type: ignore[return-value]


def _several() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def _portable(error: Exception) -> ActiveSelectError:
    """The error as other processes can read it."""
    if isinstance(error, ActiveSelectError):
        return type(error)(str(error))
    return ActiveSelectError(f"Rank {rank()} failed ({type(error).__name__}: {error}).")
