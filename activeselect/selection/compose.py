"""Strategies made of strategies, from a config alone: filter, mixture, schedule."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from activeselect.errors import StrategyError
from activeselect.selection.registry import StrategySpec, create
from activeselect.selection.strategy import (
    FloatArray,
    IntArray,
    Neighbourhood,
    Selection,
    SelectionContext,
    Strategy,
    draw,
    expect_one_of,
    expect_share,
)

# --- Parts of a composition


class _Part:
    """The neighbourhood of some of the candidates."""

    def __init__(self, near: Neighbourhood, where: IntArray) -> None:
        self.near, self.where = near, where

    def spread(self, weight: FloatArray) -> FloatArray:
        return self.near.spread(weight)[self.where]

    def average(self, value: FloatArray) -> FloatArray:
        return self.near.average(value)[self.where]

    def error(self, value: FloatArray) -> FloatArray:
        return self.near.error(value)[self.where]


def among(context: SelectionContext, index: IntArray) -> SelectionContext:
    """The same situation with these candidates only."""
    where = np.flatnonzero(np.isin(context.candidates, index))
    candidates = context.candidates[where]
    train = candidates if context.reweights else context.train
    return replace(context, candidates=candidates, train=train, near=_Part(context.near, where))


def ask(
    part: Strategy, context: SelectionContext, budget: int, rng: np.random.Generator
) -> Selection:
    """What a part selects, its promises checked; nothing where nothing is asked of it."""
    budget = min(budget, len(context.candidates))
    if budget == 0:
        return Selection.of([])
    return part.select(context, budget, rng).validated(context.candidates, budget, name=part.name)


def probe(
    part: Strategy, context: SelectionContext, budget: int, rng: np.random.Generator
) -> Selection:
    """What a part probes; nothing where it does not."""
    if "prequential" not in part.requires or budget == 0:
        return Selection.of([])
    return part.probe(context, budget, rng).validated(context.candidates, budget, name=part.name)


def apportion(shares: FloatArray, total: int) -> IntArray:
    """Whole numbers that add up to ``total``, nearest to the shares (largest remainders).

    Example:
        >>> apportion(np.array([0.2, 0.3, 0.5]), 7).tolist()
        [1, 2, 4]
    """
    exact = shares / shares.sum() * total
    quota: IntArray = np.floor(exact + 1e-9).astype(np.int64)
    rest = np.argsort(quota - exact, kind="stable")[: total - int(quota.sum())]
    quota[rest] += 1
    return quota


class _Composition(Strategy):
    """Needs what its parts need, and keeps their states."""

    parts_: tuple[Strategy, ...]

    def _adopt(self, specs: Mapping[str, StrategySpec | Strategy]) -> None:
        """Build the parts; the keys say where in the config they stand."""
        self.parts_ = tuple(self._build(where, spec) for where, spec in specs.items())
        self.requires = tuple(dict.fromkeys(name for p in self.parts_ for name in p.requires))
        self.needs_target = any(part.needs_target for part in self.parts_)
        references = {part.reference for part in self.parts_ if part.reference}
        if len(references) > 1:
            raise ValueError(f"parts share one reference model; received {sorted(references)}")
        self.reference = next(iter(references), None)

    def _build(self, where: str, spec: StrategySpec | Strategy) -> Strategy:
        if not isinstance(spec, str | Mapping | Strategy):
            raise ValueError(f"{where}: expected a strategy; received {spec!r}")
        try:
            return create(spec)
        except StrategyError as error:
            raise StrategyError(f"Strategy '{self.name}', {where}: {error}") from error

    def weigh(self, context: SelectionContext, rng: np.random.Generator) -> Selection | None:
        """The product of its parts' weights: what one of them leaves out is left out."""
        answers = [part.weigh(context, rng) for part in self.parts_]
        weight = np.ones(1 + int(context.train.max(initial=-1)))
        for answer in answers:
            if answer is not None:
                own = np.zeros_like(weight)
                own[answer.index] = answer.weight
                weight *= own
        if all(answer is None for answer in answers):
            return None
        kept = context.train[weight[context.train] > 0]
        return Selection.of(kept, weight[kept])

    @property
    def weighs(self) -> bool:
        """Whether one of its parts does."""
        return any(part.weighs for part in self.parts_)

    def state_dict(self) -> dict[str, Any]:
        return {"parts": [part.state_dict() for part in self.parts_]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        states = state.get("parts", [{}] * len(self.parts_))
        for part, own in zip(self.parts_, states, strict=True):
            part.load_state_dict(own)


class Filter(_Composition):
    """Filter, then rank: one strategy narrows the candidates, another chooses among them.

    Prefers: what `then` prefers among the share of the candidates that `by` selects first.
    Helps: to keep a strategy away from what it cannot tell apart, such as noise.
    Hurts: where the filter drops what the other would have needed; a small `keep` leaves it no
        choice.
    Costs: what both cost; a signal that both require is measured once.
    Source: filtering before ranking is common practice (CCNet, Deita: arXiv 2312.15685).

    Args:
        by: the strategy that filters; its weights are not used further.
        then: the strategy that chooses among what is left.
        keep: share of the candidates that pass, in (0, 1]; when acquiring at least the budget, when
            reweighting at most what `by` itself selects.
    """

    name: ClassVar[str] = "filter"

    def __init__(self, by: StrategySpec, then: StrategySpec, keep: float = 0.5) -> None:
        expect_share(keep=keep)
        self.by = by
        self.then = then
        self.keep = keep
        self._adopt({"by": by, "then": then})

    def select(self, context: SelectionContext, budget: int, rng: np.random.Generator) -> Selection:
        """Let ``by`` pass on a share of the candidates, and ``then`` select among them."""
        by, then = self.parts_
        size = math.ceil(self.keep * len(context.candidates))
        if not context.reweights:
            size = max(size, min(budget, len(context.candidates)))
        passed = ask(by, context, size, rng)
        return ask(then, among(context, passed.index[passed.weight > 0]), budget, rng)

    def probe(self, context: SelectionContext, budget: int, rng: np.random.Generator) -> Selection:
        """That of `then`, or else of `by`, unfiltered: what is measured first is not judged yet."""
        by, then = self.parts_
        return probe(then if "prequential" in then.requires else by, context, budget, rng)


class Denoise(_Composition):
    """Set aside examples whose answer the model contradicts with confidence.

    An example is doubted if none of its sampled completions reaches its answer, they agree with
    each other on another one, and the model answers most of the group that the example is in: its
    neighbours are right, and it never is. Doubted examples are not trained on until a later
    measurement clears them; `then` chooses as if they were not there.

    Prefers: what `then` prefers among what is not doubted.
    Helps: where some reference answers are wrong and nothing marks them.
    Hurts: where the model is wrong with confidence on a rare kind of problem within a group that it
        masters; and measured late, when wrong answers have been memorized and nothing contradicts
        them.
    Costs: what `then` costs, and sampled completions of the train examples.
    Source: this project; after confident learning (Northcutt et al., arXiv 1911.00068) with
        agreement of sampled answers as the confidence (Wang et al., arXiv 2203.11171).

    Args:
        then: the strategy that chooses.
        agreement: least share of the completions that state one and the same answer, in (0, 1].
        mastered: least accuracy of its group, the example itself left out, in (0, 1].
    """

    name: ClassVar[str] = "denoise"

    def __init__(
        self, then: StrategySpec = "random", agreement: float = 0.5, mastered: float = 0.5
    ) -> None:
        expect_share(agreement=agreement, mastered=mastered)
        self.then = then
        self.agreement = agreement
        self.mastered = mastered
        self._adopt({"then": then})
        self.requires = tuple(dict.fromkeys([*self.requires, "accuracy", "agreement"]))

    def select(self, context: SelectionContext, budget: int, rng: np.random.Generator) -> Selection:
        """Let ``then`` select; when reweighting, among what is not doubted."""
        (then,) = self.parts_
        if not context.reweights:
            return ask(then, context, budget, rng)
        return ask(then, among(context, self._kept(context)), budget, rng)

    def weigh(self, context: SelectionContext, rng: np.random.Generator) -> Selection | None:
        """Leave out what is doubted, and what ``then`` leaves out."""
        kept = among(context, self._kept(context))
        return super().weigh(kept, rng) or Selection.of(kept.train, reason="not doubted")

    @property
    def weighs(self) -> bool:
        """Always."""
        return True

    def probe(self, context: SelectionContext, budget: int, rng: np.random.Generator) -> Selection:
        """That of ``then``."""
        return probe(self.parts_[0], context, budget, rng)

    def _kept(self, context: SelectionContext) -> IntArray:
        return context.train[~self.doubted(context)]

    def doubted(self, context: SelectionContext) -> NDArray[np.bool_]:
        """Which train examples are doubted, bool ``[T]``.

        Never all of a group: what is doubted has accuracy 0, and the others' mean is above it.
        """
        accuracy = context.latest("accuracy")[context.train]
        agreement = context.latest("agreement")[context.train]
        groups = context.groups[context.train]
        known = ~np.isnan(accuracy)
        size = int(groups.max(initial=0)) + 1
        right = np.bincount(groups[known], accuracy[known], size)
        others = np.bincount(groups[known], minlength=size)[groups] - known
        rate = (right[groups] - np.where(known, accuracy, 0.0)) / np.maximum(others, 1)
        doubted: NDArray[np.bool_] = accuracy == 0
        return doubted & (agreement >= self.agreement) & (rate >= self.mastered)


class Mixture(_Composition):
    """Shares of the budget for several strategies, such as a share for exploration.

    Prefers: what its parts prefer. When acquiring, they choose one after the other, each its share
        of the budget from what is left; when reweighting, their weights are scaled to the shares
        and added up.
    Helps: to hedge: a share of `random` keeps every region in sight of the others.
    Hurts: a share that is spent at random is not spent better.
    Costs: what the parts cost; a signal that several require is measured once.
    Source: exploration shares, as in Foster et al., arXiv 2502.12272.

    Args:
        parts: a list of ``{share: ..., strategy: ...}``; the shares add up to 1.
    """

    name: ClassVar[str] = "mixture"

    def __init__(self, parts: Sequence[Mapping[str, Any]]) -> None:
        wanted = "a list of {share: ..., strategy: ...}"
        if not isinstance(parts, Sequence) or isinstance(parts, str) or not parts:
            raise ValueError(f"parts: expected {wanted}; received {parts!r}")
        for part in parts:
            if not isinstance(part, Mapping) or set(part) != {"share", "strategy"}:
                raise ValueError(f"parts: expected {wanted}; one is {part!r}")
            expect_share(share=part["share"])
        self.parts = parts
        self._shares = np.array([part["share"] for part in parts], dtype=float)
        if not math.isclose(self._shares.sum(), 1.0, abs_tol=1e-6):
            raise ValueError(f"parts: expected shares that add up to 1; received {self._shares}")
        self._probed = [0] * len(parts)
        self._adopt({f"parts[{i}]": part["strategy"] for i, part in enumerate(parts)})

    def select(self, context: SelectionContext, budget: int, rng: np.random.Generator) -> Selection:
        """Let each part select with its share of the budget."""
        if context.reweights:
            return self._add_up(context, budget, rng)
        probed, self._probed = np.array(self._probed), [0] * len(self.parts)
        size = min(budget, len(context.candidates))
        quotas = np.maximum(apportion(self._shares, size + int(probed.sum())) - probed, 0)
        return self._in_turn(context, quotas, rng, "select")[0]

    def probe(self, context: SelectionContext, budget: int, rng: np.random.Generator) -> Selection:
        """The probes of its parts, each out of its own share."""
        quotas = apportion(self._shares, min(budget, len(context.candidates)))
        probes, self._probed = self._in_turn(context, quotas, rng, "probe")
        return probes

    def _in_turn(
        self, context: SelectionContext, quotas: IntArray, rng: np.random.Generator, what: str
    ) -> tuple[Selection, list[int]]:
        chosen = [Selection.of([])]
        for part, quota in zip(self.parts_, quotas.tolist(), strict=True):
            taken = np.concatenate([selection.index for selection in chosen])
            left = np.setdiff1d(context.candidates, taken)
            turn = ask if what == "select" else probe
            chosen.append(turn(part, among(context, left), quota, rng))
        scores = [
            np.full(len(selection.index), np.nan) if selection.score is None else selection.score
            for selection in chosen
        ]
        together = Selection.of(
            np.concatenate([selection.index for selection in chosen]),
            score=np.concatenate(scores),
            reason="chosen by one of its parts, whose score it is",
        )
        return together, [len(selection.index) for selection in chosen[1:]]

    def _add_up(
        self, context: SelectionContext, budget: int, rng: np.random.Generator
    ) -> Selection:
        weight = np.zeros(len(context.candidates))
        order = np.argsort(context.candidates)
        for share, part in zip(self._shares, self.parts_, strict=True):
            got = ask(part, context, budget, rng)
            where = order[np.searchsorted(context.candidates, got.index, sorter=order)]
            largest = got.weight.max(initial=0.0)  # divided first, so that the sum is finite
            if largest:
                relative = got.weight / largest
                weight[where] += share * relative / relative.sum()
        return draw(context, weight, budget, rng)

    def state_dict(self) -> dict[str, Any]:
        """States of the parts, and how many probes each part has asked for."""
        return {**super().state_dict(), "probed": self._probed}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned."""
        super().load_state_dict(state)
        self._probed = list(state.get("probed", [0] * len(self.parts)))


class Schedule(_Composition):
    """One strategy after the other in the course of a run.

    Prefers: what the strategy of the moment prefers.
    Helps: where scores mean nothing at first, or turn misleading later.
    Hurts: with steps tuned on the data that they are judged on.
    Costs: what its steps cost together: signals are measured from the first round on.
    Source: curriculum schedules in general (Bengio et al., 2009).

    Args:
        steps: for a number of rounds trained, the strategy that selects from then on; begins at 0.
        unit: ``round``, a scoring pass, or ``stage``, a train-set size of an acquiring run.
    """

    name: ClassVar[str] = "schedule"

    def __init__(self, steps: Mapping[int, StrategySpec], unit: str = "round") -> None:
        expect_one_of(("round", "stage"), unit=unit)
        if not isinstance(steps, Mapping) or not all(str(key).isdigit() for key in steps):
            raise ValueError(f"steps: expected a strategy per number of {unit}s; received {steps}")
        self.steps = steps
        self.unit = unit
        ordered = sorted((int(key), spec) for key, spec in _once(steps.items()))
        self._from = [number for number, _ in ordered]
        if self._from[:1] != [0]:
            raise ValueError(f"steps: expected a step 0 to begin with; received {self._from}")
        self._stages = 0
        self._adopt({f"steps[{number}]": spec for number, spec in ordered})

    def select(self, context: SelectionContext, budget: int, rng: np.random.Generator) -> Selection:
        """Let the current step's strategy select."""
        selection = ask(self._now(context), context, budget, rng)
        self._stages += not context.reweights
        return selection

    def probe(self, context: SelectionContext, budget: int, rng: np.random.Generator) -> Selection:
        """That of the strategy of the moment."""
        selection = probe(self._now(context), context, budget, rng)
        self._stages += len(selection.index) == budget  # nothing is left to select
        return selection

    def weigh(self, context: SelectionContext, rng: np.random.Generator) -> Selection | None:
        """As the strategy of the moment does."""
        return self._now(context).weigh(context, rng)

    def _now(self, context: SelectionContext) -> Strategy:
        done = context.round if self.unit == "round" else self._stages + 1
        return self.parts_[sum(start <= done for start in self._from) - 1]

    def state_dict(self) -> dict[str, Any]:
        """States of the parts, and the number of acquisitions so far."""
        return {**super().state_dict(), "stages": self._stages}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned."""
        super().load_state_dict(state)
        self._stages = int(state.get("stages", 0))


def _once(items: Iterable[tuple[Any, StrategySpec]]) -> Iterable[tuple[Any, StrategySpec]]:
    """The items, unless two keys are the same number (1 and "1")."""
    seen: set[int] = set()
    for key, spec in items:
        if int(key) in seen:
            raise ValueError(f"steps: expected each number once; received {key} twice")
        seen.add(int(key))
        yield key, spec
