"""The audit of a model, beside a reference: plan, probes in parts that a stopped one keeps, result.

The output folder::

    config.json      the settings
    parts/           answers of each model to each probe, a Parquet file per 25 problems
    chains.parquet   every sampled chain: text, steps, answer, right or wrong
    audit.json       the result: one entry per measure
    audit.html       the same as a page
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from activeselect.audit import measures as m
from activeselect.audit import probes as p
from activeselect.audit.asker import Asker, Spent
from activeselect.audit.catalogue import MEASURES, Measure, chosen
from activeselect.audit.evidence import evidence
from activeselect.audit.probes import PROBES, TOGETHER, Case, Row, Setting
from activeselect.config import AuditConfig, PromptConfig, config_hash, differences, to_plain
from activeselect.data.answers import get_checker
from activeselect.data.chains import split
from activeselect.data.pool import Pool
from activeselect.data.skills import SKILLS
from activeselect.errors import ConfigError, DataError, ModelError, StoreError
from activeselect.files import read_json, write_bytes, write_json
from activeselect.streams import Stream

#: Problems of a part.
PART = 25
#: Told what is asked of which model, part by part.
Progress = Callable[[str], None]
#: Rows of each probe.
Answers = dict[str, list[Row]]


@dataclass(frozen=True)
class Subject:
    """A model to be asked.

    Attributes:
        name: how the user calls it.
        load: gives model, tokenizer and a fingerprint of both.
    """

    name: str
    load: Callable[[], tuple[Any, Any, str]]


def draw_problems(pool: Pool, config: AuditConfig) -> Pool:
    """The problems to ask, drawn by the seed, in the pool's order.

    Raises:
        DataError: if there are fewer than two: an interval over problems needs two.
    """
    if len(pool) < 2:
        raise DataError(
            f"The audit needs at least 2 problems for its intervals; the data has {len(pool)}."
        )
    if len(pool) <= config.problems:
        return pool
    rng = np.random.default_rng([config.seed, Stream.AUDITED])
    return pool.subset(np.sort(rng.choice(len(pool), config.problems, replace=False)))


def fitting(config: AuditConfig, pool: Pool) -> tuple[list[Measure], dict[str, str]]:
    """The measures to take, and why others are left out.

    Raises:
        ConfigError: if a measure that was asked for by name does not fit the data.
    """
    measures, left_out = chosen(config.measures), {}
    if not set(pool.group_names) <= SKILLS.keys():
        why = "problems of one step less and more are generated for the built-in data alone"
        left_out = {measure.name: why for measure in measures if "steps" in measure.probes}
    if config.measures and left_out:
        name, why = next(iter(left_out.items()))
        raise ConfigError(f"measures: '{name}' does not fit this data: {why}; leave it out.")
    return [measure for measure in measures if measure.name not in left_out], left_out


class Audit:
    """Asks a model, and a reference where there is one, and compares them.

    Args:
        config: all settings.
        pool: the problems to ask (:func:`draw_problems`).
        template: how a problem becomes text.
        model, reference, scorer: who is asked; no scorer: the reference, else the model itself.
    """

    def __init__(
        self,
        config: AuditConfig,
        pool: Pool,
        template: PromptConfig,
        model: Subject,
        reference: Subject | None = None,
        scorer: Subject | None = None,
    ) -> None:
        self.config, self.pool, self.template = config, pool, template
        self.subjects = {"model": model}
        if reference is not None:
            self.subjects["reference"] = reference
        self.scorer = scorer or reference or model
        self.measures, self.left_out = fitting(config, pool)
        self.spent: dict[str, Spent] = {}
        self._loaded: tuple[str, Asker] | None = None

    def run(self, out: Path, *, progress: Progress | None = None) -> dict[str, Any]:
        """Ask what is not asked yet, and write the result.

        Returns:
            what ``audit.json`` holds.

        Raises:
            StoreError: if the folder holds an audit with other settings or of another model.
            ModelError: if no chain has steps and an answer, and all measures need them.
        """
        self._own(out)
        wanted = {name for measure in self.measures for name in measure.probes}
        found: dict[str, Answers] = {}
        cases: dict[str, list[Case]] = {}
        for who in self.subjects:
            asker = self._asker(out, self.subjects[who])
            store = _Store(out, who, progress, self.spent)
            setting = self._setting(asker)
            found[who], cases[who] = ask(
                asker, self.pool, wanted - {"scored"}, setting, store.parts
            )
            self._check_chains(cases[who], self.subjects[who].name)
        if "scored" in wanted:
            asker = self._asker(out, self.scorer)
            for who, answers in found.items():
                store = _Store(out, who, progress, self.spent)
                setting = self._setting(asker)
                answers["scored"] = store.parts("scored", asker, cases[who], setting)
        self._write_chains(out, cases)
        result = self._result(found)
        write_json(out / "audit.json", result)
        return result

    def _own(self, out: Path) -> None:
        out.mkdir(parents=True, exist_ok=True)
        plain = to_plain(replace(self.config, measures=()))
        plain["problems"] = self.pool.fingerprint
        file = out / "config.json"
        if file.exists() and (changed := differences(read_json(file), plain)):
            raise StoreError(
                f"{out} holds an audit with other settings ({'; '.join(changed[:5])}); use "
                "another folder, or the same settings (measures may be others)."
            )
        write_json(file, plain)

    def _asker(self, out: Path, subject: Subject) -> Asker:
        """The subject, loaded; parts that were asked of another model of that name are refused."""
        if self._loaded is not None and self._loaded[0] == subject.name:
            return self._loaded[1]
        self._loaded = None  # two models need not fit into the memory at once
        model, tokenizer, fingerprint = subject.load()
        key = config_hash({"name": subject.name})
        file = out / "parts" / f"model-{key}.json"
        if file.exists() and read_json(file)["fingerprint"] != fingerprint:
            raise StoreError(
                f"{out} holds answers of another {subject.name} (its weights or tokenizer were "
                "others); use another folder."
            )
        write_json(file, {"name": subject.name, "fingerprint": fingerprint})
        asker = Asker(
            model,
            tokenizer,
            self.pool,
            get_checker(self.pool.checker),
            self.template,
            self.config.scoring,
            seed=self.config.seed,
        )
        self._loaded = subject.name, asker
        return asker

    def _setting(self, asker: Asker) -> Setting:
        config = self.config
        prompts: tuple[PromptConfig, ...] = ()
        if any("wordings" in measure.probes for measure in self.measures):
            question = self.pool[0].question
            prompts, why = p.choose_wordings(asker, config.wordings, question)
            if why is not None:
                self._leave_out("wordings", why)
        return setting_of(config, prompts)

    def _leave_out(self, probe: str, why: str) -> None:
        gone = [measure.name for measure in self.measures if probe in measure.probes]
        self.left_out |= dict.fromkeys(gone, why)
        self.measures = [measure for measure in self.measures if measure.name not in gone]

    def _check_chains(self, cases: Sequence[Case], name: str) -> None:
        if any(case.chain for case in cases) or not any(it.steps for it in self.measures):
            return
        if self.config.chains == "traces":
            what = f"none of the {len(cases)} reference traces"
        else:
            what = f"none of the {len(cases) * self.config.scoring.samples} chains of {name}"
        why = f"{what} has both a step and an answer as '{self.pool.checker}' reads it"
        if all(measure.steps for measure in self.measures):
            raise ModelError(
                f"The audit has nothing to cut or change: {why}. Choose measures that need no "
                "steps (accuracy, sensitivity, renamed), another data.checker or prompt, or "
                "chains=traces."
            )
        gone = {measure.name: why for measure in self.measures if measure.steps}
        self.left_out |= gone
        self.measures = [measure for measure in self.measures if measure.name not in gone]

    # --- the result ----------------------------------------------------------------------------

    def _result(self, found: Mapping[str, Answers]) -> dict[str, Any]:
        rng = np.random.default_rng([self.config.seed, Stream.RESAMPLED])
        entries = [
            compare(measure, found["model"], found.get("reference"), rng)
            for measure in self.measures
        ]
        for measure, entry in zip(self.measures, entries, strict=True):
            entry["tokens"] = sum(self.spent[name].tokens for name in measure.probes)
        result = {
            "model": self.subjects["model"].name,
            "reference": self.subjects["reference"].name if "reference" in found else None,
            "scorer": self.scorer.name,
            "source": self.config.data.source,
            "problems": len(self.pool),
            "chains": self.config.chains,
            "samples": self.config.scoring.samples,
            "measures": entries,
            "left_out": self.left_out,
            "verdict": verdict(entries),
            "tokens": {
                name: {"read": spent.read, "written": spent.written}
                for name, spent in self.spent.items()
            },
            "forking_tokens": forking_tokens(found["model"].get("entropies", [])),
        }
        finite: dict[str, Any] = _finite(result)
        return finite

    def _write_chains(self, out: Path, cases: Mapping[str, Sequence[Case]]) -> None:
        checker = get_checker(self.pool.checker)
        rows = []
        for who, asked in cases.items():
            for case in asked:
                texts = [*case.texts]
                if case.body is not None and case.body not in texts:
                    texts.append(case.body)  # a reference trace
                for sample, text in enumerate(texts):
                    chain = split(text, checker)
                    rows.append(
                        {
                            "model": self.subjects[who].name,
                            "problem": case.problem.id,
                            "sample": sample,
                            "question": case.problem.question,
                            "text": text,
                            "steps": list(chain.steps),
                            "answer": chain.answer,
                            "right": checker.check(text, case.problem.answer),
                            "examined": text == case.body,
                        }
                    )
        _write_rows(out / "chains.parquet", rows)


def setting_of(config: AuditConfig, prompts: tuple[PromptConfig, ...]) -> Setting:
    """What all probes of an audit share; ``prompts`` are those for the sensitivity to wording."""
    return Setting(
        config.seed, config.scoring.samples, config.chains == "traces", config.hedges, prompts
    )


#: Asks a probe of all cases, whatever part of it is known already.
Parts = Callable[[str, Asker, Sequence[Case], Setting], list[Row]]


def at_once(probe: str, asker: Asker, cases: Sequence[Case], setting: Setting) -> list[Row]:
    """Parts that are not kept anywhere: for an audit inside a run."""
    return PROBES[probe](asker, cases, setting)


def ask(
    asker: Asker, pool: Pool, wanted: set[str], setting: Setting, parts: Parts = at_once
) -> tuple[Answers, list[Case]]:
    """Put probes to a model: first its own chains, then what is cut and changed in them.

    Returns:
        rows of each probe, and the cases with the chains that were examined.
    """
    cases = [Case(i, problem, asker.prompt(problem)) for i, problem in enumerate(pool)]
    found: Answers = {}
    needs_samples = "chains" in wanted or (not setting.traces and wanted - _WITHOUT_CHAINS)
    if needs_samples:
        found["chains"] = parts("chains", asker, cases, setting)
        cases = [
            replace(case, texts=tuple(row["texts"]))
            for case, row in zip(cases, found["chains"], strict=True)
        ]
    cases = [p.examined(case, asker, traces=setting.traces) for case in cases]
    for name in PROBES:
        if name in wanted and name != "chains":
            found[name] = parts(name, asker, cases, setting)
    return found, cases


#: Probes that ask the problem itself.
_WITHOUT_CHAINS = {"wordings", "perturbed", "steps"}


class _Store:
    """Parts of a model's answers in a folder: what is there is read, not asked again."""

    def __init__(
        self, out: Path, who: str, progress: Progress | None, spent: dict[str, Spent]
    ) -> None:
        self.out, self.who, self.progress, self.spent = out, who, progress, spent

    def parts(self, probe: str, asker: Asker, cases: Sequence[Case], setting: Setting) -> list[Row]:
        size = len(cases) if probe in TOGETHER else PART
        rows: list[Row] = []
        for start in range(0, len(cases), size):
            file = self.out / "parts" / f"{self.who}-{probe}-{start}.parquet"
            if not file.exists():
                if self.progress is not None:
                    self.progress(f"{self.who}: {probe}, {start} of {len(cases)} problems")
                asker.spent = Spent()
                part = PROBES[probe](asker, cases[start : start + size], setting)
                _write_rows(file, part, asker.spent)
            table = pq.read_table(file)
            noted = table.schema.metadata or {}
            total = self.spent.setdefault(probe, Spent())
            total.read += int(noted.get(b"read", 0))
            total.written += int(noted.get(b"written", 0))
            rows += table.to_pylist()
        return rows


