"""Numbers are read exactly or refused: every form in docs/guide/data.md, and real labels."""

from __future__ import annotations

import html
import json
import re
import time
from collections.abc import Iterator
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from activeselect.data.answers import get_checker, last_number, parse_number
from activeselect.data.load import load_pool
from activeselect.errors import DataError

PAGE = Path(__file__).parents[2] / "docs" / "guide" / "data.md"
ROW = re.compile(r"\| (`.+) \| (\S+) \| (\S+) \|")


def documented() -> Iterator[tuple[str, str, str]]:
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("| written |"))
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            return
        match = ROW.fullmatch(line)
        assert match is not None, line
        for form in re.findall(r"`([^`]+)`", match.group(1)):
            yield html.unescape(form), match.group(2), match.group(3)


FORMS = list(documented())


def test_the_table_of_forms_is_read_whole() -> None:
    assert len(FORMS) > 45


@pytest.mark.parametrize(("written", "last", "whole"), FORMS, ids=[form[0] for form in FORMS])
@pytest.mark.parametrize("before", ["", "5 and 7 make ", "= ", "= $4, so: "])
def test_each_documented_form(before: str, written: str, last: str, whole: str) -> None:
    found = last_number(before + written)
    if last == "refused":
        assert found is None
        assert get_checker("number").extract(before + written) is None
    else:
        assert found is not None
        assert parse_number(found) == Decimal(last)
        sentence = f"{before}{written}, which is the answer."
        assert parse_number(last_number(sentence) or "") == Decimal(last)
    value = parse_number(written)
    assert value == (None if whole == "text" else Decimal(whole))
    for name in ("gsm8k", "marker:A:"):
        equal = get_checker(name).equal
        assert equal(written, written)
        for other in re.findall(r"[0-9]+", written):
            assert equal(written, other) == (value == Decimal(other)), other


@given(
    st.decimals(-(10**9), 10**9, places=2),
    st.sampled_from(["{:f}", "{:e}", "{:E}", "{:,f}", "\u2212{:f}", "${:,f}"]),
)
def test_a_number_in_any_python_format_is_read_exactly(value: Decimal, form: str) -> None:
    value = abs(value) if form.startswith(("\u2212", "$")) else value
    text = form.format(value)
    expected = -value if form.startswith("\u2212") else value
    assert parse_number(text) == expected
    assert parse_number(last_number(f"it is {text} in all") or "") == expected


@given(st.text(alphabet="0123456789.,'-+/eE^_: {}", max_size=12))
def test_a_stretch_of_digits_is_read_whole_or_not_at_all(text: str) -> None:
    found = last_number(text)
    if found is None:
        return
    value = parse_number(found)
    assert isinstance(value, Decimal | Fraction)
    # No digit of the stretch it stands in is lost: what comes before it is no part of a number.
    digits = re.sub("[^0-9]", "", found)
    assert re.sub("[^0-9]", "", text).endswith(digits)
    before = text[: text.rfind(found)]
    if found.startswith("-"):
        return  # a sign begins a number, whatever it follows
    assert not re.search(r"[0-9][.,'/^_:]+\Z|[0-9][eE]\Z|[0-9]\Z", before), (text, found)


def test_numbers_of_the_real_model_solutions_agree_with_the_labels(shared_data: Path) -> None:
    # The last number is judged beside the marked answer: where it is read, it may differ only in
    # what follows the answer; where it is refused, no solution may be called right or wrong by it.
    number, marked = get_checker("number"), get_checker("marker:A:")
    total = same = refused = 0
    path = shared_data / "gsm8k" / "model_solutions.jsonl"
    for line in path.read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        answer = marked.extract(record["ground_truth"])
        assert answer is not None
        assert number.check(record["ground_truth"], answer)
        for solution in (value for value in record.values() if isinstance(value, dict)):
            total += 1
            if number.extract(solution["solution"]) is None:
                refused += 1
            else:
                same += number.check(solution["solution"], answer) == solution["is_correct"]
    print(f"\nlast number: {same} of {total} as labelled, {refused} refused")
    assert total == 1600
    assert same + refused >= 0.99 * total
    assert refused <= 0.01 * total


def write(path: Path, answer: str, trace: str = "as computed") -> Path:
    path.write_text(f'{{"question": "q", "trace": "{trace}", "answer": {answer}}}\n')
    return path


@pytest.mark.parametrize(
    ("literal", "value"),
    [
        ("1e16", Decimal(10) ** 16),
        ("1e-5", Decimal("0.00001")),
        ("7.0", Decimal(7)),
        ("12345678901234567890.5", Decimal("12345678901234567890.5")),
        ("1e400", Decimal("1e400")),
        ("-0.1", Decimal("-0.1")),
        ('"1.5e-3"', Decimal("0.0015")),
        ('"\u22123"', Decimal(-3)),
    ],
)
@pytest.mark.parametrize("name", ["number", "gsm8k", "marker:A:"])
def test_a_json_number_is_trained_on_as_written(
    tmp_path: Path, name: str, literal: str, value: Decimal
) -> None:
    path = write(tmp_path / "data.jsonl", literal)
    pool, _ = load_pool(path, checker=name, append_answer=True)
    checker = get_checker(name)
    assert parse_number(pool[0].answer) == value
    stated = checker.extract(pool[0].trace)
    assert stated is not None
    assert parse_number(stated) == value


@pytest.mark.parametrize("literal", ["Infinity", "-Infinity", "NaN"])
@pytest.mark.parametrize("name", ["number", "gsm8k", "marker:A:"])
def test_a_json_number_that_is_none_is_refused(tmp_path: Path, name: str, literal: str) -> None:
    with pytest.raises(DataError, match=r"line 1: (wrong type|no answer)"):
        load_pool(write(tmp_path / "data.jsonl", literal), checker=name, append_answer=True)


@pytest.mark.parametrize("answer", ["1.200,50", "12:30", "10^5", "seven"])
def test_an_answer_that_the_checker_does_not_read_is_not_appended(
    tmp_path: Path, answer: str
) -> None:
    with pytest.raises(DataError, match=r"'number' does not read .* as an answer"):
        load_pool(
            write(tmp_path / "data.jsonl", f'"{answer}"'), checker="number", append_answer=True
        )


LONG = ["1,", "1 000 ", "...", "1e", "{1{", "-.", "1..", "1 1/", "inf ", "1/1 ", "}{", "**1"]


@pytest.mark.parametrize("piece", LONG)
def test_the_last_number_takes_linear_time(piece: str) -> None:
    start = time.perf_counter()
    last_number(piece * (200_000 // len(piece)))
    assert time.perf_counter() - start < 5  # quadratic time takes minutes


@pytest.mark.parametrize("tail", ["", "x" + "}" * 20_000, "}{" * 20_000])
def test_nested_boxes_take_linear_time(tail: str) -> None:
    start = time.perf_counter()
    found = get_checker("math").extract("\\boxed{" * 20_000 + tail)
    assert found == ("x" if tail.startswith("x") else None)
    assert time.perf_counter() - start < 5  # quadratic time takes minutes
