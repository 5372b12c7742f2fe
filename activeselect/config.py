"""Every setting of a run and of a study, validated when it is built.

The command line, the YAML files in ``configs/`` and the Python API fill the same dataclasses; an
error says what was expected, what came, and what to do.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from typing import Any, Literal, TypeVar, get_args, get_type_hints

from activeselect.errors import ConfigError, did_you_mean
from activeselect.files import is_folder_name

#: Where a model or a preset comes with the package instead of from a folder or the hub.
#: What `data.test` says for data that has no test set.
NO_TEST = "none"
BUILT_IN_MODEL = "skills-base"
SKILLS_PREFIX = "skills:"

Config = TypeVar("Config")

MODES = ("acquire", "reweight")
NEAR = ("auto", "group", "text", "embedding")
#: What a budget may be counted in.
AXES = ("unique_examples", "samples_seen", "tokens_trained", "tokens_total", "seconds")
SCHEDULES = ("linear", "cosine", "constant")
PRECISIONS = ("32-true", "bf16-mixed", "bf16-true", "16-mixed", "16-true", "64-true")


def _require(holds: bool, name: str, expected: str, received: Any) -> None:
    if not holds:
        raise ConfigError(f"{name}: expected {expected}; received {received!r}.")


@dataclass(frozen=True)
class DataConfig:
    """What is learned from, and what it is judged on.

    Args:
        source: ``skills:PRESET`` (built in), a path or hub id of GSM8K or MATH, or any JSONL,
            Parquet or CSV file, ``datasets`` folder or hub id.
        test: the test set, as ``source``; default: the source's test split; ``none``: no test.
        question, trace, answer, group, id, difficulty: column names, where the source's defaults
            do not fit.
        subset, revision: configuration and commit of a hub dataset.
        strip_notes: remove GSM8K's ``<<...>>`` calculator notes from the traces.
        append_answer: to a trace that does not state its answer, add a line that does.
        checker: how answers are extracted and compared; default: what fits the source.
        on_bad_row: ``stop`` or ``skip`` (skipped rows are counted and listed).
        limit, test_limit: use only the first rows.
        pool_size: problems in the pool of a built-in preset.
    """

    source: str = "skills:mixed"
    test: str | None = None
    question: str | None = None
    trace: str | None = None
    answer: str | None = None
    group: str | None = None
    id: str | None = None
    difficulty: str | None = None
    subset: str | None = None
    revision: str | None = None
    strip_notes: bool = False
    append_answer: bool = False
    checker: str | None = None
    on_bad_row: Literal["stop", "skip"] = "stop"
    limit: int | None = None
    test_limit: int | None = None
    pool_size: int | None = None

    def __post_init__(self) -> None:
        _require(bool(self.source), "data.source", "a preset, path or hub id", self.source)
        bad_row_modes = ("stop", "skip")
        _require(
            self.on_bad_row in bad_row_modes, "data.on_bad_row", "stop or skip", self.on_bad_row
        )
        for name in ("limit", "test_limit", "pool_size"):
            value = getattr(self, name)
            _require(value is None or value > 0, f"data.{name}", "a positive number", value)

    @property
    def preset(self) -> str | None:
        """Name of the built-in preset, or None for real data."""
        if self.source.startswith(SKILLS_PREFIX):
            return self.source[len(SKILLS_PREFIX) :]
        return None


@dataclass(frozen=True)
class Shot:
    """A worked example that stands before the problem."""

    question: str
    trace: str


@dataclass(frozen=True)
class PromptConfig:
    """How a problem becomes text: the model reads ``prompt`` and learns to write ``target``.

    The model's own end token closes the target. Ready ones by name: :data:`PROMPTS`.

    Args:
        prompt: text with ``{question}``; default: the question, a line break and ``Answer:``, or
            in a chat the question alone.
        target: text with ``{trace}``; default: a space and the trace, or in a chat the trace alone.
        chat: let the tokenizer's chat template write both, ``prompt`` as the user's message and
            ``target`` as the assistant's.
        system: what stands first; in a chat, the system message.
        examples: worked examples between the two.
        shots: how many of them a problem gets; where no ``examples`` are given they are drawn from
            the train pool by the seed. A problem is never its own example.
        separator: between parts (not in a chat).
        stop: texts that end a completion, besides the end token.
    """

    prompt: str = ""
    target: str = ""
    chat: bool = False
    system: str = ""
    examples: tuple[Shot, ...] = ()
    shots: int = 0
    separator: str = "\n\n"
    stop: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        stop = (self.stop,) if isinstance(self.stop, str) else tuple(self.stop)
        filled = {
            "prompt": self.prompt or ("{question}" if self.chat else "{question}\nAnswer:"),
            "target": self.target or ("{trace}" if self.chat else " {trace}"),
            "examples": tuple(self.examples),
            "shots": self.shots or len(self.examples),
            "stop": stop,
        }
        for name, value in filled.items():
            object.__setattr__(self, name, value)
        _require(
            "{question}" in self.prompt, "prompt.prompt", "a text with {question}", self.prompt
        )
        _require("{trace}" in self.target, "prompt.target", "a text with {trace}", self.target)
        _require(self.shots >= 0, "prompt.shots", "at least 0", self.shots)
        _require(
            not self.examples or self.shots <= len(self.examples),
            "prompt.shots",
            f"at most the number of prompt.examples = {len(self.examples)}",
            self.shots,
        )
        _require(all(self.stop), "prompt.stop", "texts that are not empty", list(self.stop))


#: The format of the paper's code, for both of its datasets; there nothing but ``Done.`` closes it.
_PAPER = PromptConfig("{question}\nAnswer:", " {trace}\nDone.", stop=("\nDone.",))
#: Prompts by name.
PROMPTS = {
    "plain": PromptConfig(),
    "gsm8k": _PAPER,
    "math": _PAPER,
    "chat": PromptConfig(chat=True),
}


def prompt_of(setting: str | PromptConfig | None) -> PromptConfig | None:
    """The prompt behind a setting: one of :data:`PROMPTS` by name, or as it stands."""
    if not isinstance(setting, str):
        return setting
    if setting not in PROMPTS:
        raise ConfigError(f"There is no prompt '{setting}'. {did_you_mean(setting, PROMPTS)}")
    return PROMPTS[setting]


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
    """

    rank: int = 16
    alpha: float = 32.0
    dropout: float = 0.0
    targets: str | tuple[str, ...] = "all-linear"
    dora: bool = False
    save: Literal["adapter", "merged"] = "adapter"

    def __post_init__(self) -> None:
        if not isinstance(self.targets, str):
            object.__setattr__(self, "targets", tuple(self.targets))
        _require(self.rank >= 1, "recipe.lora.rank", "at least 1", self.rank)
        _require(self.alpha > 0, "recipe.lora.alpha", "above 0", self.alpha)
        _require(0 <= self.dropout < 1, "recipe.lora.dropout", "a share in [0, 1)", self.dropout)
        _require(bool(self.targets), "recipe.lora.targets", "names of modules", self.targets)
        _require(
            self.save in ("adapter", "merged"), "recipe.lora.save", "adapter or merged", self.save
        )


