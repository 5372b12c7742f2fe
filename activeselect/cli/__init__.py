"""The command line: ``activeselect COMMAND --config NAME_OR_FILE [--key value | key=value ...]``.

Every setting is a field of the dataclasses in :mod:`activeselect.config`; a YAML file and the
command line fill the same ones, the command line last.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import fields, is_dataclass
from importlib import resources
from importlib.metadata import version
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

import yaml
from jsonargparse import ArgumentError, ArgumentParser

from activeselect.cli import commands
from activeselect.errors import ActiveSelectError, ConfigError, LabelsNeeded, did_you_mean

_ASSIGNMENT = re.compile(r"[A-Za-z_][\w.]*=")
#: A parameter of this name is a dataclass; its fields are settings of the command.
CONFIG = "config"
#: Given without a value, as in other tools.
_SWITCHES = {
    "--json": "--json=true",
    "--quiet": "--quiet=true",
    "--dry-run": "--dry_run=true",
    "--dry_run": "--dry_run=true",
}
_LABELS_NEEDED = 3  # the run waits for a person
#: An empty path would mean the current folder, which nobody says that way.
_PATHS = ("--out", "--config", "out", "config")
_INTERRUPTED = 130  # what a shell expects after Ctrl-C
#: Commands of earlier versions, and what does their work now, from a clone of the repository.
_RETIRED = {
    "benchmark base": "python -m research.base_model",
    "benchmark recipe": "python -m research.benchmark_tuning recipe",
    "benchmark oracle": "python -m research.benchmark_tuning oracle",
}


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point; exits with 0, 2 (the user's input), 3 (labels are needed), or 130 (Ctrl-C)."""
    sys.exit(run(list(sys.argv[1:] if argv is None else argv)))


def run(argv: list[str]) -> int:
    """Parse and carry out one command; returns the exit code."""
    if argv in (["--version"], ["-V"]):
        print(f"activeselect {version('activeselect')}")
        return 0
    parser, functions = build_parser()
    try:
        _refuse_retired(argv)
        function, settings = _parse(parser, functions, prepare(argv))
        if isinstance(settings.get("out"), Path):
            check_out(settings["out"])
        function(**settings)
        sys.stdout.flush()
    except ActiveSelectError as error:
        if not error.elsewhere:
            print(f"activeselect: {error}", file=sys.stderr)
        return _LABELS_NEEDED if isinstance(error, LabelsNeeded) else 2
    except BrokenPipeError:  # the reader (`| head`) has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print(
            "activeselect: interrupted; what is finished is kept, the same command continues.",
            file=sys.stderr,
        )
        return _INTERRUPTED
    return 0


def _refuse_retired(argv: list[str]) -> None:
    now = _RETIRED.get(" ".join(argv[:2]))
    if now is not None:
        raise ConfigError(
            f"`activeselect {' '.join(argv[:2])}` is a script of the repository now, outside the "
            f"package. In a clone, run: {now} {' '.join(argv[2:])}".rstrip()
        )


def build_parser() -> tuple[ArgumentParser, dict[str, Callable[..., None]]]:
    """The parser of all commands, and the function behind each (``forecast evaluate`` etc.)."""
    parser = ArgumentParser(
        prog="activeselect",
        description="Train with live data selection, compare strategies, forecast test accuracy.",
        exit_on_error=False,
        allow_abbrev=False,
    )
    functions: dict[str, Callable[..., None]] = {}
    _add_commands(parser, commands.COMMANDS, "", functions)
    return parser, functions


