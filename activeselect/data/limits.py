"""Limits of time, on any thread, and of memory, for code that comes with data or a model.

``signal.alarm`` works on the main thread only, and a thread that waits cannot be ended; so the
exception is put into the thread that works, which CPython does between two of its instructions.
"""

from __future__ import annotations

import ctypes
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

_BETWEEN_LOOKS = 0.2  # seconds


class _Watchdog:
    """One thread for all limits of a process: a thread for each would cost more than the work."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ends: dict[int, float] = {}  # thread -> when its time is over
        threading.Thread(target=self._watch, daemon=True).start()

    def begin(self, seconds: float) -> None:
        with self._lock:
            self._ends[threading.get_ident()] = time.monotonic() + seconds

    def end(self) -> bool:
        """Whether the block ended in time; if not, the exception is under way."""
        with self._lock:
            return self._ends.pop(threading.get_ident(), None) is not None

    def _watch(self) -> None:
        while True:
            time.sleep(_BETWEEN_LOOKS)
            with self._lock:
                now = time.monotonic()
                for thread in [thread for thread, end in self._ends.items() if end < now]:
                    del self._ends[thread]
                    ctypes.pythonapi.PyThreadState_SetAsyncExc(
                        ctypes.c_ulong(thread), ctypes.py_object(TimeoutError)
                    )


@cache
def _watchdog() -> _Watchdog:
    return _Watchdog()


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Stop Python code that takes longer; a single call into C is not interrupted.

    Raises:
        TimeoutError: if the block takes longer.

    Example:
        >>> with time_limit(0.2):
        ...     while True:
        ...         pass
        Traceback (most recent call last):
        ...
        TimeoutError
    """
    watchdog = _watchdog()
    watchdog.begin(seconds)
    try:
        yield
    except TimeoutError:
        watchdog.end()
        raise
    except BaseException:
        if not watchdog.end():
            _wait()
        raise
    if not watchdog.end():
        _wait()


@contextmanager
def memory_limit(extra: int) -> Iterator[None]:
    """Let this process ask for at most ``extra`` bytes more than it holds at present.

    The kernel holds the limit, so that a single call into C meets it too. Other threads meet it as
    well: keep the block short. Without effect where the system has no ``/proc`` or no such limit.

    Raises:
        MemoryError: if the block asks for more.

    Example:
        >>> with memory_limit(2**30):
        ...     "a" * 2**40
        Traceback (most recent call last):
        ...
        MemoryError
    """
    held = _address_space()
    if held is None:
        yield
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    wanted = held + extra
    given = [limit for limit in (soft, hard) if limit != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_AS, (min([wanted, *given]), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def _address_space() -> int | None:
    """Bytes of address space that this process holds; None where it cannot be told."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    except (OSError, ValueError):
        return None
    return pages * os.sysconf("SC_PAGE_SIZE")


def _wait() -> None:
    """Let the exception come that is under way; without this it would come anywhere later."""
    while True:
        time.sleep(0.01)
