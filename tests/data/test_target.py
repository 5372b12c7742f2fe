"""Target questions: what is read of them, and the shares of the groups that they tell."""

from __future__ import annotations

import csv
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from activeselect.config import DataConfig
from activeselect.data.load import load_data
from activeselect.data.pool import Pool, Problem
from activeselect.data.regions import with_regions
from activeselect.data.skills import build_preset, target_questions
from activeselect.data.skills.skill import in_test
from activeselect.data.target import PRIOR, target_shares
from activeselect.errors import ConfigError, DataError

WORDS = ["apple", "mile", "coin", "pupil", "litre"]


def asks(*rows: tuple[str, str]) -> Pool:
    problems = (Problem(i, question, "", "", group) for i, (question, group) in enumerate(rows))
    return Pool.from_problems(problems, checker="number")


def of_groups(codes: list[int]) -> Pool:
    return asks(*((f"{WORDS[code]} number {i}", f"g{code}") for i, code in enumerate(codes)))


# --- Shares

codes = st.lists(st.integers(0, 4), min_size=1, max_size=40)


@settings(max_examples=30)
@given(codes.filter(lambda some: len(set(some)) > 1), codes)
def test_shares_are_those_of_the_target_and_ten_more_questions_mixed_as_the_pool(
    pool: list[int], target: list[int]
) -> None:
    target = [code for code in target if code in pool]
    got = target_shares(
        of_groups(pool), of_groups(target) if target else of_groups(pool).subset([])
    )
    have, asked = Counter(pool), Counter(target)
    slow = [
        (asked[code] + 10 * have[code] / len(pool)) / (len(target) + 10)
        for code in sorted(set(pool))
    ]
    np.testing.assert_allclose(got, slow, rtol=1e-12)
    assert got.sum() == pytest.approx(1)
    assert got.min() > 0


@settings(max_examples=15)
@given(codes.filter(lambda some: len(set(some)) > 1), st.randoms())
def test_questions_without_a_group_belong_where_their_words_are(
    pool: list[int], random: Any
) -> None:
    named = of_groups(pool)
    order = random.sample(range(len(pool)), len(pool))
    np.testing.assert_allclose(
        target_shares(named, named.subset(order).hidden()), target_shares(named, named)
    )


def test_the_pool_as_its_own_target_changes_nothing() -> None:
    data = build_preset("shift", 0, pool_size=300, test_size=10)
    pool = with_regions(data.pool, 6)
    own = np.bincount(pool.groups) / 300
    np.testing.assert_allclose(target_shares(pool, pool.hidden()), own)


def test_a_question_that_shares_no_word_says_nothing() -> None:
    pool = asks(("two apples", "a"), ("two apples", "a"), ("far miles", "b"))
    blank = asks(("qualche mela", ""), ("?", ""))
    np.testing.assert_allclose(target_shares(pool, blank), [2 / 3, 1 / 3])
    with_one = asks(("qualche mela", ""), ("miles", ""))
    shares = target_shares(pool, with_one)
    np.testing.assert_allclose(shares[1], (1 + PRIOR / 3) / (1 + PRIOR))


def test_groups_that_cannot_be_told_are_refused() -> None:
    pool = of_groups([0, 0, 1])
    with pytest.raises(DataError, match=r"expected groups of the pool \('g0', 'g1'\); 2 of 3.*'x'"):
        target_shares(pool, asks(("a", "x"), ("b", "g0"), ("c", "y")))
    with pytest.raises(ConfigError, match=r"received one group. Set rounds.regions"):
        target_shares(pool.hidden(), pool)
    with pytest.raises(ConfigError, match="have no words"):
        target_shares(asks(("?", "a"), ("!", "b")), asks(("one", "")))


# --- The questions of a preset


@pytest.mark.parametrize("name", ["mixed", "shift", "steps", "noisy"])
@pytest.mark.parametrize("seed", [0, 1000])
def test_questions_of_a_preset_are_in_neither_pool_nor_test(name: str, seed: int) -> None:
    data = build_preset(name, seed, pool_size=150, test_size=40)
    target = target_questions(data, seed, 60)
    questions = set(target.texts("question"))
    assert len(questions) == 60
    assert questions.isdisjoint(data.pool.texts("question"))
    assert not any(in_test(question, any_seed) for question in questions for any_seed in (0, 1000))
    assert not target.is_labelled.any()
    assert set(target.group_names) <= set(data.preset.test_mass)
    again = target_questions(build_preset(name, seed, pool_size=150, test_size=40), seed, 60)
    assert again.fingerprint == target.fingerprint
    assert target_questions(data, seed + 1, 60).fingerprint != target.fingerprint


def test_questions_of_a_preset_are_mixed_as_its_test() -> None:
    data = build_preset("shift", 3, pool_size=100, test_size=100)
    groups = Counter(target_questions(data, 3, 2000).dataset["group"])
    for name, share in data.preset.test_mass.items():
        assert abs(groups[name] - 2000 * share) < 4 * np.sqrt(2000 * share)


def test_target_questions_change_neither_pool_nor_test() -> None:
    for name in ("mixed", "shift", "noisy"):
        plain = load_data(DataConfig(f"skills:{name}", pool_size=60, test_limit=20), seed=0)
        asked = load_data(
            DataConfig(
                f"skills:{name}", pool_size=60, test_limit=20, target="preset", target_limit=7
            ),
            seed=0,
        )
        assert plain.test is not None
        assert asked.test is not None
        assert asked.target is not None
        assert plain.target is None
        assert plain.pool.fingerprint == asked.pool.fingerprint
        assert plain.test.fingerprint == asked.test.fingerprint
        assert len(asked.target) == 7
        assert not any("(" in group for group in asked.target.group_names)


