"""How the examples of a step go through the model: no padding where it can be, few logits.

What a step learns is a sum over target tokens, so its examples may be laid out in any way:

- packed into one row (:mod:`activeselect.training.packing`), where the model reads that;
- else sorted by length and cut into parts of similar length, padded on the right: whatever is
  causal, recurrent layers included, sees no padding before its text and needs no mask.

The output layer is asked for predictions of target tokens alone, and a plain linear one is made
one with its loss (:func:`activeselect.training.loss.linear_loss`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor

from activeselect.data.prompts import IGNORED, parts_by_length
from activeselect.scoring.families import length_kinds
from activeselect.scoring.output_layer import probe_output_layer, replaced
from activeselect.training.loss import linear_loss, target_loss
from activeselect.training.packing import packed_attention, packed_inputs, reads_packed

#: Padded tokens that cost about as much as a forward pass more.
_WASTE = 256


class Reader:
    """Sums the loss of batches from ``activeselect.data.prompts.collate``.

    Args:
        model: a transformers causal LM.
        share: of the target tokens that count (``recipe.tokens.share``).
        at_once: never read a batch in parts (ranks with sharded weights go in step).
        pack: pack where the model can.
    """

    def __init__(
        self, model: Any, *, share: float = 1.0, at_once: bool = False, pack: bool = True
    ) -> None:
        self.model, self.share, self.at_once = model, share, at_once
        self.packs = pack and reads_packed(model)
        self.head = model.get_output_embeddings()
        self.trims, last = probe_output_layer(model)
        self.fuses = last and share == 1 and type(self.head) is torch.nn.Linear

    def attention(self) -> Any:
        """Context of the forward passes and, where activations are computed again, of backward."""
        return packed_attention(self.model) if self.packs else nullcontext()

    def loss(self, batch: dict[str, Tensor]) -> tuple[Tensor, int]:
        """Sum of the loss over the target tokens of a batch, nats, and how many they are."""
        parts = [self._part(inputs, keep, batch) for inputs, keep in self._parts(batch)]
        return torch.stack([nats for nats, _ in parts]).sum(), sum(count for _, count in parts)

    def _parts(self, batch: dict[str, Tensor]) -> Iterator[tuple[dict[str, Tensor], Tensor]]:
        """Inputs of each forward pass, and where in the batch its tokens lie, int64 ``[L, 2]``."""
        mask = batch["attention_mask"].bool()
        if self.packs:
            inputs = packed_inputs(batch["input_ids"][mask], mask.sum(dim=1))
            yield inputs, mask.nonzero()
            return
        lengths = mask.sum(dim=1).tolist()
        kinds = length_kinds(self.model.config, lengths)
        whole = [np.arange(len(lengths))]
        for rows in whole if self.at_once else parts_by_length(lengths, kinds, _WASTE):
            longest = max(lengths[row] for row in rows)
            index = torch.from_numpy(rows).to(mask.device)
            places = torch.arange(longest, device=mask.device)
            at = torch.cartesian_prod(index, places).view(-1, 2)
            yield {"input_ids": batch["input_ids"][index, :longest]}, at

    def _part(
        self, inputs: dict[str, Tensor], at: Tensor, batch: dict[str, Tensor]
    ) -> tuple[Tensor, int]:
        labels = batch["labels"]
        # the label of a position is the token after it
        following = torch.cat([labels[:, 1:], labels.new_full((len(labels), 1), IGNORED)], dim=1)
        wanted = following[at[:, 0], at[:, 1]]
        keep = (wanted != IGNORED).nonzero().squeeze(1)
        wanted = wanted[keep]
        with (
            self.attention(),
            replaced(self.head if self.trims else None, self._answer(keep, wanted)),
        ):
            output = self.model(**inputs, use_cache=False).logits
        if self.fuses:
            return output, len(wanted)
        logits = output[0] if self.trims else output.flatten(0, 1)[keep]
        rows = torch.unique_consecutive(at[keep, 0], return_counts=True)[1].tolist()
        return target_loss(logits, wanted, rows, self.share)

    def _answer(self, keep: Tensor, wanted: Tensor) -> Callable[[Tensor], Tensor]:
        """The output layer, for target tokens alone: their loss, or else their logits."""
        plain = getattr(self.head, "forward", None)

        def answer(hidden: Tensor) -> Tensor:
            chosen = hidden.flatten(0, 1)[keep]
            if self.fuses:
                return linear_loss(chosen, self.head.weight, self.head.bias, wanted)
            logits: Tensor = plain(chosen[None])  # type: ignore[misc]
            return logits

        return answer
