"""Prompt and target in tokens: the loss covers the target and its end token, and nothing else."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from activeselect.config import PromptConfig
from activeselect.data.pool import Pool, Problem
from activeselect.data.prompts import (
    IGNORED,
    Encoded,
    EncodedSet,
    Sizes,
    batches_by_tokens,
    collate,
    encode,
    longest_possible,
    render,
)
from activeselect.errors import ModelError

END, PAD, BEGIN = "</s>", "<pad>", "<s>"
MERGES = [("h", "e"), ("he", "l"), ("hel", "l"), ("hell", "o"), (":", "Ġ"), ("1", "2"), ("Ġ", "h")]
MERGES += [(":", "h"), ("Ġ", "hello"), ("n", "o")]


def bytes_bpe() -> Tokenizer:
    """Byte-level as GPT-2's; some merges would straddle prompt and target."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = [*(END, PAD, BEGIN), *alphabet, *(a + b for a, b in MERGES)]
    built = Tokenizer(models.BPE({word: i for i, word in enumerate(words)}, MERGES))
    built.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    built.decoder = decoders.ByteLevel()
    built.post_processor = processors.ByteLevel(trim_offsets=False)
    return built


def trimmed() -> Tokenizer:
    """As GPT-2 ships: offsets leave a word's leading space out, and a regex splits first."""
    built = bytes_bpe()
    built.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    built.post_processor = processors.ByteLevel(trim_offsets=True)
    return built


def sentencepiece_like() -> Tokenizer:
    """As Llama 2's: a normaliser rewrites the text, and both ends are marked."""
    built = bytes_bpe()
    built.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.NFC()])
    built.post_processor = processors.TemplateProcessing(
        single=f"{BEGIN} $A {END}", special_tokens=[(BEGIN, 2), (END, 0)]
    )
    return built


BUILDERS = {"bytes": bytes_bpe, "trimmed": trimmed, "marked": sentencepiece_like}


def fast(built: Tokenizer, **changes: Any) -> Any:
    names = {"eos_token": END, "pad_token": PAD, "bos_token": BEGIN, **changes}
    return PreTrainedTokenizerFast(tokenizer_object=built, **names)


TOKENIZERS = {name: fast(build()) for name, build in BUILDERS.items()}
TEXT = st.text(
    st.one_of(
        st.sampled_from("hello :12\n{}$#é日🙂"), st.characters(exclude_categories=["Cs", "Cc"])
    ),
    min_size=1,
    max_size=20,
).filter(str.strip)


def pool_of(*pairs: tuple[str, str]) -> Pool:
    return Pool.from_problems(
        (Problem(i, question, trace, "1") for i, (question, trace) in enumerate(pairs)),
        checker="number",
    )


def decoded(tokenizer: Any, ids: np.ndarray) -> str:
    text: str = tokenizer.decode(ids.tolist(), skip_special_tokens=True)
    return text.removeprefix("▁")


# --- encode ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", BUILDERS)
@settings(max_examples=60, deadline=None)
@given(TEXT, TEXT, st.sampled_from(["{question}\nAnswer:", "{question} ", "{question}"]))
def test_tokens_split_where_the_target_begins(
    name: str, question: str, trace: str, prompt: str
) -> None:
    tokenizer = TOKENIZERS[name]
    template = PromptConfig(prompt, "{trace}")
    before, target = render(Problem(0, question, trace, "1"), template)
    try:
        (item,) = encode(pool_of((question, trace)), [0], tokenizer, template)
    except ModelError as error:  # a prompt of one token that reaches into the target
        assert "has no token of its own" in str(error)  # noqa: PT017  (rare, not expected)
        assert len(before) == 1
        return
    ids = item.ids
    assert ids.dtype == np.int32
    assert ids[-1] == tokenizer.eos_token_id
    assert ids[-2] != tokenizer.eos_token_id or name == "bytes"
    assert 0 < item.start < len(ids)
    np.testing.assert_array_equal(item.prompt, ids[: item.start])
    if name != "marked":  # there the normaliser composes characters
        whole = before + target
        assert decoded(tokenizer, ids[:-1]) == whole
        # a letter of a byte-level token is a byte
        ends = np.cumsum([len(word) for word in tokenizer.convert_ids_to_tokens(ids.tolist())])
        assert ends[item.start - 1] <= len(before.encode()) < ends[item.start]
    else:
        assert ids[0] == tokenizer.bos_token_id
        assert list(ids).count(tokenizer.eos_token_id) == 1


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=4))
def test_no_problem_has_more_tokens_than_is_possible(texts: list[tuple[str, str]]) -> None:
    tokenizer, template = TOKENIZERS["bytes"], PromptConfig("{question}\n{question}:", "{trace}")
    pool = pool_of(*texts)
    most = longest_possible(pool, template, tokenizer)
    assert most is not None
    sizes = Sizes.of(encode(pool, range(len(pool)), tokenizer, template))
    assert (sizes.tokens <= most).all()
    assert (most <= 2 * sizes.tokens + 4).all()  # a token of this tokenizer has at most two bytes
    labelled = pool.with_labels({0: ("a much longer trace", "1")})
    more = longest_possible(labelled, template, tokenizer)
    assert more is not None
    assert more[0] - most[0] == len("a much longer trace") - len(texts[0][1].encode())


