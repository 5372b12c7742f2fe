"""Plan of a study: its cells, one run per dataset, seed and strategy, paired by seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from activeselect.config import BUILT_IN_MODEL, DataConfig, RecipeConfig, RunConfig, StudyConfig
from activeselect.data.skills import get_preset, tuning
from activeselect.errors import ConfigError, require
from activeselect.selection.registry import check_target, create
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
    samples: int | None = None  # length of the fit, where fits of several lengths are made

    @property
    def folder(self) -> str:
        """The cell's folder, relative to the study's."""
        return run_folder(self.dataset, self.strategy, self.seed, self.samples)

    @property
    def shared(self) -> str:
        """Where cells that differ in their strategy alone keep what they have in common."""
        return f"shared/{self.dataset}/seed-{self.seed}"

    @property
    def work(self) -> int:
        """Examples to train, the unit of progress; passes where the pool's size is not known."""
        return sum(self.config.rounds.budgets or (1,)) * self.config.recipe.epochs


def run_folder(dataset: str, strategy: str, seed: int, samples: int | None = None) -> str:
    """Where a study keeps one of its runs."""
    length = "" if samples is None else f"-samples-{samples}"
    return f"cells/{dataset}/{strategy}/seed-{seed}{length}"


def dataset_names(data: Sequence[DataConfig]) -> list[str]:
    """A short, unique folder name per dataset.

    Raises:
        ConfigError: if two datasets were given the same name.

    Example:
        >>> dataset_names([DataConfig("a/train.jsonl"), DataConfig("a/train.jsonl", name="easy")])
        ['train', 'easy']
    """
    given = [config.name for config in data if config.name is not None]
    require(len(set(given)) == len(given), "data", "a name of its own for each dataset", given)
    names: list[str] = []
    for config in data:
        if config.name is not None:
            names.append(config.name)
            continue
        preset = config.preset and get_preset(config.preset).name  # an unknown one is refused
        stem = preset or config.source.rstrip("/").split("/")[-1].split(".")[0] or "data"
        if config.groups == "hidden":
            stem += "-hidden"
        if config.target is not None:
            stem += "-target"
        if config.traces is not None:
            stem += "-" + config.traces.replace(":", "-")
        name, number = stem, 2
        while name in [*names, *given]:
            name, number = f"{stem}-{number}", number + 1
        names.append(name)
    return names


def plan(config: StudyConfig) -> list[Cell]:
    """All cells, seed by seed, so that an interrupted study has whole seeds.

    Raises:
        ConfigError, StrategyError: if a setting does not fit; nothing has run by then.
    """
    cells = []
    for seed in config.seeds:
        for data, dataset in zip(config.data, dataset_names(config.data), strict=True):
            for label, spec in config.strategies.items():
                run = _cell_config(config, data, spec, seed)
                for samples in config.rounds.samples or (None,):
                    cells.append(Cell(dataset, label, seed, _of_length(run, samples), samples))
    for cell in cells:
        _check_points(cell.config, len(config.rounds.samples))
        check_target(create(cell.config.strategy), given=cell.config.data.target is not None)
    return cells


def _of_length(run: RunConfig, samples: int | None) -> RunConfig:
    """The run whose one fit sees so many samples; its schedule decays over all of them."""
    if samples is None:
        return run
    epochs = samples // run.rounds.budgets[0]
    return replace(run, recipe=replace(run.recipe, epochs=epochs))


def _check_points(run: RunConfig, fits: int) -> None:
    """Refuse a study whose curves would be single points."""
    rounds, epochs = run.rounds, run.recipe.epochs
    if rounds.short_stages:
        raise ConfigError(
            "rounds.short_stages: a study tests every train-set size, so it needs whole stages; "
            "received true. Its bills are those of short stages anyway."
        )
    if rounds.mode == "acquire" and len(rounds.budgets) < 2:
        raise ConfigError(
            "A study that acquires compares train-set sizes: expected at least two "
            f"rounds.budgets; received {list(rounds.budgets)}."
        )
    if rounds.mode == "reweight" and fits < 2 and (rounds.evaluate_every or epochs) >= epochs:
        raise ConfigError(
            "A study that reweights compares numbers of training samples: expected "
            "rounds.evaluate_every below recipe.epochs (points within one fit), or at least two "
            f"rounds.samples (a fit each); received rounds.evaluate_every={rounds.evaluate_every} "
            f"with recipe.epochs={epochs} and {fits} rounds.samples."
        )


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
        data=replace(data, name=None),  # a name changes nothing of what a run computes
        strategy=_resolved_strategy(config, data, spec, seed),
        rounds=replace(config.rounds, samples=()),
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
            "data; received nothing. (Only the built-in presets bring a tuned recipe.) "
            "`activeselect tune` finds them."
        )
    if config.model != BUILT_IN_MODEL:
        raise ConfigError(
            "recipe: expected one for this model; received nothing, and the preset's own was tuned "
            f"for {BUILT_IN_MODEL}. Find it with `activeselect tune`."
        )
    return replace(RecipeConfig(), **tuning(data.preset)["recipe"]["chosen"])


def _resolved_strategy(
    config: StudyConfig, data: DataConfig, spec: str | dict[str, Any], seed: int
) -> str | dict[str, Any]:
    if spec not in (FROM_PRESET, INFORMED):
        return spec
    if config.rounds.mode == "reweight":
        raise ConfigError(
            f"strategies: '{spec}' is an allocation for growing train sets; received it "
            "with rounds.mode=reweight, where nothing is acquired. Leave the oracle out."
        )
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
