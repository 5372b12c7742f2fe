"""Adaptation of a model before training: frozen weights, adapters, and the weights' type."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import torch
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.fsdp import FSDPModule, fully_shard

from activeselect.config import LoraConfig, RecipeConfig
from activeselect.errors import ActiveSelectError, ConfigError, ModelError, did_you_mean

_TYPES = {"32": torch.float32, "64": torch.float64, "bf16": torch.bfloat16, "16": torch.float16}


def weight_type(recipe: RecipeConfig) -> torch.dtype:
    """Type of the weights under ``recipe.precision``.

    Mixed precision computes in 16 bits but keeps weights that are trained in 32, or small updates
    would be rounded away; the frozen weights below adapters are read only and need no more than 16.
    """
    bits, _, kind = recipe.precision.partition("-")
    if kind == "mixed" and recipe.lora is None:
        return torch.float32
    return _TYPES[bits]


def check(model: Any, recipe: RecipeConfig) -> None:
    """Whether the recipe fits the model, before anything is begun.

    Raises:
        ConfigError: if a name matches no parameter or module, or nothing is left to train.
        ModelError: if the model cannot recompute activations.
        ActiveSelectError: if peft is needed and not installed.
    """
    frozen_names(model, recipe.freeze)
    if recipe.gradient_checkpointing and not model.supports_gradient_checkpointing:
        raise ModelError(
            f"{type(model).__name__} cannot compute its activations again; set "
            "recipe.gradient_checkpointing=false."
        )
    if recipe.lora is not None:
        _peft()
        _targets(model, recipe.lora)


def adapt(model: Any, recipe: RecipeConfig, *, seed: int = 0) -> Any:
    """Make a loaded model what the recipe trains: frozen layers, adapters, checkpointing.

    Args:
        model: a transformers causal LM, or a peft model whose adapters are trained on.
        seed: of the adapters' first values.

    Raises:
        ActiveSelectError: as :func:`check`.
    """
    check(model, recipe)
    frozen = frozen_names(model, recipe.freeze)
    for name, weight in model.named_parameters():
        if name in frozen:
            weight.requires_grad_(False)
    if recipe.gradient_checkpointing:
        # the second is what earlier releases of transformers 5 call it
        names = ("activation_checkpointing_enable", "gradient_checkpointing_enable")
        enable = next(getattr(model, name) for name in names if hasattr(model, name))
        enable({"use_reentrant": False})
    if recipe.lora is not None and not hasattr(model, "peft_config"):
        model = _with_adapters(model, recipe.lora, seed)
    return model


def trainable(model: Any) -> set[str]:
    """Names of the parameters that are trained."""
    return {name for name, weight in model.named_parameters() if weight.requires_grad}


def merged(model: Any) -> Any:
    """The model with its adapters added to its weights; a model without any as it is."""
    return model.merge_and_unload() if hasattr(model, "peft_config") else model


def with_saved_adapters(model: Any, folder: Path) -> Any:
    """Put the adapters of a folder on their base model; they can be trained on."""
    peft = _peft()
    with _muted():
        return peft.PeftModel.from_pretrained(model, folder, is_trainable=True)


# --- freezing ----------------------------------------------------------------------------------


def frozen_names(model: Any, freeze: int | str | tuple[str, ...]) -> set[str]:
    """Names of the parameters that ``recipe.freeze`` keeps as they are."""
    names = [name for name, weight in model.named_parameters() if weight.requires_grad]
    if isinstance(freeze, int):
        freeze = _first_layers(model, freeze)
    patterns = (freeze,) if isinstance(freeze, str) else freeze
    frozen: set[str] = set()
    for pattern in patterns:
        found = {name for name in names if _matches(name, pattern)}
        if not found:
            raise ConfigError(
                f"recipe.freeze: no parameter is called '{pattern}'. "
                f"{did_you_mean(pattern, _parts(names))}"
            )
        frozen |= found
    if len(frozen) == len(names):
        raise ConfigError(f"recipe.freeze: {freeze!r} leaves nothing to train; freeze less.")
    return frozen


def _first_layers(model: Any, number: int) -> tuple[str, ...]:
    if number == 0:
        return ()
    total = model.config.get_text_config(decoder=True).num_hidden_layers
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.ModuleList) and len(module) == total:
            if number > total:
                raise ConfigError(
                    f"recipe.freeze: the model has {total} layers; received {number}."
                )
            return tuple(f"{name}.{layer}" for layer in range(number))
    raise ModelError(
        f"The layers of {type(model).__name__} are not a list; freeze them by name (recipe.freeze)."
    )


def _matches(name: str, pattern: str) -> bool:
    """Whether a pattern is the whole name or a leading part of it, ended by a dot."""
    return fnmatchcase(name, pattern) or fnmatchcase(name, f"{pattern}.*")


def _parts(names: Iterable[str]) -> list[str]:
    """What one can freeze at once: the leading parts of the names, without layers' numbers."""
    found: set[str] = set()
    for name in names:
        words = ["*" if word.isdigit() else word for word in name.split(".")]
        found |= {".".join(words[:i]) for i in range(1, len(words))}
    return sorted(found)


