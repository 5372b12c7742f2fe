"""Selection inside transformers' ``Trainer`` and what builds on it (TRL's ``SFTTrainer``).

Three lines join a script that trains already::

    selection = SelectionCallback(pool, tokenizer, strategy="premem")
    trainer = Trainer(model, args, train_dataset=selection.dataset(), callbacks=[selection])
    selection.attach(trainer)
    trainer.train()

The trainer then draws its examples from the selection's sampler; after each epoch the callback
scores, lets the strategy choose, logs through the trainer, and saves what it knows into each
checkpoint. ``trainer.train(resume_from_checkpoint=True)`` goes on with the same examples.

On several processes (``torchrun``, ``accelerate launch``: each holds the whole model) accelerate
deals the batches of one order to them; they score a part each, and all of them choose alike.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
from transformers import TrainerCallback

from activeselect.data.pool import Pool
from activeselect.data.prompts import IGNORED
from activeselect.errors import ConfigError, StoreError
from activeselect.training.callback import ActiveSelection

#: Name of the selection's state within a checkpoint.
STATE = "activeselect.pt"
#: Rows of the train dataset that are compared with the pool.
_COMPARED = 8
#: Ways of accelerate in which each process holds the whole model.
_WHOLE_MODELS = ("NO", "MULTI_CPU", "MULTI_GPU", "MULTI_NPU", "MULTI_XPU", "MULTI_MLU", "MULTI_HPU")


class SelectionCallback(TrainerCallback):
    """Scores the train set after each epoch and lets a strategy weigh what comes next.

    Args:
        pool: the problems; position i is row i of the trainer's train dataset.
        tokenizer: the model's.
        options: as for :class:`activeselect.ActiveSelection` (strategy, scoring, prompt,
            rounds, seed, ...).

    Raises:
        ConfigError: if training begins before :meth:`attach`, or rows do not fit the pool.

    Example::

        selection = SelectionCallback(pool, tokenizer, strategy="premem")
        trainer = Trainer(model, args, train_dataset=selection.dataset(), callbacks=[selection])
        selection.attach(trainer)
        trainer.train()
    """

    def __init__(self, pool: Pool, tokenizer: Any, **options: Any) -> None:
        self.selection = ActiveSelection(pool, tokenizer, **options)
        self._trainer: Any = None
        self._logs: dict[str, float] = {}

    def dataset(self) -> datasets.Dataset:
        """Prompt and trace of every problem as ``input_ids`` and ``labels``, row i = position i.

        Labels are -100 on the prompt, as ``DataCollatorForSeq2Seq`` and TRL expect. A dataset of
        your own works as well, if its rows are the pool's problems in the pool's order.
        """
        items = self.selection.encoded.take(np.arange(len(self.selection.pool)))
        rows = {
            "input_ids": [item.ids.tolist() for item in items],
            "labels": [[IGNORED] * item.start + item.ids[item.start :].tolist() for item in items],
        }
        return datasets.Dataset.from_dict(rows)

    def attach(self, trainer: Any) -> None:
        """Let ``trainer`` draw its examples from this selection.

        Raises:
            ConfigError: if its train dataset has other rows than the pool, in another order or with
                other tokens, or packs several examples into one, or several processes share the
                work in another way than whole models with batches of their own.

        Warns:
            UserWarning: if the trainer was told to group examples by length, which it cannot do.
        """
        self._check_rows(trainer)
        if getattr(trainer.args, "train_sampling_strategy", "") == "group_by_length" or getattr(
            trainer.args, "group_by_length", False
        ):
            warnings.warn(
                "group_by_length has no effect: the selection decides the order of the examples.",
                stacklevel=2,
            )
        _check_processes(trainer)
        if self not in trainer.callback_handler.callbacks:
            trainer.add_callback(self)
        self._trainer = trainer
        # the hook by which Trainer asks for its sampler; a subclass could override it as well
        trainer._get_train_sampler = lambda *_, **__: self.selection.sampler

    def _check_rows(self, trainer: Any) -> None:
        """Refuse rows that are not the pool's, told by the token ids of a few of them."""
        rows, size = trainer.train_dataset, len(self.selection.pool)
        if not hasattr(rows, "__len__"):
            raise ConfigError(
                "train_dataset: expected a dataset with rows that can be asked for by number; "
                f"received {type(rows).__name__}. Use selection.dataset(); a stream has no order."
            )
        if len(rows) != size or getattr(trainer.args, "packing", False):
            raise ConfigError(
                f"train_dataset: expected the pool's {size} problems, one per row in the pool's "
                f"order; received {len(rows)} rows. Use selection.dataset(), without packing or "
                "filters."
            )
        places = np.unique(np.linspace(0, size - 1, min(size, _COMPARED)).astype(np.int64))
        for place, ours in zip(places, self.selection.measurer.encode(places), strict=True):
            theirs = rows[int(place)].get("input_ids")
            if theirs is None:
                raise ConfigError(
                    "train_dataset: expected rows with input_ids; received the columns "
                    f"{', '.join(rows[int(place)])}. Use selection.dataset()."
                )
            if list(theirs) != ours.ids.tolist():
                raise ConfigError(
                    f"train_dataset: row {place} has other tokens than problem {place} of the pool "
                    f"({len(theirs)} and {len(ours.ids)} of them). The rows are in another order, "
                    "or the trainer formats its text in another way than the selection's prompt. "
                    "Use selection.dataset(), or give the selection the trainer's prompt."
                )

    # --- hooks of transformers' Trainer ----------------------------------------------------------

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Begin, or continue from the checkpoint that the trainer resumes from."""
        if self._trainer is None:
            raise ConfigError("Call selection.attach(trainer) before trainer.train().")
        if state.global_step:
            self._load(_checkpoint(args, state))
            if round(state.epoch, 6) >= self.selection.epoch + 1:
                # saved by its step count after an epoch's last step, before the epoch's end
                self.on_epoch_end(args, state, control)
        if self.selection.measurer.precision is None:
            self.selection.measurer.precision = _precision(args)
        self.selection.begin(self._trainer.model)

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Score and select after the epoch."""
        self._count(args, state)
        epoch = self.selection.epoch + 1
        self.selection.end_epoch(self._trainer.model, epoch, self._note)
        if self._logs:
            self._trainer.log(self._logs)
            self._logs = {}

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Write the selection's state, which all processes share, into the trainer's checkpoint."""
        if not args.should_save:
            return
        target = _checkpoint(args, state) / STATE
        temporary = target.with_suffix(".tmp")
        torch.save(self.selection.state_dict(), temporary)
        temporary.replace(target)

    def _count(self, args: Any, state: Any) -> None:
        """Count the examples that the epoch trained on, which ``max_steps`` may have cut short.

        Their order is a function of the selection; how many of them were read follows from the
        steps that were taken. Several processes read a batch each at a time; accelerate fills the
        last of them up with the epoch's first examples.
        """
        sampler, epoch = self.selection.sampler, self.selection.epoch
        sampler.set_epoch(epoch)
        drawn = np.fromiter(sampler, dtype=np.int64)
        per_batch = args.train_batch_size * args.world_size
        batches = (
            len(drawn) // per_batch if args.dataloader_drop_last else -(-len(drawn) // per_batch)
        )
        if args.world_size > 1:
            drawn = np.concatenate([drawn, np.resize(drawn[:per_batch], per_batch)])
        steps = -(-batches // args.gradient_accumulation_steps)
        taken = min(state.global_step - epoch * steps, steps)
        read = min(taken * args.gradient_accumulation_steps, batches) * per_batch
        drawn = drawn[:read]
        tokens = sum(len(item.ids) for item in self.selection.encoded.take(drawn))
        self.selection.trained(drawn, tokens)

    def _note(self, name: str, value: float, **_: Any) -> None:
        self._logs[name] = float(value)

    def _load(self, checkpoint: Path) -> None:
        file = checkpoint / STATE
        if not file.is_file():
            raise StoreError(
                f"{checkpoint} holds no state of the selection ({STATE}); resume from a "
                "checkpoint that was saved with the same callback."
            )
        self.selection.load_state_dict(torch.load(file, weights_only=True))


def _check_processes(trainer: Any) -> None:
    """Refuse ways of sharing the work in which models or batches are not whole.

    Raises:
        ConfigError: which one, and what to use instead.
    """
    accelerator, several = trainer.accelerator, trainer.args.world_size > 1
    kind = accelerator.distributed_type.value
    if kind not in _WHOLE_MODELS:
        raise ConfigError(
            f"SelectionCallback needs the whole model in each process; received {kind}, which "
            "splits it. Train with DDP (no fsdp, no deepspeed), or use `activeselect train` with "
            "parallel=fsdp."
        )
    loading = accelerator.dataloader_config
    if several and (loading.split_batches or loading.dispatch_batches or not loading.even_batches):
        raise ConfigError(
            "accelerator_config: expected split_batches=False, dispatch_batches=None and "
            "even_batches=True on several processes; received "
            f"split_batches={loading.split_batches}, dispatch_batches={loading.dispatch_batches}, "
            f"even_batches={loading.even_batches}. Leave them as they are."
        )


def _precision(args: Any) -> str | None:
    """What the trainer's arguments call mixed precision, by Lightning's names."""
    return "bf16-mixed" if args.bf16 else "16-mixed" if args.fp16 else None


def _checkpoint(args: Any, state: Any) -> Path:
    return Path(args.output_dir) / f"checkpoint-{state.global_step}"
