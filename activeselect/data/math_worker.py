"""A process that compares mathematical answers, one JSON line in, one JSON line out.

It exists because a comparison can run forever (``9^{9^{9^9}}``), and math-verify's own limit uses
``signal.alarm``, which works on the main thread of a process only. Here a comparison that takes
too long ends the whole process, by a watchdog that needs neither the main thread nor the parent,
and :mod:`activeselect.data.math_answers` starts another.
"""

from __future__ import annotations

import contextlib
import faulthandler
import json
import logging
import signal
import sys

_MEMORY = 2 * 2**30  # bytes of address space beyond which sympy gets a MemoryError


def same_value(given: str, reference: str) -> bool:
    """Whether math-verify finds the two LaTeX answers equal; runs without a time limit."""
    from math_verify import parse, verify

    parsed = [parse(f"\\boxed{{{text}}}", parsing_timeout=None) for text in (reference, given)]
    return bool(verify(*parsed, timeout_seconds=None))


def _limit_memory() -> None:
    # ImportError: not on this platform. ValueError, OSError: a lower limit is already in force.
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))


def main() -> None:
    """Answer requests from standard input until it is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent; its end closes stdin
    logging.disable(logging.WARNING)  # math-verify warns at each call that its timeout is off
    same_value("1", "1")  # import everything before the clock of the first answer starts
    _limit_memory()
    print("ready", flush=True)
    for line in sys.stdin:
        given, reference, seconds = json.loads(line)
        faulthandler.dump_traceback_later(seconds, exit=True)
        try:
            result = same_value(given, reference)
        except MemoryError:
            sys.exit(1)
        except Exception:  # whatever sympy cannot digest is no match
            result = False
        faulthandler.cancel_dump_traceback_later()
        print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
