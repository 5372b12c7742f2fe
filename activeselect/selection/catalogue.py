"""What there is to say about a strategy without running it."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

from activeselect.errors import StrategyError
from activeselect.scoring.signals import relative_cost
from activeselect.selection.strategy import Strategy


@dataclass(frozen=True)
class Entry:
    """One strategy in the list of all.

    Attributes:
        requires: signals it reads with its default parameters; None = its parts or parameters
            decide.
        cost: passes of the model per scored example and round (a training step counts three);
            None = not known.
    """

    name: str
    summary: str
    requires: tuple[str, ...] | None
    cost: int | None


def describe(cls: type[Strategy], *, samples: int = 5) -> Entry:
    """The entry of a strategy class.

    Args:
        samples: completions per example that the cost counts with.

    Example:
        >>> from activeselect.selection.registry import strategies
        >>> describe(strategies()["premem"]).cost
        6
    """
    requires = _requires(cls)
    try:
        cost = None if requires is None else relative_cost(requires, samples=samples)
    except StrategyError:  # a signal that this version does not know
        cost = None
    summary = (inspect.getdoc(cls) or "").strip().partition("\n")[0]
    return Entry(cls.name, summary, requires, cost)


def parameters(cls: type[Strategy]) -> dict[str, Any]:
    """Parameters and their defaults; ``...`` where one has to be given."""
    return {
        name: ... if parameter.default is inspect.Parameter.empty else parameter.default
        for name, parameter in inspect.signature(cls).parameters.items()
    }


def _requires(cls: type[Strategy]) -> tuple[str, ...] | None:
    try:
        return cls().requires
    except Exception:  # a parameter without a default, or somebody else's code
        return next((vars(c)["requires"] for c in cls.__mro__[:-1] if _states(c)), None)


def _states(cls: type) -> bool:
    return cls is not Strategy and isinstance(vars(cls).get("requires"), tuple)
