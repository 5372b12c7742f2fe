"""A causal language model as a LightningModule: next-token loss on the target trace."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging

from activeselect.config import BUILT_IN_MODEL, RecipeConfig
from activeselect.errors import ModelError


class ReasoningModule(lightning.LightningModule):
    """Fine-tunes ``model`` with AdamW; batches come from ``activeselect.data.prompts.collate``.

    Args:
        model: a transformers causal LM.
        recipe: learning rate, schedule and weight decay.
        total_steps: optimizer steps of the whole fit, for the schedule.
    """

    def __init__(self, model: Any, recipe: RecipeConfig, *, total_steps: int) -> None:
        super().__init__()
        self.model = model
        self.recipe = recipe
        self.total_steps = total_steps

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        loss: Tensor = self.model(
            input_ids=batch["input_ids"],
            attention_mask=batch["attention_mask"],
            labels=batch["labels"],
        ).loss
        self.log("train/loss", loss, on_step=False, on_epoch=True, batch_size=len(batch["index"]))
        return loss

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.AdamW(
            (p for p in self.model.parameters() if p.requires_grad),
            lr=self.recipe.learning_rate,
            weight_decay=self.recipe.weight_decay,
            fused=True,
        )
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, self._rate)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }

    def _rate(self, step: int) -> float:
        warm = round(self.recipe.warmup * self.total_steps)
        if step < warm:
            return (step + 1) / (warm + 1)
        done = min(1.0, (step - warm) / max(1, self.total_steps - warm))
        if self.recipe.schedule == "linear":
            return 1.0 - done
        if self.recipe.schedule == "cosine":
            return 0.5 * (1.0 + math.cos(math.pi * done))
        return 1.0


def resolve_model(name: str) -> str:
    """The folder or hub id behind a model name; the built-in base has a name of its own."""
    if name == BUILT_IN_MODEL:
        from activeselect.data.skills import base_path

        return str(base_path())
    return name


@contextmanager
def without_progress_bars() -> Iterator[None]:
    """Mute transformers' bars for reading and writing weights; restore them after."""
    if not logging.is_progress_bar_enabled():
        yield
        return
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        logging.enable_progress_bar()  # type: ignore[no-untyped-call]


def save_model(model: Any, tokenizer: Any, where: Path) -> None:
    """Write model and tokenizer as ``save_pretrained`` does, without a progress bar."""
    with without_progress_bars():
        model.save_pretrained(where)
        tokenizer.save_pretrained(where)


def load_model(name: str) -> tuple[Any, Any]:
    """Load a causal LM and its tokenizer; safetensors only, no remote code.

    Returns:
        model and tokenizer.

    Raises:
        ModelError: if the folder or hub id is absent, incomplete, or no causal LM.
    """
    where = resolve_model(name)
    folder = Path(where)
    looks_local = folder.is_absolute() or where.startswith((".", "~")) or where.count("/") != 1
    if looks_local and not folder.is_dir():
        raise ModelError(
            f"There is no model folder '{name}'. Expected a folder as save_pretrained writes it, a "
            f"hub id like 'Qwen/Qwen2.5-0.5B', or '{BUILT_IN_MODEL}'."
        )
    if folder.is_dir() and not (folder / "config.json").is_file():
        raise ModelError(
            f"The model folder '{name}' has no config.json; expected config, tokenizer and "
            "safetensors weights as save_pretrained writes them."
        )
    try:
        with without_progress_bars():
            model = AutoModelForCausalLM.from_pretrained(where, use_safetensors=True)
            tokenizer = AutoTokenizer.from_pretrained(where)
    except Exception as error:  # transformers raises a dozen types for a broken folder
        reason = " ".join(str(error).split())[:300]
        raise ModelError(f"Cannot load the model '{name}': {reason}") from error
    _check_tokens(name, model, tokenizer)
    return model, tokenizer


def _check_tokens(name: str, model: Any, tokenizer: Any) -> None:
    embedded = model.get_input_embeddings().num_embeddings
    end, pad = tokenizer.eos_token_id, tokenizer.pad_token_id
    if end is not None and end >= embedded:
        raise ModelError(
            f"The model '{name}' embeds {embedded} tokens, but its tokenizer ends texts with token "
            f"{end}; load both from one checkpoint, or resize the embeddings and save both."
        )
    if pad is not None and pad >= embedded:  # some tokenizer classes add one of their own
        tokenizer.pad_token = None  # padding is masked, so the end token serves
