"""The interface of a selection strategy, and what a strategy is shown.

A strategy sees arrays and returns arrays. The same call serves both modes of a run:

- *reweight*: the candidates are the train set itself; the weights become sampler weights;
- *acquire*: the candidates are problems outside the train set; the indices join the train set.

A strategy imports all that it needs from here.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np

from activeselect.arrays import FloatArray as FloatArray
from activeselect.arrays import IntArray as IntArray
from activeselect.errors import StrategyError as StrategyError
from activeselect.selection.context import Neighbourhood as Neighbourhood
from activeselect.selection.context import Selection as Selection
from activeselect.selection.context import SelectionContext as SelectionContext
from activeselect.selection.draw import choose as choose
from activeselect.selection.draw import draw as draw
from activeselect.selection.draw import draw_best as draw_best
from activeselect.selection.draw import draw_quota as draw_quota
from activeselect.selection.draw import draw_top as draw_top
from activeselect.selection.draw import ranks as ranks
from activeselect.selection.draw import weighted_choice as weighted_choice
from activeselect.selection.vectors import leaves as leaves
from activeselect.selection.vectors import unit as unit

# --- Checks of parameters


def expect_share(*, zero: bool = False, **values: Any) -> None:
    """Each value is a number in (0, 1], or in [0, 1] with ``zero``.

    Raises:
        ValueError: naming the first that is not.

    Example:
        >>> expect_share(keep=2)
        Traceback (most recent call last):
        ...
        ValueError: keep: expected a share in (0, 1]; received 2
    """
    for name, value in values.items():
        if not (_is_number(value) and (value >= 0 if zero else value > 0) and value <= 1):
            raise ValueError(
                f"{name}: expected a share in {'[' if zero else '('}0, 1]; received {value!r}"
            )


def expect_positive(*, zero: bool = False, **values: Any) -> None:
    """Each value is a finite number above 0, or at least 0 with ``zero``.

    Raises:
        ValueError: naming the first that is not.
    """
    for name, value in values.items():
        if not (_is_number(value) and (value >= 0 if zero else value > 0) and value < float("inf")):
            wanted = "of at least 0" if zero else "above 0"
            raise ValueError(f"{name}: expected a number {wanted}; received {value!r}")


def expect_count(least: int = 1, **values: Any) -> None:
    """Each value is a whole number of at least ``least``.

    Raises:
        ValueError: naming the first that is not.
    """
    for name, value in values.items():
        if not isinstance(value, Integral) or isinstance(value, bool) or value < least:
            raise ValueError(
                f"{name}: expected a whole number of at least {least}; received {value!r}"
            )


def expect_one_of(known: Sequence[str], **values: Any) -> None:
    """Each value is one of ``known``.

    Raises:
        ValueError: naming the first that is not.
    """
    for name, value in values.items():
        if value not in known:
            raise ValueError(f"{name}: expected one of {', '.join(known)}; received {value!r}")


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


class Strategy(ABC):
    """Turns measured signals into the next selection.

    A subclass lives in a file of its own, stores its parameters unchanged in ``__init__`` and
    carries a card in its docstring: what it prefers, when it helps, when it hurts, what it
    costs, where it comes from.

    Attributes:
        name: what configs call it.
        requires: signals that it reads (``activeselect.scoring.signals``); the run measures
            these and no others. May be set per instance, where parameters decide.
        citation: where it comes from.
        favours: signal -> ``high``, ``low`` or ``middle``: which values get more weight, all else
            equal. The conformance suite holds the strategy to it.
        reference: path of a reference model, for the signal ``reference_loss``.
        knows_groups: whether it is shown the data's own groups where ``data.groups`` hides them or
            ``rounds.regions`` replaces them: for references such as the oracle.
        needs_target: whether it cannot choose without target questions (``data.target``). May be
            set per instance.

    Example:
        >>> class HighLoss(Strategy):
        ...     '''Prefer examples whose reference trace the model finds unlikely.'''
        ...
        ...     name = "high-loss"
        ...     requires = ("loss",)
        ...
        ...     def select(self, context, budget, rng):
        ...         return draw(context, context.carry(ranks(context.latest("loss"))), budget, rng)
        >>> HighLoss().requires
        ('loss',)
    """

    name: ClassVar[str]
    requires: tuple[str, ...] = ()
    citation: ClassVar[str] = ""
    favours: Mapping[str, str] = MappingProxyType({})
    reference: str | None = None
    knows_groups: ClassVar[bool] = False
    needs_target: bool = False

    @abstractmethod
    def select(self, context: SelectionContext, budget: int, rng: np.random.Generator) -> Selection:
        """Choose at most ``budget`` of ``context.candidates``, at random by ``rng`` alone."""

    def probe(self, context: SelectionContext, budget: int, rng: np.random.Generator) -> Selection:
        """The part of an acquisition that the current model answers before the rest is chosen.

        Asked only of strategies that require ``prequential``. What is returned (part of the
        budget) joins the train set; :meth:`select` then sees its measurements and chooses the
        rest. Default: nothing.
        """
        return Selection.of([])

    def weigh(self, context: SelectionContext, rng: np.random.Generator) -> Selection | None:
        """How strongly each train example is trained on, in a run that acquires.

        Asked after each scored round, and before a stage that follows others; ``context`` shows
        the train set as candidates, as when reweighting. What is left out stays in the train set
        (it was bought) and is not trained on until a later answer brings it back. Default: None,
        all alike.
        """
        return None

    @property
    def weighs(self) -> bool:
        """Whether it has such weights: whether :meth:`weigh` is its own."""
        return type(self).weigh is not Strategy.weigh

    def state_dict(self) -> dict[str, Any]:
        """State carried between rounds beyond the parameters; plain numbers, lists and strings."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned."""
        if state:
            raise StrategyError(f"Strategy '{self.name}' has a state but no load_state_dict.")
