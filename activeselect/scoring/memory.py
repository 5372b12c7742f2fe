"""Memory: scoring continues with smaller batches where it runs out, and gives back what it took."""

from __future__ import annotations

import ctypes
import logging
from collections.abc import Callable, Sequence
from functools import cache

import torch

from activeselect.arrays import IntArray
from activeselect.errors import ModelError

_log = logging.getLogger(__name__)
_SIGNS = ("out of memory", "can't allocate memory")


def run_batches(
    batches: Sequence[IntArray], lengths: Sequence[int], compute: Callable[[IntArray], None]
) -> None:
    """Compute batch by batch; one that memory is too small for is halved, and so are larger ones.

    Args:
        batches: rows of each batch.
        lengths: tokens of each row, for the size of a batch with its padding.
        compute: measures some rows and keeps what it finds; it may be asked for a row again.

    Raises:
        ModelError: if memory is too small for a single row.
    """
    waiting = list(reversed(batches))
    most = float("inf")  # padded tokens that memory was not too small for
    while waiting:
        rows = waiting.pop()
        size = len(rows) * max(lengths[i] for i in rows)
        if (size > most and len(rows) > 1) or _overflows(compute, rows):
            if len(rows) == 1:
                raise too_small(size)
            if size <= most:
                if most == float("inf"):
                    warn_of_halves(size)
                most = size / 2
            waiting += [rows[len(rows) // 2 :], rows[: len(rows) // 2]]


def _overflows(compute: Callable[[IntArray], None], rows: IntArray) -> bool:
    """Compute, and say whether memory ran out; what the attempt held is free again."""
    try:
        compute(rows)
    except (MemoryError, RuntimeError) as error:  # torch.OutOfMemoryError is a RuntimeError
        if not is_out_of_memory(error):
            raise
    else:
        return False
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return True


def too_small(size: int) -> ModelError:
    """The error where a single text, or a single prompt's completions, need too much."""
    return ModelError(
        f"Memory is too small for a single text of {size} tokens; lower scoring.max_new_tokens, "
        "scoring.samples or recipe.max_length, or use a smaller model."
    )


def warn_of_halves(size: int) -> None:
    """Log that scoring continues with smaller batches, and which setting avoids it."""
    _log.warning(
        f"Memory is too small for a batch of {size} tokens; scoring goes on with halves. Set "
        "scoring.batch_tokens lower to save the failed attempts."
    )


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory ran out, on a GPU or in the machine."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in _SIGNS)


def give_back() -> None:
    """Return freed memory to the system where the C library keeps it for itself (glibc).

    Tensors of a pass are freed between others that stay, and such gaps are not returned by
    themselves (docs/research/log.md has what a process held).
    """
    trim = _trim()
    if trim is not None:
        trim(0)


@cache
def _trim() -> Callable[[int], int] | None:
    try:
        found: Callable[[int], int] = ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError, TypeError):  # another C library, another system
        return None
    return found
