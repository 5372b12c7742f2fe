"""Forward passes over reference traces: everything that one pass tells about an example."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from activeselect.arrays import FloatArray, IntArray
from activeselect.data.prompts import IGNORED, Encoded, batches_by_tokens, collate, parts_by_length
from activeselect.errors import ModelError
from activeselect.scoring.families import TargetLogits, length_kinds
from activeselect.scoring.memory import run_batches


@torch.inference_mode()
def target_statistics(
    model: Any,
    items: Sequence[Encoded],
    want: frozenset[str],
    *,
    batch_tokens: int,
    pad_token: int,
    entropy_share: float = 0.005,
) -> dict[str, FloatArray]:
    """Statistics of each example's target tokens under the model, in one pass.

    Over the T target tokens with probabilities ``p[t]`` (over V tokens), one-hot targets
    ``y[t]`` and inputs ``h[t]`` of the output layer:

    - ``nll``: sum of ``-log p[t, target]``, nats;
    - ``el2n``: mean of ``|p[t] - y[t]|`` (Paul et al., arXiv 2107.07075, per token);
    - ``grand``: ``|1/T sum_t (p[t] - y[t]) h[t]^T|``, the exact norm of the gradient of the mean
      loss with respect to the output layer's weights (the last layer's part of GraNd, same paper);
    - ``entropy``: mean entropy of ``p[t]``, nats;
    - ``hes``: sum of the entropies of the ``entropy_share`` of tokens (at least one) where it is
      highest (arXiv 2605.22389).

    Args:
        model: a transformers causal LM in eval mode.
        items: encoded problems, B of them.
        want: names of the above.
        batch_tokens: padded tokens per batch, at most; a 64th of them may be padding.

    Returns:
        name -> float64 ``[B]``.
    """
    found = {name: np.zeros(len(items)) for name in want}
    compute = {name: _STATISTICS[name] for name in want - {"hes"}}
    logits_of = TargetLogits(model)

    def measure(rows: IntArray) -> None:
        batch = collate([items[i] for i in rows], pad_token)
        ids, labels = (batch[name].to(model.device) for name in ("input_ids", "labels"))
        # the label of a position is the token after it
        labels = torch.cat([labels[:, 1:], labels.new_full((len(rows), 1), IGNORED)], dim=1)
        keep = (labels != IGNORED).flatten().nonzero().squeeze(1)
        counts = (labels != IGNORED).sum(dim=1).tolist()
        with _output_layer_input(model, "grand" in want) as caught:
            logits = logits_of(ids, keep, counts)
        targets = torch.split(labels.flatten()[keep], counts)
        hidden: Sequence[Any] = [None] * len(rows)
        if caught:
            hidden = torch.split(caught[0].flatten(0, 1)[keep], counts)
        # row by row: the logits of a whole batch would be the largest tensor of the run
        for row, *tokens in zip(rows, logits, targets, hidden, strict=True):
            token = _Tokens(*tokens)
            for name, statistic in compute.items():
                found[name][row] = float(statistic(token))
            if "hes" in want:
                count = max(1, math.ceil(entropy_share * len(token.labels)))
                found["hes"][row] = float(token.entropy.topk(count).values.sum())

    lengths = [len(item.ids) for item in items]
    kinds = length_kinds(model.config, lengths)
    run_batches(_parts(lengths, kinds, batch_tokens), lengths, measure)
    return found


def _parts(lengths: Sequence[int], kinds: IntArray, batch_tokens: int) -> list[IntArray]:
    """Batches of ``batch_tokens`` at most, and of them at most a 64th is padding."""
    return [
        batch[part]
        for batch in batches_by_tokens(lengths, batch_tokens, kinds)
        for part in parts_by_length([lengths[i] for i in batch], kinds[batch], batch_tokens // 64)
    ]


class _Tokens:
    """Target tokens of one example; what several statistics share is computed once."""

    def __init__(self, logits: Tensor, labels: Tensor, hidden: Tensor | None) -> None:
        self.logits, self.labels = logits.float(), labels
        self.hidden = None if hidden is None else hidden.float()
        self._log_p: Tensor | None = None

    @property
    def log_p(self) -> Tensor:
        if self._log_p is None:
            self._log_p = torch.log_softmax(self.logits, dim=-1)
        return self._log_p

    @property
    def entropy(self) -> Tensor:
        """float ``[T]``, nats."""
        return -(self.log_p.exp() * self.log_p).nan_to_num().sum(dim=-1)

    @property
    def error(self) -> Tensor:
        """Probabilities minus one-hot targets, float ``[T, V]``."""
        error = self.log_p.exp()
        error[torch.arange(len(self.labels)), self.labels] -= 1
        return error


def _nll(tokens: _Tokens) -> Tensor:
    return torch.nn.functional.cross_entropy(tokens.logits, tokens.labels, reduction="none").sum(
        dtype=torch.float64
    )


def _grand(tokens: _Tokens) -> Tensor:
    # |E^T H|^2 = sum of (E E^T) * (H H^T): T x T instead of V x D numbers
    error, hidden = tokens.error, tokens.hidden
    assert hidden is not None
    squared = ((error @ error.T) * (hidden @ hidden.T)).sum(dtype=torch.float64)
    return squared.clamp(min=0).sqrt() / len(tokens.labels)


_STATISTICS: dict[str, Callable[[_Tokens], Tensor]] = {
    "nll": _nll,
    "el2n": lambda tokens: tokens.error.norm(dim=-1).mean(dtype=torch.float64),
    "grand": _grand,
    "entropy": lambda tokens: tokens.entropy.mean(dtype=torch.float64),
}


@contextmanager
def _output_layer_input(model: Any, wanted: bool) -> Iterator[list[Tensor]]:
    """Catches what the output layer is given, float ``[B, L, D]``; nothing unless wanted."""
    caught: list[Tensor] = []
    if not wanted:
        yield caught
        return
    layer = model.get_output_embeddings()
    hook = layer.register_forward_pre_hook(lambda _, inputs: caught.append(inputs[0]))
    try:
        yield caught
    finally:
        hook.remove()


@torch.inference_mode()
def token_log_probs(model: Any, prompt: NDArray[np.int32], tokens: Sequence[int]) -> list[float]:
    """Log-probability of each token after the prompt and those before it, nats; nothing cached."""
    if not tokens:
        return []
    ids = torch.tensor([[*prompt.tolist(), *tokens]], device=model.device)
    logits = model(input_ids=ids, use_cache=False).logits[0, len(prompt) - 1 : -1]
    chosen = torch.log_softmax(logits.float(), dim=-1).gather(1, ids[0, len(prompt) :, None])
    found: list[float] = chosen.squeeze(1).tolist()
    return found


def without_question(items: Sequence[Encoded], start_token: int) -> list[Encoded]:
    """The traces alone, after a start token: for likelihoods not given the question."""
    return [
        Encoded(item.index, np.concatenate([[start_token], item.ids[item.start :]]), 1)
        for item in items
    ]


@torch.inference_mode()
def embed_questions(
    model: Any, items: Sequence[Encoded], *, batch_tokens: int, pad_token: int
) -> NDArray[np.float32]:
    """Mean over the prompt's tokens of the last hidden state, float32 ``[B, D]``."""
    rows_of = [Encoded(item.index, item.prompt, item.start) for item in items]
    found: dict[int, NDArray[np.float32]] = {}

    def measure(rows: IntArray) -> None:
        batch = collate([rows_of[i] for i in rows], pad_token)
        mask = batch["attention_mask"].to(model.device)
        hidden = model.get_decoder()(
            input_ids=batch["input_ids"].to(model.device), attention_mask=mask
        ).last_hidden_state.float()
        mean = (hidden * mask[..., None]).sum(dim=1) / mask.sum(dim=1, keepdim=True)
        found.update(zip(rows.tolist(), mean.cpu().numpy(), strict=True))

    lengths = [item.start for item in items]
    run_batches(batches_by_tokens(lengths, batch_tokens), lengths, measure)
    vectors = [found[i] for i in range(len(items))]
    return np.stack(vectors) if vectors else np.zeros((0, 0), np.float32)


