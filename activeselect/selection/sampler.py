"""A torch sampler over the pure order: thin state, exact resume, one shard per rank."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

from torch.utils.data import Sampler

from activeselect.errors import ConfigError, StrategyError
from activeselect.selection.order import epoch_order
from activeselect.selection.strategy import Selection


class ActiveSampler(Sampler[int]):
    """Yields pool positions of the current epoch; the selection may change between rounds.

    Every iteration is one epoch over ``samples`` positions drawn from the selection. The order
    depends on (selection, seed, epoch number) alone; what has been trained is told from outside
    through ``consumed``, so that prefetching cannot corrupt a resume.

    Args:
        selection: what to draw from, with weights.
        samples: positions per epoch over all ranks; default: one per selected example.
        rank, world_size: which of how many processes this is; they take turns.
        pad: what happens to the samples, fewer than ``world_size``, that are left when all ranks
            had as many: without ``pad`` they are left out; with it, ranks that get none of them
            get padding, ``~position`` of an example, to be read and not learned from.

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
        pad: bool = False,
    ) -> None:
        if samples is not None and samples < 1:
            raise ConfigError(f"samples: expected at least 1 per epoch; received {samples}.")
        self.selection = selection
        self.samples = len(selection.index) if samples is None else samples
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.pad = pad
        self.epoch = self.consumed = 0
        self._resumed = (0, 0)

    @property
    def selection(self) -> Selection:
        """What the next epoch draws from."""
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
        """Choose the epoch that the next iteration yields, after ``consumed`` samples of it."""
        if epoch != self._resumed[0]:
            self._resumed = (epoch, 0)
        self.epoch = epoch
        self.consumed = consumed or self._resumed[1]

    def resume(self, epoch: int, consumed: int) -> None:
        """Go on with an epoch that was stopped.

        Trainers call ``set_epoch(epoch)`` before they go on in the middle of an epoch. Until they
        choose another epoch, the consumed samples are remembered.
        """
        self._resumed = (epoch, consumed)
        self.set_epoch(epoch, consumed)

    def __len__(self) -> int:
        return self._share(self.samples - self.consumed)

    @property
    def whole(self) -> int:
        """Samples of this rank in a whole epoch, consumed ones included."""
        return self._share(self.samples)

    def _share(self, samples: int) -> int:
        return -(-samples // self.world_size) if self.pad else samples // self.world_size

    def __iter__(self) -> Iterator[int]:
        chunks = epoch_order(
            self.selection,
            self.samples,
            seed=self.seed,
            epoch=self.epoch,
            rank=self.rank,
            world_size=self.world_size,
            consumed=self.consumed,
        )
        return chain(chain.from_iterable(chunk.tolist() for chunk in chunks), self._last())

    def _last(self) -> Iterator[int]:
        """What does not divide by the ranks: one sample, or padding, for each of them."""
        left = (self.samples - self.consumed) % self.world_size
        if not self.pad or not left:
            return
        chunks = epoch_order(
            self.selection,
            self.samples,
            seed=self.seed,
            epoch=self.epoch,
            consumed=self.samples - left,
        )
        rest = [position for chunk in chunks for position in chunk.tolist()]
        yield rest[self.rank] if self.rank < left else ~rest[0]
