"""Train the tiny base model of the built-in benchmark from nothing, and save it.

One real batch row, as words (see ``activeselect/data/skills/mixture.py`` for the mixture)::

    each minute 6 litres flow in . how many litres after 7 minutes ? then 6 x 7 = 42 . so answer
    : 42 <eos> <pad> <pad>
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from activeselect.data.skills.mixture import draw_text
from activeselect.data.skills.vocabulary import EOS, PAD, UNK, vocabulary
from activeselect.errors import ModelError

PAD_ID, EOS_ID = vocabulary().index(PAD), vocabulary().index(EOS)
CONTEXT = 128  # tokens; the longest question with its trace has about 60
BATCH = 64
_BATCHES_SORTED = 32  # texts of similar length share a batch: a third less padding to compute
_PEAK_RATE = 4e-3
_WARMUP = 0.03


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


def build_model(seed: int) -> LlamaForCausalLM:
    """An untrained Llama of 0.18 million parameters (0.7 MB in float32)."""
    config = LlamaConfig(
        vocab_size=len(vocabulary()),
        hidden_size=64,
        intermediate_size=192,
        num_hidden_layers=3,
        num_attention_heads=4,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        initializer_range=0.05,
        pad_token_id=PAD_ID,
        bos_token_id=None,
        eos_token_id=EOS_ID,
        dtype="float32",
    )
    torch.manual_seed(seed)
    return LlamaForCausalLM(config)


def batches(
    tokenizer: PreTrainedTokenizerFast, rng: np.random.Generator, size: int = BATCH
) -> Iterator[Tensor]:
    """Endless batches of token ids, int64 ``[size, length]``, padded on the right."""
    code = tokenizer.get_vocab()
    while True:
        rows = []
        for _ in range(size * _BATCHES_SORTED):
            text, whole = draw_text(rng)
            rows.append([code[word] for word in text.split()] + [EOS_ID] * whole)
        rows.sort(key=len)
        for i in rng.permutation(_BATCHES_SORTED):
            chunk = rows[i * size : (i + 1) * size]
            longest = len(chunk[-1])
            yield torch.tensor([row + [PAD_ID] * (longest - len(row)) for row in chunk])


def build_base(out: Path, *, seed: int = 0, tokens: int = 9_000_000, progress: bool = True) -> None:
    """Train the base model from nothing on one thread and save it as a transformers folder.

    The same seed, token count and torch build give the same weights. About 6 minutes per 9
    million tokens on one core.

    Args:
        out: folder to write; it appears only when training is done. A model already there is
            replaced, anything else is left alone.
        seed: of the weights and of the texts.
        tokens: to train on, padding not counted.
        progress: show a progress bar.

    Raises:
        ModelError: ``tokens`` is not positive, or ``out`` holds something that is no model.
    """
    if tokens < 1:
        raise ModelError(f"tokens must be at least 1, got {tokens}.")
    out = Path(out)
    if out.exists() and not (out / "config.json").is_file():
        raise ModelError(f"{out} exists and holds no model; name a new folder or remove it.")
    tokenizer, model = build_tokenizer(), build_model(seed)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # more threads only wait for each other at this size
    try:
        _train(model, tokenizer, seed=seed, tokens=tokens, progress=progress)
    finally:
        torch.set_num_threads(threads)
    _save(model, tokenizer, out)


def _train(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    *,
    seed: int,
    tokens: int,
    progress: bool,
) -> None:
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=_PEAK_RATE, betas=(0.9, 0.98), weight_decay=0.01
    )
    rng = np.random.Generator(np.random.PCG64([seed, 2]))
    columns = (TextColumn("{task.description}"), MofNCompleteColumn(), TimeRemainingColumn())
    model.train()
    seen = 0
    with Progress(*columns, disable=not progress) as bar:
        task = bar.add_task("tokens", total=tokens)
        for ids in batches(tokenizer, rng):
            for group in optimizer.param_groups:
                group["lr"] = _PEAK_RATE * _schedule(seen / tokens)
            loss = _loss(model, ids)
            torch.autograd.backward(loss)
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            seen += int((ids != PAD_ID).sum())
            bar.update(task, completed=min(seen, tokens), description=f"loss {loss.item():.3f}")
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
    model.save_pretrained(partial)
    tokenizer.save_pretrained(partial)
    if out.exists():
        shutil.rmtree(out)
    partial.rename(out)
