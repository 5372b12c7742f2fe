"""Labels: the solutions that an acquiring run asks for, and how it gets them.

A pool may hold questions without a trace and an answer. When a run has chosen such questions, it
writes them down, ends, and goes on once they are labelled::

    to_label/round-1.jsonl    {"id": 7, "question": "...", "why": "chosen by premem"}
    labeled/round-1.jsonl     {"id": 7, "trace": "... #### 4", "answer": "4"}

Round 0 is the first train set, round k the examples that join it for the k-th time. A *labeler*
answers instead of a person: a command, a model on this machine, or the labels of the data itself,
hidden until they are bought.
"""

from __future__ import annotations

import codecs
import hashlib
import importlib
import json
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from activeselect.arrays import IntArray
from activeselect.data.answers import get_checker
from activeselect.data.pool import Pool
from activeselect.data.tabular import BadRow, Row, parse_json_object
from activeselect.data.validate import ProblemBuilder
from activeselect.errors import ConfigError, DataError, LabelsNeeded, StoreError
from activeselect.files import make_folder, write_text

#: One row of a file: what a question is, or its label.
Label = dict[str, Any]
_SHOWN = 5


class Labeler(Protocol):
    """Labels questions in place of a person."""

    def label(self, questions: Sequence[Label]) -> list[Label]:
        """Labels of the questions it can answer.

        Args:
            questions: rows with ``id``, ``question`` and ``why``.

        Returns:
            rows with ``id``, ``trace`` (ends in the answer) and, if it likes, ``answer``.
        """
        ...


