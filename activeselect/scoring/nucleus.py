"""Drawing the next token from the nucleus of a softmax (Holtzman et al. 2020).

Sorting the vocabulary costs more than a small model's forward pass. The nucleus is mostly a few
tokens, so the likeliest are looked at first, and a row is sorted only where they do not settle it.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

#: Tokens that are looked at before a row is sorted; a real model's nucleus is mostly smaller.
LOOKED_AT = 32


def draw(
    logits: Tensor, uniform: NDArray[np.float64] | None, temperature: float, top_p: float
) -> Tensor:
    """Next token per row by inversion of the nucleus' distribution, int64 ``[rows]``.

    Tokens are ordered by probability, equal ones by number; the nucleus is the smallest set of the
    likeliest whose mass reaches ``top_p``.

    Args:
        logits: ``[rows, V]``.
        uniform: a number in [0, 1) per row; None: greedy.
        temperature: that the logits are divided by.
        top_p: share of the mass, in (0, 1].
    """
    if uniform is None:
        return logits.argmax(dim=-1)
    probability = torch.softmax(logits.float() / temperature, dim=-1)
    numbers = torch.from_numpy(uniform).to(logits.device, probability.dtype)[:, None]
    if logits.shape[-1] <= 2 * LOOKED_AT or top_p == 1:
        return _invert(*probability.sort(dim=-1, descending=True, stable=True), numbers, top_p)
    likeliest, token = _in_order(*probability.topk(LOOKED_AT, dim=-1))
    chosen = _invert(likeliest, token, numbers, top_p)
    rest = (~_settled(likeliest, top_p)).nonzero().squeeze(1)
    if len(rest):
        some = probability[rest].sort(dim=-1, descending=True, stable=True)
        chosen[rest] = _invert(*some, numbers[rest], top_p)
    return chosen


def _in_order(likeliest: Tensor, token: Tensor) -> tuple[Tensor, Tensor]:
    """Equal probabilities by token number; ``topk`` leaves their order open."""
    if not (likeliest[:, 1:] == likeliest[:, :-1]).any():
        return likeliest, token
    token, by = token.sort(dim=-1)
    likeliest, after = likeliest.gather(1, by).sort(dim=-1, descending=True, stable=True)
    return likeliest, token.gather(1, after)


def _settled(likeliest: Tensor, top_p: float) -> Tensor:
    """Rows whose whole nucleus is likelier than the last token that was looked at."""
    mass = likeliest.cumsum(dim=-1)
    last = (mass < top_p).sum(dim=-1, keepdim=True).clamp(max=LOOKED_AT - 1)
    return likeliest.gather(1, last).squeeze(1) > likeliest[:, -1]


def _invert(ordered: Tensor, token: Tensor, numbers: Tensor, top_p: float) -> Tensor:
    """The token at a share of the nucleus' mass, tokens in falling order of probability."""
    mass = ordered.cumsum(dim=-1)
    kept = (mass - ordered < top_p).sum(dim=-1, keepdim=True)
    nucleus = mass.gather(1, kept - 1)
    # a draw that rounds up to the whole mass takes the last token that added to it
    last = torch.searchsorted(mass, nucleus)
    choice = torch.searchsorted(mass, numbers * nucleus, right=True).minimum(last)
    return token.gather(1, choice).squeeze(1)
