"""Tokens of real data per second in training steps, beside other trainers on the same work.

Every trainer makes one epoch over the same examples from the same weights: the same batches of
examples, AdamW in one kernel, clipping at 1, a linear schedule. They take turns in one process on
one thread; figures are medians over rounds of turns, ratios are taken within a round and are of
processor time (wall time beside them). Real tokens are prompt and target, without padding.

    ours                activeselect's LightningModule under Lightning's Trainer
    Trainer             transformers' Trainer, batches padded by DataCollatorForSeq2Seq
    Trainer, grouped    the same in the order of train_sampling_strategy=group_by_length: other
                        batches, sorted by length within 50 of them as in a large train set (its
                        own default here would sort within a quarter of the few examples)
    Lightning           a LightningModule that returns the model's own loss, the same padding

MFU is the time that the step's matrix products need on this machine (each linear layer at its own
shape, forward and both backward products; the output layer for target tokens alone; attention's
products by their number at the same rate) over the time that the trainer took.

Lengths are those of 256 problems of GSM8K's train set in tokens of a byte-pair encoding with 8,000
words and single digits, learned from it (benchmarks/gsm8k_lengths.csv), tokens are random; or the
texts of the built-in benchmark for the built-in model.
"""

from __future__ import annotations

import argparse
import copy
import logging
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import lightning
import numpy as np
import torch
import transformers
from torch.utils.data import DataLoader
from transformers.trainer_pt_utils import get_length_grouped_indices

from activeselect.config import DataConfig, PromptConfig, RecipeConfig
from activeselect.data.load import load_data
from activeselect.data.prompts import IGNORED, Encoded, collate, encode
from activeselect.training.module import ReasoningModule, load_model

LENGTHS = Path(__file__).with_name("gsm8k_lengths.csv")
RATE = 1e-4


@dataclass(frozen=True)
class Work:
    """A model, what it is trained on, and how."""

    name: str
    model: Any
    tokenizer: Any
    items: list[Encoded]
    batch_size: int
    precision: str

    @property
    def tokens(self) -> int:
        return sum(len(item.ids) for item in self.items)


class Clock:
    """Processor and wall time from the first batch to the end of the epoch."""

    def __init__(self) -> None:
        self._from: tuple[float, float] | None = None
        self.took = (0.0, 0.0)

    def start(self) -> None:
        self._from = self._from or (time.process_time(), time.perf_counter())

    def stop(self) -> None:
        assert self._from is not None
        now = (time.process_time(), time.perf_counter())
        self.took = (now[0] - self._from[0], now[1] - self._from[1])


# --- the trainers --------------------------------------------------------------------------------


