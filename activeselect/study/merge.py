"""Merging of studies that are comparable; refused, with the reason, where they are not."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from activeselect.config import DataConfig, differences, from_plain
from activeselect.errors import StoreError, StudyError
from activeselect.files import read_object
from activeselect.seals import SEALS, Seals
from activeselect.study.collect import (
    ANSWERS_FILE,
    Answers,
    collect,
    read_answers,
    write_answers,
)
from activeselect.study.compare import compare
from activeselect.study.plan import dataset_names
from activeselect.study.report import write_report
from activeselect.study.results import read_results

Row = dict[str, Any]
#: What changes the baseline's own accuracy, besides the data and the recipe.
_DECISIVE = ("model", "prompt", "baseline")
_ROUNDS = ("mode", "budgets", "restart", "evaluate_every", "samples")
_ROWS = ("curves", "within_fits", "cost", "selection")
#: Of one strategy on one dataset, over its seeds or of one of them.
_VIEWS = ("data_map", "examples", "browsed", "choices")


def merge(studies: Sequence[tuple[Path, Row, Answers]]) -> tuple[Row, Answers]:
    """Put the runs of several studies together.

    Studies are comparable if the baseline is the same experiment in all of them: model, prompt,
    budgets, longest answer, and data and recipe of each dataset that two of them have. Other
    differences (how a strategy is measured, for example) become notes.

    Args:
        studies: folder, measured part of the results, and answers of each.

    Returns:
        Measurements and answers as ``collect`` returns them.

    Raises:
        StudyError: naming the setting that differs, or the run that two studies have with
            different answers.
    """
    (where, first, answers), *others = studies
    merged: Row = {
        **first,
        **{key: list(first.get(key) or []) for key in (*_ROWS, *_VIEWS, "notes")},
    }
    merged["config"] = dict(first["config"])
    merged["recipes"], merged["shared_test"] = dict(first["recipes"]), dict(first["shared_test"])
    if others:
        merged.pop("computed", None)  # of one study; the costs are of all
        merged["merged_from"] = [str(path) for path, _, _ in studies]
    found = dict(answers)
    for path, study, theirs in others:
        _check(where, merged, path, study)
        _check_runs(path, study, found, theirs, merged)
        new = [key for key in theirs if key not in found]
        for key in _ROWS:
            merged[key] += [
                row
                for row in study.get(key) or []
                if (row["dataset"], row["strategy"], row["seed"]) in new
            ]
        for key in _VIEWS:
            have = {(row["dataset"], row["strategy"]) for row in merged[key]}
            rows = study.get(key) or []
            merged[key] += [row for row in rows if (row["dataset"], row["strategy"]) not in have]
        merged["notes"] += [
            *(study.get("notes") or []),
            *_notes(path, first["config"], study["config"]),
        ]
        found |= {key: theirs[key] for key in new}
        _extend(merged, study)
    return merged, found


def _extend(merged: Row, study: Row) -> None:
    """The config of both: datasets, strategies and seeds of each."""
    mine, theirs = merged["config"], study["config"]
    mine["strategies"] = {**mine["strategies"], **theirs["strategies"]}
    mine["seeds"] = sorted({*mine["seeds"], *theirs["seeds"]})
    mine["data"] = [*mine["data"], *(data for data in theirs["data"] if data not in mine["data"])]
    for key in ("recipes", "shared_test"):
        merged[key] = {**merged[key], **study[key]}
    merged["datasets"] = list(dict.fromkeys([*merged["datasets"], *study["datasets"]]))


def _check(where: Path, merged: Row, path: Path, study: Row) -> None:
    old, new = _comparable(merged), _comparable(study)
    shared = set(merged["datasets"]) & set(study["datasets"])
    for part in ("data", "recipe"):
        old[part], new[part] = (
            {name: setting for name, setting in side[part].items() if name in shared}
            for side in (old, new)
        )
    changed = differences(old, new)
    if changed:
        raise StudyError(
            f"{path} cannot be compared with {where}: the baseline is another experiment there "
            f"({'; '.join(changed[:5])}). Report them apart."
        )


def _comparable(study: Row) -> Row:
    config = study["config"]
    data = dict(zip(_names(config), config["data"], strict=True))
    return {
        **{name: config.get(name) for name in _DECISIVE},
        "rounds": {name: config["rounds"].get(name) or None for name in _ROUNDS},
        "scoring": {"max_new_tokens": config["scoring"]["max_new_tokens"]},
        "data": data,
        "recipe": study["recipes"],
    }


def _names(config: Row) -> list[str]:
    return dataset_names([from_plain(DataConfig, data) for data in config["data"]])


def _check_runs(path: Path, study: Row, found: Answers, theirs: Answers, merged: Row) -> None:
    """A label means one strategy, and a run that two studies have must have come out alike."""
    mine, new = merged["config"], study["config"]
    for label in set(mine["strategies"]) & set(new["strategies"]):
        changed = differences(
            _meaning(mine, label, mine["baseline"]), _meaning(new, label, mine["baseline"])
        )
        if changed:
            raise StudyError(
                f"{path} means something else by the strategy '{label}' ({'; '.join(changed[:5])})."
                " Give it another label there, and run it again under that name."
            )
    for key in found.keys() & theirs.keys():
        if not np.array_equal(found[key], theirs[key]):
            name = f"{key[0]} · {key[1]} · seed {key[2]}"
            raise StudyError(
                f"{path} has the run {name} too, with other answers. Remove it from one study; "
                "the runs may come from different versions or machines."
            )


def _meaning(config: Row, label: str, baseline: str) -> Row:
    """What decides what a strategy does; the baseline measures nothing that it uses."""
    meaning = {"strategy": config["strategies"][label]}
    if label != baseline and config["strategies"][label] not in ("random", "preset"):
        meaning |= {"rounds": config["rounds"], "scoring": config["scoring"]}
    return meaning


def _notes(path: Path, first: Row, config: Row) -> list[str]:
    skip = ("strategies", "seeds", "data", "workers", "share", "reuse", "level", "axis")
    old, new = ({k: v for k, v in side.items() if k not in skip} for side in (first, config))
    changed = differences(old, new)
    return [f"{path} was run with {'; '.join(changed)}."] if changed else []


# --- Rebuilt reports


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
                f"{studies[0]} has neither run folders nor {ANSWERS_FILE}: its report can be "
                "drawn again, but not judged on another axis."
            )
        return write_report(found[0][1], target)
    whole = [(path, body, answers) for path, body, answers in found if answers is not None]
    if len(whole) < len(found):
        lacking = next(path for path, _, answers in found if answers is None)
        raise StudyError(
            f"{lacking} has neither run folders nor {ANSWERS_FILE}, so it cannot be merged."
        )
    measured, answers = merge(whole)
    return conclude(measured, answers, target, axis)[1]


def conclude(
    measured: Row, answers: Answers, out: Path, axis: str | None = None
) -> tuple[Row, Path]:
    """Compare, and write ``results.json``, ``answers.parquet`` and the report."""
    results = compare(measured, answers, axis)
    seals = Seals(out)
    seals.write_json(out / "results.json", results)
    with seals.replacing(out / ANSWERS_FILE) as temporary:
        write_answers(temporary, answers)
    return results, write_report(results, out)


def _load(path: Path) -> tuple[Row, Answers | None]:
    if (path / "study.json").is_file() and any(path.glob("cells/*/*/*/result.json")):
        return collect(read_object(path / "study.json"), path)
    if not (path / "results.json").is_file():
        raise StoreError(
            f"{path} holds no finished run of a study (no cells/.../result.json) and no "
            "results.json. Give the folder that `activeselect compare --out` wrote."
        )
    if (path / SEALS).exists():  # earlier versions wrote none
        for file in (path / "results.json", path / ANSWERS_FILE):
            if file.exists():
                Seals(path).check(file, "restore it from a backup, or run the study again")
    results = read_results(path)
    if "shared_test" in results and (path / ANSWERS_FILE).is_file():
        return results, read_answers(path / ANSWERS_FILE)
    return results, None
