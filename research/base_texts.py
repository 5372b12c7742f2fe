"""What a base model of the built-in benchmark reads, in batches of token ids.

One real batch row, as words (see ``activeselect/research/base_mixture.py`` for the mixture)::

    each minute 6 litres flow in . how many litres after 7 minutes ? then 6 x 7 = 42 . so answer
    : 42 <eos> <pad> <pad>

Apart from the training, because a process that writes them should start quickly.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from activeselect.data.skills.stories import EOS, PAD, vocabulary
from research.base_mixture import draw_text

PAD_ID, EOS_ID = vocabulary().index(PAD), vocabulary().index(EOS)
_BATCHES_SORTED = 32  # texts of similar length share a batch: a third less padding to compute


def batches(rng: np.random.Generator, size: int) -> Iterator[Tensor]:
    """Endless batches of token ids, int64 ``[size, length]``, padded on the right."""
    code = {word: i for i, word in enumerate(vocabulary())}
    while True:
        rows = []
        for _ in range(size * _BATCHES_SORTED):
            text, whole = draw_text(rng)
            rows.append([code[word] for word in text.split()] + [EOS_ID] * whole)
        rows.sort(key=len)
        for i in rng.permutation(_BATCHES_SORTED):
            chunk = rows[i * size : (i + 1) * size]
            longest = len(chunk[-1])
            yield torch.tensor([row + [PAD_ID] * (longest - len(row)) for row in chunk])


class _Writer(IterableDataset[Tensor]):
    """What one of several processes writes: its own endless batches."""

    def __init__(self, seed: int, size: int) -> None:
        self.seed, self.size = seed, size

    def __iter__(self) -> Iterator[Tensor]:
        worker = get_worker_info()
        key = [self.seed, 2, *([worker.id] if worker else [])]
        return batches(np.random.Generator(np.random.PCG64(key)), self.size)


def texts(seed: int, size: int, writers: int) -> Iterator[Tensor]:
    """Endless batches, the same ones again for the same arguments.

    Args:
        seed: of the texts.
        size: texts per batch.
        writers: processes that write them in turn; 0: this one.
    """
    writer = _Writer(seed, size)
    if not writers:
        return iter(writer)
    loader = DataLoader(
        writer,
        batch_size=None,
        num_workers=writers,
        prefetch_factor=_BATCHES_SORTED,  # they write as many at a time
        multiprocessing_context="spawn",  # a fork of a process with a GPU or threads may hang
    )
    return iter(loader)