def _add_commands(
    parser: ArgumentParser, tree: dict[str, Any], prefix: str, functions: dict[str, Any]
) -> None:
    chooser = parser.add_subcommands(required=True, dest="command")
    for name, entry in tree.items():
        child = ArgumentParser(exit_on_error=False, allow_abbrev=False)
        if isinstance(entry, dict):
            chooser.add_subcommand(name, child, help=" | ".join(entry))
            _add_commands(child, entry, f"{prefix}{name} ", functions)
            continue
        summary = (entry.__doc__ or "").strip().splitlines()[0]
        child.description = summary
        child.add_argument("--config", action="config", help="YAML file, or a shipped name")
        hints = get_type_hints(entry)
        positional = [key for key in hints if key in commands.POSITIONAL]
        for key in positional:
            several = get_origin(hints[key]) is list
            kind = get_args(hints[key])[0] if several else hints[key]
            child.add_argument(key, type=kind, nargs="+" if several else None)
        if CONFIG in hints:
            child.add_class_arguments(hints[CONFIG])
        child.add_function_arguments(entry, as_positional=False, skip={*positional, CONFIG})
        functions[prefix + name] = entry
        chooser.add_subcommand(name, child, help=summary)


def _parse(
    parser: ArgumentParser, functions: dict[str, Callable[..., None]], argv: list[str]
) -> tuple[Callable[..., None], dict[str, Any]]:
    try:
        settings = parser.instantiate(parser.parse_args(argv))
    except (ArgumentError, TypeError, ValueError) as error:
        names = [name for name in functions if argv[: len(name.split())] == name.split()]
        raise ConfigError(_reason(str(error), functions[names[0]] if names else None)) from error
    words: list[str] = []
    while "command" in settings:
        words.append(settings["command"])
        settings = settings[words[-1]]
    name = " ".join(words)
    values = {key: value for key, value in settings.items() if key != "config"}
    kind = get_type_hints(functions[name]).get(CONFIG)
    if kind is not None:
        names = [field.name for field in fields(kind)]
        values[CONFIG] = kind(**{key: values.pop(key) for key in names})
    return functions[name], values


def prepare(argv: list[str]) -> list[str]:
    """Accept ``key=value`` for ``--key=value``, and shipped config names for files.

    Example:
        >>> prepare(["train", "--out", "a=b", "model=folder"])
        ['train', '--out', 'a=b', '--model=folder']
    """
    if argv[:1] == ["strategies"] and (argv[1:2] == ["--json"] or len(argv) == 1):
        argv = ["strategies", "list", *argv[1:]]
    out: list[str] = []
    for word in argv:
        previous = out[-1] if out else ""
        is_value = previous.startswith("--") and "=" not in previous
        empty = (previous in _PATHS and word == "") or word in [f"{name}=" for name in _PATHS]
        if empty:
            named = (word or previous).strip("-=")
            raise ConfigError(f"{named}: expected a path; received an empty text.")
        if previous == "--config":
            word = find_config(word)
        elif word.startswith("--config="):
            word = f"--config={find_config(word.removeprefix('--config='))}"
        elif word in _SWITCHES:
            word = _SWITCHES[word]
        elif not is_value and _ASSIGNMENT.match(word):
            word = f"--{word}"
        out.append(word)
    if out[:1] != ["compare"]:  # one dataset: its source may stand for it
        out = [re.sub(r"^--data(?==|$)", "--data.source", word) for word in out]
    return out


def find_config(name: str) -> str:
    """A config file: a path, or the name of one that comes with the package.

    Raises:
        ConfigError: if there is neither.
    """
    if Path(name).is_file():
        check_yaml(Path(name))
        return name
    shipped = {
        entry.name.removesuffix(".yaml"): str(entry)
        for entry in resources.files("activeselect.configs").iterdir()
        if entry.name.endswith(".yaml")
    }
    stem = Path(name).name.removesuffix(".yaml")  # a name may have dots: gsm8k-qwen-0.5b-lora
    if name in shipped or (Path(name).parts == ("configs", f"{stem}.yaml") and stem in shipped):
        return shipped[stem]
    raise ConfigError(f"There is no config file '{name}'. {did_you_mean(name, shipped)}")


#: Of a config, aliases written out: the largest that anybody writes has some hundred values.
_MOST_VALUES = 20_000
_LONGEST_CONFIG = 2**20  # bytes