class Labels:
    """The labels of one run folder.

    Args:
        folder: the run folder.
        pool: the pool as it was read, some or all of its problems without labels.
        labeler: answers in place of a person; None: a person does.
    """

    def __init__(self, folder: Path, pool: Pool, labeler: Labeler | None = None) -> None:
        self.folder, self.pool, self.labeler = folder, pool, labeler

    def wanted(self, round: int) -> Path:
        """File with the questions that round ``round`` asks for."""
        return self.folder / "to_label" / f"round-{round}.jsonl"

    def given(self, round: int) -> Path:
        """File where the labels of round ``round`` are expected."""
        return self.folder / "labeled" / f"round-{round}.jsonl"

    def buy(self, round: int, index: IntArray, why: str) -> dict[int, tuple[str, str]]:
        """Labels of the problems ``index``; asks for those that are missing.

        Args:
            round: number of the files.
            index: positions of unlabelled problems, int64 ``[K]``.
            why: why they were chosen, in words.

        Returns:
            trace and answer by position, one for each of ``index``.

        Raises:
            LabelsNeeded: if labels are missing; the questions are on the disk by then.
            DataError: if a given label cannot be used; every such row is named.
        """
        questions = self._ask(round, index, why)
        found = self._read(round, questions)
        rejected: list[str] = []
        missing = [row for row in questions if row["id"] not in found]
        if missing and self.labeler is not None:
            labels = self.labeler.label(missing)
            found, rejected = self._accept(round, questions, found, labels)
            missing = [row for row in questions if row["id"] not in found]
        if missing:
            raise LabelsNeeded(self._request(round, missing, len(questions), rejected))
        places = dict(zip((row["id"] for row in questions), index.tolist(), strict=True))
        return {places[number]: label for number, label in found.items()}

    def tell(self, round: int, labels: Sequence[Label]) -> None:
        """Add labels of a round that was asked for; what is there already stays.

        Raises:
            DataError: if one cannot be used; then none is added.
        """
        if not self.wanted(round).exists():
            raise DataError(f"{self.folder} has not asked for labels of round {round}.")
        questions = _rows(self.wanted(round))
        found = self._read(round, questions)
        _, rejected = self._accept(round, questions, found, labels, partly=False)
        if rejected:
            raise _unusable(f"labels of round {round}", rejected)

    def pending(self) -> int | None:
        """The newest round that was asked for; None if none was."""
        rounds = [
            int(file.stem.partition("-")[2]) for file in self.wanted(0).parent.glob("*.jsonl")
        ]
        return max(rounds, default=None)

    def questions(self) -> list[Label]:
        """The questions of the newest round that have no label yet."""
        round = self.pending()
        if round is None:
            return []
        asked = _rows(self.wanted(round))
        found = self._read(round, asked)
        return [row for row in asked if row["id"] not in found]

    def checksum(self, round: int) -> str:
        """Content hash of the labels of a round, which a run that trained on them remembers."""
        rows = sorted(
            (number, *label)
            for number, label in self._read(round, _rows(self.wanted(round))).items()
        )
        return hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:16]

    def expect(self, round: int, checksum: str) -> None:
        """Refuse labels that changed after the run trained on them.

        Raises:
            StoreError: if they did.
        """
        if self.checksum(round) != checksum:
            raise StoreError(
                f"{self.given(round)} has changed since the run trained on it. Put the old file "
                "back, or start a new run folder with the new labels."
            )

    # --- files -----------------------------------------------------------------------------------

    def _ask(self, round: int, index: IntArray, why: str) -> list[Label]:
        """The questions of a round, written once; the same ones where they are asked again."""
        questions = [
            {"id": problem.id, "question": problem.question, "why": why}
            for problem in self.pool.problems(index)
        ]
        file = self.wanted(round)
        if file.exists():
            if [row["id"] for row in _rows(file)] != [row["id"] for row in questions]:
                raise StoreError(
                    f"{file} asks for other questions than this run has chosen now; it belongs to "
                    "another run. Use a new folder."
                )
            return questions
        make_folder(file.parent)
        make_folder(self.given(round).parent)
        write_text(file, _lines(questions))
        return questions

    def _read(self, round: int, questions: Sequence[Label]) -> dict[int, tuple[str, str]]:
        if not self.given(round).exists():
            return {}
        found, bad = self._usable(questions, _read_rows(self.given(round)), str(self.given(round)))
        if bad:
            raise _unusable(str(self.given(round)), bad)
        return found

    def _accept(
        self,
        round: int,
        questions: Sequence[Label],
        known: Mapping[int, tuple[str, str]],
        labels: Sequence[Label],
        *,
        partly: bool = True,
    ) -> tuple[dict[int, tuple[str, str]], list[str]]:
        """Write usable new labels beside the known ones; say what is wrong with the others."""
        rows: list[Row | BadRow] = [Row(line, label) for line, label in enumerate(labels, 1)]
        new, rejected = self._usable(questions, rows, "labels")
        if rejected and not partly:
            return dict(known), rejected
        found = {**new, **known}
        texts = [
            {"id": row["id"], "trace": found[row["id"]][0], "answer": found[row["id"]][1]}
            for row in questions
            if row["id"] in found
        ]
        write_text(self.given(round), _lines(texts))
        return found, rejected

    def _usable(
        self, questions: Sequence[Label], rows: Sequence[Row | BadRow], where: str
    ) -> tuple[dict[int, tuple[str, str]], list[str]]:
        """Trace and answer by id, and what is wrong with each row that cannot be used."""
        texts = {row["id"]: row["question"] for row in questions}
        roles = {"question": "question", "trace": "trace", "answer": "answer"}
        checker = get_checker(self.pool.checker)
        found: dict[int, tuple[str, str]] = {}
        bad: list[str] = []
        for row in rows:
            if isinstance(row, BadRow):
                bad.append(f"line {row.line}: {row.reason}")
                continue
            number = row.values.get("id")
            if isinstance(number, bool) or not isinstance(number, int) or number not in texts:
                bad.append(f"line {row.line}: id {number!r} was not asked for in this round")
                continue
            if number in found:
                bad.append(f"line {row.line}: id {number} has a label already, on a line above")
                continue
            stated = row.values.get("answer") not in (None, "")
            names = roles if stated else {k: v for k, v in roles.items() if k != "answer"}
            built = ProblemBuilder(names, checker, labels_required=True).build(
                Row(row.line, {**row.values, "question": texts[number]}), 0
            )
            if isinstance(built, BadRow):
                bad.append(f"line {row.line}, id {number}: {built.reason}")
            else:
                found[number] = (built.trace, built.answer)
        return found, bad

    def _request(
        self, round: int, missing: Sequence[Label], asked: int, rejected: Sequence[str]
    ) -> str:
        text = (
            f"{len(missing)} of {asked} labels are missing: label the questions in "
            f"{self.wanted(round)}, write them to {self.given(round)} (id, trace, answer), and run "
            "the same command again."
        )
        if len(missing) < asked:
            ids = ", ".join(str(row["id"]) for row in missing[:_SHOWN])
            more = ", ..." if len(missing) > _SHOWN else ""
            text += f" Missing ids: {ids}{more}."
        if rejected:
            text += f" The labeler's labels that cannot be used: {'; '.join(rejected[:_SHOWN])}."
        return text


