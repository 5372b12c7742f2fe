"""The command line: ``activeselect COMMAND --config NAME_OR_FILE [--key value | key=value ...]``.

Every setting is a field of the dataclasses in :mod:`activeselect.config`; a YAML file and the
command line fill the same ones, the command line last.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import fields
from importlib.metadata import version
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

import yaml
from jsonargparse import ArgumentError, ArgumentParser

from activeselect.cli import commands
from activeselect.cli import help as help_text
from activeselect.cli.configs import (
    check_command,
    find_config,
    known_settings,
    named_configs,
    read_for_tuning,
)
from activeselect.cli.help import CONFIG
from activeselect.errors import ActiveSelectError, ConfigError, LabelsNeeded, did_you_mean

_ASSIGNMENT = re.compile(r"[A-Za-z_][\w.]*=")
Command = Callable[..., None]
HELP = ("--help", "-h", "--help-all")
#: Given without a value, as in other tools.
_SWITCHES = {
    "--json": "--json=true",
    "--quiet": "--quiet=true",
    "--public": "--public=true",
    "--append-answer": "--append_answer=true",
    "--dry-run": "--dry_run=true",
    "--dry_run": "--dry_run=true",
}
_SWITCHED = set(_SWITCHES.values())
_LABELS_NEEDED = 3  # the run waits for a person
#: An empty path would mean the current folder, which nobody says that way.
_PATHS = ("--out", "--config", "out", "config")
_INTERRUPTED = 130  # what a shell expects after Ctrl-C
_KINDS = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "str": "a text",
    "tuple": "a list",
    "list": "a list",
    "dict": "settings by name",
}
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
    try:
        _refuse_retired(argv)
        words = prepare(argv)
        name, entry = find_command(words)
        rest = words[len(name.split()) :]
        asked = [word for word in rest if word in HELP]
        if isinstance(entry, dict) or asked:
            print(_help(name, entry, everything="--help-all" in asked))
        else:
            settings = _parse(name, entry, rest)
            if isinstance(settings.get("out"), Path):
                check_out(settings["out"])
            entry(**settings)
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


def find_command(words: list[str]) -> tuple[str, Command | dict[str, Command]]:
    """The command that the first words name, or the group of commands (``forecast``, all).

    Raises:
        ConfigError: if there is no such command.

    Example:
        >>> find_command(["forecast", "fit", "--out", "x"])[0]
        'forecast fit'
    """
    entry, name = commands.COMMANDS, ""
    for word in words:
        if word in HELP:
            break
        if word not in entry:
            raise ConfigError(
                f"There is no command '{f'{name} {word}'.strip()}'. {did_you_mean(word, entry)}"
            )
        entry, name = entry[word], f"{name} {word}".strip()
        if not isinstance(entry, dict):
            return name, entry
    if name and len(words) == len(name.split()):
        raise ConfigError(f"{name}: expected a command after it. {did_you_mean('', entry)}")
    return name, entry


def _help(name: str, entry: Command | dict[str, Command], *, everything: bool) -> str:
    if not isinstance(entry, dict):
        write = help_text.long if everything else help_text.short
        return write(name, entry, commands.POSITIONAL)
    return help_text.of_group(name, entry) if name else help_text.overview(entry)


def build_parser(entry: Command) -> ArgumentParser:
    """The parser of one command: what its signature and its class of settings say."""
    parser = ArgumentParser(exit_on_error=False, allow_abbrev=False)
    parser.add_argument("--config", action="config", help="YAML file, or a shipped name")
    hints = get_type_hints(entry)
    positional = [key for key in hints if key in commands.POSITIONAL]
    for key in positional:
        several = get_origin(hints[key]) is list
        kind = get_args(hints[key])[0] if several else hints[key]
        parser.add_argument(key, type=kind, nargs="+" if several else None)
    if CONFIG in hints:
        parser.add_class_arguments(hints[CONFIG])
    parser.add_function_arguments(entry, as_positional=False, skip={*positional, CONFIG})
    return parser


def _parse(name: str, entry: Command, words: list[str]) -> dict[str, Any]:
    """The values of a command's parameters."""
    if name == "tune":
        words = read_for_tuning(words, entry)
    else:
        for file in named_configs(words):
            check_command(file, name, entry, commands.COMMANDS)
    parser = build_parser(entry)
    try:
        values = dict(parser.instantiate(parser.parse_args(words)))
    except (ArgumentError, TypeError, ValueError, RecursionError) as error:
        text = str(error)
        needed = re.search(r"arguments are required: (.*)", text)
        if needed:
            raise ConfigError(
                f"{needed[1]}: expected a value; received nothing. `activeselect {name} --help` "
                "lists what the command needs."
            ) from error
        raise ConfigError(_reason(text, entry)) from error
    values.pop("config", None)
    kind = get_type_hints(entry).get(CONFIG)
    if kind is not None:
        values[CONFIG] = kind(**{field.name: values.pop(field.name) for field in fields(kind)})
    return values


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
        if word in ("true", "false") and previous in _SWITCHED:  # --dry-run false
            out[-1] = f"{previous.removesuffix('true')}{word}"
            continue
        if previous == "--config":
            word = find_config(word)
        elif word.startswith("--config="):
            word = f"--config={find_config(word.removeprefix('--config='))}"
        elif word in _SWITCHES:
            word = _SWITCHES[word]
        elif word.startswith(("--dry-run=", "--append-answer=")):
            name, _, value = word.partition("=")
            word = f"--{name[2:].replace('-', '_')}={value}"
        elif not is_value and _ASSIGNMENT.match(word):
            word = f"--{word}"
        out.append(_spaced(word))
    if out[:1] != ["compare"]:  # one dataset: its source may stand for it
        out = [re.sub(r"^--data(?==|$)", "--data.source", word) for word in out]
    return out