@dataclass(frozen=True)
class TokensConfig:
    """Which target tokens are learned from.

    Args:
        share: 1 = all; below, each target counts only with its tokens of the highest predictive
            entropy, at least one ("forking tokens", Wang et al., arXiv 2506.01939, who take 0.2).
    """

    share: float = 1.0

    def __post_init__(self) -> None:
        _require(0 < self.share <= 1, "recipe.tokens.share", "a share in (0, 1]", self.share)


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
        if not isinstance(self.freeze, int):
            names = [self.freeze] if isinstance(self.freeze, str) else self.freeze
            object.__setattr__(self, "freeze", tuple(names))
        _require(self.learning_rate > 0, "recipe.learning_rate", "above 0", self.learning_rate)
        _require(self.epochs >= 1, "recipe.epochs", "at least 1", self.epochs)
        _require(self.batch_size >= 1, "recipe.batch_size", "at least 1", self.batch_size)
        _require(self.weight_decay >= 0, "recipe.weight_decay", "at least 0", self.weight_decay)
        _require(0 <= self.warmup < 1, "recipe.warmup", "a share in [0, 1)", self.warmup)
        _require(
            self.schedule in SCHEDULES, "recipe.schedule", f"one of {SCHEDULES}", self.schedule
        )
        _require(self.clip >= 0, "recipe.clip", "at least 0", self.clip)
        _require(
            self.precision in PRECISIONS, "recipe.precision", f"one of {PRECISIONS}", self.precision
        )
        _require(
            self.accumulate >= 1 and self.batch_size % self.accumulate == 0,
            "recipe.accumulate",
            f"a number that divides recipe.batch_size = {self.batch_size}",
            self.accumulate,
        )
        if isinstance(self.freeze, int):
            _require(self.freeze >= 0, "recipe.freeze", "at least 0 layers", self.freeze)
        _require(
            not (self.freeze and self.lora),
            "recipe.freeze",
            "nothing together with recipe.lora, which freezes all weights of the model",
            self.freeze,
        )


