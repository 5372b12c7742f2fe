"""Commands: their signatures are the command line (see :mod:`activeselect.cli`).

The fields of a ``config`` parameter are settings of the command themselves.

Heavy imports happen inside the functions, so that light commands start at once.
"""

from __future__ import annotations

import json as json_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

from rich.console import Console
from rich.table import Table

from activeselect.cli import folders, looks
from activeselect.cli import forecast as forecast_commands
from activeselect.cli.terminal import Terminal
from activeselect.config import AuditConfig, RunConfig, ScoreConfig, StudyConfig, TuneConfig


def train(
    out: Path,
    config: RunConfig,
    loggers: tuple[str, ...] = ("csv",),
    labels: Path | None = None,
    dry_run: bool = False,
    quiet: bool = False,
    json: bool = False,
) -> None:
    """Fine-tune one model in rounds with live scoring and selection.

    Args:
        out: run folder; the same command continues what is in it.
        config: all settings.
        loggers: where metrics go: csv (always), tensorboard, wandb, mlflow.
        labels: JSON lines (id, trace, answer) for the questions that the run waits for.
        dry_run: print the plan with estimated tokens, time and memory, and stop.
        quiet: print nothing but errors.
        json: print the result as JSON, and nothing else.
    """
    from lightning.fabric.utilities.rank_zero import rank_zero_only

    from activeselect.training.labels import read_labels
    from activeselect.training.run import ActiveRun

    # of several processes the first one speaks
    first = getattr(rank_zero_only, "rank", 0) == 0
    console = Console(quiet=quiet or json or not first)
    if dry_run:
        _print_plan([("run", config)], 1, console)
        return
    run = ActiveRun(config)
    for report in run.data.reports.values():
        console.print(report.summary(), highlight=False, markup=False)
    if labels is not None:
        run.tell(out, read_labels(labels))
    done = (out / "result.json").exists()
    with Terminal(quiet=console.quiet) as terminal:
        progress = terminal.progress if terminal.draws else None
        result = run.run(out, progress=progress, say=terminal.say, loggers=loggers)
    if done:
        console.print(
            f"{out} was finished before, on {config.data.source} as it is now (fingerprint "
            f"{run.data.pool.fingerprint}); nothing was trained.",
            highlight=False,
            markup=False,
        )
    if json and first:
        print(json_module.dumps({"path": str(out), "curve": result.curve, "cost": result.cost}))
    console.print(_curve_table(result.curve))
    if sampled := result.cost["completions"]:
        saved = result.cost["completions_saved"]
        spared = f"; scoring.policy={config.scoring.policy} saved {saved:,}" if saved else ""
        console.print(f"Sampled completions: {sampled:,}{spared}", highlight=False)
    if result.curve[-1]["forecast"]:
        console.print(f"Forecast by: {result.curve[-1]['forecast']['source']}", highlight=False)
    for text in result.warnings:
        console.print(f"Warning: {text}", highlight=False, markup=False)
    console.print(f"Run folder: {out}", highlight=False, markup=False)


def score(
    out: Path,
    config: ScoreConfig,
    perturb: int = 0,
    dry_run: bool = False,
    quiet: bool = False,
    json: bool = False,
) -> None:
    """Score a dataset with a model, or with each checkpoint of a run, without training.

    Args:
        out: folder of the scores; the same command continues what is in it.
        config: all settings.
        perturb: ask the last checkpoint up to that many rewordings of each example, and set their
            accuracy beside premem (``docs/guide/audit.md``).
        dry_run: print the plan with estimated tokens, time and memory, and stop.
        quiet: print nothing but errors.
        json: print the result as JSON, and nothing else.
    """
    from activeselect.training.offline import OfflineScoring

    console = Console(quiet=quiet or json)
    if dry_run:
        from activeselect.study.estimate import plan_scoring

        plan = plan_scoring(config, out, perturb)
        console.print("\n".join(plan), highlight=False, markup=False)
        return
    scoring = OfflineScoring(config)
    scoring.check_perturb(perturb)
    for report in scoring.reports.values():
        console.print(report.summary(), highlight=False, markup=False)
    with Terminal(quiet=console.quiet) as terminal:
        progress = terminal.progress if terminal.draws else None
        entries = scoring.run(out, progress=progress, say=terminal.say)
    whole = "examples" in entries[-1]
    lines = []
    if perturb and whole:
        with console.status("asking rewordings"):
            lines = scoring.perturb(out, perturb)
    if json:
        found = {"path": str(out), "shard": config.shard, "checkpoints": entries}
        print(json_module.dumps({**found, **({"perturb": lines} if lines else {})}))
    if not whole:
        console.print(f"Shard {config.shard} is done; the other shards are not, so far.")
        return
    console.print(_scores_table(entries))
    console.print(f"One row per example: {out / 'examples.parquet'}", highlight=False, markup=False)
    if lines:
        console.print("\n".join(lines), highlight=False, markup=False)


