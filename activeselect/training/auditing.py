"""Models and problems for an audit: loaded as training loads them."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch

from activeselect.arrays import FloatArray
from activeselect.audit.asker import Asker
from activeselect.audit.audit import (
    Subject,
    arrays,
    ask,
    draw_problems,
    fitting,
    plan,
    setting_of,
)
from activeselect.audit.probes import choose_wordings
from activeselect.config import AuditConfig, PromptConfig, RunConfig, prompt_of
from activeselect.data.answers import get_checker
from activeselect.data.load import LoadedData, load_data
from activeselect.data.pool import Pool
from activeselect.data.prompts import check_texts, with_examples
from activeselect.errors import ConfigError, ModelError
from activeselect.seals import RESTORE, Seals
from activeselect.training.folder import model_fingerprint
from activeselect.training.module import load_model, load_tokenizer


@dataclass(frozen=True)
class Prepared:
    """What an audit asks, and whom."""

    config: AuditConfig
    pool: Pool
    template: PromptConfig
    model: Subject
    reference: Subject | None
    scorer: Subject | None

    def asker(self) -> Asker:
        """Of the model's tokenizer alone, for counting."""
        return Asker(
            None,
            load_tokenizer(model_folder(self.config.model)),
            self.pool,
            get_checker(self.pool.checker),
            self.template,
            self.config.scoring,
            seed=self.config.seed,
        )


def model_folder(name: str) -> str:
    """The model behind a name: of a run folder, the model that the run left.

    Raises:
        ModelError: if a run folder has no model.
        StoreError: if a file of it is damaged or altered.
    """
    folder = Path(name)
    if not (folder / "state.json").is_file():
        return name
    if not (folder / "model").is_dir():
        raise ModelError(
            f"The run in {name} has left no model; let it finish, with save_model=true."
        )
    seals = Seals(folder)
    if seals.hold(folder / "model"):  # earlier versions sealed them under another name
        seals.check_folder(folder / "model", RESTORE)
    return str(folder / "model")


class RunAudit:
    """The audit inside a run: the same problems of the test set, asked of the model as it is.

    Args:
        config: the run's settings; ``config.audit`` says what is asked.
        test: the test set.
        template: how a problem becomes text.
        tokenizer: the model's.

    Raises:
        ConfigError: if there is no test set, or a measure is unknown or does not fit the data.
    """

    def __init__(
        self, config: RunConfig, test: Pool | None, template: PromptConfig, tokenizer: Any
    ) -> None:
        asked = config.audit
        assert asked is not None
        if test is None:
            raise ConfigError("audit: expected a test set to ask; received data.test=none.")
        self.every, self.memory = asked.every, asked.memory
        settings = AuditConfig(
            measures=asked.measures,
            problems=asked.problems,
            scoring=replace(config.scoring, samples=1, keep_completions=0),
            seed=config.seed,
        )
        self.pool = draw_problems(test, settings)
        self.measures, _ = fitting(settings, self.pool)
        self._template, self.tokenizer, self._settings = template, tokenizer, settings

    def _asker(self, model: Any) -> Asker:
        return Asker(
            model,
            self.tokenizer,
            self.pool,
            get_checker(self.pool.checker),
            self._template,
            self._settings.scoring,
            seed=self._settings.seed,
        )

    def tokens(self) -> int:
        """Tokens that asking once reads and writes, estimated from the reference traces."""
        found = plan(self._settings, self.pool, self._asker(None))
        return sum(row["tokens"] for row in found)

    def right(self, model: Any) -> FloatArray:
        """1 where the greedy answer to a problem is right, float64 ``[P]``."""
        asker, problems = self._asker(model), list(self.pool)
        prompts = [asker.prompt(problem) for problem in problems]
        texts = asker.complete(prompts, range(len(prompts)), greedy=True)
        pairs = zip(texts, problems, strict=True)
        return np.array([float(asker.checker.check(t[0], p.answer)) for t, p in pairs])

    def values(self, model: Any) -> dict[str, float | None]:
        """Each measure of the model; None where no chain has steps and an answer."""
        asker = self._asker(model)
        wanted = {name for measure in self.measures for name in measure.probes}
        prompts: tuple[PromptConfig, ...] = ()
        if "wordings" in wanted:
            prompts, why = choose_wordings(asker, (), self.pool[0].question)
            wanted -= {"wordings"} if why else set()
        answers, _ = ask(asker, self.pool, wanted, setting_of(self._settings, prompts))
        found: dict[str, float | None] = {}
        for measure in self.measures:
            known = set(measure.probes) <= answers.keys()
            value = measure.statistic(arrays(answers, measure.probes)) if known else math.nan
            found[measure.name] = value if math.isfinite(value) else None
        return found


class AuditEpochs(lightning.Callback):
    """Logs the audit of the model every so many epochs, as ``audit/NAME``."""

    def __init__(self, audit: RunAudit) -> None:
        self.audit = audit

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Ask, where it is this epoch's turn, and log."""
        if (trainer.current_epoch + 1) % self.audit.every == 0:
            for name, value in self.audit.values(pl_module.model).items():
                if value is not None:
                    pl_module.log(f"audit/{name}", value)


def prepare(config: AuditConfig) -> Prepared:
    """Load the problems, and say how each model is loaded.

    Raises:
        DataError, ConfigError, ModelError: if something does not fit, before anything is asked.
    """
    data = load_data(config.data, seed=config.seed)
    prompt = with_examples(prompt_of(config.prompt) or data.prompt, data.pool, seed=config.seed)
    pool = draw_problems(_split(data, config), config)
    tokenizer = load_tokenizer(model_folder(config.model))
    check_texts(pool, prompt, tokenizer)
    names = (config.model, config.reference, config.scorer)
    subjects = [None if name is None else _subject(name, config) for name in names]
    assert subjects[0] is not None
    return Prepared(config, pool, prompt, subjects[0], subjects[1], subjects[2])


def _split(data: LoadedData, config: AuditConfig) -> Pool:
    if config.split == "train" or (config.split is None and data.test is None):
        return data.pool
    if data.test is None:
        raise ConfigError("split: expected train, for the data has no test set; received test.")
    return data.test


def _subject(name: str, config: AuditConfig) -> Subject:
    def load() -> tuple[Any, Any, str]:
        dtype = None if config.dtype == "auto" else getattr(torch, config.dtype)
        model, tokenizer = load_model(model_folder(name), dtype)
        device = config.device
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        return model.to(device).eval(), tokenizer, model_fingerprint(model, tokenizer)

    return Subject(name, load)
