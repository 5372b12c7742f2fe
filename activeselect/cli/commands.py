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


def report(studies: list[Path], out: Path | None = None, axis: str | None = None) -> None:
    """Rebuild a study's figures and report, or merge several studies into one.

    Args:
        studies: folders of studies.
        out: folder of the result; needed for several studies, default: the study's own.
        axis: what budgets are counted in; default: as the study was configured.
    """
    from activeselect.config import AXES
    from activeselect.errors import ConfigError
    from activeselect.study.merge import rebuild

    if axis is not None and axis not in AXES:
        raise ConfigError(f"axis: expected one of {', '.join(AXES)}; received '{axis}'.")
    page = rebuild(studies, out, axis)
    Console().print(str(page), highlight=False, markup=False, soft_wrap=True)


def export(
    run: Path,
    what: Literal["selected", "train", "scores"] = "selected",
    format: Literal["jsonl", "parquet", "hf"] = "jsonl",
    out: Path | None = None,
) -> None:
    """Write what a run selected, trained on or scored, with its texts, for another trainer.

    Args:
        run: a run folder.
        what: every selection with weight, score and reason; the last train set with its weights; or
            the newest measurement of every signal per example.
        format: JSON lines, Parquet, or a folder that `datasets` loads.
        out: file or folder to write; default: named after `what`, in the run folder.
    """
    from activeselect.training.selections import export as write

    where = out or run / (what if format == "hf" else f"{what}.{format}")
    rows = write(run, what=what, format=format, out=where)
    Console().print(f"{where}: {rows} rows", highlight=False, markup=False, soft_wrap=True)


def list_strategies(json: bool = False) -> None:
    """List the strategies that a config may name.

    Args:
        json: print JSON instead of a table.
    """
    from dataclasses import asdict

    from activeselect.selection.registry import describe, strategies

    entries = [describe(cls) for cls in strategies().values()]
    if json:
        print(json_module.dumps([asdict(entry) for entry in entries], indent=1))
        return
    table = Table("strategy", "what it does", "signals it requires", "cost")
    for entry in entries:
        signals = ("none",) if entry.requires == () else entry.requires or ("those of its parts",)
        cost = "" if entry.cost is None else str(entry.cost)
        table.add_row(entry.name, entry.summary, ", ".join(signals), cost)
    console = Console()
    console.print(table)
    console.print(
        "Cost: passes of the model per scored example and round, with 5 sampled completions; "
        "a training step counts 3.\n`activeselect strategies show NAME` prints a card.",
        highlight=False,
    )


def show_strategy(name: str) -> None:
    """Print the card of one strategy.

    Args:
        name: of the strategy.
    """
    import inspect

    from activeselect.errors import StrategyError, did_you_mean
    from activeselect.selection.registry import describe, parameters, strategies

    known = strategies()
    if name not in known:
        raise StrategyError(f"There is no strategy '{name}'. {did_you_mean(name, known)}")
    entry = describe(known[name])
    print(inspect.getdoc(known[name]))
    print()
    config = {key: "..." if v is ... else v for key, v in parameters(known[name]).items()}
    values = (f", {key}: {'null' if v is None else v}" for key, v in config.items())
    print(f"In a config: {{name: {name}{''.join(values)}}}")
    if entry.requires is not None:
        print(f"Signals: {', '.join(entry.requires) or 'none'}")


def show_prompt(
    config: RunConfig, index: int = 0, split: Literal["train", "test"] = "train", json: bool = False
) -> None:
    """Print the exact prompt and target of a problem, token by token, and what is learned.

    Args:
        config: as for `train`; only the tokenizer of the model is loaded.
        index: of the problem.
        split: train or test.
        json: print JSON instead of text.
    """
    from activeselect.data.prompts import preview, shown
    from activeselect.training.module import load_tokenizer

    found = preview(config, load_tokenizer(config.model), index=index, split=split)
    print(json_module.dumps(found, indent=1, ensure_ascii=False) if json else shown(found))


def pool(
    sources: list[str],
    out: Path,
    shares: tuple[float, ...] = (),
    limit: int | None = None,
    split: str = "train",
    question: str | None = None,
    trace: str | None = None,
    answer: str | None = None,
    group: str | None = None,
    checker: str | None = None,
    on_bad_row: Literal["stop", "skip"] = "stop",
    append_answer: bool = False,
    quiet: bool = False,
) -> None:
    """Write a stream, or several sources with shares, into a folder that is a data source.

    Args:
        sources: files, folders, or hub ids, which are streamed.
        out: folder of the pool; then `data.source=OUT`.
        shares: of the sources in the pool, summing to 1; default: one source after the other.
        limit: problems in the pool; default: as many as there are.
        split: of folders and hub datasets.
        question: column, where it has another name; the same in all sources.
        trace: column, where it has another name.
        answer: column, where it has another name.
        group: column, where it has another name.
        checker: how answers are extracted and compared; default: what fits the sources.
        on_bad_row: stop at a broken row, or skip it (skipped rows are counted).
        append_answer: to a trace that does not state its answer, add a line that does.
        quiet: print nothing but errors.
    """
    from activeselect.data.stored import store_pool

    named = {"question": question, "trace": trace, "answer": answer, "group": group}
    with Terminal(quiet=quiet) as terminal:
        found = store_pool(
            sources,
            out,
            shares=shares,
            limit=limit,
            split=split,
            columns={role: name for role, name in named.items() if name},
            checker=checker,
            on_bad_row=on_bad_row,
            append_answer=append_answer,
            progress=lambda done, of: terminal.show(
                f"{done:,} of {of:,} problems written" if of else f"{done:,} problems written"
            ),
        )
        terminal.say(f"{out}: {found!r}")
        terminal.say(f"Use it with: data.source={out} data.test=FILE (or none)")


def push(
    run: Path, repo: str, public: bool = False, dry_run: bool = False, card: Path | None = None
) -> None:
    """Upload the model of a finished run to the hub, with a model card.

    Args:
        run: a run folder.
        repo: USER/NAME on the hub; created if it is absent. The token is that of `hf auth login`.
        public: make a new repository public; default: private.
        dry_run: write the card, upload nothing.
        card: file of the card with `--dry-run`; default: `model_card.md` in the run folder.
    """
    import re

    from activeselect.errors import ConfigError
    from activeselect.files import write_text
    from activeselect.study.opened import open_run

    if re.fullmatch(r"[\w.-]+/[\w.-]+", repo) is None:
        raise ConfigError(f"repo: expected USER/NAME, as on the hub; received '{repo}'.")
    opened = open_run(run)
    console = Console(highlight=False, markup=False, soft_wrap=True)
    if dry_run:
        file = card or run / "model_card.md"
        write_text(file, opened.model_card())
        console.print(f"Written to {file}; nothing was uploaded.")
        return
    if card is not None:
        raise ConfigError("card: expected nothing without --dry-run; the card goes with the model.")
    console.print(f"Uploaded: {opened.push_to_hub(repo, private=not public)}")


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
    "report": report,
    "pool": pool,
    "export": export,
    "push": push,
    "completion": completion,
    "prompt": {"show": show_prompt},
    "strategies": {"list": list_strategies, "show": show_strategy},
    "forecast": {
        "import": forecast_commands.import_traces,
        "evaluate": forecast_commands.evaluate,
        "fit": forecast_commands.fit,
        "predict": forecast_commands.predict,
    },
}