def _write_rows(path: Path, rows: Sequence[Row], spent: Spent | None = None) -> None:
    table = pa.Table.from_pylist(list(rows))
    if spent is not None:
        noted = {"read": str(spent.read), "written": str(spent.written)}
        table = table.replace_schema_metadata(noted)
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    write_bytes(path, sink.getvalue().to_pybytes())


def arrays(answers: Answers, probes: Sequence[str]) -> dict[str, m.FloatArray]:
    """The numbers of some probes, lists padded with NaN to one length."""
    found: dict[str, m.FloatArray] = {}
    for probe in probes:
        rows = answers[probe]
        for name, first in rows[0].items():
            values = [row[name] for row in rows]
            if not isinstance(first, list):
                found[name] = np.array(values, dtype=np.float64)
                continue
            if any(isinstance(value, str) for row in values for value in row):
                continue  # texts
            longest = max(1, *(len(row) for row in values))
            found[name] = np.full((len(rows), longest), np.nan)
            for i, row in enumerate(values):
                found[name][i, : len(row)] = row
    return found


def stored(out: Path, who: str, probes: Sequence[str]) -> dict[str, m.FloatArray]:
    """The numbers of some probes of an audit that is done, from its folder.

    Args:
        out: folder of the audit.
        who: ``model`` or ``reference``.
    """
    found: Answers = {}
    for probe in probes:
        files = (out / "parts").glob(f"{who}-{probe}-*.parquet")
        ordered = sorted(files, key=lambda file: int(file.stem.rpartition("-")[2]))
        found[probe] = [row for file in ordered for row in pq.read_table(file).to_pylist()]
    return arrays(found, probes)


