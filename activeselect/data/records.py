"""Records that a program holds already, as rows: lists of dicts, data frames, datasets, chats.

A chat row has ``messages``, each with ``role`` and ``content``. Its last turn, of the assistant, is
the trace; all before it is the prompt. One user turn alone is the question as it stands; longer
conversations (a system turn, earlier answers) become text through the tokenizer's chat template.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from activeselect.data.tabular import BadRow, Row, RowSource
from activeselect.errors import ConfigError, DataError

MESSAGES = "messages"


def rows_of(records: Any, *, tokenizer: Any = None, name: str = "records") -> RowSource:
    """Rows of a list of dicts, a DataFrame, a ``datasets.Dataset`` or a stream; numbers from 1.

    Args:
        records: of them; chat rows (``messages``) become columns ``question`` and ``trace``.
        tokenizer: of the model, for chat rows with more than one turn before the answer.
        name: what messages call the records.

    Raises:
        DataError: if there are none.
        ConfigError: if they are of another kind.

    Example:
        >>> turns = [{"role": "user", "content": "1 + 1 ?"}, {"role": "assistant", "content": "2"}]
        >>> next(rows_of([{"messages": turns}]).read(None)).values
        {'question': '1 + 1 ?', 'trace': '2'}
    """
    if hasattr(records, "__len__") and len(records) == 0:
        raise DataError(f"{name}: expected at least one row; received none.")
    columns = _columns_of(records, name)
    schema = columns
    if columns is not None and MESSAGES in columns:
        schema = (*(c for c in columns if c != MESSAGES), "question", "trace")

    def read(_: Sequence[str] | None) -> Iterator[Row | BadRow]:
        for position, values in enumerate(_each(records), 1):
            if not isinstance(values, Mapping):
                found = type(values).__name__
                yield BadRow(position, "wrong type", f"expected a dict, got {found}")
            elif values.get(MESSAGES) is not None:
                yield _chat(position, values, tokenizer)
            else:
                yield Row(position, dict(values))

    return RowSource(name, "row", read, schema)


def _columns_of(records: Any, name: str) -> tuple[str, ...] | None:
    """Columns, where the kind of records states them."""
    if hasattr(records, "column_names"):  # datasets.Dataset, or a stream, which may not say
        return None if records.column_names is None else tuple(records.column_names)
    if hasattr(records, "columns") and hasattr(records, "to_dict"):  # pandas.DataFrame
        return tuple(map(str, records.columns))
    if isinstance(records, Sequence) and not isinstance(records, str | bytes):
        return None
    raise ConfigError(
        f"{name}: expected a list of dicts, a pandas.DataFrame or a datasets.Dataset; "
        f"received {type(records).__name__}."
    )


def _each(records: Any) -> Iterator[Any]:
    if hasattr(records, "columns") and hasattr(records, "to_dict"):
        names = list(map(str, records.columns))
        for values in records.itertuples(index=False, name=None):
            # what pandas calls missing (NaN, NaT, NA) is not equal to itself
            yield {n: v if _is_there(v) else None for n, v in zip(names, values, strict=True)}
    else:
        yield from records


def _is_there(value: Any) -> bool:
    try:
        return bool(value == value)
    except (TypeError, ValueError):  # pandas.NA, arrays
        return not type(value).__name__.startswith("NA")


def _chat(position: int, values: Mapping[str, Any], tokenizer: Any) -> Row | BadRow:
    turns = values[MESSAGES]
    rest = {name: value for name, value in values.items() if name != MESSAGES}
    try:
        roles = [turn["role"] for turn in turns]
        texts = [turn["content"] for turn in turns]
    except (TypeError, KeyError):
        return BadRow(position, "no chat", "expected messages with role and content")
    if roles[-1:] != ["assistant"] or "user" not in roles:
        found = ", ".join(map(str, roles)) or "no turn"
        detail = f"expected a user's turn and then the assistant's, which is the trace; got {found}"
        return BadRow(position, "no chat", detail)
    if roles == ["user", "assistant"] and tokenizer is None:
        return Row(position, {**rest, "question": texts[0], "trace": texts[1]})
    if tokenizer is None:
        detail = f"{len(roles) - 1} turns before the answer: pass tokenizer=, whose template joins"
        return BadRow(position, "no template", f"{detail} them")
    prompt = tokenizer.apply_chat_template(
        list(turns[:-1]), tokenize=False, add_generation_prompt=True
    )
    return Row(position, {**rest, "question": prompt, "trace": texts[-1]})