def labeler_of(setting: str | Mapping[str, Any] | None, pool: Pool) -> Labeler | None:
    """The labeler that a config names.

    Args:
        setting: None (a person), ``hidden`` (the data's own labels, revealed when bought),
            ``{command: "..."}``, or ``{class_path: package.Class, PARAMETER: ...}``.
        pool: the data with its labels; only ``hidden`` reads them.

    Raises:
        ConfigError: if there is no such labeler.
    """
    if setting is None:
        return None
    if setting == "hidden":
        return HiddenLabels(pool)
    if isinstance(setting, Mapping) and set(setting) == {"command"}:
        return CommandLabeler(str(setting["command"]))
    if isinstance(setting, Mapping) and "class_path" in setting:
        path, _, name = str(setting["class_path"]).rpartition(".")
        given = {**setting.get("init_args", {}), **setting}
        given = {k: v for k, v in given.items() if k not in ("class_path", "init_args")}
        try:
            made: Labeler = getattr(importlib.import_module(path), name)(**given)
        except (ImportError, AttributeError, TypeError, ValueError) as error:
            raise ConfigError(f"labeler: {setting['class_path']} cannot be made: {error}") from None
        return made
    raise ConfigError(
        f"labeler: expected hidden, {{command: ...}} or {{class_path: ...}}; received {setting!r}."
    )


