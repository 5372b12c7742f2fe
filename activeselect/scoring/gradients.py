"""Per-example gradients of the trace's loss, projected to a few hundred numbers."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from activeselect.data.prompts import Encoded, collate
from activeselect.errors import ModelError

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
    parameters = _parameters(model, modules)
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


def _parameters(model: Any, modules: Sequence[str]) -> list[Tensor]:
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
    if size > MOST:
        raise ModelError(
            f"The signal 'gradient' would take {size:,} numbers per example; expected at most "
            f"{MOST:,}. Train an adapter (LoRA), or name some layers in scoring.gradient_modules."
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
