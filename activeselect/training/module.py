"""A causal language model as a LightningModule: next-token loss on the target trace."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging

from activeselect.config import BUILT_IN_MODEL, RecipeConfig
from activeselect.data.inputs import ADAPTER_FILE, base_of
from activeselect.errors import ActiveSelectError, ModelError, TrainingError
from activeselect.training.adapt import (
    is_sharded,
    shard,
    with_saved_adapters,
)
from activeselect.training.step import BatchLoss

#: Devices with AdamW in one kernel.
_FUSED = ("cpu", "cuda", "xpu", "mps")


class ReasoningModule(lightning.LightningModule):
    """Fine-tunes ``model`` with AdamW; batches come from ``activeselect.data.prompts.collate``.

    A checkpoint holds what is trained; frozen weights come from the model again.

    Args:
        model: a transformers causal LM, as :func:`activeselect.training.adapt.adapt` leaves it.
        recipe: learning rate, schedule, weight decay, parts of a batch, tokens that count.
        total_steps: optimizer steps of the whole fit, for the schedule.

    Raises:
        TrainingError: from :meth:`training_step`, if the loss is not finite.

    Example:
        >>> from activeselect.config import RecipeConfig
        >>> model, tokenizer = load_model("skills-base")
        >>> module = ReasoningModule(model, RecipeConfig(learning_rate=1e-3), total_steps=10)
        >>> module.recipe.learning_rate
        0.001
    """

    strict_loading = False  # frozen weights are not in the checkpoint

    def __init__(self, model: Any, recipe: RecipeConfig, *, total_steps: int) -> None:
        super().__init__()
        self.model = model
        self.recipe = recipe
        self.total_steps = total_steps
        self._target_tokens = 0  # of the parts of a batch read so far
        self._epoch_loss = [0.0, 0.0]  # of the epoch so far: nats, target tokens
        #: nats per token of the first batch, before any step, and of the newest epoch
        self.losses: list[float | None] = [None, None]
        self._seed: int | None = None
        self._batch_loss: BatchLoss

    def configure_model(self) -> None:
        """Spread the weights over the ranks where the strategy is FSDP2."""
        if self.device_mesh is not None and not is_sharded(self.model):
            shard(self.model, self.device_mesh["data_parallel"])

    def on_fit_start(self) -> None:
        """Build the reader that puts examples through the model."""
        share, sharded = self.recipe.tokens.share, is_sharded(self.model)
        self._batch_loss = BatchLoss(self.model, share=share, at_once=sharded)

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Seed dropout for the batch: a resumed run drops the same units."""
        # dropout draws from the global stream: begun anew per batch, it does not depend on a stop
        self._seed = torch.initial_seed() if self._seed is None else self._seed
        key = [self._seed, self.current_epoch, batch_idx, self.global_rank, 7]
        seed = int(np.random.SeedSequence(key).generate_state(1)[0])
        if self.device.type == "cpu":
            torch.default_generator.manual_seed(seed)  # for absent devices torch keeps a stack
        else:
            torch.manual_seed(seed)

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """Loss of the batch: mean negative log-likelihood per target token, in nats."""
        total, tokens = self._batch_loss.loss(batch)
        if self._whole_batches:
            loss = total / max(tokens, 1)
        else:
            self._target_tokens += tokens
            loss = total * self.recipe.accumulate  # Lightning divides by that
        nats = total.item()
        if not math.isfinite(nats):  # before the step, so that no weight takes it over
            raise TrainingError(self._diverged(nats, batch["index"].tolist()))
        self._epoch_loss = [self._epoch_loss[0] + nats, self._epoch_loss[1] + tokens]
        if self.losses[0] is None:
            self.losses[0] = nats / max(tokens, 1)
        return loss

    def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        """Backward pass under the same attention kernel as the forward pass."""
        with self._batch_loss.attention():  # activations may have to be computed again
            super().backward(loss, *args, **kwargs)

    @property
    def _whole_batches(self) -> bool:
        """Whether one rank reads the tokens of a step at once, so that their mean is at hand."""
        return self.recipe.accumulate * self.trainer.world_size == 1

    def on_before_optimizer_step(self, optimizer: Any) -> None:
        """From the gradient of a sum over tokens to that of their mean, however they came."""
        if self._whole_batches:
            return
        # over ranks, gradients are averaged: a mean of sums, to be divided by a mean of counts
        mean = sum(self._over_ranks([self._target_tokens])) / self.trainer.world_size
        for weight in self.model.parameters():
            if weight.grad is not None:
                weight.grad.div_(mean)
        self._target_tokens = 0

    @property
    def epoch_loss(self) -> float:
        """Mean training loss of the epoch so far on this rank, nats per target token."""
        return self._epoch_loss[0] / max(self._epoch_loss[1], 1)

    def on_train_epoch_end(self) -> None:
        """Log the epoch's mean training loss over all ranks, in nats per token."""
        nats, tokens = self._over_ranks(self._epoch_loss)
        self._epoch_loss = [0.0, 0.0]
        loss = nats / max(tokens, 1)
        self.losses[1] = loss
        self.log("train/loss", loss)

    def _over_ranks(self, values: Sequence[float]) -> list[float]:
        """Sums over all ranks; a module without a trainer is alone."""
        if self._trainer is None or self.trainer.world_size == 1:
            return list(values)
        mine = torch.tensor(values, dtype=torch.float64, device=self.device)
        total: list[float] = self.trainer.strategy.reduce(mine, reduce_op="sum").tolist()
        return total

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the epoch's running loss."""
        if self.global_rank == 0:  # the others go on from 0: it is the sum that counts
            self._epoch_loss = checkpoint["epoch_loss"]
        self.losses = checkpoint["losses"]

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep trained weights only, and the epoch's running loss."""
        weights = self.named_parameters(remove_duplicate=False)
        frozen = {name for name, weight in weights if not weight.requires_grad}
        state = checkpoint["state_dict"]
        checkpoint["state_dict"] = {name: state[name] for name in state if name not in frozen}
        checkpoint["epoch_loss"] = self._over_ranks(self._epoch_loss)
        checkpoint["losses"] = self.losses

    def _diverged(self, loss: float, examples: list[int]) -> str:
        step, rate = self.global_step, self.recipe.learning_rate * self._rate(self.global_step)
        remedy = (
            f"Lower recipe.learning_rate ({self.recipe.learning_rate:g}), set recipe.clip, or use "
            "recipe.precision=32-true or bf16-mixed"
            if step
            else "Check the starting model, whose weights may not be finite, and recipe.precision"
        )
        return (
            f"The training loss is {loss} at step {step} of {self.total_steps} (learning rate now "
            f"{rate:g}, examples {', '.join(map(str, examples[:8]))}); expected a finite number. "
            f"{remedy}, and use a new folder; the rounds before are kept in this one."
        )

    def configure_optimizers(self) -> Any:
        """AdamW with weight decay on matrices, and the recipe's learning-rate schedule."""
        weights = [weight for weight in self.model.parameters() if weight.requires_grad]
        groups: list[dict[str, Any]] = [
            {"params": [w for w in weights if w.ndim >= 2]},
            {"params": [w for w in weights if w.ndim < 2], "weight_decay": 0.0},
        ]
        optimizer = torch.optim.AdamW(
            [group for group in groups if group["params"]],
            lr=self.recipe.learning_rate,
            weight_decay=self.recipe.weight_decay,
            fused=self._may_fuse(weights),
        )
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, self._rate)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }

    def _may_fuse(self, weights: list[Tensor]) -> bool:
        # a fused step unscales 16-bit gradients itself, too late for clipping
        scaled = self.recipe.precision == "16-mixed"
        return not scaled and all(weight.device.type in _FUSED for weight in weights)

    def configure_gradient_clipping(
        self,
        optimizer: Any,
        gradient_clip_val: int | float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Scale the gradient down to the norm ``recipe.clip`` where it is longer."""
        if self.recipe.precision == "bf16-mixed" and gradient_clip_val:
            # Lightning refuses before any fused step in mixed precision; here nothing is scaled
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), gradient_clip_val)
        else:
            super().configure_gradient_clipping(
                optimizer, gradient_clip_val, gradient_clip_algorithm
            )

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
    """Write model (or adapters alone) and tokenizer as ``save_pretrained`` does."""
    with without_progress_bars():
        model.save_pretrained(where)
        tokenizer.save_pretrained(where)


def load_model(name: str, dtype: torch.dtype | None = None) -> tuple[Any, Any]:
    """Load a causal LM and its tokenizer; safetensors only, no remote code.

    Args:
        name: a folder (of a model, or of adapters, which name their base model), a hub id, or the
            built-in base.
        dtype: of the weights; default: as they are stored.

    Returns:
        model and tokenizer.

    Raises:
        ModelError: if the folder or hub id is absent, incomplete, or no causal LM.

    Example:
        >>> model, tokenizer = load_model("skills-base")
        >>> model.config.model_type
        'llama'
    """
    where = _found(name)
    base = base_of(Path(where))
    with _named(name, of_adapters=base is not None):
        if base is None:
            _check_size(name, Path(where))
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                where,
                use_safetensors=True,
                trust_remote_code=False,
                dtype=dtype or "auto",
                output_loading_info=True,
            )
            model, found = loaded
            _check_whole(name, model, found)
        else:
            model = with_saved_adapters(load_model(base, dtype)[0], Path(where))
    tokenizer = load_tokenizer(name)
    _check_tokens(name, model, tokenizer)
    return model, tokenizer


def commit_of(model: Any) -> str | None:
    """The commit of the hub that a model was loaded from; None for a folder."""
    found = getattr(model.config, "_commit_hash", None)
    return None if found is None else str(found)


def load_tokenizer(name: str) -> Any:
    """Load the tokenizer of a model alone; arguments and errors as for :func:`load_model`."""
    where = _found(name)
    with _named(name):
        return AutoTokenizer.from_pretrained(where, trust_remote_code=False)


def _found(name: str) -> str:
    """The folder or hub id behind a name, if it can be one."""
    where = resolve_model(name)
    folder = Path(where)
    looks_local = folder.is_absolute() or where.startswith((".", "~")) or where.count("/") != 1
    if looks_local and not folder.is_dir():
        raise ModelError(
            f"There is no model folder '{name}'. Expected a folder as save_pretrained writes it, a "
            f"hub id like 'Qwen/Qwen2.5-0.5B', or '{BUILT_IN_MODEL}'."
        )
    files = ("config.json", ADAPTER_FILE)
    if folder.is_dir() and not any((folder / file).is_file() for file in files):
        raise ModelError(
            f"The model folder '{name}' has no config.json; expected config, tokenizer and "
            "safetensors weights as save_pretrained writes them."
        )
    _check_weights(name, folder)
    return where


@contextmanager
def _named(name: str, *, of_adapters: bool = False) -> Iterator[None]:
    """Load without progress bars; say of which model what transformers complains about."""
    try:
        with without_progress_bars():
            yield
    except ActiveSelectError as error:
        if not of_adapters:
            raise
        raise ModelError(f"The adapters in '{name}' need their base model: {error}") from error
    except Exception as error:  # transformers raises a dozen types for a broken folder
        reason = " ".join(str(error).split())[:300]
        raise ModelError(f"Cannot load the model '{name}': {reason}") from error


def _check_weights(name: str, folder: Path) -> None:
    """Refuse weights that are pickles: reading them could run code."""
    pickled = [
        file.name
        for file in (sorted(folder.iterdir()) if folder.is_dir() else ())
        if file.suffix in (".bin", ".pt", ".pth", ".ckpt") and file.name != "training_args.bin"
    ]
    if pickled and not any(folder.glob("*.safetensors")):
        raise ModelError(
            f"The model folder '{name}' has its weights as a pickle ({pickled[0]}), which could "
            "run code; expected *.safetensors. Where you trust it, load it with transformers and "
            "save it anew with save_pretrained, which writes safetensors."
        )


def _check_whole(name: str, model: Any, found: Any) -> None:
    """Refuse weights with a gap: transformers fills it with random numbers, and says so in a log.

    Raises:
        ModelError: if a tensor of the model is not in the files, or has another shape there.
    """
    missing = sorted(found.get("missing_keys", ()))
    other = sorted(str(entry[0]) for entry in found.get("mismatched_keys", ()))
    if missing or other:
        what = (
            f"lack the tensor '{missing[0]}'" if missing else f"have '{other[0]}' in another shape"
        )
        more = len(missing) + len(other) - 1
        raise ModelError(
            f"The weights of '{name}' {what}{f' and {more} more' if more else ''}; expected all "
            "tensors that its config.json describes. Save the model anew with save_pretrained."
        )


def _check_size(name: str, folder: Path) -> None:
    """Refuse a config.json that describes a far larger model than its files hold, unbuilt.

    Raises:
        ModelError: if it does.
    """
    files = sorted(folder.glob("*.safetensors")) if folder.is_dir() else []
    if not files:
        return
    config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    # the two of them that every architecture has; what they multiply to is the embedding
    wide, words = getattr(config, "hidden_size", None), getattr(config, "vocab_size", None)
    held = sum(file.stat().st_size for file in files)
    if isinstance(wide, int) and isinstance(words, int) and wide * words // 2 > held:
        raise ModelError(
            f"The config.json of '{name}' describes {words:,} words of {wide:,} numbers each, "
            f"which its weights ({held:,} bytes) cannot hold; restore the file of these weights."
        )


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
