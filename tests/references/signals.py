"""Signals of one example, token by token in double precision, by autograd, and by plain loops."""

from __future__ import annotations

import copy
import itertools
import math
from typing import Any

import numpy as np
import torch


def token_statistics(model: Any, ids: np.ndarray, start: int, share: float) -> dict[str, float]:
    """All one-pass statistics of ``ids[start:]`` given what comes before."""
    model = copy.deepcopy(model).double()
    ids = torch.from_numpy(np.asarray(ids, dtype=np.int64))
    head = model.get_output_embeddings()
    head.weight = torch.nn.Parameter(head.weight.detach().clone())  # untied: its gradient alone
    nll, lengths, entropies = [], [], []
    for position in range(start, len(ids)):
        logits = model(input_ids=ids[None, :position]).logits[0, -1]
        p = torch.softmax(logits, dim=-1)
        nll.append(-torch.log(p[ids[position]]))
        p = p.detach().numpy()
        onehot = np.zeros_like(p)
        onehot[ids[position]] = 1
        lengths.append(math.sqrt(float(((p - onehot) ** 2).sum())))
        entropies.append(float(-sum(x * math.log(x) for x in p if x > 0)))
    (torch.stack(nll).sum() / len(nll)).backward()
    top = sorted(entropies, reverse=True)[: max(1, math.ceil(share * len(entropies)))]
    return {
        "nll": float(torch.stack(nll).sum().detach()),
        "el2n": sum(lengths) / len(lengths),
        "grand": float(head.weight.grad.norm()),
        "entropy": sum(entropies) / len(entropies),
        "hes": sum(top),
    }


def derived(name: str, values: list[float | None]) -> list[float | None]:
    """A derived signal of one example from its measurements in each round (None = not measured)."""
    out: list[float | None] = []
    for row, now in enumerate(values):
        before = [v for v in values[:row] if v is not None]
        if now is None:
            out.append(None)
        elif name == "delta_loss":
            out.append(before[-1] - now if before else None)
        elif name == "forgetting":
            seen = [*before, now]
            out.append(sum(a >= 0.5 > b for a, b in itertools.pairwise(seen)))
        else:
            p = [math.exp(-v) for v in [*before, now]]
            mean = sum(p) / len(p)
            spread = math.sqrt(sum((x - mean) ** 2 for x in p) / len(p))
            out.append(mean if name == "confidence" else spread)
    return out


def own_answers(answers: list[float | None]) -> dict[str, float]:
    """Agreement, answer entropy and unanswered of one question, by comparing every pair."""
    size = len(answers)
    alike = []  # for each completion, how many state the same answer, itself included
    for i, mine in enumerate(answers):
        same = [
            1 for j, other in enumerate(answers) if j != i and mine is not None and mine == other
        ]
        alike.append(1 + len(same))
    stated = [n for n, mine in zip(alike, answers, strict=True) if mine is not None]
    # each completion holds 1/S of the mass of its class, whose share is n/S
    return {
        "agreement": max(stated, default=0) / size,
        "answer_entropy": -sum(math.log(n / size) for n in alike) / size,
        "unanswered": (size - len(stated)) / size,
    }


def self_certainty(model: Any, prompt: np.ndarray, completions: list[list[int]]) -> float:
    """Mean over completions of the mean log-probability of their tokens, one token at a time."""
    means = []
    for tokens in completions:
        ids, found = [int(i) for i in prompt], []
        for token in tokens:
            logits = model(input_ids=torch.tensor([ids])).logits[0, -1].double()
            found.append(float(torch.log_softmax(logits, dim=-1)[token].detach()))
            ids.append(token)
        if found:
            means.append(sum(found) / len(found))
    return sum(means) / len(means)
