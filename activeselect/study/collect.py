"""Measured results of a study, read from the folders of its finished cells."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from activeselect.config import AXES, SKILLS_PREFIX, DataConfig, RunConfig, from_plain
from activeselect.environment import environment
from activeselect.errors import ActiveSelectError, StoreError
from activeselect.files import read_json, read_object, write_bytes
from activeselect.scoring.signals import measurements
from activeselect.seals import SEALS, check_results
from activeselect.selection.registry import create
from activeselect.study.chosen import chosen_of
from activeselect.study.plan import dataset_names, run_folder
from activeselect.study.results import SCHEMA_VERSION
from activeselect.study.scored import MEASURES, scored_of

# --- Answers
#
# With it a study can be judged again, on another axis or beside another study, without its run
# folders.


ANSWERS_FILE = "answers.parquet"
#: Dataset, strategy and seed of a run.
Key = tuple[str, str, int]
#: Per run bool ``[B, E]``: budget, test problem.
Answers = dict[Key, NDArray[np.bool_]]


def write_answers(path: Path, answers: Mapping[Key, NDArray[np.bool_]]) -> None:
    """Write all answers, eight to a byte.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / ANSWERS_FILE
        >>> write_answers(file, {("mixed", "random", 0): np.array([[True, False, True]])})
        >>> read_answers(file)["mixed", "random", 0].tolist()
        [[True, False, True]]
    """
    rows = [(key, stage, row) for key, array in answers.items() for stage, row in enumerate(array)]
    table = pa.table(
        {
            "dataset": [key[0] for key, _, _ in rows],
            "strategy": [key[1] for key, _, _ in rows],
            "seed": [key[2] for key, _, _ in rows],
            "stage": [stage for _, stage, _ in rows],
            "examples": [len(row) for _, _, row in rows],
            "correct": [np.packbits(row).tobytes() for _, _, row in rows],
        }
    )
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    write_bytes(path, buffer.getvalue())


def read_answers(path: Path) -> Answers:
    """Read what :func:`write_answers` wrote.

    Raises:
        StoreError: if the file is absent or damaged.
    """
    try:
        rows = pq.read_table(path).to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise StoreError(f"Cannot read {path}: {error}") from error
    found: dict[Key, list[NDArray[np.bool_]]] = {}
    for row in sorted(rows, key=lambda row: row["stage"]):
        bits = np.unpackbits(np.frombuffer(row["correct"], dtype=np.uint8), count=row["examples"])
        found.setdefault((row["dataset"], row["strategy"], row["seed"]), []).append(bits == 1)
    return {key: np.stack(arrays) for key, arrays in found.items()}


# --- Cost of a model on every axis


_SECONDS = ("train_s", "score_s", "select_s")
_COMPUTED = ("tokens_trained", "seconds")


def model_costs(
    curve: Sequence[Mapping[str, Any]], *, needs_rounds: bool
) -> list[dict[str, float]]:
    """What each model of a run has cost.

    Selection's own cost is part of it: a strategy that selects by the scores of earlier models
    pays for those models, for scoring and for selecting. A strategy that measures nothing could
    have trained on its last train set at once, and pays for that only. Testing is not counted, nor
    is what only a study needs: the rest of a stage after its last score, and scores after training
    (``cost_of_model``; runs of earlier versions did not record it and count whole).

    Args:
        curve: entries of ``result.json``, one per stage.
        needs_rounds: whether the strategy or the training needs the earlier stages.

    Returns:
        One dict per entry with the axes of :data:`~activeselect.config.AXES` that the run
        recorded.

    Example:
        >>> cost = dict(train_s=2., score_s=1., select_s=0., tokens_trained=80, tokens_generated=9)
        >>> later = dict(train_s=6., score_s=3., select_s=1., tokens_trained=240,
        ...     tokens_generated=27)
        >>> curve = [dict(unique_examples=10, samples_seen=20, cost=cost),
        ...     dict(unique_examples=20, samples_seen=60, cost=later)]
        >>> model_costs(curve, needs_rounds=True)[1]["tokens_total"]
        267
        >>> model_costs(curve, needs_rounds=False)[1]
        {'unique_examples': 20, 'samples_seen': 40, 'tokens_trained': 160, \
'tokens_total': 160, 'seconds': 4.0}
    """
    totals = [_totals(entry, needs_rounds) for entry in curve]
    if needs_rounds:
        return totals
    own = [totals[0]]
    for before, now in pairwise(totals):
        own.append({axis: now[axis] - before[axis] for axis in now})
        own[-1]["unique_examples"] = now["unique_examples"]
    return own


def _totals(entry: Mapping[str, Any], needs_rounds: bool) -> dict[str, float]:
    """Spent up to this entry, all stages together."""
    total: dict[str, float] = {name: entry[name] for name in ("unique_examples", "samples_seen")}
    cost = (needs_rounds and entry.get("cost_of_model")) or entry.get("cost")
    if cost is not None:
        total["samples_seen"] = cost.get("samples_seen", total["samples_seen"])
        total["tokens_trained"] = cost["tokens_trained"]
        generated = cost["tokens_generated"] if needs_rounds else 0
        total["tokens_total"] = cost["tokens_trained"] + generated
        parts = _SECONDS if needs_rounds else _SECONDS[:1]
        total["seconds"] = sum(cost[part] for part in parts)
    return total


def axes_of(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The axes on which all of these runs recorded their cost."""
    return [axis for axis in AXES if all(axis in row["costs"] for row in rows)]


