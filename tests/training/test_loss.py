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
from activeselect.training.loss import highest_entropy, target_loss
from activeselect.training.module import load_model


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
    total, tokens = target_loss(logits, labels, share)
    expected, number = slow(logits, labels, share)
    assert float(total) == pytest.approx(expected, rel=1e-5)
    assert int(tokens) == number


@settings(max_examples=20, deadline=None)
@given(st.integers(2, 5), st.integers(0, 100), st.sampled_from([0.2, 1.0]))
def test_parts_of_a_batch_add_up(rows: int, seed: int, share: float) -> None:
    logits, labels = batch(rows, seed)
    total, tokens = target_loss(logits, labels, share)
    parts = [target_loss(logits[i : i + 1], labels[i : i + 1], share) for i in range(rows)]
    assert float(total) == pytest.approx(sum(float(a) for a, _ in parts), rel=1e-5)
    assert int(tokens) == sum(int(b) for _, b in parts)


def test_all_tokens_give_the_loss_of_transformers(tiny_model: Path) -> None:
    model, _ = load_model(str(tiny_model))
    ids = torch.from_numpy(np.random.default_rng(0).integers(3, 40, (3, 12)))
    labels = ids.clone()
    labels[:, :5] = IGNORED
    labels[0, 9:] = IGNORED
    with torch.no_grad():
        total, tokens = target_loss(model(ids).logits, labels)
        expected = float(model(ids, labels=labels).loss)
    assert float(total / tokens) == pytest.approx(expected, rel=1e-5)


def test_a_certain_prediction_has_no_entropy() -> None:
    logits = torch.tensor([[200.0, 0.0, 0.0], [0.0, 0.0, -torch.inf]])
    assert highest_entropy(logits, 0.5).tolist() == [1]


def test_only_chosen_tokens_have_a_gradient() -> None:
    logits, labels = batch(2, 3)
    logits.requires_grad_()
    total, tokens = target_loss(logits, labels, 0.3)
    total.backward()
    assert logits.grad is not None
    assert int((logits.grad.abs().sum(dim=-1) > 0).sum()) == int(tokens)
