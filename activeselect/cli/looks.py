"""Looks at strategies and at a prompt: commands that train nothing and write nothing."""

from __future__ import annotations

import json as json_module
from typing import Literal

from rich.console import Console
from rich.table import Table

from activeselect.config import RunConfig


def list_strategies(json: bool = False) -> None:
    """List the strategies that a config may name.

    Args:
        json: print JSON instead of a table.
    """
    from dataclasses import asdict

    from activeselect.selection.registry import describe, strategies

    entries = [describe(cls) for cls in strategies().values()]
    if json:
        print(json_module.dumps([asdict(entry) for entry in entries], indent=1))
        return
    table = Table("strategy", "what it does", "signals it requires", "cost")
    for entry in entries:
        signals = ("none",) if entry.requires == () else entry.requires or ("those of its parts",)
        cost = "" if entry.cost is None else str(entry.cost)
        table.add_row(entry.name, entry.summary, ", ".join(signals), cost)
    console = Console()
    console.print(table)
    console.print(
        "Cost: passes of the model per scored example and round, with 5 sampled completions; "
        "a training step counts 3.\n`activeselect strategies show NAME` prints a card.",
        highlight=False,
    )


def show_strategy(name: str) -> None:
    """Print the card of one strategy.

    Args:
        name: of the strategy.
    """
    import inspect

    from activeselect.errors import StrategyError, did_you_mean
    from activeselect.selection.registry import describe, parameters, strategies

    known = strategies()
    if name not in known:
        raise StrategyError(f"There is no strategy '{name}'. {did_you_mean(name, known)}")
    entry = describe(known[name])
    print(inspect.getdoc(known[name]))
    print()
    config = {key: "..." if v is ... else v for key, v in parameters(known[name]).items()}
    values = (f", {key}: {'null' if v is None else v}" for key, v in config.items())
    print(f"In a config: {{name: {name}{''.join(values)}}}")
    if entry.requires is not None:
        print(f"Signals: {', '.join(entry.requires) or 'none'}")


def show_prompt(
    config: RunConfig, index: int = 0, split: Literal["train", "test"] = "train", json: bool = False
) -> None:
    """Print the exact prompt and target of a problem, token by token, and what is learned.

    Args:
        config: as for `train`; only the tokenizer of the model is loaded.
        index: of the problem.
        split: train or test.
        json: print JSON instead of text.
    """
    from activeselect.data.prompts import preview, shown
    from activeselect.training.module import load_tokenizer

    found = preview(config, load_tokenizer(config.model), index=index, split=split)
    print(json_module.dumps(found, indent=1, ensure_ascii=False) if json else shown(found))
