"""Settings of the data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from activeselect.errors import ConfigError, did_you_mean, require, require_finite
from activeselect.files import is_folder_name

#: What ``data.test`` says for data that has no test set.
NO_TEST = "none"
#: What ``data.target`` says for the questions that a built-in preset makes itself.
PRESET_TARGET = "preset"
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
        target: a few questions like those that the model will be asked, for strategies that follow
            them: a file, folder or hub id as ``test``, of which only the questions (and the groups,
            where they are visible) are read; or ``preset``: those of a built-in preset, mixed as
            its test is.
        question, trace, answer, group, id, difficulty: column names, where the source's defaults
            do not fit.
        subset, revision: configuration and commit of a hub dataset.
        strip_notes: remove GSM8K's ``<<...>>`` calculator notes from the traces.
        append_answer: to a trace that does not state its answer, add a line that does.
        checker: how answers are extracted and compared; default: what fits the source.
        on_leak: what to do about questions of the test in the pool: ``keep`` (they are counted and
            listed), ``drop`` them from the pool, or ``stop``.
        on_bad_row: ``stop`` or ``skip`` (skipped rows are counted and listed).
        limit, test_limit, target_limit: use only the first rows; of a preset, ``target_limit`` is
            the number of its target questions (default: 100).
        pool_size: problems in the pool of a built-in preset.
        groups: ``visible`` or ``hidden``: strategies see the pool as one group, as most data comes;
            the report still tells the groups apart, and the oracle knows them.
        traces: what the train set's traces are made into, for a study of what they teach:
            ``swapped``, ``corrupted:0.3``, ``messy``, ``critique``, ``backward``, ``reversed``,
            ``answer_only``, ``answer_first``, or the class path of a function
            (``activeselect.data.interventions``).
        wrong_from: a folder of `activeselect score`, or of a run, on the same data: its wrong
            completions are what ``messy`` and ``critique`` show; ``{seed}`` in it stands for the
            run's seed, as each seed generates its own pool.
        name: what a study calls the dataset, in its report and folders; default: from the source.

    Raises:
        ConfigError: if a setting is out of its range.

    Example:
        >>> DataConfig("train.jsonl", trace="solution", checker="number").on_bad_row
        'stop'
    """

    source: str = "skills:mixed"
    test: str | None = None
    target: str | None = None
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
    on_leak: Literal["stop", "drop", "keep"] = "keep"
    on_bad_row: Literal["stop", "skip"] = "stop"
    limit: int | None = None
    test_limit: int | None = None
    target_limit: int | None = None
    pool_size: int | None = None
    groups: Literal["visible", "hidden"] = "visible"
    traces: str | None = None
    wrong_from: str | None = None
    name: str | None = None

    def __post_init__(self) -> None:
        require_finite("data.", self)
        require(bool(self.source), "data.source", "a preset, path or hub id", self.source)
        leak_modes = ("stop", "drop", "keep")
        require(self.on_leak in leak_modes, "data.on_leak", "stop, drop or keep", self.on_leak)
        bad_row_modes = ("stop", "skip")
        require(
            self.on_bad_row in bad_row_modes, "data.on_bad_row", "stop or skip", self.on_bad_row
        )
        require(
            self.groups in ("visible", "hidden"), "data.groups", "visible or hidden", self.groups
        )
        usable = self.name is None or is_folder_name(self.name)
        require(usable, "data.name", "a name without / and \\, not only dots", self.name)
        for name in ("limit", "test_limit", "target_limit", "pool_size"):
            value = getattr(self, name)
            require(value is None or value > 0, f"data.{name}", "a positive number", value)
        self._check_target()

    def _check_target(self) -> None:
        require(
            self.target != PRESET_TARGET or self.preset is not None,
            "data.target",
            f"a file, folder or hub id with data.source={self.source}, which is no built-in preset",
            self.target,
        )
        require(
            self.target is None or bool(self.target),
            "data.target",
            "a file, folder or hub id",
            self.target,
        )
        require(
            self.target is not None or self.target_limit is None,
            "data.target_limit",
            "nothing without data.target",
            self.target_limit,
        )

    @property
    def preset(self) -> str | None:
        """Name of the built-in preset, or None for real data."""
        if self.source.startswith(SKILLS_PREFIX):
            return self.source[len(SKILLS_PREFIX) :]
        return None


# --- Prompt settings


@dataclass(frozen=True)
class Shot:
    """A worked example that stands before the problem.

    Args:
        question: of the worked example.
        trace: its worked solution.

    Example:
        >>> Shot("1 + 1 ?", "1 + 1 = 2 #### 2").question
        '1 + 1 ?'
    """

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

    Raises:
        ConfigError: if a setting is out of its range.

    Example:
        >>> PromptConfig(chat=True, system="State the answer after ####.").chat
        True
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
        require_finite("prompt.", self)
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
        require("{question}" in self.prompt, "prompt.prompt", "a text with {question}", self.prompt)
        require("{trace}" in self.target, "prompt.target", "a text with {trace}", self.target)
        require(self.shots >= 0, "prompt.shots", "at least 0", self.shots)
        require(
            not self.examples or self.shots <= len(self.examples),
            "prompt.shots",
            f"at most the number of prompt.examples = {len(self.examples)}",
            self.shots,
        )
        require(all(self.stop), "prompt.stop", "texts that are not empty", list(self.stop))


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
