"""The score store: written once, read back exactly, and never taken for something else."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from activeselect.errors import StoreError
from activeselect.scoring.store import ScoreStore

SIZE = 6
COLUMNS: dict[str, Any] = {
    "index": np.array([4, 0, 2]),
    "stage": np.zeros(3, dtype=int),
    "epoch": np.ones(3, dtype=int),
    "correct": [[True, False], [True, True], [False, False]],
    "accuracy": np.array([0.5, 1.0, 0.0]),
    "mean_nll": np.array([0.3, 1e-9, np.nan]),
    "n_tokens": np.array([3, 4, 5]),
    "premem": np.array([0.5, 0.0, np.nan]),
    "completions": [["so 2"], ["日本 </s>\n\x00"], [""]],
}


@pytest.fixture
def store(tmp_path: Path) -> ScoreStore:
    return ScoreStore(tmp_path / "scores", "a" * 16, pool_size=SIZE)


def reopened(store: ScoreStore, fingerprint: str = "a" * 16) -> ScoreStore:
    return ScoreStore(store.path, fingerprint, pool_size=SIZE)


def test_what_is_appended_is_read_back(store: ScoreStore) -> None:
    store.append(0, COLUMNS)
    table = reopened(store).read(0)
    assert table.column_names == list(COLUMNS)
    for name, values in COLUMNS.items():
        np.testing.assert_equal(table[name].to_pylist(), list(values))
    assert store.columns() == set(COLUMNS)
    assert reopened(store).rounds() == [0]


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.dictionaries(st.integers(0, SIZE - 1), st.floats(0, 1), max_size=SIZE), max_size=4)
)
def test_matrix_has_every_score_in_its_place(
    tmp_path_factory: pytest.TempPathFactory, rounds: list[dict[int, float]]
) -> None:
    store = ScoreStore(tmp_path_factory.mktemp("store"), "f", pool_size=SIZE)
    expected = np.full((len(rounds), SIZE), np.nan)
    for round, scores in enumerate(rounds):
        store.append(round, {"index": list(scores), "accuracy": list(scores.values())})
        expected[round, list(scores)] = list(scores.values())
    np.testing.assert_array_equal(store.matrix("accuracy"), expected)
    wanted = range(len(rounds))[::-1]
    np.testing.assert_array_equal(store.matrix("accuracy", wanted), expected[::-1])


def test_an_empty_store_has_no_rounds(store: ScoreStore) -> None:
    assert store.rounds() == []
    assert store.columns() == frozenset()
    assert store.matrix("accuracy").shape == (0, SIZE)


def test_a_round_is_never_written_again(store: ScoreStore) -> None:
    store.append(3, COLUMNS)
    before = (store.path / "round-00003.parquet").read_bytes()
    with pytest.raises(StoreError, match=r"Round 3 is stored already .*scores never change"):
        store.append(3, {**COLUMNS, "accuracy": np.zeros(3)})
    assert (store.path / "round-00003.parquet").read_bytes() == before


def test_rounds_beyond_five_digits_are_found(store: ScoreStore) -> None:
    store.append(123_456, COLUMNS)
    store.append(7, COLUMNS)
    assert reopened(store).rounds() == [7, 123_456]


def test_another_pools_scores_are_refused(store: ScoreStore) -> None:
    store.append(0, COLUMNS)
    with pytest.raises(
        StoreError,
        match=rf"another pool \(expected the fingerprint bbb, received {'a' * 16}\); use a new run",
    ):
        reopened(store, "bbb")


@pytest.mark.parametrize("what", ["model", "config"])
def test_another_models_or_configs_scores_are_refused(tmp_path: Path, what: str) -> None:
    def opened(**owner: str) -> ScoreStore:
        return ScoreStore(tmp_path, "f", pool_size=SIZE, **owner)

    opened(model="m1", config="c1").append(0, COLUMNS)
    with pytest.raises(
        StoreError, match=rf"another {what} \(expected the fingerprint new, received {what[0]}1\)"
    ):
        opened(**{what: "new"})
    assert opened().rounds() == [0]  # a reader that knows the pool alone may read
    opened().append(1, COLUMNS)  # and what it adds stays the first owner's
    with pytest.raises(StoreError, match=f"another {what}"):
        opened(**{what: "new"})


def test_scores_without_a_manifest_are_refused(store: ScoreStore) -> None:
    """As earlier versions left them: nobody can say whether the files are whole."""
    store.append(0, COLUMNS)
    (store.path / "manifest.json").unlink()
    with pytest.raises(StoreError, match=r"scores \(round-00000.parquet\) but no manifest.json"):
        reopened(store)


def test_a_file_beside_the_manifest_is_no_round(store: ScoreStore) -> None:
    """What a stop between the file and the manifest leaves: it is measured again."""
    store.append(0, COLUMNS)
    stray = store.path / "round-00001.parquet"
    stray.write_bytes((store.path / "round-00000.parquet").read_bytes()[:50])
    again = reopened(store)
    assert again.rounds() == [0]
    with pytest.raises(StoreError, match="Round 1 is not stored"):
        again.read(1)
    again.append(1, {**COLUMNS, "accuracy": np.ones(3)})
    assert reopened(store).matrix("accuracy")[1, COLUMNS["index"]].tolist() == [1, 1, 1]


def test_an_altered_file_is_named(store: ScoreStore) -> None:
    """One flipped bit anywhere in the file, of which Parquet itself would not see most."""
    store.append(0, COLUMNS)
    file = store.path / "round-00000.parquet"
    whole = file.read_bytes()
    for place in range(0, len(whole), 37):
        file.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(StoreError, match=r"round-00000\.parquet is truncated or was altered"):
            reopened(store)
    file.unlink()
    with pytest.raises(StoreError, match=r"Cannot read .*round-00000\.parquet: No such file"):
        reopened(store)
    file.write_bytes(whole)
    assert reopened(store).rounds() == [0]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"rows": 3', '"rows": 4'),
        ('"round-00000.parquet"', '"../round-00000.parquet"'),
        ('"pool": "aaaaaaaaaaaaaaaa"', '"pool": "bbbbbbbbbbbbbbbb"'),
        ('"0": {', '"1": {'),
    ],
)
def test_an_altered_manifest_is_named(store: ScoreStore, old: str, new: str) -> None:
    store.append(0, COLUMNS)
    file = store.path / "manifest.json"
    text = file.read_text()
    assert text.count(old) == 1
    file.write_text(text.replace(old, new))
    with pytest.raises(StoreError, match=r"manifest\.json is damaged or was altered"):
        reopened(store)


@pytest.mark.parametrize("keep", [0, 1, 60])
def test_a_truncated_manifest_is_named(store: ScoreStore, keep: int) -> None:
    store.append(0, COLUMNS)
    file = store.path / "manifest.json"
    file.write_text(file.read_text()[:keep])
    with pytest.raises(StoreError, match=r"manifest\.json is damaged"):
        reopened(store)


def test_rounds_may_measure_different_things_of_different_examples(store: ScoreStore) -> None:
    store.append(0, {"index": [1, 2], "accuracy": [0.5, 1.0]})
    store.append(1, {"index": [0], "mean_nll": [0.25]})
    store.append(2, {"index": []})
    nan = np.nan
    np.testing.assert_array_equal(
        reopened(store).matrix("accuracy"),
        [[nan, 0.5, 1.0, nan, nan, nan], [nan] * SIZE, [nan] * SIZE],
    )
    np.testing.assert_array_equal(store.matrix("mean_nll", [1])[0, :2], [0.25, nan])
    assert store.columns() == {"index", "accuracy", "mean_nll"}
    with pytest.raises(StoreError, match="did not measure 'premem'"):
        store.matrix("premem")


@pytest.mark.parametrize("keep", [0, 3, 100, -1])
def test_a_truncated_file_is_named(store: ScoreStore, keep: int) -> None:
    store.append(0, COLUMNS)
    store.append(1, COLUMNS)
    file = store.path / "round-00001.parquet"
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(StoreError, match=r"round-00001\.parquet is truncated or was altered"):
        reopened(store)
    with pytest.raises(StoreError, match=r"Cannot read .*round-00001\.parquet"):
        store.matrix("accuracy")


def test_a_half_written_round_is_ignored_and_replaced(store: ScoreStore) -> None:
    (store.path / ".round-00000.parquet.tmp").write_bytes(b"half")
    (store.path / "notes.txt").write_text("hello")
    again = reopened(store)
    assert again.rounds() == []
    again.append(0, COLUMNS)
    assert again.rounds() == [0]
    assert not list(store.path.glob(".*.tmp"))


@pytest.mark.parametrize("stop", range(12))
def test_a_crash_at_any_step_of_writing_leaves_whole_rounds_only(
    store: ScoreStore, monkeypatch: pytest.MonkeyPatch, stop: int
) -> None:
    """Every call that reaches the disk fails once, as on a full disk or at a kill."""
    store.append(0, COLUMNS)
    calls = 0

    def counted(real: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls > stop:
                raise OSError(28, "No space left on device", "there")
            return real(*args, **kwargs)

        return call

    monkeypatch.setattr(os, "fsync", counted(os.fsync))
    monkeypatch.setattr(Path, "replace", counted(Path.replace))
    monkeypatch.setattr(Path, "write_bytes", counted(Path.write_bytes))
    message = (
        r"Cannot write .*scores/\S+: No space left on device.*free space.*same command continues"
    )
    failed = contextlib.nullcontext() if stop >= 8 else pytest.raises(StoreError, match=message)
    with failed:
        store.append(1, COLUMNS)
    monkeypatch.undo()
    again = reopened(store)
    # the fsync of the folder, the last step, comes after the manifest names the round
    assert again.rounds() == ([0] if stop < 7 else [0, 1])
    assert not list(store.path.glob(".*.tmp"))
    if stop < 7:
        again.append(1, COLUMNS)
    assert reopened(store).matrix("accuracy").shape == (2, SIZE)


def test_rounds_that_a_run_has_measured_may_not_be_missing(store: ScoreStore) -> None:
    store.append(0, COLUMNS)
    store.append(2, COLUMNS)
    store.expect([0, 2])
    store.expect([])
    with pytest.raises(
        StoreError, match=r"Rounds 1, 3 are missing in .*scores.*start again in a new one"
    ):
        store.expect([0, 1, 2, 3])


def test_a_kill_before_the_first_round_is_listed_is_no_old_folder(
    store: ScoreStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(self: ScoreStore, manifest: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(ScoreStore, "_keep", stop)
    with pytest.raises(KeyboardInterrupt):
        store.append(0, COLUMNS)
    monkeypatch.undo()
    assert (store.path / "round-00000.parquet").exists()
    again = reopened(store)
    assert again.rounds() == []
    again.drop_after(0)
    assert [file.name for file in store.path.iterdir()] == ["manifest.json"]


def test_drop_after_forgets_from_a_round_on(store: ScoreStore) -> None:
    for round in (0, 1, 2, 5):
        store.append(round, COLUMNS)
    store.drop_after(2)
    assert store.rounds() == [0, 1]
    store.append(2, COLUMNS)
    store.drop_after(99)
    assert store.rounds() == [0, 1, 2]
    store.drop_after(0)
    assert store.rounds() == []


@pytest.mark.parametrize(
    ("round", "change", "message"),
    [
        (0, {"acuracy": [1, 1, 1]}, r"Unknown score column 'acuracy'. Did you mean 'accuracy'\?"),
        (0, {"accuracy": [1.0]}, r"one value of 'accuracy' for each of 3 positions; received 1"),
        (0, {"index": [0, 1, 1]}, "a position occurs more than once"),
        (0, {"index": [0, 1, SIZE]}, r"positions in \[0, 6\); received 0 to 6"),
        (0, {"index": [-1, 1, 2]}, r"received -1 to 2"),
        (-1, {}, "Rounds are numbered from 0; received -1"),
    ],
)
def test_scores_that_cannot_be_placed_are_refused(
    store: ScoreStore, round: int, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(StoreError, match=message):
        store.append(round, {**COLUMNS, **change})
    assert store.rounds() == []
    assert not list(store.path.iterdir())


def test_scores_without_positions_are_refused(store: ScoreStore) -> None:
    with pytest.raises(StoreError, match=r"one value of 'index' for each of 0 .*received none"):
        store.append(0, {"accuracy": [1.0]})


def test_an_absent_round_or_signal_is_named(store: ScoreStore) -> None:
    store.append(0, {"index": [1], "accuracy": [1.0]})
    with pytest.raises(StoreError, match="Round 4 is not stored in"):
        store.read(4)
    with pytest.raises(StoreError, match=r"Round 0 in .* did not measure 'premem'"):
        store.matrix("premem")


def test_a_folder_name_with_an_equals_sign_adds_no_column(tmp_path: Path) -> None:
    """pyarrow reads such folders as partitions of a dataset; study folders may be named so."""
    store = ScoreStore(tmp_path / "seed=0" / "epoch=x" / "scores", "f", pool_size=SIZE)
    store.append(0, COLUMNS)
    assert store.read(0).column_names == list(COLUMNS)
    assert store.read(0)["epoch"].to_pylist() == [1, 1, 1]
