"""Worlds: situations that a strategy may meet, with made-up pools with made-up measurements."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from activeselect.arrays import FloatArray, IntArray
from activeselect.scoring.signals import FIXED, VECTORS
from activeselect.selection.neighbours import GroupNeighbourhood
from activeselect.selection.strategy import SelectionContext, Strategy

SIZE, BUDGET, ROUNDS = 60, 10, 3
#: Signals that are shares, in [0, 1].
SHARES = ("accuracy", "premem", "prequential", "confidence")
#: Signals that an example gets once, before it is first trained on.
ONCE = ("prequential",)


@dataclass(frozen=True)
class World:
    """A pool of N examples in the middle of a run.

    Attributes:
        signals: measurements by name, float64 ``[R, N]``; NaN = not measured.
        vectors: vector signals by name, float32 ``[N, D]``.
        target: whether there are target questions; later groups are then asked for more often.
    """

    candidates: IntArray
    train: IntArray
    groups: NDArray[np.int32]
    group_names: tuple[str, ...]
    signals: dict[str, FloatArray]
    vectors: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    round: int = ROUNDS
    budget: int = BUDGET
    target: bool = False

    def context(self) -> SelectionContext:
        """What a strategy is shown, made of arrays that cannot be written to."""
        groups, train = _frozen(self.groups), _frozen(self.train)
        candidates = _frozen(self.candidates)
        parts = np.arange(1.0, len(self.group_names) + 1)
        return SelectionContext(
            round=self.round,
            candidates=candidates,
            train=train,
            times_seen=_frozen(np.isin(np.arange(len(groups)), train).astype(np.int64)),
            groups=groups,
            group_names=self.group_names,
            signals={name: partial(_frozen, v) for name, v in self.signals.items()},
            vector_signals={name: partial(_frozen, v) for name, v in self.vectors.items()},
            near=GroupNeighbourhood(groups, train, candidates),
            target=_frozen(parts / parts.sum()) if self.target else None,
        )

    def changed(self, change: Callable[[FloatArray], FloatArray]) -> World:
        """The same with other measurements."""
        return replace(self, signals={name: change(v) for name, v in self.signals.items()})


def _frozen(array: NDArray[Any]) -> NDArray[Any]:
    copy = array.copy()
    copy.flags.writeable = False
    return copy


def acquiring(strategy: Strategy, seed: int = 0) -> World:
    """Twenty of sixty examples in three groups are trained on; the others may join them."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(SIZE)
    train, candidates = np.sort(order[:20]), np.sort(order[20:])
    scalar = [name for name in strategy.requires if name not in VECTORS]
    return World(
        candidates=candidates,
        train=train,
        groups=rng.integers(0, 3, SIZE).astype(np.int32),
        group_names=("a", "b", "c"),
        signals={name: _measured(name, candidates, rng) for name in scalar},
        vectors={
            name: rng.normal(size=(SIZE, 8)).astype(np.float32)
            for name in strategy.requires
            if name in VECTORS
        },
        target=strategy.needs_target,
    )


def _measured(name: str, candidates: IntArray, rng: np.random.Generator) -> FloatArray:
    """Made-up measurements in [0, 1] with ties and holes, float64 ``[R, N]``."""
    values = rng.choice([0.0, 0.2, 0.4, 0.6, 0.8, 1.0], size=(ROUNDS, SIZE))
    if name in FIXED:
        return np.tile(values[:1], (ROUNDS, 1))
    if name in ONCE:
        when = rng.integers(0, ROUNDS, SIZE)
        values[np.arange(ROUNDS)[:, None] != when] = np.nan
    else:
        values[rng.random(values.shape) < 0.2] = np.nan
    values[:, candidates] = np.nan
    return values


def reweighting(strategy: Strategy, seed: int = 0) -> World:
    """The twenty examples that are trained on get new weights."""
    world = acquiring(strategy, seed)
    return replace(world, candidates=world.train, budget=len(world.train))


