"""A report again, from what one study or several have left."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from activeselect.errors import StoreError, StudyError
from activeselect.files import read_json, write_json
from activeselect.study import answers as answers_file
from activeselect.study.answers import Answers, read_answers, write_answers
from activeselect.study.collect import SCHEMA_VERSION, collect
from activeselect.study.compare import compare
from activeselect.study.merge import merge
from activeselect.study.report import write_report

Row = dict[str, Any]


def rebuild(studies: Sequence[Path], out: Path | None = None, axis: str | None = None) -> Path:
    """Write results and report of one study, or of several together.

    Args:
        studies: folders of studies. From run folders everything is taken anew; without them
            ``results.json`` and ``answers.parquet`` are enough.
        out: where to write; default: into the one study's own folder.
        axis: what budgets are counted in; default: the first study's choice.

    Returns:
        Path of ``report.html``.

    Raises:
        StudyError: if the studies are not comparable, or ``out`` is needed and absent.
        StoreError: if a folder holds no study, or one of an unknown schema.
    """
    if not studies:
        raise StudyError("report: expected at least one study folder; received none.")
    if out is None and len(studies) > 1:
        raise StudyError(
            "report: several studies are merged into a folder of their own; say which: --out DIR."
        )
    target = out or studies[0]
    found = [(path, *_load(path)) for path in studies]
    if len(found) == 1 and found[0][2] is None:
        if axis is not None:
            raise StudyError(
                f"{studies[0]} has neither run folders nor {answers_file.FILE}: its report can be "
                "drawn again, but not judged on another axis."
            )
        return write_report(found[0][1], target)
    whole = [(path, body, answers) for path, body, answers in found if answers is not None]
    if len(whole) < len(found):
        lacking = next(path for path, _, answers in found if answers is None)
        raise StudyError(
            f"{lacking} has neither run folders nor {answers_file.FILE}, so it cannot be merged."
        )
    measured, answers = merge(whole)
    return conclude(measured, answers, target, axis)[1]


def conclude(
    measured: Row, answers: Answers, out: Path, axis: str | None = None
) -> tuple[Row, Path]:
    """Compare, and write ``results.json``, ``answers.parquet`` and the report."""
    results = compare(measured, answers, axis)
    write_json(out / "results.json", results)
    write_answers(out / answers_file.FILE, answers)
    return results, write_report(results, out)


def _load(path: Path) -> tuple[Row, Answers | None]:
    if (path / "study.json").is_file() and any(path.glob("cells/*/*/*/result.json")):
        return collect(read_json(path / "study.json"), path)
    if not (path / "results.json").is_file():
        raise StoreError(
            f"{path} holds no finished run of a study (no cells/.../result.json) and no "
            "results.json. Give the folder that `activeselect compare --out` wrote."
        )
    results: Row = read_json(path / "results.json")
    if results.get("schema_version") != SCHEMA_VERSION:
        raise StoreError(
            f"{path / 'results.json'}: expected schema version {SCHEMA_VERSION}; received "
            f"{results.get('schema_version')}. Use the version of activeselect that wrote it."
        )
    if "shared_test" in results and (path / answers_file.FILE).is_file():
        return results, read_answers(path / answers_file.FILE)
    return results, None
