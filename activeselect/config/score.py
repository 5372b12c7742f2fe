"""Settings of scoring without training."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from activeselect.config.check import require
from activeselect.config.data import BUILT_IN_MODEL, NO_TEST, DataConfig
from activeselect.config.prompt import PromptConfig, prompt_of
from activeselect.config.scoring import ScoringConfig


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
