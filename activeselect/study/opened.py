"""Opened runs and studies: what a finished folder holds, as DataFrames and as charts.

``activeselect.open_run(path)`` and ``activeselect.open_study(path)`` read folders that
``activeselect train`` and ``activeselect compare`` wrote. They change nothing in them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from activeselect.config import RunConfig, from_plain
from activeselect.errors import StoreError
from activeselect.files import read_json
from activeselect.study import charts, tables
from activeselect.study.results import read_results
from activeselect.study.theme import AnyChart

if TYPE_CHECKING:
    import pandas as pd

    from activeselect.data.pool import Pool

_TEXT = ("question", "trace", "answer", "group")
_WHEN = ("round", "stage", "epoch", "kind")


def open_run(path: str | Path) -> OpenedRun:
    """Open the folder of a finished run.

    Args:
        path: the folder that ``activeselect train --out`` wrote, or a run of a study.

    Returns:
        Its scores, rounds, selections, learning curve and cost, and charts of them.

    Raises:
        StoreError: if the folder holds no finished run.

    Example::

        run = open_run("runs/first")
        run.curve
    """
    folder = Path(path)
    if not (folder / "result.json").is_file():
        begun = (folder / "config.json").is_file()
        raise StoreError(
            f"{folder}: expected the folder of a finished run (with result.json); received "
            f"{'a run that has not finished' if begun else 'a folder without a run'}. "
            + ("Repeat its command; it continues." if begun else "Give the --out of a run.")
        )
    return OpenedRun(folder, read_json(folder / "result.json"))


def open_study(path: str | Path) -> OpenedStudy:
    """Open the folder of a study.

    Args:
        path: the folder that ``activeselect compare --out`` wrote; ``results.json`` is enough.

    Returns:
        Its learning curves, ratios, selections, scores and costs, and charts of them.

    Raises:
        StoreError: if the folder holds no results, or results of another version.

    Example::

        study = open_study("quickstart")
        study.verdicts
    """
    return OpenedStudy(Path(path), read_results(Path(path)))


@dataclass(frozen=True)
class OpenedRun:
    """A finished run.

    Attributes:
        path: its folder.
        result: the content of ``result.json``.
    """

    path: Path
    result: Mapping[str, Any]

    @cached_property
    def config(self) -> RunConfig:
        """The settings of the run."""
        return from_plain(RunConfig, self.result["config"])

    @cached_property
    def name(self) -> str:
        """The strategy as the config names it."""
        strategy = self.result["config"].get("strategy")
        if isinstance(strategy, Mapping):
            strategy = strategy.get("name") or strategy.get("class_path")
        return str(strategy)

    @cached_property
    def pool(self) -> Pool:
        """The problems that the positions in ``scores`` refer to, read from where they were.

        Raises:
            ActiveSelectError: if the data cannot be read any more.
        """
        from activeselect.study.scored import pool_of

        return pool_of(self.config, str(self.result.get("pool_fingerprint", "")))

    @cached_property
    def scores(self) -> pd.DataFrame:
        """One row per scored example and round.

        Columns: ``round``, ``stage``, ``epoch``, ``index`` (position in the pool), ``question``,
        ``trace``, ``answer``, ``group``, and every signal that the run measured
        (:mod:`activeselect.scoring.store`); NaN where a round did not measure one.
        """
        import pandas as pd

        from activeselect.scoring.store import ScoreStore

        if not any((self.path / "scores").glob("*.parquet")):
            return pd.DataFrame(columns=["round", "stage", "epoch", "index", *_TEXT])
        pool = self.pool
        store = ScoreStore(self.path / "scores", pool.fingerprint, pool_size=len(pool))
        rounds = []
        for number in store.rounds():
            table = store.read(number).to_pandas()
            table.insert(0, "round", number)
            rounds.append(table)
        found = pd.concat(rounds, ignore_index=True)
        problems = pool.problems(found["index"].to_numpy())
        text = pd.DataFrame(
            {name: [getattr(problem, name) for problem in problems] for name in _TEXT}
        )
        first = [name for name in ("round", "stage", "epoch", "index") if name in found]
        rest = [name for name in found if name not in first]
        return pd.concat([found[first], text, found[rest]], axis=1)

    @cached_property
    def rounds(self) -> pd.DataFrame:
        """One row per scored round: how many examples were scored, and the mean of each signal."""
        import pandas as pd

        scores = self.scores
        signals = [name for name in scores.select_dtypes("float") if scores[name].notna().any()]
        by_round = scores.groupby("round", sort=True)
        when = [name for name in ("stage", "epoch") if name in scores]
        counts = by_round.size().rename("scored")
        return pd.concat([by_round[when].first(), counts, by_round[signals].mean()], axis=1)

    @cached_property
    def selections(self) -> pd.DataFrame:
        """One row per stage and group: ``examples`` in the train set, and how many are ``new``."""
        import pandas as pd

        rows: list[dict[str, Any]] = []
        before: Mapping[str, int] = {}
        for entry in self.result["curve"]:
            for group, count in entry["groups"].items():
                row = {"stage": entry["stage"], "budget": entry["budget"], "group": group}
                rows.append(row | {"examples": count, "new": count - before.get(group, 0)})
            before = entry["groups"]
        return pd.DataFrame(rows, columns=["stage", "budget", "group", "examples", "new"])

    @cached_property
    def curve(self) -> pd.DataFrame:
        """One row per stage: budget, test accuracy, forecast, and what was spent up to there."""
        import pandas as pd

        rows = []
        for entry in self.result["curve"]:
            row = {k: v for k, v in entry.items() if k not in ("groups", "cost", "forecast")}
            forecast = entry.get("forecast") or {}
            row |= {f"forecast_{key}": value for key, value in forecast.items()}
            rows.append(row | dict(entry.get("cost") or {}))
        return pd.DataFrame(rows)

    @cached_property
    def cost(self) -> pd.Series[Any]:
        """What the whole run cost: seconds, tokens, completions."""
        import pandas as pd

        return pd.Series(dict(self.result["cost"]), name="cost")

    @property
    def plot(self) -> RunPlots:
        """Charts of the run."""
        return RunPlots(self)

    def model_card(self) -> str:
        """The run as a model card in Markdown; see :func:`activeselect.study.card.model_card`."""
        from activeselect.study.card import model_card

        return model_card(self)

    def push_to_hub(self, repo_id: str, *, private: bool = True, token: str | None = None) -> str:
        """Upload the model with its card.

        Args:
            repo_id: ``user/name`` on the hub.
            private: whether a new repository is private.
            token: of the hub; default: the one that ``hf auth login`` saved.

        Returns:
            The address of the upload.

        Raises:
            StoreError: if the run kept no model.
        """
        from activeselect.study.card import push_to_hub

        return push_to_hub(self, repo_id, private=private, token=token)

    def __repr__(self) -> str:
        last = self.result["curve"][-1]
        accuracy = last["test_accuracy"]
        tested = "not tested" if accuracy is None else f"test accuracy {accuracy:.3f}"
        return f"Run({self.name!r}, {last['budget']:,} examples, {tested}, {str(self.path)!r})"

    def _repr_html_(self) -> str:
        return f"<p><b>Run</b> {escape(repr(self)[4:-1])}</p>{_html(self.curve)}"


class RunPlots:
    """Charts of one run, each in one call."""

    def __init__(self, run: OpenedRun) -> None:
        self._run = run

    def curve(self) -> AnyChart:
        """Test accuracy over the budget.

        Raises:
            StoreError: if the run had no test set.
        """
        run = self._run
        rows = [
            {"strategy": run.name, "seed": run.config.seed} | dict(entry)
            for entry in run.result["curve"]
            if entry["test_accuracy"] is not None
        ]
        return _drawn(charts.learning_curves(rows, title="Test accuracy"), run.path, "a test set")

    def data_map(self) -> AnyChart:
        """How well each group was understood, by round.

        Raises:
            StoreError: if the run scored nothing.
        """
        rows = self.understood()
        groups = tables.group_order(rows, self._chosen())
        found = {
            words: tables.understood_table(rows, groups, measure)
            for measure, words in tables.MEASURES.items()
        }
        chart = charts.understood_map(found, title="How well it was understood")
        return _drawn(chart, self._run.path, "scores of the train set")

    def selected(self) -> AnyChart:
        """Which groups the new examples of each budget belong to."""
        groups = tables.group_order(self.understood(), self._chosen())
        table = tables.chosen_table(self._chosen(), groups)
        chart = charts.chosen_map(table, title="New in the train set")
        return _drawn(chart, self._run.path, "selections")

    def _chosen(self) -> list[dict[str, Any]]:
        return [
            {"strategy": self._run.name, "budget": entry["budget"], "groups": entry["groups"]}
            for entry in self._run.result["curve"]
        ]

    def understood(self) -> list[dict[str, Any]]:
        """Rows like those of ``results["data_map"]``, of this run."""
        from activeselect.scoring.store import ScoreStore
        from activeselect.study.scored import FILE, summarise_scores

        run = self._run
        if (run.path / FILE).is_file():
            summary = read_json(run.path / FILE)
        elif any((run.path / "scores").glob("*.parquet")):
            store = ScoreStore(run.path / "scores", run.pool.fingerprint, pool_size=len(run.pool))
            summary = summarise_scores(run.pool, store)
        else:
            return []
        return [
            {"strategy": run.name, **{key: row.get(key) for key in _WHEN}, "group": group, **means}
            for row in summary["rounds"]
            for group, means in row["groups"].items()
        ]


@dataclass(frozen=True)
class OpenedStudy:
    """A study: strategies over seeds, budgets and datasets.

    Attributes:
        path: its folder.
        results: the content of ``results.json``.
    """

    path: Path
    results: Mapping[str, Any]

    @property
    def datasets(self) -> list[str]:
        """The datasets that were compared on."""
        return tables.dataset_names(self.results)

    @property
    def verdicts(self) -> list[str]:
        """The findings in words."""
        return [str(verdict) for verdict in self.results.get("verdicts") or []]

    @cached_property
    def curve(self) -> pd.DataFrame:
        """One row per run and budget: test accuracy, premem, forecast, and costs on every axis."""
        frame = self._frame("curves")
        if "costs" not in frame:
            return frame
        import pandas as pd

        costs = pd.DataFrame(list(frame.pop("costs")), index=frame.index)
        return frame.join(costs[[name for name in costs if name not in frame]])

    @cached_property
    def efficiency(self) -> pd.DataFrame:
        """One row per strategy and budget: the data-efficiency ratio with its interval."""
        return self._frame("efficiency")

    @cached_property
    def scores(self) -> pd.DataFrame:
        """One row per dataset, strategy, round and group: what the scored examples got right."""
        return self._frame("data_map")

    @cached_property
    def rounds(self) -> pd.DataFrame:
        """One row per dataset, strategy and round: means over the groups, by examples scored."""
        import pandas as pd

        rows = []
        scores = self.scores
        if scores.empty:
            return pd.DataFrame(columns=["dataset", "strategy", "round", "scored"])
        for key, own in scores.groupby(["dataset", "strategy", "round"], sort=False):
            row = dict(zip(("dataset", "strategy", "round"), key, strict=True))
            row |= {name: own[name].iloc[0] for name in ("stage", "epoch", "kind") if name in own}
            row["scored"] = own["scored"].sum()
            for measure in tables.MEASURES:
                known = own[own[measure].notna()] if measure in own else own[:0]
                weights = known["scored"].to_numpy(dtype=float)
                mean = np.nan
                if weights.sum():
                    mean = float(np.average(known[measure].to_numpy(dtype=float), weights=weights))
                row[measure] = mean
            rows.append(row)
        return pd.DataFrame(rows)

    @cached_property
    def selections(self) -> pd.DataFrame:
        """One row per run, budget and group: how many ``examples`` were in the train set."""
        import pandas as pd

        keys = ("dataset", "strategy", "seed", "budget")
        rows = [
            {key: row[key] for key in keys} | {"group": group, "examples": count}
            for row in self.results.get("selection") or []
            for group, count in row["groups"].items()
        ]
        return pd.DataFrame(rows, columns=[*keys, "group", "examples"])

    @cached_property
    def cost(self) -> pd.DataFrame:
        """One row per run: seconds and tokens."""
        return self._frame("cost")

    @property
    def plot(self) -> StudyPlots:
        """Charts of the study."""
        return StudyPlots(self)

    def runs(self) -> list[OpenedRun]:
        """The finished runs in the study's folder; none where only ``results.json`` was kept."""
        files = sorted(self.path.glob("cells/*/*/seed-*/result.json"))
        return [open_run(file.parent) for file in files]

    def _frame(self, key: str) -> pd.DataFrame:
        import pandas as pd

        return pd.DataFrame(list(self.results.get(key) or []))

    def __repr__(self) -> str:
        curves = self.results.get("curves") or []
        strategies = list(dict.fromkeys(row["strategy"] for row in curves))
        seeds = len({row["seed"] for row in curves})
        names = ", ".join(self.datasets)
        return f"Study({names}; {', '.join(strategies)}; {seeds} seeds; {str(self.path)!r})"

    def _repr_html_(self) -> str:
        lines = "".join(f"<li>{escape(verdict)}</li>" for verdict in self.verdicts[:12])
        return f"<p><b>Study</b> {escape(repr(self)[6:-1])}</p><ul>{lines}</ul>"


