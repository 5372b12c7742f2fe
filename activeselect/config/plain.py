"""Settings as plain numbers, strings and lists: written, read, hashed and compared."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, fields, is_dataclass
from typing import Any, TypeVar, get_args, get_type_hints

from activeselect.config.run import RunConfig
from activeselect.errors import ConfigError, did_you_mean

Config = TypeVar("Config")

#: Settings that change where a run computes and what it keeps, not what it computes.
_INCIDENTAL = ("forecast", "save_model")
#: And of what it computes, no more than rounding: these may be others when a run is continued.
HARDWARE = (
    "accelerator",
    "devices",
    "num_nodes",
    "parallel",
    "rank_timeout",
    "checkpoint_every_steps",
)


def to_plain(config: Any) -> dict[str, Any]:
    """A config as JSON-ready dicts, lists, numbers and strings."""
    plain: dict[str, Any] = json.loads(json.dumps(asdict(config)))
    return plain


def from_plain(kind: type[Config], plain: Mapping[str, Any]) -> Config:
    """The config that :func:`to_plain` made plain; settings it does not know are left out.

    Example:
        >>> from_plain(RunConfig, to_plain(RunConfig(seed=3))) == RunConfig(seed=3)
        True
    """
    types = get_type_hints(kind)
    values = {}
    known = [field.name for field in fields(kind)]  # type: ignore[arg-type]
    for name in (name for name in known if name in plain):
        value = plain[name]
        parts: list[Any] = [t for t in (types[name], *get_args(types[name])) if is_dataclass(t)]
        if parts and isinstance(value, Mapping):
            value = from_plain(parts[0], value)
        elif parts and isinstance(value, list):
            value = tuple(from_plain(parts[0], item) for item in value)
        values[name] = value
    return kind(**values)


def settings_from(kind: type[Config], section: str, given: Config | Mapping[str, Any]) -> Config:
    """A config as it is, or made of a mapping of its settings.

    Args:
        kind: class of the config.
        section: what the settings are called in an error.
        given: the config, or a mapping as in a YAML file.

    Raises:
        ConfigError: if there is no such setting, or a value is out of its range.

    Example:
        >>> from activeselect.config import ScoringConfig
        >>> settings_from(ScoringConfig, "scoring", {"samples": 2}).samples
        2
    """
    if isinstance(given, kind):
        return given
    if not isinstance(given, Mapping):
        raise ConfigError(
            f"{section}: expected {kind.__name__} or a mapping of its settings; received "
            f"{type(given).__name__}."
        )
    known = [field.name for field in fields(kind)]  # type: ignore[arg-type]
    for name in given:
        if name not in known:
            raise ConfigError(
                f"There is no setting '{section}.{name}'. {did_you_mean(str(name), known)}"
            )
    try:
        return from_plain(kind, given)
    except TypeError as error:  # a text where a number belongs
        raise ConfigError(f"{section}: {error}.") from error


def config_hash(plain: Mapping[str, Any]) -> str:
    """Content hash of a plain config; equal settings give equal hashes."""
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:16]


def settings_of_scores(config: RunConfig) -> dict[str, Any]:
    """The plain settings that decide what a run's scores are."""
    plain = to_plain(config)
    for name in ("name", "target", "target_limit"):  # these decide no score
        plain["data"].pop(name)  # earlier versions had none of them
    return {name: value for name, value in plain.items() if name not in _INCIDENTAL + HARDWARE}


def changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """What differs between the settings of a run and those it is continued with, hardware aside."""
    other = dict.fromkeys(HARDWARE)
    return differences({**old, **other}, {**new, **other})


def differences(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> list[str]:
    """What differs between two plain configs, one ``name: old -> new`` per setting.

    Example:
        >>> differences({"seed": 0, "data": {"limit": 5}}, {"seed": 0, "data": {"limit": 6}})
        ['data.limit: 5 -> 6']
    """
    found: list[str] = []
    for key in sorted(old.keys() | new.keys()):
        before, after = old.get(key), new.get(key)
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            found += differences(before, after, f"{prefix}{key}.")
        elif before != after:
            found.append(f"{prefix}{key}: {before} -> {after}")
    return found
