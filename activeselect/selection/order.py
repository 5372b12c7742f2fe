"""Training order as pure functions, so that a resumed run sees exactly the same examples.

An epoch is drawn in blocks and on demand, so that its first batch comes at once and its memory is
one number per sample, however large the pool.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from activeselect.arrays import IntArray
from activeselect.errors import StrategyError
from activeselect.selection.strategy import Selection
from activeselect.streams import Stream

# --- Random permutations without memory


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


#: Examples whose draws are worked out together; what one sample costs at the start of an epoch.
BLOCK = 2**13
#: Samples that an epoch yields together: few at first, because each may need a block of its own.
_FIRST, _CHUNK = 2**6, 2**16
#: Relative rounding of the cumulative sum that must not move a tick.
_ROUNDING = 1e-12


class Draws:
    """The multiset of examples that one epoch trains on, in proportion to the weights.

    Systematic sampling: an example of weight w appears floor or ceil of ``total * w / sum(w)``
    times (up to the rounding of the sum), so equal weights and ``total = K`` give every example
    exactly once, and weight 0 never appears. The examples are laid on a line, each as long as its
    weight, and ticks at equal distances fall on them; blocks of examples lie in a random order,
    and so do the examples of a block, so that which examples appear together is random too.

    ``draws[places]`` are samples of the multiset, grouped by example; only the blocks that they
    lie in are worked out. The arrays of the selection must not change meanwhile.

    Args:
        selection: K examples with weights.
        total: number of samples in the epoch.

    Raises:
        StrategyError: if there are samples to draw and no example has a positive weight.

    Example:
        >>> draws = Draws(Selection.of([4, 7], [1.0, 3.0]), 4, seed=0, epoch=0)
        >>> draws[np.arange(4)].tolist()
        [4, 7, 7, 7]
    """

    def __init__(self, selection: Selection, total: int, *, seed: int, epoch: int) -> None:
        self._index, self._weight = selection.index, selection.weight
        self._largest = float(self._weight.max(initial=0.0))
        if total and not self._largest:
            raise StrategyError(
                f"There is nothing to train on: {total} samples were asked of a selection of "
                f"{len(self._index)} examples, none of positive weight."
            )
        small = self._index.max(initial=0) < 2**31
        self._samples = np.empty(total, dtype=np.int32 if small else np.int64)
        mass = self._block_mass() if total else np.zeros(1)
        rng = np.random.default_rng([seed, epoch, Stream.SAMPLER])
        line = rng.permutation(len(mass))
        # one block lies as the stream has it; of many, each is laid by a key of its own when needed
        self._only = self._laid(0, rng.permutation) if len(mass) == 1 else None
        many = 0 if len(mass) == 1 else len(mass)
        self._keys = rng.integers(2**64, size=(many, KEY), dtype=np.uint64)
        edges = np.cumsum(mass[line])
        self._scale = total / edges[-1] if total else 0.0
        # Ticks lie at offset, offset + 1, ...; away from whole numbers, where rounding decides.
        margin = min(0.25, _ROUNDING * total)
        self._offset = rng.uniform(margin, 1 - margin)
        below = np.clip(np.ceil(edges * self._scale - self._offset), 0, total).astype(np.int64)
        below[-1] = total
        self._edge, self._below = np.empty(len(mass)), np.empty(len(mass), dtype=np.int64)
        self._edge[line] = np.concatenate([[0.0], edges[:-1]])  # where a block begins on the line
        self._below[line] = np.concatenate([[0], below[:-1]])  # ticks before that
        times = np.empty_like(below)
        times[line] = np.diff(below, prepend=0)
        self._starts = np.concatenate([[0], np.cumsum(times)])  # of each block's samples
        self._missing = times > 0  # blocks whose samples are not worked out yet
        self._complete = not self._missing.any()

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, places: IntArray) -> IntArray:
        if not self._complete:
            blocks = np.searchsorted(self._starts, places, side="right") - 1
            wanted = np.zeros_like(self._missing)
            wanted[blocks] = True
            for block in np.flatnonzero(wanted & self._missing):
                self._fill(int(block))
            self._complete = not self._missing.any()
        return self._samples[places].astype(np.int64)

    def _block_mass(self) -> NDArray[np.float64]:
        """Sum of the weights of each block, relative to the largest, so that it is finite."""
        sums = []
        whole = len(self._weight) - len(self._weight) % BLOCK
        for start in range(0, whole, 128 * BLOCK):
            rows = self._weight[start : min(whole, start + 128 * BLOCK)]
            sums.append((rows / self._largest).reshape(-1, BLOCK).sum(axis=1))
        if whole < len(self._weight):
            sums.append((self._weight[whole:] / self._largest).sum(keepdims=True))
        return np.concatenate(sums)

    def _laid(self, block: int, permutation: Callable[[int], IntArray]) -> IntArray:
        """Rows of a block that have a weight, in the order in which they lie on the line."""
        weight = self._weight[block * BLOCK : (block + 1) * BLOCK]
        if weight.min(initial=1.0) > 0:
            return permutation(len(weight))
        rows: IntArray = np.flatnonzero(weight)
        return rows[permutation(len(rows))]

    def _fill(self, block: int) -> None:
        """Lay the examples of a block on their part of the line, and count the ticks on each."""
        rows = slice(block * BLOCK, (block + 1) * BLOCK)
        order = self._only
        if order is None:
            order = self._laid(block, lambda n: scramble(np.arange(n), n, self._keys[block]))
        start, stop = self._starts[block], self._starts[block + 1]
        first, last = self._below[block], self._below[block] + stop - start
        edges = self._weight[rows][order]
        edges /= self._largest
        np.cumsum(edges, out=edges)
        edges += self._edge[block]
        edges *= self._scale
        edges -= self._offset
        np.ceil(edges, out=edges)
        edges[-1] = last
        below = np.clip(edges, first, last, out=edges).astype(np.int64)
        times = np.zeros(len(self._index[rows]), dtype=np.int64)
        times[order] = np.diff(below, prepend=first)
        self._samples[start:stop] = np.repeat(self._index[rows], times)
        self._missing[block] = False


def draw_samples(selection: Selection, total: int, *, seed: int, epoch: int) -> IntArray:
    """All samples of an epoch (see :class:`Draws`), int64 ``[total]``, unshuffled."""
    return Draws(selection, total, seed=seed, epoch=epoch)[np.arange(total)]


def epoch_order(
    selection: Selection,
    total: int,
    *,
    seed: int,
    epoch: int,
    rank: int = 0,
    world_size: int = 1,
    consumed: int = 0,
) -> Iterator[IntArray]:
    """What one rank still has to train on in an epoch, in order, in chunks, int64 ``[<= 65536]``.

    The samples (see :class:`Draws`) are shuffled by (seed, epoch) alone, the ones already consumed
    (over all ranks) are skipped, and the rest is dealt to the ranks in turn; so ranks are disjoint,
    a resume at any offset continues the same order, and the world size may change in between. What
    does not divide by the world size is left out at the end (fewer than ``world_size`` samples),
    because every rank has to make the same number of steps.

    Args:
        selection: K examples with weights.
        total: samples of the epoch, over all ranks.
        consumed: samples of this epoch that are trained already, over all ranks.

    Example:
        >>> chunks = epoch_order(Selection.of([3, 5, 8]), 3, seed=0, epoch=0)
        >>> sorted(np.concatenate(list(chunks)).tolist())
        [3, 5, 8]
    """
    places = _places(total, rank, world_size, consumed)
    draws = Draws(selection, total, seed=seed, epoch=epoch)
    shuffle = permutation(total, [seed, epoch, Stream.SHUFFLE])
    size, start = _FIRST, 0
    while start < len(places):
        chunk = places[start : start + size]
        yield draws[shuffle(np.arange(chunk.start, chunk.stop, chunk.step))]
        start, size = start + size, min(2 * size, _CHUNK)


def rank_order(
    index: IntArray,
    *,
    seed: int,
    epoch: int,
    rank: int = 0,
    world_size: int = 1,
    consumed: int = 0,
) -> IntArray:
    """One rank's share of given samples, as :func:`epoch_order` shuffles and deals them.

    Returns:
        int64 ``[(K - consumed) // world_size]``.

    Example:
        >>> whole = rank_order(np.arange(6), seed=1, epoch=0)
        >>> rest = rank_order(np.arange(6), seed=1, epoch=0, consumed=2)
        >>> bool((whole[2:] == rest).all())
        True
    """
    places = _places(len(index), rank, world_size, consumed)
    shuffle = permutation(len(index), [seed, epoch, Stream.SHUFFLE])
    share: IntArray = index[shuffle(np.arange(places.start, places.stop, places.step))]
    return share


def _places(total: int, rank: int, world_size: int, consumed: int) -> range:
    """Places of the shuffled epoch that a rank trains on."""
    if not 0 <= rank < world_size:
        raise ValueError(f"rank must lie in [0, {world_size}); received {rank}")
    if not 0 <= consumed <= total:
        raise ValueError(f"consumed must lie in [0, {total}]; received {consumed}")
    return range(consumed + rank, total - (total - consumed) % world_size, world_size)
