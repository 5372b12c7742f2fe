"""Pre-memorization accuracy as a torchmetrics metric: a thin shell over the pure function."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric

from activeselect.scoring.functional import pre_memorization_accuracy


class PreMemorizationAccuracy(Metric):
    """Accumulates what the scorer measures and gives premem per round and example.

    Args:
        num_examples: N, size of the pool.
        tau: memorization threshold, nats per token.

    Source:
        Kang et al., arXiv 2411.07681.

    Example:
        >>> metric = PreMemorizationAccuracy(num_examples=2, tau=0.1)
        >>> correct = torch.tensor([[True, False], [True, True]])
        >>> nll, tokens = torch.tensor([5.0, 0.2]), torch.tensor([10, 10])
        >>> metric.update(0, torch.tensor([0, 1]), correct, nll, tokens)
        >>> metric.compute().tolist()
        [[0.5, 0.0]]
    """

    full_state_update = False
    is_differentiable = False
    higher_is_better = True
    rounds: list[Tensor]
    index: list[Tensor]
    accuracy: list[Tensor]
    mean_nll: list[Tensor]

    def __init__(self, num_examples: int, tau: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if num_examples < 1:
            raise ValueError(f"num_examples must be at least 1; received {num_examples}")
        self.num_examples = num_examples
        self.tau = tau
        for name in ("rounds", "index", "accuracy", "mean_nll"):
            self.add_state(name, default=[], dist_reduce_fx="cat")

    def update(
        self, round: int, index: Tensor, correct: Tensor, nll_sum: Tensor, tokens: Tensor
    ) -> None:
        """Add measurements of one round.

        Args:
            round: from 0; rounds may come in any order, an example once per round.
            index: positions in the pool, int ``[B]``.
            correct: whether each sampled completion reached the right answer, bool ``[B, S]``.
            nll_sum: negative log-likelihood of the reference trace, nats, float ``[B]``.
            tokens: target tokens of the trace, int ``[B]``.
        """
        if correct.ndim != 2 or not len(index) == len(correct) == len(nll_sum) == len(tokens):
            raise ValueError(
                "expected index [B], correct [B, S], nll_sum [B], tokens [B]; received "
                f"{tuple(index.shape)}, {tuple(correct.shape)}, {tuple(nll_sum.shape)}, "
                f"{tuple(tokens.shape)}"
            )
        if round < 0:
            raise ValueError(f"round must be at least 0; received {round}")
        if len(index) and not 0 <= int(index.min()) <= int(index.max()) < self.num_examples:
            raise ValueError(
                f"index must lie in [0, {self.num_examples}); "
                f"received {int(index.min())} to {int(index.max())}"
            )
        self.rounds.append(torch.full_like(index, round))
        self.index.append(index.detach())
        self.accuracy.append(correct.detach().double().mean(dim=1))
        self.mean_nll.append(nll_sum.detach().double() / tokens)

    def compute(self) -> Tensor:
        """Premem after every round so far, float64 ``[R, N]``; NaN where not scored."""
        rounds = self._column(self.rounds).long().numpy()
        index = self._column(self.index).long().numpy()
        shape = (int(rounds.max()) + 1 if len(rounds) else 0, self.num_examples)
        accuracy = np.full(shape, np.nan)
        mean_nll = np.full(shape, np.nan)
        accuracy[rounds, index] = self._column(self.accuracy).numpy()
        mean_nll[rounds, index] = self._column(self.mean_nll).numpy()
        return torch.from_numpy(pre_memorization_accuracy(accuracy, mean_nll, self.tau))

    def plot(self, val: Tensor | None = None, ax: Any = None) -> Any:
        """Draw the mean over the examples after each round; needs matplotlib.

        Args:
            val: what :meth:`compute` returned, ``[R, N]``; default: computed now.
            ax: matplotlib axes to draw on.

        Returns:
            figure and axes.
        """
        premem = self.compute() if val is None else val
        return self._plot(list(premem.nanmean(dim=1)), ax)

    @staticmethod
    def _column(state: list[Tensor] | Tensor) -> Tensor:
        # after a reduction over processes torchmetrics holds one tensor instead of a list
        if isinstance(state, Tensor):
            return state.cpu()
        return torch.cat(state).cpu() if state else torch.empty(0)
