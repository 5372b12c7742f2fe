"""Settings of a comparison of strategies."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from activeselect.config.audit import RunAuditConfig
from activeselect.config.data import BUILT_IN_MODEL, DataConfig, PromptConfig, prompt_of
from activeselect.config.recipe import RecipeConfig
from activeselect.config.rounds import RoundsConfig, ScoringConfig
from activeselect.config.run import ACCELERATORS, LARGEST_SEED
from activeselect.errors import require, require_finite
from activeselect.files import is_folder_name

#: What a budget may be counted in.
AXES = ("unique_examples", "samples_seen", "tokens_trained", "tokens_total", "seconds")


@dataclass(frozen=True)
class StudyConfig:
    """Strategies x seeds x budgets on one or several datasets.

    Args:
        data: the datasets, each judged on its own; ``name`` is what the report calls one.
        strategies: label -> strategy, as in ``RunConfig.strategy``. The label ``oracle: preset``
            stands for the allocation that the preset's measured learning curves call best,
            ``oracle: informed`` for one that knows which groups the base model masters.
        baseline: label of the strategy that the others are compared with.
        seeds: one paired replicate each (same pool, same first examples, same test set).
        rounds, scoring, prompt, labeler, model, measure, accelerator: as in :class:`RunConfig`.
        recipe: as in :class:`RunConfig`; left out, it is the one that was tuned for random
            selection on the preset.
        audit: as in :class:`RunConfig`; what it finds stands beside each strategy's accuracy.
        workers: processes side by side, one thread each; 0 = as many as there are cores.
        backend: where they run: ``loky`` (this machine) or ``ray`` (a cluster, through joblib).
        share: compute once what runs of one seed have in common (the first stage, and a last one
            on the whole pool); the weights that this takes are kept while the seed is under way.
        reuse: folders of other studies; a finished run with the same settings, data, model and
            code as one of this study's is copied instead of computed.
        level: of the intervals.
        axis: what budgets are counted in when strategies are judged: ``unique_examples``,
            ``samples_seen``, ``tokens_trained``, ``tokens_total`` (generated ones too), or
            ``seconds``; on all but the first, what selection itself costs is on the bill.
            Default: ``unique_examples`` when acquiring, ``samples_seen`` when reweighting.

    Raises:
        ConfigError: if a setting is out of its range.

    Example:
        >>> StudyConfig(strategies={"random": "random", "loss": "loss"}, seeds=(0, 1)).baseline
        'random'
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
    labeler: str | dict[str, Any] | None = None
    measure: tuple[str, ...] = ()
    audit: RunAuditConfig | None = None
    accelerator: str = "auto"
    workers: int = 0
    backend: Literal["loky", "ray"] = "loky"
    share: bool = True
    reuse: tuple[str, ...] = ()
    level: float = 0.95
    axis: str | None = None

    def __post_init__(self) -> None:
        require_finite("", self)
        for name in ("data", "seeds", "measure", "reuse"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        object.__setattr__(self, "prompt", prompt_of(self.prompt))
        require(len(self.data) > 0, "data", "at least one dataset", self.data)
        require(len(self.strategies) > 0, "strategies", "at least one strategy", self.strategies)
        require(
            self.accelerator in ACCELERATORS,
            "accelerator",
            f"one of {', '.join(ACCELERATORS)}",
            self.accelerator,
        )
        for label, spec in self.strategies.items():
            require(
                bool(spec), f"strategies.{label}", "a strategy's name, or a mapping with one", spec
            )
        for label in self.strategies:  # folders are named after them
            require(
                is_folder_name(label), "strategies", "labels without / and \\, not only dots", label
            )
        require(
            self.baseline in self.strategies,
            "baseline",
            f"one of the strategies ({', '.join(self.strategies)})",
            self.baseline,
        )
        require(
            len(set(self.seeds)) == len(self.seeds) > 0
            and 0 <= min(self.seeds) <= max(self.seeds) <= LARGEST_SEED,
            "seeds",
            f"distinct numbers, 0 to {LARGEST_SEED}",
            list(self.seeds),
        )
        require(self.workers >= 0, "workers", "at least 0", self.workers)
        require(0 < self.level < 1, "level", "a share in (0, 1)", self.level)
        axes = AXES[1:] if self.rounds.mode == "reweight" else AXES  # one train set is no axis
        require(
            self.axis is None or self.axis in axes, "axis", f"one of {', '.join(axes)}", self.axis
        )
