"""Column names: which column holds the question, the trace, the answer, the group, the id."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields, replace

from activeselect.errors import ConfigError, DataError, did_you_mean


@dataclass(frozen=True)
class ColumnNames:
    """Column names by role; None means the column of the same name as the role, if there is one.

    ``question`` and ``trace`` must exist. Without an answer column the answer is taken from the
    trace by the checker, without an id column problems are numbered from 0, and without a group
    column they are one group. The difficulty, a number, is read only where its column is named.

    Example:
        >>> ColumnNames(question="problem", trace="solution").resolve(
        ...     ("problem", "solution", "answer"), "my.jsonl"
        ... )
        {'question': 'problem', 'trace': 'solution', 'answer': 'answer'}
    """

    question: str | None = None
    trace: str | None = None
    answer: str | None = None
    group: str | None = None
    id: str | None = None
    difficulty: str | None = None

    @classmethod
    def of(cls, names: ColumnNames | Mapping[str, str | None] | None) -> ColumnNames:
        """Build from a mapping of role to column name.

        Raises:
            ConfigError: a role is unknown, or a name is not a non-empty text.
        """
        if names is None or isinstance(names, ColumnNames):
            return names or cls()
        roles = [field.name for field in fields(cls)]
        for role, name in names.items():
            if role not in roles:
                raise ConfigError(f"Unknown column role {role!r}. {did_you_mean(role, roles)}")
            if name is not None and (not isinstance(name, str) or not name):
                raise ConfigError(f"columns.{role} must be a column name, got {name!r}.")
        return cls(**names)

    def over(self, base: ColumnNames) -> ColumnNames:
        """These names, completed from ``base`` where they are None."""
        return replace(base, **{role: name for role, name in asdict(self).items() if name})

    def resolve(
        self, columns: tuple[str, ...], source: str, *, labels_required: bool = True
    ) -> dict[str, str]:
        """Map each role to a column that exists; roles without a column are left out.

        Without ``labels_required`` a source may have no trace column, if no other column is left
        that could be meant.

        Raises:
            DataError: a named column, or the default of a required one, does not exist.
        """
        named = {role: name for role, name in asdict(self).items() if name}
        for role, name in named.items():
            if name not in columns:
                raise DataError(
                    f"{source} has no column {name!r} (named as the {role}). "
                    f"{did_you_mean(name, columns)}"
                )
        # A column already used for one role is not used again by default: GSM8K's `answer` column
        # is the trace, and its answer is a part of it.
        free = set(columns) - set(named.values()) - {"difficulty"}
        roles = {role: named.get(role, role if role in free else None) for role in asdict(self)}
        lost = [role for role in ("question", "trace") if roles[role] is None]
        left = set(columns) - {name for name in roles.values() if name} - {"difficulty"}
        if lost == ["trace"] and not labels_required and not left and roles["answer"] is None:
            lost = []
        if lost:
            raise DataError(
                f"{source} has the columns {', '.join(columns)}; name the one that holds the "
                f"{' and the '.join(lost)}: {' '.join(f'data.{role}=NAME' for role in lost)} (in "
                f"Python: columns={{{', '.join(f'{role!r}: NAME' for role in lost)}}})."
            )
        return {role: name for role, name in roles.items() if name is not None}


@dataclass(frozen=True)
class Layout:
    """How a known dataset is laid out, so that its name is all that has to be given.

    Args:
        name: for reports, for example ``gsm8k``.
        columns: where the question, trace, ... are.
        checker: name of the answer checker, None where the user has to say.
        hub_ids: ids on the Hugging Face hub that have this layout.
        configs: hub configurations that together are the dataset; empty for the default one.
        recognise: says whether a row has this layout.
        difficulty: reads it from its column, None where it is not stated.
    """

    name: str
    columns: ColumnNames
    checker: str | None
    hub_ids: tuple[str, ...]
    configs: tuple[str, ...]
    recognise: Callable[[Mapping[str, object]], bool]
    difficulty: Callable[[object], float | None] | None = None


PLAIN = Layout("columns", ColumnNames(), None, (), (), lambda row: True)
