"""Help of the commands: one screen by default, every setting with ``--help-all``.

It is read from the signatures, the settings' dataclasses and their docstrings alone, so that it
waits for no parser and no heavy import.
"""

from __future__ import annotations

import inspect
import re
import shutil
import textwrap
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, fields, is_dataclass
from itertools import groupby
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from activeselect.config import RunConfig

#: A parameter of this name is a dataclass; its fields are settings of the command.
CONFIG = "config"
_PROGRAM = "activeselect"
_WIDEST = 100
_LEFT = 20  # columns of the names in a short help

Tree = Mapping[str, Any]


def overview(tree: Tree) -> str:
    """Help of the program: its commands with a line each."""
    lines = [
        f"usage: {_PROGRAM} COMMAND [--config FILE] [NAME=VALUE...]",
        "",
        "Train with live data selection, compare strategies, forecast test accuracy.",
        "",
        "Commands:",
    ]
    for name, entry in tree.items():
        lines += _item(name, " | ".join(entry) if isinstance(entry, dict) else _summary(entry))
    lines += ["", f"{_PROGRAM} COMMAND --help says more; {_PROGRAM} --version names the version."]
    return "\n".join(lines)


def of_group(name: str, tree: Tree) -> str:
    """Help of a word that has commands below it, such as ``forecast``."""
    lines = [f"usage: {_PROGRAM} {name} COMMAND ...", "", "Commands:"]
    for word, entry in tree.items():
        lines += _item(f"{name} {word}", _summary(entry))
    return "\n".join(lines)


def short(name: str, function: Callable[..., Any], positional: tuple[str, ...]) -> str:
    """One screen: the options, and the settings' names."""
    hints, config = own_parameters(function)
    told, parameters = explained(function), inspect.signature(function).parameters
    lines = [*_usage(name, function, positional), "", *_wrapped(_summary(function), 0)]
    lines += ["", "Options:"]
    for key, hint in hints.items():
        text = told.get(key, "")
        default = parameters[key].default
        if default not in (inspect.Parameter.empty, None, False, ()):
            text += f" (default: {shown(default)})"
        lines += _item(_spelled(key, hint, key in positional), text)
    lines += _item("--config FILE", "YAML file, or the name of a config that comes along")
    if config is not None:
        lines += ["", "Settings, in the config or as NAME=VALUE:"]
        for text, settings in groupby(_settings(config), key=lambda setting: setting[3]):
            keys, hints_of, _, _ = zip(*settings, strict=True)
            kind = _dataclass_in(hints_of[0])
            names = ", ".join(field.name for field in fields(kind)) if kind else ""
            lines += _item(f"{keys[0]}." if kind else ", ".join(keys), _first(text))
            lines += _wrapped(names, _LEFT + 2) if kind else []
        lines += ["", f"Every setting explained: {_PROGRAM} {name} --help-all"]
    return "\n".join(lines)


def long(name: str, function: Callable[..., Any], positional: tuple[str, ...]) -> str:
    """Every option and setting with its explanation and default."""
    _, config = own_parameters(function)
    text = [short(name, function, positional).split("\nSettings, in the config")[0].rstrip()]
    if config is not None:
        text += ["", "Settings, in the config or as NAME=VALUE:", *_all_settings(config, "")]
    return "\n".join(text)


def explained(thing: Any) -> dict[str, str]:
    """What the section ``Args`` of a docstring says of each name.

    Example:
        >>> explained(explained)
        {'thing': 'a function or class.'}

    Args:
        thing: a function or class.
    """
    doc = inspect.getdoc(thing) or ""
    found: dict[str, str] = {}
    section = re.search(r"^Args:\n((?:    .*\n?|\n)+)", doc + "\n", re.MULTILINE)
    for entry in re.split(r"\n(?=    \S)", "\n" + section[1].rstrip()) if section else []:
        names, colon, text = entry.strip().partition(": ")
        if colon:
            plain = re.sub(r":\w+:`~?([^`]*)`|``([^`]*)``", r"\1\2", " ".join(text.split()))
            found |= dict.fromkeys(names.split(", "), plain)
    return found


def shown(value: Any) -> str:
    """A default as a config writes it.

    Example:
        >>> shown(None), shown(True), shown(("csv",)), shown(2e-5), shown("")
        ('null', 'true', '[csv]', '2e-05', '""')
    """
    if isinstance(value, list | tuple):
        return f"[{', '.join(shown(item) for item in value)}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key}: {shown(item)}' for key, item in value.items())}}}"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return repr(str(value)).replace("'", '"') if value in ("", "\n\n") else str(value)


