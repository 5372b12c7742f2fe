"""From a data config to a pool and a test set, whatever the source."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from activeselect.config import NO_TEST, DataConfig, PromptConfig
from activeselect.data.pool import Pool
from activeselect.data.report import DataReport, OnBadRow, check_lengths
from activeselect.data.skills import build_preset
from activeselect.data.sources import load_pool
from activeselect.errors import ConfigError

#: ``data.test`` of a run that is not judged.
#: The prompt convention of the built-in benchmark: a question ends in its own mark.
SKILLS_PROMPT = PromptConfig(prompt="{question} ", target="{trace}")


@dataclass(frozen=True)
class LoadedData:
    """What a run learns from and is judged on, with the reports of what was left out."""

    pool: Pool
    test: Pool | None
    prompt: PromptConfig
    reports: dict[str, DataReport] = field(default_factory=dict)


def load_data(config: DataConfig, *, seed: int) -> LoadedData:
    """Load or generate the pool and the test set.

    Args:
        seed: of a generated preset; real data does not depend on it.

    Raises:
        DataError: if a source cannot be read or rows are broken (see ``docs/data.md``).
    """
    if config.preset is not None:
        sizes = {"pool_size": config.pool_size, "test_size": config.test_limit}
        given = {name: size for name, size in sizes.items() if size is not None}
        data = _built(config.preset, seed, **given)
        return LoadedData(data.pool, data.test, SKILLS_PROMPT)
    pool, report = _read(config, config.source, "train", config.limit)
    if config.test == NO_TEST:
        return LoadedData(pool, None, PromptConfig(), {"train": report})
    if config.test is None and Path(config.source).is_file():
        raise ConfigError(
            f"data.test: {config.source} is a single file and has no test split; name a test "
            f"file, or say data.test={NO_TEST} to train without one."
        )
    test, test_report = _read(config, config.test or config.source, "test", config.test_limit)
    return LoadedData(pool, test, PromptConfig(), {"train": report, "test": test_report})


# takes a second, and a study's process asks once per strategy for the same; data never change
_built = lru_cache(maxsize=4)(build_preset)


def _read(
    config: DataConfig, source: str, split: str, limit: int | None
) -> tuple[Pool, DataReport]:
    roles = ("question", "trace", "answer", "group", "id", "difficulty")
    return load_pool(
        source,
        split=split,
        columns={role: getattr(config, role) for role in roles if getattr(config, role)},
        checker=config.checker,
        on_bad_row=config.on_bad_row,
        limit=limit,
        config=config.subset,
        revision=config.revision,
        strip_notes=config.strip_notes,
        append_answer=config.append_answer,
    )


def fit_to_context(
    data: LoadedData, tokenizer: Any, prompt: PromptConfig, *, max_length: int, on_bad_row: OnBadRow
) -> LoadedData:
    """Stop at, or leave out and report, problems whose prompt and target exceed the context.

    Args:
        max_length: tokens that the model can read.
        on_bad_row: ``stop`` or ``skip``.

    Raises:
        DataError: if problems are too long and ``on_bad_row`` is ``stop``.
    """
    from activeselect.data.prompts import encode  # torch; not needed to only read data

    def fit(pool: Pool, report: DataReport) -> tuple[Pool, DataReport]:
        items = encode(pool, np.arange(len(pool)), tokenizer, prompt)
        lengths = [len(item.ids) for item in items]
        return check_lengths(pool, report, lengths, max_length=max_length, on_bad_row=on_bad_row)

    pool, test, reports = data.pool, data.test, dict(data.reports)
    if "train" in reports:
        pool, reports["train"] = fit(pool, reports["train"])
    if test is not None and "test" in reports:
        test, reports["test"] = fit(test, reports["test"])
    return replace(data, pool=pool, test=test, reports=reports)
