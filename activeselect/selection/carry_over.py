"""Carry-over: what was measured on some examples says what to expect of the others.

Scores are paid for on examples that were trained on (or on a few candidates); a selection needs
them for every candidate. A *way* predicts the values of some examples from the known values of
others: the mean of the group, the mean of the most similar texts or embeddings, or a regression
on the texts. :class:`CarryOver` tries the ways on examples whose values are known (five-fold
cross-validation), takes the best one, says how far off it is, and says so where nothing carries
over.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.ensemble import ExtraTreesRegressor
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import RidgeCV

from activeselect.arrays import FloatArray, IntArray
from activeselect.data.pool import Pool
from activeselect.data.text_features import text_counts, without_numbers
from activeselect.selection.context import Neighbourhood

Columns = NDArray[np.float32]

#: Known examples from which on ways are compared; fewer cannot tell them apart.
ENOUGH = 30
#: Known examples that ways are compared on, and that a regression is fitted to, at most.
COMPARED, FITTED = 2000, 5000
_FOLDS = 5
#: Texts that the vocabulary is read off, at most, and texts that are read at once.
_VOCABULARY, _CHUNK = 20_000, 20_000
#: TF-IDF components of the questions, and as many of the traces.
_COMPONENTS = 40
#: Errors of the average size that count among the closest.
_AVERAGE = 5


@dataclass(frozen=True)
class Features:
    """What is known of every problem before it is scored (N problems).

    Attributes:
        counts: words, numbers, steps, operators, ...; at least 0, float32 ``[N, F]``.
        words: TF-IDF components of question and trace, float32 ``[N, K]``.
        groups: group of each problem, int32 ``[N]``; None where there is one group only.
        vectors: embeddings, float32 ``[N, D]``, or None where they were not measured.
        signals: numbers stated or measured for all of them (a difficulty), float32 ``[N, S]``;
            NaN counts as the mean.
    """

    counts: Columns
    words: Columns
    groups: NDArray[np.int32] | None = None
    vectors: Columns | None = None
    signals: Columns | None = None

    def take(self, index: IntArray) -> Features:
        """Those of the problems ``index``."""
        parts = {name: part[index] for name, part in vars(self).items() if part is not None}
        return replace(self, **parts)

    @classmethod
    def of(cls, pool: Pool, *, vectors: Columns | None = None) -> Features:
        """Features of all problems of a pool; what is read off the texts is kept for the pool.

        A pool in which any problem has no trace is described by its questions alone.
        """
        if pool not in _KEPT:
            _KEPT[pool] = _read_off(pool)
        counts, words = _KEPT[pool]
        groups = pool.groups if len(pool.group_names) > 1 else None
        stated = None if pool.difficulty is None else pool.difficulty.astype(np.float32)[:, None]
        return cls(counts, words, groups, vectors, stated)


_KEPT: WeakKeyDictionary[Pool, tuple[Columns, Columns]] = WeakKeyDictionary()


def _read_off(pool: Pool) -> tuple[Columns, Columns]:
    chunks = [
        np.arange(start, min(start + _CHUNK, len(pool))) for start in range(0, len(pool), _CHUNK)
    ]

    def texts(name: str, index: IntArray) -> list[str]:
        return list(pool.dataset.select_columns(name)[index.tolist()][name])

    traced = all(all(texts("trace", chunk)) for chunk in chunks)
    names = ("question", "trace") if traced else ("question",)
    step = max(1, len(pool) // _VOCABULARY)
    some = np.arange(0, len(pool), step)
    components = {name: WordComponents(_COMPONENTS).fit(texts(name, some)) for name in names}
    counts, words = [], []
    for chunk in chunks:
        read = {name: texts(name, chunk) for name in names}
        counts.append(text_counts(read["question"], read.get("trace")).astype(np.float32))
        words.append(np.hstack([components[name].transform(read[name]) for name in names]))
    if not chunks:
        return np.zeros((0, 0), np.float32), np.zeros((0, 0), np.float32)
    return np.concatenate(counts), np.concatenate(words)


class WordComponents:
    """TF-IDF components of texts (latent semantic analysis); every number counts as one word.

    Args:
        size: components, at most; fewer where the texts have fewer words.
    """

    def __init__(self, size: int) -> None:
        self.size = size

    def fit(self, texts: list[str]) -> WordComponents:
        """Learn the vocabulary and the components; texts without any word have none."""
        self._words = TfidfVectorizer(
            sublinear_tf=True, token_pattern=r"[^\W\d_]+|[^\w\s]", max_features=20_000
        )
        self._svd: TruncatedSVD | None = None
        try:
            table = self._words.fit_transform(map(without_numbers, texts))
        except ValueError:  # scikit-learn: "empty vocabulary"
            return self
        size = min(self.size, table.shape[1] - 1, table.shape[0] - 1)
        if size > 0:
            with np.errstate(invalid="ignore"):  # texts that are all alike vary in nothing
                self._svd = TruncatedSVD(size, random_state=0).fit(table)
        return self

    def transform(self, texts: list[str]) -> Columns:
        """Float32 ``[B, K]``."""
        if self._svd is None:
            return np.zeros((len(texts), 0), np.float32)
        table = self._words.transform(map(without_numbers, texts))
        components: Columns = self._svd.transform(table).astype(np.float32)
        return components


class TextRegression(BaseEstimator):  # type: ignore[misc]
    """Values of examples from what their texts look like: two ridges and a forest, averaged.

    The ridges read the counts as they are and their logarithms, one of them the TF-IDF
    components as well; extremely randomized trees read the logarithms and the first components.
    All read the group (its shrunken mean), the difficulty and the embedding where there are any.
    Each alone is worse on recorded runs (``research/carry_over.py``).

    Args:
        trees: of the forest.
        seed: of the forest, and of the folds across which the means of groups are taken.

    Source:
        Ridge with leave-one-out choice of the penalty; extremely randomized trees (Geurts et al.,
        2006); empirical-Bayes means of groups (Micci-Barreca, 2001).

    Example:
        >>> rng = np.random.default_rng(0)
        >>> features = Features(rng.poisson(9, (200, 3)).astype("f4"), np.zeros((200, 0), "f4"))
        >>> value = features.counts[:, 1] / 20
        >>> fitted = TextRegression().fit(features.take(np.arange(100)), value[:100])
        >>> expected = fitted.predict(features.take(np.arange(100, 200)))
        >>> bool(np.corrcoef(expected, value[100:])[0, 1] > 0.95)
        True
    """

    def __init__(self, trees: int = 40, seed: int = 0) -> None:
        self.trees = trees
        self.seed = seed

    def fit(self, features: Features, y: FloatArray) -> TextRegression:
        """Fit to the values ``y``, finite, float64 ``[B]`` (B at least 10)."""
        self.range_ = float(y.min()), float(y.max())
        self.means_: FloatArray | None = None
        self.pca_ = None
        encoded = None
        if features.groups is not None and len(np.unique(features.groups)) > 1:
            encoded = self._held_out_means(features.groups, y)
            self.means_ = _shrunken(features.groups, y)
        if features.vectors is not None:
            self.pca_ = PCA(min(20, *features.vectors.shape), random_state=self.seed)
            self.pca_.fit(features.vectors)
        self.least_, self.most_ = features.counts.min(axis=0), features.counts.max(axis=0)
        blocks = self._blocks(features, encoded)
        wholes = [np.hstack(blocks[names]) for names in _INPUTS]
        self.scales_ = [(whole.mean(axis=0), _spread(whole)) for whole in wholes]
        penalties = np.logspace(-1, 5, 13)
        forest = ExtraTreesRegressor(
            self.trees, min_samples_leaf=5, max_features=0.5, random_state=self.seed
        )
        self.models_ = [RidgeCV(penalties), RidgeCV(penalties), forest]
        for model, whole, (mean, spread) in zip(self.models_, wholes, self.scales_, strict=True):
            model.fit((whole - mean) / spread, y)
        return self

    def predict(self, features: Features) -> FloatArray:
        """Expected values, float64 ``[B]``, never outside the range of those fitted to."""
        parts = []
        for start in range(0, len(features.counts), _CHUNK):
            some = features.take(np.arange(start, min(start + _CHUNK, len(features.counts))))
            parts.append(self._predict(some))
        low, high = self.range_
        expected: FloatArray = np.clip(np.concatenate([np.empty(0), *parts]), low, high)
        return expected

    def _predict(self, features: Features) -> FloatArray:
        encoded = None
        if self.means_ is not None and features.groups is not None:
            # a group that nothing is known of is like the mean, which stands last
            encoded = self.means_[np.minimum(features.groups, len(self.means_) - 1)][:, None]
        blocks = self._blocks(features, encoded)
        expected = [
            model.predict((np.hstack(blocks[names]) - mean) / spread)
            for names, model, (mean, spread) in zip(
                _INPUTS, self.models_, self.scales_, strict=True
            )
        ]
        mean: FloatArray = np.mean(expected, axis=0)
        return mean

    def _held_out_means(self, groups: NDArray[np.int32], y: FloatArray) -> FloatArray:
        """Each example's group mean without its own fold, else it would know its own value."""
        fold = np.random.default_rng(self.seed).permutation(len(y)) % _FOLDS
        encoded = np.empty((len(y), 1))
        for number in range(_FOLDS):
            out = fold == number
            means = _shrunken(groups[~out], y[~out])
            encoded[out, 0] = means[np.minimum(groups[out], len(means) - 1)]
        return encoded

    def _blocks(self, features: Features, encoded: FloatArray | None) -> _Blocks:
        # what is longer or larger than all that was fitted to counts as the longest of it
        counts = np.clip(features.counts.astype(np.float64), self.least_, self.most_)
        more: list[FloatArray] = [] if encoded is None else [encoded]
        if self.pca_ is not None and features.vectors is not None:
            more.append(self.pca_.transform(features.vectors))
        if features.signals is not None:
            more.append(self._signals(features.signals))
        half = features.words.shape[1] // 2
        first = [features.words[:, :15], features.words[:, half : half + 15]]
        return _Blocks(counts, np.log1p(counts), features.words, first, more)

    def _signals(self, signals: Columns) -> FloatArray:
        """Stated numbers; what is not stated is the mean of what was, when it was fitted."""
        if not hasattr(self, "stated_"):
            known = ~np.isnan(signals)
            total = np.where(known, signals, 0).sum(axis=0)
            self.stated_ = total / np.maximum(known.sum(axis=0), 1)
        filled: FloatArray = np.where(np.isnan(signals), self.stated_, signals)
        return filled


