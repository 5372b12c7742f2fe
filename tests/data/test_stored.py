"""A stored pool: shares hold at every length, streams are read once, and nothing is mixed up."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import pytest
from hypothesis import given
from hypothesis import strategies as st

from activeselect.cli import run
from activeselect.config import DataConfig
from activeselect.data.load import load_data, load_pool
from activeselect.data.pool import Pool
from activeselect.data.stored import _mixed, _Reader, store_pool
from activeselect.errors import ConfigError, DataError, StoreError


def rows(word: str, count: int) -> list[dict[str, str]]:
    return [{"question": f"{word} {i} + 1 ?", "trace": f"so {i + 1}"} for i in range(count)]


def stream(word: str, count: int, opened: list[str] | None = None) -> datasets.IterableDataset:
    def read() -> Iterator[dict[str, str]]:
        if opened is not None:
            opened.append(word)
        yield from rows(word, count)

    return datasets.IterableDataset.from_generator(read)


def reader(word: str, count: int) -> _Reader:
    items: list[Any] = [f"{word}{i}" for i in range(count)]
    return _Reader(iter(items), "number")


@given(
    st.lists(st.integers(1, 9), min_size=1, max_size=4),
    st.lists(st.integers(0, 60), min_size=4, max_size=4),
    st.integers(1, 80),
)
def test_shares_hold_after_every_problem(parts: list[int], sizes: list[int], limit: int) -> None:
    shares = [part / sum(parts) for part in parts]
    names = [str(i) for i in range(len(parts))]
    readers = [reader(name, size) for name, size in zip(names, sizes, strict=False)]
    taken: Counter[str] = Counter()
    for name, problem, _ in _mixed(names, readers, shares, limit):
        assert problem == f"{name}{taken[name]}"  # each source in its own order
        taken[name] += 1
        total = sum(taken.values())
        assert all(
            abs(taken[n] - s * total) < len(parts) for n, s in zip(names, shares, strict=True)
        )
    done = sum(taken.values())
    assert done <= limit
    if done < limit:  # it ended because the next source had no more
        assert any(taken[name] == size for name, size in zip(names, sizes, strict=False))


def test_two_sources_share_to_one_problem() -> None:
    names, shares = ["a", "b"], [0.7, 0.3]
    readers = [reader("a", 1000), reader("b", 1000)]
    taken: Counter[str] = Counter()
    for number, (name, *_) in enumerate(_mixed(names, readers, shares, 500), 1):
        taken[name] += 1
        assert abs(taken["a"] - 0.7 * number) <= 1


def test_a_stream_is_opened_once_and_then_read_from_the_disk(tmp_path: Path) -> None:
    opened: list[str] = []
    told: list[tuple[int, int]] = []
    out = tmp_path / "pool"
    source = stream("ann", 1200, opened)
    pool = store_pool(
        [source], out, checker="number", limit=1100, progress=lambda *p: told.append(p)
    )
    assert len(pool) == 1100
    assert told == [(500, 1100), (1000, 1100)]
    assert pool[7].question == "ann 7 + 1 ?"
    assert pool[7].answer == "8"
    opened.clear()
    again = store_pool([source], out, checker="number", limit=1100)
    assert opened == []
    assert again.fingerprint == pool.fingerprint
    assert again.fingerprint == Pool.from_records(rows("ann", 1100), checker="number").fingerprint
    with pytest.raises(StoreError, match="written with other limit"):
        store_pool([source], out, checker="number", limit=5)
    assert [file.name for file in tmp_path.iterdir()] == ["pool"]  # nothing lies beside it


def test_sources_are_groups_and_the_folder_is_a_source(tmp_path: Path) -> None:
    file = tmp_path / "bob.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows("bob", 50)))
    out = tmp_path / "pool"
    argv = ["pool", str(file), str(file), "--out", str(out), "shares=[0.75,0.25]", "limit=20"]
    assert run([*argv, "checker=number"]) == 0
    pool, _ = load_pool(out)  # the checker is known
    assert len(pool) == 20
    pool = store_pool([stream("ann", 9), str(file)], tmp_path / "two", checker="number")
    assert Counter(problem.group for problem in pool) == {
        "IterableDataset 1": 9,
        str(file): 50,
    }
    assert [problem.id for problem in pool] == list(range(59))
    with pytest.raises(ConfigError, match="single saved dataset and has no test split"):
        load_data(DataConfig(str(out)), seed=0)
    assert len(load_data(DataConfig(str(out), test="none"), seed=0).pool) == 20


def test_broken_rows_and_settings(tmp_path: Path) -> None:
    broken = [*rows("ann", 3), {"question": "", "trace": "4"}, *rows("bob", 2)]
    with pytest.raises(DataError, match="row 4"):
        store_pool([broken], tmp_path / "a", checker="number")
    assert list(tmp_path.iterdir()) == []
    pool = store_pool([broken], tmp_path / "a", checker="number", on_bad_row="skip")
    assert len(pool) == 5
    assert json.loads((tmp_path / "a" / "pool.json").read_text())["rows_left_out"] == [1]
    with pytest.raises(ConfigError, match="sum to 1"):
        store_pool([broken, broken], tmp_path / "b", shares=(0.5, 0.6), checker="number")
    with pytest.raises(ConfigError, match="say how its answers are found"):
        store_pool([rows("ann", 2)], tmp_path / "b")
    (tmp_path / "other").mkdir()
    with pytest.raises(StoreError, match="holds no stored pool"):
        store_pool([rows("ann", 2)], tmp_path / "other", checker="number")


def test_a_file_that_was_changed_is_not_passed_over(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, out = tmp_path / "bob.jsonl", tmp_path / "pool"
    content = "".join(json.dumps(row) + "\n" for row in rows("bob", 9))
    file.write_text(content)
    argv = ["pool", str(file), "--out", str(out), "checker=number"]
    assert run(argv) == 0
    file.write_text(content.replace("so 4", "so 5"))
    capsys.readouterr()
    assert run(argv) == 2
    assert "bob.jsonl as it was: it was changed since (bob.jsonl)" in capsys.readouterr().err
    file.write_text(content)  # another time, the same content
    assert run(argv) == 0
    file.unlink()  # the pool is all that is needed
    assert run(argv) == 0


@pytest.mark.parametrize(
    ("name", "content"),
    [("pool.json", "[]"), ("pool.json", "{}"), ("state.json", "{"), ("state.json", "{}")],
)
def test_a_damaged_pool_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, content: str
) -> None:
    out = tmp_path / "pool"
    file = tmp_path / "bob.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows("bob", 9)))
    argv = ["pool", str(file), "--out", str(out), "checker=number"]
    assert run(argv) == 0
    (out / name).write_text(content)
    capsys.readouterr()
    assert run(argv) == 2
    assert capsys.readouterr().err.count("\n") == 1
    with pytest.raises((DataError, StoreError)):
        load_pool(out)


def test_a_folder_that_cannot_be_made_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "bob.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows("bob", 9)))
    assert run(["pool", str(file), "--out", str(file / "pool"), "checker=number"]) == 2
    assert "choose a path whose parents are folders" in capsys.readouterr().err


def test_a_stream_that_breaks_off_says_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read() -> Iterator[dict[str, str]]:
        yield from rows("ann", 3)
        raise ValueError("not a line of JSON")

    broken = datasets.IterableDataset.from_generator(read)
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: broken)
    with pytest.raises(DataError, match=r"broke off after row 3 \(not a line of JSON\)"):
        store_pool(["some/stream"], tmp_path / "pool", checker="number")
