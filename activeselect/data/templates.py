"""From a problem to text: templates, worked examples, and the chat template of a tokenizer."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from activeselect.config import PromptConfig, Shot
from activeselect.data.pool import Pool, Problem
from activeselect.errors import ConfigError, ModelError


@dataclass(frozen=True)
class Text:
    """What the model reads and what it learns to write.

    After ``content`` characters of ``target`` there is only how a chat template closes a message.
    """

    prompt: str
    target: str
    content: int


def with_examples(template: PromptConfig, pool: Pool, *, seed: int) -> PromptConfig:
    """Draw the worked examples that a template asks for and does not have.

    One more than needed is drawn, so that a problem which is among them gets another.

    Args:
        pool: of the train problems; never of the test.

    Raises:
        ConfigError: if the pool is too small.
    """
    if not template.shots or template.examples:
        return template
    if template.shots >= len(pool):
        raise ConfigError(
            f"prompt.shots: expected less than the {len(pool)} problems of the pool; "
            f"received {template.shots}."
        )
    rng = np.random.default_rng([seed, 9])
    drawn = pool.problems(rng.choice(len(pool), template.shots + 1, replace=False))
    return replace(template, examples=tuple(Shot(p.question, p.trace) for p in drawn))


def check_texts(pool: Pool, template: PromptConfig, tokenizer: Any) -> None:
    """Whether the pool's problems become text, before anything is begun; raises as `to_text`."""
    for problem in pool if template.stop else pool.problems([0]):
        to_text(problem, template, tokenizer)


def render(problem: Problem, template: PromptConfig) -> tuple[str, str]:
    """Prompt and target text of a problem, by the template alone.

    Example:
        >>> render(Problem(0, "1 + 1 ?", "so 2", "2"), PromptConfig("Q: {question} ", "{trace}"))
        ('Q: 1 + 1 ? ', 'so 2')
    """
    # replace, not format: a question may contain braces
    return (
        template.prompt.replace("{question}", problem.question),
        template.target.replace("{trace}", problem.trace),
    )


def to_text(problem: Problem, template: PromptConfig, tokenizer: Any = None) -> Text:
    """Prompt and target text of a problem, with system text, examples and chat template.

    Args:
        tokenizer: of the model; needed for its chat template only.

    Raises:
        ConfigError: if a stop text occurs inside the trace, whose answer it would cut off.
        ModelError: if the tokenizer has no chat template, or it refuses the messages.
    """
    prompt, target = render(problem, template)
    for stop in template.stop:
        if 0 <= target.find(stop) < template.target.index("{trace}") + len(problem.trace):
            raise ConfigError(
                f"prompt.stop: {stop!r} occurs inside the trace of problem {problem.id}, which it "
                "would cut off; choose a text that no trace contains."
            )
    shots = [render(shot, template) for shot in _examples(problem, template)]
    if template.chat:
        return _chat(prompt, target, shots, template.system, tokenizer)
    parts = [template.system] if template.system else []
    parts += [before + after for before, after in shots]
    whole = template.separator.join([*parts, prompt])
    return Text(whole, target, len(target))


def _examples(problem: Problem, template: PromptConfig) -> list[Problem]:
    if template.shots and not template.examples:
        raise ConfigError(
            "prompt.shots: the examples are not drawn yet; use "
            "activeselect.data.templates.with_examples, or give prompt.examples."
        )
    others = [shot for shot in template.examples if shot.question != problem.question]
    return [Problem(-1, shot.question, shot.trace, "") for shot in others[: template.shots]]


def _chat(
    prompt: str,
    target: str,
    shots: list[tuple[str, str]],
    system: str,
    tokenizer: Any,
) -> Text:
    messages = [{"role": "system", "content": system}] if system else []
    for before, after in [*shots, (prompt, target)]:
        messages.append({"role": "user", "content": before})
        messages.append({"role": "assistant", "content": after})
    read = _apply(tokenizer, messages[:-1], add_generation_prompt=True)
    whole = _apply(tokenizer, messages, add_generation_prompt=False)
    content = target if target in whole else target.strip()  # many templates trim
    place = whole.rfind(content)
    if place < 0:
        raise ModelError(
            "The tokenizer's chat template does not repeat the target as it stands; use a plain "
            "prompt (prompt: gsm8k), or another template."
        )
    # what the template writes between the generation prompt and the answer is learned, too
    between = whole[len(read) : place] if whole.startswith(read) and place >= len(read) else ""
    target = between + content
    return Text(read, target + whole[place + len(content) :], len(target))


def _apply(tokenizer: Any, messages: list[dict[str, str]], **options: Any) -> str:
    if not getattr(tokenizer, "chat_template", None):
        raise ModelError(
            "The tokenizer has no chat template; use the tokenizer of an instruction-tuned model, "
            "or a plain prompt (prompt: gsm8k)."
        )
    try:
        return str(tokenizer.apply_chat_template(messages, tokenize=False, **options))
    except Exception as error:  # jinja's own kinds, and what templates raise by themselves
        reason = " ".join(str(error).split())[:200]
        raise ModelError(
            f"The tokenizer's chat template refuses the messages ({reason}); leave prompt.system "
            "or prompt.examples out if it does not know them."
        ) from error
