"""Row cache: texts that a model continues, one token at a time.

Where the model's layers allow it, keys and values lie in blocks with room for more tokens and more
rows: a token is written into its column, a new text into free rows, and the last rows move up where
others have ended. At any time the rows look like a batch that was padded on the left::

    columns   0 1 2 3 4 5 6 7
    row 0     . . a b c d e .      live: 3 rows, 6 columns; the block has room for 4 and 8
    row 1     . f g h i j k .      (all rows end in the same column; the next token is written
    row 2     . . . . l m n .      into the one after it)
    row 3     . . . . . . . .
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from activeselect.arrays import IntArray
from activeselect.scoring.families import reads_whole_rows


class BlockLayer(DynamicLayer):  # type: ignore[no-untyped-call]
    """One layer's keys and values in blocks ``[rows, heads, columns, D]`` with room."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.blocks: list[Tensor] = []
        self.rows = self.start = self.stop = 0

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Write the next tokens of all rows; what is returned are views, nothing is copied."""
        stop = self.stop + key_states.shape[-2]
        for block, new in zip(self.blocks, (key_states, value_states), strict=True):
            block[: self.rows, :, self.stop : stop] = new
        self.stop = stop
        self._show()
        return self.keys, self.values  # type: ignore[return-value]

    def lay(self, like: DynamicLayer, rows: int, columns: int, width: int) -> None:
        """Move into blocks of another size, so that the live columns end at ``width``."""
        live = self.stop - self.start
        new = []
        for i, tensor in enumerate((like.keys, like.values)):
            assert tensor is not None
            block = tensor.new_zeros(rows, tensor.shape[1], columns, tensor.shape[3])
            if self.blocks:  # masked columns hold zeros: NaN would spread through a weight of 0
                old = self.blocks[i][: self.rows, :, self.start : self.stop]
                block[: self.rows, :, width - live : width] = old
            new.append(block)
        self.blocks, self.start, self.stop = new, width - live, width
        self.is_initialized = True

    def move_up(self, order: IntArray) -> None:
        """Go on with these rows; those that stay in the block's first rows keep their places."""
        moved = torch.from_numpy(np.flatnonzero(order != np.arange(len(order))))
        if len(moved):
            source = torch.from_numpy(order)[moved]
            for block in self.blocks:
                block[moved.to(block.device)] = block[source.to(block.device)]
        self.rows = len(order)

    def add(self, other: DynamicLayer, first: Tensor) -> None:
        """Write other rows below, ``first[i]`` of ``other`` as the i-th of them."""
        for block, tensor in zip(self.blocks, (other.keys, other.values), strict=True):
            assert tensor is not None
            width = tensor.shape[-2]
            block[self.rows : self.rows + len(first), :, self.stop - width : self.stop] = tensor[
                first.to(tensor.device)
            ]
        self.rows += len(first)

    def show(self, width: int) -> None:
        """Hide columns that no row needs any more."""
        self.start = self.stop - width
        self._show()

    def _show(self) -> None:
        self.keys, self.values = (
            block[: self.rows, :, self.start : self.stop] for block in self.blocks
        )


