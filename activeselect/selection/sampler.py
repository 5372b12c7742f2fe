"""A torch sampler over the pure order: thin state, exact resume, one shard per rank."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

from torch.utils.data import Sampler

from activeselect.errors import ConfigError, StrategyError
from activeselect.selection.order import pass_order
from activeselect.selection.strategy import Selection


class ActiveSampler(Sampler[int]):
    """Yields pool positions of the current round; the selection may change between rounds.

    Every iteration is one pass over ``samples`` positions drawn from the selection. The order
    depends on (selection, seed, pass number) alone; what has been trained is told from outside
    through ``consumed``, so that prefetching cannot corrupt a resume.

    Args:
        selection: what to draw from, with weights.
        samples: positions per pass over all ranks; default: one per selected example.

    Raises:
        ConfigError: if ``samples`` is below 1.
        StrategyError: if the selection is empty, now or when it is replaced.

    Example:
        >>> sampler = ActiveSampler(Selection.of([3, 5, 8]), seed=0)
        >>> sorted(sampler)
        [3, 5, 8]
    """

    def __init__(
        self,
        selection: Selection,
        *,
        seed: int,
        samples: int | None = None,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if samples is not None and samples < 1:
            raise ConfigError(f"samples: expected at least 1 per pass; received {samples}.")
        self.selection = selection
        self.samples = len(selection.index) if samples is None else samples
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.epoch = 0
        self.consumed = 0

    @property
    def selection(self) -> Selection:
        """What the next pass draws from."""
        return self._selection

    @selection.setter
    def selection(self, selection: Selection) -> None:
        if not selection.weight.any():
            raise StrategyError(
                "The selection to train on is empty; select at least one example of positive "
                "weight."
            )
        self._selection = selection

    def set_epoch(self, epoch: int, consumed: int = 0) -> None:
        """Choose the pass that the next iteration yields, after ``consumed`` samples of it."""
        self.epoch = epoch
        self.consumed = consumed

    def __len__(self) -> int:
        return (self.samples - self.consumed) // self.world_size

    def __iter__(self) -> Iterator[int]:
        chunks = pass_order(
            self.selection,
            self.samples,
            seed=self.seed,
            round=self.epoch,
            rank=self.rank,
            world_size=self.world_size,
            consumed=self.consumed,
        )
        return chain.from_iterable(chunk.tolist() for chunk in chunks)
