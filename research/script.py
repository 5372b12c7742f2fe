"""Command lines of the scripts in this folder, spoken as the product speaks."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

from jsonargparse import auto_cli

from activeselect.errors import ActiveSelectError


def run_script(*functions: Callable[..., Any]) -> None:
    """Run a function, or one of several by its name, with the arguments of the command line.

    Raises:
        SystemExit: with code 2 and one sentence where the user's input is wrong.
    """
    components: Any = functions[0] if len(functions) == 1 else list(functions)
    try:
        auto_cli(components, as_positional=False, args=_spelled_out(sys.argv[1:]))
    except ActiveSelectError as error:
        print(error, file=sys.stderr)
        raise SystemExit(2) from None


def _spelled_out(words: Sequence[str]) -> list[str]:
    """``--json`` for ``--json true``: a flag without a value is switched on.

    Example:
        >>> _spelled_out(["--traces", "a", "--json", "--seed", "1"])
        ['--traces', 'a', '--json', 'true', '--seed', '1']
    """
    out: list[str] = []
    for word, following in pairwise([*words, "--"]):
        out.append(word)
        alone = following.startswith("--") and word.startswith("--") and "=" not in word
        if alone and word not in ("--help", "--print_shtab"):
            out.append("true")
    return out
