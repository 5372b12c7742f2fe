"""How far the figures can be trusted: ``python -m research.forecast_stability DIR``.

Prints, per dataset of a trace folder: errors with several runs left out at once, with fewer runs to
fit on, with the ratio taken from the other dataset, the bias of the metric at few samples, and how
much of the error is noise in the labels.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from activeselect.arrays import FloatArray
from activeselect.forecast.baselines import baselines_for
from activeselect.forecast.evaluate import (
    Judged,
    figures,
    forecast_features,
    hold_out,
    leave_one_run_out,
    stack,
)
from activeselect.forecast.features import (
    RATIOS,
    SETTINGS,
    dataset_premem,
    feature_matrix,
    run_scale,
    shrink_accuracy,
)
from activeselect.forecast.regressor import TestAccuracyRegressor
from activeselect.forecast.traces import RunTrace, datasets_in, read_traces

Stacked = tuple[FloatArray, FloatArray, NDArray[np.str_]]


def errors_without(
    data: Stacked, left_out: Sequence[str], kept: Sequence[str] | None = None
) -> FloatArray:
    """Return forecast minus actual of some runs, fitted on the others (or on ``kept``), ``[n]``."""
    X, y, group = data
    out = np.isin(group, left_out)
    used = ~out if kept is None else np.isin(group, kept)
    model = TestAccuracyRegressor().fit(X[used], y[used], groups=group[used])
    return model.predict(X[out]) - y[out]


def leave_several_out(data: Stacked, count: int) -> tuple[float, float, float]:
    """Leave out every set of ``count`` runs: overall R2, MAE, and the worst set's MAE."""
    sets = list(itertools.combinations(np.unique(data[2]).tolist(), count))
    errors = [errors_without(data, left_out) for left_out in sets]
    truth = np.concatenate([data[1][np.isin(data[2], left_out)] for left_out in sets])
    flat = np.concatenate(errors)
    r2 = 1 - float((flat**2).mean() / truth.var())
    return r2, float(np.abs(flat).mean()), max(float(np.abs(e).mean()) for e in errors)


def fewer_runs(data: Stacked, count: int, draws: int = 100, seed: int = 0) -> tuple[float, float]:
    """Fit on ``count`` random runs, judge all others: median and 90% quantile of the MAE."""
    rng = np.random.default_rng(seed)
    names = np.unique(data[2])
    found = []
    for _ in range(draws):
        kept = rng.choice(names, count, replace=False)
        others = [name for name in names.tolist() if name not in kept]
        found.append(float(np.abs(errors_without(data, others, kept.tolist())).mean()))
    return float(np.median(found)), float(np.quantile(found, 0.9))


def with_ratio(runs: Sequence[RunTrace], ratio: float) -> tuple[float, float]:
    """Leave-one-run-out R2 and MAE with the ratio given and only the floor chosen."""
    columns = [k for k, setting in enumerate(SETTINGS) if setting.ratio == ratio]
    judged = leave_one_run_out(runs, lambda run: forecast_features(run)[:, columns], "identity")
    error = judged.forecast - judged.actual
    return 1 - float((error**2).mean() / judged.actual.var()), float(np.abs(error).mean())


def chosen_ratio(runs: Sequence[RunTrace]) -> float:
    """Return the ratio that all runs of a dataset together choose."""
    X, y, group = stack(runs, forecast_features)
    return SETTINGS[TestAccuracyRegressor().fit(X, y, groups=group).column_].ratio