def compare(
    measure: Measure, answers: Answers, reference: Answers | None, rng: np.random.Generator
) -> dict[str, Any]:
    """One measure of a model: value and interval, the reference's, and the paired difference."""
    ours = arrays(answers, measure.probes)
    entry = {"name": measure.name, **_summary(measure, ours, rng)}
    entry["evidence"] = evidence(measure.name)
    if reference is not None:
        theirs = arrays(reference, measure.probes)
        entry["reference"] = _summary(measure, theirs, rng)
        both = measure.reduced(ours), measure.reduced(theirs)
        low, high = m.paired_interval(measure.of_reduced, *both, rng)
        difference = measure.statistic(ours) - measure.statistic(theirs)
        entry["difference"] = {"value": difference, "low": low, "high": high}
    return entry


def _summary(measure: Measure, a: m.Arrays, rng: np.random.Generator) -> dict[str, Any]:
    low, high = m.interval(measure.of_reduced, measure.reduced(a), rng)
    if measure.count(a) < 2:  # one problem says nothing about others
        low = high = math.nan
    return {
        "value": measure.statistic(a),
        "low": low,
        "high": high,
        "n": measure.count(a),
        "more": measure.more(a) if measure.more else {},
        "plot": measure.plot(a) if measure.plot else None,
    }