@dataclass(frozen=True)
class _Blocks:
    """Columns of a regression by what they are."""

    counts: FloatArray
    logs: FloatArray
    words: Columns
    first: list[Columns]
    more: list[FloatArray]

    def __getitem__(self, names: str) -> list[NDArray[np.floating]]:
        parts: dict[str, list[NDArray[np.floating]]] = {
            "counts": [self.counts, self.logs, *self.more],
            "words": [self.counts, self.logs, self.words, *self.more],
            "trees": [self.logs, *self.first, *self.more],
        }
        return parts[names]


_INPUTS = ("counts", "words", "trees")


def _spread(columns: FloatArray) -> FloatArray:
    spread = columns.std(axis=0)
    return np.where(spread > 0, spread, 1.0)


def _shrunken(groups: NDArray[np.int32], y: FloatArray) -> FloatArray:
    """Empirical-Bayes means of groups 0, 1, ..., then the mean of all, float64 ``[G + 1]``.

    A group of n examples is worth n, and the mean of all as many as the variance within groups is
    larger than that between them.
    """
    size = np.bincount(groups)
    total = np.bincount(groups, weights=y)
    mean = y.mean()
    own = np.divide(total, size, out=np.full(len(size), mean), where=size > 0)
    spare = max(len(y) - int(np.count_nonzero(size)), 1)
    within = float(((y - own[groups]) ** 2).sum()) / spare
    per_group = max(float(size.mean()), 1.0)
    variance = float(((own[groups] - mean) ** 2).mean())
    between = max(variance - within / per_group, 1e-12)
    # a group without examples has the weight 0, also where values do not vary within groups
    weight = size / np.maximum(size + within / between, 1e-300)
    return np.append(mean + weight * (own - mean), mean)


