"""Plan of a study: its cells, one run per dataset, seed and strategy, paired by seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from activeselect.config import BUILT_IN_MODEL, DataConfig, RecipeConfig, RunConfig, StudyConfig
from activeselect.data.skills import get_preset, tuning
from activeselect.errors import ConfigError
from activeselect.selection.registry import create
from activeselect.study.oracle import informed_targets, oracle_targets

#: What ``strategies: {oracle: preset}`` means: the targets come from the preset's learning curves.
FROM_PRESET = "preset"
#: What ``strategies: {oracle: informed}`` means: the targets come from what the base model masters.
INFORMED = "informed"


@dataclass(frozen=True)
class Cell:
    """One run of a study."""

    dataset: str
    strategy: str
    seed: int
    config: RunConfig

    @property
    def folder(self) -> str:
        """The cell's folder, relative to the study's."""
        return f"cells/{self.dataset}/{self.strategy}/seed-{self.seed}"

    @property
    def shared(self) -> str:
        """Where cells that differ in their strategy alone keep what they have in common."""
        return f"shared/{self.dataset}/seed-{self.seed}"

    @property
    def work(self) -> int:
        """Examples to train, the unit of progress."""
        return sum(self.config.rounds.budgets) * self.config.recipe.epochs


def dataset_names(data: Sequence[DataConfig]) -> list[str]:
    """A short, unique folder name per dataset."""
    names: list[str] = []
    for config in data:
        preset = config.preset and get_preset(config.preset).name  # an unknown one is refused
        stem = preset or config.source.rstrip("/").split("/")[-1].split(".")[0] or "data"
        if config.groups == "hidden":
            stem += "-hidden"
        if config.traces is not None:
            stem += "-" + config.traces.replace(":", "-")
        name, number = stem, 2
        while name in names:
            name, number = f"{stem}-{number}", number + 1
        names.append(name)
    return names


def plan(config: StudyConfig) -> list[Cell]:
    """All cells, seed by seed, so that an interrupted study has whole seeds.

    Raises:
        ConfigError, StrategyError: if a setting does not fit; nothing has run by then.
    """
    if config.rounds.mode != "acquire" or len(config.rounds.budgets) < 2:
        raise ConfigError(
            "A study compares train-set sizes: rounds.mode must be acquire with at least two "
            f"rounds.budgets; received {config.rounds.mode} with {list(config.rounds.budgets)}."
        )
    cells = []
    for seed in config.seeds:
        for data, dataset in zip(config.data, dataset_names(config.data), strict=True):
            for label, spec in config.strategies.items():
                cells.append(Cell(dataset, label, seed, _cell_config(config, data, spec, seed)))
    for cell in cells:
        create(cell.config.strategy)
    return cells


def in_order(cells: Sequence[Cell], workers: int) -> list[Cell]:
    """The order in which cells are begun, seed by seed.

    The first cell of a seed trains what the others only follow, so it begins earlier: before the
    rest of the seed that ``workers`` processes are at by then.

    Example:
        >>> from activeselect.config import StudyConfig
        >>> cells = plan(StudyConfig(seeds=(0, 1, 2)))
        >>> [f"{cell.strategy} {cell.seed}" for cell in in_order(cells, workers=2)]
        ['random 0', 'random 1', 'premem 0', 'random 2', 'premem 1', 'premem 2']
    """
    groups: dict[str, list[Cell]] = {}
    for cell in cells:
        groups.setdefault(cell.shared, []).append(cell)
    leads = [group[0] for group in groups.values()]
    order = leads[:workers]
    for number, group in enumerate(groups.values()):
        order += group[1:] + leads[workers + number : workers + number + 1]
    return order


def _cell_config(
    config: StudyConfig, data: DataConfig, spec: str | dict[str, Any], seed: int
) -> RunConfig:
    return RunConfig(
        model=config.model,
        data=data,
        strategy=_resolved_strategy(config, data, spec, seed),
        rounds=config.rounds,
        recipe=config.recipe or _recipe(config, data),
        scoring=config.scoring,
        prompt=config.prompt,
        seed=seed,
        labeler=config.labeler,
        measure=config.measure,
        audit=config.audit,
        accelerator=config.accelerator,
        save_model=False,
    )


def _recipe(config: StudyConfig, data: DataConfig) -> RecipeConfig:
    if data.preset is None:
        raise ConfigError(
            "recipe: expected learning_rate, epochs and batch_size, tuned for the baseline on this "
            "data; received nothing. (Only the built-in presets bring a tuned recipe.)"
        )
    if config.model != BUILT_IN_MODEL:
        raise ConfigError(
            "recipe: expected one for this model; received nothing, and the preset's own was tuned "
            f"for {BUILT_IN_MODEL}. Find it with "
            "`python -m research.benchmark_tuning recipe --model`."
        )
    return replace(RecipeConfig(), **tuning(data.preset)["recipe"]["chosen"])


def _resolved_strategy(
    config: StudyConfig, data: DataConfig, spec: str | dict[str, Any], seed: int
) -> str | dict[str, Any]:
    if spec not in (FROM_PRESET, INFORMED):
        return spec
    if data.preset is None:
        raise ConfigError(
            f"strategies: '{spec}' stands for the oracle of a built-in preset; "
            f"{data.source} has none."
        )
    preset = get_preset(data.preset).drawn(seed)
    if spec == INFORMED:
        targets = informed_targets(
            preset.pool_mass, preset.test_mass, preset.mastered, config.rounds.budgets
        )
        return {"name": "oracle", "targets": targets}
    targets = oracle_targets(
        tuning(data.preset)["oracle"]["curves"],
        preset.pool_mass,
        preset.test_mass,
        config.rounds.budgets,
    )
    return {"name": "oracle", "targets": targets}
