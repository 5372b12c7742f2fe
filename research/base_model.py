"""Base models of the built-in benchmark, trained from nothing: ``python -m research.base_model``.

The texts that a base model reads are made in ``base_texts.py``.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from activeselect.data.skills.stories import EOS, PAD, UNK, vocabulary
from activeselect.errors import ModelError, did_you_mean
from activeselect.files import explained, make_folder
from activeselect.training.module import save_model
from research.base_texts import EOS_ID, PAD_ID, texts
from research.script import run_script

CONTEXT = 128  # tokens; the longest question with its trace has about 60
_WARMUP = 0.03
_SHOW_EVERY = 20  # steps; reading the loss makes a GPU wait


@dataclass(frozen=True)
class BaseSize:
    """The shape of a base model, and how it is trained.

    Args:
        hidden: width; the feed-forward layers are three times as wide.
        layers: number of blocks.
        heads: attention heads, a divisor of ``hidden``.
        tokens: to train on unless told otherwise, padding not counted.
        batch: texts per step.
        rate: peak learning rate.
        writers: processes that write the texts, so that a GPU need not wait (another number gives
            other texts); 0: none but this one.
    """

    hidden: int
    layers: int
    heads: int
    tokens: int
    batch: int
    rate: float
    writers: int = 0

    @property
    def spread(self) -> float:
        """Standard deviation of the initial weights."""
        return float(0.4 / np.sqrt(self.hidden))


#: The base that comes with the package; rebuilding it gives its bytes.
SHIPPED = "0.2m"
#: By millions of parameters. Only the shipped one was tuned.
SIZES = {
    SHIPPED: BaseSize(64, 3, 4, tokens=9_000_000, batch=64, rate=4e-3),
    "1m": BaseSize(128, 5, 4, tokens=20_000_000, batch=64, rate=3e-3),
    "10m": BaseSize(320, 8, 5, tokens=150_000_000, batch=256, rate=1.5e-3, writers=4),
    "30m": BaseSize(512, 9, 8, tokens=300_000_000, batch=512, rate=1e-3, writers=4),
}


def get_size(name: str) -> BaseSize:
    """The size of this name.

    Raises:
        ModelError: if there is none.

    Example:
        >>> get_size("30m").hidden
        512
    """
    if name not in SIZES:
        raise ModelError(
            f"size: expected the name of a size, received '{name}'. {did_you_mean(name, SIZES)}"
        )
    return SIZES[name]


def build_tokenizer() -> PreTrainedTokenizerFast:
    """One token per word between spaces; no word is added around the text.

    Example:
        >>> tokenizer = build_tokenizer()
        >>> ids = tokenizer("thus answer : 7")["input_ids"]
        >>> len(ids), tokenizer.decode(ids)
        (4, 'thus answer : 7')
    """
    words = {word: i for i, word in enumerate(vocabulary())}
    core = Tokenizer(models.WordLevel(vocab=words, unk_token=UNK))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=core,
        pad_token=PAD,
        eos_token=EOS,
        unk_token=UNK,
        padding_side="left",
        model_max_length=CONTEXT,
        clean_up_tokenization_spaces=False,
    )


def build_model(size: BaseSize, seed: int) -> LlamaForCausalLM:
    """An untrained Llama of this size, in float32."""
    config = LlamaConfig(
        vocab_size=len(vocabulary()),
        hidden_size=size.hidden,
        intermediate_size=3 * size.hidden,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        initializer_range=size.spread,
        pad_token_id=PAD_ID,
        bos_token_id=None,
        eos_token_id=EOS_ID,
        dtype="float32",
    )
    torch.manual_seed(seed)
    return LlamaForCausalLM(config)


def build_base(
    out: Path,
    *,
    seed: int = 0,
    tokens: int | None = None,
    size: BaseSize = SIZES[SHIPPED],
    device: str = "auto",
    progress: bool = True,
) -> None:
    """Train a base model from nothing and save it as a transformers folder.

    On a CPU the same arguments and torch build give the same weights; the shipped one takes about
    6 minutes on one core. A GPU computes in bfloat16 where that is safe.

    Args:
        out: folder to write; it appears only when training is done. A model already there is
            replaced, anything else is left alone.
        seed: of the weights and of the texts.
        tokens: to train on, padding not counted; default: what the size says.
        size: of the model.
        device: a torch device, or ``auto``: a GPU where there is one, but always the CPU for the
            shipped size, whose bytes are to be the same again.
        progress: show a progress bar.

    Raises:
        ModelError: ``tokens`` is not positive, there is no such device, or ``out`` holds something
            that is no model.
        StoreError: the folder cannot be written.
    """
    tokens = size.tokens if tokens is None else tokens
    if tokens < 1:
        raise ModelError(f"tokens must be at least 1, got {tokens}.")
    out = Path(out)
    if out.exists() and not (out / "config.json").is_file():
        raise ModelError(f"{out} exists and holds no model; name a new folder or remove it.")
    with explained(out):  # before minutes of work, not after
        make_folder(out.parent)
    model = build_model(size, seed)
    torch.nn.Module.to(model, _device(device, size))  # its own `to` has lost its types
    threads = torch.get_num_threads()
    if size.hidden < 128:
        torch.set_num_threads(1)  # more threads only wait for each other at this size
    try:
        batches = texts(seed, size.batch, size.writers)
        _train(model, size, batches, tokens=tokens, progress=progress)
    finally:
        torch.set_num_threads(threads)
    with explained(out):
        _save(model, build_tokenizer(), out)


def _device(name: str, size: BaseSize) -> str:
    if name == "auto":
        return "cuda" if torch.cuda.is_available() and size != SIZES[SHIPPED] else "cpu"
    try:
        return str(torch.empty(0, device=name).device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ModelError(
            f"device: expected auto, cpu or a GPU that torch finds here (cuda); received '{name}'."
        ) from error


def _train(
    model: LlamaForCausalLM,
    size: BaseSize,
    batches: Iterator[Tensor],
    *,
    tokens: int,
    progress: bool,
) -> None:
    on_gpu = model.device.type == "cuda"
    optimizer = torch.optim.AdamW(
        model.parameters(),
        lr=size.rate,
        betas=(0.9, 0.98),
        weight_decay=0.01,
        fused=True if on_gpu else None,
    )
    columns = (TextColumn("{task.description}"), MofNCompleteColumn(), TimeRemainingColumn())
    model.train()
    seen = 0
    with Progress(*columns, disable=not progress) as bar:
        task = bar.add_task("tokens", total=tokens)
        for step, ids in enumerate(batches):
            for group in optimizer.param_groups:
                group["lr"] = size.rate * _schedule(seen / tokens)
            with torch.autocast(model.device.type, dtype=torch.bfloat16, enabled=on_gpu):
                loss = _loss(model, ids.to(model.device))
            torch.autograd.backward(loss)
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            seen += int((ids != PAD_ID).sum())
            bar.update(task, completed=min(seen, tokens))
            if step % _SHOW_EVERY == 0:
                bar.update(task, description=f"loss {loss.item():.3f}")
            if seen >= tokens:
                return


def _schedule(done: float) -> float:
    """Share of the peak rate after this share of the training: warm up, then down to zero."""
    return min(done / _WARMUP + 0.01, 1.0, (1.0 - done) / (1.0 - _WARMUP) + 1e-3)


def _loss(model: LlamaForCausalLM, ids: Tensor) -> Tensor:
    """Mean loss in nats over all next tokens of a batch, questions included."""
    labels = ids.masked_fill(ids == PAD_ID, -100)
    # Padding is on the right, where causal attention never looks back from a real token.
    loss: Tensor = model(input_ids=ids, labels=labels).loss
    return loss


def _save(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, out: Path) -> None:
    """Write beside ``out`` and rename, so that a folder of this name is always whole."""
    partial = out.with_name(out.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    model.train(False)
    save_model(model, tokenizer, partial)
    if out.exists():
        shutil.rmtree(out)
    partial.rename(out)


def main(
    out: Path, size: str = "0.2m", tokens: int | None = None, device: str = "auto", seed: int = 0
) -> None:
    """Pretrain a base model for the built-in benchmark from nothing.

    Args:
        out: folder of the model; it appears when the model is done.
        size: 0.2m (the shipped one, minutes on a core), 1m, 10m or 30m parameters (minutes on a
            GPU).
        tokens: to train on; default: what the size says.
        device: a torch device, or auto: a GPU where there is one (never for 0.2m).
        seed: of data and weights.
    """
    build_base(out, seed=seed, tokens=tokens, size=get_size(size), device=device)
    print(f"Base model: {out}")


if __name__ == "__main__":
    run_script(main)
