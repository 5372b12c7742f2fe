"""Difficulty that follows the model: AdaRFT."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from activeselect.selection.strategy import (
    Selection,
    SelectionContext,
    Strategy,
    draw_best,
    expect_one_of,
    expect_positive,
    expect_share,
    ranks,
)


class TargetDifficulty(Strategy):
    """Prefer examples near a target difficulty, which rises as the model succeeds.

    Prefers: difficulty close to a target T in [0, 1]. Before each selection T moves by
        step * tanh(sensitivity * (mean accuracy of the train set - goal)), the paper's rule on a
        scale of 1 instead of 100. The paper updates after every batch of reinforcement learning,
        from T = 0, with difficulties measured beforehand by another model; a run here selects a
        few times, so that T starts in the middle, and by default the difficulty of an example is
        its share of wrong answers now.
    Helps: where difficulty is spread wide and the model moves through it.
    Hurts: with accuracies of memorized answers T runs off to the hardest; with wrong answers, which
        are hard for ever.
    Costs: sampled completions of the train examples in every round.
    Source: Shi et al., AdaRFT, arXiv 2504.05520.

    Args:
        by: what difficulty is: ``accuracy`` (1 - accuracy), ``difficulty`` (the data's column) or
            ``length`` (of the trace); the last two by rank, since they have scales of their own.
        start: first target, in [0, 1].
        goal: mean accuracy at which the target stays, in [0, 1].
        step: largest move of the target, at least 0.
        sensitivity: how sharply it answers to the distance from the goal, at least 0.
        keep: share of the train set that counts as the best, in (0, 1]: a reweighting run goes on
            with it, an acquiring one looks for more like it.
    """

    name: ClassVar[str] = "target-difficulty"
    citation: ClassVar[str] = "arXiv:2504.05520"

    def __init__(
        self,
        by: str = "accuracy",
        start: float = 0.5,
        goal: float = 0.5,
        step: float = 0.5,
        sensitivity: float = 2.0,
        keep: float = 0.5,
    ) -> None:
        expect_one_of(("accuracy", "difficulty", "length"), by=by)
        expect_share(start=start, goal=goal, zero=True)
        expect_positive(step=step, sensitivity=sensitivity, zero=True)
        expect_share(keep=keep)
        self.by, self.start, self.goal = by, start, goal
        self.step, self.sensitivity, self.keep = step, sensitivity, keep
        self.requires = tuple(dict.fromkeys(("accuracy", by)))
        self.favours = {by: "middle"} if start == goal == 0.5 else {}
        self.target = float(start)

    def select(self, context: SelectionContext, budget: int, rng: np.random.Generator) -> Selection:
        accuracy = context.latest("accuracy")
        known = accuracy[context.train][~np.isnan(accuracy[context.train])]
        if len(known):
            move = self.step * np.tanh(self.sensitivity * (known.mean() - self.goal))
            self.target = float(min(max(self.target + move, 0.0), 1.0))
        hard = 1 - accuracy if self.by == "accuracy" else ranks(context.latest(self.by))
        near = -abs(hard - self.target)
        return draw_best(context, near, budget, rng, keep=self.keep)

    def state_dict(self) -> dict[str, float]:
        return {"target": self.target}

    def load_state_dict(self, state: dict[str, float]) -> None:
        self.target = state.get("target", float(self.start))
