"""Pace of a pass over examples: how many are done, tokens per second, and what is left."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Pace:
    """How far this process is in a pass.

    Args:
        done: examples that are measured.
        of: examples of the pass that are this process' share.
        share: of the work, which is counted in tokens, in [0, 1].
        tokens: generated so far.
        seconds: since the pass began.
    """

    done: int
    of: int
    share: float
    tokens: int
    seconds: float

    def __str__(self) -> str:
        """In words, without what is not known yet.

        Example:
            >>> str(Pace(120, 400, 0.25, 9000, 3.0))
            '120 of 400, 3,000 tokens/s, 9 s left'
            >>> str(Pace(0, 400, 0.0, 0, 0.0))
            '0 of 400'
        """
        words = [f"{self.done:,} of {self.of:,}"]
        if self.tokens and self.seconds:
            words.append(f"{self.tokens / self.seconds:,.0f} tokens/s")
        if 0 < self.share < 1:
            left = self.seconds * (1 - self.share) / self.share
            words.append(f"{left:.0f} s left" if left < 100 else f"{left / 60:.0f} min left")
        return ", ".join(words)


#: Told what is done ("scoring", "testing") and how far it is.
Tell = Callable[[str, Pace], None]


def unheard(doing: str, pace: Pace) -> None:
    """Nobody listens."""