class StudyPlots:
    """Charts of a study, each in one call; those of its report.

    Each takes the dataset to draw, by default the first one.
    """

    def __init__(self, study: OpenedStudy) -> None:
        self._study = study

    def curve(self, dataset: str | None = None) -> AnyChart:
        """Test accuracy over the budget, of every strategy."""
        return self._chart("curves", dataset)

    def efficiency(self, dataset: str | None = None) -> AnyChart:
        """Data-efficiency ratios with intervals."""
        return self._chart("efficiency", dataset)

    def data_map(self, dataset: str | None = None) -> AnyChart:
        """How well each group was understood, by round."""
        return self._chart("understood", dataset)

    def selected(self, dataset: str | None = None) -> AnyChart:
        """Which groups the new examples of each budget belong to."""
        return self._chart("chosen", dataset)

    def cost(self, dataset: str | None = None) -> AnyChart:
        """What a run costs, by what it was spent on."""
        return self._chart("cost", dataset)

    def forecast(self, dataset: str | None = None) -> AnyChart:
        """Forecast against measured test accuracy."""
        return self._chart("forecast", dataset)

    def _chart(self, kind: str, dataset: str | None) -> AnyChart:
        from activeselect.study.report import chart_of

        study = self._study
        name = study.datasets[0] if dataset is None and study.datasets else dataset
        if name not in study.datasets:
            raise StoreError(
                f"dataset: expected one of {', '.join(study.datasets)}; received {name!r}."
            )
        return _drawn(chart_of(study.results, name, kind), study.path, f"rows for '{kind}'")


def _drawn(chart: AnyChart | None, path: Path, needed: str) -> AnyChart:
    if chart is None:
        raise StoreError(f"{path} has nothing to draw here: this chart needs {needed}.")
    return chart


def _html(frame: pd.DataFrame) -> str:
    return str(frame.to_html(max_rows=20, float_format="{:.3f}".format, border=0, index=False))
