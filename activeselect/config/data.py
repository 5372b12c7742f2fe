"""Settings of the data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from activeselect.config.check import require

#: What ``data.test`` says for data that has no test set.
NO_TEST = "none"
#: Where a model or a preset comes with the package instead of from a folder or the hub.
BUILT_IN_MODEL = "skills-base"
SKILLS_PREFIX = "skills:"


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
        require(bool(self.source), "data.source", "a preset, path or hub id", self.source)
        bad_row_modes = ("stop", "skip")
        require(
            self.on_bad_row in bad_row_modes, "data.on_bad_row", "stop or skip", self.on_bad_row
        )
        for name in ("limit", "test_limit", "pool_size"):
            value = getattr(self, name)
            require(value is None or value > 0, f"data.{name}", "a positive number", value)

    @property
    def preset(self) -> str | None:
        """Name of the built-in preset, or None for real data."""
        if self.source.startswith(SKILLS_PREFIX):
            return self.source[len(SKILLS_PREFIX) :]
        return None
