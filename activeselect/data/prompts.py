"""Encoded problems: prompt and target in one text, the target marked by offsets.

A GSM8K problem under the default template, the target in brackets::

    Natalia sold clips to 48 of her friends ...
    Answer:[ Natalia sold 48/2 = <<48/2=24>>24 clips in May. ... #### 72<eos>]
"""

from __future__ import annotations

import atexit
import json
import shutil
import tempfile
import weakref
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from activeselect.arrays import IntArray
from activeselect.config import PromptConfig, RunConfig, Shot, prompt_of
from activeselect.data.limits import memory_limit, time_limit
from activeselect.data.load import load_data
from activeselect.data.pool import Pool, Problem
from activeselect.errors import ConfigError, ModelError
from activeselect.streams import Stream

# --- Templates


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
    labelled = np.flatnonzero(pool.is_labelled)
    if template.shots >= len(labelled):
        raise ConfigError(
            f"prompt.shots: expected less than the {len(labelled)} labelled problems of the pool; "
            f"received {template.shots}."
        )
    rng = np.random.default_rng([seed, Stream.PROMPT])
    drawn = pool.problems(rng.choice(labelled, template.shots + 1, replace=False))
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
            "activeselect.data.prompts.with_examples, or give prompt.examples."
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


_TEMPLATE_SECONDS = 10.0  # a chat template takes a thousandth
_TEMPLATE_BYTES = 2**30
#: Characters that a template may add to its messages, and how often it may repeat them.
_TEMPLATE_ADDS, _TEMPLATE_REPEATS = 100_000, 10


def _apply(
    tokenizer: Any,
    messages: list[dict[str, str]],
    *,
    seconds: float = _TEMPLATE_SECONDS,
    **options: Any,
) -> str:
    if not getattr(tokenizer, "chat_template", None):
        raise ModelError(
            "The tokenizer has no chat template; use the tokenizer of an instruction-tuned model, "
            "or a plain prompt (prompt: gsm8k)."
        )
    try:
        with time_limit(seconds), memory_limit(_TEMPLATE_BYTES):
            text = str(tokenizer.apply_chat_template(messages, tokenize=False, **options))
    except TimeoutError:
        raise ModelError(
            f"The tokenizer's chat template takes over {seconds:g} s for one problem, so "
            "it may never end; use a plain prompt (prompt: gsm8k), or repair the template."
        ) from None
    except MemoryError:
        raise ModelError(
            "The tokenizer's chat template asks for over 1 GiB of memory for one problem; use a "
            "plain prompt (prompt: gsm8k), or repair the template."
        ) from None
    except Exception as error:  # jinja's own kinds, and what templates raise by themselves
        reason = " ".join(str(error).split())[:200]
        raise ModelError(
            f"The tokenizer's chat template refuses the messages ({reason}); leave prompt.system "
            "or prompt.examples out if it does not know them."
        ) from error
    given = sum(len(message["content"]) for message in messages)
    if len(text) > _TEMPLATE_ADDS + _TEMPLATE_REPEATS * given:
        raise ModelError(
            f"The tokenizer's chat template makes {len(text):,} characters of the {given:,} of one "
            "problem; use a plain prompt (prompt: gsm8k), or repair the template."
        )
    return text


#: Label of positions without a loss, as in transformers.
IGNORED = -100


@dataclass(frozen=True)
class Encoded:
    """One problem: ``ids[:start]`` is the prompt, ``ids[start:]`` the target and its end token."""

    index: int
    ids: NDArray[np.int32]
    start: int

    @property
    def prompt(self) -> NDArray[np.int32]:
        """Token ids before the target, ``[start]``."""
        return self.ids[: self.start]


