"""Duplicates: questions that a pool states twice, or that the test asks as well.

Two questions are *exact* duplicates if they are the same after normalization: compatible characters
unified (NFKC), lower case, everything but letters, digits and decimal points as one space. They are
*near* duplicates if they hold the same numbers, equally often, and the sets of their runs of three
words have a Jaccard similarity of at least :data:`NEAR`. The same story with other numbers is
another problem: built-in and templated data is full of those.

Near duplicates are found by MinHash (Broder, 1997) with 32 bands of 4 hashes, and each pair found
is compared exactly, so that none is reported wrongly; a pair at the threshold is missed with a
probability of 5e-8. Only questions that share their numbers with another one are hashed.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

OnLeak: TypeAlias = Literal["stop", "drop", "keep"]
#: Jaccard similarity of runs of three words from which on two questions are near duplicates.
NEAR = 0.8
#: Questions up to which near duplicates are looked for; beyond it only exact ones are.
MOST = 200_000
_BANDS, _ROWS = 32, 4
_WORD = re.compile(r"\d+(?:[.,]\d+)*|[^\W\d_]+")
_DRAWS = np.random.default_rng(20).integers(1, 2**63, (2, _BANDS * _ROWS), dtype=np.uint64)
_FACTORS, _SHIFTS = _DRAWS[0] | np.uint64(1), _DRAWS[1]


@dataclass(frozen=True)
class Duplicate:
    """A question of a pool that occurs elsewhere.

    Attributes:
        index: its position.
        of: ``test``, or ``pool``: an earlier question of the same pool.
        other: position of the other question there.
        similarity: Jaccard similarity; 1 for exact duplicates.
        exact: whether they are the same after normalization.
    """

    index: int
    of: str
    other: int
    similarity: float
    exact: bool


def normalized(question: str) -> str:
    """The question as exact duplicates are compared.

    Example:
        >>> normalized("How  many PEARS, if 1,200 are left?")
        'how many pears if 1,200 are left'
    """
    return " ".join(_words(question))


def _words(question: str) -> list[str]:
    return _WORD.findall(unicodedata.normalize("NFKC", question).lower())


def shingles(words: Sequence[str]) -> set[tuple[str, ...]]:
    """Runs of three words; the words themselves where there are fewer."""
    runs = {tuple(words[i : i + 3]) for i in range(len(words) - 2)}
    return runs or {tuple(words)}


def jaccard(a: set[tuple[str, ...]], b: set[tuple[str, ...]]) -> float:
    """Share of the runs of either that both have, in [0, 1]."""
    return len(a & b) / len(a | b)


def find_duplicates(
    questions: Sequence[str], test: Sequence[str] = (), *, near: bool | None = None
) -> list[Duplicate]:
    """Questions of a pool that the test asks as well, or that the pool asked before.

    Args:
        questions: of the pool.
        test: questions of the test.
        near: whether near duplicates are looked for; default: up to :data:`MOST` questions.

    Returns:
        at most one per question and place, in order; the one of the highest similarity.

    Example:
        >>> found = find_duplicates(["What is 1 + 1?", "Why?", "what is 1 + 1"], ["WHY?"])
        >>> [(one.index, one.of, one.other) for one in found]
        [(1, 'test', 0), (2, 'pool', 0)]
    """
    if near is None:
        near = len(questions) + len(test) <= MOST
    if not near:
        return _exact(questions, test)
    shared: Counter[str] = Counter()
    shared.update(_numbers(_words(question)) for part in (questions, test) for question in part)
    asked, before = _Index(test), _Index(questions)
    for position, question in enumerate(test):
        asked.add(position, _Looks.of(question, shared))
    found: list[Duplicate] = []
    for position, question in enumerate(questions):
        looks = _Looks.of(question, shared)
        for name, index in (("test", asked), ("pool", before)):
            match = index.find(looks)
            if match is not None:
                found.append(Duplicate(position, name, *match))
        before.add(position, looks)
    return found


def _exact(questions: Sequence[str], test: Sequence[str]) -> list[Duplicate]:
    """Exact duplicates alone, by 16 bytes per question: a pool of millions fits into memory."""
    keys = np.concatenate([_keys(test), _keys(questions)])  # [T + N, 2]
    order = np.lexsort(keys.T)  # stable: of equal keys the first question comes first
    new = np.ones(len(keys), dtype=bool)
    new[1:] = (keys[order[1:]] != keys[order[:-1]]).any(axis=1)
    of = np.empty(len(keys), dtype=np.int64)
    of[order] = np.cumsum(new) - 1  # which of the distinct questions each is
    size, none = len(test), len(keys)
    asked, before = np.full(of.max(initial=-1) + 1, none), np.full(of.max(initial=-1) + 1, none)
    asked[of[:size][::-1]] = np.arange(size)[::-1]  # the first one is written last
    before[of[size:][::-1]] = np.arange(len(questions))[::-1]
    mine = of[size:]
    found: list[Duplicate] = []
    for place in np.flatnonzero((asked[mine] < none) | (before[mine] < np.arange(len(mine)))):
        if asked[mine[place]] < none:
            found.append(Duplicate(int(place), "test", int(asked[mine[place]]), 1.0, True))
        if before[mine[place]] < place:
            found.append(Duplicate(int(place), "pool", int(before[mine[place]]), 1.0, True))
    return found


def _keys(questions: Sequence[str]) -> NDArray[np.uint64]:
    """Hash of each normalized question, uint64 ``[N, 2]``."""
    keys = bytearray()
    for question in questions:
        keys += _key(_words(question))
    return np.frombuffer(keys, dtype=np.uint64).reshape(-1, 2)


def _key(words: Sequence[str]) -> bytes:
    """16 bytes in place of the normalized text."""
    return hashlib.blake2b(" ".join(words).encode(), digest_size=16).digest()


@dataclass(frozen=True)
class _Looks:
    """What two questions are compared by."""

    words: list[str]
    key: bytes
    bands: list[tuple[int, str, bytes]]

    @classmethod
    def of(cls, question: str, shared: Counter[str]) -> _Looks:
        words = _words(question)
        numbers = _numbers(words)
        bands = list(_bands(words, numbers)) if words and shared[numbers] > 1 else []
        return cls(words, _key(words), bands)


def _numbers(words: Sequence[str]) -> str:
    return " ".join(sorted(word for word in words if word[0].isdigit()))


def _bands(words: Sequence[str], numbers: str) -> Iterator[tuple[int, str, bytes]]:
    runs = [zlib.crc32(" ".join(run).encode()) for run in shingles(words)]
    with np.errstate(over="ignore"):  # multiplication modulo 2^64 is the hash
        hashes = (np.array(runs, np.uint64)[:, None] * _FACTORS + _SHIFTS) >> np.uint64(32)
    least = hashes.min(axis=0).astype(np.uint32).reshape(_BANDS, _ROWS)
    for band, row in enumerate(least):
        yield band, numbers, row.tobytes()


class _Index:
    """Questions by their normalized text and by the bands of their hashes."""

    def __init__(self, questions: Sequence[str]) -> None:
        self.questions = questions
        self._same: dict[bytes, int] = {}
        self._bands: dict[tuple[int, str, bytes], list[int]] = {}

    def add(self, position: int, looks: _Looks) -> None:
        if looks.key in self._same:
            return  # what is near the second is near the first
        self._same[looks.key] = position
        for key in looks.bands:
            self._bands.setdefault(key, []).append(position)

    def find(self, looks: _Looks) -> tuple[int, float, bool] | None:
        """The most similar question: its position, the similarity, and whether it is exact."""
        if looks.key in self._same:
            return self._same[looks.key], 1.0, True
        candidates = {place for key in looks.bands for place in self._bands.get(key, ())}
        mine = shingles(looks.words)
        best: tuple[float, int] | None = None
        for place in sorted(candidates):
            similarity = jaccard(mine, shingles(_words(self.questions[place])))
            if similarity >= NEAR and (best is None or similarity > best[0]):
                best = similarity, place
        return None if best is None else (best[1], best[0], False)