def verdict(entries: Sequence[Mapping[str, Any]]) -> str | None:
    """One sentence on accuracy and on dependence on the steps, beside the reference.

    Only differences count whose interval excludes 0, of measures that are not at chance.
    """
    by_name = {entry["name"]: entry for entry in entries if "difference" in entry}
    if not by_name:
        return None
    words = []
    if "accuracy" in by_name:
        accuracy = {1: "higher", -1: "lower", 0: "same"}[_sign(by_name["accuracy"])]
        words.append(f"{accuracy} accuracy")
    signs = {
        name: _sign(by_name[name]) * measure.dependence
        for name, measure in MEASURES.items()
        if name in by_name and measure.dependence and by_name[name]["evidence"] != "at chance"
    }
    more, less = ([name for name, sign in signs.items() if sign == s] for s in (1, -1))
    if more and less:
        words.append(f"dependence on the steps: more by {_list(more)}, less by {_list(less)}")
    elif more or less:
        direction = "more" if more else "less"
        words.append(f"{direction} dependence on its steps ({_list(more or less)})")
    elif signs:
        words.append("no difference seen in dependence on its steps")
    return ", ".join(words)


def _list(names: Sequence[str]) -> str:
    return ", ".join(MEASURES[name].title.lower() for name in names)


def _sign(entry: Mapping[str, Any]) -> int:
    low, high = (entry["difference"][end] for end in ("low", "high"))
    if low is None or math.isnan(low):
        return 0
    return 1 if low > 0 else -1 if high < 0 else 0


def forking_tokens(rows: Sequence[Row], most: int = 12) -> list[dict[str, Any]]:
    """The most frequent texts among the fifth of the tokens with the highest entropy."""
    pairs = [pair for row in rows for pair in zip(row["entropy"], row["token"], strict=True)]
    if not pairs:
        return []
    pairs.sort(key=lambda pair: -pair[0])
    counts: dict[str, int] = {}
    for _, text in pairs[: max(1, math.ceil(m.FORKING_SHARE * len(pairs)))]:
        counts[text] = counts.get(text, 0) + 1
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return [{"text": text, "count": count} for text, count in ordered[:most]]


def _finite(value: Any) -> Any:
    """NaN as None, which other readers of JSON can read."""
    if isinstance(value, Mapping):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(entry) for entry in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def plan(config: AuditConfig, pool: Pool, asker: Asker) -> list[dict[str, Any]]:
    """What an audit will cost in tokens, per probe: estimated from the reference traces.

    Args:
        asker: of the model's tokenizer; the model itself is not needed.
    """
    measures, _ = fitting(config, pool)
    traces = [asker.trace(problem) for problem in pool]
    chains = [split(text, asker.checker) for text in traces]
    cost = p.estimate(
        prompt=float(np.mean([asker.count(asker.prompt(problem)) for problem in pool])),
        trace=float(np.mean([asker.count(text) for text in traces])),
        steps=float(np.mean([len(chain.steps) for chain in chains])),
        answer=float(np.mean([asker.count(problem.answer) for problem in pool])),
        samples=config.scoring.samples,
    )
    wanted = {name for measure in measures for name in measure.probes}
    if config.chains == "sampled" and wanted - _WITHOUT_CHAINS:
        wanted.add("chains")
    models = 1 + (config.reference is not None)
    return [
        {
            "probe": name,
            "measures": [measure.name for measure in measures if name in measure.probes],
            "tokens": round(cost[name] * len(pool) * models),
        }
        for name in PROBES
        if name in wanted
    ]
