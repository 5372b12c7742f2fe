"""The target loss: transformers' own for all tokens, a slow loop for the forking ones."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from activeselect.data.prompts import IGNORED
from activeselect.training.module import load_model
from activeselect.training.step import highest_entropy, linear_loss, target_loss


def batch(rows: int, seed: int, length: int = 9, words: int = 7) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(rows, length, words, generator=generator) * 3
    labels = torch.randint(words, (rows, length), generator=generator)
    for row in range(rows):
        start = 1 + (seed + row) % 4
        labels[row, :start] = IGNORED
        labels[row, length - (seed + 2 * row) % 3 :] = IGNORED
        labels[row, start] = 1  # a target is never empty
    return logits, labels


def loss(logits: torch.Tensor, labels: torch.Tensor, share: float) -> tuple[torch.Tensor, int]:
    """Of a padded batch: predictions and labels one example after the other."""
    mask = labels[:, 1:] != IGNORED
    return target_loss(logits[:, :-1][mask], labels[:, 1:][mask], mask.sum(dim=1).tolist(), share)


def slow(logits: torch.Tensor, labels: torch.Tensor, share: float) -> tuple[float, int]:
    """Token by token with ``math``."""
    total, number = 0.0, 0
    for row in range(len(labels)):
        found = []
        for i in range(1, labels.shape[1]):
            if labels[row, i] == IGNORED:
                continue
            weights = [math.exp(x) for x in logits[row, i - 1].tolist()]
            p = [weight / sum(weights) for weight in weights]
            entropy = -sum(x * math.log(x) for x in p)
            found.append((entropy, -math.log(p[int(labels[row, i])])))
        found.sort(reverse=True)
        kept = found[: max(1, round(share * len(found)))]
        total += sum(nll for _, nll in kept)
        number += len(kept)
    return total, number


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 4), st.integers(0, 100), st.sampled_from([0.01, 0.2, 0.5, 1.0]))
def test_the_loss_is_the_slow_one(rows: int, seed: int, share: float) -> None:
    logits, labels = batch(rows, seed)
    total, tokens = loss(logits, labels, share)
    expected, number = slow(logits, labels, share)
    assert float(total) == pytest.approx(expected, rel=1e-5)
    assert int(tokens) == number


@settings(max_examples=20, deadline=None)
@given(st.integers(2, 5), st.integers(0, 100), st.sampled_from([0.2, 1.0]))
def test_parts_of_a_batch_add_up(rows: int, seed: int, share: float) -> None:
    logits, labels = batch(rows, seed)
    total, tokens = loss(logits, labels, share)
    parts = [loss(logits[i : i + 1], labels[i : i + 1], share) for i in range(rows)]
    assert float(total) == pytest.approx(sum(float(a) for a, _ in parts), rel=1e-5)
    assert int(tokens) == sum(int(b) for _, b in parts)


def test_all_tokens_give_the_loss_of_transformers(tiny_model: Path) -> None:
    model, _ = load_model(str(tiny_model))
    ids = torch.from_numpy(np.random.default_rng(0).integers(3, 40, (3, 12)))
    labels = ids.clone()
    labels[:, :5] = IGNORED
    labels[0, 9:] = IGNORED
    with torch.no_grad():
        total, tokens = loss(model(ids).logits, labels, 1.0)
        expected = float(model(ids, labels=labels).loss)
    assert float(total / tokens) == pytest.approx(expected, rel=1e-5)


def test_a_certain_prediction_has_no_entropy() -> None:
    logits = torch.tensor([[200.0, 0.0, 0.0], [0.0, 0.0, -torch.inf]])
    assert highest_entropy(logits, 0.5).tolist() == [1]


def test_only_chosen_tokens_have_a_gradient() -> None:
    logits, labels = batch(2, 3)
    logits.requires_grad_()
    total, tokens = loss(logits, labels, 0.3)
    total.backward()
    assert logits.grad is not None
    assert int((logits.grad.abs().sum(dim=-1) > 0).sum()) == int(tokens)


def test_no_tokens_have_no_loss_and_a_gradient_of_zero() -> None:
    logits = torch.randn(0, 7, requires_grad=True)
    total, tokens = target_loss(logits, torch.zeros(0, dtype=torch.long), [])
    assert (total.item(), tokens) == (0, 0)
    total.backward()
    hidden = torch.randn(0, 3, requires_grad=True)
    weight = torch.randn(7, 3, requires_grad=True)
    linear_loss(hidden, weight, None, torch.zeros(0, dtype=torch.long)).backward()
    assert weight.grad is not None
    assert not weight.grad.any()


# --- without logits ------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 40),
    st.integers(1, 9),
    st.integers(2, 30),
    st.integers(1, 50),
    st.booleans(),
    st.integers(0, 100),
)
def test_the_linear_loss_is_that_of_its_logits(
    rows: int, width: int, words: int, chunk: int, biased: bool, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)

    def drawn(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).requires_grad_()

    hidden, weight, bias = drawn(rows, width), drawn(words, width), drawn(words)
    wanted = torch.randint(words, (rows,), generator=generator)
    given = [hidden, weight, *([bias] if biased else [])]
    scale = torch.tensor(0.3, dtype=torch.float64)  # of a mean over tokens, or of parts
    total = linear_loss(hidden, weight, bias if biased else None, wanted, chunk)
    found = torch.autograd.grad(total * scale, given)
    logits = hidden @ weight.T + (bias if biased else 0)
    expected = torch.nn.functional.cross_entropy(logits, wanted, reduction="sum")
    torch.testing.assert_close(total, expected)
    for one, other in zip(found, torch.autograd.grad(expected * scale, given), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("mixed", [True, False])
def test_the_linear_loss_in_16_bits(mixed: bool) -> None:
    """Weights in 32 bits under autocast, and weights in 16: gradients are as near as rounding."""
    generator = torch.Generator().manual_seed(0)
    numbers = torch.float32 if mixed else torch.bfloat16
    hidden = torch.randn(300, 16, generator=generator).to(numbers).requires_grad_()
    weight = torch.randn(50, 16, generator=generator).to(numbers).requires_grad_()
    wanted = torch.randint(50, (300,), generator=generator)
    with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
        total = linear_loss(hidden, weight, None, wanted)
    assert total.dtype == torch.float32
    found = torch.autograd.grad(total, [hidden, weight])
    exact = torch.nn.functional.cross_entropy(
        hidden.double() @ weight.double().T, wanted, reduction="sum"
    )
    assert total.item() == pytest.approx(exact.item(), rel=2e-3)
    for one, other in zip(found, torch.autograd.grad(exact, [hidden, weight]), strict=True):
        assert one.dtype == other.dtype == numbers
        assert float((one.float() - other.float()).norm() / other.float().norm()) < 1e-2


def test_a_frozen_output_layer_gets_no_gradient() -> None:
    hidden, weight = torch.randn(5, 3, requires_grad=True), torch.randn(7, 3)
    linear_loss(hidden, weight, None, torch.arange(5)).backward()
    assert hidden.grad is not None
    assert weight.grad is None
