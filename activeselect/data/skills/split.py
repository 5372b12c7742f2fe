"""Which questions may be learned from, and which are for tests: decided by the question alone.

The rule is a checksum of the text, so no list has to be kept and it holds across pools, test sets,
fresh draws and the base model's own training, on every platform and in every process::

    "ann has 9 kites but loses 2 and then buys 5 more . how many kites now ?"  ->  pool
"""

from __future__ import annotations

import zlib

TUNING_SEED = 1000  # data built with this seed or a higher one is for tuning


def _bucket(question: str) -> int:
    return zlib.crc32(question.encode()) % 10


def in_pool(question: str) -> bool:
    """Whether the question may be learned from; eight in ten may.

    Example:
        >>> question = "ann has 9 kites but loses 2 and then buys 5 more . how many kites now ?"
        >>> in_pool(question), in_test(question, seed=0), in_test(question, seed=1000)
        (True, False, False)
    """
    return _bucket(question) > 1


def in_test(question: str, seed: int) -> bool:
    """Whether the question is for the test set of this seed: one in ten is.

    Seeds from ``TUNING_SEED`` share another tenth: what a recipe is tuned on is in no other test.
    """
    return _bucket(question) == int(seed >= TUNING_SEED)