def audit(out: Path, config: AuditConfig, dry_run: bool = False) -> None:
    """Ask whether a model's answers depend on its reasoning, beside a reference.

    Args:
        out: folder of the audit; the same command continues what is in it.
        config: all settings.
        dry_run: print what it would cost in tokens, and stop.
    """
    from activeselect.audit.audit import Audit, plan
    from activeselect.audit.page import write_page
    from activeselect.training.auditing import prepare

    console = Console()
    prepared = prepare(config)
    if dry_run:
        console.print(_audit_plan(plan(config, prepared.pool, prepared.asker())))
        return
    subjects = (prepared.model, prepared.reference, prepared.scorer)
    running = Audit(config, prepared.pool, prepared.template, *subjects)
    with console.status("asking") as status:
        result = running.run(out, progress=status.update)
    write_page(result, out / "audit.html")
    console.print(_audit_table(result))
    for name, why in result["left_out"].items():
        console.print(f"Left out: {name} ({why}).", highlight=False, markup=False)
    if result["verdict"]:
        console.print(f"Beside the reference: {result['verdict']}.", highlight=False, markup=False)
    page = f"Page: {out / 'audit.html'}"
    console.print(page, highlight=False, markup=False, soft_wrap=True)


def _audit_plan(entries: list[dict[str, Any]]) -> Table:
    table = Table("probe", "measures that read it", "tokens, about")
    for entry in entries:
        table.add_row(entry["probe"], ", ".join(entry["measures"]), f"{entry['tokens']:,}")
    table.add_row("all", "", f"{sum(entry['tokens'] for entry in entries):,}")
    return table


def _audit_table(result: dict[str, Any]) -> Table:
    compared = result["reference"] is not None
    table = Table()
    for head in ("measure", "value (95%)", *(("less reference (95%)",) if compared else ()), "n"):
        table.add_column(head, no_wrap=True)
    for entry in result["measures"]:
        mark = " *" if entry["evidence"] == "at chance" else ""
        cells = [entry["name"] + mark, _with_ends(entry)]
        cells += [_with_ends(entry["difference"])] if compared else []
        table.add_row(*cells, str(entry["n"]))
    if any(entry["evidence"] == "at chance" for entry in result["measures"]):
        table.caption = "*: no better than chance where it is known which steps are needed"
    return table


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.3f}"


def _with_ends(entry: dict[str, Any]) -> str:
    if entry["low"] is None:
        return _number(entry["value"])
    return f"{_number(entry['value'])} ({_number(entry['low'])}..{_number(entry['high'])})"


def compare(
    out: Path,
    config: StudyConfig,
    loggers: tuple[str, ...] = ("csv",),
    dry_run: bool = False,
    quiet: bool = False,
    json: bool = False,
) -> None:
    """Compare strategies over seeds and budgets, with intervals and a report.

    Args:
        out: folder of the study; the same command continues what is in it.
        config: all settings.
        loggers: where each run's metrics go: csv (always), tensorboard, wandb, mlflow.
        dry_run: print the plan with estimated tokens, time and memory, and stop.
        quiet: print nothing but errors.
        json: print the results as JSON (as in `results.json`), and nothing else.
    """
    from activeselect.study.study import Study
    from activeselect.study.tables import results_table

    console = Console(quiet=quiet or json)
    study = Study(config)
    if dry_run:
        left = [cell for cell in study.cells if not (out / cell.folder / "result.json").exists()]
        named = [(f"{cell.dataset} · {cell.strategy}", cell.config) for cell in left]
        done = len(study.cells) - len(left)
        console.print(f"{len(study.cells)} runs; {done} are finished in {out}.", markup=False)
        _print_plan(named, config.workers, console)
        return
    done = all((out / cell.folder / "result.json").exists() for cell in study.cells)
    results = study.run(out, console=console, loggers=loggers)
    if done:
        sources = ", ".join(data.source for data in config.data)
        console.print(
            f"All {len(study.cells)} runs in {out} were finished before, on {sources} as it is "
            "now; nothing was trained, the report is new.",
            highlight=False,
            markup=False,
        )
    if json:
        print(json_module.dumps({"path": str(out), **results}))
    console.print(results_table(results))
    for sentence in results["verdicts"]:
        console.print(sentence, highlight=False, markup=False)
    console.print(f"Report: {out / 'report.html'}", highlight=False, markup=False)