@dataclass(frozen=True)
class ScoringConfig:
    """How train examples are measured after a round.

    Args:
        samples, temperature, top_p, max_new_tokens: the sampled completions.
        tau: memorization threshold in nats per token (0.100 on GSM8K, 0.183 on MATH in the paper).
        limit: score at most that many train examples, the same random ones in every round.
        candidates: before an acquisition, score that many random candidates themselves (0: they
            are judged by the scored examples near them).
        entropy_share: share of the trace's tokens that the signal ``hes`` sums over.
        gradient_dim: numbers that a projected gradient has.
        gradient_modules: parts of names of the parameters that it is taken of; default: those of
            the adapter (LoRA) where there is one, else all that are trained.
        batch_tokens: tokens per batch, padding included, in scoring and evaluation.
        keep_completions: completions stored per example (for reading; 0 = none).
        largest_gap: mean difference, in nats per token, up to which the sampler and the model in
            training may disagree on sampled tokens; default: 0.02, or 0.2 in 16 bits.
    """

    samples: int = 5
    temperature: float = 0.8
    top_p: float = 0.95
    max_new_tokens: int = 512
    tau: float = 0.1
    limit: int | None = None
    candidates: int = 0
    entropy_share: float = 0.005
    gradient_dim: int = 1024
    gradient_modules: tuple[str, ...] = ()
    batch_tokens: int = 16_384
    keep_completions: int = 1
    largest_gap: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "gradient_modules", tuple(self.gradient_modules))
        _require(
            self.largest_gap is None or self.largest_gap > 0,
            "scoring.largest_gap",
            "above 0 nats per token",
            self.largest_gap,
        )
        _require(self.samples >= 1, "scoring.samples", "at least 1", self.samples)
        _require(self.temperature > 0, "scoring.temperature", "above 0", self.temperature)
        _require(0 < self.top_p <= 1, "scoring.top_p", "a share in (0, 1]", self.top_p)
        _require(
            self.max_new_tokens >= 1, "scoring.max_new_tokens", "at least 1", self.max_new_tokens
        )
        _require(self.tau >= 0, "scoring.tau", "at least 0 nats per token", self.tau)
        _require(self.limit is None or self.limit > 0, "scoring.limit", "above 0", self.limit)
        _require(self.candidates >= 0, "scoring.candidates", "at least 0", self.candidates)
        _require(
            0 < self.entropy_share <= 1, "scoring.entropy_share", "in (0, 1]", self.entropy_share
        )
        _require(self.gradient_dim >= 1, "scoring.gradient_dim", "at least 1", self.gradient_dim)
        _require(self.batch_tokens >= 1, "scoring.batch_tokens", "at least 1", self.batch_tokens)
        _require(
            0 <= self.keep_completions <= self.samples,
            "scoring.keep_completions",
            f"between 0 and scoring.samples = {self.samples}",
            self.keep_completions,
        )


