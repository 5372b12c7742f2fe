"""Clusters of questions as groups."""

from __future__ import annotations

import numpy as np
import pytest

from activeselect.data.pool import Pool, Problem
from activeselect.data.regions import with_regions
from activeselect.data.skills import build_preset
from activeselect.errors import ConfigError

STORIES = {
    "train": "a train travels {} miles in {} hours how far does the train get",
    "shop": "a shop sells {} pears for {} coins what do the pears cost",
    "class": "in a class of {} pupils {} are absent how many pupils are there",
}


def pool_of(questions: list[str]) -> Pool:
    problems = (Problem(i, question, f"so {i}", str(i)) for i, question in enumerate(questions))
    return Pool.from_problems(problems, checker="number")


def stories(count: int) -> tuple[Pool, list[str]]:
    rng = np.random.default_rng(0)
    kinds = rng.choice(list(STORIES), count).tolist()
    return pool_of([STORIES[k].format(*rng.integers(2, 60, 2)) for k in kinds]), kinds


def test_regions_find_the_kinds_of_stories_and_are_named_by_their_words() -> None:
    pool, kinds = stories(120)
    grouped = with_regions(pool, 3)
    assert {(name, kind) for name, kind in zip(grouped.groups, kinds, strict=True)}.__len__() == 3
    of = {kinds[int(np.flatnonzero(grouped.groups == code)[0])]: code for code in range(3)}
    for kind, word in {"train": "train", "shop": "pears", "class": "pupils"}.items():
        assert word in grouped.group_names[of[kind]].split()


def test_regions_are_skills_more_often_than_not() -> None:
    pool = build_preset("mixed", seed=0, pool_size=600, test_size=4).pool
    region = with_regions(pool, 24).groups
    purity = [np.bincount(pool.groups[region == r]).max() for r in range(24)]
    assert sum(purity) / 600 > 0.8


def test_the_same_questions_have_the_same_regions_and_the_content_is_unchanged() -> None:
    pool, _ = stories(60)
    first, second = with_regions(pool, 5), with_regions(stories(60)[0], 5)
    assert first.group_names == second.group_names
    np.testing.assert_array_equal(first.groups, second.groups)
    assert first.groups.dtype == np.int32
    assert first.fingerprint == pool.fingerprint
    assert pool.group_names == ("",)
    half = first.subset(range(0, 60, 2))
    np.testing.assert_array_equal(half.groups, first.groups[::2])


@pytest.mark.parametrize(
    ("questions", "message"),
    [
        (["one two", "two one", "three four"], r"at most 2, the number of questions.*received 3"),
        (["?", "!", "+"], "have no words"),
    ],
)
def test_what_cannot_be_clustered_is_said(questions: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        with_regions(pool_of(questions), 3)


def test_few_words_need_no_reduction() -> None:
    pool = pool_of(["a b", "a c", "b c", "c d"] * 3)
    assert len(set(with_regions(pool, 4).groups.tolist())) == 4
