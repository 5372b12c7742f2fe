"""What a model is given, to be looked at: the tokens of one problem and which are learned."""

from __future__ import annotations

from typing import Any

from activeselect.config import RunConfig, prompt_of
from activeselect.data.load import load_data
from activeselect.data.prompts import encode
from activeselect.data.templates import with_examples
from activeselect.errors import ConfigError


def preview(config: RunConfig, tokenizer: Any, *, index: int, split: str) -> dict[str, Any]:
    """The exact tokens of one problem.

    Returns:
        ``index`` and ``problems`` (how many there are), ``tokens`` (id, text, learned) in order,
        and ``stop``, what ends a completion besides the last token.

    Raises:
        ConfigError: if there is no such problem.
    """
    data = load_data(config.data, seed=config.seed)
    template = with_examples(prompt_of(config.prompt) or data.prompt, data.pool, seed=config.seed)
    pool = data.pool if split == "train" else data.test
    if pool is None:
        raise ConfigError("split: the run has no test set; use split=train.")
    if not 0 <= index < len(pool):
        raise ConfigError(f"index: expected 0 to {len(pool) - 1}; received {index}.")
    (item,) = encode(pool, [index], tokenizer, template)
    tokens = [
        {"id": int(token), "text": tokenizer.decode([int(token)]), "learned": i >= item.start}
        for i, token in enumerate(item.ids)
    ]
    return {"index": index, "problems": len(pool), "tokens": tokens, "stop": list(template.stop)}


def shown(found: dict[str, Any]) -> str:
    """A preview as text; ``|`` stands between tokens."""
    read, learned = (
        [token["text"] for token in found["tokens"] if token["learned"] == wanted]
        for wanted in (False, True)
    )
    lines = [
        f"Problem {found['index']} of {found['problems']}; | stands between tokens.",
        f"--- read, not learned: {len(read)} tokens ---",
        "|".join(read),
        f"--- learned: {len(learned)} tokens, the last one ends a completion ---",
        "|".join(learned),
    ]
    if found["stop"]:
        lines.append(f"--- also ends a completion: {', '.join(map(repr, found['stop']))} ---")
    return "\n".join(lines)