@dataclass(frozen=True)
class RoundsConfig:
    """When the run scores and selects.

    Args:
        mode: ``reweight`` (fixed train set, new sampler weights after each round, one fit) or
            ``acquire`` (the train set grows through ``budgets``, one stage of training each).
        budgets: train-set sizes of the stages, ascending; the first is drawn at random. When
            reweighting: at most one number, the size of the train set (default: the whole pool).
        score_every: epochs per round.
        score_until: no scoring after that epoch of a stage; default: up to the last one. A small
            model memorizes answers before wording, which the threshold on the likelihood cannot
            see; what it answers in the first epochs is then the better measure, and cheaper.
        restart: start every stage from the base model (as the paper does), or continue.
        near: what a candidate is judged by that was never scored itself: the scored examples of
            its ``group``, or those of the most similar ``text`` or ``embedding``; ``auto``: by
            group where the pool has groups, else by text.
        regions: replace the pool's groups by that many clusters of its questions, for strategies
            that think in groups.
    """

    mode: str = "acquire"
    budgets: tuple[int, ...] = ()
    score_every: int = 1
    score_until: int | None = None
    restart: bool = True
    near: str = "auto"
    regions: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "budgets", tuple(self.budgets))
        _require(self.near in NEAR, "rounds.near", f"one of {NEAR}", self.near)
        _require(
            self.regions is None or self.regions >= 2, "rounds.regions", "at least 2", self.regions
        )
        _require(self.mode in MODES, "rounds.mode", f"one of {MODES}", self.mode)
        _require(self.score_every >= 1, "rounds.score_every", "at least 1 epoch", self.score_every)
        _require(
            self.score_until is None or self.score_until >= self.score_every,
            "rounds.score_until",
            f"at least rounds.score_every = {self.score_every}",
            self.score_until,
        )
        _require(
            all(budget > 0 for budget in self.budgets),
            "rounds.budgets",
            "positive numbers of examples",
            list(self.budgets),
        )
        if self.mode == "acquire":
            ascending = list(self.budgets) == sorted(set(self.budgets)) and self.budgets
            _require(
                bool(ascending), "rounds.budgets", "ascending train-set sizes", list(self.budgets)
            )
        else:
            _require(
                len(self.budgets) <= 1, "rounds.budgets", "at most one size", list(self.budgets)
            )


@dataclass(frozen=True)
class RunConfig:
    """One training run.

    Args:
        model: ``skills-base`` (built in), a folder as ``save_pretrained`` writes it, or a hub id.
        strategy: a name, ``{name: ..., PARAMETER: ...}``, or ``{class_path: ..., PARAMETER: ...}``.
        prompt: how a problem becomes text: ``plain``, ``gsm8k``, ``math``, ``chat``, or settings;
            default: what fits the source.
        seed: of everything random in the run.
        measure: signals measured besides those that the strategy requires, for the record.
        forecast: regressor of the live forecast: ``auto``, ``gsm8k``, ``math``, ``any``
            (shipped), a file made by ``activeselect forecast fit``, or ``off``.
        accelerator, devices, num_nodes: as in Lightning's Trainer; ``devices`` per node.
        parallel: how several devices share the work: ``ddp`` (each holds the whole model), ``fsdp``
            (each holds a part of it), or ``auto``: ddp where there are several.
        rank_timeout: seconds after which a process that does not answer the others ends the run.
        checkpoint_every_steps: save the state of training that often, besides after each epoch;
            for epochs of hours.
        save_model: write the fine-tuned model of the last stage into the run folder.
    """

    model: str = BUILT_IN_MODEL
    data: DataConfig = field(default_factory=DataConfig)
    strategy: str | dict[str, Any] = "premem"
    rounds: RoundsConfig = field(default_factory=lambda: RoundsConfig(mode="reweight"))
    recipe: RecipeConfig = field(default_factory=RecipeConfig)
    scoring: ScoringConfig = field(default_factory=ScoringConfig)
    prompt: str | PromptConfig | None = None
    seed: int = 0
    measure: tuple[str, ...] = ()
    forecast: str = "auto"
    accelerator: str = "auto"
    devices: int = 1
    num_nodes: int = 1
    parallel: Literal["auto", "ddp", "fsdp"] = "auto"
    rank_timeout: float = 1800.0
    checkpoint_every_steps: int | None = None
    save_model: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "measure", tuple(self.measure))
        object.__setattr__(self, "prompt", prompt_of(self.prompt))
        _require(bool(self.model), "model", "a folder or hub id", self.model)
        _require(self.seed >= 0, "seed", "at least 0", self.seed)
        _require(self.devices >= 1, "devices", "at least 1", self.devices)
        _require(self.num_nodes >= 1, "num_nodes", "at least 1", self.num_nodes)
        _require(
            self.parallel in ("auto", "ddp", "fsdp"), "parallel", "auto, ddp or fsdp", self.parallel
        )
        _require(self.rank_timeout > 0, "rank_timeout", "seconds above 0", self.rank_timeout)
        every = self.checkpoint_every_steps
        _require(every is None or every >= 1, "checkpoint_every_steps", "at least 1", every)
        ranks = self.devices * self.num_nodes
        _require(
            self.recipe.batch_size % (self.recipe.accumulate * ranks) == 0,
            "recipe.batch_size",
            f"a multiple of recipe.accumulate x devices x num_nodes = "
            f"{self.recipe.accumulate * ranks} (it counts examples per step over all devices)",
            self.recipe.batch_size,
        )
        _require(
            self.rounds.score_every <= self.recipe.epochs,
            "rounds.score_every",
            f"at most recipe.epochs = {self.recipe.epochs}",
            self.rounds.score_every,
        )


