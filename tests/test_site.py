"""The pages: every link leads somewhere, every page is in the contents, and the site builds."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import activeselect

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = [*sorted(ROOT.glob("*.md")), *sorted(DOCS.rglob("*.md"))]


def named(file: Path) -> str:
    return file.relative_to(ROOT).as_posix()


def without_code(text: str) -> str:
    return re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)


def anchors(file: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub and MyST write them."""
    titles = re.findall(r"^#+ (.*)$", without_code(file.read_text(encoding="utf-8")), re.M)
    plain = (re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", title).lower() for title in titles)
    return {re.sub(r"[^\w\- ]", "", title).strip().replace(" ", "-") for title in plain}


def children(page: Path) -> Iterator[Path]:
    """The pages that a page's contents list."""
    text = page.read_text(encoding="utf-8")
    for block in re.findall(r"^```\{toctree\}\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
        for line in block.split():
            if not line.startswith(":") and not line.isdigit():
                yield (page.parent / f"{line}.md").resolve()


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_link_leads_somewhere(page: Path) -> None:
    text = without_code(page.read_text(encoding="utf-8"))
    for target in re.findall(r"\]\((?!https?:)([^)\s]+)\)", text):
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), target
        assert not anchor or anchor in anchors(file), target


def test_every_page_is_in_the_contents() -> None:
    found, waiting = set(), [DOCS / "index.md"]
    while waiting:
        page = waiting.pop()
        found.add(page)
        waiting += [child for child in children(page) if child not in found]
    assert {named(page) for page in found} == {named(page) for page in DOCS.rglob("*.md")}


def test_every_public_name_is_in_the_reference() -> None:
    pages = [DOCS / "reference" / f"{name}.md" for name in ("api", "settings")]
    text = "".join(page.read_text(encoding="utf-8") for page in pages)
    listed = re.findall(r"^\.\. auto\w+:: activeselect\.(\w+)$", text, re.M)
    assert sorted(listed) == sorted(activeselect.PUBLIC)


def test_the_files_of_the_walks_exist() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    files = re.findall(r"`((?:cli|data|forecast|scoring|selection|study|training)/\w+\.py)`", text)
    assert len(files) > 20
    assert [file for file in files if not (ROOT / "activeselect" / file).exists()] == []


def test_the_guide_uses_the_words_of_the_glossary() -> None:
    private = re.compile(r"\b(bills?|trajectory|looked_at|Moment|random walk)\b")
    pages = (DOCS / "guide").glob("*.md")
    assert [page.name for page in pages if private.search(page.read_text(encoding="utf-8"))] == []


@pytest.mark.slow  # imports everything: half a minute
def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-b", "html"]
    done = subprocess.run(
        [*command, "-d", str(tmp_path / "doctrees"), str(DOCS), str(tmp_path / "site")],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONWARNINGS": "ignore"},
    )
    assert done.returncode == 0, done.stderr
    assert "RunConfig" in (tmp_path / "site" / "reference" / "settings.html").read_text()
