"""The public names: one list, loaded when used; every public definition has a docstring."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from pathlib import Path

import pytest

import activeselect

ROOT = Path(__file__).parents[1]
FILES = sorted((ROOT / "activeselect").rglob("*.py"))


def test_type_checkers_see_the_names_that_the_list_holds() -> None:
    tree = ast.parse((ROOT / "activeselect" / "__init__.py").read_text())
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    seen = {
        alias.asname: f"{node.module}"
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if alias.name == alias.asname
    }
    assert seen == {name: f"activeselect.{home}" for name, home in activeselect.PUBLIC.items()}


@pytest.mark.parametrize("name", activeselect.PUBLIC)
def test_a_public_name_is_there_and_says_what_it_is(name: str) -> None:
    thing = getattr(activeselect, name)
    assert inspect.getdoc(thing)
    assert thing.__name__ == name


@pytest.mark.parametrize("name", activeselect.PUBLIC)
def test_a_public_name_shows_how_it_is_used(name: str) -> None:
    thing = getattr(activeselect, name)
    own_error = isinstance(thing, type) and issubclass(thing, activeselect.ActiveSelectError)
    doc = inspect.getdoc(thing) or ""
    assert own_error or "Example" in doc or "In a script of your own::" in doc


def test_the_version_is_the_installed_one() -> None:
    assert activeselect.__version__.split(".")[0].isdigit()
    with pytest.raises(AttributeError, match="no attribute 'nothing_like_it'"):
        _ = activeselect.nothing_like_it


def undocumented(node: ast.AST, prefix: str) -> Iterator[str]:
    """Names of public classes and functions in a syntax tree that have no docstring."""
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.ClassDef | ast.FunctionDef) or child.name.startswith("_"):
            continue
        if any(isinstance(d, ast.Attribute) and d.attr == "setter" for d in child.decorator_list):
            continue  # the getter has it
        if not ast.get_docstring(child):
            yield f"{prefix}{child.name}"
        if isinstance(child, ast.ClassDef):
            yield from undocumented(child, f"{prefix}{child.name}.")


@pytest.mark.parametrize("file", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_public_definition_has_a_docstring(file: Path) -> None:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    assert ast.get_docstring(tree)
    assert list(undocumented(tree, "")) == []
