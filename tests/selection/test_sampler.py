"""The sampler as Lightning and a DataLoader use it."""

from __future__ import annotations

import pickle
import subprocess
import sys

import lightning
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader, Dataset

from activeselect.errors import ConfigError, StrategyError
from activeselect.selection.sampler import ActiveSampler
from activeselect.selection.strategy import Selection


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 30), st.integers(1, 60), st.integers(1, 5), st.integers(0, 5), st.data())
def test_length_equals_iteration(
    size: int, samples: int, world_size: int, epoch: int, data: st.DataObject
) -> None:
    consumed = data.draw(st.integers(0, samples))
    weight = np.random.default_rng(size).random(size) + 0.01
    trained: list[int] = []
    for rank in range(world_size):
        sampler = ActiveSampler(
            Selection.of(np.arange(size), weight),
            seed=1,
            samples=samples,
            rank=rank,
            world_size=world_size,
        )
        sampler.set_epoch(epoch, consumed)
        got = list(sampler)
        assert len(got) == len(sampler) == (samples - consumed) // world_size
        assert all(type(position) is int for position in got)
        trained += got
    assert len(trained) == (samples - consumed) // world_size * world_size


def test_a_pass_resumed_at_any_sample_is_the_rest_of_it() -> None:
    sampler = ActiveSampler(Selection.of(np.arange(20), np.linspace(0.1, 1, 20)), seed=1)
    sampler.set_epoch(3)
    whole = list(sampler)
    for consumed in range(len(whole) + 1):
        sampler.set_epoch(3, consumed)
        assert list(sampler) == whole[consumed:]
    sampler.set_epoch(3)
    assert list(sampler) == whole


def test_passes_differ_and_each_can_be_repeated() -> None:
    sampler = ActiveSampler(Selection.of(np.arange(20)), seed=1)
    passes = []
    for epoch in range(3):
        sampler.set_epoch(epoch)
        passes.append(list(sampler))
        assert list(sampler) == passes[-1]
    assert len({tuple(one) for one in passes}) == 3


def test_an_iterator_is_not_disturbed_by_what_comes_next() -> None:
    """A prefetching loader still reads the old pass when the next selection is made."""
    sampler = ActiveSampler(Selection.of(np.arange(20)), seed=1)
    expected = list(sampler)
    iterator = iter(sampler)
    first = [next(iterator) for _ in range(5)]
    sampler.selection = Selection.of([3])
    sampler.set_epoch(9)
    assert first + list(iterator) == expected


def test_a_new_selection_holds_from_the_next_pass() -> None:
    sampler = ActiveSampler(Selection.of(np.arange(6)), seed=1)
    sampler.selection = Selection.of([4, 5], [1.0, 0.0])
    assert list(sampler) == [4] * 6  # the length of a pass stays what it was


def test_pickles() -> None:
    sampler = ActiveSampler(Selection.of(np.arange(6)), seed=1)
    sampler.set_epoch(2, 3)
    assert list(pickle.loads(pickle.dumps(sampler))) == list(sampler)


@pytest.mark.parametrize("selection", [Selection.of([]), Selection.of([1, 2], [0.0, 0.0])])
def test_an_empty_selection_is_refused_whenever_it_comes(selection: Selection) -> None:
    with pytest.raises(StrategyError, match="selection to train on is empty"):
        ActiveSampler(selection, seed=0)
    sampler = ActiveSampler(Selection.of([1]), seed=0)
    with pytest.raises(StrategyError, match="selection to train on is empty"):
        sampler.selection = selection
    assert list(sampler) == [1]


@pytest.mark.parametrize("samples", [0, -3])
def test_a_pass_without_samples_is_refused(samples: int) -> None:
    with pytest.raises(ConfigError, match=f"at least 1 per epoch; received {samples}"):
        ActiveSampler(Selection.of([1]), seed=0, samples=samples)


class _Positions(Dataset[int]):
    def __getitem__(self, index: int) -> int:
        return index

    def __len__(self) -> int:
        return 100


class _Module(lightning.LightningModule):
    """Writes down which positions it was trained on, per epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.seen: list[list[int]] = []

    def on_train_epoch_start(self) -> None:
        self.seen.append([])

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
        self.seen[-1] += batch.tolist()
        return self.weight.sum()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


@pytest.mark.filterwarnings("ignore:.*does not have many workers.*")
@pytest.mark.filterwarnings("ignore:.*GPU available but not used.*")
def test_lightning_advances_the_passes() -> None:
    sampler = ActiveSampler(Selection.of(np.arange(10) * 3), seed=5)
    module = _Module()
    trainer = lightning.Trainer(
        accelerator="cpu",
        max_epochs=3,
        use_distributed_sampler=False,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, DataLoader(_Positions(), batch_size=4, sampler=sampler))
    expected = []
    for epoch in range(3):
        sampler.set_epoch(epoch)
        expected.append(list(sampler))
    assert module.seen == expected


def test_the_order_needs_no_torch() -> None:
    """Strategies are listed, and orders computed, without paying for torch's import."""
    code = (
        "import sys; import activeselect.selection.order, activeselect.selection.registry as r; "
        "r.strategies(); assert 'torch' not in sys.modules, 'torch was imported'"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