def _spaced(word: str) -> str:
    """Write ``{rank:8}`` as YAML needs it, ``{rank: 8}``; YAML reads one name without a value.

    Example:
        >>> _spaced("--recipe.lora={rank:8,save:merged}"), _spaced("{command: a:b}")
        ('--recipe.lora={rank: 8,save: merged}', '{command: a:b}')
    """
    start = re.match(r"(--[\w.]+=)?\{", word)
    if start is None or not word.endswith("}") or "{question" in word:
        return word
    try:
        held = yaml.safe_load(word[start.end() - 1 :])
    except (yaml.YAMLError, RecursionError):  # the parser says so
        return word
    joined = [key for key, value in held.items() if value is None and ":" in str(key)]
    for key in joined:
        word = word.replace(key, key.replace(":", ": ", 1), 1)
    return word


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


def _reason(text: str, function: Command) -> str:
    """The innermost reason of a parser error; an unknown setting gets the nearest known one."""
    unknown = re.search(r"(?:accept option '|^Option '|unrecognized arguments: --)([\w.]+)", text)
    within = re.search(r'Parser key "([\w.]+)".*Option \'(\w+)\' is not accepted', text, re.DOTALL)
    if unknown or within:
        full = unknown[1] if unknown else ".".join(within.groups()) if within else ""
        section, _, name = full.rpartition(".")
        while not (known := known_settings(function, section)):  # the section itself is unknown
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
        return _in_words(reasons[0] if named else f"{key}: {reasons[0]}")
    return _in_words(" ".join(lines))


def _in_words(reason: str) -> str:
    """What the parser says about types, in words.

    Example:
        >>> _in_words("seed: Expected a <class 'int'>. Got value: x")
        'seed: expected a whole number; received x.'
        >>> _in_words("kind: Expected a typing.Literal['a', 'b']. Got value: c")
        "kind: expected one of 'a', 'b'; received c."
        >>> _in_words("recipe: Unable to load config '3'")
        'recipe: expected settings by name, or a file of them; received 3.'
    """
    section = re.search(
        r"Unable to load config ['\"](.*?)['\"]|a dot import path string: (.*)", reason
    )
    if section is not None:
        name = reason.partition(": ")[0].removeprefix("Parser key ").strip('"')
        given = (section[1] or section[2])[:60]
        return f"{name}: expected settings by name, or a file of them; received {given}."
    found = re.search(r"Expected an? (?:<class '(\w+)'>|typing\.Literal\[(.*?)\])", reason)
    if found is None or (found[1] and found[1] not in _KINDS):
        return reason
    wanted = _KINDS[found[1]] if found[1] else f"one of {found[2]}"
    _, got, value = reason.partition("Got value: ")
    received = f"; received {value}" if got else ""
    return f"{reason[: found.start()]}expected {wanted}{received}."
