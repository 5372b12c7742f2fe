"""The torchmetrics shell: whatever way the measurements arrive, it equals the pure function."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torchmetrics import Metric

from activeselect.scoring.functional import pre_memorization_accuracy
from activeselect.scoring.metric import PreMemorizationAccuracy

ROUNDS, EXAMPLES, SAMPLES, TAU = 4, 9, 5, 0.1


class Batch(NamedTuple):
    round: int
    index: Tensor
    correct: Tensor
    nll_sum: Tensor
    tokens: Tensor


def measured(seed: int = 0) -> list[Batch]:
    """One batch per round, over a random part of the pool; round 2 measured nothing."""
    rng = np.random.default_rng(seed)
    batches = []
    for round in (0, 1, 3):
        index = rng.permutation(EXAMPLES)[: rng.integers(1, EXAMPLES)]
        tokens = rng.integers(1, 20, len(index))
        batches.append(
            Batch(
                round,
                torch.from_numpy(index),
                torch.from_numpy(rng.random((len(index), SAMPLES)) < 0.5),
                torch.from_numpy(rng.choice([0.02, 0.1, 0.5], len(index)) * tokens),
                torch.from_numpy(tokens),
            )
        )
    return batches


def expected(batches: Sequence[Batch]) -> np.ndarray:
    accuracy, nll = np.full((2, ROUNDS, EXAMPLES), np.nan)
    for batch in batches:
        for row, i in enumerate(batch.index.tolist()):
            accuracy[batch.round, i] = batch.correct[row].double().mean()
            nll[batch.round, i] = batch.nll_sum[row].double() / batch.tokens[row]
    return pre_memorization_accuracy(accuracy, nll, TAU)


def split(batch: Batch, at: int) -> list[Batch]:
    return [
        Batch(batch.round, *(column[part] for column in batch[1:]))
        for part in (slice(None, at), slice(at, None))
    ]


def synced(metrics: Sequence[Metric]) -> Tensor:
    """What ``compute`` gives on the first process when these live on one process each."""
    first, *others = metrics
    names = iter(first._reductions)

    def gather(tensor: Tensor, group: Any = None) -> list[Tensor]:
        name = next(names)
        return [tensor, *(torch.cat(getattr(metric, name)) for metric in others)]

    first.dist_sync_fn = gather
    first.distributed_available_fn = lambda: True
    value: Tensor = first.compute()
    return value


def check_metric(
    build: Callable[[], Metric], batches: Sequence[Any], parts: Sequence[Any], reference: Tensor
) -> None:
    """In the spirit of torchmetrics' own tester: every way to the same value.

    ``batches`` and ``parts`` are the same measurements, divided differently.
    """

    def filled(given: Sequence[Any]) -> Metric:
        metric = build()
        for batch in given:
            metric.update(*batch)
        return metric

    def same(got: Tensor) -> None:
        torch.testing.assert_close(got, reference, rtol=0, atol=1e-12, equal_nan=True)

    same(filled(batches).compute())
    same(filled(parts).compute())  # smaller batches
    same(filled(parts[::-1]).compute())  # in any order
    same(pickle.loads(pickle.dumps(filled(parts))).compute())
    same(filled(parts).clone().compute())
    again = filled(parts[:1])
    again.compute()  # not cached into the next value
    for batch in parts[1:]:
        again.update(*batch)
    same(again.compute())
    again.reset()
    for batch in batches:
        again.update(*batch)
    same(again.compute())
    same(synced([filled(parts[0::2]), filled(parts[1::2])]))  # two processes
    merged = filled(parts[0::2])
    merged.merge_state(filled(parts[1::2]))
    same(merged.compute())


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.integers(0, EXAMPLES))
def test_equals_the_function_however_it_is_fed(seed: int, at: int) -> None:
    batches = measured(seed)
    parts = [part for batch in batches for part in split(batch, at)]
    check_metric(
        lambda: PreMemorizationAccuracy(EXAMPLES, TAU),
        batches,
        parts,
        torch.from_numpy(expected(batches)),
    )


def test_single_precision_measurements_lose_nothing_that_matters() -> None:
    batch = measured()[0]
    metric = PreMemorizationAccuracy(EXAMPLES, TAU)
    metric.update(*batch[:3], batch.nll_sum.float(), batch.tokens.int())
    assert metric.compute().dtype == torch.float64
    assert metric.compute().shape == (1, EXAMPLES)


def test_forward_gives_the_batch_alone_and_accumulates() -> None:
    metric = PreMemorizationAccuracy(1, TAU)
    understood = torch.tensor([0]), torch.tensor([[True]]), torch.tensor([5.0]), torch.tensor([10])
    metric.update(0, *understood)
    memorized = torch.tensor([0]), torch.tensor([[True]]), torch.tensor([0.1]), torch.tensor([10])
    alone = metric(1, *memorized)
    np.testing.assert_array_equal(alone.numpy(), [[np.nan], [0.0]])
    np.testing.assert_array_equal(metric.compute().numpy(), [[1.0], [1.0]])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"correct": torch.ones(2)}, r"correct \[B, S\].*received \(2,\), \(2,\)"),
        ({"tokens": torch.ones(3)}, r"\(3,\)"),
        ({"index": torch.tensor([0, EXAMPLES])}, r"\[0, 9\); received 0 to 9"),
        ({"index": torch.tensor([-1, 0])}, r"received -1 to 0"),
        ({"round": -1}, "round must be at least 0; received -1"),
    ],
)
def test_errors_say_what_came(change: dict[str, Any], message: str) -> None:
    given = {
        "round": 0,
        "index": torch.tensor([0, 1]),
        "correct": torch.ones(2, 3, dtype=torch.bool),
        "nll_sum": torch.ones(2),
        "tokens": torch.ones(2),
    }
    metric = PreMemorizationAccuracy(EXAMPLES, TAU)
    with pytest.raises(ValueError, match=message):
        metric.update(**{**given, **change})


def test_a_pool_without_examples_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1; received 0"):
        PreMemorizationAccuracy(0, TAU)


def test_gradients_are_not_kept_and_it_can_be_drawn() -> None:
    metric = PreMemorizationAccuracy(num_examples=2, tau=0.1)
    nll = torch.tensor([5.0, 0.2], requires_grad=True)
    metric.update(0, torch.tensor([0, 1]), torch.ones(2, 3), nll, torch.tensor([10, 10]))
    assert not metric.compute().requires_grad
    assert metric.higher_is_better
    assert not metric.is_differentiable
    pytest.importorskip("matplotlib")
    _, axes = metric.plot()
    assert axes.lines[0].get_ydata().tolist() == [0.5]
