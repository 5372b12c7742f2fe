"""Settings of when a run scores and selects."""

from __future__ import annotations

from dataclasses import dataclass

from activeselect.errors import ConfigError, did_you_mean, require, require_finite

MODES = ("acquire", "reweight")
NEAR = ("auto", "group", "text", "embedding", "regression")


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
        score_last: score after the last choice, too: when acquiring the last stage, which is the
            largest, when reweighting the last epoch. What it measures is for the record, the report
            and the forecast.
        restart: start every stage from the base model (as the paper does), or continue.
        near: what a candidate is judged by that was never scored itself: the scored examples of
            its ``group``, those of the most similar ``text`` or ``embedding``, or a ``regression``
            on its text; ``auto``: whichever predicts held-out scores best, or none of them.
        short_stages: when acquiring, stop each stage but the last as soon as all is measured that
            the next choice needs (after ``score_until``), and do not test it. The choices are the
            same; only what a study wants to know of the smaller train sets is missing.
        evaluate_every: when reweighting, test the model every so many epochs (0.5: twice in each)
            besides at the end.
        samples: when reweighting in a study, numbers of training samples, each the length of a fit
            of its own with its own schedule; default: one fit of ``recipe.epochs``.
        regions: replace the pool's groups by that many clusters of its questions, for strategies
            that think in groups.

    Raises:
        ConfigError: if a setting is out of its range.

    Example:
        >>> RoundsConfig(budgets=(100, 200), score_every=2).mode
        'acquire'
    """

    mode: str = "acquire"
    budgets: tuple[int, ...] = ()
    score_every: int = 1
    score_until: int | None = None
    score_last: bool = True
    restart: bool = True
    short_stages: bool = False
    evaluate_every: float | None = None
    samples: tuple[int, ...] = ()
    near: str = "auto"
    regions: int | None = None

    def __post_init__(self) -> None:
        require_finite("rounds.", self)
        for name in ("budgets", "samples"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
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
            require(
                self.restart or not self.short_stages,
                "rounds.short_stages",
                "false with rounds.restart=false, where each stage continues the one before",
                self.short_stages,
            )
            for name in ("evaluate_every", "samples"):
                value = getattr(self, name)
                require(not value, f"rounds.{name}", "nothing with rounds.mode=acquire", value)
        else:
            self._check_reweight()

    def _check_reweight(self) -> None:
        require(len(self.budgets) <= 1, "rounds.budgets", "at most one size", list(self.budgets))
        require(
            not self.short_stages,
            "rounds.short_stages",
            "false with rounds.mode=reweight, which has one stage",
            self.short_stages,
        )
        every = self.evaluate_every
        require(every is None or every > 0, "rounds.evaluate_every", "above 0 epochs", every)
        require(
            list(self.samples) == sorted(set(self.samples)),
            "rounds.samples",
            "ascending numbers of training samples",
            list(self.samples),
        )
        size = self.budgets[0] if self.budgets else 0
        require(
            not self.samples or (size > 0 and all(n > 0 and n % size == 0 for n in self.samples)),
            "rounds.samples",
            "whole passes over the train set: multiples of the one size in rounds.budgets "
            f"({size or 'which names none'})",
            list(self.samples),
        )

    def last_scored(self, stage: int, epochs: int) -> int:
        """Epoch of a stage after which nothing is scored; 0: it is not scored at all.

        Example:
            >>> rounds = RoundsConfig(budgets=(10, 20), score_last=False)
            >>> [rounds.last_scored(stage, epochs=6) for stage in (0, 1)]
            [6, 0]
            >>> RoundsConfig(mode="reweight", score_last=False).last_scored(0, epochs=6)
            5
        """
        until = min(self.score_until or epochs, epochs)
        if self.score_last:
            return until
        if self.mode == "reweight":
            return min(until, epochs - 1)
        return 0 if stage + 1 == len(self.budgets) else until


# --- Scoring settings


POLICIES = ("exact", "skip-memorized")


@dataclass(frozen=True)
class ScoringConfig:
    """How train examples are measured after a round.

    Args:
        samples, temperature, top_p, max_new_tokens: the sampled completions.
        policy: which examples are sampled: ``exact`` (all, ``samples`` times) or
            ``skip-memorized`` (not those whose trace is memorized; they keep their best accuracy).
        tau: memorization threshold in nats per token (0.100 on GSM8K, 0.183 on MATH in the paper).
        limit: score at most that many train examples, the same random ones in every round.
        candidates: before an acquisition, score that many random candidates themselves (0: they
            are judged by the scored examples near them).
        entropy_share: share of the trace's tokens that the signal ``hes`` sums over.
        gradient_dim: numbers that a projected gradient has.
        gradient_modules: parts of names of the parameters that it is taken of; default: those of
            the adapter (LoRA) where there is one, else all that are trained.
        batch_tokens: tokens per batch, padding included, in scoring and evaluation.
        keep_completions: completions stored per example (for reading; 0 = none).
        largest_gap: mean difference, in nats per token, up to which the sampler and the model in
            training may disagree on sampled tokens; default: 0.02, or 0.2 in 16 bits.

    Raises:
        ConfigError: if a setting is out of its range.

    Example:
        >>> ScoringConfig(samples=4, tau=0.183).policy
        'exact'
    """

    samples: int = 5
    temperature: float = 0.8
    top_p: float = 0.95
    max_new_tokens: int = 512
    policy: str = "exact"
    tau: float = 0.1
    limit: int | None = None
    candidates: int = 0
    entropy_share: float = 0.005
    gradient_dim: int = 1024
    gradient_modules: tuple[str, ...] = ()
    batch_tokens: int = 16_384
    keep_completions: int = 1
    largest_gap: float | None = None

    def __post_init__(self) -> None:
        require_finite("scoring.", self)
        object.__setattr__(self, "gradient_modules", tuple(self.gradient_modules))
        require(
            self.largest_gap is None or self.largest_gap > 0,
            "scoring.largest_gap",
            "above 0 nats per token",
            self.largest_gap,
        )
        self._check_policy()
        require(self.samples >= 1, "scoring.samples", "at least 1", self.samples)
        require(self.temperature > 0, "scoring.temperature", "above 0", self.temperature)
        require(0 < self.top_p <= 1, "scoring.top_p", "a share in (0, 1]", self.top_p)
        require(
            self.max_new_tokens >= 1, "scoring.max_new_tokens", "at least 1", self.max_new_tokens
        )
        require(self.tau >= 0, "scoring.tau", "at least 0 nats per token", self.tau)
        require(self.limit is None or self.limit > 0, "scoring.limit", "above 0", self.limit)
        require(self.candidates >= 0, "scoring.candidates", "at least 0", self.candidates)
        require(
            0 < self.entropy_share <= 1, "scoring.entropy_share", "in (0, 1]", self.entropy_share
        )
        require(self.gradient_dim >= 1, "scoring.gradient_dim", "at least 1", self.gradient_dim)
        require(self.batch_tokens >= 1, "scoring.batch_tokens", "at least 1", self.batch_tokens)
        require(
            0 <= self.keep_completions <= self.samples,
            "scoring.keep_completions",
            f"between 0 and scoring.samples = {self.samples}",
            self.keep_completions,
        )

    def _check_policy(self) -> None:
        if self.policy == "adaptive":
            raise ConfigError(
                "scoring.policy: 'adaptive' is gone: it did not halve the scoring time "
                "(docs/research/log.md). Use 'exact' or 'skip-memorized'."
            )
        if self.policy not in POLICIES:
            raise ConfigError(
                f"scoring.policy: there is no sampling policy {self.policy!r}. "
                f"{did_you_mean(str(self.policy), POLICIES)}"
            )
        require(
            self.policy != "skip-memorized" or self.tau > 0,
            "scoring.tau",
            "above 0 with scoring.policy=skip-memorized (at 0 nothing counts as memorized)",
            self.tau,
        )