@dataclass(frozen=True)
class ScoreConfig:
    """Scoring without training.

    Args:
        model: a model folder or hub id, or a folder of checkpoints: the whole history of a run.
        data: what to score; ``--data FILE`` for short.
        signals: what to measure (``docs/signals.md``).
        prompt: how a problem becomes text; default: what fits the source.
        reference: model folder for the signal ``reference_loss``.
        shard: ``2/4`` scores the second of four parts; whichever part ends last joins them.
        forecast: as in :class:`RunConfig`.
        dtype: of the weights: ``auto`` (as stored), ``float32``, ``bfloat16`` or ``float16``.
        device: ``auto``, or a torch device such as ``cuda:1``.
        seed: of the sampled completions.
    """

    model: str = BUILT_IN_MODEL
    data: DataConfig = field(default_factory=DataConfig)
    signals: tuple[str, ...] = ("premem",)
    scoring: ScoringConfig = field(default_factory=ScoringConfig)
    prompt: str | PromptConfig | None = None
    reference: str | None = None
    shard: str = "1/1"
    forecast: str = "auto"
    dtype: str = "auto"
    device: str = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "prompt", prompt_of(self.prompt))
        object.__setattr__(self, "signals", tuple(self.signals))
        if self.data.test is None and self.data.preset is None:
            object.__setattr__(self, "data", replace(self.data, test=NO_TEST))
        _require(bool(self.model), "model", "a folder or hub id", self.model)
        _require(len(self.signals) > 0, "signals", "at least one", list(self.signals))
        dtypes = ("auto", "float32", "bfloat16", "float16")
        _require(self.dtype in dtypes, "dtype", f"one of {', '.join(dtypes)}", self.dtype)
        part, slash, parts = self.shard.partition("/")
        whole = slash and part.isdigit() and parts.isdigit() and 1 <= int(part) <= int(parts)
        _require(bool(whole), "shard", "NUMBER/OF, for example 2/4", self.shard)
        _require(self.seed >= 0, "seed", "at least 0", self.seed)

    @property
    def part(self) -> tuple[int, int]:
        """Number of this shard, from 1, and how many there are."""
        number, of = self.shard.split("/")
        return int(number), int(of)


