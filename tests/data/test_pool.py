"""The pool: positions, groups, a fingerprint of the content, and a form that maps large data."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import datasets
import numpy as np
import pytest

from activeselect.data.pool import Pool, PoolWriter, Problem
from activeselect.errors import DataError

PROBLEMS = [Problem(i, f"{i} + 1 ?", f"makes {i + 1}", str(i + 1), "ab"[i % 2]) for i in range(9)]


@pytest.fixture
def pool() -> Pool:
    return Pool.from_problems(PROBLEMS, checker="number")


def test_problems_come_back_as_they_went_in(pool: Pool) -> None:
    assert list(pool) == PROBLEMS
    assert pool[3] == PROBLEMS[3]
    assert pool.problems([8, 0, 8]) == [PROBLEMS[8], PROBLEMS[0], PROBLEMS[8]]
    assert list(pool.subset(np.array([4, 2]))) == [PROBLEMS[4], PROBLEMS[2]]


def test_groups_are_positions_in_the_sorted_names(pool: Pool) -> None:
    assert pool.group_names == ("a", "b")
    assert pool.groups.dtype == np.int32
    assert pool.groups.tolist() == [0, 1, 0, 1, 0, 1, 0, 1, 0]


def test_the_fingerprint_follows_content_order_and_checker(pool: Pool) -> None:
    same = Pool.from_problems(PROBLEMS, checker="number")
    changed = Pool.from_problems(
        [replace(PROBLEMS[0], answer="9"), *PROBLEMS[1:]], checker="number"
    )
    others = [changed, pool.subset(range(8, -1, -1)), Pool(pool.dataset, checker="gsm8k")]
    assert pool.fingerprint == same.fingerprint
    assert len({pool.fingerprint, *(other.fingerprint for other in others)}) == 4


def test_a_dataset_without_the_columns_is_refused() -> None:
    with pytest.raises(DataError, match="missing: trace, answer, group"):
        Pool(datasets.Dataset.from_dict({"id": [0], "question": ["?"]}), checker="number")


@pytest.mark.parametrize("spill_bytes", [2**30, 1])
def test_a_written_pool_is_the_same_in_memory_and_mapped(pool: Pool, spill_bytes: int) -> None:
    problems = [replace(PROBLEMS[i % 9], id=i) for i in range(10_000)]
    writer = PoolWriter(spill_bytes)
    for problem in problems:
        writer.append(problem)
    written = writer.finish(checker="number")
    files = [Path(file["filename"]) for file in written.dataset.cache_files]
    assert len(files) == (1 if spill_bytes == 1 else 0)
    assert written.problems(range(9_995, 10_000)) == problems[-5:]
    assert written.fingerprint == Pool.from_problems(problems, checker="number").fingerprint
    assert pickle.loads(pickle.dumps(written))[9_999] == problems[-1]


def test_small_pools_print_nothing(pool: Pool, capfd: pytest.CaptureFixture[str]) -> None:
    Pool.from_problems(pool, checker="number").subset([1, 2]).problems([0])
    assert capfd.readouterr() == ("", "")


# --- difficulty --------------------------------------------------------------------------------


def test_a_difficulty_is_part_of_the_content_where_it_is_stated(pool: Pool) -> None:
    assert pool.difficulty is None
    assert pool[0].difficulty is None
    stated = [replace(PROBLEMS[0], difficulty=2.0), *PROBLEMS[1:]]
    hard = Pool.from_problems(stated, checker="number")
    assert hard.difficulty is not None
    np.testing.assert_array_equal(hard.difficulty, [2.0, *[np.nan] * 8])
    assert list(hard) == stated
    assert hard.fingerprint != pool.fingerprint
    assert hard.subset([1, 0]).difficulty is not None
    assert hard.subset([1, 2]).difficulty is None
    writer = PoolWriter(1)
    for problem in stated:
        writer.append(problem)
    assert writer.finish(checker="number").fingerprint == hard.fingerprint


def test_the_fingerprint_of_a_pool_without_difficulty_never_changes(pool: Pool) -> None:
    assert pool.fingerprint == "897faa9b0c13259f"


def test_a_position_that_is_not_there_is_no_other_problem() -> None:
    pool = Pool.from_problems([Problem(i, f"{i} ?", "so 1", "1") for i in (3, 4)], checker="number")
    assert (pool[1].id, pool[-2].id) == (4, 3)
    for place in (2, -3):
        with pytest.raises(IndexError, match=f"below 2; received {place}"):
            pool[place]
