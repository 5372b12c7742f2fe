"""Finding strategies: built in, installed, or in a user's own file, with errors one can act on."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from activeselect.errors import StrategyError
from activeselect.selection import registry
from activeselect.selection.registry import create, strategies
from activeselect.selection.strategy import Selection, SelectionContext, Strategy

MINE = '''
from __future__ import annotations
from dataclasses import dataclass
from typing import ClassVar
import numpy as np
from activeselect.selection.strategy import Selection, Strategy


@dataclass
class Mine(Strategy):
    """A dataclass with postponed annotations: it looks its own module up."""

    name: ClassVar[str] = "mine"
    share: float = 0.5
    rest: ClassVar[str] = ""

    def select(self, context, budget, rng):
        return Selection.of(context.candidates[:budget])


class Nameless(Strategy):
    def select(self, context, budget, rng):
        return Selection.of(context.candidates[:budget])


class Unfinished(Strategy):
    name = "unfinished"


class Open(Mine):
    def __init__(self, **anything):
        self.anything = anything


class Strict(Mine):
    def __init__(self, share):
        if share > 1:
            raise ValueError("share must be at most 1")
        self.share = share


number = 3
'''


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    file = tmp_path / "my_strategy.py"
    file.write_text(MINE)
    return file


class Plugin(Strategy):
    """A strategy of an installed package."""

    name: ClassVar[str] = "plugin"

    def select(self, context: SelectionContext, budget: int, rng: np.random.Generator) -> Selection:
        return Selection.of(context.candidates[:budget])


class Pretender(Plugin):
    name: ClassVar[str] = "premem"


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Installs classes as entry points for one test."""
    module = "activeselect_test_plugin"

    def install(**values: Any) -> None:
        holder = type(sys)(module)
        vars(holder).update({key: v for key, v in values.items() if v is not None})
        monkeypatch.setitem(sys.modules, module, holder)
        entries = [EntryPoint(key, f"{module}:{key}", registry.ENTRY_POINT_GROUP) for key in values]
        monkeypatch.setattr(
            registry,
            "entry_points",
            lambda *, group: entries if group == registry.ENTRY_POINT_GROUP else [],
        )
        strategies.cache_clear()

    yield install
    strategies.cache_clear()


# --- by name -----------------------------------------------------------------------------------


def test_built_in_strategies_are_found_by_their_names() -> None:
    found = strategies()
    assert {"random", "premem", "oracle"} <= set(found)
    assert list(found) == sorted(found)
    assert all(cls.name == name for name, cls in found.items())


def test_a_name_a_mapping_or_an_instance_builds_one() -> None:
    assert create("premem").name == "premem"
    assert vars(create({"name": "premem", "threshold": 0.25}))["threshold"] == 0.25
    made = create("random")
    assert create(made) is made


def test_a_spec_is_not_changed() -> None:
    spec = {"name": "premem", "threshold": 0.25}
    create(spec)
    assert spec == {"name": "premem", "threshold": 0.25}
    spec = {"class_path": "activeselect.strategies.premem.PreMemorization", "init_args": {}}
    create(spec)
    assert set(spec) == {"class_path", "init_args"}


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("premm", r"no strategy 'premm'. Did you mean 'premem'\? Known: .*random"),
        ("zzzzzz", r"no strategy 'zzzzzz'. Known:"),
        ("", "no strategy ''"),
        ({"name": None}, "no strategy 'None'"),
        ({"name": ["premem"]}, r"no strategy '\['premem'\]'"),
        ({"threshold": 1}, r"needs a `name` or a `class_path`; received \{'threshold': 1\}"),
        ({}, "needs a `name` or a `class_path`"),
        ({"name": "premem", "treshold": 1}, r"no parameter 'treshold'. Did you mean 'threshold'\?"),
        ({"name": "random", "seed": 1}, "'random' takes no parameters; received 'seed'"),
        ({"name": "premem", "threshold": 7}, r"'premem': threshold and floor must lie in \[0, 1\]"),
        ({"name": "premem", "threshold": "x"}, "Strategy 'premem': '<='"),
        ("oracle", "'oracle': .*missing 1 required .*'targets'"),
        ({"name": "oracle", "targets": {"many": {}}}, r"train-set sizes; received \['many'\]"),
    ],
)
def test_a_mistake_is_answered_with_what_is_known(spec: Any, message: str) -> None:
    with pytest.raises(StrategyError, match=message):
        create(spec)


# --- a class of one's own ----------------------------------------------------------------------


@pytest.mark.parametrize("key", ["class_path", "name"])
def test_a_class_in_a_file_is_used(mine: Path, key: str) -> None:
    made = create({key: f"{mine}:Mine", "share": 0.25})
    assert vars(made)["share"] == 0.25
    assert type(made) is type(create(f"{mine}:Mine"))
    assert vars(create({"class_path": f"{mine}:Mine", "init_args": {"share": 1}}))["share"] == 1
    assert vars(create({"class_path": f"{mine}:Mine", "init_args": None}))["share"] == 0.5


