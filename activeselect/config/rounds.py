"""Settings of when a run scores and selects."""

from __future__ import annotations

from dataclasses import dataclass

from activeselect.config.check import require

MODES = ("acquire", "reweight")
NEAR = ("auto", "group", "text", "embedding")


@dataclass(frozen=True)
class RoundsConfig:
    """When the run scores and selects.

    Args:
        mode: ``reweight`` (fixed train set, new sampler weights after each round, one fit) or
            ``acquire`` (the train set grows through ``budgets``, one stage of training each).
        budgets: train-set sizes of the stages, ascending; the first is drawn at random. When
            reweighting: at most one number, the size of the train set (default: the whole pool).
        score_every: epochs per round.
        score_until: no scoring after that epoch of a stage; default: up to the last one. A small
            model memorizes answers before wording, which the threshold on the likelihood cannot
            see; what it answers in the first epochs is then the better measure, and cheaper.
        score_last: when acquiring, score the last stage, too. Nothing is chosen after it, and it is
            the largest: what it measures is for the record, the report and the forecast.
        restart: start every stage from the base model (as the paper does), or continue.
        near: what a candidate is judged by that was never scored itself: the scored examples of
            its ``group``, or those of the most similar ``text`` or ``embedding``; ``auto``: by
            group where the pool has groups, else by text.
        regions: replace the pool's groups by that many clusters of its questions, for strategies
            that think in groups.
    """

    mode: str = "acquire"
    budgets: tuple[int, ...] = ()
    score_every: int = 1
    score_until: int | None = None
    score_last: bool = True
    restart: bool = True
    near: str = "auto"
    regions: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "budgets", tuple(self.budgets))
        require(self.near in NEAR, "rounds.near", f"one of {NEAR}", self.near)
        require(
            self.regions is None or self.regions >= 2, "rounds.regions", "at least 2", self.regions
        )
        require(self.mode in MODES, "rounds.mode", f"one of {MODES}", self.mode)
        require(self.score_every >= 1, "rounds.score_every", "at least 1 epoch", self.score_every)
        require(
            self.score_until is None or self.score_until >= self.score_every,
            "rounds.score_until",
            f"at least rounds.score_every = {self.score_every}",
            self.score_until,
        )
        require(
            all(budget > 0 for budget in self.budgets),
            "rounds.budgets",
            "positive numbers of examples",
            list(self.budgets),
        )
        if self.mode == "acquire":
            ascending = list(self.budgets) == sorted(set(self.budgets)) and self.budgets
            require(
                bool(ascending), "rounds.budgets", "ascending train-set sizes", list(self.budgets)
            )
        else:
            require(
                len(self.budgets) <= 1, "rounds.budgets", "at most one size", list(self.budgets)
            )

    def last_scored(self, stage: int, epochs: int) -> int:
        """Epoch of a stage after which nothing is scored; 0: it is not scored at all.

        Example:
            >>> rounds = RoundsConfig(budgets=(10, 20), score_last=False)
            >>> [rounds.last_scored(stage, epochs=6) for stage in (0, 1)]
            [6, 0]
        """
        if self.mode == "acquire" and not self.score_last and stage + 1 == len(self.budgets):
            return 0
        return min(self.score_until or epochs, epochs)