def encode(
    pool: Pool, index: Sequence[int] | IntArray, tokenizer: Any, template: PromptConfig
) -> list[Encoded]:
    """Tokenize problems, prompt and target as one text.

    The first target token is the first one that reaches past the prompt's last character, so a
    token that straddles both belongs to the target. One end token closes every target: in a chat
    the one that the template puts after the message, else the tokenizer's.

    Raises:
        ModelError: if the tokenizer is not a fast one (offsets are needed), has no end token, or
            leaves a prompt no token of its own (its first token reaches into the target).
        ConfigError: if a stop text occurs inside a trace.
    """
    if not getattr(tokenizer, "is_fast", False):
        raise ModelError("The tokenizer must be a fast one (with character offsets).")
    if tokenizer.eos_token_id is None:
        raise ModelError("The tokenizer has no end-of-text token; set tokenizer.eos_token.")
    if len(index) == 0:
        return []
    texts = _to_texts(pool, index, template, tokenizer)
    # the tokenizer's own threads; transformers would copy each of its numbers again
    backend = tokenizer.backend_tokenizer
    backend.no_truncation()
    backend.no_padding()
    backend.encode_special_tokens = tokenizer.split_special_tokens
    batch = backend.encode_batch(
        [text.prompt + text.target for text in texts],
        add_special_tokens=not template.chat,  # a chat template writes them itself
    )
    closing = _special_tokens(tokenizer) if template.chat else frozenset()
    encoded = []
    for position, text, encoding in zip(index, texts, batch, strict=True):
        ids = _closed(encoding.ids, encoding, text, tokenizer.eos_token_id, closing)
        start = _first_past(encoding, len(text.prompt), len(ids) - 1)
        if start == 0:
            raise ModelError(
                f"The prompt {text.prompt!r} has no token of its own; let prompt.prompt end, or "
                "prompt.target begin, where the tokenizer splits (a line break, for example)."
            )
        encoded.append(Encoded(int(position), np.array(ids, dtype=np.int32), start))
    return encoded


def _to_texts(
    pool: Pool, index: Sequence[int] | IntArray, template: PromptConfig, tokenizer: Any
) -> list[Text]:
    """As :func:`to_text`, faster where a problem's text is its template and nothing else."""
    problems = pool.problems(index)
    if template.chat or template.stop or template.system or template.shots or template.examples:
        return [to_text(problem, template, tokenizer) for problem in problems]
    before, target = template.prompt.split("{question}"), template.target.split("{trace}")
    pairs = ((p.question.join(before), p.trace.join(target)) for p in problems)
    return [Text(prompt, trace, len(trace)) for prompt, trace in pairs]


def _first_past(encoding: Any, place: int, last: int) -> int:
    """The first token that ends after ``place``; ``last`` where none does."""
    token = encoding.char_to_token(place)  # all offsets of a text as Python objects are slow
    if token is None:  # the target is empty, or begins with what no token covers
        offsets = encoding.offsets[:last]
        token = next((i for i, (_, stop) in enumerate(offsets) if stop > place), last)
    return min(int(token), last)


def _closed(
    ids: list[int],
    encoding: Any,
    text: Text,
    end: int,
    closing: frozenset[int],
) -> list[int]:
    """The tokens up to and with the one that ends the target."""
    written = len(text.prompt) + text.content
    if text.content < len(text.target):
        offsets = enumerate(encoding.offsets)
        after = [i for i, (start, stop) in offsets if stop > start >= written]
        ended = next((i for i in after if ids[i] in closing), None)
        if ended is not None:
            return ids[: ended + 1]
        ids = ids[: after[0]] if after else list(ids)
    while ids and ids[-1] == end:  # some tokenizers close the text themselves
        ids = ids[:-1]
    return [*ids, end]


def _special_tokens(tokenizer: Any) -> frozenset[int]:
    added = tokenizer.added_tokens_decoder.items()
    return frozenset(tokenizer.all_special_ids) | {id for id, token in added if token.special}


#: Problems that are encoded at once, and bytes of token ids from which on they lie in a file.
_CHUNK, SPILL_BYTES = 4096, 16 * 2**20


def encoded(
    pool: Pool, index: Sequence[int] | IntArray, tokenizer: Any, template: PromptConfig
) -> Iterator[Encoded]:
    """As :func:`encode`, one problem after the other: only a chunk of them is held at once."""
    for start in range(0, len(index), _CHUNK):
        yield from encode(pool, index[start : start + _CHUNK], tokenizer, template)


class Sizes(NamedTuple):
    """Tokens of encoded problems, prompt and target together, and of the prompt, int ``[B]``."""

    tokens: IntArray
    prompt: IntArray

    @classmethod
    def of(cls, items: Iterable[Encoded]) -> Sizes:
        """Of encoded problems, which are not held together."""
        tokens, prompt = array("q"), array("q")
        for item in items:
            tokens.append(len(item.ids))
            prompt.append(item.start)
        return cls(np.array(tokens, dtype=np.int64), np.array(prompt, dtype=np.int64))