def test_a_strategy_from_a_file_pickles(mine: Path) -> None:
    made = create(f"{mine}:Mine")
    assert vars(pickle.loads(pickle.dumps(made))) == vars(made)


def test_an_edited_file_is_read_again(mine: Path) -> None:
    assert vars(create(f"{mine}:Mine"))["share"] == 0.5
    mine.write_text(MINE.replace("share: float = 0.5", "share: float = 0.7"))
    assert vars(create(f"{mine}:Mine"))["share"] == 0.7


def test_files_of_one_name_do_not_shadow_each_other(mine: Path, tmp_path: Path) -> None:
    other = tmp_path / "other" / mine.name
    other.parent.mkdir()
    other.write_text(MINE.replace("= 0.5", "= 0.9"))
    assert vars(create(f"{mine}:Mine"))["share"] == 0.5
    assert vars(create(f"{other}:Mine"))["share"] == 0.9
    assert vars(create(f"{mine}:Mine"))["share"] == 0.5


def test_a_class_in_a_module_is_used(mine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(mine.parent))
    assert create("my_strategy.Mine").name == "mine"
    assert create({"class_path": "my_strategy.Strict", "share": 0.1}).name == "mine"
    monkeypatch.delitem(sys.modules, "my_strategy")


def test_a_class_that_takes_anything_gets_it(mine: Path) -> None:
    made = create({"class_path": f"{mine}:Open", "depth": 3})
    assert vars(made)["anything"] == {"depth": 3}


@pytest.mark.parametrize(
    ("path", "message"),
    [
        (
            "{mine}:Absent",
            r"Cannot load .*has no attribute 'Absent'.*Expected package.module.Class",
        ),
        ("{mine}:number", "is no subclass of activeselect.Strategy"),
        ("{mine}:dataclass", "is no subclass of activeselect.Strategy"),
        ("{mine}:Nameless", r"has no name; add `name = "),
        ("{mine}:Unfinished", "does not define select"),
        ("{mine}:Strict", "'mine': .*missing 1 required .*'share'"),
        ("/absent/file.py:Mine", "There is no strategy file /absent/file.py"),
        ("no_such_package.Mine", "Cannot load .*No module named 'no_such_package'"),
        (".relative.Mine", "Cannot load the strategy class '.relative.Mine'"),
        ("json.JSONDecoder", "is no subclass of activeselect.Strategy"),
        ("Mine", "Cannot load the strategy class 'Mine'"),
        ("", "Cannot load the strategy class ''"),
    ],
)
def test_a_class_that_cannot_be_used_is_named(mine: Path, path: str, message: str) -> None:
    with pytest.raises(StrategyError, match=message):
        create({"class_path": path.replace("{mine}", str(mine))})


def test_a_refused_parameter_is_named(mine: Path) -> None:
    with pytest.raises(StrategyError, match="'mine': share must be at most 1"):
        create({"class_path": f"{mine}:Strict", "share": 2})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("class Mine(:\n", r"Cannot load .*SyntaxError: .*my_strategy.py, line 1"),
        ("import no_such_package\n", "ModuleNotFoundError: No module named 'no_such_package'"),
        ("undefined_name\n", "NameError: name 'undefined_name'"),
        ("1 / 0\n", "ZeroDivisionError"),
        ("raise RuntimeError('broken')\n", "RuntimeError: broken"),
        ("x = '\x00'\n", "Cannot load"),
    ],
)
def test_a_file_that_cannot_be_run_is_named(mine: Path, text: str, message: str) -> None:
    mine.write_text(text)
    for _ in range(2):  # a failed import leaves nothing behind
        with pytest.raises(StrategyError, match=message):
            create(f"{mine}:Mine")


# --- installed packages ------------------------------------------------------------------------


def test_an_entry_point_is_found(installed: Any) -> None:
    installed(plugin=Plugin)
    assert strategies()["plugin"] is Plugin
    assert type(create("plugin")) is Plugin


def test_an_entry_point_registered_twice_is_no_collision(installed: Any) -> None:
    installed(plugin=Plugin, again=Plugin)
    assert strategies()["plugin"] is Plugin


def test_a_name_that_is_taken_is_refused(installed: Any) -> None:
    installed(mine=Pretender)
    with pytest.raises(StrategyError, match=r"Two strategies are named 'premem': .*; rename one"):
        create("random")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (int, "'activeselect_test_plugin:broken' is no subclass"),
        (None, r"installed strategy 'broken' .* cannot be loaded .*repair or uninstall"),
    ],
)
def test_a_broken_entry_point_is_named(installed: Any, value: Any, message: str) -> None:
    installed(broken=value)
    with pytest.raises(StrategyError, match=message):
        strategies()