def ours(work: Work) -> Clock:
    recipe = RecipeConfig(
        learning_rate=RATE, epochs=1, batch_size=work.batch_size, precision=work.precision
    )
    steps = -(-len(work.items) // work.batch_size)
    return _lightning(work, lambda model: ReasoningModule(model, recipe, total_steps=steps))


def plain_lightning(work: Work) -> Clock:
    return _lightning(work, lambda model: Plain(model, -(-len(work.items) // work.batch_size)))


class Plain(lightning.LightningModule):
    """What a first script does."""

    def __init__(self, model: Any, steps: int) -> None:
        super().__init__()
        self.model, self.steps = model, steps

    def training_step(self, batch: dict[str, torch.Tensor], batch_idx: int) -> torch.Tensor:
        inputs = {name: batch[name] for name in ("input_ids", "attention_mask", "labels")}
        loss: torch.Tensor = self.model(**inputs).loss
        return loss

    def configure_optimizers(self) -> Any:
        mixed = str(self.trainer.precision).endswith("-mixed")  # Lightning cannot clip there
        optimizer = torch.optim.AdamW(self.parameters(), lr=RATE, weight_decay=0.0, fused=not mixed)
        decay = transformers.get_linear_schedule_with_warmup(optimizer, 0, self.steps)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": decay, "interval": "step"},
        }


def _lightning(work: Work, module: Callable[[Any], Any]) -> Clock:
    clock = Clock()

    class Timer(lightning.Callback):
        def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
            clock.start()

        def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
            clock.stop()

    pad = work.tokenizer.pad_token_id
    loader = DataLoader(
        work.items,  # type: ignore[arg-type]
        batch_size=work.batch_size,
        collate_fn=lambda batch: collate(batch, pad),
    )
    trainer = lightning.Trainer(
        accelerator="cpu",
        precision=work.precision,  # type: ignore[arg-type]
        max_epochs=1,
        gradient_clip_val=1.0,
        logger=False,
        callbacks=[Timer()],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module(copy.deepcopy(work.model).train()), loader)
    return clock


def trainer(work: Work, grouped: bool = False) -> Clock:
    clock = Clock()
    items = work.items
    if grouped:
        lengths, generator = [len(item.ids) for item in items], torch.Generator().manual_seed(0)
        order = get_length_grouped_indices(lengths, work.batch_size, 50, generator)
        items = [items[i] for i in order]

    class Timer(transformers.TrainerCallback):
        def on_step_begin(self, *args: Any, **kwargs: Any) -> None:
            clock.start()

        def on_train_end(self, *args: Any, **kwargs: Any) -> None:
            clock.stop()

    rows = {
        "input_ids": [item.ids.tolist() for item in items],
        "labels": [[IGNORED] * item.start + item.ids[item.start :].tolist() for item in items],
    }
    with tempfile.TemporaryDirectory() as folder:
        options = transformers.TrainingArguments(
            folder,
            per_device_train_batch_size=work.batch_size,
            num_train_epochs=1,
            learning_rate=RATE,
            max_grad_norm=1.0,
            optim="adamw_torch_fused",
            train_sampling_strategy="sequential",
            bf16=work.precision == "bf16-mixed",
            use_cpu=True,
            report_to="none",
            logging_strategy="no",
            save_strategy="no",
            disable_tqdm=True,
            dataloader_pin_memory=False,
        )
        made = transformers.Trainer(
            copy.deepcopy(work.model).train(),
            options,
            train_dataset=datasets.Dataset.from_dict(rows),
            data_collator=transformers.DataCollatorForSeq2Seq(work.tokenizer),
            callbacks=[Timer()],
        )
        made.remove_callback(transformers.PrinterCallback)
        made.train()
    return clock


TRAINERS: dict[str, Callable[[Work], Clock]] = {
    "ours": ours,
    "Trainer": trainer,
    "Trainer, grouped": lambda work: trainer(work, grouped=True),
    "Lightning": plain_lightning,
}


# --- the work ------------------------------------------------------------------------------------


def works(names: list[str], examples: int, batch_size: int, precision: str) -> list[Work]:
    found = []
    for name in names:
        model, tokenizer = load_model("skills-base")
        if name == "built-in":
            data = DataConfig("skills:mixed", pool_size=max(100, examples), test_limit=1)
            pool = load_data(data, seed=1000).pool
            items = encode(pool, np.arange(examples), tokenizer, PromptConfig())
        else:
            words, width, layers = SIZES[name]
            torch.manual_seed(0)
            model = transformers.LlamaForCausalLM(
                transformers.LlamaConfig(
                    vocab_size=words,
                    hidden_size=width,
                    intermediate_size=width * 8 // 3 // 16 * 16,
                    num_hidden_layers=layers,
                    num_attention_heads=max(1, width // 64),
                    tie_word_embeddings=True,
                    pad_token_id=0,
                )
            )
            items = gsm8k_like(examples, words)
        found.append(Work(name, model, tokenizer, items, batch_size, precision))
    return found


#: Words, width, layers of the models that read GSM8K's lengths.
SIZES = {"0.8M, 224 words": (224, 128, 4), "5M, 8k words": (8000, 256, 4)}
SIZES["11M, 32k words"] = (32000, 256, 4)


def gsm8k_like(examples: int, words: int) -> list[Encoded]:
    rng = np.random.default_rng(0)
    lengths = np.loadtxt(LENGTHS, delimiter=",", skiprows=1, dtype=np.int64)
    return [
        Encoded(i, rng.integers(2, words, prompt + target).astype(np.int32), int(prompt))
        for i, (prompt, target) in enumerate(lengths[np.arange(examples) % len(lengths)])
    ]


def floor_seconds(work: Work) -> tuple[float, float]:
    """Processor seconds of one epoch's matrix products, and how many operations they are."""
    numbers = torch.bfloat16 if work.precision.startswith("bf16") else torch.float32
    lengths = np.array([len(item.ids) for item in work.items])
    batches = len(work.items) / work.batch_size
    whole = round(lengths.sum() / batches)
    learned = round(sum(len(item.ids) - item.start for item in work.items) / batches)
    layers = [m for m in work.model.modules() if isinstance(m, torch.nn.Linear)]
    head = work.model.get_output_embeddings()
    seconds, operations = 0.0, 0.0
    for layer in layers:
        rows = learned if layer is head else whole
        seconds += _product_seconds(rows, layer.in_features, layer.out_features, numbers)
        operations += 6 * rows * layer.in_features * layer.out_features
    config = work.model.config
    # scores and sums of values of the tokens before, forward and twice that backward
    attention = 6 * config.num_hidden_layers * config.hidden_size * float((lengths**2).sum())
    share = 1 + attention / batches / operations
    return seconds * share * batches, operations * share * batches


def _product_seconds(rows: int, inputs: int, outputs: int, numbers: torch.dtype) -> float:
    x, w = torch.randn(rows, inputs).to(numbers), torch.randn(outputs, inputs).to(numbers)
    y = x @ w.T
    took = []
    for _ in range(3):
        started = time.process_time()
        torch.mm(x, w.T)
        torch.mm(y, w)
        torch.mm(y.T, x)
        took.append(time.process_time() - started)
    return min(took)


# --- the table -----------------------------------------------------------------------------------

ROW = "{:<17} {:<18} {:>9} {:>9} {:>9} {:>20} {:>12} {:>6}"
HEAD = ("model", "trainer", "s", "wall s", "tokens/s", "over ours (range)", "over, wall", "MFU")


def table(work: Work, rounds: int, names: list[str]) -> None:
    warm = Work("", work.model, work.tokenizer, work.items[:2], 2, work.precision)
    took: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    for name in names:
        TRAINERS[name](warm)
    for number in range(rounds):
        for name in names[number % len(names) :] + names[: number % len(names)]:
            took[name].append(TRAINERS[name](work).took)
    floor, operations = floor_seconds(work)
    for name in names:
        own = statistics.median(cpu for cpu, _ in took[name])
        wall = statistics.median(wall for _, wall in took[name])
        ratios, walls = (
            [a[i] / b[i] for a, b in zip(took[name], took["ours"], strict=True)] for i in (0, 1)
        )
        spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})"
        print(
            ROW.format(
                work.name,
                name,
                f"{own:.2f}",
                f"{wall:.2f}",
                f"{work.tokens / own:,.0f}",
                spread,
                f"{statistics.median(walls):.2f}",
                f"{floor / own:.0%}",
            ),
            flush=True,
        )
    padded = sum(
        work.batch_size * max(len(item.ids) for item in work.items[at : at + work.batch_size])
        for at in range(0, len(work.items), work.batch_size)
    )
    print(
        f"    {len(work.items)} examples, {work.tokens:,} real tokens of {padded:,} padded ones; "
        f"{operations / 1e9:,.0f} GFLOP, matrix products of these shapes at "
        f"{operations / floor / 1e9:.0f} GFLOP/s"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="+", default=["built-in", *SIZES])
    parser.add_argument("--trainers", nargs="+", default=list(TRAINERS), choices=TRAINERS)
    parser.add_argument("--examples", type=int, default=64)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--precision", default="32-true", choices=["32-true", "bf16-mixed"])
    args = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    datasets.disable_progress_bars()
    transformers.logging.set_verbosity_error()
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    names = ["ours", *(name for name in args.trainers if name != "ours")]
    print(ROW.format(*HEAD))
    for work in works(args.models, args.examples, args.batch_size, args.precision):
        table(work, args.rounds, names)


if __name__ == "__main__":
    main()