def test_a_tokenizer_that_may_make_texts_longer_has_to_count() -> None:
    pool = pool_of(("a", "b"))
    assert (
        longest_possible(pool, PromptConfig("{question} ", "{trace}"), TOKENIZERS["marked"]) is None
    )
    chat = PromptConfig("{question} ", "{trace}", chat=True)
    assert longest_possible(pool, chat, TOKENIZERS["bytes"]) is None


def test_a_token_across_the_border_belongs_to_the_target() -> None:
    tokenizer = TOKENIZERS["bytes"]
    (item,) = encode(pool_of(("no:", " 12")), [0], tokenizer, PromptConfig("{question}", "{trace}"))
    words = tokenizer.convert_ids_to_tokens(item.ids.tolist())
    assert words == ["no", ":Ġ", "12", END]
    assert item.start == 1


def test_a_prompt_swallowed_by_its_first_token_is_refused() -> None:
    template = PromptConfig("{question}", "{trace}")
    with pytest.raises(ModelError, match=r"The prompt ':' has no token of its own; let prompt"):
        encode(pool_of((":", " 12")), [0], TOKENIZERS["bytes"], template)


def test_a_target_that_the_tokenizer_drops_is_the_end_token_alone() -> None:
    words = Tokenizer(models.WordLevel({"<unk>": 0, "one": 1, END: 2}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = fast(words, unk_token="<unk>", pad_token=END, bos_token=None)
    (item,) = encode(
        pool_of(("one one", " ")), [0], tokenizer, PromptConfig("{question}", "{trace}")
    )
    assert item.ids.tolist() == [1, 1, 2]
    assert item.start == 2


def test_items_come_in_the_order_asked_for() -> None:
    pool = pool_of(("one", "hello"), ("two", "12"), ("three", "no"))
    template = PromptConfig("{question} ", "{trace}")
    items = encode(pool, np.array([2, 0]), TOKENIZERS["bytes"], template)
    assert [item.index for item in items] == [2, 0]
    assert decoded(TOKENIZERS["bytes"], items[0].ids) == "three no"
    assert encode(pool, [], TOKENIZERS["bytes"], template) == []


@pytest.mark.parametrize("text", ["{trace}", "{question}", "{0} {} {{}} {x!r}", "$\\frac{1}{2}$"])
def test_braces_are_text(text: str) -> None:
    problem = Problem(0, text, text, "1")
    assert render(problem, PromptConfig("Q {question}", "A {trace}")) == (f"Q {text}", f"A {text}")


def test_a_tokenizer_without_offsets_or_end_is_refused() -> None:
    pool, template = pool_of(("one", "hello")), PromptConfig()

    class Slow:
        is_fast = False

    with pytest.raises(ModelError, match="must be a fast one"):
        encode(pool, [0], Slow(), template)
    endless = fast(bytes_bpe())
    endless.eos_token = None
    with pytest.raises(ModelError, match="no end-of-text token; set"):
        encode(pool, [0], endless, template)


# --- collate -----------------------------------------------------------------------------------

ITEMS = st.lists(
    st.tuples(st.lists(st.integers(0, 9), min_size=2, max_size=12), st.integers(1, 11)),
    min_size=1,
    max_size=6,
)


@settings(max_examples=100, deadline=None)
@given(ITEMS)
def test_labels_are_the_target_alone(rows: list[tuple[list[int], int]]) -> None:
    items = [
        Encoded(10 * i, np.array(ids, np.int32), min(start, len(ids) - 1))
        for i, (ids, start) in enumerate(rows)
    ]
    batch = collate(items, pad_token_id=0)  # 0 is a token of the texts, too
    longest = max(len(item.ids) for item in items)
    assert all(tensor.dtype == torch.int64 for tensor in batch.values())
    assert batch["index"].tolist() == [item.index for item in items]
    for row, item in enumerate(items):
        padding = longest - len(item.ids)
        ids = item.ids.tolist()
        assert batch["input_ids"][row].tolist() == ids + [0] * padding
        assert batch["attention_mask"][row].tolist() == [1] * len(ids) + [0] * padding
        target = [IGNORED] * item.start + ids[item.start :] + [IGNORED] * padding
        assert batch["labels"][row].tolist() == target


def test_a_set_is_addressed_by_position_in_the_pool() -> None:
    items = [Encoded(i, np.array([i, 1], np.int32), 1) for i in (7, 3)]
    encoded = EncodedSet(items)
    assert len(encoded) == 2
    assert (encoded[3].index, encoded[3].start, encoded[3].ids.tolist()) == (3, 1, [3, 1])
    assert [item.index for item in encoded.take(np.array([3, 7, 3]))] == [3, 7, 3]
    assert 5 not in encoded
    with pytest.raises(KeyError):
        encoded[5]


# --- batches -----------------------------------------------------------------------------------


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(0, 50), max_size=40), st.integers(1, 200))
def test_batches_cover_every_row_once_within_the_budget(
    lengths: list[int], batch_tokens: int
) -> None:
    batches = batches_by_tokens(lengths, batch_tokens)
    assert sorted(i for batch in batches for i in batch.tolist()) == list(range(len(lengths)))
    for batch in batches:
        longest = max(lengths[i] for i in batch)
        assert len(batch) == 1 or longest * len(batch) <= batch_tokens
    ordered = [lengths[i] for batch in batches for i in batch]
    assert ordered == sorted(lengths, reverse=True)  # the largest first: no memory runs out later


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(1, 50), min_size=1, max_size=40), st.integers(1, 200))
def test_no_batch_could_take_the_next_row_too(lengths: list[int], batch_tokens: int) -> None:
    batches = batches_by_tokens(lengths, batch_tokens)
    for batch in batches[:-1]:
        longest = max(lengths[i] for i in batch)
        assert longest * (len(batch) + 1) > batch_tokens


def test_a_set_in_a_file_holds_the_same() -> None:
    rng = np.random.default_rng(0)
    items = [
        Encoded(int(i), rng.integers(0, 99, 2 + int(i) % 7).astype(np.int32), int(i) % 2 + 1)
        for i in rng.permutation(50)
    ]
    spilled = EncodedSet(iter(items), spill_bytes=64)
    assert isinstance(spilled._ids, np.memmap)
    assert len(spilled) == 50
    for item in items:
        found, padding = spilled[item.index], spilled[~item.index]
        assert (found.index, found.start) == (item.index, item.start)
        assert found.ids.tolist() == padding.ids.tolist() == item.ids.tolist()
        assert (padding.index, padding.start) == (-1, len(item.ids))
    assert spilled.holds(np.arange(50))
    assert not spilled.holds(np.array([3, 50]))
    assert not spilled.holds(np.array([-1]))
    index = np.array([item.index for item in items])
    sizes = spilled.sizes(index)
    assert sizes.tokens.tolist() == [len(item.ids) for item in items]
    assert sizes.prompt.tolist() == [item.start for item in items]
    file = Path(str(spilled._ids.filename))
    del spilled, found, padding
    gc.collect()
    assert not file.exists()
