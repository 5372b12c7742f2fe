"""Loading: a pool and a test set from a data config, whatever the source."""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from activeselect.config import NO_TEST, PRESET_TARGET, DataConfig, PromptConfig
from activeselect.data.answers import get_checker
from activeselect.data.chains import Known
from activeselect.data.columns import PLAIN, ColumnNames, Layout
from activeselect.data.competition_math import (
    MATH,
    MATH_BY_SUBJECT,
    math_layout,
    open_math_folder,
)
from activeselect.data.duplicates import find_duplicates
from activeselect.data.gsm8k import GSM8K, strip_calculator_notes
from activeselect.data.hub import (
    ABOUT,
    is_saved,
    is_single,
    looks_like_hub_id,
    open_hub,
    open_saved,
)
from activeselect.data.interventions import intervene, written_by_skills, wrong_completions
from activeselect.data.pool import Pool, PoolWriter
from activeselect.data.skills import TARGETS, build_preset, shown, target_questions
from activeselect.data.tabular import (
    EXTENSIONS,
    BadRow,
    Row,
    RowSource,
    open_file,
    open_parquet_files,
)
from activeselect.data.validate import (
    DataReport,
    DuplicateRow,
    OnBadRow,
    ProblemBuilder,
    check_lengths,
    check_on_bad_row,
    raise_bad_rows,
)
from activeselect.errors import ConfigError, DataError
from activeselect.files import read_object

# --- load_pool


__all__ = ["ColumnNames", "DataReport", "OnBadRow", "load_pool"]

JSON_EXTENSIONS = (".jsonl", ".ndjson", ".json")
LAYOUTS = (GSM8K, MATH_BY_SUBJECT, MATH)


def load_pool(
    source: str | Path | RowSource,
    *,
    split: str = "train",
    columns: ColumnNames | Mapping[str, str | None] | None = None,
    checker: str | None = None,
    on_bad_row: OnBadRow = "stop",
    limit: int | None = None,
    config: str | None = None,
    revision: str | None = None,
    strip_notes: bool = False,
    append_answer: bool = False,
    labels_required: bool = True,
) -> tuple[Pool, DataReport]:
    """Read problems from a file, a folder or the Hugging Face hub.

    GSM8K and MATH are recognised, locally and by hub id; for other data name the columns and the
    checker. Rows are read one at a time; problems are numbered by row from 0 unless there is an
    id column, and keep their number when other rows are left out.

    Args:
        source: a ``.jsonl``, ``.json``, ``.csv``, ``.tsv`` or ``.parquet`` file, a folder with
            one such file per split, a folder from ``save_to_disk``, a hub id, or rows
            (:func:`activeselect.data.records.rows_of`).
        split: which split of a folder or hub dataset; a single file has no splits.
        columns: column names by role (question, trace, answer, group, id,
            difficulty).
        checker: name of the answer checker (:func:`activeselect.data.answers.get_checker`).
        on_bad_row: ``stop`` raises once all broken rows are known, ``skip`` leaves them out.
        limit: look at the first rows only, at most this many.
        config: configuration of a hub dataset.
        revision: commit, tag or branch of a hub dataset.
        strip_notes: remove GSM8K's ``<<...>>`` calculator notes from traces.
        append_answer: to a trace that does not state its answer, add a line that does.
        labels_required: whether a row without a trace and an answer is broken; otherwise it is a
            problem that can be chosen and then labelled (``Pool.is_labelled``).

    Returns:
        The pool, and the report that lists each row left out with its line and reason.

    Raises:
        DataError: nothing readable at ``source``, a column is missing, rows are broken (with
            ``on_bad_row="stop"``), or no row is left.
        ConfigError: a setting is unknown or out of range, or no checker was given for plain data.

    Example:
        >>> import tempfile
        >>> columns = {"question": "q", "trace": "steps"}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "mine.jsonl")
        ...     _ = path.write_text('{"q": "1 + 1 ?", "steps": "1 and 1 make 2 . answer : 2"}')
        ...     pool, report = load_pool(path, columns=columns, checker="marker:answer :")
        >>> pool[0].answer, report.rows_kept
        ('2', 1)
    """
    check_on_bad_row(on_bad_row)
    if limit is not None and limit < 1:
        raise ConfigError(f"limit must be at least 1, got {limit}; leave it out to read all rows.")
    named = ColumnNames.of(columns)
    rows = source
    if not isinstance(rows, RowSource):
        rows = open_rows(str(source), split, config, revision)
    builder, layout = reader_of(
        rows,
        rows.name if rows is source else str(source),
        named,
        checker=checker or _stored_checker(str(source)),
        strip_notes=strip_notes,
        append_answer=append_answer,
        labels_required=labels_required,
    )
    pool, report = _read_pool(rows, builder, limit, on_bad_row)
    return pool, replace(
        report,
        split=split,
        layout=layout.name,
        checker=checker or builder.checker.name,
        unlabelled=0 if labels_required else int((~pool.is_labelled).sum()),
    )


