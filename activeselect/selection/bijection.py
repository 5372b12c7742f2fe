"""Random permutations that cost no memory: any place can be asked for at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

IntArray = NDArray[np.int64]
Words = NDArray[Any]  # of one unsigned type

#: From places in [0, size) to other places in [0, size), one to one.
Permutation = Callable[[IntArray], IntArray]

#: Up to this size a table is drawn, uniform among all permutations; it takes milliseconds.
TABLE = 2**20
_ROUNDS = 6
#: Numbers in the key of :func:`scramble`.
KEY = 2 * _ROUNDS


def permutation(size: int, key: list[int]) -> Permutation:
    """A random permutation of ``[0, size)``, a pure function of the key.

    Above :data:`TABLE` places it is computed place by place (:func:`scramble`), so that a shuffle
    of 10^8 places starts at once.

    Args:
        key: non-negative integers, as for ``numpy.random.default_rng``.

    Example:
        >>> shuffle = permutation(5, key=[0])
        >>> sorted(shuffle(np.arange(5)).tolist())
        [0, 1, 2, 3, 4]
    """
    if size <= TABLE:
        table = np.random.default_rng(key).permutation(size)
        return lambda places: table[places]
    numbers = np.random.SeedSequence(key).generate_state(KEY, np.uint64)
    return lambda places: scramble(places, size, numbers)


def scramble(places: IntArray, size: int, numbers: Words) -> IntArray:
    """Permute ``[0, size)`` by a keyed bijection of the next power of two and cycle walking.

    A place that leaves ``[0, size)`` is mapped again until it is back (Black and Rogaway, 2002),
    which keeps the mapping one to one and takes less than two turns on average; bijections instead
    of shuffles: Mitchell et al., "Bandwidth-optimal random shuffling for GPUs", 2022.

    Args:
        places: int64 ``[K]``, each in ``[0, size)``.
        numbers: the key, uint64 ``[12]``.

    Returns:
        int64 ``[K]``.
    """
    bits = max(1, (size - 1).bit_length())
    word = np.uint32 if bits <= 32 else np.uint64  # narrow words are twice as fast
    key = numbers.astype(word).reshape(_ROUNDS, 2)
    out = _mix(places.astype(word), bits, key)
    outside = np.flatnonzero(out >= size)
    while len(outside):
        again = _mix(out[outside], bits, key)
        out[outside] = again
        outside = outside[again >= size]
    return out.astype(np.int64)


def _mix(x: Words, bits: int, key: Words) -> Words:
    """Multiply by odd numbers, add, fold the high half onto the low one; in place, one to one."""
    word = x.dtype.type
    half, mask, one = word((bits + 1) // 2), word((1 << bits) - 1), word(1)
    high = np.empty_like(x)
    for factor, summand in key:
        np.right_shift(x, half, out=high)
        x ^= high
        x *= factor | one
        x += summand
        x &= mask
    np.right_shift(x, half, out=high)
    x ^= high
    return x