class HiddenLabels:
    """Reveals the labels that the data holds, one by one as they are bought: for simulations."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        ids = np.asarray(pool.dataset["id"], dtype=np.int64)
        self._place = dict(zip(ids.tolist(), range(len(ids)), strict=True))

    def label(self, questions: Sequence[Label]) -> list[Label]:
        """The trace and answer that the data holds for each question."""
        problems = self._pool.problems([self._place[row["id"]] for row in questions])
        return [{"id": p.id, "trace": p.trace, "answer": p.answer} for p in problems]


class CommandLabeler:
    """Runs a command: questions as JSON lines on its standard input, labels on its output.

    Args:
        command: the program and its arguments; no shell reads it.
    """

    def __init__(self, command: str) -> None:
        self.command = shlex.split(command)
        if not self.command:
            raise ConfigError("labeler.command: expected a program; received an empty text.")

    def label(self, questions: Sequence[Label]) -> list[Label]:
        """The labels that the command prints for the questions.

        Raises:
            DataError: if the command cannot be run, fails, or prints what is no label.
        """
        try:
            ended = subprocess.run(
                self.command, input=_lines(questions), capture_output=True, text=True, check=False
            )
        except OSError as error:
            raise DataError(f"labeler.command: {self.command[0]} cannot be run: {error}") from None
        if ended.returncode:
            tail = " ".join(ended.stderr.split())[-300:]
            raise DataError(
                f"labeler.command: {self.command[0]} ended with exit code {ended.returncode}"
                + (f": {tail}" if tail else ".")
            )
        labels: list[Label] = []
        for number, line in enumerate(ended.stdout.splitlines(), 1):
            if line.strip():
                row = parse_json_object(line.encode(), number)
                if isinstance(row, BadRow):
                    raise DataError(
                        f"labeler.command: line {number} of its output is no label ({row.reason})."
                    )
                labels.append(dict(row.values))
        return labels


class ModelLabeler:
    """A teacher model on this machine: answers greedily through transformers.

    Args:
        model: a folder or hub id.
        prompt: text with ``{question}``; with a chat template it is the user's message.
        max_new_tokens: of an answer.
        batch_size: questions at a time.
        device: a torch device.
    """

    def __init__(
        self,
        model: str,
        prompt: str = "{question}",
        max_new_tokens: int = 512,
        batch_size: int = 8,
        device: str = "cpu",
    ) -> None:
        if "{question}" not in prompt:
            raise ValueError("prompt: expected a text with {question}")
        self.name, self.prompt, self.device = model, prompt, device
        self.max_new_tokens, self.batch_size = max_new_tokens, batch_size

    def label(self, questions: Sequence[Label]) -> list[Label]:
        """The model's greedy completion of each question as its trace."""
        import torch

        from activeselect.training.module import load_model

        model, tokenizer = load_model(self.name)
        model = model.to(self.device).eval()
        if tokenizer.pad_token_id is None:
            tokenizer.pad_token = tokenizer.eos_token
        tokenizer.padding_side = "left"
        labels: list[Label] = []
        for start in range(0, len(questions), self.batch_size):
            some = questions[start : start + self.batch_size]
            texts = [self._text(row["question"], tokenizer) for row in some]
            batch = tokenizer(texts, return_tensors="pt", padding=True).to(self.device)
            batch.pop("token_type_ids", None)
            with torch.no_grad():
                out = model.generate(
                    **batch,
                    do_sample=False,
                    max_new_tokens=self.max_new_tokens,
                    pad_token_id=tokenizer.pad_token_id,
                )
            new = out[:, batch["input_ids"].shape[1] :]
            for row, text in zip(
                some, tokenizer.batch_decode(new, skip_special_tokens=True), strict=True
            ):
                labels.append({"id": row["id"], "trace": text.strip()})
        return labels

    def _text(self, question: str, tokenizer: Any) -> str:
        text = self.prompt.format(question=question)
        if not getattr(tokenizer, "chat_template", None):
            return text
        message = [{"role": "user", "content": text}]
        return str(
            tokenizer.apply_chat_template(message, tokenize=False, add_generation_prompt=True)
        )


def _lines(rows: Sequence[Label]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _rows(file: Path) -> list[Label]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def _read_rows(file: Path) -> list[Row | BadRow]:
    lines = file.read_bytes().removeprefix(codecs.BOM_UTF8).splitlines()
    return [parse_json_object(line, number) for number, line in enumerate(lines, 1) if line.strip()]


def read_labels(file: Path) -> list[Label]:
    """Labels from JSON lines.

    Raises:
        DataError: if there is no such file, or a line is no JSON object.
    """
    if not file.is_file():
        raise DataError(f"{file}: expected a file of labels, found none; check --labels.")
    rows = _read_rows(file)
    bad = [f"line {row.line}: {row.reason}" for row in rows if isinstance(row, BadRow)]
    if bad:
        raise _unusable(str(file), bad)
    return [dict(row.values) for row in rows if isinstance(row, Row)]


def _unusable(where: str, bad: Sequence[str]) -> DataError:
    shown = "\n".join(f"  {reason}" for reason in bad[:_SHOWN])
    more = f"\n  and {len(bad) - _SHOWN} more" if len(bad) > _SHOWN else ""
    return DataError(f"{where}: {len(bad)} labels cannot be used:\n{shown}{more}\nRepair them.")