def sampling_bias(
    folder: Path, dataset: str, runs: Sequence[RunTrace], tau: float, seed: int = 0
) -> list[tuple[str, int, float, float]]:
    """Return (run, n, bias as it is, bias shrunk) of dataset-level premem at the last checkpoint.

    Truth is the metric on 25 held-back samples of the runs that have 50, as it is.
    """
    rng = np.random.default_rng(seed)
    table = pq.read_table(folder / f"{dataset}_examples.parquet")
    if "outcomes_50" not in table.column_names:
        return []
    found = []
    names = np.array(table["run"].to_pylist())
    for run in runs:
        rows = np.flatnonzero(names == run.name)
        part = table.select(["step", "example_id", "outcomes_50"]).take(rows)
        if part["outcomes_50"].null_count:
            continue
        order = np.lexsort((part["example_id"].to_numpy(), part["step"].to_numpy()))
        flat = np.array(part["outcomes_50"].to_pylist(), dtype=bool)[order]
        # Likelier completions come first in these files, so each example gets its own order.
        cube = rng.permuted(flat, axis=1).reshape(*run.accuracy.shape, 50)
        truth = dataset_premem(cube[..., 25:].mean(axis=2), run.mean_nll, tau)[-1]
        for n in (1, 2, 5, 10, 25):
            accuracy = cube[..., :n].mean(axis=2)
            plain = dataset_premem(accuracy, run.mean_nll, tau)[-1]
            shrunk = dataset_premem(shrink_accuracy(accuracy, n), run.mean_nll, tau)[-1]
            found.append((run.name, n, float(plain - truth), float(shrunk - truth)))
    return found


def fewer_samples(
    runs: Sequence[RunTrace], count: int, shrink: bool, seed: int = 0
) -> tuple[float, float]:
    """Judge runs of which only ``count`` samples are read, fitted on all samples of the others.

    Returns R2 and MAE, leave-one-run-out, with accuracies shrunk or as they are.
    """
    rng = np.random.default_rng(seed)

    def features(accuracy: FloatArray, run: RunTrace, samples: Any) -> FloatArray:
        # So many samples that nothing is shrunk.
        return feature_matrix(accuracy, run.mean_nll, samples if shrink else 10**9)

    X = [features(run.accuracy, run, run.samples) for run in runs]
    error, truth = [], []
    for k, run in enumerate(runs):
        right = np.rint(run.accuracy * run.samples).astype(np.int64)
        fewer = rng.hypergeometric(right, run.samples - right, count) / count
        others = [j for j in range(len(runs)) if j != k]
        model = TestAccuracyRegressor().fit(
            np.concatenate([X[j] for j in others]),
            np.concatenate([runs[j].test_accuracy for j in others]),
            groups=np.concatenate([np.full(len(X[j]), j) for j in others]),
        )
        error.append(model.predict(features(fewer, run, count)) - run.test_accuracy)
        truth.append(run.test_accuracy)
    flat = np.concatenate(error)
    r2 = 1 - float((flat**2).mean() / np.concatenate(truth).var())
    return r2, float(np.abs(flat).mean())


def how_often_better(ours: Judged, theirs: Judged, draws: int = 2000, seed: int = 0) -> float:
    """Share of bootstrap draws over runs in which our mean squared error is the smaller one."""
    rng = np.random.default_rng(seed)
    code = np.unique(ours.run, return_inverse=True)[1]
    gain = (theirs.forecast - theirs.actual) ** 2 - (ours.forecast - ours.actual) ** 2
    per_run = np.bincount(code, weights=gain)
    picks = rng.integers(len(per_run), size=(draws, len(per_run)))
    return float((per_run[picks].sum(axis=1) > 0).mean())


def coverage_at(runs: Sequence[RunTrace], level: float) -> float:
    """Return the share of checkpoints inside leave-one-run-out intervals of a level."""
    X, y, group = stack(runs, forecast_features)
    inside = []
    for name in np.unique(group):
        out = group == name
        model = TestAccuracyRegressor().fit(X[~out], y[~out], groups=group[~out])
        low, high = model.predict_interval(X[out], level).T
        inside += ((low <= y[out]) & (y[out] <= high)).tolist()
    return float(np.mean(inside))


