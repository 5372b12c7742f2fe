"""Finds strategies: built-in files, installed entry points, or a class in the user's own file."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import pkgutil
from collections.abc import Mapping
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from activeselect.errors import ActiveSelectError, StrategyError, did_you_mean
from activeselect.selection.strategy import Strategy

ENTRY_POINT_GROUP = "activeselect.strategies"

#: A strategy in a config: a name, or a mapping with `name` (or `class_path`) and parameters.
StrategySpec = str | Mapping[str, Any]


@cache
def strategies() -> dict[str, type[Strategy]]:
    """All strategies by name: the built-in ones and those that installed packages register.

    Raises:
        StrategyError: if two strategies share a name, or an entry point is no Strategy.
    """
    package = importlib.import_module("activeselect.strategies")
    found: dict[str, type[Strategy]] = {}
    for info in pkgutil.iter_modules(package.__path__, package.__name__ + "."):
        module = importlib.import_module(info.name)
        for cls in vars(module).values():
            if _is_strategy(cls) and cls.__module__ == info.name:
                _add(found, cls)
    for entry in entry_points(group=ENTRY_POINT_GROUP):
        cls = entry.load()
        if not _is_strategy(cls):
            raise StrategyError(f"Entry point '{entry.value}' is no subclass of Strategy.")
        _add(found, cls)
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
    for key in params:
        if key not in known:
            raise StrategyError(
                f"Strategy '{cls.name}' has no parameter '{key}'. {did_you_mean(key, known)}"
                if known
                else f"Strategy '{cls.name}' takes no parameters; received '{key}'."
            )
    try:
        return cls(**params)
    except (TypeError, ValueError) as error:
        raise StrategyError(f"Strategy '{cls.name}': {error}.") from error


def _find_class(params: dict[str, Any]) -> type[Strategy]:
    if "class_path" in params:
        path = params.pop("class_path")
        params.update(params.pop("init_args", {}))
        return _import_class(str(path))
    if "name" not in params:
        raise StrategyError(f"A strategy needs a `name` or a `class_path`; received {params}.")
    name = params.pop("name")
    known = strategies()
    if name in known:
        return known[name]
    if ":" in str(name) or "." in str(name):
        return _import_class(str(name))
    raise StrategyError(f"There is no strategy '{name}'. {did_you_mean(str(name), known)}")


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
    except (ImportError, AttributeError, SyntaxError, ValueError) as error:
        raise StrategyError(
            f"Cannot load the strategy class '{path}' ({error}). "
            "Expected package.module.Class or path/to/file.py:Class."
        ) from error
    if not _is_strategy(cls):
        raise StrategyError(f"'{path}' is no subclass of activeselect.Strategy.")
    return cls  # type: ignore[no-any-return]  # checked by _is_strategy


def _load_file(path: Path) -> Any:
    if not path.is_file():
        raise StrategyError(f"There is no strategy file {path}.")
    spec = importlib.util.spec_from_file_location(f"activeselect_user_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise StrategyError(f"{path} is no Python file.")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _is_strategy(cls: Any) -> bool:
    return isinstance(cls, type) and issubclass(cls, Strategy) and not inspect.isabstract(cls)


def _add(found: dict[str, type[Strategy]], cls: type[Strategy]) -> None:
    if cls.name in found:
        raise StrategyError(
            f"Two strategies are named '{cls.name}': {found[cls.name].__module__} and "
            f"{cls.__module__}; rename one."
        )
    found[cls.name] = cls