@dataclass(frozen=True)
class StudyConfig:
    """Strategies x seeds x budgets on one or several datasets.

    Args:
        data: the datasets, each judged on its own.
        strategies: label -> strategy, as in ``RunConfig.strategy``. The label ``oracle: preset``
            stands for the allocation that the preset's measured learning curves call best.
        baseline: label of the strategy that the others are compared with.
        seeds: one paired replicate each (same pool, same first examples, same test set).
        rounds, recipe, scoring, prompt, model: as in :class:`RunConfig`; a ``recipe`` left out is
            the one that was tuned for random selection on the preset.
        workers: processes side by side, one thread each; 0 = as many as there are cores.
        level: of the intervals.
        axis: what budgets are counted in when strategies are judged: ``unique_examples``,
            ``samples_seen``, ``tokens_trained``, ``tokens_total`` (generated ones too), or
            ``seconds``; on all but the first, what selection itself costs is on the bill.
    """

    model: str = BUILT_IN_MODEL
    data: tuple[DataConfig, ...] = (DataConfig(),)
    strategies: dict[str, str | dict[str, Any]] = field(
        default_factory=lambda: {"random": "random", "premem": "premem"}
    )
    baseline: str = "random"
    seeds: tuple[int, ...] = (0, 1, 2)
    rounds: RoundsConfig = field(default_factory=lambda: RoundsConfig(budgets=(150, 300, 600)))
    recipe: RecipeConfig | None = None
    scoring: ScoringConfig = field(default_factory=ScoringConfig)
    prompt: str | PromptConfig | None = None
    measure: tuple[str, ...] = ()
    accelerator: str = "auto"
    workers: int = 0
    level: float = 0.95
    axis: str = "unique_examples"

    def __post_init__(self) -> None:
        for name in ("data", "seeds", "measure"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        object.__setattr__(self, "prompt", prompt_of(self.prompt))
        _require(len(self.data) > 0, "data", "at least one dataset", self.data)
        _require(len(self.strategies) > 0, "strategies", "at least one strategy", self.strategies)
        for label in self.strategies:  # folders are named after them
            _require(
                is_folder_name(label), "strategies", "labels without / and \\, not only dots", label
            )
        _require(
            self.baseline in self.strategies,
            "baseline",
            f"one of the strategies ({', '.join(self.strategies)})",
            self.baseline,
        )
        _require(
            len(set(self.seeds)) == len(self.seeds) > 0 and min(self.seeds) >= 0,
            "seeds",
            "distinct numbers, at least 0",
            list(self.seeds),
        )
        _require(self.workers >= 0, "workers", "at least 0", self.workers)
        _require(0 < self.level < 1, "level", "a share in (0, 1)", self.level)
        _require(self.axis in AXES, "axis", f"one of {', '.join(AXES)}", self.axis)


def to_plain(config: Any) -> dict[str, Any]:
    """A config as JSON-ready dicts, lists, numbers and strings."""
    plain: dict[str, Any] = json.loads(json.dumps(asdict(config)))
    return plain


def from_plain(kind: type[Config], plain: Mapping[str, Any]) -> Config:
    """The config that :func:`to_plain` made plain; settings it does not know are left out.

    Example:
        >>> from_plain(RunConfig, to_plain(RunConfig(seed=3))) == RunConfig(seed=3)
        True
    """
    types = get_type_hints(kind)
    values = {}
    known = [field.name for field in fields(kind)]  # type: ignore[arg-type]
    for name in (name for name in known if name in plain):
        value = plain[name]
        parts: list[Any] = [t for t in (types[name], *get_args(types[name])) if is_dataclass(t)]
        if parts and isinstance(value, Mapping):
            value = from_plain(parts[0], value)
        elif parts and isinstance(value, list):
            value = tuple(from_plain(parts[0], item) for item in value)
        values[name] = value
    return kind(**values)


def config_hash(plain: Mapping[str, Any]) -> str:
    """Content hash of a plain config; equal settings give equal hashes."""
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:16]


#: Settings that change where a run computes and what it keeps, not what it computes.
_INCIDENTAL = ("forecast", "save_model")
#: And of what it computes, no more than rounding: these may be others when a run is continued.
HARDWARE = (
    "accelerator",
    "devices",
    "num_nodes",
    "parallel",
    "rank_timeout",
    "checkpoint_every_steps",
)


def settings_of_scores(config: RunConfig) -> dict[str, Any]:
    """The plain settings that decide what a run's scores are."""
    return {
        name: value
        for name, value in to_plain(config).items()
        if name not in _INCIDENTAL + HARDWARE
    }


def changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """What differs between the settings of a run and those it is continued with, hardware aside."""
    other = dict.fromkeys(HARDWARE)
    return differences({**old, **other}, {**new, **other})


def differences(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> list[str]:
    """What differs between two plain configs, one ``name: old -> new`` per setting.

    Example:
        >>> differences({"seed": 0, "data": {"limit": 5}}, {"seed": 0, "data": {"limit": 6}})
        ['data.limit: 5 -> 6']
    """
    found: list[str] = []
    for key in sorted(old.keys() | new.keys()):
        before, after = old.get(key), new.get(key)
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            found += differences(before, after, f"{prefix}{key}.")
        elif before != after:
            found.append(f"{prefix}{key}: {before} -> {after}")
    return found
