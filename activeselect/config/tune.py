"""Settings of a search for the recipe that is best for random selection."""

from __future__ import annotations

from dataclasses import dataclass, field

from activeselect.config.data import BUILT_IN_MODEL, DataConfig, PromptConfig, prompt_of
from activeselect.config.recipe import RecipeConfig
from activeselect.config.rounds import ScoringConfig
from activeselect.config.run import ACCELERATORS, LARGEST_SEED
from activeselect.errors import require, require_finite

#: Share of the train set that judges the recipes, where nothing else is said.
_HELD_OUT = 0.1


@dataclass(frozen=True)
class TuneConfig:
    """Learning rates x epochs, tried under random selection and judged on held-out train examples.

    Args:
        model: as in :class:`RunConfig`.
        data: what to train on. Its test set is not touched: a recipe that is chosen by it would
            make every later test result too good.
        recipe: how to train; its learning rate and epochs are the middle of the grid.
        scoring: how long a completion may be when recipes are judged, and how much fits in memory.
        prompt: as in :class:`RunConfig`.
        accelerator: as in :class:`RunConfig`.
        learning_rates: to try; default: a third, once and three times ``recipe.learning_rate``.
        epochs: to try; default: half, once and twice ``recipe.epochs``.
        sizes: train-set sizes that each recipe is tried at; for a study the smallest and the
            largest of ``rounds.budgets``. Default: all that is not held out.
        held_out: share of the train set that judges; default: a tenth. 0 is for built-in presets
            (and their default): the test set that a tuning seed draws, in which no reported
            question is.
        tuning_seeds: one run of every recipe each; use others than those of the study.
        workers: processes side by side, one thread each; 0 = as many as there are cores.

    Raises:
        ConfigError: if a setting is out of its range.

    Example:
        >>> from activeselect.config import TuneConfig
        >>> config = TuneConfig(recipe=RecipeConfig(learning_rate=3e-4, epochs=4))
        >>> [f"{rate:.0e}" for rate in config.learning_rates], config.epochs, config.held_out
        (['1e-04', '3e-04', '9e-04'], (2, 4, 8), 0.0)
    """

    model: str = BUILT_IN_MODEL
    data: DataConfig = field(default_factory=DataConfig)
    recipe: RecipeConfig = field(default_factory=RecipeConfig)
    scoring: ScoringConfig = field(default_factory=ScoringConfig)
    prompt: str | PromptConfig | None = None
    accelerator: str = "auto"
    learning_rates: tuple[float, ...] = ()
    epochs: tuple[int, ...] = ()
    sizes: tuple[int, ...] = ()
    held_out: float | None = None
    tuning_seeds: tuple[int, ...] = (1000, 1001)
    workers: int = 0

    def __post_init__(self) -> None:
        require_finite("", self)
        rate, passes, preset = self.recipe.learning_rate, self.recipe.epochs, self.data.preset
        rates = tuple(self.learning_rates) or tuple(round(rate * k, 12) for k in (1 / 3, 1, 3))
        epochs = tuple(self.epochs) or tuple(sorted({max(1, passes // 2), passes, passes * 2}))
        object.__setattr__(self, "learning_rates", rates)
        object.__setattr__(self, "epochs", epochs)
        for name in ("sizes", "tuning_seeds"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        object.__setattr__(self, "prompt", prompt_of(self.prompt))
        if self.held_out is None:
            object.__setattr__(self, "held_out", 0.0 if preset else _HELD_OUT)
        require(bool(self.model), "model", "a folder or hub id", self.model)
        require(
            self.accelerator in ACCELERATORS,
            "accelerator",
            f"one of {', '.join(ACCELERATORS)}",
            self.accelerator,
        )
        distinct = len(set(rates)) == len(rates) and min(rates) > 0
        require(distinct, "learning_rates", "distinct numbers above 0", list(rates))
        distinct = len(set(epochs)) == len(epochs) and min(epochs) >= 1
        require(distinct, "epochs", "distinct numbers from 1", list(epochs))
        ascending = list(self.sizes) == sorted(set(self.sizes)) and min(self.sizes, default=1) > 0
        require(ascending, "sizes", "ascending train-set sizes", list(self.sizes))
        share = self.held_out or 0.0
        least = 0 <= share < 1 and (share > 0 or preset is not None)
        require(least, "held_out", "a share in (0, 1); 0 for built-in presets only", share)
        seeds = self.tuning_seeds
        require(
            len(set(seeds)) == len(seeds) > 0 and 0 <= min(seeds) <= max(seeds) <= LARGEST_SEED,
            "tuning_seeds",
            f"distinct numbers, 0 to {LARGEST_SEED}",
            list(seeds),
        )
        require(self.workers >= 0, "workers", "at least 0", self.workers)
