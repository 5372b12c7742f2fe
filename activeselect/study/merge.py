"""Several studies as one, where that is a comparison; refused, with the reason, where it is not."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from activeselect.config import DataConfig, differences, from_plain
from activeselect.errors import StudyError
from activeselect.study.answers import Answers
from activeselect.study.plan import dataset_names

Row = dict[str, Any]
#: What changes the baseline's own accuracy, besides the data and the recipe.
_DECISIVE = ("model", "prompt", "baseline")
_ROUNDS = ("mode", "budgets", "restart")
_ROWS = ("curves", "cost", "selection")
#: Of one strategy on one dataset, over its seeds or of one of them.
_VIEWS = ("data_map", "examples", "browsed")


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
        merged.pop("computed", None)  # of one study; the bills are of all
        merged["merged_from"] = [str(path) for path, _, _ in studies]
    found = dict(answers)
    for path, study, theirs in others:
        _check(where, merged, path, study)
        _check_runs(path, study, found, theirs, merged)
        new = [key for key in theirs if key not in found]
        for key in _ROWS:
            merged[key] += [
                row for row in study[key] if (row["preset"], row["strategy"], row["seed"]) in new
            ]
        for key in _VIEWS:
            have = {(row["preset"], row["strategy"]) for row in merged[key]}
            rows = study.get(key) or []
            merged[key] += [row for row in rows if (row["preset"], row["strategy"]) not in have]
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
        "rounds": {name: config["rounds"][name] for name in _ROUNDS},
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
