"""Answers in ``\\boxed{}``, compared by math-verify in a process of its own with a time limit."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import subprocess
import sys
import threading
import weakref
from typing import Any

from activeselect.data.answers import AnswerChecker, last_number
from activeselect.errors import ActiveSelectError

_log = logging.getLogger(__name__)
_BOX = re.compile(r"\\(?:boxed|fbox)\s*")
_PHRASE = re.compile(r"(?:[Aa]nswer|ANSWER)(?: is)?[ :]+([^\n]+)")
_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)
_TOKEN = re.compile(r"[^\s$.,{}\\]+")
_INTEGER = re.compile(r"-?[0-9]{1,40}", re.ASCII)


class MathChecker(AnswerChecker):
    """The answer is what the last ``\\boxed{}`` holds; ``\\frac12`` equals ``0.5``.

    Equal text and plain integers are decided here; everything else is sent to one worker process
    that runs math-verify. A comparison that takes longer than ``timeout`` counts as not equal, is
    logged, and is counted in ``undecided``. Works on any thread and after pickling.

    Args:
        timeout: seconds for one comparison.
        longest: characters; a longer answer equals the same text only.

    Example:
        >>> checker = MathChecker()
        >>> checker.extract("so it is $\\\\boxed{\\\\frac{1}{2}}$.")
        '\\\\frac{1}{2}'
        >>> checker.equal("7", " 7 ")
        True
    """

    name = "math"

    def __init__(self, *, timeout: float = 5.0, longest: int = 1000) -> None:
        self.timeout, self.longest = timeout, longest
        self.undecided = 0
        self._worker = _Worker()

    def extract(self, text: str) -> str | None:
        """The content of the last ``\\boxed{}`` of the text; None without one."""
        ends = _closing_braces(text)
        for match in reversed(list(_BOX.finditer(text))):
            if content := _argument(text, match.end(), ends):
                return content
        return None

    def extract_flexible(self, text: str) -> str | None:
        """The box, else what follows the last "answer is", else the last number."""
        if (boxed := self.extract(text)) is not None:
            return boxed
        phrases = _PHRASE.findall(text)
        stated = phrases[-1].replace("$", "").strip().rstrip(".") if phrases else ""
        return stated or last_number(text)

    def render(self, answer: str) -> str:
        """The answer in ``\\boxed{}``."""
        return f"\\boxed{{{answer}}}"

    def equal(self, given: str, reference: str) -> bool:
        """Equal as texts without spaces, else equal for math-verify within the time limit."""
        a, b = "".join(given.split()), "".join(reference.split())
        if a == b:
            return bool(a)
        if not a or not b or max(len(a), len(b)) > self.longest:
            return False
        if _INTEGER.fullmatch(a) and _INTEGER.fullmatch(b):
            return int(a) == int(b)
        result = self._worker.ask(given, reference, self.timeout)
        if result is None:
            self.undecided += 1
            _log.warning(
                f"Comparing {given[:60]!r} with {reference[:60]!r} took over {self.timeout:g} s or "
                f"too much memory; it counts as not equal ({self.undecided} so far)."
            )
        return bool(result)


def _argument(text: str, start: int, ends: dict[int, int]) -> str | None:
    """The braced group that begins at ``start``, or the single token of ``\\boxed 7``."""
    if start >= len(text):
        return None
    if text[start] != "{":
        token = _TOKEN.match(text, start)
        return token.group() if token else None
    end = ends.get(start)
    return None if end is None else text[start + 1 : end].strip() or None


def _closing_braces(text: str) -> dict[int, int]:
    """Where each braced group ends, by where it begins; groups never closed are left out.

    One walk for all groups: a walk for each box takes quadratic time where boxes are nested.
    """
    ends: dict[int, int] = {}
    opened: list[int] = []
    for brace in _BRACE.finditer(text):
        if brace.group() == "{":
            opened.append(brace.start())
        elif brace.group() == "}" and opened:
            ends[opened.pop()] = brace.start()
    return ends


class _Worker:
    """One worker process, started when first asked; an answer that takes too long ends it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._owner = 0

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def __setstate__(self, state: dict[str, Any]) -> None:
        _Worker.__init__(self)

    def ask(self, given: str, reference: str, timeout: float) -> bool | None:
        """The worker's verdict, or None if it did not come in time or the worker died."""
        with self._lock:
            process = self._running()
            answer = _exchange(process, json.dumps([given, reference, timeout]))
            if answer is None:
                _end(process)
                self._process = None
                return None
            return bool(json.loads(answer))

    def _running(self) -> subprocess.Popen[str]:
        # A forked child must not share the parent's pipes, so it starts a worker of its own.
        if self._process is None or self._process.poll() is not None or self._owner != os.getpid():
            self._process = _start()
            self._owner = os.getpid()
            weakref.finalize(self, _end, self._process)
        return self._process


def _start() -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "activeselect.data.math_worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        encoding="utf-8",
    )
    if _exchange(process, None) != "ready":
        _end(process)
        raise ActiveSelectError(
            "The process that compares mathematical answers did not start; "
            f"run `{sys.executable} -m activeselect.data.math_worker` to see why."
        )
    return process


def _exchange(process: subprocess.Popen[str], line: str | None) -> str | None:
    """Send a line and read one; None if the process ended instead of answering."""
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        if line is not None:
            process.stdin.write(line + "\n")
            process.stdin.flush()
        return process.stdout.readline().strip() or None
    except OSError:
        return None


def _end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with contextlib.suppress(OSError):
                pipe.close()