class Reader:
    """Gives the logits after the texts of its rows, from a cache where the family has one.

    Args:
        model: a transformers causal LM in eval mode.
        pad_token: written where a text is padded; masked.
        cached: whether the model fills a ``DynamicCache``.
        rereads: length after which all that was read is read again, or None.
        blocks: whether all layers can keep their rows in blocks.
    """

    def __init__(
        self, model: Any, pad_token: int, *, cached: bool, rereads: int | None, blocks: bool
    ) -> None:
        self.model, self.pad_token = model, pad_token
        self.cached, self.rereads, self.blocks = cached, rereads, blocks
        self.lengths = np.zeros(0, dtype=np.int64)  # tokens of each row's text
        self.columns = 0  # of the blocks
        self.cache: DynamicCache | None = None
        self.ids: Tensor | None = None  # whole texts, where they are read again

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def width(self) -> int:
        """Tokens of the longest text."""
        return int(self.lengths.max(initial=0))

    def is_full(self) -> bool:
        """Whether the blocks have no column for another token."""
        return self.blocks and (self.cache is None or self._layers()[0].stop == self.columns)

    def add(
        self, texts: Sequence[NDArray[np.int32]], copies: IntArray, rows: int, columns: int
    ) -> Tensor:
        """Read texts and go on with some rows of each, below those that there are.

        Args:
            texts: token ids of each text.
            copies: rows of each text.
            rows, columns: size that the blocks have afterwards.

        Returns:
            Logits of the next token of the new rows, ``[sum(copies), V]``.
        """
        ids, mask = _left_padded(texts, self.pad_token)
        ids, mask = ids.to(self.model.device), mask.to(self.model.device)
        read, cache = self._read(ids, mask)
        first = torch.from_numpy(np.repeat(np.arange(len(texts)), copies)).to(ids.device)
        lengths = np.array([len(text) for text in texts])
        if self.blocks:
            width = max(self.width, int(lengths.max()))
            self._lay(cache, rows, columns, width)
            for layer, other in zip(self._layers(), _filled(cache), strict=True):
                layer.add(other, first)
                layer.show(width)
            self.columns = columns
        else:
            assert not len(self), "rows join only where the layers keep them in blocks"
            self.cache, self.ids = cache, ids[first]
            if cache is not None:
                cache.reorder_cache(first)  # type: ignore[arg-type]  # any length, int64
        self.lengths = np.concatenate([self.lengths, np.repeat(lengths, copies)])
        return read[first]

    def lay(self, rows: int, columns: int) -> None:
        """Give the blocks another size."""
        assert self.cache is not None
        self._lay(self.cache, rows, columns, self.width)
        for layer in self._layers():
            layer.show(self.width)
        self.columns = columns

    def take(self, order: IntArray) -> None:
        """Go on with these rows only, in this order (:func:`closed_up`)."""
        self.lengths = self.lengths[order]
        if self.blocks:
            for layer in self._layers():
                layer.move_up(order)
                layer.show(self.width)
            return
        rows = torch.from_numpy(order).to(self.model.device)
        if self.ids is not None:
            self.ids = self.ids[rows]
        if self.cache is not None:
            self.cache.reorder_cache(rows)  # type: ignore[arg-type]

    def step(self, token: Tensor) -> Tensor:
        """Read one more token of each row; logits of the next, ``[rows, V]``."""
        self.lengths = self.lengths + 1
        if not self.blocks:
            assert self.ids is not None
            self.ids = torch.cat([self.ids, token[:, None]], dim=1)
        lengths = torch.from_numpy(self.lengths).to(token.device)[:, None]
        width = self.width if self.blocks else self.ids.shape[1]  # type: ignore[union-attr]
        mask = (torch.arange(width, device=token.device) >= width - lengths).long()
        if self.cache is None or width - 1 == self.rereads:
            logits, self.cache = self._read(self.ids, mask)
            return logits
        return self._logits(token[:, None], mask, lengths - 1, self.cache)

    def _read(self, ids: Any, mask: Tensor) -> tuple[Tensor, DynamicCache | None]:
        """Read whole texts into a new cache, if the family has one."""
        cache = DynamicCache(config=self.model.config) if self.cached else None
        positions = (mask.cumsum(dim=1) - 1).clamp(min=0)
        return self._logits(ids, mask, positions, cache), cache

    def _logits(
        self, ids: Tensor, mask: Tensor, positions: Tensor, cache: DynamicCache | None
    ) -> Tensor:
        whole = reads_whole_rows(self.model) if ids.shape[1] > 1 else nullcontext()
        with whole:
            out = self.model(
                input_ids=ids,
                attention_mask=mask,
                position_ids=positions,
                past_key_values=cache,
                use_cache=self.cached,
                logits_to_keep=1,
            )
        logits: Tensor = out.logits[:, -1]
        return logits

    def _lay(self, like: Any, rows: int, columns: int, width: int) -> None:
        if self.cache is None:
            self.cache = DynamicCache(config=self.model.config)
            self.cache.layers = [
                BlockLayer() if layer.is_initialized else layer for layer in like.layers
            ]
        for layer, other in zip(self._layers(), _filled(like), strict=True):
            layer.lay(other, rows, columns, width)

    def _layers(self) -> list[BlockLayer]:
        layers = [] if self.cache is None else self.cache.layers
        return [layer for layer in layers if isinstance(layer, BlockLayer)]


def closed_up(stays: NDArray[np.bool_]) -> IntArray:
    """Rows that stay, the last of them in the places of those that do not: few have to move.

    Example:
        >>> closed_up(np.array([True, False, True, False, True, True])).tolist()
        [0, 5, 2, 4]
    """
    count = int(stays.sum())
    order = np.arange(count)
    order[~stays[:count]] = np.flatnonzero(stays[count:])[::-1] + count
    return order


def _filled(cache: Any) -> list[DynamicLayer]:
    return [layer for layer in cache.layers if layer.is_initialized]


def _left_padded(prompts: Sequence[NDArray[np.int32]], pad_token: int) -> tuple[Tensor, Tensor]:
    length = max(len(prompt) for prompt in prompts)
    ids = np.full((len(prompts), length), pad_token, dtype=np.int64)
    mask = np.zeros_like(ids)
    for row, prompt in enumerate(prompts):
        ids[row, length - len(prompt) :] = prompt
        mask[row, length - len(prompt) :] = 1
    return torch.from_numpy(ids), torch.from_numpy(mask)