def error_parts(runs: Sequence[RunTrace]) -> dict[str, float]:
    """Split the leave-one-run-out error: label noise (at most), between runs, within runs.

    The noise of a label is bounded by that of independent answers, ``sqrt(p(1-p) / (questions x
    samples))``; which questions are in the test set is the same for all runs, no noise between.
    """
    judged = leave_one_run_out(runs)
    error = judged.forecast - judged.actual
    names, code = np.unique(judged.run, return_inverse=True)
    means = np.array([error[code == k].mean() for k in range(len(names))])
    answers = np.concatenate(
        [(r.test_examples * r.test_samples)[~np.isnan(r.test_accuracy)] for r in runs]
    )
    noise = judged.actual * (1 - judged.actual) / np.maximum(answers, 1)
    return {
        "rmse": float(np.sqrt((error**2).mean())),
        "label noise": float(np.sqrt(noise.mean())),
        "between runs": float(np.sqrt((means[code] ** 2).mean())),
        "within runs": float(np.sqrt(((error - means[code]) ** 2).mean())),
        "r2 if only label noise were left": 1 - float(noise.mean() / judged.actual.var()),
    }


def choice_lines(
    name: str, all_runs: dict[str, list[RunTrace]], ratios: Sequence[float] = RATIOS
) -> Iterator[str]:
    """Yield how the figures depend on which runs and which ratio are used."""
    runs = all_runs[name]
    data = stack(runs, forecast_features)
    yield f"ratio chosen on all runs: {chosen_ratio(runs)}"
    for count in (1, 2, 3):
        r2, mae, worst = leave_several_out(data, count)
        yield f"{count} runs left out: R2 {r2:.3f} MAE {mae:.4f}, worst set {worst:.4f}"
    for count in range(3, len(runs) - 1, 2):
        median, high = fewer_runs(data, count)
        yield f"fitted on {count} random runs: MAE median {median:.4f}, 90% {high:.4f}"
    for ratio in sorted(ratios):
        r2, mae = with_ratio(runs, ratio)
        yield f"ratio {ratio:.2f} for all: R2 {r2:.3f} MAE {mae:.4f}"
    for other in all_runs:
        if other != name:
            ratio = chosen_ratio(all_runs[other])
            r2, mae = with_ratio(runs, ratio)
            yield f"ratio {ratio} of {other}: R2 {r2:.3f} MAE {mae:.4f}"
            found = figures(hold_out(all_runs[other], runs))
            yield f"everything from {other}: R2 {found['r2']:.3f} MAE {found['mae']:.4f}"


def noise_lines(folder: Path, name: str, runs: Sequence[RunTrace]) -> Iterator[str]:
    """Yield what sampling, luck and labels contribute."""
    tau = SETTINGS[leave_one_run_out(runs).column[runs[0].group]].tau(run_scale(runs[0].mean_nll))
    for run, n, plain, shrunk in sampling_bias(folder, name, runs, tau):
        yield f"bias at n={n}: {plain:+.4f} as it is, {shrunk:+.4f} shrunk ({run})"
    for n in (1, 2, 3, 4, 5):
        (r2, mae), (r2_raw, mae_raw) = (fewer_samples(runs, n, s) for s in (True, False))
        raw = f"not shrunk {r2_raw:.3f} {mae_raw:.4f}"
        yield f"judged on {n} samples: R2 {r2:.3f} MAE {mae:.4f}, {raw}"
    ours = leave_one_run_out(runs)
    for baseline in baselines_for(name):
        x, y, _ = stack(runs, baseline.columns)
        if x.shape[1] == 1:
            r2 = float(np.corrcoef(x[:, 0], y)[0, 1] ** 2)
            yield f"in sample, R2 of a line on {baseline.name}: {r2:.3f}"
        theirs = leave_one_run_out(runs, baseline.columns, baseline.calibration)
        yield f"better than {baseline.name}: {how_often_better(ours, theirs):.3f} of draws"
    levels = (0.5, 0.8, 0.9, 0.95)
    yield "coverage " + ", ".join(f"{x:.0%}: {coverage_at(runs, x):.3f}" for x in levels)
    yield ", ".join(f"{k} {v:.4f}" for k, v in error_parts(runs).items())


def main(folder: Path, ratios: Sequence[float] = RATIOS) -> None:
    """Print everything; ``ratios``: those that are tried for all runs."""
    all_runs = {name: read_traces(folder, name) for name in datasets_in(folder)}
    for name, runs in all_runs.items():
        print(f"\n{name}")
        for line in (*choice_lines(name, all_runs, ratios), *noise_lines(folder, name, runs)):
            print(f"  {line}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
