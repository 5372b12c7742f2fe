"""Random numbers of completions: one stream each, a pure function of where it stands in a run."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

IntArray = NDArray[np.int64]
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def stream_keys(
    index: IntArray, samples: int, *, seed: int, round: int, offset: IntArray | int = 0
) -> NDArray[np.uint64]:
    """One random-stream key per completion, uint64 ``[B, samples]``.

    Args:
        offset: completions that each example has in this round already, int ``[B]``: those that
            follow are the ones it would have been given at once.
    """
    base = np.random.SeedSequence([seed, round, 3]).generate_state(1, np.uint64)[0]
    with np.errstate(over="ignore"):
        rows = _mix(base + index.astype(np.uint64) * _GOLDEN)[:, None]
        number = np.arange(1, samples + 1) + np.reshape(offset, (-1, 1))
        return _mix(rows + number.astype(np.uint64) * _GOLDEN)


def uniforms(keys: NDArray[np.uint64], step: int | IntArray) -> NDArray[np.float64]:
    """The ``step``-th number of each stream, uniform in [0, 1) (splitmix64, Steele et al. 2014).

    Args:
        keys: the streams.
        step: of all streams, or of each.
    """
    with np.errstate(over="ignore"):
        bits = _mix(keys + np.asarray(step + 1).astype(np.uint64) * _GOLDEN)
    uniform: NDArray[np.float64] = (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53
    return uniform


def _mix(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
