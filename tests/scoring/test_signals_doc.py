"""docs/guide/signals.md names every signal."""

from __future__ import annotations

import re
from pathlib import Path

from activeselect.scoring.signals import SIGNALS

DOC = Path(__file__).resolve().parents[2] / "docs" / "guide" / "signals.md"


def test_the_table_names_every_signal_and_no_other() -> None:
    rows = re.findall(r"^\| ([a-z0-9_, ]+) \|", DOC.read_text(), flags=re.MULTILINE)
    named = [name.strip() for row in rows if row != "signal" for name in row.split(",")]
    assert sorted(named) == sorted(SIGNALS)