#: Predicts the values of the examples ``of``, int ``[M]``, from the values ``[N]`` of all, NaN
#: where not known; NaN where it cannot say.
Way = Callable[[FloatArray, IntArray], FloatArray]


def by_regression(features: Features, *, seed: int = 0) -> Way:
    """The way of :class:`TextRegression`, fitted to at most :data:`FITTED` known values."""

    def predict(value: FloatArray, of: IntArray) -> FloatArray:
        known = np.flatnonzero(~np.isnan(value))
        if len(known) < ENOUGH // 2:
            return np.full(len(of), value[known].mean() if len(known) else np.nan)
        if len(known) > FITTED:
            known = np.random.default_rng([seed, 1]).choice(known, FITTED, replace=False)
        regression = TextRegression(seed=seed).fit(features.take(known), value[known])
        return regression.predict(features.take(of))

    return predict


@dataclass(frozen=True)
class Carried:
    """Values carried over to the candidates, and how far to believe them (C candidates).

    Attributes:
        value: expected values, float64 ``[C]``; NaN where nothing at all is known.
        error: standard error of each as a prediction of what a measurement would give, its noise
            included, float64 ``[C]``.
        by: the way that was taken; ``nothing`` where none beats the mean of all known values.
        squared_error: cross-validated mean squared error of each way; that of the mean is
            ``nothing``. Empty where too little is known to compare.
    """

    value: FloatArray
    error: FloatArray
    by: str
    squared_error: Mapping[str, float] = field(default_factory=dict)