# --- Per-example gradients


#: Parameters beyond which a gradient per example is not a sensible thing to hold in memory.
MOST = 200_000_000
#: Gradients that are projected at once.
_ROWS = 16


def project_gradients(
    model: Any,
    items: Sequence[Encoded],
    *,
    dim: int,
    seed: int,
    modules: Sequence[str] = (),
    most: int = MOST,
) -> NDArray[np.float32]:
    """Gradient of each example's mean loss per target token, randomly projected.

    The projection is a count sketch (Charikar, Chen and Farach-Colton, 2002; scipy's
    ``clarkson_woodruff_transform``): every parameter is added, with a random sign, to one of P
    sums. It keeps inner products in expectation, with no more variance than a dense random
    matrix, for the memory of one number per parameter; it is a pure function of the number of
    parameters, ``dim`` and ``seed``. The model's ``.grad`` fields and mode stay as they are.

    Args:
        model: a transformers causal LM in eval mode.
        items: encoded problems, B of them.
        dim: numbers per example, P; as many as there are parameters if those are fewer.
        seed: of the projection.
        modules: parameters whose name contains one of these; default: the adapter's (LoRA) where
            there is one, else all that are trained.

    Returns:
        float32 ``[B, P]``.

    Raises:
        ModelError: if no parameter is meant, too many are, or a gradient is not finite.
    """
    parameters = _parameters(model, modules, most)
    size = sum(parameter.numel() for parameter in parameters)
    found = np.zeros((len(items), min(dim, size)), dtype=np.float32)
    for start in range(0, len(items), _ROWS):
        some = items[start : start + _ROWS]
        block = np.stack([_gradient(model, item, parameters) for item in some])
        if not np.isfinite(block).all():
            raise ModelError(
                "A loss gradient is not finite: the training diverged. Lower "
                "recipe.learning_rate, or set recipe.clip or recipe.precision."
            )
        found[start : start + _ROWS] = (
            block if size <= dim else (_projection(size, dim, seed) @ block.T).T
        )
    return found


