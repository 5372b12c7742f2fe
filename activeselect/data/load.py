"""From a data config to a pool and a test set, whatever the source."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from activeselect.config import DataConfig, PromptConfig
from activeselect.data.pool import Pool
from activeselect.data.report import DataReport, check_lengths
from activeselect.data.skills import build_preset
from activeselect.data.sources import load_pool

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
        data = build_preset(config.preset, seed, **given)
        return LoadedData(data.pool, data.test, SKILLS_PROMPT)
    columns = {
        name: getattr(config, name)
        for name in ("question", "trace", "answer", "group", "id")
        if getattr(config, name) is not None
    }
    pool, report = load_pool(
        config.source,
        split="train",
        columns=columns,
        checker=config.checker,
        on_bad_row=config.on_bad_row,
        limit=config.limit,
    )
    test, test_report = load_pool(
        config.test or config.source,
        split="test",
        columns=columns,
        checker=config.checker,
        on_bad_row=config.on_bad_row,
        limit=config.test_limit,
    )
    return LoadedData(pool, test, PromptConfig(), {"train": report, "test": test_report})


def fit_to_context(
    data: LoadedData, tokenizer: Any, prompt: PromptConfig, *, max_length: int, on_bad_row: str
) -> LoadedData:
    """Stop at, or leave out and report, problems whose prompt and target exceed the context.

    Args:
        max_length: tokens that the model can read.
        on_bad_row: ``stop`` or ``skip``.

    Raises:
        DataError: if problems are too long and ``on_bad_row`` is ``stop``.
    """
    from activeselect.data.prompts import encode  # torch; not needed to only read data

    pools = {"train": data.pool, "test": data.test}
    reports = dict(data.reports)
    for name, report in data.reports.items():
        pool = pools[name]
        if pool is None:
            continue
        items = encode(pool, np.arange(len(pool)), tokenizer, prompt)
        lengths = [len(item.ids) for item in items]
        pools[name], reports[name] = check_lengths(
            pool, report, lengths, max_length=max_length, on_bad_row=on_bad_row
        )
    return replace(data, pool=pools["train"], test=pools["test"], reports=reports)