def reader_of(
    rows: RowSource,
    source: str,
    named: ColumnNames,
    *,
    checker: str | None = None,
    strip_notes: bool = False,
    append_answer: bool = False,
    labels_required: bool = True,
) -> tuple[ProblemBuilder, Layout]:
    """What turns the rows of a source into problems, and the layout that they have.

    Args:
        rows: of the source.
        source: the path or hub id, by which a known dataset is recognised.
        named: columns that the user named.
        checker, strip_notes, append_answer, labels_required: as for :func:`load_pool`.

    Raises:
        DataError: if a column is missing.
        ConfigError: if no checker is known.
    """
    layout = _layout_of(rows, source, named)
    roles = named.over(layout.columns).resolve(
        _known_columns(rows), rows.name, labels_required=labels_required
    )
    if "trace" not in roles and Path(rows.name).suffix in JSON_EXTENSIONS:
        roles |= {role: role for role in ("trace", "answer")}  # later rows may have them
    name = checker or layout.checker
    if name is None:
        raise ConfigError(
            f"{rows.name} is neither GSM8K nor MATH, so say how its answers are found: "
            "data.checker=gsm8k, math, number or marker:TEXT."
        )
    builder = ProblemBuilder(
        roles,
        get_checker(name),
        clean=strip_calculator_notes if strip_notes else None,
        append_answer=append_answer,
        unit=rows.unit,
        difficulty=None if named.difficulty else layout.difficulty,
        labels_required=labels_required,
    )
    return builder, layout


def _stored_checker(source: str) -> str | None:
    """The checker that a stored pool names (:mod:`activeselect.data.stored`)."""
    file = Path(source) / ABOUT
    if not Path(source).is_dir() or not is_saved(Path(source)) or not file.is_file():
        return None
    checker = read_object(file).get("checker")
    if not isinstance(checker, str):
        raise DataError(f"{file} was altered: it names no checker. Write the pool anew.")
    return checker


def _read_pool(
    rows: RowSource, builder: ProblemBuilder, limit: int | None, on_bad_row: OnBadRow
) -> tuple[Pool, DataReport]:
    """The pool, and the account of its rows."""
    writer = PoolWriter()
    lines = array("q")  # eight bytes a row
    dropped: list[BadRow] = []
    rows_read = 0
    for position, row in enumerate(islice(rows.read(list(builder.roles.values())), limit)):
        rows_read += 1
        result = row if isinstance(row, BadRow) else builder.build(row, position)
        if isinstance(result, BadRow):
            dropped.append(result)
        else:
            lines.append(row.line)
            writer.append(result)
    pool = writer.finish(checker=builder.checker.name)
    if dropped and (on_bad_row == "stop" or not len(pool)):
        raise_bad_rows(rows.name, rows.unit, dropped, rows_read)
    report = DataReport(
        source=rows.name,
        split="",
        layout=PLAIN.name,
        columns=builder.roles,
        checker=builder.checker.name,
        unit=rows.unit,
        rows_read=rows_read,
        dropped=tuple(dropped),
        kept_lines=np.array(lines, dtype=np.int64),
        revision=rows.revision,
    )
    return pool, report


def _known_columns(rows: RowSource) -> tuple[str, ...]:
    """The columns of the source; if none of the first rows is readable, say why."""
    if not rows.sample:
        raise DataError(f"{rows.name} has no rows; a dataset needs at least one.")
    if not rows.columns:
        bad = [row for row in rows.sample if isinstance(row, BadRow)]
        raise_bad_rows(rows.name, rows.unit, bad, len(rows.sample))
    return rows.columns