def computed_of(runs: Sequence[FinishedRun]) -> dict[str, float]:
    """What all runs are billed for, as if each had run alone, and what was really computed."""
    found: dict[str, float] = {"runs": len(runs), "runs_copied": 0}
    found |= {f"{what}_{side}": 0.0 for what in _COMPUTED for side in ("billed", "computed")}
    for run in runs:
        cost = run.result["cost"]
        billed = {"tokens_trained": cost["tokens_trained"]}
        billed["seconds"] = sum(cost[part] for part in (*_SECONDS, "eval_s"))
        noted, copied = run.folder / "shared.json", (run.folder / "reused.json").exists()
        found["runs_copied"] += copied
        taken = [billed] if copied else read_json(noted).values() if noted.exists() else []
        for what in _COMPUTED:
            found[f"{what}_billed"] += billed[what]
            found[f"{what}_computed"] += billed[what] - sum(stage[what] for stage in taken)
    return found


def computed_in_words(computed: Mapping[str, float]) -> list[str]:
    """The same in a sentence for the report, where anything was shared or copied.

    Example:
        >>> computed_in_words({"runs": 6, "runs_copied": 0, "tokens_trained_billed": 200,
        ...     "tokens_trained_computed": 180, "seconds_billed": 10., "seconds_computed": 8.})
        ['Every run is billed as if it had run alone. Computed were 90% of the billed training \
tokens and 80% of the seconds: what runs of one seed have in common was computed once.']
    """
    tokens, seconds = (
        computed[f"{what}_computed"] / (computed[f"{what}_billed"] or 1) for what in _COMPUTED
    )
    if tokens == 1 == seconds:
        return []
    copied = computed["runs_copied"]
    also = f", and {copied:.0f} of {computed['runs']:.0f} runs were copied" if copied else ""
    return [
        f"Every run is billed as if it had run alone. Computed were {tokens:.0%} of the billed "
        f"training tokens and {seconds:.0%} of the seconds: what runs of one seed have in common "
        f"was computed once{also}."
    ]


_CURVE = (
    "budget",
    "unique_examples",
    "samples_seen",
    "test_accuracy",
    "test_examples",
    "premem",
    "masked",
    "forecast",
    "audit",
)

Row = dict[str, Any]


@dataclass(frozen=True)
class FinishedRun:
    """A cell as its folder shows it."""

    dataset: str
    strategy: str
    seed: int
    folder: Path
    result: Row
    samples: int | None = None  # length of its fit, where a study makes fits of several lengths

    @property
    def config(self) -> RunConfig:
        """The run's settings, from its ``result.json``."""
        return from_plain(RunConfig, self.result["config"])

    def named(self, row: Row) -> Row:
        """The row with the run's dataset, strategy and seed in front."""
        return {"dataset": self.dataset, "strategy": self.strategy, "seed": self.seed, **row}


