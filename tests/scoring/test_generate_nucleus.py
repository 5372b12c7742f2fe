"""The next token is that of a full sort, whatever part of the vocabulary was looked at."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from activeselect.scoring.generate import LOOKED_AT, draw


def by_sorting(
    reference: ModuleType, logits: list[float], number: float, temperature: float, top_p: float
) -> int:
    chance = reference.next_token_distribution(logits, temperature, top_p)
    order = sorted(range(len(chance)), key=lambda t: (-chance[t], t))
    return order[int(np.searchsorted(np.cumsum([chance[t] for t in order]), number, side="right"))]


@settings(max_examples=60)
@given(
    seed=st.integers(0, 2**31),
    sharpness=st.sampled_from([0.1, 1.0, 4.0, 20.0]),
    top_p=st.sampled_from([0.05, 0.5, 0.9, 0.95, 0.999, 1.0]),
    vocabulary=st.sampled_from([5, 2 * LOOKED_AT[0], 2 * LOOKED_AT[0] + 1, 300, 1100]),
    coarse=st.booleans(),
)
def test_a_part_of_the_vocabulary_gives_what_all_of_it_gives(
    sampling_reference: ModuleType,
    seed: int,
    sharpness: float,
    top_p: float,
    vocabulary: int,
    coarse: bool,
) -> None:
    """Coarse logits, as in 16 bits, are often equal, on the edge of what is looked at too."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(8, vocabulary)) * sharpness
    logits = np.round(logits) if coarse else logits
    numbers = rng.random(8)
    got = draw(torch.from_numpy(logits).float(), numbers, 0.8, top_p).tolist()
    for row, number, token in zip(logits, numbers, got, strict=True):
        near = [  # 32 bits against 64
            by_sorting(sampling_reference, row.tolist(), number + nudge, 0.8, min(1, top_p + edge))
            for nudge in (-1e-5, 0.0, 1e-5)
            for edge in (-1e-6, 0.0, 1e-6)
            if 0 <= number + nudge < 1 - 1e-9
        ]
        assert token in near


@pytest.mark.parametrize("top_p", [0.3, 0.9, 0.95])
def test_rows_that_are_sorted_and_rows_that_are_not_share_a_batch(top_p: float) -> None:
    generator = torch.Generator().manual_seed(0)
    flat = torch.randn(20, 1500, generator=generator) * 0.1
    sharp = torch.randn(20, 1500, generator=generator) * torch.linspace(1, 9, 20)[:, None]
    numbers = np.random.default_rng(0).random(40)
    together = draw(torch.cat([flat, sharp]), numbers, 1.0, top_p)
    alone = [draw(flat, numbers[:20], 1.0, top_p), draw(sharp, numbers[20:], 1.0, top_p)]
    assert torch.equal(together, torch.cat(alone))
    assert len(set(together[:20].tolist())) > 15
