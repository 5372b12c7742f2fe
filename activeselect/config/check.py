"""One sentence for every setting that is out of its range."""

from __future__ import annotations

from typing import Any

from activeselect.errors import ConfigError


def require(holds: bool, name: str, expected: str, received: Any) -> None:
    if not holds:
        raise ConfigError(f"{name}: expected {expected}; received {received!r}.")