def _layout_of(rows: RowSource, source: str, named: ColumnNames) -> Layout:
    """GSM8K or MATH by hub id or by the looks of the first rows, unless columns are named."""
    if named.question or named.trace:
        return PLAIN
    known = next((layout for layout in LAYOUTS if source in layout.hub_ids), None)
    good = [row.values for row in rows.sample if isinstance(row, Row)]
    seen = (layout for layout in LAYOUTS if any(map(layout.recognise, good)))
    layout = known or next(seen, PLAIN)
    return math_layout(rows.columns) if layout.name == MATH.name else layout


def open_source(source: str, split: str = "train") -> RowSource:
    """The rows of a file, folder or hub dataset as they are, for a look at them.

    Raises:
        DataError: if nothing readable is there.
    """
    return open_rows(source, split)


def recognised(rows: RowSource, source: str) -> str:
    """Name of the known layout that a source has, or ``columns``."""
    return _layout_of(rows, source, ColumnNames()).name


def open_rows(
    source: str,
    split: str,
    config: str | None = None,
    revision: str | None = None,
    *,
    stream: bool = False,
) -> RowSource:
    """Rows of a file, a folder or a hub dataset.

    Args:
        source, split, config, revision: as for :func:`load_pool`.
        stream: read a hub dataset as it arrives, and store none of it.
    """
    path = Path(source).expanduser()
    if path.is_dir():
        return _open_folder(path, split)
    if path.exists() or path.suffix.lower() in EXTENSIONS or not looks_like_hub_id(source):
        return open_file(path)
    known = next((layout for layout in LAYOUTS if source in layout.hub_ids), PLAIN)
    configs = (config,) if config else known.configs
    return open_hub(source, configs=configs, split=split, revision=revision, stream=stream)


def _open_folder(folder: Path, split: str) -> RowSource:
    if is_saved(folder):
        return open_saved(folder, split)
    for extension in EXTENSIONS:
        if (path := folder / f"{split}{extension}").is_file():
            return open_file(path)
    # A hub snapshot: data/train-00000-of-00002.parquet, ...
    shards = sorted([*folder.glob(f"{split}-*.parquet"), *folder.glob(f"data/{split}-*.parquet")])
    if shards:
        return open_parquet_files(shards, str(folder))
    if (rows := open_math_folder(folder / split)) is not None:
        return rows
    found = ", ".join(sorted(entry.name for entry in folder.iterdir())[:10]) or "nothing"
    raise DataError(
        f"{folder} holds no split {split!r} (looked for {split}.jsonl, {split}.parquet, ...); "
        f"it contains {found}. Give the path of one file, or another split."
    )


#: ``data.test`` of a run that is not judged.
#: The prompt convention of the built-in benchmark: a question ends in its own mark.
SKILLS_PROMPT = PromptConfig(prompt="{question} ", target="{trace}")


@dataclass(frozen=True)
class LoadedData:
    """What a run learns from and is judged on, with the reports of what was left out.

    Attributes:
        pool: the problems that may be trained on.
        test: the test problems; None without a test.
        prompt: how a problem becomes text.
        reports: what was left out, by split.
        target: questions like those that the model will be asked, without traces and answers; None
            where none were named.

    Example:
        >>> from activeselect.data.pool import Problem
        >>> problems = [Problem(0, "1 + 1 ?", "so 1 + 1 = 2", "2")]
        >>> data = LoadedData(Pool.from_problems(problems, checker="number"), None, PromptConfig())
        >>> len(data.pool), data.test
        (1, None)
    """

    pool: Pool
    test: Pool | None
    prompt: PromptConfig
    reports: dict[str, DataReport] = field(default_factory=dict)
    target: Pool | None = None


#: What ``data.source`` and ``data.test`` say where a pool was given in Python.
GIVEN = "pool:"