#: Steps of a tokenizer that make at most one token of each byte of their text.
_NO_LONGER = {"ByteLevel", "Whitespace", "WhitespaceSplit", "Split", "Digits", "Punctuation"}


def longest_possible(pool: Pool, template: PromptConfig, tokenizer: Any) -> IntArray | None:
    """Tokens that each problem may have at most, int64 ``[N]``; None where only counting tells.

    No token is shorter than a byte, where the tokenizer leaves the text as it is. So nearly all
    problems are known to fit into a context without being tokenized.

    Example:
        >>> from activeselect.data.skills import base_path
        >>> from activeselect.training.module import load_tokenizer
        >>> pool = Pool.from_problems([Problem(0, "1 + 1 ?", "so 2", "2")], checker="number")
        >>> template = PromptConfig("{question} ", "{trace}")
        >>> longest_possible(pool, template, load_tokenizer(str(base_path()))).tolist()
        [14]
    """
    backend = tokenizer.backend_tokenizer
    if template.chat or template.examples or backend.normalizer is not None:
        return None
    if backend.pre_tokenizer is None:
        return None
    try:
        steps = json.loads(backend.pre_tokenizer.__getstate__())
    except (TypeError, ValueError):  # written in Python
        return None
    for step in steps.get("pretokenizers", [steps]):
        if step["type"] not in _NO_LONGER or step.get("add_prefix_space"):
            return None
    empty = to_text(Problem(-1, "", "", ""), template)
    # the end token, and a space before the text
    added = len((empty.prompt + empty.target).encode()) + tokenizer.num_special_tokens_to_add() + 2
    question, trace = (pool.bytes_of(column) for column in ("question", "trace"))
    named = template.prompt.count("{question}"), template.target.count("{trace}")
    bytes_of_text: IntArray = added + named[0] * question + named[1] * trace
    return bytes_of_text


class EncodedSet(torch.utils.data.Dataset[Encoded]):
    """Encoded problems addressed by their position in the pool.

    ``~position`` is padding: the same text, all of it prompt, with index -1. The token ids lie in
    one array, beyond :data:`SPILL_BYTES` in a temporary file that is memory-mapped and removed
    with the set; besides them a problem takes 32 bytes.

    Args:
        problems: encoded, in any order; of two at one position the later counts.
        spill_bytes: of token ids, from which on they lie in a file.
    """

    def __init__(self, problems: Iterable[Encoded], *, spill_bytes: int = SPILL_BYTES) -> None:
        ids, positions = _TokenWriter(spill_bytes), array("q")
        starts, ends = array("q"), array("q", [0])
        for item in problems:
            ids.append(item.ids)
            starts.append(item.start)
            ends.append(ends[-1] + len(item.ids))
            positions.append(item.index)
        self._ids = ids.finish(self)
        self._starts = np.frombuffer(starts, np.int64) if starts else np.zeros(0, np.int64)
        self._ends = np.frombuffer(ends, np.int64)
        places = np.frombuffer(positions, np.int64) if positions else np.zeros(0, np.int64)
        self._row = np.full(int(places.max(initial=-1)) + 1, -1, np.int64)
        self._row[places] = np.arange(len(places))
        self._size = int(np.count_nonzero(self._row >= 0))

    def __len__(self) -> int:
        return self._size

    def __contains__(self, position: int) -> bool:
        return bool(0 <= position < len(self._row) and self._row[position] >= 0)

    def __getitem__(self, position: int) -> Encoded:
        known = position if position >= 0 else ~position
        if known not in self:
            raise KeyError(known)
        row = int(self._row[known])
        ids = self._ids[self._ends[row] : self._ends[row + 1]]
        if position < 0:
            return Encoded(-1, ids, len(ids))
        return Encoded(position, ids, int(self._starts[row]))

    def holds(self, index: IntArray) -> bool:
        """Whether all pool positions ``index`` ``[K]`` are in the set."""
        inside = (index >= 0) & (index < len(self._row))
        return bool(inside.all()) and bool((self._row[index] >= 0).all())

    def sizes(self, index: IntArray) -> Sizes:
        """How long the problems at the pool positions ``index`` ``[K]`` are."""
        row = self._row[index]
        return Sizes(self._ends[row + 1] - self._ends[row], self._starts[row])

    def take(self, index: Sequence[int] | IntArray) -> list[Encoded]:
        """The encoded problems at the pool positions ``index`` ``[K]``, in that order."""
        return [self[int(i)] for i in index]


