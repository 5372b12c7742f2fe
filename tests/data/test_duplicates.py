"""Duplicates and leaks: against a comparison of all pairs, and what loading makes of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from activeselect.config import DataConfig
from activeselect.data.duplicates import NEAR, find_duplicates, normalized
from activeselect.data.load import load_data
from activeselect.errors import ConfigError, DataError

WORDS = st.lists(st.sampled_from(["pears", "in", "a", "box", "7", "12"]), min_size=0, max_size=14)


def slow_similarity(a: str, b: str) -> float:
    """0 where the numbers differ, else the share of runs of three words that both have."""
    x, y = normalized(a).split(), normalized(b).split()
    if sorted(w for w in x if w.isdigit()) != sorted(w for w in y if w.isdigit()):
        return 0.0
    runs = []
    for words in (x, y):
        found = {" ".join(words[i : i + 3]) for i in range(max(len(words) - 2, 0))}
        runs.append(found or {" ".join(words)})
    return len(runs[0] & runs[1]) / len(runs[0] | runs[1])


@settings(max_examples=100, deadline=None)
@given(st.lists(WORDS, max_size=7), st.lists(WORDS, max_size=4), st.randoms())
def test_pairs_are_those_that_a_comparison_of_all_finds(pool, test, chance) -> None:  # type: ignore[no-untyped-def]
    questions, asked = [" ".join(words) for words in pool], [" ".join(words) for words in test]
    questions += [q + " , please" for q in questions[:2]] + [q.upper() + " ?" for q in asked[:1]]
    chance.shuffle(questions)
    found = {(one.index, one.of): one for one in find_duplicates(questions, asked)}
    for i, question in enumerate(questions):
        for of, others in (("test", asked), ("pool", questions[:i])):
            alike = [slow_similarity(question, other) for other in others]
            if max(alike, default=0) >= NEAR:
                one = found.pop((i, of))
                assert one.similarity == pytest.approx(max(alike))
                same = normalized(question) == normalized(others[one.other])
                assert one.exact == same
            else:
                assert (i, of) not in found
    assert not found


@given(st.lists(WORDS, max_size=12), st.lists(WORDS, max_size=4))
def test_exact_ones_alone_are_those_that_a_table_finds(
    pool: list[list[str]], test: list[list[str]]
) -> None:
    questions, asked = [" ".join(words) for words in pool], [" ".join(words) for words in test]
    expected = []
    for i, question in enumerate(questions):
        for of, others in (("test", asked), ("pool", questions[:i])):
            same = [
                k for k, other in enumerate(others) if normalized(other) == normalized(question)
            ]
            expected += [(i, of, same[0], 1.0, True)] if same else []
    found = find_duplicates(questions, asked, near=False)
    assert [(one.index, one.of, one.other, one.similarity, one.exact) for one in found] == expected


STORY = "A farmer has {} hens and {} ducks and sells half of his birds at noon , how many stay ?"


def test_the_same_story_with_other_numbers_is_another_problem() -> None:
    assert not find_duplicates([STORY.format(4, 6)], [STORY.format(4, 8)])
    assert not find_duplicates([STORY.format(4, 6)], [STORY.format(44, 66)])
    changed = STORY.format(4, 6).replace("at noon", "at midday")
    assert not find_duplicates([STORY.format(4, 6)], [changed], near=False)


def test_one_word_more_is_nearly_the_same() -> None:
    long = STORY.format(4, 6) + " give the number of birds that he takes home with him at night"
    (found,) = find_duplicates([long + " now"], [long])
    assert not found.exact
    assert NEAR <= found.similarity < 1


def write(path: Path, questions: list[str]) -> str:
    rows = [{"question": q, "trace": "so 2", "answer": "2"} for q in questions]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def config(folder: Path, on_leak: str) -> DataConfig:
    train = write(folder / "train.jsonl", ["What is 1 + 1?", "Why?", "Why ?", "Where?"])
    test = write(folder / "test.jsonl", ["Who?", "what is 1+1"])
    return DataConfig(train, test=test, checker="number", on_leak=on_leak)  # type: ignore[arg-type]


def test_leaks_are_counted_and_listed(tmp_path: Path) -> None:
    data = load_data(config(tmp_path, "keep"), seed=0)
    report = data.reports["train"]
    assert len(data.pool) == 4
    assert [(row.line, row.of, row.other_line) for row in report.duplicates] == [
        (1, "test", 2), (3, "pool", 2),
    ]  # fmt: skip
    assert "1 questions of the test (1 exact, 0 near); 1 questions twice" in report.summary()
    counts = {"exact test": 1, "near test": 0, "exact pool": 1, "near pool": 0}
    assert report.to_dict()["duplicates"] == counts


def test_leaks_leave_the_pool_or_stop(tmp_path: Path) -> None:
    data = load_data(config(tmp_path, "drop"), seed=0)
    assert [problem.id for problem in data.pool] == [1, 2, 3]
    assert data.reports["train"].counts == {"in the test": 1}
    assert data.reports["train"].kept_lines.tolist() == [2, 3, 4]
    said = r"1 of 4 questions are those of the test:\n  line 1: in the test: the question of line 2"
    with pytest.raises(DataError, match=said):
        load_data(config(tmp_path, "stop"), seed=0)
    with pytest.raises(ConfigError, match=r"data\.on_leak: expected stop, drop or keep"):
        config(tmp_path, "ignore")
