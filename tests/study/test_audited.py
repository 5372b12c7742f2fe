"""What a study says about what each strategy's models depend on."""

from __future__ import annotations

from pathlib import Path

import pytest

from activeselect.study.audited import accuracy_signs, audit_rows, audit_section, audit_verdicts
from activeselect.study.report import write_report


def study(values: dict[str, list[float]]) -> dict[str, object]:
    curves = [
        {"dataset": "mixed", "strategy": name, "seed": seed, "budget": budget}
        | {"test_accuracy": 0.5 + 0.01 * (seed % 2), "audit": {"filler": value}}
        for name, row in values.items()
        for seed, value in enumerate(row)
        for budget in (100, 200)
    ]
    return {"config": {"baseline": "random"}, "curves": curves}


def test_a_study_says_whose_answers_depend_less_on_their_steps() -> None:
    results = study({"random": [0.8, 0.82, 0.81], "quick": [0.4, 0.43, 0.41], "same": [0.8] * 3})
    rows = audit_rows(results)
    quick = next(r for r in rows if r["strategy"] == "quick" and r["budget"] == 200)
    assert quick["difference"] == pytest.approx(-0.3967, abs=1e-4)
    assert quick["low"] < quick["difference"] < quick["high"] < 0
    sentences = audit_verdicts(rows, accuracy_signs(results))
    assert sentences == [
        "mixed: quick: same accuracy, less dependence on its steps (filler in place of the chain).",
        "mixed: same: same accuracy, no difference seen in dependence on its steps.",
    ]
    section = audit_section({**results, "audit": rows}, "mixed")
    assert "Filler in place of the chain" in section
    assert "<svg" in section
    assert audit_section(results, "mixed") == ""


def test_the_report_of_an_audited_study_shows_it(tmp_path: Path) -> None:
    results = study({"random": [0.8, 0.82, 0.81], "quick": [0.4, 0.43, 0.41]})
    rows = audit_rows(results)
    whole = {**results, "schema_version": 2, "datasets": ["mixed"], "audit": rows}
    page = write_report(whole, tmp_path).read_text()
    assert "<h3>Reasoning audit</h3>" in page
    assert "-0.397 (-0.4" in page
