"""The commands ``activeselect forecast ...``; their signatures are the command line."""

from __future__ import annotations

import json as json_module
from collections.abc import Sequence
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from activeselect.errors import DataError
from activeselect.files import write_text

if TYPE_CHECKING:  # scikit-learn takes a second to import, and help does not need it
    from activeselect.forecast.regressor import TestAccuracyRegressor
    from activeselect.forecast.traces import RunTrace

LEVEL = 0.9


def import_traces(source: Path, out: Path) -> None:
    """Read recorded runs into a trace folder.

    Args:
        source: a folder with runs in the layout of katiekang1998/reasoning_generalization, or with
            run folders of ``activeselect train`` (at any depth).
        out: folder for the traces, new or empty.

    Raises:
        DataError: if there are no runs, a file is damaged, or ``out`` already holds traces.
    """
    import pyarrow as pa

    from activeselect.forecast.importers import (
        official_runs,
        official_tables,
        run_folders,
        run_tables,
    )
    from activeselect.forecast.traces import runs_of, write_traces

    if not source.is_dir():
        raise DataError(f"{source}: expected a folder of runs, found none; check the path")
    if out.exists() and any(out.glob("*_examples.parquet")):
        raise DataError(f"{out}: already holds traces; choose another folder for --out")
    official, own = official_runs(source), run_folders(source)
    if not official and not own:
        raise DataError(
            f"{source}: expected folders named checkpoint-<step> (the paper's layout) or scores "
            "(runs of `activeselect train`), found neither; check the path"
        )
    tables = [official_tables(run) for run in official]
    tables += [run_tables(run, _run_name(run, source)) for run in own]
    console = Console(stderr=True, highlight=False)
    for dataset in sorted({name for name, _, _ in tables}):
        mine = [(ex, ck) for name, ex, ck in tables if name == dataset]
        examples = pa.concat_tables([ex for ex, _ in mine], promote_options="permissive")
        checkpoints = pa.concat_tables([ck for _, ck in mine], promote_options="permissive")
        runs_of(examples, checkpoints, dataset)
        write_traces(out, dataset, examples, checkpoints)
        console.print(f"{dataset}: {len(mine)} runs, {checkpoints.num_rows} checkpoints -> {out}")


def evaluate(
    traces: Path,
    dataset: str,
    holdout: Path | None = None,
    json: bool = False,
    plot: Path | None = None,
) -> None:
    """Judge the forecast, and simpler ones, on runs that it has not seen.

    Args:
        traces: trace folder (see ``forecast import``).
        dataset: name of the dataset in it.
        holdout: another trace folder: fit on ``traces``, judge on it. Without it, each run is
            judged by a regressor fitted on all others.
        json: print JSON instead of a table.
        plot: also draw R2 against the threshold into this file (.png, .svg or .pdf).

    Raises:
        DataError: if the traces are missing, damaged or too few.
    """
    from activeselect.forecast.evaluate import evaluation, tau_curve
    from activeselect.forecast.traces import read_traces

    runs = read_traces(traces, dataset)
    report = evaluation(runs, None if holdout is None else read_traces(holdout, dataset))
    if plot is not None:
        from activeselect.study import charts
        from activeselect.study.theme import save_chart

        save_chart(charts.tau_curve(tau_curve(runs), title=dataset), plot)
    if json:
        print(json_module.dumps(report, indent=1, allow_nan=False))
    else:
        _print_report(report)


def fit(traces: Path, out: Path, dataset: str | None = None) -> None:
    """Fit a regressor on recorded runs and write it as JSON.

    Args:
        traces: trace folder.
        out: file for the model.
        dataset: name of the dataset to fit on; by default all in the folder, pooled.

    Raises:
        DataError: if the traces are missing, damaged or too few.
    """
    from activeselect.forecast.traces import datasets_in, read_traces

    names = datasets_in(traces) if dataset is None else [dataset]
    runs = [run for name in names for run in read_traces(traces, name)]
    model = fit_runs(runs)
    facts = provenance(runs, f"fitted on {', '.join(names)} in {traces.resolve().name}")
    out.parent.mkdir(parents=True, exist_ok=True)
    write_text(out, model.to_json(facts) + "\n")
    console = Console(stderr=True, highlight=False)
    console.print(f"{model.n_groups_} runs, calibration {model.calibration_} -> {out}")


