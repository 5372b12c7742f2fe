"""The shipped base model: it loads, knows what it should and nothing more; the rebuild works."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from activeselect.data.pool import Problem
from activeselect.data.skills import base_path, build_preset, vocabulary
from activeselect.errors import ModelError
from activeselect.training.pretrain import build_base, build_tokenizer


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """At this size a second thread only waits for the first."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@torch.no_grad()
def answered(problems: list[Problem]) -> list[bool]:
    """Whether the base model's greedy completion ends in the right answer and stops."""
    tokenizer = AutoTokenizer.from_pretrained(base_path())
    model = AutoModelForCausalLM.from_pretrained(base_path()).train(False)
    prompts = [f"{problem.question} " for problem in problems]
    batch = tokenizer(prompts, padding=True, return_tensors="pt", return_token_type_ids=False)
    out = model.generate(**batch, max_new_tokens=36, do_sample=False)
    texts = tokenizer.batch_decode(out[:, batch["input_ids"].shape[1] :])
    return [
        f" answer : {problem.answer} <eos>" in text
        for text, problem in zip(texts, problems, strict=True)
    ]


def test_the_base_masters_the_easy_skills_and_not_the_others() -> None:
    data = build_preset("mixed", 11, pool_size=50, test_size=400)
    easy = [problem for problem in data.test if problem.group in data.preset.mastered][:120]
    hard = [problem for problem in data.test if problem.group not in data.preset.mastered]
    easy_ok, hard_ok = answered(easy), answered(hard)
    assert sum(easy_ok) / len(easy_ok) >= 0.85
    assert sum(hard_ok) / len(hard_ok) <= 0.25


def test_the_base_is_small_whole_and_in_float32() -> None:
    assert sum(file.stat().st_size for file in base_path().iterdir()) < 2_000_000
    model = AutoModelForCausalLM.from_pretrained(base_path())
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert model.num_parameters() < 200_000


def test_the_tokenizer_is_the_vocabulary_and_adds_nothing() -> None:
    tokenizer = AutoTokenizer.from_pretrained(base_path())
    words = vocabulary()
    assert tokenizer.convert_ids_to_tokens(list(range(len(words)))) == list(words)
    assert len(tokenizer) == len(words)
    data = build_preset("trap", 0, pool_size=200, test_size=200)
    for problem in (*data.pool, *data.test):
        text = f"{problem.question} {problem.trace}"
        ids = tokenizer(text)["input_ids"]
        assert tokenizer.unk_token_id not in ids
        assert tokenizer.decode(ids) == text
        # Prompt and target are tokenized apart or together with the same result.
        parts = (
            tokenizer(f"{problem.question} ")["input_ids"] + tokenizer(problem.trace)["input_ids"]
        )
        assert parts == ids


def test_a_rebuild_is_whole_and_repeatable(tmp_path: Path) -> None:
    for name in ("one", "two"):
        build_base(tmp_path / name, seed=3, tokens=5_000, progress=False)
    build_base(tmp_path / "two", seed=4, tokens=5_000, progress=False)  # replaces
    build_base(tmp_path / "three", seed=3, tokens=5_000, progress=False)
    weights = [
        (tmp_path / name / "model.safetensors").read_bytes() for name in ("one", "two", "three")
    ]
    assert weights[0] == weights[2] != weights[1]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "three", "two"]
    assert {path.name for path in (tmp_path / "one").iterdir()} == {
        path.name for path in base_path().iterdir()
    }
    assert build_tokenizer().get_vocab() == AutoTokenizer.from_pretrained(base_path()).get_vocab()


def test_a_rebuild_leaves_other_folders_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ModelError, match="holds no model"):
        build_base(tmp_path, tokens=100, progress=False)
    with pytest.raises(ModelError, match="tokens must be at least 1, got 0"):
        build_base(tmp_path / "new", tokens=0, progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
