"""The shipped base model: it loads, knows what it should and nothing more; the rebuild works."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

from activeselect.data.pool import Problem
from activeselect.data.skills import base_path, build_preset
from activeselect.data.skills.stories import vocabulary
from activeselect.errors import ModelError, StoreError
from research.base_mixture import draw_text
from research.base_model import (
    SIZES,
    build_base,
    build_model,
    build_tokenizer,
    get_size,
)
from research.base_texts import batches, texts


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
    with pytest.raises(StoreError, match="choose a path whose parents are folders"):
        build_base(tmp_path / "notes.txt" / "base", progress=False)  # at once, untrained
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def weights_by_the_original_loop(seed: int, tokens: int) -> dict[str, torch.Tensor]:
    """Reference: the shipped base's training with every setting written out, as it was made."""
    config = LlamaConfig(
        vocab_size=len(vocabulary()),
        hidden_size=64,
        intermediate_size=192,
        num_hidden_layers=3,
        num_attention_heads=4,
        max_position_embeddings=128,
        tie_word_embeddings=True,
        initializer_range=0.05,
        pad_token_id=0,
        eos_token_id=1,
        bos_token_id=None,
    )
    torch.manual_seed(seed)
    model = LlamaForCausalLM(config).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3, betas=(0.9, 0.98), weight_decay=0.01)
    rng = np.random.Generator(np.random.PCG64([seed, 2]))
    code = {word: i for i, word in enumerate(vocabulary())}
    seen = 0
    while True:
        rows = []
        for _ in range(64 * 32):
            text, whole = draw_text(rng)
            rows.append([code[word] for word in text.split()] + [1] * whole)
        rows.sort(key=len)
        for i in rng.permutation(32):
            chunk = rows[i * 64 : (i + 1) * 64]
            longest = len(chunk[-1])
            ids = torch.tensor([row + [0] * (longest - len(row)) for row in chunk])
            done = seen / tokens
            rate = 4e-3 * min(done / 0.03 + 0.01, 1.0, (1.0 - done) / 0.97 + 1e-3)
            optimizer.param_groups[0]["lr"] = rate
            model(input_ids=ids, labels=ids.masked_fill(ids == 0, -100)).loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            seen += sum(map(len, chunk))
            if seen >= tokens:
                return model.state_dict()


def test_the_default_repeats_the_shipped_base(tmp_path: Path) -> None:
    build_base(tmp_path / "base", tokens=30_000, progress=False)
    rebuilt = LlamaForCausalLM.from_pretrained(tmp_path / "base").state_dict()
    reference = weights_by_the_original_loop(0, 30_000)
    assert rebuilt.keys() == reference.keys()
    for name, weight in reference.items():
        assert torch.equal(rebuilt[name], weight), name
    for file in base_path().iterdir():
        if file.suffix != ".safetensors":
            mine, shipped = (
                json.loads((d / file.name).read_text()) for d in (tmp_path / "base", base_path())
            )
            for settings in (mine, shipped):
                settings.pop("transformers_version", None)
            assert mine == shipped, file.name
    assert SIZES["0.2m"].tokens == 9_000_000


@pytest.mark.parametrize("name", sorted(SIZES))
def test_a_size_has_the_parameters_of_its_name(name: str) -> None:
    with torch.device("meta"):
        model = build_model(SIZES[name], 0)
    assert float(name[:-1]) == pytest.approx(model.num_parameters() / 1e6, rel=0.15)


def test_writers_take_turns_and_repeat_their_texts() -> None:
    """Real processes, against each one's batches drawn here."""
    alone = [batches(np.random.Generator(np.random.PCG64([5, 2, i])), 4) for i in range(2)]
    together = texts(5, 4, writers=2)
    for _ in range(3):
        for one in alone:
            assert torch.equal(next(together), next(one))
    assert not torch.equal(next(alone[0])[:, :5], next(alone[1])[:, :5])


def test_a_stopped_build_leaves_no_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build_base(tmp_path / "base", tokens=100, progress=False)
    before = (tmp_path / "base" / "model.safetensors").read_bytes()

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(LlamaForCausalLM, "save_pretrained", stop)
    for name in ("base", "new"):
        with pytest.raises(KeyboardInterrupt):
            build_base(tmp_path / name, tokens=100, seed=1, progress=False)
    assert (tmp_path / "base" / "model.safetensors").read_bytes() == before
    assert not (tmp_path / "new").exists()


def test_a_size_or_device_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"received '30M'\. Did you mean '30m'"):
        get_size("30M")
    for device in ("cuda:99", "gpu"):
        with pytest.raises(ModelError, match=f"device: expected auto, .*received '{device}'"):
            build_base(tmp_path / "new", tokens=100, device=device, progress=False)
    assert list(tmp_path.iterdir()) == []
