"""Starter config for a user's data and model, commented, with what was guessed and why."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from activeselect.config import PROMPTS, SKILLS_PREFIX, DataConfig, RunConfig
from activeselect.data.load import open_source, recognised
from activeselect.data.tabular import Row
from activeselect.errors import ActiveSelectError, ConfigError
from activeselect.files import write_text
from activeselect.study.estimate import quantity

# --- Guess of columns and checker


#: Usual names of each role, the likeliest first; a column is used for one role only.
_NAMES = {
    "question": "question problem prompt instruction query input q text",
    "trace": "trace solution rationale reasoning steps cot explanation response completion output "
    "answer a",
    "answer": "answer final_answer short_answer expected target label ground_truth",
    "group": "group subject topic category skill type domain level difficulty",
    "id": "id idx index uuid unique_id question_id",
}
_MARKERS = ("####", "Final answer:", "final answer:", "Answer:", "answer :", "answer:", "ANSWER:")


@dataclass(frozen=True)
class Guess:
    """What a source seems to be.

    Attributes:
        layout: name of a known dataset's layout, or ``columns``.
        columns: role -> column name; empty for a known layout, which needs none.
        checker: name of the answer checker; None where the layout has one.
        because: one sentence per guess.
    """

    layout: str
    columns: dict[str, str] = field(default_factory=dict)
    checker: str | None = None
    because: list[str] = field(default_factory=list)


def look_at(source: str) -> Guess:
    """Read the first rows of a source and guess what its columns are.

    Raises:
        DataError: if it cannot be read.
    """
    rows = open_source(source, "train")
    values = [row.values for row in rows.sample if isinstance(row, Row)]
    layout = recognised(rows, source)
    if layout != "columns":
        return Guess(layout, because=[f"{rows.name} has the layout of {layout}."])
    columns = guess_columns(rows.columns)
    because = [
        f"{role}: column '{name}' (the columns are {', '.join(rows.columns)})."
        for role, name in columns.items()
    ]
    lost = [role for role in ("question", "trace") if role not in columns]
    because += [f"{role}: no column has a usual name; fill it in." for role in lost]
    checker, why = guess_checker(_texts(values, columns.get("trace")))
    return Guess(layout, columns, checker, [*because, why])


def guess_columns(columns: Sequence[str]) -> dict[str, str]:
    """Roles of columns by their usual names.

    Example:
        >>> guess_columns(["problem", "solution", "answer", "level"])
        {'question': 'problem', 'trace': 'solution', 'answer': 'answer', 'group': 'level'}
        >>> guess_columns(["Question", "Answer"])
        {'question': 'Question', 'trace': 'Answer'}
    """
    free = {name.lower(): name for name in reversed(columns)}
    found = {}
    for role, names in _NAMES.items():
        name = next((name for name in names.split() if name in free), None)
        if name is not None:
            found[role] = free.pop(name)
    return found


def guess_checker(traces: Sequence[str]) -> tuple[str, str]:
    """The checker that finds an answer in most traces, and why.

    Example:
        >>> guess_checker(["so 1 + 1 = 2\\n#### 2"])[0], guess_checker([r"is $\\boxed{x^2}$"])[0]
        ('gsm8k', 'math')
        >>> guess_checker(["thus. Answer: blue", "so. Answer: red"])[0]
        'marker:Answer:'
        >>> guess_checker(["2 of 3 are left, so 5"])[0]
        'number'
    """
    most = 0.5 * len(traces)
    if sum(r"\boxed" in trace for trace in traces) > most:
        return "math", r"checker: math, because traces end in \boxed{...}."
    for marker in _MARKERS:
        if sum(marker in trace for trace in traces) > most:
            name = "gsm8k" if marker == "####" else f"marker:{marker}"
            return name, f"checker: {name}, because traces say '{marker}' before the answer."
    numbers = sum(bool(re.search(r"\d", trace)) for trace in traces)
    return (
        "number",
        f"checker: number (the last one in the text), which {numbers} of {len(traces)} traces "
        "have; math, gsm8k or marker:TEXT may fit better.",
    )


def _texts(values: Sequence[Mapping[str, object]], column: str | None) -> list[str]:
    found = [row.get(column) for row in values] if column else []
    return [text for text in found if isinstance(text, str)]


KINDS = ("train", "compare")
_READ = 20_000  # rows read to know how many there are
_LOOK = 500  # of them, to count tokens


@dataclass(frozen=True)
class Sizes:
    """What the rows say: problems there are (at least), tokens, and the model's weights."""

    problems: int
    longest_target: int
    parameters: float
    chat: bool = False  # the tokenizer writes conversations