def tune(out: Path, config: TuneConfig, dry_run: bool = False, json: bool = False) -> None:
    """Find learning rate and epochs for random selection, on held-out train examples.

    Args:
        out: working folder; the same command continues what is in it, also with a larger grid.
        config: all settings; of a config of `train` or `compare`, what concerns the recipe is read.
        dry_run: print the plan with estimated tokens, time and memory, and stop.
        json: print the result as JSON, and nothing else.
    """
    from activeselect.study.tune import table, tuning_cells
    from activeselect.study.tune import tune as search

    console = Console(quiet=json)
    if dry_run:
        with TemporaryDirectory() as folder:  # the held-out part is drawn, and not kept
            cells = tuning_cells(config, Path(folder))
            _print_plan([("run", cell.config) for cell in cells], config.workers, console)
        return
    found = search(config, out, console=console)
    if json:
        print(json_module.dumps(found))
        return
    console.print(table(found))
    rate, epochs = found["chosen"].values()
    console.print(
        f"Chosen: learning_rate {rate:g}, epochs {epochs}, judged by {found['judged']:,} answers "
        f"per recipe and size on {found['judged_on']}.",
        highlight=False,
    )
    for sentence in found["notes"]:
        console.print(sentence, highlight=False, markup=False)
    console.print(
        f"To train with it, add: --config {out / 'recipe.yaml'}", highlight=False, markup=False
    )


def init(
    source: str, model: str, out: Path = Path("activeselect.yaml"), kind: str = "train"
) -> None:
    """Write a commented first config for your data and model.

    Args:
        source: a file, folder or hub id, as data.source.
        model: a folder or hub id.
        out: file to write.
        kind: train, or compare for a study of several strategies.
    """
    from activeselect.study.starter import write_starter

    console = Console()
    for sentence in write_starter(source, model, out, kind):
        console.print(f"- {sentence}", highlight=False, markup=False)
    console.print(f"Written to {out}. Read it, then:", highlight=False, markup=False)
    run = f"activeselect {kind} --config {out} --out runs/{out.stem}"
    console.print(f"  {run} --dry-run", highlight=False, markup=False, soft_wrap=True)
    console.print("The learning rate is a guess. To find one by trying:", markup=False)
    search = f"activeselect tune --config {out} --out runs/{out.stem}-tuned"
    console.print(f"  {search} --dry-run", highlight=False, markup=False, soft_wrap=True)


def _print_plan(runs: list[tuple[str, RunConfig]], workers: int, console: Console) -> None:
    from activeselect.study.estimate import estimate_runs, plan_table

    if not runs:
        console.print("Nothing is left to run.")
        return
    found = estimate_runs(runs, workers=workers)
    console.print(plan_table(found))
    for line in found.remarks:
        console.print(line, highlight=False, markup=False)


def completion(shell: Literal["bash", "zsh"]) -> None:
    """Print a script that completes commands and settings in a shell.

    Args:
        shell: the shell that reads it, as in `eval "$(activeselect completion bash)"`.
    """
    from activeselect.cli.completion import script

    print(script(COMMANDS, shell, POSITIONAL))


def _curve_table(curve: list[dict[str, Any]]) -> Table:
    table = Table("train examples", "samples seen", "test accuracy", "premem", "forecast (90%)")
    for entry in curve:
        accuracy, premem, now = entry["test_accuracy"], entry["premem"], entry["forecast"]
        table.add_row(
            str(entry["unique_examples"]),
            str(entry["samples_seen"]),
            "not tested" if accuracy is None else f"{accuracy:.3f}",
            "not measured" if premem is None else f"{premem:.3f}",
            f"{now['value']:.3f} ({now['low']:.3f}-{now['high']:.3f})" if now else "none",
        )
    return table


#: Parameters that are given without their name on the command line.
POSITIONAL = ("name", "run", "source", "studies", "shell", "repo", "sources")


def _scores_table(entries: list[dict[str, Any]]) -> Table:
    names = [key for key in entries[0] if key not in ("checkpoint", "examples")]
    table = Table("checkpoint", *names)
    for entry in entries:
        cells = ("" if entry[n] is None else f"{entry[n]:.4g}" for n in names)
        table.add_row(Path(entry["checkpoint"]).name, *cells)
    return table


COMMANDS: dict[str, Any] = {
    "init": init,
    "tune": tune,
    "train": train,
    "score": score,
    "audit": audit,
    "compare": compare,
    "report": folders.report,
    "pool": folders.pool,
    "export": folders.export,
    "push": folders.push,
    "completion": completion,
    "prompt": {"show": looks.show_prompt},
    "strategies": {"list": looks.list_strategies, "show": looks.show_strategy},
    "forecast": {
        "import": forecast_commands.import_traces,
        "evaluate": forecast_commands.evaluate,
        "fit": forecast_commands.fit,
        "predict": forecast_commands.predict,
    },
}
