"""Registry of strategies: built-in files, installed entry points, classes in a user's file."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import pkgutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from activeselect.errors import ActiveSelectError, ConfigError, StrategyError, did_you_mean
from activeselect.scoring.signals import relative_cost
from activeselect.selection.strategy import Strategy

ENTRY_POINT_GROUP = "activeselect.strategies"

#: Strategies made of others; imported late, since they build their parts with this module.
_COMPOSITIONS = "activeselect.selection.compose"

#: A strategy in a config: a name, or a mapping with `name` (or `class_path`) and parameters.
StrategySpec = str | Mapping[str, Any]


@cache
def strategies() -> dict[str, type[Strategy]]:
    """All strategies by name: the built-in ones and those that installed packages register.

    Raises:
        StrategyError: if two strategies share a name, or an entry point is no Strategy.
    """
    package = importlib.import_module("activeselect.strategies")
    files = pkgutil.iter_modules(package.__path__, package.__name__ + ".")
    found: dict[str, type[Strategy]] = {}
    for name in [*(file.name for file in files), _COMPOSITIONS]:
        for cls in vars(importlib.import_module(name)).values():
            if _is_strategy(cls) and cls.__module__ == name:
                _add(found, _checked(cls, f"{name}.{cls.__name__}"))
    for entry in entry_points(group=ENTRY_POINT_GROUP):
        try:
            cls = entry.load()
        except Exception as error:  # somebody else's code: whatever it raises, say whose it is
            raise StrategyError(
                f"The installed strategy '{entry.name}' ({entry.value}) cannot be loaded "
                f"({type(error).__name__}: {error}); repair or uninstall its package."
            ) from error
        _add(found, _checked(cls, entry.value))
    return dict(sorted(found.items()))


def create(spec: StrategySpec | Strategy) -> Strategy:
    """Build a strategy from a config value.

    Args:
        spec: ``premem``; ``{name: premem, threshold: 0.5}``; or ``{class_path: CLASS, ...}`` where
            CLASS is ``package.module.Class`` or ``path/to/file.py:Class`` (this runs that code).

    Raises:
        StrategyError: if the name, the class or a parameter is unknown, or a value is refused.

    Example:
        >>> create({"name": "premem", "threshold": 0.5}).threshold
        0.5
    """
    if isinstance(spec, Strategy):
        return spec
    params = {"name": spec} if isinstance(spec, str) else dict(spec)
    cls = _find_class(params)
    known = inspect.signature(cls).parameters
    takes_any = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in known.values())
    for key in params:
        if key not in known and not takes_any:
            raise StrategyError(
                f"Strategy '{cls.name}' has no parameter '{key}'. {did_you_mean(key, known)}"
                if known
                else f"Strategy '{cls.name}' takes no parameters; received '{key}'."
            )
    try:
        return cls(**params)
    except (TypeError, ValueError) as error:
        raise StrategyError(f"Strategy '{cls.name}': {error}.") from error


def check_target(strategy: Strategy, *, given: bool) -> None:
    """Refuse a strategy that cannot choose without target questions where there are none.

    Raises:
        ConfigError: if it needs them.
    """
    if strategy.needs_target and not given:
        raise ConfigError(
            f"strategy: '{strategy.name}' needs target questions, a few like those that the model "
            "will be asked; received none. Name a file of them in data.target (of a built-in "
            "preset: data.target=preset), or choose another strategy."
        )


def _find_class(params: dict[str, Any]) -> type[Strategy]:
    if "class_path" in params:
        path = params.pop("class_path")
        params.update(params.pop("init_args", None) or {})
        return _import_class(str(path))
    if "name" not in params:
        raise StrategyError(f"A strategy needs a `name` or a `class_path`; received {params}.")
    name = str(params.pop("name"))
    known = strategies()
    if name in known:
        return known[name]
    if ":" in name or "." in name:
        return _import_class(name)
    raise StrategyError(f"There is no strategy '{name}'. {did_you_mean(name, known)}")


def _import_class(path: str) -> type[Strategy]:
    location, _, class_name = path.rpartition(":") if ":" in path else path.rpartition(".")
    try:
        module = (
            _load_file(Path(location))
            if location.endswith(".py")
            else importlib.import_module(location)
        )
        cls = getattr(module, class_name)
    except ActiveSelectError:
        raise
    except Exception as error:  # the user's code may raise anything
        raise StrategyError(
            f"Cannot load the strategy class '{path}' ({type(error).__name__}: {error}). "
            "Expected package.module.Class or path/to/file.py:Class."
        ) from error
    return _checked(cls, path)


def _load_file(path: Path) -> Any:
    if not path.is_file():
        raise StrategyError(f"There is no strategy file {path}.")
    # one module per file and content: dataclasses and pickle look the module up by its name
    digest = hashlib.sha256(str(path.resolve()).encode() + path.read_bytes()).hexdigest()[:12]
    name = f"activeselect_user_{path.stem}_{digest}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise StrategyError(f"{path} is no Python file.")
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _is_strategy(cls: Any) -> bool:
    return isinstance(cls, type) and issubclass(cls, Strategy) and not inspect.isabstract(cls)


def _checked(cls: Any, path: str) -> type[Strategy]:
    """The class itself, or what it lacks to be used as a strategy."""
    if not (isinstance(cls, type) and issubclass(cls, Strategy)):
        raise StrategyError(f"'{path}' is no subclass of activeselect.Strategy.")
    if inspect.isabstract(cls):
        missing = ", ".join(sorted(cls.__abstractmethods__))
        raise StrategyError(f"The strategy class '{path}' does not define {missing}.")
    if not isinstance(getattr(cls, "name", None), str):
        raise StrategyError(f"The strategy class '{path}' has no name; add `name = \"...\"` to it.")
    return cls


def _add(found: dict[str, type[Strategy]], cls: type[Strategy]) -> None:
    if found.get(cls.name, cls) is not cls:
        raise StrategyError(
            f"Two strategies are named '{cls.name}': {found[cls.name].__module__} and "
            f"{cls.__module__}; rename one."
        )
    found[cls.name] = cls


# --- Descriptions of strategies


@dataclass(frozen=True)
class Entry:
    """One strategy in the list of all.

    Attributes:
        requires: signals it reads with its default parameters; None = its parts or parameters
            decide.
        cost: passes of the model per scored example and round (a training step counts three);
            None = not known.
    """

    name: str
    summary: str
    requires: tuple[str, ...] | None
    cost: int | None


def describe(cls: type[Strategy], *, samples: int = 5) -> Entry:
    """The entry of a strategy class.

    Args:
        samples: completions per example that the cost counts with.

    Example:
        >>> from activeselect.selection.registry import strategies
        >>> describe(strategies()["premem"]).cost
        6
    """
    requires = _requires(cls)
    try:
        cost = None if requires is None else relative_cost(requires, samples=samples)
    except StrategyError:  # a signal that this version does not know
        cost = None
    summary = (inspect.getdoc(cls) or "").strip().partition("\n")[0]
    return Entry(cls.name, summary, requires, cost)


def parameters(cls: type[Strategy]) -> dict[str, Any]:
    """Parameters and their defaults; ``...`` where one has to be given."""
    return {
        name: ... if parameter.default is inspect.Parameter.empty else parameter.default
        for name, parameter in inspect.signature(cls).parameters.items()
    }


def _requires(cls: type[Strategy]) -> tuple[str, ...] | None:
    try:
        return cls().requires
    except Exception:  # a parameter without a default, or somebody else's code
        return next((vars(c)["requires"] for c in cls.__mro__[:-1] if _states(c)), None)


def _states(cls: type) -> bool:
    return cls is not Strategy and isinstance(vars(cls).get("requires"), tuple)
