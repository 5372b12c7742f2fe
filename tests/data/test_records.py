"""Pools from what a program holds: the same problems as from a file with the same rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest

from activeselect.data.load import load_pool
from activeselect.data.pool import Pool
from activeselect.errors import ConfigError, DataError

ROWS = [
    {"q": "1 + 1 ?", "how": "1 and 1 make 2", "skill": "sums", "n": 7},
    {"q": "2 * 3 ?", "how": "twice 3 is 6", "skill": "products", "n": 9},
    {"q": "4 - 1 ?", "how": "4 less 1 is 3", "skill": "sums", "n": 11},
]
COLUMNS = {"question": "q", "trace": "how", "group": "skill", "id": "n"}


def forms() -> list[Any]:
    pandas = pytest.importorskip("pandas")
    return [ROWS, pandas.DataFrame(ROWS), datasets.Dataset.from_list(ROWS)]


def test_every_form_gives_the_pool_of_the_file(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    wanted, _ = load_pool(file, columns=COLUMNS, checker="number")
    for records in forms():
        pool = Pool.from_records(records, columns=COLUMNS, checker="number")
        assert list(pool) == list(wanted)
        assert pool.fingerprint == wanted.fingerprint
        assert pool.group_names == ("products", "sums")


def test_rows_without_ids_are_numbered_and_broken_ones_named() -> None:
    pool = Pool.from_records([{"question": "a?", "trace": "so 1"}] * 2, checker="number")
    assert [problem.id for problem in pool] == [0, 1]
    rows = [{"question": "a?", "trace": "so 1"}, {"question": "", "trace": "so 2"}, "c"]
    with pytest.raises(DataError, match=r"2 of 3 rows cannot be used:\n  row 2: empty question"):
        Pool.from_records(rows, checker="number")
    assert len(Pool.from_records(rows, checker="number", on_bad_row="skip")) == 1
    with pytest.raises(DataError, match="at least one row"):
        Pool.from_records([], checker="number")
    with pytest.raises(ConfigError, match=r"list of dicts, a pandas\.DataFrame or a datasets"):
        Pool.from_records("rows.jsonl", checker="number")


def test_what_a_data_frame_lacks_is_missing() -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame([{**ROWS[0]}, {**ROWS[1], "how": None}])
    pool = Pool.from_records(frame, columns=COLUMNS, checker="number", labels_required=False)
    assert pool.is_labelled.tolist() == [True, False]
    assert "1 without a label" in repr(pool)


def chat(*turns: str) -> dict[str, Any]:
    roles = {"s": "system", "u": "user", "a": "assistant"}
    return {"messages": [{"role": roles[t[0]], "content": t[2:]} for t in turns]}


class Template:
    def apply_chat_template(
        self, turns: Any, *, tokenize: bool, add_generation_prompt: bool
    ) -> str:
        assert not tokenize
        assert add_generation_prompt
        return "".join(f"<{t['role']}>{t['content']}" for t in turns) + "<assistant>"


@pytest.mark.parametrize("wrap", [list, datasets.Dataset.from_list])
def test_the_last_turn_of_a_chat_is_the_trace(wrap: Any) -> None:
    rows = [chat("u 1 + 1 ?", "a it is 2"), chat("u 2 + 2 ?", "a it is 4")]
    pool = Pool.from_records(wrap(rows), checker="number")
    assert [(p.question, p.trace, p.answer) for p in pool][1] == ("2 + 2 ?", "it is 4", "4")


def test_longer_chats_need_the_template() -> None:
    long = chat("s be brief", "u 1 + 1 ?", "a it is 3", "u sure ?", "a it is 2")
    with pytest.raises(DataError, match=r"4 turns before the answer: pass tokenizer="):
        Pool.from_records([long], checker="number")
    pool = Pool.from_records([long], checker="number", tokenizer=Template())
    assert pool[0].question == (
        "<system>be brief<user>1 + 1 ?<assistant>it is 3<user>sure ?<assistant>"
    )
    assert pool[0].trace == "it is 2"
    with pytest.raises(DataError, match="expected a user's turn and then the assistant's"):
        Pool.from_records([chat("u 1 + 1 ?")], checker="number")


def test_slices_are_pools() -> None:
    pool = Pool.from_records(ROWS * 10, columns={**COLUMNS, "id": None}, checker="number")
    assert isinstance(pool[3:9:2], Pool)
    assert [p.id for p in pool[3:9:2]] == [3, 5, 7]
    assert [p.id for p in pool[-2:]] == [28, 29]
    assert len(pool[5:5]) == 0
    assert pool[np.int64(4)].id == 4


def test_a_pool_shows_itself() -> None:
    rows = [{**row, "q": f"<b>{row['q']}" + "x" * 300} for row in ROWS]
    pool = Pool.from_records(rows, columns=COLUMNS, checker="number")
    assert repr(pool) == "Pool(3 problems, 2 groups, checker 'number')"
    page = pool._repr_html_()
    assert page.count("<tr>") == 4
    assert "&lt;b&gt;1 + 1 ?" in page
    assert "x" * 250 not in page
