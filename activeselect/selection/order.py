"""Training order as pure functions: what makes a resumed run see exactly the same examples."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from activeselect.errors import StrategyError
from activeselect.selection.strategy import Selection

IntArray = NDArray[np.int64]


def draw_samples(selection: Selection, total: int, *, seed: int, round: int) -> IntArray:
    """The multiset of examples that one round trains on, in proportion to the weights.

    Systematic sampling: an example of weight w appears floor or ceil of ``total * w / sum(w)``
    times (up to the rounding of the sum), so equal weights and ``total = K`` give every example
    exactly once, and weight 0 never appears. The ticks fall on the examples in a random order, so
    that which examples appear together is random too.

    Args:
        selection: K examples with weights.
        total: number of samples in the round.

    Returns:
        Positions in the pool, int64 ``[total]``, grouped by example (unshuffled).

    Raises:
        StrategyError: if there are samples to draw and no example has a positive weight.

    Example:
        >>> draw_samples(Selection.of([4, 7], [1.0, 3.0]), 4, seed=0, round=0).tolist()
        [4, 7, 7, 7]
    """
    if total == 0:
        return np.empty(0, dtype=np.int64)
    positive = selection.weight > 0
    index, weight = selection.index[positive], selection.weight[positive]
    if len(index) == 0:
        raise StrategyError(
            f"There is nothing to train on: {total} samples were asked of a selection of "
            f"{len(selection.index)} examples, none of positive weight."
        )
    rng = np.random.default_rng([seed, round, 1])
    order = rng.permutation(len(index))
    # Divided by the largest weight the sum cannot overflow, and equal weights add up exactly.
    edges = np.cumsum(weight[order] / weight.max())
    edges *= total / edges[-1]
    # Ticks lie at offset, offset + 1, ...; away from whole numbers, where rounding would decide.
    margin = min(0.25, _ROUNDING * total)
    offset = rng.uniform(margin, 1 - margin)
    below = np.clip(np.ceil(edges - offset), 0, total).astype(np.int64)
    below[-1] = total
    times = np.empty_like(below)
    times[order] = np.diff(below, prepend=0)
    return np.repeat(index, times)


#: Relative rounding of the cumulative sum that must not move a tick.
_ROUNDING = 1e-12


def rank_order(
    index: IntArray,
    *,
    seed: int,
    round: int,
    rank: int = 0,
    world_size: int = 1,
    consumed: int = 0,
) -> IntArray:
    """What one rank still has to train on in a round, in order.

    The samples are shuffled by (seed, round) alone, the ones already consumed (over all ranks)
    are skipped, and the rest is dealt to the ranks in turn; so ranks are disjoint, a resume at any
    offset continues the same order, and the world size may change in between. What does not
    divide by the world size is left out at the end (fewer than ``world_size`` samples), because
    every rank has to make the same number of steps.

    Args:
        index: the round's samples with repetitions, int64 ``[K]``.
        consumed: samples of this round that are trained already, over all ranks.

    Returns:
        int64 ``[(K - consumed) // world_size]``.

    Example:
        >>> whole = rank_order(np.arange(6), seed=1, round=0)
        >>> rest = rank_order(np.arange(6), seed=1, round=0, consumed=2)
        >>> bool((whole[2:] == rest).all())
        True
    """
    if not 0 <= rank < world_size:
        raise ValueError(f"rank must lie in [0, {world_size}); received {rank}")
    if not 0 <= consumed <= len(index):
        raise ValueError(f"consumed must lie in [0, {len(index)}]; received {consumed}")
    shuffled = np.random.default_rng([seed, round, 2]).permutation(index)[consumed:]
    even = len(shuffled) - len(shuffled) % world_size
    return shuffled[:even][rank::world_size]