def finished_runs(config: Row, out: Path) -> list[FinishedRun]:
    """The cells of a study (its plain config) that have a result, seed by seed."""
    names = dataset_names([from_plain(DataConfig, data) for data in config["data"]])
    found = []
    for seed in config["seeds"]:
        for dataset in names:
            for label in config["strategies"]:
                for samples in config["rounds"].get("samples") or [None]:
                    folder = out / run_folder(dataset, label, seed, samples)
                    if (folder / "result.json").exists():
                        if (folder / SEALS).exists():  # earlier versions wrote none
                            check_results(folder)
                        result = read_object(folder / "result.json")
                        found.append(FinishedRun(dataset, label, seed, folder, result, samples))
    return found


def collect(config: Row, out: Path) -> tuple[Row, Answers]:
    """What the finished cells of a study measured.

    Args:
        config: the study's settings, plain (``study.json``).
        out: its folder.

    Returns:
        The part of ``results.json`` that is measured and not concluded (its fields:
        ``docs/reference/results.md``), and right or wrong for each test problem.

    Raises:
        StoreError: if a file of a finished run is absent or damaged.
    """
    runs = finished_runs(config, out)
    _check_same_data(runs)
    names = dataset_names([from_plain(DataConfig, data) for data in config["data"]])
    body: Row = {
        "schema_version": SCHEMA_VERSION,
        "config": config,
        "environment": environment(),
        "datasets": [name for name in names if any(run.dataset == name for run in runs)],
        "recipes": {run.dataset: run.result["config"]["recipe"] for run in runs},
        "shared_test": {run.dataset: run.config.data.preset is None for run in runs},
        "curves": [row for run in runs for row in _curve_rows(run)[_compared(run)]],
        "within_fits": [
            {**row, "fit": run.samples} for run in runs if run.samples for row in _curve_rows(run)
        ],
        "cost": _costs(runs),
        "selection": [
            run.named({"budget": _budget(run, entry), "groups": entry["groups"]})
            for run in runs
            for entry in run.result["curve"][_compared(run)]
        ],
        "computed": computed_of(runs),
        "notes": [],
    }
    body["notes"] += [*computed_in_words(body["computed"]), *_about_fits(config)]
    body["notes"] += [
        f"{run.dataset} · {run.strategy} · seed {run.seed}: {text}"
        for run in runs
        for entry in run.result["curve"]
        for text in entry.get("warnings", ())
    ]
    body["notes"] += knowledge_in_words(config, names)
    longest = max(config["rounds"].get("samples") or [0])
    shown = [run for run in runs if run.samples in (None, longest)]
    _add_scores(body, shown)
    _add_choices(body, shown)
    return body, _all_answers(config, runs)


def _all_answers(config: Row, runs: Sequence[FinishedRun]) -> Answers:
    """Of the runs that have all their points; fits of several lengths are points of one curve."""
    found: dict[Key, list[NDArray[np.bool_]]] = {}
    for run in runs:
        found.setdefault((run.dataset, run.strategy, run.seed), []).append(_answers(run))
    fits = len(config["rounds"].get("samples") or [None])
    return {key: np.concatenate(parts) for key, parts in found.items() if len(parts) == fits}


def _costs(runs: Sequence[FinishedRun]) -> list[Row]:
    """What each strategy has spent on each seed, fits of several lengths together."""
    found: dict[Key, Row] = {}
    for run in runs:
        sums = found.setdefault((run.dataset, run.strategy, run.seed), run.named({}))
        for name, value in run.result["cost"].items():
            sums[name] = sums.get(name, 0) + value
    return list(found.values())


def _compared(run: FinishedRun) -> slice:
    """Which points of a run are compared: the end alone where there are fits of several lengths."""
    return slice(None) if run.samples is None else slice(-1, None)


def _budget(run: FinishedRun, entry: Row) -> int:
    """What a point of the curve had to learn from: train set, or samples where that is fixed."""
    reweights = run.config.rounds.mode == "reweight"
    return int(entry["samples_seen"] if reweights else entry["budget"])


def _about_fits(config: Row) -> list[str]:
    """What a reader has to know about curves against samples."""
    if config["rounds"]["mode"] != "reweight":
        return []
    if config["rounds"].get("samples"):
        return [
            "Each point of a curve is a fit of its own, whose learning rate decays over exactly "
            "those samples."
        ]
    return [
        "Each curve is one fit. Before its end the learning rate has not decayed yet, so earlier "
        "points compare unfinished models, and a strategy's ratio there is not what it would save "
        "in a shorter fit; rounds.samples makes a fit of its own for each length."
    ]


