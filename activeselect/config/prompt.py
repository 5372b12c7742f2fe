"""Settings of the text that a problem becomes."""

from __future__ import annotations

from dataclasses import dataclass

from activeselect.config.check import require
from activeselect.errors import ConfigError, did_you_mean


@dataclass(frozen=True)
class Shot:
    """A worked example that stands before the problem."""

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
