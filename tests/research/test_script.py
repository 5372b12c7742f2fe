"""The command lines of the research scripts."""

from __future__ import annotations

import pytest

from research.script import _spelled_out


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--json"], ["--json", "true"]),
        (["--json", "--train", "5"], ["--json", "true", "--train", "5"]),
        (["recipe", "--preset", "mixed"], ["recipe", "--preset", "mixed"]),
        (["--json=false", "--help"], ["--json=false", "--help"]),
        ([], []),
    ],
)
def test_a_flag_without_a_value_is_switched_on(words: list[str], expected: list[str]) -> None:
    assert _spelled_out(words) == expected
