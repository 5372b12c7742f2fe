"""Groups for a pool that has none: clusters of questions with similar words."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from activeselect.data.pool import Pool
from activeselect.errors import ConfigError

_WIDTH = 64
#: Rows up to which k-means looks at all of them in every step.
_ALL = 20_000


def with_regions(pool: Pool, count: int) -> Pool:
    """The pool, its groups replaced by ``count`` clusters of its questions.

    k-means over TF-IDF word vectors, reduced to 64 dimensions by a truncated SVD; each region is
    named by its number and its three most characteristic words. A pure function of the
    questions (one thread, fixed seeds), so a run that is resumed has the same regions.

    Args:
        count: number of regions, at least 2.

    Raises:
        ConfigError: if the pool has fewer different questions than that, or they have no words.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer
    from threadpoolctl import threadpool_limits

    questions = list(pool.dataset["question"])
    vectoriser = TfidfVectorizer(sublinear_tf=True, token_pattern=r"\w+", dtype=np.float32)
    try:
        words = vectoriser.fit_transform(questions)
    except ValueError as error:  # scikit-learn: "empty vocabulary"
        raise ConfigError("rounds.regions: the questions of the pool have no words.") from error
    different = len({tuple(zip(row.indices, row.data, strict=True)) for row in words})
    if different < count:
        raise ConfigError(
            f"rounds.regions: expected at most {different}, the number of questions in the pool "
            f"that differ in their words; received {count}."
        )
    with threadpool_limits(limits=1):  # a sum in another order may move an example
        codes = _clusters(words, count)
    spelled = vectoriser.get_feature_names_out()
    names = []
    for region in range(count):
        # what it has more of than the pool: words that all questions share say nothing
        excess = np.asarray(words[codes == region].mean(axis=0) - words.mean(axis=0)).ravel()
        best = spelled[np.argsort(-excess, kind="stable")[:3]]
        names.append(" ".join([f"{region:0{len(str(count - 1))}d}", *best]))
    return pool.grouped(tuple(names), codes)


def _clusters(words: object, count: int) -> NDArray[np.int32]:
    from sklearn.cluster import KMeans, MiniBatchKMeans
    from sklearn.decomposition import TruncatedSVD
    from sklearn.preprocessing import normalize

    rows, columns = words.shape  # type: ignore[attr-defined]
    vectors = words
    if columns > _WIDTH:
        vectors = TruncatedSVD(_WIDTH, random_state=0).fit_transform(words)
    kind = KMeans if rows <= _ALL else MiniBatchKMeans
    codes = kind(count, random_state=0, n_init=3).fit_predict(normalize(vectors))
    return codes.astype(np.int32)  # type: ignore[no-any-return]
