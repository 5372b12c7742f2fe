"""The interface of a selection strategy, and what a strategy is shown.

A strategy sees arrays and returns arrays. The same call serves both modes of a run:

- *reweight*: the candidates are the train set itself; the weights become sampler weights;
- *acquire*: the candidates are problems outside the train set; the indices join the train set.

A strategy imports all that it needs from here.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np

from activeselect.errors import StrategyError as StrategyError
from activeselect.selection.context import FloatArray as FloatArray
from activeselect.selection.context import IntArray as IntArray
from activeselect.selection.context import Neighbourhood as Neighbourhood
from activeselect.selection.context import Selection as Selection
from activeselect.selection.context import SelectionContext as SelectionContext
from activeselect.selection.draw import weighted_choice as weighted_choice
from activeselect.selection.finish import choose as choose
from activeselect.selection.finish import draw as draw
from activeselect.selection.finish import draw_best as draw_best
from activeselect.selection.finish import draw_top as draw_top
from activeselect.selection.parameters import expect_count as expect_count
from activeselect.selection.parameters import expect_one_of as expect_one_of
from activeselect.selection.parameters import expect_positive as expect_positive
from activeselect.selection.parameters import expect_share as expect_share
from activeselect.selection.ranking import ranks as ranks
from activeselect.selection.vectors import leaves as leaves
from activeselect.selection.vectors import unit as unit


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
        decides_at: accuracy or premem at which its decision about an example turns, if only that
            matters: ``scoring.policy: adaptive`` then samples most where it is in doubt.
    """

    name: ClassVar[str]
    requires: tuple[str, ...] = ()
    citation: ClassVar[str] = ""
    favours: Mapping[str, str] = MappingProxyType({})
    reference: str | None = None
    decides_at: float | None = None

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

    def state_dict(self) -> dict[str, Any]:
        """State carried between rounds beyond the parameters; plain numbers, lists and strings."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned."""
        if state:
            raise StrategyError(f"Strategy '{self.name}' has a state but no load_state_dict.")
