"""Command lines of the scripts in this folder, spoken as the product speaks."""

from __future__ import annotations

import sys
from collections.abc import Callable
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
        auto_cli(components, as_positional=False)
    except ActiveSelectError as error:
        print(error, file=sys.stderr)
        raise SystemExit(2) from None