def load_data(
    config: DataConfig,
    *,
    seed: int,
    labels_required: bool = True,
    pool: Pool | None = None,
    test: Pool | None = None,
) -> LoadedData:
    """Load or generate pool, test and target questions; traces as ``config.traces`` says.

    Args:
        seed: of a generated preset; real data does not depend on it.
        labels_required: whether a row of the pool must have a trace and an answer; a row of the
            test always must.
        pool, test: to be used instead of what ``config`` names; without a test the run has none.

    Raises:
        DataError: if a source cannot be read or rows are broken (see ``docs/guide/data.md``).

    Example:
        >>> from activeselect.config import DataConfig
        >>> len(load_data(DataConfig("skills:even", pool_size=30), seed=0).pool)
        30
    """
    if pool is not None:
        pool = _intervened(config, pool, seed)
        pool = pool.hidden() if config.groups == "hidden" else pool
        return _with_target(config, LoadedData(pool, test, PromptConfig()))
    if config.source.startswith(GIVEN):
        raise DataError(
            f"data.source: {config.source} is a pool that a program held in Python; give it again: "
            "ActiveRun(config, pool=...)."
        )
    if config.preset is not None:
        sizes = {"pool_size": config.pool_size, "test_size": config.test_limit}
        given = {name: size for name, size in sizes.items() if size is not None}
        data = _built(config.preset, seed, **given)
        pool = _intervened(config, data.pool, seed)
        loaded = LoadedData(_seen(config, pool), data.test, SKILLS_PROMPT)
        if config.target == PRESET_TARGET:
            asked = target_questions(data, seed, config.target_limit or TARGETS)
            return replace(loaded, target=_seen(config, asked))
        return _with_target(config, loaded)
    pool, report = _read(config, config.source, "train", config.limit, labels_required)
    pool = _intervened(config, pool, seed)
    if config.groups == "hidden":
        pool = pool.hidden()
    if config.test == NO_TEST:
        return _with_target(config, LoadedData(pool, None, PromptConfig(), {"train": report}))
    kind = "file" if Path(config.source).is_file() else "saved dataset"
    if config.test is None and (kind == "file" or is_single(Path(config.source))):
        raise ConfigError(
            f"data.test: {config.source} is a single {kind} and has no test split; name a test "
            f"file, or say data.test={NO_TEST} to train without one."
        )
    test, test_report = _read(config, config.test or config.source, "test", config.test_limit)
    pool, report = _without_leaks(config, pool, report, test, test_report)
    reports = {"train": report, "test": test_report}
    return _with_target(config, LoadedData(pool, test, PromptConfig(), reports))


def _seen(config: DataConfig, pool: Pool) -> Pool:
    """The problems of a preset in the groups that strategies may see."""
    return pool.hidden() if config.groups == "hidden" else shown(pool)


def _with_target(config: DataConfig, data: LoadedData) -> LoadedData:
    """The data with the target questions that the config names.

    Of their rows nothing is looked at but the question and, where groups are visible, the group;
    both stand in the columns where the pool has them.

    Raises:
        DataError: if nothing readable is there, or there is no column of questions.
    """
    if config.target is None:
        return data
    rows = open_rows(config.target, "test", config.subset, config.revision)
    known = data.reports["train"].columns if "train" in data.reports else {}
    columns = {
        role: known.get(role, getattr(config, role) or role)
        for role in ("question", "group")
        if role == "question" or config.groups == "visible"
    }
    there = _known_columns(rows)
    if columns["question"] not in there:
        raise DataError(
            f"data.target: expected {rows.name} to have its questions in the column "
            f"{columns['question']!r}, as the pool has; received the columns {', '.join(there)}. "
            "Rename the column."
        )
    roles = {role: name for role, name in columns.items() if name in there}
    builder = ProblemBuilder(
        roles, get_checker(data.pool.checker), unit=rows.unit, labels_required=False
    )
    target, report = _read_pool(rows, builder, config.target_limit, config.on_bad_row)
    report = replace(report, split="target", unlabelled=len(target))
    return replace(data, target=target, reports={**data.reports, "target": report})