class CarryOver:
    """The way that predicts held-out values best, for candidates that were not measured.

    Each way predicts the values of a fifth of the known examples from the other four fifths. A
    way is considered if its squared errors are smaller than those of the plain mean by more than
    two standard errors of their difference; of these the first wins that is within one standard
    error of the best. Where none is considered, nothing carries over: every candidate is
    expected to be like the mean, and a strategy that prefers some draws at random.

    The standard error of a value is that of the cross-validated predictions near it: the root of
    the mean squared error among the tenth of them (at least 30) that are closest in value, and five
    of the average size.

    Args:
        ways: by name, simplest first.
        train: positions of the train set, int64 ``[T]``.
        candidates: positions of the candidates, int64 ``[C]``.
        nearest: for ways that share weight among neighbours, what does so, by name.
        seed: of the folds.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> features = Features(rng.poisson(9, (300, 3)).astype("f4"), np.zeros((300, 0), "f4"))
        >>> value = np.where(np.arange(300) < 100, features.counts[:, 0] / 20, np.nan)
        >>> train, rest = np.arange(100), np.arange(100, 300)
        >>> over = CarryOver({"regression": by_regression(features)}, train, rest)
        >>> over.carried(value).by
        'regression'
        >>> over.carried(np.where(np.isnan(value), np.nan, rng.random(300))).by
        'nothing'
    """

    def __init__(
        self,
        ways: Mapping[str, Way],
        train: IntArray,
        candidates: IntArray,
        *,
        nearest: Mapping[str, Callable[[IntArray], Neighbourhood]] | None = None,
        seed: int = 0,
    ) -> None:
        self.ways, self.train, self.candidates, self.seed = dict(ways), train, candidates, seed
        self.nearest = nearest or {}
        self._last: tuple[FloatArray, Carried] | None = None

    def average(self, value: FloatArray) -> FloatArray:
        """Expected value of each candidate from the known values ``[N]``, ``[C]``."""
        return self.carried(value).value

    def error(self, value: FloatArray) -> FloatArray:
        """Standard error of :meth:`average`, ``[C]``."""
        return self.carried(value).error

    def spread(self, weight: FloatArray) -> FloatArray:
        """Weights on the train set ``[T]`` as expected weights ``[C]`` of the same sum.

        Where the way that predicts weights best is one of neighbours, each example shares its
        weight among the candidates near it, as without a comparison.
        """
        value = np.full(1 + max(self.train.max(initial=0), self.candidates.max(initial=0)), np.nan)
        value[self.train] = weight
        carried = self.carried(value)
        if carried.by in self.nearest:
            return self.nearest[carried.by](self.candidates).spread(weight)
        expected = np.nan_to_num(carried.value)
        total = expected.sum()
        if not total > 0:  # no weight at all, or no candidate, or no train set
            return np.full(len(self.candidates), weight.sum() / max(len(self.candidates), 1))
        return np.asarray(expected * (weight.sum() / total))

    def carried(self, value: FloatArray) -> Carried:
        """Carry values over.

        Args:
            value: of all examples, NaN where not known, float64 ``[N]``.
        """
        if self._last is None or not np.array_equal(self._last[0], value, equal_nan=True):
            self._last = value.copy(), self._carry(value)
        return self._last[1]

    def _carry(self, value: FloatArray) -> Carried:
        known = np.flatnonzero(~np.isnan(value))
        size = len(self.candidates)
        if not len(known):
            return Carried(np.full(size, np.nan), np.full(size, np.nan), "nothing")
        mean, spread = float(value[known].mean()), float(value[known].std())
        if len(known) < ENOUGH:
            name = next(iter(self.ways))
            expected = self.ways[name](value, self.candidates)
            expected = np.where(np.isnan(expected), mean, expected)
            return Carried(expected, np.full(size, spread), name)
        rng = np.random.default_rng([self.seed, 0])
        compared = rng.permutation(known)[:COMPARED]
        guesses = {"nothing": self._guess(None, value, known, compared)}
        guesses |= {name: self._guess(w, value, known, compared) for name, w in self.ways.items()}
        squares = {name: (guess - value[compared]) ** 2 for name, guess in guesses.items()}
        chosen = _best(squares)
        expected = np.full(size, mean)
        if chosen != "nothing":
            found = self.ways[chosen](value, self.candidates)
            expected = np.where(np.isnan(found), mean, found)
        error = _local_error(guesses[chosen], squares[chosen], expected)
        errors = {name: float(square.mean()) for name, square in squares.items()}
        return Carried(expected, error, chosen, errors)

    def _guess(
        self, way: Way | None, value: FloatArray, known: IntArray, compared: IntArray
    ) -> FloatArray:
        """Values of the examples ``compared`` as predicted without their own fold, ``[M]``."""
        guess = np.empty(len(compared))
        for fold in range(_FOLDS):
            rows = np.arange(fold, len(compared), _FOLDS)
            rest = value.copy()
            rest[compared[rows]] = np.nan
            mean = np.nanmean(rest[known])
            found = np.full(len(rows), mean) if way is None else way(rest, compared[rows])
            guess[rows] = np.where(np.isnan(found), mean, found)
        return guess


