"""Settings of one training run."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Literal

from activeselect.config.audit import RunAuditConfig
from activeselect.config.data import BUILT_IN_MODEL, NO_TEST, DataConfig, PromptConfig, prompt_of
from activeselect.config.recipe import RecipeConfig
from activeselect.config.rounds import RoundsConfig, ScoringConfig
from activeselect.errors import require, require_finite

ACCELERATORS = ("auto", "cpu", "gpu", "cuda", "mps", "tpu")
#: A stage's seed is 1000 times it and the stage, which has to stay below 2^32.
LARGEST_SEED = 4_294_966


def _forecast(setting: str | bool) -> str:
    """``off`` without quotes is false in YAML; it means the same here."""
    require(setting is not True and setting != "", "forecast", "a name, a file or off", setting)
    return str(setting or "off")


@dataclass(frozen=True)
class RunConfig:
    """One training run.

    Args:
        model: ``skills-base`` (built in), a folder as ``save_pretrained`` writes it, or a hub id.
        data: what to train and test on.
        strategy: a name, ``{name: ..., PARAMETER: ...}``, or ``{class_path: ..., PARAMETER: ...}``.
        rounds: when to score and select.
        recipe: how to train.
        scoring: how to measure.
        prompt: how a problem becomes text: ``plain``, ``gsm8k``, ``math``, ``chat``, or settings;
            default: what fits the source.
        seed: of everything random in the run.
        labeler: who labels chosen questions that came without: nobody (the run asks and waits),
            ``hidden`` (the data's own labels, hidden until they are bought), ``{command: ...}``, or
            ``{class_path: ..., PARAMETER: ...}`` (:mod:`activeselect.training.labels`).
        measure: signals measured besides those that the strategy requires, for the record.
        forecast: regressor of the live forecast: ``auto`` (``gsm8k`` or ``math`` for these
            datasets with Llama-3-8B, else ``any``), ``gsm8k``, ``math``, ``any``
            (shipped), a file made by ``activeselect forecast fit``, or ``off`` (or false).
        accelerator, devices, num_nodes: as in Lightning's Trainer; ``devices`` per node.
        parallel: how several devices share the work: ``ddp`` (each holds the whole model), ``fsdp``
            (each holds a part of it), or ``auto``: ddp where there are several.
        rank_timeout: seconds after which a process that does not answer the others ends the run.
        checkpoint_every_steps: save the state of training that often, besides after each epoch;
            for epochs of hours.
        audit: a small audit of the reasoning inside the run (``docs/guide/audit.md``), on one
            device; default: none. Its time counts in no cost.
        save_model: write the fine-tuned model of the last stage into the run folder.

    Raises:
        ConfigError: if a setting is out of its range.

    Example:
        >>> from activeselect.config import RoundsConfig
        >>> RunConfig(strategy="loss", rounds=RoundsConfig(budgets=(100, 200))).model
        'skills-base'
    """

    model: str = BUILT_IN_MODEL
    data: DataConfig = field(default_factory=DataConfig)
    strategy: str | dict[str, Any] = "premem"
    rounds: RoundsConfig = field(default_factory=lambda: RoundsConfig(mode="reweight"))
    recipe: RecipeConfig = field(default_factory=RecipeConfig)
    scoring: ScoringConfig = field(default_factory=ScoringConfig)
    prompt: str | PromptConfig | None = None
    seed: int = 0
    labeler: str | dict[str, Any] | None = None
    measure: tuple[str, ...] = ()
    forecast: str | bool = "auto"
    accelerator: str = "auto"
    devices: int = 1
    num_nodes: int = 1
    parallel: Literal["auto", "ddp", "fsdp"] = "auto"
    rank_timeout: float = 1800.0
    checkpoint_every_steps: int | None = None
    audit: RunAuditConfig | None = None
    save_model: bool = True

    def __post_init__(self) -> None:
        require_finite("", self)
        object.__setattr__(self, "measure", tuple(self.measure))
        object.__setattr__(self, "prompt", prompt_of(self.prompt))
        object.__setattr__(self, "forecast", _forecast(self.forecast))
        require(bool(self.model), "model", "a folder or hub id", self.model)
        require(bool(self.strategy), "strategy", "a name, or a mapping with one", self.strategy)
        require(0 <= self.seed <= LARGEST_SEED, "seed", f"0 to {LARGEST_SEED}", self.seed)
        require(
            self.accelerator in ACCELERATORS,
            "accelerator",
            f"one of {', '.join(ACCELERATORS)}",
            self.accelerator,
        )
        require(self.devices >= 1, "devices", "at least 1", self.devices)
        require(self.num_nodes >= 1, "num_nodes", "at least 1", self.num_nodes)
        require(
            self.parallel in ("auto", "ddp", "fsdp"), "parallel", "auto, ddp or fsdp", self.parallel
        )
        require(self.rank_timeout > 0, "rank_timeout", "seconds above 0", self.rank_timeout)
        every = self.checkpoint_every_steps
        require(every is None or every >= 1, "checkpoint_every_steps", "at least 1", every)
        ranks = self.devices * self.num_nodes
        require(self.audit is None or ranks == 1, "audit", "none on several devices", self.audit)
        require(
            self.recipe.batch_size % (self.recipe.accumulate * ranks) == 0,
            "recipe.batch_size",
            f"a multiple of recipe.accumulate x devices x num_nodes = "
            f"{self.recipe.accumulate * ranks} (it counts examples per step over all devices)",
            self.recipe.batch_size,
        )
        require(
            not self.rounds.samples,
            "rounds.samples",
            "nothing in a run, which sees its train set recipe.epochs times; it is for studies",
            list(self.rounds.samples),
        )
        require(
            self.rounds.score_every <= self.recipe.epochs,
            "rounds.score_every",
            f"at most recipe.epochs = {self.recipe.epochs}",
            self.rounds.score_every,
        )


# --- Settings of offline scoring


@dataclass(frozen=True)
class ScoreConfig:
    """Scoring without training.

    Args:
        model: a model folder or hub id, or a folder of checkpoints: the whole history of a run.
        data: what to score; ``--data FILE`` for short.
        signals: what to measure (``docs/guide/signals.md``).
        scoring: how to measure.
        prompt: how a problem becomes text; default: what fits the source.
        reference: model folder for the signal ``reference_loss``.
        shard: ``2/4`` scores the second of four parts; whichever part ends last joins them.
        forecast: as in :class:`RunConfig`.
        dtype: of the weights: ``auto`` (as stored), ``float32``, ``bfloat16`` or ``float16``.
        device: ``auto``, or a torch device such as ``cuda:1``.
        seed: of the sampled completions.

    Raises:
        ConfigError: if a setting is out of its range.

    Example:
        >>> ScoreConfig(model="runs/first", signals=("premem", "ifd")).signals
        ('premem', 'ifd')
    """

    model: str = BUILT_IN_MODEL
    data: DataConfig = field(default_factory=DataConfig)
    signals: tuple[str, ...] = ("premem",)
    scoring: ScoringConfig = field(default_factory=ScoringConfig)
    prompt: str | PromptConfig | None = None
    reference: str | None = None
    shard: str = "1/1"
    forecast: str | bool = "auto"
    dtype: str = "auto"
    device: str = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        require_finite("", self)
        object.__setattr__(self, "prompt", prompt_of(self.prompt))
        object.__setattr__(self, "signals", tuple(self.signals))
        object.__setattr__(self, "forecast", _forecast(self.forecast))
        if self.data.test is None and self.data.preset is None:
            object.__setattr__(self, "data", replace(self.data, test=NO_TEST))
        require(bool(self.model), "model", "a folder or hub id", self.model)
        require(len(self.signals) > 0, "signals", "at least one", list(self.signals))
        dtypes = ("auto", "float32", "bfloat16", "float16")
        require(self.dtype in dtypes, "dtype", f"one of {', '.join(dtypes)}", self.dtype)
        part, slash, parts = self.shard.partition("/")
        whole = slash and part.isdigit() and parts.isdigit() and 1 <= int(part) <= int(parts)
        require(bool(whole), "shard", "NUMBER/OF, for example 2/4", self.shard)
        require(self.seed >= 0, "seed", "at least 0", self.seed)

    @property
    def part(self) -> tuple[int, int]:
        """Number of this shard, from 1, and how many there are."""
        number, of = self.shard.split("/")
        return int(number), int(of)