def _check_same_data(runs: Sequence[FinishedRun]) -> None:
    """Refuse runs on one dataset that was another for some of them.

    Raises:
        StoreError: if their train, test or target sets differ.
    """
    seen: dict[tuple[str, str], tuple[str, Path]] = {}
    commits: dict[str | None, Path] = {}
    for run in runs:
        commits.setdefault(run.result.get("model_commit"), run.folder)
        if len(commits) > 1:
            one, other = (f"{folder} ({commit})" for commit, folder in commits.items())
            raise StoreError(
                f"The hub gave {one} another version of the model than {other}; runs of different "
                "models are never averaged. Name a folder that holds one version, and delete the "
                "folders of the runs on the other."
            )
        if run.config.data.preset is not None:
            continue  # drawn for each seed
        for part in ("pool_fingerprint", "test_fingerprint", "target_fingerprint"):
            if found := run.result.get(part):
                first, where = seen.setdefault((run.dataset, part), (found, run.folder))
                if found != first:
                    name = part.removesuffix("_fingerprint").replace("pool", "train")
                    raise StoreError(
                        f"The {name} set of {run.dataset} is not the same in {where} ({first}) and "
                        f"{run.folder} ({found}); runs on different data are never averaged. "
                        "Delete the folders of the runs on the wrong data and repeat the command."
                    )


def _curve_rows(run: FinishedRun) -> list[Row]:
    curve = run.result["curve"]
    costs = model_costs(curve, needs_rounds=_needs_rounds(run))
    if run.config.rounds.mode == "reweight":  # the train set is the same at all points
        for spent in costs:
            del spent["unique_examples"]
    return [
        run.named({name: entry.get(name) for name in _CURVE})
        | {"budget": _budget(run, entry), "costs": spent}
        for entry, spent in zip(curve, costs, strict=True)
    ]


def _needs_rounds(run: FinishedRun) -> bool:
    """Whether the last model depends on the earlier ones."""
    if not run.config.rounds.restart or run.config.rounds.mode == "reweight":
        return True
    try:
        return bool(measurements(create(run.config.strategy).requires))
    except ActiveSelectError:  # its code is gone; what it measured, it needed
        return bool(run.result["cost"]["tokens_generated"] or run.result["cost"]["score_s"])


def _answers(run: FinishedRun) -> NDArray[np.bool_]:
    """Right or wrong at each point that is compared, bool ``[B, E]``."""
    files = [
        run.folder / "predictions" / entry.get("predictions", f"stage-{entry['stage']}.parquet")
        for entry in run.result["curve"][_compared(run)]
    ]
    try:
        return np.stack([pq.read_table(file)["correct"].to_numpy() for file in files])
    except (pa.ArrowException, OSError, ValueError) as error:
        raise StoreError(
            f"Cannot read the predictions in {run.folder}: {error}. Delete the folder and repeat "
            "the study's command; it runs that cell again."
        ) from error


def _add_scores(body: Row, runs: Sequence[FinishedRun]) -> None:
    """The data map of all runs, and examples of the first scored run of each strategy."""
    body |= {"data_map": [], "examples": [], "browsed": []}
    shown: set[tuple[str, str]] = set()
    maps: dict[tuple[str, str, int], list[Row]] = {}
    for run in runs:
        try:
            scored = scored_of(run.folder, run.config, run.result.get("pool_fingerprint", ""))
        except ActiveSelectError as error:
            scored = {"rounds": [], "scored": 0, "examples": [], "note": str(error)}
        if scored.get("note"):
            body["notes"].append(f"No scores of {run.folder} are shown: {scored['note']}")
        for row in scored["rounds"]:
            maps.setdefault((run.dataset, run.strategy, row["round"]), []).append(row)
        where = (run.dataset, run.strategy)
        if scored["examples"] and where not in shown:
            shown.add(where)
            body["examples"] += [run.named(row) for row in scored["examples"]]
            counts = {"shown": len(scored["examples"]), "scored": scored["scored"]}
            body["browsed"].append(run.named(counts))
    for (dataset, strategy, _), rows in maps.items():
        body["data_map"] += [
            {"dataset": dataset, "strategy": strategy} | row for row in _mean_of_rounds(rows)
        ]
    body["notes"] += mask_in_words(body["data_map"])


