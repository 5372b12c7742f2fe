"""Projected gradients: against autograd, one example at a time."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from activeselect.config import PromptConfig
from activeselect.data.pool import Pool
from activeselect.data.prompts import Encoded, collate, encode
from activeselect.errors import ModelError
from activeselect.scoring import forward as gradients
from activeselect.scoring.forward import project_gradients

ALL = 10**9


@pytest.fixture(scope="module")
def items(pool: Pool, tokenizer: Any) -> list[Encoded]:
    return encode(pool, np.arange(20), tokenizer, PromptConfig("{question} ", "{trace}"))


def exact(model: Any, item: Encoded) -> NDArray[np.float32]:
    """Through ``.grad``, with the loss written out."""
    twin = copy.deepcopy(model)
    batch = collate([item], 0)
    logits = twin(input_ids=batch["input_ids"]).logits[0, item.start - 1 : -1]
    target = torch.from_numpy(item.ids[item.start :].astype(np.int64))
    torch.nn.functional.cross_entropy(logits, target).backward()
    return torch.cat([p.grad.flatten() for p in twin.parameters()]).numpy()


def cosines(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return (rows @ rows.T)[np.triu_indices(len(rows), 1)]


def test_without_projection_it_is_the_gradient(model: Any, items: list[Encoded]) -> None:
    found = project_gradients(model, items[:3], dim=ALL, seed=0)
    for row, item in zip(found, items[:3], strict=True):
        np.testing.assert_allclose(row, exact(model, item), rtol=1e-3, atol=1e-5)


def test_the_projection_keeps_lengths_and_cosines(model: Any, items: list[Encoded]) -> None:
    whole = project_gradients(model, items, dim=ALL, seed=0)
    few = project_gradients(model, items, dim=1024, seed=0)
    assert few.shape == (20, 1024)
    assert few.dtype == np.float32
    assert whole.shape[1] > 4 * 1024
    error = cosines(few) - cosines(whole)
    assert np.sqrt((error**2).mean()) < 1.5 / np.sqrt(1024)  # what any random projection gives
    ratio = np.linalg.norm(few, axis=1) / np.linalg.norm(whole, axis=1)
    assert ratio == pytest.approx(1.0, abs=0.2)


def test_it_depends_on_the_seed_and_not_on_the_company(model: Any, items: list[Encoded]) -> None:
    first = project_gradients(model, items, dim=64, seed=3)
    gradients._projection.cache_clear()
    alone = [project_gradients(model, [item], dim=64, seed=3)[0] for item in items]
    np.testing.assert_allclose(first, np.stack(alone), rtol=1e-4, atol=1e-6)
    assert np.abs(first - project_gradients(model, items, dim=64, seed=4)).max() > 0.1
    assert project_gradients(model, [], dim=64, seed=0).shape == (0, 64)


def test_nothing_of_the_model_changes(model: Any, items: list[Encoded]) -> None:
    twin = copy.deepcopy(model)
    parameter = next(twin.parameters())
    parameter.grad = torch.ones_like(parameter)
    with torch.no_grad():  # as inside Lightning's hooks
        project_gradients(twin, items[:2], dim=64, seed=0)
    assert parameter.grad.eq(1).all()
    assert not twin.training
    for before, after in zip(model.parameters(), twin.parameters(), strict=True):
        assert torch.equal(before, after)


def test_named_modules_adapters_and_frozen_parts(model: Any, items: list[Encoded]) -> None:
    norm = project_gradients(model, items[:1], dim=ALL, seed=0, modules=["model.norm"])
    width = model.config.hidden_size
    names = [name for name, _ in model.named_parameters()]
    sizes = [p.numel() for p in model.parameters()]
    start = sum(sizes[: names.index("model.norm.weight")])
    wanted = exact(model, items[0])[start : start + width]
    np.testing.assert_allclose(norm[0], wanted, rtol=1e-3, atol=1e-5)
    twin = copy.deepcopy(model).requires_grad_(False)
    twin.model.norm.weight.requires_grad_(True)
    np.testing.assert_array_equal(project_gradients(twin, items[:1], dim=ALL, seed=0), norm)
    twin.model.lora_A = torch.nn.Parameter(torch.ones(5))  # an adapter, here without an effect
    assert project_gradients(twin, items[:1], dim=ALL, seed=0).tolist() == [[0.0] * 5]


def test_what_cannot_be_measured_is_said(model: Any, items: list[Encoded]) -> None:
    with pytest.raises(ModelError, match=r"name contains q_x or v_x; .*gradient_modules"):
        project_gradients(model, items, dim=8, seed=0, modules=["q_x", "v_x"])
    with pytest.raises(ModelError, match="needs trained parameters; the model has none"):
        project_gradients(copy.deepcopy(model).requires_grad_(False), items, dim=8, seed=0)
    with pytest.raises(ModelError, match=r"numbers per example; expected at most 1,000\. Train an"):
        project_gradients(model, items, dim=8, seed=0, most=1000)
    broken = copy.deepcopy(model)
    with torch.no_grad():
        broken.model.norm.weight.fill_(torch.nan)
    with pytest.raises(ModelError, match="gradient is not finite: the training diverged"):
        project_gradients(broken, items[:1], dim=8, seed=0)
