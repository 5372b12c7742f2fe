"""Folders: the commands that make one from others, or pass on what lies in one."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from rich.console import Console

from activeselect.cli.terminal import Terminal


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
