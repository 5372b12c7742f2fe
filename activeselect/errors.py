"""Errors a user can act on: each says what was expected, what came, and what to do.

The command line prints the message alone (no traceback) and exits with code 2.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any


class ActiveSelectError(Exception):
    """Base of every error caused by the user's input; the message is complete on its own.

    Example:
        >>> from activeselect.config import RecipeConfig
        >>> try:
        ...     RecipeConfig(epochs=0)
        ... except ActiveSelectError as error:
        ...     print(error)
        recipe.epochs: expected at least 1; received 0.
    """

    #: Another process of the same run says it, too.
    elsewhere: bool = False


class ConfigError(ActiveSelectError):
    """A setting is missing, unknown, of the wrong type, or out of range."""


class DataError(ActiveSelectError):
    """A dataset cannot be read, or rows of it are broken."""


class ModelError(ActiveSelectError):
    """A model folder or hub id cannot be loaded, or does not fit the data."""


class StrategyError(ActiveSelectError):
    """A strategy is unknown, cannot be built, or returned an invalid selection."""


class StoreError(ActiveSelectError):
    """A run folder or score store belongs to something else, or is damaged."""


class TrainingError(ActiveSelectError):
    """Training cannot go on; what was finished before is kept."""


class RankError(ActiveSelectError):
    """A process of a distributed run is gone, or the processes cannot be set up as asked."""


class LabelsNeeded(ActiveSelectError):
    """A run has chosen questions that nobody has labelled; what it asks for is on the disk.

    The command line exits with code 3.
    """


class StudyError(ActiveSelectError):
    """Runs of a study failed; what finished is kept, and the same command tries the rest again."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return ``" Did you mean 'x'?"`` for the nearest known name, and list all names.

    Example:
        >>> did_you_mean("premm", ["random", "premem"])
        "Did you mean 'premem'? Known: premem, random."
    """
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"Did you mean '{near[0]}'? " if near else ""
    return f"{hint}Known: {', '.join(names)}."


# --- Checks of settings


#: Beyond it a number is a slip of the pen: seconds, tokens and examples are all far below.
_LARGEST = 1e9


def require_finite(section: str, config: Any) -> None:
    """Refuse numbers that are infinite, NaN or absurdly large; see :func:`require`.

    Args:
        section: what the names of the settings begin with, ``recipe.`` or nothing.
        config: a dataclass; its own fields are looked at.
    """
    for name, value in vars(config).items():
        if isinstance(value, int | float) and not isinstance(value, bool):
            require(abs(value) <= _LARGEST, f"{section}{name}", "a number up to 1e9", value)


def require(holds: bool, name: str, expected: str, received: Any) -> None:
    """Check one setting.

    Args:
        holds: whether the value is allowed.
        name: the setting, as a user writes it.
        expected: what would be allowed, in words.
        received: the value.

    Raises:
        ConfigError: if ``holds`` is false.
    """
    if not holds:
        raise ConfigError(f"{name}: expected {expected}; received {received!r}.")
