"""Conformance checks for a strategy of your own: what a run expects, checked in a second.

Needs no pytest::

    from activeselect.testing import check_strategy

    def test_my_strategy():
        check_strategy(MyStrategy(threshold=0.5))
"""

from __future__ import annotations

import pickle
from collections.abc import Callable

from activeselect.selection.strategy import Strategy
from activeselect.testing.checks import CHECKS, ask
from activeselect.testing.worlds import (
    BUDGET,
    SIZE,
    World,
    acquiring,
    preferring,
    reweighting,
    worlds,
)

__all__ = [
    "BUDGET",
    "CHECKS",
    "SIZE",
    "World",
    "acquiring",
    "ask",
    "check_strategy",
    "preferring",
    "reweighting",
    "worlds",
]


def check_strategy(strategy: Strategy | Callable[[], Strategy]) -> None:
    """Hold a strategy to everything that a run expects of it.

    In some twenty situations (all scores missing, equal or tied, one example, one group, nothing
    trained yet, ...) and in both modes: unique candidates, at most the budget, finite weights of
    at least 0; the same for the same seed; inputs unchanged; pickled or resumed it goes on alike;
    it has a card; and its weights favour what ``favours`` says.

    Args:
        strategy: an instance, or a function (the class itself, if its parameters have defaults)
            that builds one.

    Raises:
        AssertionError: naming the promise that is broken, and the situation.

    Example:
        >>> from activeselect.selection.registry import create
        >>> check_strategy(create({"name": "premem", "threshold": 0.5}))
    """
    build = _copies_of(strategy) if isinstance(strategy, Strategy) else strategy
    for check in CHECKS:
        check(build)


def _copies_of(strategy: Strategy) -> Callable[[], Strategy]:
    try:
        frozen = pickle.dumps(strategy)
    except Exception as error:  # somebody else's code may raise anything
        name = strategy.name
        raise AssertionError(f"strategy '{name}' cannot be pickled ({error})") from error

    def build() -> Strategy:
        copy: Strategy = pickle.loads(frozen)
        return copy

    return build
