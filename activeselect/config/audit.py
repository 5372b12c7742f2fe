"""Settings of the reasoning audit."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

from activeselect.config.data import BUILT_IN_MODEL, NO_TEST, DataConfig, PromptConfig, prompt_of
from activeselect.config.rounds import ScoringConfig
from activeselect.errors import require

#: Words of doubt and of self-correction.
HEDGES = (
    "wait",
    "maybe",
    "perhaps",
    "hmm",
    "actually",
    "let me check",
    "let me think",
    "i think",
    "not sure",
    "probably",
    "might be",
    "that is wrong",
    "mistake",
    "again",
)
FEWEST_WORDINGS = 4


#: Audited in a run where none are named: what is cheap and tells needed steps from idle ones.
IN_RUNS = ("accuracy", "early_answering", "filler", "irrelevant")


@dataclass(frozen=True)
class RunAuditConfig:
    """A small audit inside a run: after every stage, and every so many epochs.

    Beside it, a watch over memorization: after each epoch, how much of a fixed sample of the train
    set the model knows by heart and how far its weights have moved; after the stage, what test
    accuracy has done since the sample was memorized.

    Args:
        every: epochs; 0: after each stage alone.
        problems: of the test set that are asked, the same ones each time.
        measures: names (``docs/guide/audit.md``); none that needs a second model, as information
            gain does.
        memory: train examples that are watched, at most 200; 0: none.
    """

    every: int = 0
    problems: int = 100
    measures: tuple[str, ...] = IN_RUNS
    memory: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "measures", tuple(self.measures))
        require(self.every >= 0, "audit.every", "at least 0 epochs", self.every)
        require(0 <= self.memory <= 200, "audit.memory", "0 to 200 examples", self.memory)
        require(self.problems >= 2, "audit.problems", "at least 2", self.problems)
        alone = "information_gain" not in self.measures and len(self.measures) > 0
        fine = "measures that need no second model (not information_gain)"
        require(alone, "audit.measures", fine, list(self.measures))


@dataclass(frozen=True)
class AuditConfig:
    """A reasoning audit of one model, beside a reference where one is given.

    Args:
        model: a run folder, a model folder or a hub id.
        reference: a model to compare with on the same problems, for example the base model.
        scorer: the model that information gain is read from; default: the reference, else the
            model itself.
        data: what to ask; ``--data FILE`` for short.
        split: ``test`` or ``train``; default: test where the data has one.
        measures: names (``docs/guide/audit.md``); default: all that fit the data.
        problems: how many of the split are asked, drawn by the seed.
        chains: which reasoning is cut and changed: ``sampled`` from the model itself, or the
            data's ``traces``, the same ones for every model.
        wordings: prompts with ``{question}`` for the sensitivity to wording, at least four;
            default: ready ones that fit the prompt.
        hedges: words of doubt and self-correction.
        scoring: samples, temperature, tokens per batch, as in training.
        prompt: how a problem becomes text; default: what fits the source.
        dtype: of the weights: ``auto`` (as stored), ``float32``, ``bfloat16`` or ``float16``.
        device: ``auto``, or a torch device such as ``cuda:1``.
        seed: of the problems drawn, the samples and the edits.

    Raises:
        ConfigError: if a setting is out of its range.

    Example:
        >>> AuditConfig(model="runs/first", reference="skills-base", problems=50).problems
        50
    """

    model: str = BUILT_IN_MODEL
    reference: str | None = None
    scorer: str | None = None
    data: DataConfig = field(default_factory=DataConfig)
    split: Literal["test", "train"] | None = None
    measures: tuple[str, ...] = ()
    problems: int = 100
    chains: Literal["sampled", "traces"] = "sampled"
    wordings: tuple[str, ...] = ()
    hedges: tuple[str, ...] = HEDGES
    scoring: ScoringConfig = field(default_factory=ScoringConfig)
    prompt: str | PromptConfig | None = None
    dtype: str = "auto"
    device: str = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "prompt", prompt_of(self.prompt))
        for name in ("measures", "wordings", "hedges"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if self.data.test is None and self.data.preset is None and self.split != "test":
            object.__setattr__(self, "data", replace(self.data, test=NO_TEST))
        require(bool(self.model), "model", "a run folder, a model folder or hub id", self.model)
        require(self.split in (None, "test", "train"), "split", "test or train", self.split)
        require(self.problems >= 2, "problems", "at least 2", self.problems)
        chains = ("sampled", "traces")
        require(self.chains in chains, "chains", "sampled or traces", self.chains)
        dtypes = ("auto", "float32", "bfloat16", "float16")
        require(self.dtype in dtypes, "dtype", f"one of {', '.join(dtypes)}", self.dtype)
        require(self.seed >= 0, "seed", "at least 0", self.seed)
        wordings = list(self.wordings)
        enough = not wordings or len(wordings) >= FEWEST_WORDINGS
        asks = all("{question}" in wording for wording in wordings)
        require(
            enough and asks,
            "wordings",
            f"at least {FEWEST_WORDINGS} texts with {{question}}",
            wordings,
        )