def _add_choices(body: Row, runs: Sequence[FinishedRun]) -> None:
    """What the first run of each strategy chose, round by round."""
    body["choices"] = []
    shown: set[tuple[str, str]] = set()
    for run in runs:
        if (run.dataset, run.strategy) in shown:
            continue
        shown.add((run.dataset, run.strategy))
        try:
            rows = chosen_of(run.folder, run.config, run.result.get("pool_fingerprint", ""))
        except ActiveSelectError as error:
            body["notes"].append(f"No selections of {run.folder} are shown: {error}")
            continue
        body["choices"] += [run.named(row) for row in rows]


def knowledge_in_words(config: Row, names: Sequence[str]) -> list[str]:
    """What the strategies of a study were shown, a sentence per built-in preset, and per dataset
    with target questions.

    Args:
        config: the study's settings, plain.
        names: of its datasets.

    Example:
        >>> knowledge_in_words({"data": [{"source": "skills:mixed"}], "rounds": {}}, ["mixed"])
        ['mixed: strategies were shown the group labels; an oracle knew more.']
        >>> shift = {"source": "skills:shift", "groups": "hidden", "target": "preset"}
        >>> text = knowledge_in_words({"data": [shift], "rounds": {"regions": 9}}, ["shift"])[0]
        >>> text.partition("no group label, ")[2]
        'and how unlabelled target questions spread over them; an oracle knew more.'
    """
    notes = []
    for data, name in zip(config["data"], names, strict=True):
        preset = str(data.get("source", "")).startswith(SKILLS_PREFIX)
        asked = data.get("target") is not None
        if not preset and not asked:
            continue
        regions = config["rounds"].get("regions")
        if regions:
            shown = f"{regions} regions made of the questions, and no group label"
        elif data.get("groups") == "hidden":
            shown = "no groups"
        else:
            shown = "the group labels"
        if asked:
            shown += ", and how unlabelled target questions spread over them"
        more = "; an oracle knew more" if preset else ""
        notes.append(f"{name}: strategies were shown {shown}{more}.")
    return notes


def mask_in_words(data_map: Sequence[Row]) -> list[str]:
    """What the mask of memorized traces did to premem, a sentence per dataset and strategy.

    Premem is accuracy but for the mask, and never above it. Where the two are equal in every
    round, the verdicts say so, and there is no sentence here.

    Example:
        >>> row = dict(dataset="mixed", strategy="premem", round=0, scored=9)
        >>> row |= {"premem": 0.5, "accuracy": 0.5}
        >>> mask_in_words([row])
        []
        >>> mask_in_words([row, row | {"round": 1, "premem": 0.4}])[0].partition("by ")[2]
        '10.0 points in the last scored round and by 10.0 at most.'
    """
    runs: dict[tuple[str, str], dict[int, list[Row]]] = {}
    for row in data_map:
        if row.get("premem") is not None and row.get("accuracy") is not None:
            rounds = runs.setdefault((row["dataset"], row["strategy"]), {})
            rounds.setdefault(row["round"], []).append(row)
    notes = []
    for (dataset, strategy), rounds in runs.items():
        gaps = [
            float(
                np.average(
                    [row["accuracy"] - row["premem"] for row in rows],
                    weights=[row["scored"] for row in rows],
                )
            )
            for _, rows in sorted(rounds.items())
        ]
        if max(gaps) >= 1e-9:
            notes.append(
                f"{dataset}: the mask lowered premem below accuracy in the runs of {strategy}, by "
                f"{100 * gaps[-1]:.1f} points in the last scored round and by "
                f"{100 * max(gaps):.1f} at most."
            )
    return notes


def _mean_of_rounds(rounds: Sequence[Row]) -> list[Row]:
    """One row per group: the mean over seeds of one round."""
    first = rounds[0]
    when = {name: first.get(name) for name in ("round", "stage", "epoch", "kind")}
    rows = []
    for group in sorted({group for row in rounds for group in row["groups"]}):
        cells = [row["groups"][group] for row in rounds if group in row["groups"]]
        counts = sum(cell["scored"] for cell in cells) / len(rounds)
        row = when | {"group": group, "scored": round(counts, 3), "seeds": len(rounds)}
        for name in MEASURES:
            values = [cell[name] for cell in cells if cell.get(name) is not None]
            row[name] = float(np.mean(values)) if values else None
        rows.append(row)
    return rows