def predict(
    source: Path, model: Path | None = None, dataset: str | None = None, json: bool = False
) -> None:
    """Forecast the test accuracy of recorded runs, or of a run folder.

    Args:
        source: a trace folder, or a run folder of ``activeselect train`` (finished or not).
        model: file that ``forecast fit`` wrote; by default the regressor shipped for the dataset,
            or the one for unknown datasets.
        dataset: name of the dataset in a trace folder; by default all.
        json: print JSON instead of a table.

    Raises:
        DataError: if something is missing or damaged.
    """
    import numpy as np

    from activeselect.forecast.evaluate import forecast_features
    from activeselect.forecast.live import source_of, tau_of

    rows = []
    for run in _runs_to_predict(source, dataset):
        regressor = _regressor(model, run.dataset)
        X = forecast_features(run)
        examples = np.full(len(X), run.accuracy.shape[1])
        interval = regressor.predict_interval(X, LEVEL, examples=examples)
        for k, value in enumerate(regressor.predict(X).tolist()):
            actual = float(run.test_accuracy[k])
            rows.append(
                {
                    "run": run.name,
                    "epoch": int(run.epoch[k]),
                    "forecast": value,
                    "low": float(interval[k, 0]),
                    "high": float(interval[k, 1]),
                    "actual": None if np.isnan(actual) else actual,
                    "tau": tau_of(regressor, run.mean_nll),
                    "source": source_of(regressor),
                }
            )
    if json:
        print(json_module.dumps({"level": LEVEL, "forecasts": rows}, indent=1, allow_nan=False))
        return
    table = Table("run", "epoch", "forecast", f"{LEVEL:.0%} interval", "actual")
    for row in rows:
        actual_text = "" if row["actual"] is None else f"{row['actual']:.3f}"
        interval_text = f"{row['low']:.3f} to {row['high']:.3f}"
        table.add_row(
            str(row["run"]), str(row["epoch"]), f"{row['forecast']:.3f}", interval_text, actual_text
        )
    console = Console(highlight=False)
    console.print(table)
    console.print("Forecast by: " + "; ".join(sorted({str(row["source"]) for row in rows})))


def fit_runs(runs: Sequence[RunTrace]) -> TestAccuracyRegressor:
    """Fit a regressor on recorded runs.

    Raises:
        DataError: if there are too few runs or tested checkpoints.
    """
    from activeselect.forecast.evaluate import MIN_CHECKPOINTS, check_runs, forecast_features, stack
    from activeselect.forecast.regressor import TestAccuracyRegressor

    check_runs(runs, 2, MIN_CHECKPOINTS, "fitting")
    X, y, group = stack(runs, forecast_features)
    return TestAccuracyRegressor().fit(X, y, groups=group)


def provenance(runs: Sequence[RunTrace], about: str) -> dict[str, Any]:
    """Return the facts that a model file keeps about what it was fitted on."""
    import numpy as np

    from activeselect.forecast.features import FEATURES_VERSION

    return {
        "about": about,
        "features_version": FEATURES_VERSION,
        "runs": sorted({run.group for run in runs}),
        "checkpoints": int(sum((~np.isnan(run.test_accuracy)).sum() for run in runs)),
        "made": datetime.now(timezone.utc).strftime("%Y-%m-%d"),
        "activeselect": version("activeselect"),
        "scikit-learn": version("scikit-learn"),
    }


def _run_name(run: Path, source: Path) -> str:
    inside = run.relative_to(source).as_posix()
    return source.resolve().name if inside == "." else inside


def _runs_to_predict(source: Path, dataset: str | None) -> list[RunTrace]:
    from activeselect.forecast.importers import run_tables
    from activeselect.forecast.traces import datasets_in, read_traces, runs_of

    if (source / "scores").is_dir():
        name, examples, checkpoints = run_tables(
            source, source.resolve().name, finished=(source / "result.json").exists()
        )
        return runs_of(examples, checkpoints, name)
    names = datasets_in(source) if dataset is None else [dataset]
    return [run for name in names for run in read_traces(source, name)]


def _regressor(model: Path | None, dataset: str) -> TestAccuracyRegressor:
    from activeselect.forecast.live import load_pretrained, load_regressor

    if model is not None:
        return load_regressor(model)
    return load_pretrained(dataset if dataset in ("gsm8k", "math") else "any")


def _print_report(report: dict[str, Any]) -> None:
    def figures(name: str, entry: dict[str, Any]) -> list[str]:
        values = [entry["r2"], entry["mae"], entry["rmse"], entry["coverage"]]
        shown = ["-" if value is None else f"{value:.4f}" for value in values]
        return [name, *shown]

    title = (
        f"{report['dataset']}, {report['protocol']}: {report['n_runs']} runs, "
        f"{report['n_checkpoints']} checkpoints"
    )
    table = Table("", "R2", "MAE", "RMSE", "in 90% interval", title=title)
    table.add_row(*figures("forecast", report))
    table.add_section()
    for name, entry in report["baselines"].items():
        table.add_row(*figures(name, entry))
    console = Console(highlight=False)
    console.print(table)
    console.print(f"tau: {report['tau']:.3f} nats per token (median over runs)")
    if report["bootstrap90"]:
        low, high = report["bootstrap90"]["r2"]
        console.print(f"R2 over runs drawn with replacement (90%): {low:.3f} to {high:.3f}")
