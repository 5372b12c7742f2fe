"""Answer checkers: the real labels, the forms that answers take, and what must never match."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
import threading
import time
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from activeselect.data.answers import AnswerChecker, get_checker, last_number, parse_number
from activeselect.data.math_answers import MathChecker
from activeselect.errors import ActiveSelectError, ConfigError

NAMES = ("gsm8k", "math", "number", "marker:answer :")
numbers = st.one_of(
    st.integers(-(10**12), 10**12).map(str),
    st.decimals(-(10**6), 10**6, places=3).map(lambda value: f"{value:f}"),
)
words = st.text(st.characters(codec="utf-8", exclude_characters="#{}\\:"), max_size=40)


def test_every_label_of_the_real_model_solutions_is_reproduced(shared_data: Path) -> None:
    checker = get_checker("marker:A:")
    agree = total = 0
    with (shared_data / "gsm8k" / "model_solutions.jsonl").open(encoding="utf-8") as file:
        for line in file:
            record = json.loads(line)
            answer = checker.extract(record["ground_truth"])
            assert answer is not None
            for solution in (value for value in record.values() if isinstance(value, dict)):
                agree += checker.check(solution["solution"], answer) == solution["is_correct"]
                total += 1
    print(f"\nagreement with the labels: {agree} of {total}")
    assert (agree, total) == (1600, 1600)


@pytest.mark.parametrize("split", ["train", "test"])
def test_every_gsm8k_trace_states_its_answer(shared_data: Path, split: str) -> None:
    gsm8k, number = get_checker("gsm8k"), get_checker("number")
    with (shared_data / "gsm8k" / f"{split}.jsonl").open(encoding="utf-8") as file:
        for line in file:
            trace = json.loads(line)["answer"]
            answer = gsm8k.extract(trace)
            assert answer is not None
            assert answer == trace.rsplit("####", 1)[1].strip().replace(",", "")
            assert parse_number(answer) is not None
            assert gsm8k.check(trace, answer)
            assert number.check(trace, answer)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("so 600*2\n#### 1,200", "1200"),
        ("#### $1,200.", "1200"),
        ("####-5\nDone.", "-5"),
        ("#### 7\nQuestion: next one\n#### 9", "7"),
        ("The answer is: $18.", "18"),
        ("The answer is 3.\nThe answer is 4.", "4"),
        ("The answer is: \\boxed{42}.", "42"),
        ("The answer is <<8=8>>8 in all\n#### 8", "8"),
        ("#### 18 eggs", "18 eggs"),
        ("####\n", None),
        ("the sum is 7", None),
        ("", None),
    ],
)
def test_gsm8k_forms(text: str, expected: str | None) -> None:
    assert get_checker("gsm8k").extract(text) == expected


def test_gsm8k_compares_values_and_is_strict_about_units() -> None:
    checker = get_checker("gsm8k")
    assert checker.check("#### 18.00", "18")
    assert checker.check("#### 18", "$18.")
    assert not checker.check("#### 18 eggs", "18")
    assert not checker.check("18", "18")
    assert checker.extract_flexible("that makes 18 eggs") == "18"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("3 plus 4 . answer : 7", "7"),
        ("answer : 3 . then answer :  7 .\nanother line", "7"),
        ("answer :\n  blue   green\n", "blue green"),
        ("answer : wait...", "wait..."),
        ("answer : 5\nanswer :", None),
        ("no marker 7", None),
    ],
)
def test_marker_forms(text: str, expected: str | None) -> None:
    assert get_checker("marker:answer :").extract(text) == expected


@pytest.mark.parametrize("given", ["7", "7.0", "7.", " 7 ", "+7", "$7", "14/2", "7.000"])
def test_marker_compares_numbers_as_numbers(given: str) -> None:
    checker = get_checker("marker:answer :")
    assert checker.equal(given, "7")
    assert not checker.equal(given, "70")
    assert not checker.equal(given, "seven")


def test_commas_group_thousands_or_are_text() -> None:
    checker = get_checker("marker:A:")
    assert checker.equal("1,200", "1200")
    assert not checker.equal("1,2", "12")
    assert not checker.equal("9007199254740993", "9007199254740992")


def test_marker_is_fast() -> None:
    checker = get_checker("marker:answer :")
    text = "tom has 3 apples and buys 4 more , so 3 plus 4 makes 7 . " * 4
    texts = [f"{text}answer : {i % 50}" for i in range(20_000)]
    start = time.perf_counter()
    for each in texts:
        checker.check(each, "7.0")
    # 900,000 per second on an idle core; the bound leaves room for a busy machine.
    assert len(texts) / (time.perf_counter() - start) > 50_000


@pytest.mark.parametrize("name", NAMES)
@given(answer=numbers, before=words)
def test_a_rendered_answer_is_found_and_equals_itself(name: str, answer: str, before: str) -> None:
    checker = get_checker(name)
    text = f"{before}\n{checker.render(answer)}"
    found = checker.extract(text)
    assert found is not None
    assert checker.equal(found, answer)
    assert checker.extract_flexible(text) == found


@pytest.mark.parametrize("name", NAMES)
@given(text=st.text(max_size=80))
def test_any_text_is_answered_without_an_exception(name: str, text: str) -> None:
    checker = get_checker(name)
    for found in (checker.extract(text), checker.extract_flexible(text)):
        assert found is None or (found == found.strip() and found)


@given(a=numbers, b=numbers)
def test_equality_of_numbers_is_that_of_exact_values(a: str, b: str) -> None:
    for name in ("gsm8k", "number", "marker:A:"):
        checker = get_checker(name)
        assert checker.equal(a, b) == checker.equal(b, a) == (Decimal(a) == Decimal(b))


@given(st.integers(-(10**15), 10**15))
def test_grouping_does_not_change_a_number(value: int) -> None:
    assert parse_number(f"{value:,}") == value
    assert last_number(f"in total {value:,} eggs.") == f"{value:,}"


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("gsm8", "Did you mean 'gsm8k'"),
        ("maths", "Did you mean 'math'"),
        ("marker:", "marker:answer :"),
        ("marker", "Known: gsm8k, marker:TEXT, math, number"),
    ],
)
def test_an_unknown_name_is_answered_with_the_right_one(name: str, hint: str) -> None:
    with pytest.raises(ConfigError, match=hint):
        get_checker(name)


def test_without_math_verify_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    get_checker.cache_clear()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ActiveSelectError, match=r"activeselect\[math\]"):
        get_checker("math")


def test_importing_the_checkers_loads_nothing_heavy() -> None:
    code = (
        "import sys, activeselect.data.answers as a; a.get_checker('gsm8k');"
        "print([m for m in ('torch', 'datasets', 'sympy', 'math_verify') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


@pytest.fixture(scope="module")
def math() -> AnswerChecker:
    return get_checker("math")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (r"is $\boxed{\frac{1}{2}}$.", r"\frac{1}{2}"),
        (r"\boxed{1} or rather \boxed{2}", "2"),
        (r"\boxed 7.", "7"),
        (r"\fbox{x^{2}}", "x^{2}"),
        (r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
        (r"\boxed{3} and then \boxed{4 is cut off", "3"),
        (r"\boxed{}", None),
        ("the answer is 7", None),
    ],
)
def test_boxes(math: AnswerChecker, text: str, expected: str | None) -> None:
    assert math.extract(text) == expected


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        (r"\frac12", "0.5", True),
        (r"\dfrac{3}{4}", "3/4", True),
        (r"2\sqrt{3}", r"\sqrt{12}", True),
        ("(1, 2)", r"\left( 1,2 \right)", True),
        (r"\text{Evelyn}", "Evelyn", True),
        (r"11{,}111", "11111", True),
        ("007", "7", True),
        ("7", "8", False),
        ("1/3", "0.3", False),
        (r"\text{even}", r"\text{odd}", False),
        ("", "", False),
        (r"\frac{", "}{", False),
    ],
)
def test_mathematical_equality(math: AnswerChecker, a: str, b: str, same: bool) -> None:
    assert math.equal(a, b) is same


def test_math_works_off_the_main_thread_and_after_pickling(math: AnswerChecker) -> None:
    copy = pickle.loads(pickle.dumps(math))
    verdicts: list[bool] = []

    def work() -> None:
        verdicts.extend([math.equal(r"\frac12", "0.5"), copy.equal(r"\frac12", "0.5")])

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert verdicts == [True, True]


def test_a_comparison_that_never_ends_is_ended_and_counted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    checker = MathChecker(timeout=0.5)
    assert not checker.equal("9^{9^{9^9}}", "5")
    assert checker.undecided == 1
    assert "counts as not equal" in caplog.text
    assert checker.equal(r"\frac12", "0.5"), "a new worker goes on"
    assert not checker.equal("1" * 2000, "x" * 2000), "too long to compare as mathematics"