def _parameters(model: Any, modules: Sequence[str], most: int) -> list[Tensor]:
    """What the gradient is taken of, in the model's order."""
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    named = {name: p for name, p in trained.items() if any(part in name for part in modules)}
    adapter = {name: p for name, p in trained.items() if "lora_" in name}
    meant = named if modules else adapter or trained
    if not meant:
        wanted = f" whose name contains {' or '.join(modules)}" if modules else ""
        raise ModelError(
            f"The signal 'gradient' needs trained parameters{wanted}; the model has none. "
            f"Set scoring.gradient_modules to parts of their names, such as "
            f"{', '.join(list(trained)[-2:]) or 'q_proj'}."
        )
    size = sum(p.numel() for p in meant.values())
    if size > most:
        raise ModelError(
            f"The signal 'gradient' would take {size:,} numbers per example; expected at most "
            f"{most:,}. Train an adapter (LoRA), or name some layers in scoring.gradient_modules."
        )
    return list(meant.values())


def _gradient(model: Any, item: Encoded, parameters: list[Tensor]) -> NDArray[np.float32]:
    """One example's gradient, flattened, float32 ``[D]``."""
    batch = {name: value.to(model.device) for name, value in collate([item], 0).items()}
    with torch.enable_grad():
        loss = model(
            input_ids=batch["input_ids"],
            attention_mask=batch["attention_mask"],
            labels=batch["labels"],
        ).loss
        parts = torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True)
    flat: NDArray[np.float32] = torch.cat([part.flatten().float() for part in parts]).cpu().numpy()
    return flat


@lru_cache(maxsize=1)
def _projection(size: int, dim: int, seed: int) -> Any:
    """A sparse matrix ``[dim, size]`` with one entry per column, 1 or -1."""
    from scipy.linalg import clarkson_woodruff_transform
    from scipy.sparse import eye_array

    one_each = eye_array(size, dtype=np.float32, format="csc")
    sketch = clarkson_woodruff_transform(one_each, dim, np.random.default_rng(seed))
    return sketch.astype(np.float32).tocsr()
