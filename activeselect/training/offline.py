"""Scoring without training: one model, or the checkpoints of a run that is over.

A folder of checkpoints gives the whole history, and so pre-memorization accuracy as the paper
defines it, for people who have a run already. The output folder::

    config.json            the settings
    scores/                the score store, one Parquet file per checkpoint
    checkpoints.json       one entry per checkpoint: what it is, means over the examples, cost
    examples.parquet       one row per example: the latest of every signal

With ``shard: 2/4`` only every fourth example is scored, in ``shard-2-of-4/``; whichever shard is
finished last joins them.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from filelock import FileLock
from numpy.typing import NDArray

from activeselect.arrays import IntArray
from activeselect.audit.asker import Asker
from activeselect.audit.rewordings import (
    accuracy_on_rewordings,
    by_premem,
    in_words,
    rank_correlation,
)
from activeselect.config import ScoreConfig, config_hash, differences, prompt_of, to_plain
from activeselect.data.answers import get_checker
from activeselect.data.load import fit_to_context, load_data
from activeselect.data.pool import Pool
from activeselect.data.prompts import EncodedSet, check_texts, encoded, with_examples
from activeselect.errors import ConfigError, ModelError, StoreError, require
from activeselect.files import read_json, write_bytes, write_json
from activeselect.forecast.live import Forecaster, forecaster_for
from activeselect.scoring.families import context_length
from activeselect.scoring.pace import Pace
from activeselect.scoring.signals import PER_ROUND, history_of, measurements
from activeselect.scoring.store import ScoreStore
from activeselect.streams import Stream
from activeselect.training.folder import model_fingerprint
from activeselect.training.history import Cost, History, forecast_inputs
from activeselect.training.measure import Measurer
from activeselect.training.module import load_model

#: What a sampling policy took and saved.
COUNTED = ("completions", "completions_saved")
#: Told how many checkpoints are done, of how many, and what is done now.
Progress = Callable[[int, int, str], None]


def checkpoints_in(model: str) -> list[str]:
    """The model itself, or the checkpoints in a folder of checkpoints, in order of their numbers.

    Raises:
        ModelError: if a folder is neither.
    """
    folder = Path(model)
    if not folder.is_dir() or (folder / "config.json").is_file():
        return [model]
    holds = ("config.json", "adapter_config.json")
    if (folder / holds[1]).is_file():
        return [model]
    found = [sub for sub in folder.iterdir() if any((sub / name).is_file() for name in holds)]
    if not found:
        raise ModelError(
            f"{model} is neither a model nor a folder of checkpoints; expected config.json in it "
            "or in its subfolders (checkpoint-500, ...)."
        )
    return [str(sub) for sub in sorted(found, key=lambda sub: _natural(sub.name))]


def _natural(name: str) -> list[Any]:
    """Sorts ``checkpoint-1000`` after ``checkpoint-500``."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]