def test_groups_are_hidden_with_those_of_the_pool() -> None:
    data = DataConfig("skills:shift", pool_size=60, test_limit=9, groups="hidden", target="preset")
    loaded = load_data(data, seed=0)
    assert loaded.target is not None
    assert loaded.target.group_names == ("",)
    assert len(loaded.target) == 100


# --- Files


ROWS = [
    {"q": f"{WORDS[i % 2]} {i}", "steps": f"so {i} #### {i}", "kind": f"g{i % 2}"} for i in range(8)
]


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return tmp_path


def config(folder: Path, name: str, **changes: Any) -> DataConfig:
    named: dict[str, Any] = {
        "test": "none",
        "question": "q",
        "trace": "steps",
        "group": "kind",
        "checker": "gsm8k",
        "target": str(folder / name),
    }
    return DataConfig(str(folder / "train.jsonl"), **(named | changes))


@pytest.mark.parametrize("name", ["asked.jsonl", "asked.csv", "asked.parquet"])
def test_the_answer_of_a_target_question_is_never_read(files: Path, name: str) -> None:
    # a label that would stop any other set: no answer in it, and one that contradicts it
    rows = [{"q": "apple 90", "steps": "no", "answer": "5", "kind": "g0"}] * 3
    if name.endswith(".jsonl"):
        more = {"q": "mile", "steps": ["no text"], "answer": {"a": 1}, "kind": "g1"}
        text = "".join(json.dumps(row) + "\n" for row in [*rows, more])
        (files / name).write_text(text)
    elif name.endswith(".csv"):
        with (files / name).open("w", newline="") as handle:
            writer = csv.DictWriter(handle, rows[0])
            writer.writeheader()
            writer.writerows([*rows, {"q": "mile", "kind": "g1"}])
    else:
        pq.write_table(pa.Table.from_pylist([*rows, {"q": "mile", "kind": "g1"}]), files / name)
    data = load_data(config(files, name), seed=0)
    assert data.target is not None
    assert [(p.question, p.trace, p.answer, p.group) for p in data.target] == [
        ("apple 90", "", "", "g0")
    ] * 3 + [("mile", "", "", "g1")]
    report = data.reports["target"]
    assert dict(report.columns) == {"question": "q", "group": "kind"}
    assert (report.rows_kept, report.unlabelled, report.split) == (4, 4, "target")
    np.testing.assert_allclose(target_shares(data.pool, data.target), [8 / 14, 6 / 14])


def test_other_labels_make_no_other_target(files: Path) -> None:
    found = []
    for answer in ("4", "5"):
        (files / "asked.jsonl").write_text(json.dumps({"q": "mile", "answer": answer}))
        data = load_data(config(files, "asked.jsonl"), seed=0)
        assert data.target is not None
        found.append(data.target.fingerprint)
    assert found[0] == found[1]


def test_questions_of_the_test_may_be_targets(files: Path) -> None:
    (files / "test.jsonl").write_text(json.dumps(ROWS[0]))
    both = config(files, "test.jsonl", test=str(files / "test.jsonl"), on_leak="keep")
    data = load_data(both, seed=0)
    assert data.target is not None
    assert data.test is not None
    assert data.target[0].question == data.test[0].question


def test_a_preset_takes_questions_of_a_file(files: Path) -> None:
    (files / "asked.jsonl").write_text('{"question": "ann has 3 kites . how many kites ?"}\n')
    preset = DataConfig("skills:shift", pool_size=40, test_limit=5, target=f"{files}/asked.jsonl")
    data = load_data(preset, seed=0)
    assert data.target is not None
    assert data.target[0].question.startswith("ann")
    assert list(data.reports) == ["target"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"There is no file or folder .*asked\.jsonl"),
        ("", r"asked\.jsonl is empty; a dataset needs at least one row"),
        ("\n", r"asked\.jsonl has no rows"),
        ('{"text": "mile", "a": 1}', r"in the column 'q'.*received the columns text, a. Rename"),
        ('{"q": "mile"}\n{"q": " "}', r"1 of 2 rows cannot be used:\n.*line 2: empty question"),
    ],
)
def test_what_cannot_be_read_is_said(files: Path, content: str | None, message: str) -> None:
    if content is not None:
        (files / "asked.jsonl").write_text(content)
    with pytest.raises(DataError, match=message):
        load_data(config(files, "asked.jsonl"), seed=0)


def test_limits_and_skipped_rows_are_counted(files: Path) -> None:
    (files / "asked.jsonl").write_text('{"q": " "}\n{"q": "mile"}\n{"q": "apple"}\n')
    data = load_data(config(files, "asked.jsonl", on_bad_row="skip", target_limit=2), seed=0)
    assert data.target is not None
    assert list(data.target.texts("question")) == ["mile"]
    assert data.reports["target"].counts == {"empty question": 1}


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ({"source": "train.jsonl", "target": "preset"}, r"data.target: expected a file, folder"),
        ({"target": ""}, r"data.target: expected a file, folder or hub id; received ''"),
        ({"target_limit": 5}, r"data.target_limit: expected nothing without data.target"),
        ({"target": "preset", "target_limit": 0}, r"data.target_limit: expected a positive"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(named: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        DataConfig(**named)