def write_starter(source: str, model: str, out: Path, kind: str = "train") -> list[str]:
    """Write a config that runs as it is, or says what is missing.

    Args:
        source: as ``data.source``.
        model: a folder or hub id.
        out: file to write; never overwritten.
        kind: ``train`` or ``compare``.

    Returns:
        What was guessed, a sentence each.

    Raises:
        ActiveSelectError: if the data or the model cannot be read, or ``out`` exists.
    """
    if kind not in KINDS:
        raise ConfigError(f"kind: expected train or compare; received '{kind}'.")
    if out.exists():
        raise ConfigError(f"{out} exists and is not overwritten; name another file: --out FILE.")
    guess = Guess("skills") if source.startswith(SKILLS_PREFIX) else look_at(source)
    said = list(guess.because)
    test = _test_of(source, said)
    data = DataConfig(source, test=test, checker=guess.checker, on_bad_row="skip", limit=_READ)
    sizes = _sizes(data, guess, model, said)
    write_text(out, starter(source, model, guess, sizes, kind, test, out))
    return said


def _test_of(source: str, said: list[str]) -> str | None:
    """``none`` for a single file, which has no test split."""
    if not Path(source).expanduser().is_file():
        return None
    beside = [Path(source).with_name(Path(source).name.replace("train", "test"))]
    found = [file for file in beside if file.is_file() and file != Path(source)]
    if found:
        said.append(f"test: {found[0]}, because it lies beside the train file.")
        return str(found[0])
    said.append("test: none, because a single file has no test split; name one to be judged.")
    return "none"


def _sizes(data: DataConfig, guess: Guess, model: str, said: list[str]) -> Sizes | None:
    from activeselect.data.load import load_data
    from activeselect.data.prompts import encode, to_text
    from activeselect.study.estimate import without_weights

    tokenizer, shapes = without_weights(RunConfig(model=model))
    parameters = float(sum(weight.numel() for weight in shapes.parameters()))
    if not data.preset:
        columns: dict[str, Any] = dict(guess.columns)
        data = replace(data, test="none", **columns)
    try:
        loaded = load_data(data, seed=0)
    except ActiveSelectError as error:  # a guess may be wrong; the config says where to mend it
        said.append(f"The guesses do not fit the data yet: {error}")
        return None
    pool, report = loaded.pool, loaded.reports.get("train")
    if report is not None and report.rows_kept < report.rows_read:
        said.append(report.summary())
    prompt = loaded.prompt
    chat = bool(getattr(tokenizer, "chat_template", None)) and not data.preset
    if chat:
        plain, prompt = to_text(pool[0], prompt), PROMPTS["chat"]
        as_chat = to_text(pool[0], prompt, tokenizer)
        said.append(
            "prompt: chat, because the tokenizer has a chat template. The first problem\n"
            f"    as chat:  {_cut(as_chat.prompt)} | {_cut(as_chat.target)}\n"
            f"    as plain: {_cut(plain.prompt)} | {_cut(plain.target)}"
        )
    items = encode(pool, np.arange(min(len(pool), _LOOK)), tokenizer, prompt)
    target = int(np.quantile([len(item.ids) - item.start for item in items], 0.99))
    said.append(
        f"scoring.max_new_tokens: 1.25 times the traces' length; 99% of the first {len(items)} "
        f"have at most {target} tokens."
    )
    return Sizes(len(pool), target, parameters, chat)


def _cut(text: str) -> str:
    """A text on one line, its middle left out where it is long."""
    line = repr(text)
    return line if len(line) <= 160 else f"{line[:80]} ... {line[-75:]}"


