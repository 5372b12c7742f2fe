"""Drawing the next token from the nucleus of a softmax (Holtzman et al. 2020).

Sorting the vocabulary costs more than a small model's forward pass. The nucleus is mostly a few
tokens, so the likeliest are looked at first, and a row is sorted only where they do not settle it.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

#: Tokens that are looked at, in turn, before a row is sorted; most nuclei are smaller.
LOOKED_AT = (32, 512)


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
    rows = torch.arange(len(logits), device=logits.device)  # whose token is not settled
    chosen = torch.empty_like(rows)
    for many in LOOKED_AT if top_p < 1 else ():
        if len(rows) == 0 or logits.shape[-1] <= 2 * many:
            break
        likeliest, token = _in_order(*probability.topk(many, dim=-1))
        chosen[rows] = _invert(likeliest, token, numbers, top_p)
        left = (~_settled(likeliest, top_p)).nonzero().squeeze(1)
        rows, probability, numbers = rows[left], probability[left], numbers[left]
    if len(rows):
        ordered, token = probability.sort(dim=-1, descending=True, stable=True)
        chosen[rows] = _invert(ordered, token, numbers, top_p)
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
    last = (mass < top_p).sum(dim=-1, keepdim=True).clamp(max=mass.shape[-1] - 1)
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