# --- adapters ----------------------------------------------------------------------------------


def _peft() -> Any:
    try:
        import peft
    except ImportError as error:
        raise ActiveSelectError(
            'recipe.lora needs the package peft: pip install "activeselect[peft]".'
        ) from error
    return peft


@contextmanager
def _muted() -> Iterator[None]:
    """peft 0.21 uses a name that transformers 5.23 deprecates."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".is_gradient_checkpointing. is deprecated")
        yield


def _with_adapters(model: Any, lora: LoraConfig, seed: int) -> Any:
    peft = _peft()
    config = peft.LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=_targets(model, lora),
        use_dora=lora.dora,
        task_type="CAUSAL_LM",
    )
    with torch.random.fork_rng(), _muted():
        torch.manual_seed(seed)
        wrapped = peft.get_peft_model(model, config)
    base = Path(model.name_or_path)
    if base.is_dir():  # so that the adapters are found from any working directory
        wrapped.peft_config["default"].base_model_name_or_path = str(base.resolve())
    return wrapped


def _targets(model: Any, lora: LoraConfig) -> str | list[str]:
    """The modules to adapt as peft takes them, each looked up first."""
    if lora.targets in ("all-linear", ("all-linear",)):
        return "all-linear"
    targets = [lora.targets] if isinstance(lora.targets, str) else list(lora.targets)
    modules = dict(model.named_modules())
    names = [name for name in modules if getattr(modules[name], "weight", None) is not None]
    names = [name for name in names if modules[name].weight.ndim == 2]
    for target in targets:
        if not any(name == target or name.endswith(f".{target}") for name in names):
            known = {name.rpartition(".")[2] for name in names}
            raise ConfigError(
                f"recipe.lora.targets: no module is called '{target}'. "
                f"{did_you_mean(target, known)}"
            )
    return targets


# --- Sharded models (FSDP2)


def shard(model: Any, mesh: Any) -> None:
    """Spread a transformers model over the ranks of ``mesh``, layer by layer.

    Args:
        model: with all its weights on this rank.
        mesh: the ranks, one-dimensional.

    Raises:
        ModelError: if the model's layers cannot be found.
    """
    for layer in _layers(model):
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)


def is_sharded(model: Any) -> bool:
    """Whether FSDP2 has spread the model's weights over the ranks."""
    return isinstance(model, FSDPModule)


@contextmanager
def whole(model: Any) -> Iterator[None]:
    """All weights on every rank inside the block, so that ranks can compute without each other.

    Ranks generate and score different examples, in different numbers of steps; with sharded
    weights each step would need all ranks. Every rank has to enter and to leave. A model that is
    not sharded is left alone.
    """
    units = [part for part in model.modules() if isinstance(part, FSDPModule)]
    for unit in units:
        unit.set_reshard_after_forward(False, recurse=False)
        unit.unshard()
    try:
        yield
    finally:
        for unit in units:
            # as fully_shard's default: the root keeps its own weights until the backward pass
            unit.set_reshard_after_forward(unit is not model, recurse=False)
            unit.reshard()


def whole_state(model: Any) -> dict[str, Any] | None:
    """All weights of a sharded model, on rank 0's CPU (empty elsewhere); None: it is not sharded.

    Every rank has to call it.
    """
    if not is_sharded(model):
        return None
    options = StateDictOptions(full_state_dict=True, cpu_offload=True)
    state: dict[str, Any] = get_model_state_dict(model, options=options)
    return state


def _layers(model: Any) -> list[Any]:
    count = model.config.get_text_config(decoder=True).num_hidden_layers
    for part in model.modules():
        if isinstance(part, torch.nn.ModuleList) and len(part) == count:
            return list(part)
    raise ModelError(
        f"The layers of {type(model).__name__} are not a list, so they cannot be spread over "
        "devices; use parallel=ddp."
    )
