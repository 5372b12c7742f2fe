"""Seconds spent in named functions, on the processor and on the wall."""

from __future__ import annotations

import functools
import time
from collections import Counter
from collections.abc import Callable
from typing import Any


class Clock:
    """Adds up the time of the functions that it watches.

    Time is booked under the innermost watched name alone, so the parts are disjoint and add up.
    Needs the standard library only: it also runs in environments of other libraries.

    Example:
        >>> clock = Clock()
        >>> class Job:
        ...     def whole(self):
        ...         self.part()
        ...     def part(self):
        ...         sum(range(10_000))
        >>> clock.watch(Job, "whole", "outside")
        >>> clock.watch(Job, "part", "inside")
        >>> Job().whole()
        >>> sorted(clock.cpu), clock.cpu["inside"] >= 0
        (['inside', 'outside'], True)
    """

    def __init__(self) -> None:
        self.cpu: Counter[str] = Counter()
        self.wall: Counter[str] = Counter()
        self._open: list[str] = []
        self._last = (0.0, 0.0)
        self._replaced: list[tuple[Any, str, Any]] = []

    def watch(
        self, owner: Any, method: str, name: str, then: Callable[..., None] | None = None
    ) -> None:
        """Book the calls of ``owner.method`` under ``name``.

        Args:
            then: called with the result and the arguments after each call, on no one's bill.
        """
        inner = getattr(owner, method)

        @functools.wraps(inner)
        def watched(*args: Any, **kwargs: Any) -> Any:
            self._book()
            self._open.append(name)
            try:
                result = inner(*args, **kwargs)
            finally:
                self._book()
                self._open.pop()
            if then is not None:
                then(result, *args, **kwargs)
                self._last = (time.process_time(), time.perf_counter())
            return result

        self._replaced.append((owner, method, inner))
        setattr(owner, method, watched)

    def forget(self) -> None:
        """Put the watched functions back."""
        for owner, method, inner in reversed(self._replaced):
            setattr(owner, method, inner)
        self._replaced.clear()

    def _book(self) -> None:
        now = (time.process_time(), time.perf_counter())
        if self._open:
            self.cpu[self._open[-1]] += now[0] - self._last[0]
            self.wall[self._open[-1]] += now[1] - self._last[1]
        self._last = now
