"""The commands on the pages for each kind of user run as they stand there, with a tiny model."""

from __future__ import annotations

import json
import re
import shlex
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest

from activeselect.cli import run

DOCS = Path(__file__).resolve().parents[1] / "docs" / "guide"
PAGES = ("own-data", "one-gpu", "offline")
#: So that a random model on a busy machine is done in seconds; nothing else is changed.
SMALLER = {
    "train": ("scoring.max_new_tokens=4", "recipe.precision=32-true", "accelerator=cpu"),
    "score": ("scoring.max_new_tokens=4",),
}
SIZES = {
    "gsm8k-qwen-0.5b-lora": ("rounds.budgets=[2,4]", "recipe.epochs=2", "recipe.batch_size=2"),
    "first.yaml": ("recipe.epochs=1", "recipe.batch_size=4"),
}


def commands(page: str) -> list[str]:
    blocks = re.findall(r"```bash\n(.*?)```", (DOCS / f"{page}.md").read_text(), re.DOTALL)
    lines = [line.strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line.startswith("activeselect")]


@pytest.fixture
def workplace(
    small_model: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """The files that the pages speak of."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")
    small_model(tmp_path / "models" / "base")
    for number in (5, 10):
        small_model(tmp_path / "runs" / "sft" / f"checkpoint-{number}")
    (tmp_path / "gsm8k").mkdir()
    for split in ("train", "test"):
        own = [
            {"question": f"{i} + 1 ?", "solution": f"It is {i + 1} .", "answer": str(i + 1)}
            for i in range(6)
        ]
        gsm8k = [
            {"question": row["question"], "answer": f"{row['solution']}\n#### {row['answer']}"}
            for row in own
        ]
        for rows, file in ((own, f"{split}.jsonl"), (gsm8k, f"gsm8k/{split}.jsonl")):
            (tmp_path / file).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


@pytest.mark.parametrize("page", PAGES)
def test_the_commands_of_the_page_run(page: str, workplace: Path) -> None:
    lines = commands(page)
    assert lines
    for line in lines:
        if "lora" in line:
            pytest.importorskip("peft", reason="adapters need the extra activeselect[peft]")
        words = shlex.split(line)[1:]
        for name, changes in SIZES.items():
            words += changes if name in words and words[0] == "train" else ()
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="lightning|torch|peft")
            assert run([*words, *SMALLER.get(words[0], ())]) == 0, line