def _without_leaks(
    config: DataConfig, pool: Pool, report: DataReport, test: Pool, test_report: DataReport
) -> tuple[Pool, DataReport]:
    """Note what the pool asks twice or the test asks, too; act on the latter as ``on_leak`` says.

    Raises:
        DataError: if questions of the test are in the pool, and ``on_leak`` is ``stop``; or if
            ``drop`` leaves nothing.
    """
    found = find_duplicates(pool.texts("question"), test.texts("question"))
    lines = {"test": test_report.kept_lines, "pool": report.kept_lines}
    rows = tuple(
        DuplicateRow(
            int(report.kept_lines[one.index]),
            one.of,
            int(lines[one.of][one.other]),
            one.similarity,
            one.exact,
        )
        for one in found
    )
    report = replace(report, duplicates=rows)
    leaked = [(one, row) for one, row in zip(found, rows, strict=True) if one.of == "test"]
    if not leaked or config.on_leak == "keep":
        return pool, report
    bad = [
        BadRow(
            row.line,
            "in the test",
            f"{'the' if row.exact else 'nearly the'} question of {test_report.unit} "
            f"{row.other_line} of the test {test_report.source}",
        )
        for _, row in leaked
    ]
    if config.on_leak == "stop" or len(bad) == len(pool):
        shown = "\n".join(f"  {report.unit} {row.line}: {row.reason}" for row in bad[:5])
        raise DataError(
            f"{report.source}: {len(bad)} of {len(pool)} questions are those of the test:\n"
            f"{shown}\n"
            "Take them out of one of the two, or set data.on_leak to drop (they leave the pool) "
            "or keep (they are counted and listed)."
        )
    keep = np.setdiff1d(np.arange(len(pool)), [one.index for one, _ in leaked])
    dropped = (*report.dropped, *bad)
    report = replace(report, dropped=dropped, kept_lines=report.kept_lines[keep])
    return pool.subset(keep), report


def _intervened(config: DataConfig, pool: Pool, seed: int) -> Pool:
    if config.traces is None:
        return pool
    folder = config.wrong_from and config.wrong_from.replace("{seed}", str(seed))
    wrong = wrong_completions(pool, folder) if folder else None
    known: Known = written_by_skills if config.preset is not None else lambda _: True
    return intervene(pool, config.traces, seed=seed, wrong=wrong, known=known)


# takes a second, and a study's process asks once per strategy for the same; data never change
_built = lru_cache(maxsize=4)(build_preset)


def _read(
    config: DataConfig,
    source: str,
    split: str,
    limit: int | None,
    labels_required: bool = True,
) -> tuple[Pool, DataReport]:
    roles = ("question", "trace", "answer", "group", "id", "difficulty")
    return load_pool(
        source,
        split=split,
        columns={role: getattr(config, role) for role in roles if getattr(config, role)},
        checker=config.checker,
        on_bad_row=config.on_bad_row,
        limit=limit,
        config=config.subset,
        revision=config.revision,
        strip_notes=config.strip_notes,
        append_answer=config.append_answer,
        labels_required=labels_required,
    )


#: Problems that are tokenized before training begins, whatever their length.
_FIRST = 4096


def fit_to_context(
    data: LoadedData, tokenizer: Any, prompt: PromptConfig, *, max_length: int, on_bad_row: OnBadRow
) -> LoadedData:
    """Stop at, or leave out and report, problems whose prompt and target exceed the context.

    Args:
        max_length: tokens that the model can read.
        on_bad_row: ``stop`` or ``skip``.

    Raises:
        DataError: if problems are too long and ``on_bad_row`` is ``stop``.
    """
    # torch; not needed to only read data
    from activeselect.data.prompts import Sizes, encoded, longest_possible

    def fit(pool: Pool, report: DataReport) -> tuple[Pool, DataReport]:
        lengths = longest_possible(pool, prompt, tokenizer)
        if lengths is None:
            lengths = np.full(len(pool), max_length + 1)
        # the first ones are always tokenized: what is wrong with the prompt is wrong with them
        open_ones = np.flatnonzero((lengths > max_length) | (np.arange(len(pool)) < _FIRST))
        lengths[open_ones] = Sizes.of(encoded(pool, open_ones, tokenizer, prompt)).tokens
        return check_lengths(pool, report, lengths, max_length=max_length, on_bad_row=on_bad_row)

    pool, test, reports = data.pool, data.test, dict(data.reports)
    if "train" in reports:
        pool, reports["train"] = fit(pool, reports["train"])
    if test is not None and "test" in reports:
        test, reports["test"] = fit(test, reports["test"])
    return replace(data, pool=pool, test=test, reports=reports)
