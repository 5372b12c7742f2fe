"""Settings of the training within one stage."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from activeselect.errors import require, require_finite

SCHEDULES = ("linear", "cosine", "constant")
PRECISIONS = ("32-true", "bf16-mixed", "bf16-true", "16-mixed", "16-true", "64-true")


@dataclass(frozen=True)
class LoraConfig:
    """Train low-rank adapters instead of the weights (Hu et al., arXiv 2106.09685), through peft.

    Args:
        rank: of each update.
        alpha: an update is scaled by ``alpha / rank``.
        dropout: of an adapter's input, a share.
        targets: ``all-linear`` (every linear layer but the output), or names of modules.
        dora: learn magnitudes and directions apart (Liu et al., arXiv 2402.09353).
        save: ``adapter`` (small, needs the base model) or ``merged`` (a model like any other).

    Raises:
        ConfigError: if a setting is out of its range.

    Example:
        >>> LoraConfig(rank=8, alpha=16.0).targets
        'all-linear'
    """

    rank: int = 16
    alpha: float = 32.0
    dropout: float = 0.0
    targets: str | tuple[str, ...] = "all-linear"
    dora: bool = False
    save: Literal["adapter", "merged"] = "adapter"

    def __post_init__(self) -> None:
        require_finite("recipe.lora.", self)
        if not isinstance(self.targets, str):
            object.__setattr__(self, "targets", tuple(self.targets))
        require(self.rank >= 1, "recipe.lora.rank", "at least 1", self.rank)
        require(self.alpha > 0, "recipe.lora.alpha", "above 0", self.alpha)
        require(0 <= self.dropout < 1, "recipe.lora.dropout", "a share in [0, 1)", self.dropout)
        require(bool(self.targets), "recipe.lora.targets", "names of modules", self.targets)
        require(
            self.save in ("adapter", "merged"), "recipe.lora.save", "adapter or merged", self.save
        )


@dataclass(frozen=True)
class TokensConfig:
    """Which target tokens are learned from.

    Args:
        share: 1 = all; below, each target counts only with its tokens of the highest predictive
            entropy, at least one ("forking tokens", Wang et al., arXiv 2506.01939, who take 0.2).

    Raises:
        ConfigError: if a setting is out of its range.

    Example:
        >>> TokensConfig(share=0.2).share
        0.2
    """

    share: float = 1.0

    def __post_init__(self) -> None:
        require_finite("recipe.tokens.", self)
        require(0 < self.share <= 1, "recipe.tokens.share", "a share in (0, 1]", self.share)


@dataclass(frozen=True)
class RecipeConfig:
    """How the model is trained within one stage (one train-set size).

    Args:
        learning_rate: peak of the schedule.
        epochs: passes over the train set.
        batch_size: examples per optimizer step, over all devices.
        accumulate: parts that a batch is read in, one after the other, to save memory; the step
            is the same.
        weight_decay: of matrices; biases and norms do not decay.
        schedule: ``linear`` or ``cosine`` decay to 0, or ``constant``.
        warmup: share of the steps over which the rate rises before that.
        clip: largest gradient norm; 0 = off.
        precision: of the arithmetic, as in Lightning: ``32-true``, ``bf16-mixed``, ``bf16-true``...
        max_length: longest prompt plus target in tokens; default: the model's context.
        gradient_checkpointing: compute activations again in the backward pass, to save memory.
        freeze: the number of first layers, or names of parameters (``*`` matches anything), that
            stay as they are.
        tokens: which target tokens are learned from; default: all.
        lora: train adapters instead of the weights.

    Raises:
        ConfigError: if a setting is out of its range.

    Example:
        >>> RecipeConfig(epochs=3, batch_size=32, accumulate=4).precision
        '32-true'
    """

    learning_rate: float = 2e-5
    epochs: int = 6
    batch_size: int = 128
    weight_decay: float = 0.0
    warmup: float = 0.0
    schedule: str = "linear"
    clip: float = 1.0
    precision: str = "32-true"
    max_length: int | None = None
    accumulate: int = 1
    gradient_checkpointing: bool = False
    freeze: int | str | tuple[str, ...] = 0
    tokens: TokensConfig = field(default_factory=TokensConfig)
    lora: LoraConfig | None = None

    def __post_init__(self) -> None:
        require_finite("recipe.", self)
        if not isinstance(self.freeze, int):
            names = [self.freeze] if isinstance(self.freeze, str) else self.freeze
            object.__setattr__(self, "freeze", tuple(names))
        require(self.learning_rate > 0, "recipe.learning_rate", "above 0", self.learning_rate)
        require(self.epochs >= 1, "recipe.epochs", "at least 1", self.epochs)
        require(self.batch_size >= 1, "recipe.batch_size", "at least 1", self.batch_size)
        require(self.weight_decay >= 0, "recipe.weight_decay", "at least 0", self.weight_decay)
        require(0 <= self.warmup < 1, "recipe.warmup", "a share in [0, 1)", self.warmup)
        require(self.schedule in SCHEDULES, "recipe.schedule", f"one of {SCHEDULES}", self.schedule)
        require(self.clip >= 0, "recipe.clip", "at least 0", self.clip)
        require(
            self.precision in PRECISIONS, "recipe.precision", f"one of {PRECISIONS}", self.precision
        )
        require(
            self.accumulate >= 1 and self.batch_size % self.accumulate == 0,
            "recipe.accumulate",
            f"a number that divides recipe.batch_size = {self.batch_size}",
            self.accumulate,
        )
        if isinstance(self.freeze, int):
            require(self.freeze >= 0, "recipe.freeze", "at least 0 layers", self.freeze)
        require(
            not (self.freeze and self.lora),
            "recipe.freeze",
            "nothing together with recipe.lora, which freezes all weights of the model",
            self.freeze,
        )
