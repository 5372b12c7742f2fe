"""Config files: found by path or shipped name, and looked at before they are parsed."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from importlib import resources
from itertools import pairwise
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

import yaml

from activeselect.cli.help import CONFIG
from activeselect.config import RunConfig, StudyConfig, TuneConfig
from activeselect.errors import ConfigError, did_you_mean


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
        raise _unreadable(file, error) from error
    if values > _MOST_VALUES:
        raise ConfigError(
            f"{file} holds {values:,} values once its aliases (*name) are written out; expected at "
            f"most {_MOST_VALUES:,}. Write out what you need, and leave the aliases out."
        )


def _held(file: Path) -> Any:
    """What a config holds, made of plain values alone.

    Raises:
        ConfigError: if a tag asks for anything else.
    """
    try:
        return yaml.safe_load(file.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise _unreadable(file, error) from error


def _unreadable(file: Path, error: Exception) -> ConfigError:
    reason = " ".join(str(error).split())[:200] or type(error).__name__
    return ConfigError(f"{file} is no YAML that can be read: {reason}")


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


# --- Whose config it is


def named_configs(words: Sequence[str]) -> list[Path]:
    """The config files that a command line names.

    Example:
        >>> named_configs(["--config", "a.yaml", "--config=b.yaml"])
        [PosixPath('a.yaml'), PosixPath('b.yaml')]
    """
    given = [after for before, after in pairwise(words) if before == "--config"]
    given += [word.split("=", 1)[1] for word in words if word.startswith("--config=")]
    return [Path(file) for file in given]


def check_command(
    file: Path, name: str, command: Callable[..., Any], commands: Mapping[str, Any]
) -> None:
    """Refuse a config of another command by that command's name, and sections that are none.

    Raises:
        ConfigError: if another command knows all its settings, and this one does not; or if a
            section holds something else than settings.
    """
    held = _held(file)
    if not isinstance(held, dict):
        return
    if _fits(held, command):
        check_sections(held, command, str(file))
        return
    for other in (other for other in ("train", "compare", "score", "audit") if other != name):
        if _fits(held, commands[other]):
            unknown = sorted(held.keys() - set(known_settings(command)))
            what = f"it sets {', '.join(unknown)}" if unknown else "its data is a list"
            raise ConfigError(
                f"{file} is a config of `activeselect {other}` ({what}), and not of `activeselect "
                f"{name}`. Take these settings out of a copy, and name one dataset: "
                "data: {source: ...}."
            )
    if isinstance(held.get("data"), list) and _takes_one(command):
        raise ConfigError(
            f"data: expected one dataset in {file} (data: {{source: ...}}); received a list of "
            f"{len(held['data'])}. A list is for `activeselect compare`."
        )
    check_sections(held, command, str(file))


def read_for_tuning(words: Sequence[str], command: Callable[..., Any]) -> list[str]:
    """A command line with what a search reads of each config in the place of its file.

    Raises:
        ConfigError: if a study has several datasets, no sizes can be read, or a section holds
            something else than settings.
    """
    found: list[str] = []
    for before, word in zip(["", *words], words, strict=False):
        if before == "--config":
            word = _for_tuning(Path(word), command)
        elif word.startswith("--config="):
            word = f"--config={_for_tuning(Path(word.removeprefix('--config=')), command)}"
        found.append(word)
    return found


def _for_tuning(file: Path, command: Callable[..., Any]) -> str:
    """What a search for the recipe reads of a config of `train`, `compare` or `tune`, as JSON."""
    held = _held(file) or {}
    if not isinstance(held, dict):
        return str(file)
    data = held.get("data")
    if isinstance(data, list):
        if len(data) != 1:
            raise ConfigError(
                f"{file} has {len(data)} datasets; a recipe is found for each on its own. Keep one "
                "of them in a copy."
            )
        held["data"] = data[0]
    if sizes := _sizes(held.get("rounds"), file):
        held.setdefault("sizes", sizes)
    wanted = {field.name for field in fields(TuneConfig)}
    others = {field.name for kind in (RunConfig, StudyConfig) for field in fields(kind)}
    kept = {str(key): held[key] for key in held if key in wanted or key not in others}
    check_sections(kept, command, str(file))
    return json.dumps(kept, default=str)  # a date is a text wherever a setting takes one


def _sizes(rounds: Any, file: Path) -> list[int]:
    """The smallest and the largest train-set size of a study; none where it has no budgets."""
    if not isinstance(rounds or {}, dict):
        raise ConfigError(f"rounds: expected settings by name in {file}; received {rounds!r}.")
    if not rounds or rounds.get("mode", "acquire") != "acquire":
        return []
    budgets = rounds.get("budgets") or []
    if not isinstance(budgets, list) or not all(type(size) is int for size in budgets):
        raise ConfigError(
            f"rounds.budgets: expected a list of train-set sizes in {file}; received {budgets!r}."
        )
    return sorted({min(budgets), max(budgets)}) if budgets else []


def _fits(held: Mapping[str, Any], command: Callable[..., Any]) -> bool:
    known = held.keys() <= set(known_settings(command))
    return known and not (_takes_one(command) and isinstance(held.get("data"), list))


def _takes_one(command: Callable[..., Any]) -> bool:
    """Whether ``data`` of this command is one dataset, and not a list of them."""
    kind = get_type_hints(command).get(CONFIG)
    return kind is None or get_origin(get_type_hints(kind).get("data")) is not tuple


def check_sections(
    held: Mapping[str, Any], command: Callable[..., Any], where: str, section: str = ""
) -> None:
    """Refuse a value that stands where settings by name are expected.

    Args:
        held: settings of the command, or of one of its sections.
        where: said in the error.
        section: name of the section; empty: the command itself.

    Raises:
        ConfigError: if a section holds a number or a list.
    """
    hints = _hints(command, section)
    for name, value in held.items():
        hint = hints.get(str(name))
        kind = next((part for part in _alternatives(hint) if is_dataclass(part)), None)
        several = get_origin(hint) is tuple
        full = f"{section}.{name}".lstrip(".")
        may_be_empty = value is None and type(None) in _alternatives(hint)
        if kind is None or may_be_empty or (several and not isinstance(value, list)):
            continue
        for part in value if several else [value]:
            if isinstance(part, Mapping) and not several:
                check_sections(part, command, where, full)
            elif not isinstance(part, str | Mapping):  # a text may name a file of settings
                raise ConfigError(
                    f"{full}: expected settings by name in {where}, such as "
                    f"{{{fields(kind)[0].name}: ...}}; received "
                    f"{'nothing' if part is None else repr(part)}."
                )


def known_settings(function: Callable[..., Any], section: str = "") -> list[str]:
    """Settings of a command, or of one of its sections."""
    return list(_hints(function, section))


def _hints(function: Callable[..., Any], section: str) -> dict[str, Any]:
    """Types of the settings of a command, or of one of its sections, by name."""
    hints = get_type_hints(function)
    hints |= get_type_hints(hints.pop(CONFIG)) if CONFIG in hints else {}
    hints.pop("return", None)
    for part in section.split(".") if section else []:
        kinds = [kind for kind in _alternatives(hints.get(part)) if is_dataclass(kind)]
        hints = {name: hint for kind in kinds for name, hint in get_type_hints(kind).items()}
    return hints


def _alternatives(hint: Any) -> tuple[Any, ...]:
    return (hint, *get_args(hint))