class _TokenWriter:
    """Token ids, appended; in memory up to ``spill_bytes``, then in a file."""

    def __init__(self, spill_bytes: int) -> None:
        self.spill_bytes = spill_bytes
        self._held = array("i")
        self._folder: Path | None = None
        self._file: Any = None

    def append(self, ids: NDArray[np.int32]) -> None:
        self._held.frombytes(np.ascontiguousarray(ids, np.int32).tobytes())
        if len(self._held) * 4 > self.spill_bytes:
            if self._folder is None:
                self._folder = Path(tempfile.mkdtemp(prefix="activeselect-tokens-"))
                atexit.register(shutil.rmtree, self._folder, ignore_errors=True)
                self._file = (self._folder / "tokens.int32").open("wb")
            self._held.tofile(self._file)
            self._held = array("i")

    def finish(self, owner: object) -> NDArray[np.int32]:
        """All ids in one array; a file goes when ``owner`` does."""
        if self._folder is None:
            return np.frombuffer(self._held, np.int32) if self._held else np.zeros(0, np.int32)
        self._held.tofile(self._file)
        self._file.close()
        weakref.finalize(owner, shutil.rmtree, self._folder, ignore_errors=True)
        return np.memmap(self._folder / "tokens.int32", np.int32, mode="c")


def collate(batch: Sequence[Encoded], pad_token_id: int) -> dict[str, Tensor]:
    """Pad a batch on the right.

    Returns:
        ``input_ids``, ``attention_mask``, ``labels`` (``IGNORED`` on prompt and padding), each
        int64 ``[B, L]``, and ``index`` int64 ``[B]``, the positions in the pool.
    """
    length = max(len(item.ids) for item in batch)
    ids = np.full((len(batch), length), pad_token_id, dtype=np.int64)
    labels = np.full_like(ids, IGNORED)
    mask = np.zeros_like(ids)
    for row, item in enumerate(batch):
        stop = len(item.ids)
        ids[row, :stop] = item.ids
        labels[row, item.start : stop] = item.ids[item.start :]
        mask[row, :stop] = 1
    return {
        "input_ids": torch.from_numpy(ids),
        "attention_mask": torch.from_numpy(mask),
        "labels": torch.from_numpy(labels),
        "index": torch.tensor([item.index for item in batch]),
    }


def batches_by_tokens(
    lengths: Sequence[int] | IntArray,
    batch_tokens: int,
    kinds: Sequence[int] | IntArray | None = None,
) -> list[IntArray]:
    """Split rows into batches of similar length with at most ``batch_tokens`` padded tokens each.

    A single row longer than ``batch_tokens`` forms a batch of its own; rows of different
    ``kinds`` never share one.

    Example:
        >>> [batch.tolist() for batch in batches_by_tokens([5, 2, 3, 9], 10)]
        [[3], [0, 2], [1]]
        >>> [batch.tolist() for batch in batches_by_tokens([5, 2, 3, 9], 10, kinds=[0, 0, 1, 1])]
        [[3], [2], [0, 1]]
    """
    size = np.asarray(lengths, dtype=np.int64)
    kind = np.zeros_like(size) if kinds is None else np.asarray(kinds)
    order = np.lexsort((-size, -kind))
    batches, start = [], 0
    while start < len(order):
        rows = max(1, batch_tokens // max(1, int(size[order[start]])))
        batch = order[start : start + rows]
        batch = batch[kind[batch] == kind[batch[0]]]
        batches.append(batch)
        start += len(batch)
    return batches


def parts_by_length(
    lengths: Sequence[int], kinds: Sequence[int] | IntArray, waste: int
) -> list[IntArray]:
    """Rows cut into parts of similar length, each with at most ``waste`` tokens of padding.

    Example:
        >>> [part.tolist() for part in parts_by_length([5, 90, 2, 88], [0, 0, 0, 0], waste=10)]
        [[1, 3], [0, 2]]
    """
    size, kind = np.asarray(lengths), np.asarray(kinds)
    parts: list[list[int]] = []
    padding = 0
    for row in np.lexsort((-size, -kind)).tolist():
        if parts:
            first = parts[-1][0]
            padding += int(size[first] - size[row])
            if kind[first] == kind[row] and padding <= waste:
                parts[-1].append(row)
                continue
        parts.append([row])
        padding = 0
    return [np.array(part) for part in parts]


# --- Preview


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