def check_yaml(file: Path) -> None:
    """Refuse a config that would take the parser's time or memory, before it is parsed.

    Raises:
        ConfigError: if it is no YAML, is very long, or grows beyond bounds when its aliases are
            written out.
    """
    if file.stat().st_size > _LONGEST_CONFIG:
        raise ConfigError(f"{file} is no config: expected at most {_LONGEST_CONFIG:,} bytes.")
    try:
        node = yaml.compose(file.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
        values = _values(node, {}) if node is not None else 0
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ConfigError(f"{file} is no YAML that can be read: {reason}") from error
    if values > _MOST_VALUES:
        raise ConfigError(
            f"{file} holds {values:,} values once its aliases (*name) are written out; expected at "
            f"most {_MOST_VALUES:,}. Write out what you need, and leave the aliases out."
        )


def _values(node: yaml.Node, known: dict[int, int]) -> int:
    """Values below a node, aliases written out; each node is visited once."""
    if id(node) not in known:
        known[id(node)] = _MOST_VALUES + 1  # until it is known: an alias of itself never ends
        inside: list[yaml.Node] = []
        if isinstance(node, yaml.MappingNode):
            inside = [part for pair in node.value for part in pair]
        elif isinstance(node, yaml.SequenceNode):
            inside = node.value
        known[id(node)] = 1 + sum(_values(part, known) for part in inside)
    return known[id(node)]


def check_out(out: Path) -> None:
    """Refuse a name for results that no folder can have, before anything is computed.

    Raises:
        ConfigError: if it is too long, or holds a character that no name may have.
    """
    try:
        out.lstat()
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return  # the folder is made later, or the reason is said then
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigError(
            f"out: expected a path that can be written; received {str(out)[:60]!r}... ({reason})."
        ) from error


def _reason(text: str, function: Callable[..., None] | None) -> str:
    """The innermost reason of a parser error; an unknown setting gets the nearest known one."""
    unknown = re.search(r"(?:accept option '|unrecognized arguments: --)([\w.]+)", text)
    within = re.search(r'Parser key "([\w.]+)".*Option \'(\w+)\' is not accepted', text, re.DOTALL)
    if (unknown or within) and function is not None:
        full = unknown[1] if unknown else ".".join(within.groups()) if within else ""
        section, _, name = full.rpartition(".")
        while not (known := _known(function, section)):  # the section itself is unknown
            section, _, name = section.rpartition(".")
        return f"There is no setting '{full}'. {did_you_mean(name, known)}"
    # a setting that may be null is reported once per alternative; the null is not the reason
    lines = [line.strip().removeprefix("- ") for line in text.splitlines() if line.strip()]
    reasons = [
        line for line in lines if line.startswith(("Expected", "rounds", "recipe", "prompt"))
    ]
    reasons = [line for line in reasons if "NoneType" not in line]
    # our own reason first, then the one that names the value
    reasons.sort(key=lambda line: (": expected " not in line, "Got value" not in line))
    keys = re.findall(r'Parser key "([\w.]+)"', text)
    key = ".".join(dict.fromkeys(keys))
    if reasons:
        named = not keys or reasons[0].startswith(keys[0])
        return reasons[0] if named else f"{key}: {reasons[0]}"
    return " ".join(lines)


def _known(function: Callable[..., None], section: str) -> list[str]:
    """Settings of a command, or of one of its sections."""
    hints = get_type_hints(function)
    hints |= get_type_hints(hints.pop(CONFIG)) if CONFIG in hints else {}
    names = [name for name in hints if name != "return"]
    for part in section.split(".") if section else []:
        kinds = [kind for kind in _alternatives(hints.get(part)) if is_dataclass(kind)]
        hints = {name: hint for kind in kinds for name, hint in get_type_hints(kind).items()}
        names = list(hints)
    return names


def _alternatives(hint: Any) -> tuple[Any, ...]:
    return (hint, *get_args(hint))
