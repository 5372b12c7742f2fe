"""Target shares: how the questions that a model will be asked spread over the pool's groups."""

from __future__ import annotations

import numpy as np

from activeselect.arrays import FloatArray, IntArray
from activeselect.data.pool import Pool
from activeselect.errors import ConfigError, DataError

#: How many questions, mixed as the pool is, the target questions are completed with.
PRIOR = 10
#: Similarities that are held at once.
_CELLS = 2**22


def target_shares(pool: Pool, target: Pool) -> FloatArray:
    """Share of each group of the pool among the target questions, smoothed.

    A group with n of M target questions and the share p of the pool has the share
    (n + 10 p) / (M + 10): that of the target questions and ten more, mixed as the pool is. So no
    group of the pool is impossible, and few questions change little.

    A target question belongs to the group that it names. One that names none belongs to that of
    the pool's question with the most similar words (TF-IDF cosine; of several the first in the
    pool), and is left out where no question has a word of it.

    Args:
        pool: in the groups, or regions, that strategies see.
        target: the questions.

    Returns:
        float64 ``[G]``, in the order of ``pool.group_names``; it adds up to 1.

    Raises:
        ConfigError: if the pool is one group.
        DataError: if a target question names a group that the pool does not have.

    Example:
        >>> from activeselect.data.pool import Problem
        >>> def asks(*questions: tuple[str, str]) -> Pool:
        ...     rows = [Problem(i, q, "", "", group) for i, (q, group) in enumerate(questions)]
        ...     return Pool.from_problems(rows, checker="number")
        >>> pool = asks(("two apples ?", "fruit"), ("two miles ?", "ways"))
        >>> target_shares(pool, asks(*[("five apples ?", "")] * 10)).tolist()
        [0.75, 0.25]
    """
    size = len(pool.group_names)
    if size < 2:
        raise ConfigError(
            "data.target: expected a pool with groups or regions, whose shares target questions "
            "can tell; received one group. Set rounds.regions, or name a column in data.group."
        )
    groups = _groups_of(pool, target)
    counts = np.bincount(groups[groups >= 0], minlength=size)
    own = np.bincount(pool.groups, minlength=size) / len(pool)
    return np.asarray((counts + PRIOR * own) / (counts.sum() + PRIOR), dtype=np.float64)


def _groups_of(pool: Pool, target: Pool) -> IntArray:
    """Group of the pool of each target question, int64 ``[M]``; -1: nobody can tell."""
    code = {name: place for place, name in enumerate(pool.group_names) if name}
    strange = [name for name in target.group_names if name and name not in code]
    if strange:
        count = int(np.isin(target.groups, [target.group_names.index(n) for n in strange]).sum())
        raise DataError(
            f"data.target: expected groups of the pool ({_few([*code])}); {count} of {len(target)} "
            f"questions are in others ({_few(strange)}). Name the pool's groups, or leave the "
            "column out: a question without a group counts to that of the most similar question."
        )
    names = np.array([code.get(name, -1) for name in target.group_names], dtype=np.int64)
    groups: IntArray = names[target.groups]
    unnamed = np.flatnonzero(groups < 0)
    if len(unnamed):
        groups[unnamed] = _most_similar(pool, target.subset(unnamed))
    return groups


def _most_similar(pool: Pool, target: Pool) -> IntArray:
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectoriser = TfidfVectorizer(sublinear_tf=True, token_pattern=r"\w+", dtype=np.float32)
    try:
        words = vectoriser.fit_transform(pool.texts("question"))
    except ValueError as error:  # scikit-learn: "empty vocabulary"
        raise ConfigError("data.target: the questions of the pool have no words.") from error
    asked = vectoriser.transform(target.texts("question"))
    groups = np.empty(len(target), dtype=np.int64)
    rows = max(1, _CELLS // len(pool))
    for start in range(0, len(target), rows):
        cosine = (asked[start : start + rows] @ words.T).toarray()
        found = np.where(cosine.any(axis=1), pool.groups[cosine.argmax(axis=1)], -1)
        groups[start : start + rows] = found
    return groups


def _few(names: list[str]) -> str:
    shown = ", ".join(map(repr, names[:5]))
    return shown if len(names) <= 5 else f"{shown} and {len(names) - 5} more"