def starter(
    source: str,
    model: str,
    guess: Guess,
    sizes: Sizes | None,
    kind: str,
    test: str | None,
    out: Path,
) -> str:
    """The text of the config."""
    tokens = 512 if sizes is None else max(16, -(-int(1.25 * sizes.longest_target) // 16) * 16)
    parameters = 1e9 if sizes is None else sizes.parameters
    data = _data_lines(source, guess, test)
    if kind == "compare":
        data = ["- " + data[0], *("  " + line for line in data[1:])]
    lines = [
        f"# activeselect {kind} --config {out} --out runs/{out.stem}",
        "# Add --dry-run to see the plan with tokens, time and memory first.",
        "",
        f"model: {_text(model)}",
        "data:",
        *("  " + line for line in data),
        *_prompt_lines(sizes),
        *(_study_lines(sizes) if kind == "compare" else _run_lines()),
        *_recipe_lines(parameters),
        "scoring:                        # how train examples are measured after a round",
        "  samples: 5",
        "  temperature: 0.8",
        f"  max_new_tokens: {tokens}",
        "  tau: 0.1                      # nats per token; below, a trace counts as memorized",
        "                                # (0.100 on GSM8K, 0.183 on MATH in the paper)",
    ]
    return "\n".join(lines) + "\n"


def _data_lines(source: str, guess: Guess, test: str | None) -> list[str]:
    lines = [f"source: {_text(source)}"]
    if test is not None:
        lines.append(f"test: {_text(test)}  # a file like the source; none: nothing is judged")
    if guess.layout != "columns":
        return [*lines, f"# recognised as {guess.layout}: columns and checker are known"]
    for role in ("question", "trace", "answer", "group", "id"):
        name = guess.columns.get(role)
        needed = role in ("question", "trace")
        if name is not None:
            lines.append(f"{role}: {_text(name)}  # guessed by the column's name")
        elif needed:
            lines.append(f"{role}: FILL_IN  # the column with the {role}")
        else:
            lines.append(f"# {role}: COLUMN  # optional")
    if guess.checker:
        lines.append(
            f"checker: {_text(guess.checker)}  # guessed: gsm8k, math, number, marker:TEXT"
        )
    return [*lines, "on_bad_row: skip                # counted and listed; stop: refuse to start"]


def _prompt_lines(sizes: Sizes | None) -> list[str]:
    if sizes is None or not sizes.chat:
        return []
    return [
        "prompt: chat                    # written by the tokenizer's chat template",
        "# prompt: plain                 # question, line break, Answer:, as for a base model",
    ]


def _run_lines() -> list[str]:
    return [
        "# All examples are read alike; premem is measured, and forecasts test accuracy. Other",
        "# strategies: {name: premem, floor: 0.25} reads what is understood a quarter as often (on",
        "# the built-in benchmark it was not shown to save steps, and takes twice the tokens);",
        "# denoise leaves out what looks wrong.",
        "strategy: random                # activeselect strategies lists them",
        "measure: [premem]",
        "rounds:",
        "  mode: reweight                # acquire: grow the train set through `budgets` instead",
        "  score_every: 1                # epochs",
    ]


def _study_lines(sizes: Sizes | None) -> list[str]:
    whole = 1000 if sizes is None else sizes.problems
    budgets = [max(whole // part, part) for part in (8, 4, 2)]
    budgets = sorted({max(8, budget) for budget in budgets})
    return [
        "strategies:                     # label: strategy; activeselect strategies lists them",
        "  random: random                # the baseline",
        "  balanced: balanced            # equal numbers of every group: the free control",
        "  premem: premem",
        "baseline: random",
        "seeds: [0, 1, 2, 3, 4]          # three show large effects only; one gives no interval",
        "rounds:",
        "  mode: acquire",
        f"  budgets: {json.dumps(budgets)}  # train-set sizes",
    ]


def _recipe_lines(parameters: float) -> list[str]:
    rate = 1e-3 if parameters < 2e7 else 2e-4 if parameters < 5e8 else 2e-5
    size = 16 if parameters < 2e7 else 32 if parameters < 5e8 else 128
    lines = [
        "recipe:                         # `activeselect tune` finds it for random selection",
        f"  learning_rate: {rate:.1e}        # a guess by the model's size "
        f"({quantity(parameters)} weights)",
        "  epochs: 6",
        f"  batch_size: {size}",
    ]
    if parameters >= 5e8:
        lines.append("  accumulate: 16                # parts of a batch, to save memory")
        lines.append("  precision: bf16-true")
    return lines


def _text(value: str) -> str:
    """A YAML text: plain where that is safe, else quoted as JSON is, which YAML reads."""
    simple = value.replace("/", "").replace("-", "").replace("_", "").replace(".", "")
    reserved = value.lower() in ("none", "null", "true", "false", "yes", "no", "on", "off")
    plain = simple.isascii() and simple.isalnum() and not value[0].isdigit() and not reserved
    return value if plain and value[0] not in "-." else json.dumps(value)
