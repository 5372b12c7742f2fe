"""Completion of the command line in a shell, as a script that the shell reads once.

The script is static: a press of the tab key starts no Python.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping
from importlib import resources
from typing import Any

from activeselect.cli.help import nested, own_parameters

_SCRIPT = """\
# Completion of activeselect; read it with: eval "$(activeselect completion {shell})"
{first}_activeselect() {{
    local word="${{COMP_WORDS[COMP_CWORD]}}" before="${{COMP_WORDS[COMP_CWORD-1]}}"
    local command="${{COMP_WORDS[1]}}" words
    case "$before" in
        --config) words="{configs}"
            COMPREPLY=($(compgen -W "$words" -- "$word") $(compgen -f -- "$word")); return ;;
        --out|--labels|--model|=) COMPREPLY=($(compgen -f -- "$word")); return ;;
    esac
    if [ "$COMP_CWORD" -eq 1 ]; then
        words="{commands}"
    else
        case "$command" in
{cases}
        esac
    fi
    COMPREPLY=($(compgen -W "$words" -- "$word"))
    if [ "${{#COMPREPLY[@]}}" -eq 1 ] && [[ "${{COMPREPLY[0]}}" == *= ]]; then
        compopt -o nospace 2>/dev/null
    fi
}}
complete -o default -F _activeselect activeselect
"""
_OF_ZSH = "autoload -U +X bashcompinit && bashcompinit\n"


def script(tree: Mapping[str, Any], shell: str, positional: Container[str]) -> str:
    """The script for ``bash`` or ``zsh``.

    Args:
        tree: the commands by name; a mapping holds the commands below a word.
        shell: which of the two reads it.
        positional: parameters that are given without their name.
    """
    cases = []
    for name, entry in tree.items():
        groups = entry.values() if isinstance(entry, dict) else [entry]
        words = [*entry] if isinstance(entry, dict) else []
        words += sorted({word for command in groups for word in _words(command, positional)})
        cases.append(f'            {name}) words="{" ".join(words)}" ;;')
    configs = sorted(
        file.name.removesuffix(".yaml")
        for file in resources.files("activeselect.configs").iterdir()
        if file.name.endswith(".yaml")
    )
    return _SCRIPT.format(
        shell=shell,
        first=_OF_ZSH if shell == "zsh" else "",
        commands=" ".join([*tree, "--help", "--version"]),
        configs=" ".join(configs),
        cases="\n".join(cases),
    )


def _words(command: Any, positional: Container[str]) -> Iterator[str]:
    """Options of a command, and its settings as ``name=``."""
    hints, config = own_parameters(command)
    yield from ("--config", "--help", "--help-all")
    yield from (f"--{key.replace('_', '-')}" for key in hints if key not in positional)
    if config is not None:
        yield from _settings(config, "")


def _settings(kind: type, prefix: str) -> Iterator[str]:
    for key, inner in nested(kind):
        yield f"{prefix}{key}="
        if inner is not None:
            yield from _settings(inner, f"{prefix}{key}.")