class OfflineScoring:
    """Scores examples with one checkpoint after the other; goes on where it was stopped.

    Args:
        config: all settings.
        forecaster: forecasts test accuracy from the history so far; default: the one that
            ``config.forecast`` names.

    Raises:
        ConfigError: if a setting is unknown.
        ModelError: if a checkpoint cannot be read.

    Example::

        config = ScoreConfig(model="runs/first", data=DataConfig("train.jsonl", checker="number"))
        entries = OfflineScoring(config).run(Path("scores"))
    """

    def __init__(self, config: ScoreConfig, *, forecaster: Forecaster | None = None) -> None:
        for name in config.signals:
            if not measurements([name]) or measurements([name]) - PER_ROUND:
                raise ConfigError(f"signals: '{name}' is not measured by scoring a checkpoint.")
        self.config = config
        self.checkpoints = checkpoints_in(config.model)
        data = load_data(config.data, seed=config.seed)
        prompt = prompt_of(config.prompt) or data.prompt
        self.prompt = with_examples(prompt, data.pool, seed=config.seed)
        model, self.tokenizer = self._load(self.checkpoints[0])
        check_texts(data.pool, self.prompt, self.tokenizer)
        context = context_length(model.config) or 2**62
        data = fit_to_context(
            data,
            self.tokenizer,
            self.prompt,
            max_length=context,
            on_bad_row=config.data.on_bad_row,
        )
        self.reports = data.reports
        self.pool: Pool = data.pool
        self.forecaster = forecaster or forecaster_for(
            config.forecast,
            samples=config.scoring.samples,
            dataset=data.reports["train"].layout if "train" in data.reports else "",
            model=model.config,
        )

    def run(
        self,
        out: Path,
        *,
        progress: Progress | None = None,
        say: Callable[[str], None] | None = None,
    ) -> list[dict[str, Any]]:
        """Score what is not scored yet.

        Args:
            out: folder of the scores.
            progress: called with the checkpoints that are done, all of them, and what is done now.
            say: called with one plain line after each checkpoint.

        Returns:
            one entry per checkpoint, as in ``checkpoints.json``.

        Raises:
            StoreError: if the folder holds scores with other settings, or of another checkpoint.
        """
        out.mkdir(parents=True, exist_ok=True)
        self._own(out)
        shard, shards = self.config.part
        folder = part_of(out, shard, shards)
        folder.mkdir(exist_ok=True)
        with FileLock(folder / ".lock"):
            index = np.arange(shard - 1, len(self.pool), shards)
            self._score(folder, index, progress, say)
        folders = [part_of(out, i + 1, shards) for i in range(shards)]
        with FileLock(out / ".join.lock"):
            if all(len(entries_of(part)) == len(self.checkpoints) for part in folders):
                return self._join(out, folders)
        return entries_of(folder)

    def _own(self, out: Path) -> None:
        plain = to_plain(replace(self.config, shard="1/1"))
        file = out / "config.json"
        with FileLock(out / ".join.lock"):
            if not file.exists():
                write_json(file, plain)
        changed = differences(read_json(file), plain)
        if changed:
            raise StoreError(
                f"{out} holds scores with other settings ({'; '.join(changed)}); use another "
                "folder, or the same settings."
            )

    def _store(self, folder: Path) -> ScoreStore:
        return ScoreStore(
            folder / "scores",
            self.pool.fingerprint,
            pool_size=len(self.pool),
            config=config_hash(to_plain(replace(self.config, shard="1/1"))),
        )

    def _score(
        self,
        folder: Path,
        index: IntArray,
        progress: Progress | None,
        say: Callable[[str], None] | None,
    ) -> None:
        store, entries = self._store(folder), entries_of(folder)
        store.drop_after(len(entries))  # stored, but not finished: they are measured again
        measurer = Measurer(
            self.pool,
            self.tokenizer,
            self.config.scoring,
            self.prompt,
            what=measurements(self.config.signals),
            encoded=EncodedSet(encoded(self.pool, index, self.tokenizer, self.prompt)),
            seed=self.config.seed,
            history=History.from_store(store, len(entries)),
            look_back=True,
            store=store,
            reference=self.config.reference,
        )
        for number, checkpoint in enumerate(self.checkpoints):
            if progress is not None:
                progress(number, len(self.checkpoints), f"{Path(checkpoint).name}: loading")
            model, tokenizer = self._load(checkpoint)
            fingerprint = model_fingerprint(model, tokenizer)
            if number < len(entries):
                self._check(folder, entries[number], checkpoint, fingerprint)
                continue
            measurer.cost = Cost()
            if progress is not None:
                measurer.tell = partial(
                    _tell, progress, number, len(self.checkpoints), Path(checkpoint).name
                )
            measurer.score(model, index, epoch=number)
            entries.append(
                {
                    "checkpoint": checkpoint,
                    "fingerprint": fingerprint,
                    "tokens_generated": measurer.cost.tokens_generated,
                    **{name: getattr(measurer.cost, name) for name in COUNTED},
                    "seconds": measurer.cost.score_s,
                }
            )
            write_json(folder / "parts.json", entries)
            if say is not None:
                say(
                    f"{time.strftime('%H:%M:%S')} checkpoint {number + 1} of "
                    f"{len(self.checkpoints)} ({Path(checkpoint).name}), {len(index):,} examples, "
                    f"{measurer.cost.tokens_generated:,} tokens in {measurer.cost.score_s:.0f} s"
                )

    def _load(self, checkpoint: str) -> tuple[Any, Any]:
        dtype = None if self.config.dtype == "auto" else getattr(torch, self.config.dtype)
        model, tokenizer = load_model(checkpoint, dtype)
        device = self.config.device
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        return model.to(device).eval(), tokenizer

    @staticmethod
    def _check(folder: Path, entry: dict[str, Any], checkpoint: str, fingerprint: str) -> None:
        if entry["fingerprint"] != fingerprint:
            raise StoreError(
                f"{folder} holds scores of another {entry['checkpoint']} (fingerprint "
                f"{entry['fingerprint']}; {checkpoint} has {fingerprint}); use another folder."
            )

    # --- rewordings ----------------------------------------------------------------------------

    def check_perturb(self, count: int) -> None:
        """Whether rewordings can be asked for.

        Raises:
            ConfigError: if premem is not among the signals, or the scores are of several shards.
        """
        require(count >= 0, "perturb", "at least 0 rewordings", count)
        fits = not count or {"premem"} <= set(self.config.signals)
        require(fits, "perturb", "premem among the signals", list(self.config.signals))
        require(not count or self.config.part[1] == 1, "perturb", "one shard", self.config.shard)

    def perturb(self, out: Path, count: int) -> list[str]:
        """Premem against the last checkpoint's accuracy on rewordings: ``rewordings.json``.

        Args:
            out: folder of the scores, which are done.
            count: of rewordings per example, at most.

        Returns:
            the table as lines.
        """
        file = out / "rewordings.json"
        if not file.exists() or read_json(file)["perturb"] != count:
            model, tokenizer = self._load(self.checkpoints[-1])
            asker = Asker(
                model,
                tokenizer,
                self.pool,
                get_checker(self.pool.checker),
                self.prompt,
                self.config.scoring,
                seed=self.config.seed,
            )
            table = pq.read_table(out / "examples.parquet")
            premem, accuracy = (table[name].to_numpy() for name in ("premem", "accuracy"))
            found = accuracy_on_rewordings(asker, self.pool, count, seed=self.config.seed)
            rng = np.random.default_rng([self.config.seed, Stream.RESAMPLED])
            correlation = rank_correlation(premem, found)
            result = {
                "perturb": count,
                "spearman": None if np.isnan(correlation) else correlation,
                "bins": by_premem(premem, accuracy, found, rng),
                "examples": [None if np.isnan(value) else value for value in found.tolist()],
                "tokens": asker.spent.tokens,
            }
            write_json(file, result)
        return in_words(read_json(file))

    # --- the result ----------------------------------------------------------------------------

    def _join(self, out: Path, folders: list[Path]) -> list[dict[str, Any]]:
        histories = [
            History.from_store(self._store(part), len(self.checkpoints)) for part in folders
        ]
        names = [name for name in histories[0].signals if name not in ("right", "sampled")]

        def read(name: str) -> NDArray[np.float64]:
            matrix = histories[0].matrix(name)
            for other in histories[1:]:
                matrix = np.fmin(matrix, other.matrix(name))  # shards are disjoint; NaN elsewhere
            return matrix

        signals = {n: history_of(n, read) for n in dict.fromkeys([*names, *self.config.signals])}
        parts = [entries_of(part) for part in folders]
        entries = []
        for number, checkpoint in enumerate(self.checkpoints):
            entry: dict[str, Any] = {"checkpoint": checkpoint, "examples": len(self.pool)}
            entry |= {name: _mean(rows[number]) for name, rows in signals.items()}
            entry["forecast"] = self._forecast(read, signals, number)
            sampled = () if self.config.scoring.policy == "exact" else COUNTED
            for cost in ("tokens_generated", *sampled, "seconds"):
                entry[cost] = sum(part[number].get(cost, 0) for part in parts)
            entries.append(entry)
        self._write_examples(out, {name: rows[-1] for name, rows in signals.items()})
        write_json(out / "checkpoints.json", entries)
        return entries

    def _forecast(self, read: Any, signals: dict[str, Any], number: int) -> float | None:
        if self.forecaster is None or not {"accuracy", "mean_nll"} <= signals.keys():
            return None
        upto = slice(0, number + 1)
        accuracy, mean_nll = forecast_inputs(read, self.config.scoring.policy)
        return float(self.forecaster(accuracy[upto], mean_nll[upto]).value)

    def _write_examples(self, out: Path, latest: dict[str, NDArray[np.float64]]) -> None:
        dataset = self.pool.dataset
        table = pa.table(
            {
                "index": np.arange(len(self.pool)),
                "id": dataset["id"],
                "group": dataset["group"],
                **latest,
            }
        )
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink, compression="zstd")
        write_bytes(out / "examples.parquet", sink.getvalue().to_pybytes())


def _tell(progress: Progress, at: int, of: int, name: str, doing: str, pace: Pace) -> None:
    progress(at, of, f"{name}: {doing} {pace}")


def part_of(out: Path, shard: int, shards: int) -> Path:
    """The folder of one of several parts, or of the whole."""
    return out if shards == 1 else out / f"shard-{shard}-of-{shards}"


def entries_of(folder: Path) -> list[dict[str, Any]]:
    """What is said of each checkpoint that is scored, in their order."""
    file = folder / "parts.json"
    return list(read_json(file)) if file.exists() else []


def _mean(values: NDArray[np.float64]) -> float | None:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else None
