"""Scoring in chunks: dealt fairly, once each, kept and found again, whatever the damage."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from activeselect.scoring.distributed import Chunks, deal, score_in_chunks, weights_hash
from activeselect.scoring.scorer import Scores


def measured(index: np.ndarray) -> Scores:
    """Something of every kind that a pass may measure; floats that no short decimal gives."""
    rng = np.random.default_rng(7)
    values = rng.normal(size=100)[index]
    return Scores(
        index,
        rng.random((100, 3))[index] < 0.5,
        values,
        index + 5,
        {"el2n": values / 3, "ifd": np.where(index % 4, values, np.nan)},
        tuple((f"text {i} \u221a\n",) for i in index),
        tokens_generated=int(index.sum()),
        truncated=len(index),
    )


def assert_equal(one: Scores, other: Scores) -> None:
    left, right = one.to_plain(), other.to_plain()
    del left["seconds"], right["seconds"]
    assert json.dumps(left) == json.dumps(right)


@given(
    st.lists(st.integers(0, 1000), max_size=60),
    st.integers(1, 9),
)
def test_every_piece_of_work_is_dealt_once_and_loads_are_near(
    costs: list[int], world_size: int
) -> None:
    shares = deal(costs, world_size)
    assert sorted(item for share in shares for item in share) == list(range(len(costs)))
    loads = [sum(costs[item] for item in share) for share in shares]
    # what was dealt last to the fullest rank was the least of its pieces, dealt when it had least
    fullest = shares[int(np.argmax(loads))]
    if fullest:
        assert max(loads) - min(loads) <= min(costs[item] for item in fullest)


@given(st.permutations(range(30)), st.integers(1, 400))
def test_a_pass_is_the_same_however_it_is_cut(order: list[int], batch_tokens: int) -> None:
    index = np.array(order)
    found = score_in_chunks(
        measured, index, index % 7 + 3, batch_tokens=batch_tokens, chunks=Chunks(None), key=[]
    )
    assert_equal(found, measured(index))


def interrupted(parts: Chunks, index: np.ndarray, after: int, key: list[int]) -> list[int]:
    """Score until ``after`` chunks are done; returns the positions scored in this attempt."""
    scored: list[int] = []
    chunks = 0

    def score(some: np.ndarray) -> Scores:
        nonlocal chunks
        if chunks == after:
            raise KeyboardInterrupt
        chunks += 1
        scored.extend(some.tolist())
        return measured(some)

    lengths = np.full(len(index), 10)
    try:
        found = score_in_chunks(score, index, lengths, batch_tokens=40, chunks=parts, key=key)
    except KeyboardInterrupt:
        return scored
    assert_equal(found, measured(index))
    return scored


def test_what_was_scored_before_a_stop_is_not_scored_again(tmp_path: Path) -> None:
    index = np.random.default_rng(0).permutation(40)
    for after in range(10):
        parts = Chunks(tmp_path / str(after))
        before = interrupted(parts, index, after, [1])
        rest = interrupted(parts, index, 99, [1])
        assert len(before) == 4 * after
        assert sorted(before + rest) == list(range(40))


def test_parts_of_other_weights_rounds_or_examples_are_not_used(tmp_path: Path) -> None:
    index, parts = np.arange(40), Chunks(tmp_path)
    interrupted(parts, index, 99, [1])
    assert interrupted(parts, index, 99, [1]) == []
    assert len(interrupted(parts, index, 99, [2])) == 40
    assert len(interrupted(parts, index[::-1], 99, [1])) == 40
    parts.clear()
    assert len(interrupted(parts, index, 99, [1])) == 40


@pytest.mark.parametrize("damage", [lambda text: text[:-3], lambda text: text.replace("5", "6", 1)])
def test_a_damaged_part_is_measured_again(tmp_path: Path, damage: object) -> None:
    index, parts = np.arange(40), Chunks(tmp_path)
    interrupted(parts, index, 99, [1])
    file = sorted(tmp_path.glob("*.json"))[3]
    assert callable(damage)
    head, _, body = file.read_text().partition("\n")
    file.write_text(head + "\n" + damage(body))
    assert len(interrupted(parts, index, 99, [1])) == 4


def test_weights_are_told_apart_by_content() -> None:
    first = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.ones(2, dtype=torch.bfloat16)}
    assert weights_hash(first.items()) == weights_hash(
        {k: v.clone() for k, v in first.items()}.items()
    )
    for changed in (
        {**first, "a": first["a"].reshape(3, 2)},
        {**first, "a": first["a"] + torch.tensor(1e-7) * (torch.arange(3) == 1)},
        {**first, "b": first["b"].float()},
    ):
        assert weights_hash(changed.items()) != weights_hash(first.items())