def _best(squares: Mapping[str, FloatArray]) -> str:
    """Name of the way to take; the first entry is the mean (see :class:`CarryOver`)."""
    plain, *others = squares

    def behind(name: str, best: str) -> float:
        """How far one is behind another, in standard errors of the difference."""
        excess = squares[name] - squares[best]
        if not excess.any():
            return 0.0
        return float(excess.mean() / max(excess.std() / np.sqrt(len(excess)), 1e-300))

    able = [name for name in others if behind(plain, name) > 2]
    if not able:
        return plain
    best = min(able, key=lambda name: float(squares[name].mean()))
    return next(name for name in able if behind(name, best) <= 1)


def _local_error(guess: FloatArray, square: FloatArray, expected: FloatArray) -> FloatArray:
    """Root mean squared error of the predictions closest to each expected value, ``[C]``.

    A few errors of the average size count among them: where all of the closest happen to be right,
    a rare miss would otherwise be thought impossible.
    """
    order = np.argsort(guess, kind="stable")
    width = min(max(len(guess) // 10, 30), len(guess))
    total = np.concatenate([[0.0], np.cumsum(square[order])])
    place = np.searchsorted(guess[order], expected)
    start = np.clip(place - width // 2, 0, len(guess) - width)
    near = np.maximum(total[start + width] - total[start], 0.0)
    return np.asarray(np.sqrt((near + _AVERAGE * square.mean()) / (width + _AVERAGE)))