def _all_settings(kind: type, prefix: str) -> Iterator[str]:
    for text, settings in groupby(_settings(kind), key=lambda setting: setting[3]):
        yield ""
        for key, hint, default, _ in settings:
            inner = _dataclass_in(hint)
            dot, value = ("", shown(default)) if inner is None else (".", "null")
            known = f" (default: {value})" if inner is None or default is None else ""
            yield from textwrap.wrap(
                f"  {prefix}{key}{dot}{known}", _width(), subsequent_indent=" " * 6
            )
        yield from _wrapped(text + _choices(hint), 6)
        if inner is not None:
            yield from _all_settings(inner, f"{prefix}{key}.")


def _settings(kind: type) -> Iterator[tuple[str, Any, Any, str]]:
    """Name, type, default and explanation of each setting."""
    hints, told = get_type_hints(kind), explained(kind)
    of_a_run = explained(RunConfig)
    for name in (name for name, text in told.items() if text.startswith("as in RunConfig")):
        told[name] = of_a_run[name] + told[name].removeprefix("as in RunConfig")
    for field in fields(kind):
        default = field.default
        if default is MISSING:
            default = None if field.default_factory is MISSING else field.default_factory()
        yield field.name, hints[field.name], default, told.get(field.name, "")


def nested(kind: type) -> list[tuple[str, type | None]]:
    """The settings of a class by name, each with the class of settings it holds, if any."""
    hints = get_type_hints(kind)
    return [(field.name, _dataclass_in(hints[field.name])) for field in fields(kind)]


def own_parameters(function: Callable[..., Any]) -> tuple[dict[str, Any], type | None]:
    """Types of a command's own parameters, and its class of settings."""
    hints = {key: hint for key, hint in get_type_hints(function).items() if key != "return"}
    return hints, hints.pop(CONFIG, None)


def _usage(name: str, function: Callable[..., Any], positional: tuple[str, ...]) -> list[str]:
    hints, config = own_parameters(function)
    parameters = inspect.signature(function).parameters
    words = [key.upper() for key in hints if key in positional]
    for key, hint in hints.items():
        if key not in positional and parameters[key].default is inspect.Parameter.empty:
            words.append(_spelled(key, hint, False))
    words += ["[--config FILE]", "[OPTION...]"]
    words += ["[NAME=VALUE...]"] if config is not None else []
    head = f"usage: {_PROGRAM} {name} "
    return textwrap.wrap(head + " ".join(words), _width(), subsequent_indent=" " * 8)


def _spelled(key: str, hint: Any, positional: bool) -> str:
    """An option as a user writes it."""
    if positional:
        return key.upper() + (" ..." if get_origin(hint) is list else "")
    if hint is bool:
        return f"--{key.replace('_', '-')}"
    if (choices := _literal(hint)) is not None:
        return f"--{key} {'|'.join(choices)}"
    inner = [part for part in (hint, *get_args(hint)) if part is not NoneType]
    return f"--{key} {'PATH' if Path in inner else key.upper()}"


def _literal(hint: Any) -> tuple[str, ...] | None:
    return get_args(hint) if get_origin(hint) is Literal else None


def _choices(hint: Any) -> str:
    choices = _literal(hint)
    return f" [{' | '.join(choices)}]" if choices else ""


def _dataclass_in(hint: Any) -> type | None:
    """The class of settings that a type holds, alone or in a list of them."""
    for part in (hint, *get_args(hint)):
        if isinstance(part, type) and is_dataclass(part):
            return part
    return None


def _summary(function: Callable[..., Any]) -> str:
    return (inspect.getdoc(function) or "").partition("\n")[0]


def _first(text: str) -> str:
    """The first clause: enough to know whether one wants to read on."""
    return re.split(r"; |\. ", text, maxsplit=1)[0].rstrip(".")


def _width() -> int:
    return min(shutil.get_terminal_size().columns, _WIDEST)


def _wrapped(text: str, indent: int) -> list[str]:
    margin = " " * indent
    return textwrap.wrap(
        text,
        max(_width(), indent + 30),
        initial_indent=margin,
        subsequent_indent=margin,
        break_on_hyphens=False,
        break_long_words=False,
    )


def _item(name: str, text: str) -> list[str]:
    lines = _wrapped(text, _LEFT + 2) or [""]
    if len(name) >= _LEFT:
        return [f"  {name}", *lines]
    return [f"  {name}".ljust(_LEFT + 2) + lines[0].strip(), *lines[1:]]
