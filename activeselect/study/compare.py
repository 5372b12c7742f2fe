"""Comparison of measured results: ratios, shares, verdicts and the forecast."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from activeselect.errors import StudyError
from activeselect.study.audited import accuracy_signs, audit_rows, audit_verdicts
from activeselect.study.collect import Answers, axes_of
from activeselect.study.efficiency import Analysis, analyse
from activeselect.study.plan import FROM_PRESET, INFORMED
from activeselect.study.resampling import CurveSet
from activeselect.study.verdicts import mask_verdict

DATA = "unique_examples"
_JUDGED = ("efficiency", "targets", "gain", "oracle_share", "controls")
#: Strategies that measure nothing: what one that does has to beat.
FREE = ("random", "balanced", "target-mixture", "difficulty", "longest")

Row = dict[str, Any]


def free_axis(config: Mapping[str, Any]) -> str:
    """The axis on which a budget is the same for all strategies: examples, or samples of them."""
    return "samples_seen" if config["rounds"]["mode"] == "reweight" else DATA


def compare(measured: Mapping[str, Any], answers: Answers, axis: str | None = None) -> Row:
    """Judge a study.

    Only seeds that every strategy has finished enter the paired comparison.

    Args:
        measured: what ``collect`` or ``merge`` returns.
        answers: right or wrong for each test problem.
        axis: what budgets are counted in; default: the study's own choice.

    Returns:
        The content of ``results.json``.

    Raises:
        StudyError: if runs did not record their cost on that axis.
    """
    config = measured["config"]
    axis = axis or config.get("axis") or free_axis(config)
    body: Row = {
        **measured,
        "axis": axis,
        **{key: [] for key in (*_JUDGED, "efficiency_by_cost")},
        "verdicts": [],
        "left_out": [],
    }
    for dataset in body["datasets"]:
        curves = [row for row in body["curves"] if row["dataset"] == dataset]
        known = axes_of(curves)
        if axis not in known:
            raise StudyError(
                f"axis: the runs on {dataset} recorded their cost after each stage for "
                f"{', '.join(known)} only; received {axis}. Runs of an earlier version did not "
                "record more; choose one of these, or run them again."
            )
        runs = _Paired(body, answers, dataset, curves)
        if len(runs.labels) < 2 or not runs.seeds:
            continue
        _add(body, dataset, runs.analysis(axis))
        for other in known:
            analysis = runs.analysis(other)
            whole = [row for row in analysis.efficiency if row["budget"] is None]
            body["efficiency_by_cost"] += [{"dataset": dataset} | row for row in whole]
    body["masked"] = masked(body["curves"])
    body["verdicts"] += [
        f"{row['dataset']}: {mask_verdict(row['strategy'])}"
        for row in body["masked"]
        if row["largest"] == 0
    ]
    body["forecast"] = forecast(body["curves"])
    body["audit"] = audit_rows(body)
    body["verdicts"] += audit_verdicts(body["audit"], accuracy_signs(body))
    return body


def _add(body: Row, dataset: str, analysis: Analysis) -> None:
    for key in _JUDGED:
        body[key] += [{"dataset": dataset} | row for row in getattr(analysis, key)]
    body["verdicts"] += [f"{dataset}: {text}" for text in analysis.verdicts]


class _Paired:
    """The runs of one dataset that every strategy has in common."""

    def __init__(self, body: Row, answers: Answers, dataset: str, curves: Sequence[Row]) -> None:
        config = body["config"]
        self.config, self.curves, self.answers, self.dataset = config, curves, answers, dataset
        have = {(strategy, seed) for name, strategy, seed in answers if name == dataset}
        present = {strategy for strategy, _ in have}
        self.labels = [label for label in config["strategies"] if label in present]
        if config["baseline"] not in self.labels:
            self.labels = []
        self.seeds = [
            seed for seed in config["seeds"] if all((label, seed) in have for label in self.labels)
        ]
        left_out = sorted({seed for _, seed in have} - set(self.seeds))
        if left_out and self.labels:
            body["left_out"].append(
                f"{dataset}: seeds {', '.join(map(str, left_out))} are in the curves but not in "
                "the comparison, because not every strategy has finished them."
            )
        self.shared_test = bool(body["shared_test"][dataset])

    def analysis(self, axis: str) -> Analysis:
        answers = {
            label: np.stack([self.answers[self.dataset, label, seed] for seed in self.seeds])
            for label in self.labels
        }
        same = axis == free_axis(self.config)
        curves = CurveSet(
            sorted({row["budget"] for row in self.curves if row["seed"] in self.seeds}),
            answers,
            cost=axis,
            shared_test=self.shared_test,
            spent=None if same else {name: self._spent(name, axis) for name in answers},
            unit="samples" if self.config["rounds"]["mode"] == "reweight" else "examples",
        )
        strategies = self.config["strategies"]
        oracles = [name for name in self.labels if strategies[name] in (FROM_PRESET, INFORMED)]
        oracle = oracles[0] if oracles else None
        return analyse(
            curves,
            self.config["baseline"],
            oracle=oracle,
            controls=[name for name in self.labels if _free(strategies[name])],
            level=self.config["level"],
            rng=np.random.default_rng(0),
        )

    def _spent(self, label: str, axis: str) -> list[list[float]]:
        own = [row for row in self.curves if row["strategy"] == label]
        by_seed = [
            sorted((row for row in own if row["seed"] == seed), key=lambda row: row["budget"])
            for seed in self.seeds
        ]
        return [[row["costs"][axis] for row in rows] for rows in by_seed]


def _free(spec: Any) -> bool:
    return (spec.get("name") if isinstance(spec, Mapping) else spec) in FREE


def masked(curves: Sequence[Row]) -> list[Row]:
    """Per dataset and strategy that measured premem, how much of it the mask has changed.

    Returns:
        Rows ``dataset, strategy, largest, last``: the largest share of scored examples that counted
        as memorized in any round of any run, and the mean share in the last rounds of the fits.
    """
    found: dict[tuple[str, str], list[list[float]]] = {}
    for row in curves:
        if row.get("masked"):
            found.setdefault((row["dataset"], row["strategy"]), []).append(row["masked"])
    return [
        {
            "dataset": dataset,
            "strategy": strategy,
            "largest": max(map(max, shares)),
            "last": float(np.mean([share[-1] for share in shares])),
        }
        for (dataset, strategy), shares in found.items()
    ]


def forecast(curves: Sequence[Row]) -> Row:
    """How near the runs' own forecasts came, each made before its stage was tested.

    Args:
        curves: rows of ``results["curves"]``; ``forecast`` is what the run said, or None.
    """
    rows = [row for row in curves if row.get("forecast") and row["test_accuracy"] is not None]
    blank: Row = {"protocol": "before each test", "n_checkpoints": len(rows), "points": []}
    blank |= {"r2": None, "mae": None, "coverage": None}
    if not rows:
        return blank | {"note": "No run measured what a forecast is made from (signal premem)."}
    now = [row["forecast"] for row in rows]
    value, low, high = (np.array([f[name] for f in now]) for name in ("value", "low", "high"))
    y = np.array([row["test_accuracy"] for row in rows])
    spread = float(((y - y.mean()) ** 2).sum())
    points = [
        {name: row[name] for name in ("dataset", "strategy", "seed", "budget", "premem")}
        | {"forecast": f["value"], "low": f["low"], "high": f["high"]}
        | {"test_accuracy": row["test_accuracy"]}
        for row, f in zip(rows, now, strict=True)
    ]
    sources = sorted({str(f["source"]).partition(";")[0] for f in now})
    return blank | {
        "r2": 1.0 - float(((y - value) ** 2).sum()) / spread if spread else None,
        "mae": float(np.abs(y - value).mean()),
        "coverage": float(((low <= y) & (y <= high)).mean()),
        "points": points,
        "note": f"90% intervals; {'; '.join(sources)}; shifted by the tests of earlier stages.",
    }