def worlds(strategy: Strategy) -> dict[str, World]:
    """Usual and unusual situations by name; those of one mode begin with its name."""
    found: dict[str, World] = {}
    for mode, usual in {"acquire": acquiring(strategy), "reweight": reweighting(strategy)}.items():
        found[mode] = usual
        found[f"{mode}, never scored"] = usual.changed(lambda v: np.full_like(v, np.nan))
        found[f"{mode}, before the first round"] = usual.changed(lambda v: v[:0])
        found[f"{mode}, all scores 0"] = usual.changed(np.zeros_like)
        found[f"{mode}, all scores 1"] = usual.changed(np.ones_like)
        found[f"{mode}, all scores alike"] = usual.changed(lambda v: np.full_like(v, 0.5))
        found[f"{mode}, large scores"] = replace(
            usual, signals={n: v if n in SHARES else 1e6 * v for n, v in usual.signals.items()}
        )
        found[f"{mode}, one group"] = replace(
            usual, groups=np.zeros(SIZE, np.int32), group_names=("",)
        )
        found[f"{mode}, unsorted"] = replace(
            usual, train=usual.train[::-1], candidates=usual.candidates[::-1]
        )
        found[f"{mode}, budget 1"] = replace(usual, budget=1)
        found[f"{mode}, target questions"] = replace(usual, target=True)
        if usual.vectors:
            for name, value in {"zero": 0.0, "alike": 1.0}.items():
                same = {key: np.full_like(v, value) for key, v in usual.vectors.items()}
                found[f"{mode}, all vectors {name}"] = replace(usual, vectors=same)
    usual = found["acquire"]
    found["acquire, everything"] = replace(usual, budget=len(usual.candidates))
    found["acquire, more than there is"] = replace(usual, budget=len(usual.candidates) + 5)
    found["acquire, one candidate"] = replace(usual, candidates=usual.candidates[:1])
    found["acquire, nothing trained"] = replace(usual, train=usual.train[:0])
    found["reweight, one example"] = replace(
        usual, train=usual.train[:1], candidates=usual.train[:1], budget=1
    )
    return found


#: What a favoured and a disfavoured example measures. High values stay below 1, where some
#: signals (IFD) change their meaning.
_LOW, _MIDDLE, _HIGH, _ENDS = (0.0, 0.3), (0.4, 0.6), (0.7, 0.9), (0.0, 1.0)
KINDS = {"high": (_HIGH, _LOW), "low": (_LOW, _HIGH), "middle": (_MIDDLE, _ENDS)}


def preferring(strategy: Strategy, signal: str, kind: str, *, acquire: bool) -> World:
    """Two groups that differ in one signal alone; those in group 0 have the favoured values.

    Both groups have twenty examples in the train set and, when acquiring, twenty candidates.
    """
    group = (np.arange(80) % 2).astype(np.int32)
    pair = np.arange(80) // 2  # the two of a pair have the first or the second value of their kind
    train = np.arange(40)
    candidates = np.arange(40, 80) if acquire else train
    favoured, other = (np.array(values) for values in KINDS[kind])
    signals = {}
    for name in strategy.requires:
        if name in VECTORS:
            continue
        values = np.full(80, 0.5)
        if name == signal:
            values = np.where(group == 0, favoured[pair % 2], other[pair % 2])
        measured = np.tile(values, (ROUNDS, 1))
        if name not in FIXED:
            measured[:, 40:] = np.nan
        if name in ONCE:
            measured[1:] = np.nan
        signals[name] = measured
    vectors = np.random.default_rng(0).normal(size=(40, 8)).repeat(2, axis=0)
    return World(
        candidates=candidates,
        train=train,
        groups=group,
        group_names=("favoured", "other"),
        signals=signals,
        vectors={name: vectors.astype(np.float32) for name in strategy.requires if name in VECTORS},
        budget=20 if acquire else 40,
        target=strategy.needs_target,
    )
