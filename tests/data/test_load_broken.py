"""Broken rows and files: each is reported with its place and reason, and nothing goes silently."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from activeselect.data.load import load_pool
from activeselect.data.validate import check_lengths
from activeselect.errors import ConfigError, DataError

GOOD = {"question": "2 + 2 ?", "trace": "makes 4\n#### 4", "answer": "4", "id": 1}


def encoded(**changes: Any) -> bytes:
    return json.dumps({**GOOD, **changes}).encode()


# (bytes of the row, kind, part of the reason)
BROKEN: list[tuple[bytes, str, str]] = [
    (encoded(question=" "), "empty question", "column 'question' is empty or absent"),
    (encoded(trace=None), "empty trace", "column 'trace' is empty or absent"),
    (encoded(trace="makes 4"), "no answer in the trace", "it ends in 'makes 4'"),
    (encoded(answer=""), "no answer", "column 'answer' is empty or absent"),
    (encoded(answer="5"), "contradiction", "the trace says '4', 'answer' says '5'"),
    (encoded(question=7), "wrong type", "question (column 'question') must be text, got int"),
    (encoded(trace=["4"]), "wrong type", "trace (column 'trace') must be text, got list"),
    (encoded(answer=True), "wrong type", "answer (column 'answer') must be text, got bool"),
    (encoded(id="x1"), "wrong type", "whole number from 0, got 'x1'"),
    (encoded(id=None), "wrong type", "whole number from 0, got None"),
    (encoded(id=-1), "wrong type", "whole number from 0, got -1"),
    (encoded(id=1.0), "wrong type", "whole number from 0, got 1.0"),
    (encoded(id=2**63), "wrong type", "whole number from 0"),
    (encoded(), "duplicate id", "1 is already the id of line 1"),
    (encoded(id="1"), "duplicate id", "1 is already the id of line 1"),
    (b'{"question": "caf\xe9"}', "invalid UTF-8", "byte 18 of the line"),
    (encoded(question="\ud800"), "invalid UTF-8", "character 1 of 'question'"),
    (b'{"question": "a" "b"}', "malformed JSON", "Expecting ',' delimiter (column 18)"),
    (b'{"question": "cut', "malformed JSON", "Unterminated string"),
    (b'{"id": ' + b"9" * 5000 + b"}", "malformed JSON", "Exceeds the limit"),
    (b"[" * 100_000, "malformed JSON", ""),
    (b"[1, 2]", "wrong type", "expected a JSON object, got list"),
]


@pytest.mark.parametrize(
    ("row", "kind", "reason"), BROKEN, ids=[f"{i}" for i in range(len(BROKEN))]
)
def test_each_defect_is_named_with_its_line(
    tmp_path: Path, row: bytes, kind: str, reason: str
) -> None:
    path = tmp_path / "mine.jsonl"
    path.write_bytes(b"\n".join([encoded(), b"", row, encoded(id=2)]) + b"\n")
    pool, report = load_pool(path, checker="gsm8k", on_bad_row="skip")
    assert list(pool.dataset["id"]) == [1, 2]
    assert (report.rows_read, report.rows_kept, report.counts) == (3, 2, {kind: 1})
    assert report.dropped[0].line == 3
    assert reason in report.dropped[0].reason
    assert report.kept_lines.tolist() == [1, 4]
    with pytest.raises(DataError, match=f"1 of 3 rows cannot be used:\n  line 3: {kind}"):
        load_pool(path, checker="gsm8k")


def test_stop_shows_five_rows_the_count_and_the_remedy(tmp_path: Path) -> None:
    path = tmp_path / "mine.jsonl"
    path.write_bytes(b"\n".join(encoded(id=i, trace="" if i % 3 else "#### 4") for i in range(12)))
    with pytest.raises(DataError) as error:
        load_pool(path, checker="gsm8k")
    lines = str(error.value).split("\n")
    assert lines[0] == f"{path}: 8 of 12 rows cannot be used:"
    assert [line.split(":")[0] for line in lines[1:6]] == [f"  line {i}" for i in (2, 3, 5, 6, 8)]
    assert lines[6:] == [
        "  and 3 more",
        "Repair them, or pass on_bad_row=skip to go on without them.",
    ]


def test_rows_without_ids_keep_their_number_when_others_go(tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    rows = [{"question": f"{i} ?", "answer": "" if i == 1 else f"#### {i}"} for i in range(4)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    pool, report = load_pool(path, on_bad_row="skip")
    assert list(pool.dataset["id"]) == [0, 2, 3]
    assert report.summary() == f"{path} (train): 3 of 4 rows; dropped: 1 empty trace"
    assert report.to_dict()["dropped"] == [[2, "empty trace: column 'answer' is empty or absent"]]


def test_no_usable_row_is_an_error_even_when_skipping(tmp_path: Path) -> None:
    path = tmp_path / "mine.jsonl"
    path.write_bytes(encoded(trace="") + b"\n" + encoded(question=""))
    with pytest.raises(DataError, match="2 of 2 rows cannot be used"):
        load_pool(path, checker="gsm8k", on_bad_row="skip")
    path.write_bytes(b"\xff\xfe\n\xff\n")
    with pytest.raises(DataError, match="line 1: invalid UTF-8"):
        load_pool(path, checker="gsm8k", on_bad_row="skip")


def test_csv_defects(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_bytes(
        b"question,trace\r\n"
        b'two lines ?,"makes 4\n#### 4"\r\n'
        b"one field\r\n"
        b"\r\n"
        b"caf\xe9 ?,#### 4\r\n"
        b'"a"b,#### 4\r\n'
        b"last ?,#### 4\r\n"
    )
    pool, report = load_pool(path, checker="gsm8k", on_bad_row="skip")
    assert list(pool.dataset["question"]) == ["two lines ?", "last ?"]
    assert [(row.line, row.kind) for row in report.dropped] == [
        (4, "malformed CSV"),
        (6, "invalid UTF-8"),
        (7, "malformed CSV"),
    ]
    path.write_text('question,trace\na ?,#### 4\nb ?,"#### 4\nc ?,#### 4\n')
    with pytest.raises(DataError, match="a quote opened in or after line 3 is never closed"):
        load_pool(path, checker="gsm8k", on_bad_row="skip")
    path.write_text("question,question\na,b\n")
    with pytest.raises(DataError, match="names each column once"):
        load_pool(path, checker="gsm8k")


def test_parquet_defects_have_row_numbers(tmp_path: Path) -> None:
    path = tmp_path / "mine.parquet"
    texts = pa.array([b"good ?", b"caf\xe9 ?", b"fine ?"], pa.binary())
    questions = pa.StringArray.from_buffers(3, *texts.buffers()[1:])
    traces = pa.array(["#### 4", "#### 5", None])
    pq.write_table(pa.table({"question": questions, "trace": traces}), path)
    pool, report = load_pool(path, checker="gsm8k", on_bad_row="skip")
    assert list(pool.dataset["question"]) == ["good ?"]
    assert [(row.line, row.kind) for row in report.dropped] == [
        (2, "invalid UTF-8"),
        (3, "empty trace"),
    ]
    with pytest.raises(DataError, match="\n  row 2: invalid UTF-8"):
        load_pool(path, checker="gsm8k")
    path.write_bytes(b"PAR1 not really")
    with pytest.raises(DataError, match="not a readable Parquet file"):
        load_pool(path, checker="gsm8k")


def test_missing_empty_and_unknown_files(tmp_path: Path) -> None:
    empty, odd, header = tmp_path / "empty.jsonl", tmp_path / "a.xlsx", tmp_path / "header.csv"
    empty.write_bytes(b"")
    odd.write_bytes(b"x")
    header.write_text("question,trace\n")
    cases = [
        (tmp_path / "no.jsonl", r"no file or folder .*no\.jsonl"),
        (empty, r"empty\.jsonl is empty"),
        (odd, r"unsupported extension '\.xlsx'; use one of \.jsonl"),
        (header, r"header\.csv has no rows"),
        (tmp_path, r"holds no split 'train'.*contains a\.xlsx, empty\.jsonl, header\.csv"),
    ]
    for path, message in cases:
        with pytest.raises(DataError, match=message) as error:
            load_pool(path, checker="gsm8k")
        assert "\n" not in str(error.value)


def test_json_that_is_no_array_of_objects(tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    path.write_text("[1")
    with pytest.raises(DataError, match="not valid JSON"):
        load_pool(path, checker="gsm8k")
    path.write_text('"text"')
    with pytest.raises(DataError, match="must hold a JSON array of objects"):
        load_pool(path, checker="gsm8k")
    path.write_text(f"[3, {encoded().decode()}]")
    _, report = load_pool(path, checker="gsm8k", on_bad_row="skip")
    assert report.dropped[0].reason == "wrong type: expected a JSON object, got int"


def test_problems_longer_than_the_context(tmp_path: Path) -> None:
    path = tmp_path / "mine.jsonl"
    path.write_bytes(b"\n".join([b"{", *(encoded(id=i) for i in range(4))]))
    pool, report = load_pool(path, checker="gsm8k", on_bad_row="skip")
    assert check_lengths(pool, report, [9, 8, 7, 9], max_length=9) == (pool, report)
    with pytest.raises(DataError, match=r"line 3: too long: .*10 tokens, the context holds 9"):
        check_lengths(pool, report, [9, 10, 9, 11], max_length=9)
    short, shorter = check_lengths(pool, report, [9, 10, 9, 11], max_length=9, on_bad_row="skip")
    assert list(short.dataset["id"]) == [0, 2]
    assert (shorter.rows_read, shorter.rows_kept) == (5, 2)
    assert [row.line for row in shorter.dropped] == [1, 3, 5]
    assert shorter.kept_lines.tolist() == [2, 4]
    with pytest.raises(DataError, match="4 of 5 rows"):
        check_lengths(pool, report, [10] * 4, max_length=9, on_bad_row="skip")
    with pytest.raises(ConfigError, match="one length for each of 4 problems"):
        check_lengths(pool, report, [10] * 3, max_length=9)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lines=st.lists(st.one_of(st.binary(max_size=30), st.just(encoded())), max_size=8))
def test_whatever_the_bytes_every_row_is_kept_or_reported(
    tmp_path: Path, lines: list[bytes]
) -> None:
    path = tmp_path / "any.jsonl"
    content = b"\n".join([encoded(id=0), *lines])
    path.write_bytes(content)
    pool, report = load_pool(path, checker="gsm8k", on_bad_row="skip")
    rows = [i for i, line in enumerate(content.split(b"\n"), start=1) if line.strip()]
    assert sorted([*report.kept_lines.tolist(), *(row.line for row in report.dropped)]) == rows
    assert (report.rows_read, report.rows_kept) == (len(rows), len(pool))
