"""One training run from start to result: stages of rounds, resumable at every round."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from activeselect.arrays import FloatArray, IntArray
from activeselect.config import (
    NO_TEST,
    RunConfig,
    config_hash,
    prompt_of,
    settings_of_scores,
    to_plain,
)
from activeselect.data.inputs import changed, snapshot_model
from activeselect.data.load import GIVEN, fit_to_context, load_data
from activeselect.data.pool import Pool
from activeselect.data.prompts import Encoded, check_texts, encode, with_examples
from activeselect.data.regions import with_regions
from activeselect.data.target import target_shares
from activeselect.environment import environment
from activeselect.errors import ConfigError, DataError, LabelsNeeded, StoreError
from activeselect.files import explained, read_object, write_text
from activeselect.forecast.live import Forecaster, forecaster_for
from activeselect.scoring.distributed import once
from activeselect.scoring.families import context_length
from activeselect.scoring.signals import measurements
from activeselect.scoring.store import ScoreStore
from activeselect.selection.registry import check_target, create
from activeselect.selection.strategy import Strategy
from activeselect.streams import Stream
from activeselect.training.adapt import check
from activeselect.training.auditing import RunAudit
from activeselect.training.callback import Progress
from activeselect.training.folder import (
    RunFolder,
    RunState,
    code_fingerprint,
    model_fingerprint,
)
from activeselect.training.labels import Label, Labels, labeler_of
from activeselect.training.launch import check_accelerator, connected
from activeselect.training.loggers import checked_loggers
from activeselect.training.module import commit_of, load_model
from activeselect.training.stage import Stage, StageInputs


@dataclass(frozen=True)
class RunResult:
    """What a finished run leaves; the same as ``result.json``.

    ``curve`` has one entry per stage and test point: stage, budget, unique_examples, samples_seen,
    test_accuracy (share in [0, 1]), test_examples, premem (dataset level, None if not measured),
    audit (values by measure, where it was asked for), cost (spent up to here), cost_of_model
    (without what only tests and records needed), masked (share of the scored examples that counted
    as memorized, per round), groups (train examples per group; samples read when reweighting).

    Example::

        result = ActiveRun(config).run(Path("runs/first"))
        [(stage["budget"], stage["test_accuracy"]) for stage in result.curve]
    """

    path: Path
    curve: list[dict[str, Any]]
    cost: dict[str, float]

    @property
    def warnings(self) -> list[str]:
        """What a person has to know before believing the numbers, in words."""
        return [text for entry in self.curve for text in entry.get("warnings", ())]


class ActiveRun:
    """Trains one model in rounds with live scoring and selection.

    Example::

        config = RunConfig(data=DataConfig("skills:mixed"), strategy="premem",
                           rounds=RoundsConfig(budgets=(150, 300)))
        result = ActiveRun(config).run(Path("runs/first"))

    Args:
        config: all settings.
        strategy: an instance to use instead of building ``config.strategy``.
        initial: positions of the first train set, int ``[budgets[0]]``; default: drawn at random.
        forecaster: forecasts test accuracy after each round, for the log and the result; default:
            the one that ``config.forecast`` names (:mod:`activeselect.forecast.live`).
        pool: what to learn from instead of ``config.data`` (:meth:`Pool.from_records`).
        test: what to be judged on; with ``pool`` alone there is no test.

    Raises:
        ActiveSelectError: if a setting, the data, the model or the strategy cannot be used.
    """

    def __init__(
        self,
        config: RunConfig,
        *,
        strategy: Strategy | None = None,
        initial: IntArray | None = None,
        forecaster: Forecaster | None = None,
        pool: Pool | None = None,
        test: Pool | None = None,
    ) -> None:
        config = _with_given(config, pool, test)
        self.config = config
        check_accelerator(config.accelerator)
        self.model_files = snapshot_model(config.model)  # before they are read
        self.initial = initial
        self.strategy = strategy or create(config.strategy)
        check_target(self.strategy, given=config.data.target is not None)
        self.model, self.tokenizer = load_model(config.model)
        check(self.model, config.recipe)
        acquires = config.rounds.mode == "acquire"
        data = load_data(
            config.data, seed=config.seed, labels_required=not acquires, pool=pool, test=test
        )
        self.labeler = labeler_of(config.labeler, data.pool)
        if config.labeler == "hidden":  # from here on only the labeler can read them
            data = replace(data, pool=data.pool.without_labels())
        prompt = prompt_of(config.prompt) or data.prompt
        self.prompt = with_examples(prompt, data.pool, seed=config.seed)
        check_texts(data.pool, self.prompt, self.tokenizer)
        self.data = fit_to_context(
            data,
            self.tokenizer,
            self.prompt,
            max_length=self._max_length(),
            on_bad_row=config.data.on_bad_row,
        )
        if self.strategy.knows_groups:
            self.data = replace(self.data, pool=self.data.pool.stated())
        elif config.rounds.regions is not None:
            pool = with_regions(self.data.pool, config.rounds.regions)
            target = self.data.target and self.data.target.hidden()  # its groups are no regions
            self.data = replace(self.data, pool=pool, target=target)
        self.target: FloatArray | None = None
        if self.data.target is not None:
            self.target = target_shares(self.data.pool, self.data.target)
        self.forecaster = forecaster or forecaster_for(
            config.forecast,
            samples=config.scoring.samples,
            dataset=self.data.reports["train"].layout if "train" in self.data.reports else "",
            model=self.model.config,
        )
        self._check_labels(self.data.pool)
        self.inputs = self._inputs()
        self.audit: RunAudit | None = None
        if config.audit is not None:
            self.audit = RunAudit(config, self.data.test, self.prompt, self.tokenizer)
        self.budgets = self._budgets(len(self.data.pool))

    def _budgets(self, size: int) -> tuple[int, ...]:
        budgets = self.config.rounds.budgets or (size,)
        if max(budgets) > size:
            raise ConfigError(
                f"rounds.budgets: the largest budget is {max(budgets)}, but the pool has {size} "
                "problems; lower the budget or bring more data."
            )
        if self.initial is not None and len(self.initial) != budgets[0]:
            raise ConfigError(
                f"initial: expected rounds.budgets[0] = {budgets[0]} positions; "
                f"received {len(self.initial)}."
            )
        return budgets

    def _check_labels(self, pool: Pool) -> None:
        """Whether the run can do without the labels that are missing; raises ConfigError."""
        if pool.is_labelled.all():
            return
        missing = int((~pool.is_labelled).sum())
        needs = {
            "rounds.mode": self.config.rounds.mode == "acquire",
            "scoring.candidates": self.config.scoring.candidates == 0,
        }
        what = measurements([*self.strategy.requires, *self.config.measure])
        for name, fits in needs.items():
            if not fits:
                raise ConfigError(
                    f"{name}: expected {'acquire' if name == 'rounds.mode' else '0'} with "
                    f"{missing} problems that have no label; they can only be chosen and labelled."
                )
        if what & {"prequential", "gradient"}:
            raise ConfigError(
                f"strategy: '{self.strategy.name}' measures candidates by their answers or traces, "
                f"and {missing} of them have no label. Choose a strategy that reads the train set."
            )

    def ask(self, out: Path, **options: Any) -> list[Label]:
        """Train until labels are needed.

        Args:
            out: the run folder.
            options: as for :meth:`run`.

        Returns:
            the questions to label (``id``, ``question``, ``why``); an empty list where the run is
            complete.
        """
        try:
            self.run(out, **options)
        except LabelsNeeded:
            labels = Labels(out, self.data.pool)
            return labels.questions()
        return []

    def tell(self, out: Path, labels: Sequence[Label]) -> None:
        """Label questions that :meth:`ask` returned; some or all of them.

        Args:
            out: the run folder.
            labels: rows with ``id``, ``trace`` (ends in the answer) and, if stated, ``answer``.

        Raises:
            DataError: if one cannot be used; then none is kept.
        """
        book = Labels(out, self.data.pool)
        round = book.pending()
        if round is None:
            raise DataError(f"{out} has not asked for labels; call ask(out) first.")
        book.tell(round, labels)

    def run(
        self,
        out: Path,
        *,
        progress: Progress | None = None,
        progress_bar: bool = False,
        say: Callable[[str], None] | None = None,
        loggers: Sequence[str] = ("csv",),
        shared: Path | None = None,
    ) -> RunResult:
        """Train, or continue what the folder ``out`` has of this run.

        Args:
            out: the run folder (see :mod:`activeselect.training.folder`).
            progress: called after each batch.
            progress_bar: show Lightning's progress bar.
            say: called with one plain line after each epoch.
            loggers: ``csv`` (always), ``tensorboard``, ``wandb``, ``mlflow``; each but the first
                needs the extra of its name.
            shared: a folder in which runs of one seed and several strategies share what they
                have in common (:mod:`activeselect.training.shared`).

        Raises:
            StoreError: if the folder belongs to another run, or one is under way in it.
            RankError: if one of several processes stopped.
            KeyboardInterrupt: on Ctrl-C; the same call continues after the last finished round.
        """
        names = checked_loggers(loggers)  # before anything is begun
        folder = RunFolder(out, self.config)
        if folder.file("result.json").exists():
            folder.check_inputs(self.inputs)
            return _result(folder)
        with connected(self.config), folder.claimed(self.inputs), explained(folder.path):
            once(partial(self._list_duplicates, folder))
            store = once(lambda: self._store(folder))  # of rank 0: the others have nothing to write
            state = once(folder.load_state)
            common = shared and shared / self.content_hash(of_strategy=False)
            while state.stage < len(self.budgets):
                self._buy_labels(folder, state)
                once(partial(self._check_weights, folder, state.stage))
                given = StageInputs(
                    config=self.config,
                    data=self.data,
                    test_items=self.test_items,
                    tokenizer=self.tokenizer,
                    prompt=self.prompt,
                    strategy=self.strategy,
                    budgets=self.budgets,
                    forecaster=self.forecaster,
                    audit=self.audit,
                    target=self.target,
                    shared=common,
                    commit=commit_of(self.model),
                    loggers=names,
                    say=say,
                    progress=progress,
                    progress_bar=progress_bar,
                )
                state = Stage(given, folder, state, store, self._train_set(state)).run()
                once(partial(folder.save_state, state))
            once(lambda: self._finish(folder, state))
            return _result(folder)

    def _list_duplicates(self, folder: RunFolder) -> None:
        """Questions that the test asks, too, or that the pool asks twice, one line of JSON each."""
        rows = self.data.reports["train"].duplicates if "train" in self.data.reports else ()
        if rows:
            lines = (json.dumps(row._asdict()) + "\n" for row in rows)
            write_text(folder.file("duplicates.jsonl"), "".join(lines))

    def _buy_labels(self, folder: RunFolder, state: RunState) -> None:
        """Label the train set of the stage that begins; raises LabelsNeeded where a person must."""
        unlabelled = np.flatnonzero(~self.data.pool.is_labelled)
        if not len(unlabelled):
            return
        if state.stage == 0 and not state.train:
            state.train = self.first_train_set().tolist()
        index = np.intersect1d(state.train, unlabelled)
        if not len(index):
            return
        labels = Labels(folder.path, self.data.pool, self.labeler)
        known: dict[int, tuple[str, str]] = {}
        for round, bought in state.labels.items():
            labels.expect(int(round), bought["checksum"])
            known |= once(partial(labels.buy, int(round), np.array(bought["index"]), ""))
        new = np.setdiff1d(index, list(known))
        if len(new):
            why = "drawn at random for the first train set"
            if state.stage:
                rest = len(state.train) - len(new)
                why = f"chosen by {self.strategy.name} to join {rest} train examples"
            known |= once(partial(labels.buy, state.stage, new, why))
            state.labels[str(state.stage)] = {
                "index": new.tolist(),
                "checksum": labels.checksum(state.stage),
            }
            state.cost["labels"] = state.cost.get("labels", 0) + len(new)
            once(partial(folder.save_state, state))
        self.data = replace(self.data, pool=self.data.pool.with_labels(known))
        self._check_fit(np.array(sorted(known)))

    def _train_set(self, state: RunState) -> IntArray:
        """Of the stage that begins."""
        if state.train:
            return np.array(state.train, dtype=np.int64)
        return self.first_train_set()

    def first_train_set(self) -> IntArray:
        """Labelled problems first; what they lack of the first budget is drawn from the others."""
        if self.initial is not None:
            return np.sort(self.initial)
        # The first examples are random and the same for every strategy: runs stay paired.
        rng = np.random.default_rng([self.config.seed, 0, Stream.INITIAL])
        size, known = self.budgets[0], self.data.pool.is_labelled
        labelled, others = np.flatnonzero(known), np.flatnonzero(~known)
        if len(labelled) >= size:
            return np.sort(rng.choice(labelled, size, replace=False))
        more = rng.choice(others, size - len(labelled), replace=False)
        return np.sort(np.concatenate([labelled, more]))

    def _check_fit(self, index: IntArray) -> None:
        """Refuse labels that do not fit the context."""
        limit = self._max_length()
        for item in encode(self.data.pool, index, self.tokenizer, self.prompt):
            if len(item.ids) > limit:
                problem = self.data.pool[item.index]
                raise DataError(
                    f"The label of id {problem.id} is too long: prompt and trace have "
                    f"{len(item.ids)} tokens, the context holds {limit}. Shorten the trace."
                )

    def _finish(self, folder: RunFolder, state: RunState) -> None:
        if self.config.save_model:
            folder.take_model(len(self.budgets) - 1)
        shutil.rmtree(folder.file("checkpoints"), ignore_errors=True)
        result = {
            "schema_version": 1,
            "config": to_plain(self.config),
            "environment": environment(),
            "pool_fingerprint": self.data.pool.fingerprint,
            "test_fingerprint": self.inputs["test"],
            "target_fingerprint": self.inputs["target"],
            "target": self._target_of_record(),
            "content_hash": self.content_hash(),
            "model_commit": commit_of(self.model),
            "data": {name: report.to_dict() for name, report in self.data.reports.items()},
            "curve": state.curve,
            "cost": state.cost,
        }
        folder.seals.write_json(folder.file("result.json"), result)

    def _target_of_record(self) -> dict[str, Any] | None:
        """What a strategy could know of the target questions."""
        if self.data.target is None or self.target is None:
            return None
        shares = dict(zip(self.data.pool.group_names, self.target.round(6).tolist(), strict=True))
        return {"questions": len(self.data.target), "shares": shares}

    def content_hash(self, *, of_strategy: bool = True) -> str:
        """Hash of all that decides the result: settings, data, model, code and its versions.

        Args:
            of_strategy: or of all but the strategy, and what is measured for the record.
        """
        aside = ["save_model", "rank_timeout", "checkpoint_every_steps"]
        aside += [] if of_strategy else ["strategy", "measure"]
        settings = {k: v for k, v in to_plain(self.config).items() if k not in aside}
        test, target = self.data.test, self.data.target
        return config_hash(
            {
                "settings": settings,
                "pool": self.data.pool.fingerprint,
                "test": test and test.fingerprint,
                "target": target and target.fingerprint,
                "model": self.model_fingerprint,
                "code": code_fingerprint(type(self.strategy) if of_strategy else None),
            }
        )

    def _inputs(self) -> dict[str, Any]:
        """What the run reads, for :meth:`RunFolder.check_inputs`; labels come later."""
        test, target = self.data.test, self.data.target
        files = dict(self.model_files)
        if commit := commit_of(self.model):  # of a hub, be it of the base model of adapters alone
            files["commit"] = [0, 0, 0, commit]
        revisions = {name: report.revision for name, report in self.data.reports.items()}
        return {
            "train": self.data.pool.fingerprint,
            "test": test and test.fingerprint,
            "target": target and target.fingerprint,
            "model": files,
            "revisions": {name: found for name, found in revisions.items() if found},
        }

    @cached_property
    def model_fingerprint(self) -> str:
        """Hash of the model's weights and the tokenizer."""
        return model_fingerprint(self.model, self.tokenizer)

    def _store(self, folder: RunFolder) -> ScoreStore:
        return ScoreStore(
            folder.file("scores"),
            self.data.pool.fingerprint,
            pool_size=len(self.data.pool),
            model=self.model_fingerprint,
            config=config_hash(settings_of_scores(self.config)),
        )

    def _check_weights(self, folder: RunFolder, stage: int) -> None:
        """Refuse weights that are not those that the run began with, or that a stage has left."""
        if stage and not self.config.rounds.restart:
            remedy = f"restore it, or start again in a new folder than {folder.path}"
            folder.seals.check_folder(folder.after_stage(stage - 1), remedy)
            return
        now = snapshot_model(self.config.model, self.model_files)
        if files := changed(self.model_files, now):
            raise StoreError(
                f"The model '{self.config.model}' was changed while the run in {folder.path} was "
                f"under way ({', '.join(files[:3])}). Restore it to continue, or start over in a "
                "new folder."
            )

    def _max_length(self) -> int:
        context = context_length(self.model.config) or sys.maxsize
        return min(self.config.recipe.max_length or context, context)

    @cached_property
    def test_items(self) -> list[Encoded]:
        """The encoded test problems; empty without test data."""
        test = self.data.test
        if test is None:
            return []
        return encode(test, np.arange(len(test)), self.tokenizer, self.prompt)


def _with_given(config: RunConfig, pool: Pool | None, test: Pool | None) -> RunConfig:
    """The config that says which pools were given; a run folder belongs to these."""
    if pool is None:
        if test is not None:
            raise ConfigError("ActiveRun: expected pool= with test=; received a test alone.")
        return config
    judged = NO_TEST if test is None else f"{GIVEN}{test.fingerprint}"
    data = replace(config.data, source=f"{GIVEN}{pool.fingerprint}", test=judged)
    return replace(config, data=data)


def _result(folder: RunFolder) -> RunResult:
    folder.check_results()
    stored = read_object(folder.file("result.json"))
    return RunResult(folder.path, stored["curve"], stored["cost"])
