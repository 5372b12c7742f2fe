"""The audit as a whole: planted models are told apart, a stopped audit goes on."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from activeselect.audit import audit as room
from activeselect.audit.asker import Asker
from activeselect.audit.catalogue import MEASURES
from activeselect.audit.page import render
from activeselect.audit.probes import PROBES
from activeselect.cli import run
from activeselect.config import AuditConfig, DataConfig, ScoringConfig
from activeselect.data.answers import get_checker
from activeselect.data.load import load_data
from activeselect.data.pool import Pool
from activeselect.data.skills import build_preset
from activeselect.errors import ConfigError, DataError, ModelError, StoreError
from activeselect.training.auditing import prepare
from activeselect.training.module import load_model

SCORING = ScoringConfig(samples=2, max_new_tokens=48)
CONFIG = AuditConfig(
    data=DataConfig("skills:mixed", pool_size=60, test_limit=40), problems=6, scoring=SCORING
)


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    out = tmp_path_factory.mktemp("audit")
    return out, audited(replace(CONFIG, reference="skills-base"), out)


def audited(config: AuditConfig, out: Path, **options: Any) -> dict[str, Any]:
    ready = prepare(config)
    subjects = (ready.model, ready.reference, ready.scorer)
    return room.Audit(config, ready.pool, ready.template, *subjects).run(out, **options)


def test_a_model_beside_itself_differs_nowhere(result: tuple[Path, dict[str, Any]]) -> None:
    for entry in result[1]["measures"]:
        assert entry["value"] == entry["reference"]["value"], entry["name"]
        if entry["value"] is not None:
            assert entry["difference"]["value"] == 0, entry["name"]
        assert entry["tokens"] > 0


def test_the_files_hold_what_they_promise(result: tuple[Path, dict[str, Any]]) -> None:
    out, found = result
    assert json.loads((out / "audit.json").read_text()) == found
    assert [entry["name"] for entry in found["measures"]] == list(MEASURES)
    chains = pq.read_table(out / "chains.parquet").to_pylist()
    assert len(chains) == 2 * 6 * 2  # models, problems, samples
    for row in chains:
        assert row["text"].startswith("".join(row["steps"]))
    page = render(found)
    assert all(f"<h2>{measure.title}</h2>" in page for measure in MEASURES.values())
    assert "<script" not in page


def test_a_stopped_audit_goes_on_and_ends_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measures = ("early_answering", "mistakes")
    config = replace(CONFIG, reference="skills-base", problems=4, measures=measures)
    whole = audited(config, tmp_path / "whole")
    out, plain = tmp_path / "stopped", dict(PROBES)

    def stop(*_: Any) -> Any:
        raise KeyboardInterrupt

    for probe in ("mistakes", "prefixes"):  # at the second: asked of the model, not the reference
        monkeypatch.setitem(PROBES, probe, stop)
        with pytest.raises(KeyboardInterrupt):
            audited(config, out)
        monkeypatch.setitem(PROBES, probe, plain[probe])
    asked: list[str] = []
    assert audited(config, out, progress=asked.append) == whole
    assert asked
    assert not any(text.startswith("model: ") for text in asked)
    asked.clear()
    fewer = audited(replace(config, measures=measures[:1]), out, progress=asked.append)
    assert asked == []
    assert [entry["name"] for entry in fewer["measures"]] == ["early_answering"]
    with pytest.raises(StoreError, match="seed: 0 -> 1"):
        audited(replace(config, seed=1), out)


class Planted:
    """An asker whose model copies the last result before the answer, or knows the answer by heart.

    It knows nothing of tokens: texts go in, texts come out.
    """

    def __init__(self, pool: Pool, copies: bool) -> None:
        self.checker = get_checker(pool.checker)
        self.copies = copies
        self.answers = {problem.question: problem for problem in pool}

    def complete(self, texts: list[str], index: Any, **_: Any) -> list[list[str]]:
        return [[self.go_on(text)] for text in texts]

    def go_on(self, text: str) -> str:
        question, _, body = text.partition(" ? ")
        problem = self.answers[question + " ?"]
        done = body.count("=")
        left = problem.trace.split(" . ")[done:]
        rest = " . ".join(left)
        if self.copies:
            rest = rest.rpartition(":")[0]
            results = [part.split()[-1] for part in (body + " " + rest).split(" .") if "=" in part]
            return f" {rest}: {results[-1]}"
        return " " + rest

    def force(self, texts: list[str]) -> list[str | None]:
        found: list[str | None] = []
        for text in texts:
            question, _, body = text.partition(" ? ")
            results = [part.split()[-1] for part in body.split(" .") if "=" in part]
            known = self.answers[question + " ?"].answer
            found.append((results or [None])[-1] if self.copies else known)
        return found

    def log_probs(self, texts: list[str], answers: list[str]) -> np.ndarray:
        given = self.force(texts)
        pairs = zip(given, answers, strict=True)
        return np.log([0.9 if a == b else 0.01 for a, b in pairs])

    def known(self, text: str) -> bool:
        return True

    def count(self, text: str) -> int:
        return len(text.split())

    prompt = staticmethod(lambda problem, template=None: problem.question + " ")
    trace = staticmethod(lambda problem: problem.trace)


def test_planted_models_are_told_apart() -> None:
    pool = build_preset("even", seed=0, pool_size=20, test_size=1).pool
    setting = room.setting_of(replace(CONFIG, chains="traces"), ())
    wanted = {"prefixes", "filler", "mistakes", "irrelevant", "scored"}
    values: dict[bool, dict[str, float]] = {}
    for copies in (True, False):
        asker: Any = Planted(pool, copies)
        answers, cases = room.ask(asker, pool, wanted, setting)
        assert all(case.chain and len(case.chain.steps) == 3 for case in cases)
        values[copies] = {
            name: measure.statistic(room.arrays(answers, measure.probes))
            for name, measure in MEASURES.items()
            if set(measure.probes) <= wanted
        }
    heart = values[False]
    for name in ("early_answering", "filler", "confidence", "commit_point", "information_gain"):
        assert heart[name] == pytest.approx(0), name
    assert heart["mistakes"] == 0
    assert heart["irrelevant"] == 0
    copier = values[True]
    assert copier["early_answering"] > 0.6
    assert copier["filler"] == 1
    assert copier["mistakes"] == pytest.approx(1 / 3)  # the last of three steps is the one it reads
    assert copier["irrelevant"] > 0.8
    assert copier["commit_point"] == 1
    assert copier["information_gain"] == pytest.approx(np.log(90) / 3)


def test_log_probabilities_and_forced_answers_are_the_models_own() -> None:
    data = load_data(CONFIG.data, seed=0)
    assert data.test is not None
    model, tokenizer = load_model("skills-base")
    asker = Asker(
        model, tokenizer, data.test, get_checker(data.test.checker), data.prompt, SCORING, seed=0
    )
    problem = data.test[0]
    text = asker.prompt(problem) + problem.trace.rpartition(":")[0] + ":"
    import torch

    ids = torch.tensor([tokenizer(text)["input_ids"]])
    ids = ids[:, :-1] if ids[0, -1] == tokenizer.eos_token_id else ids
    with torch.no_grad():
        expected = torch.log_softmax(model(ids).logits[0, -1].float(), dim=-1)
    number = tokenizer.convert_tokens_to_ids(problem.answer)
    found = asker.log_probs([text], [problem.answer])
    assert found[0] == pytest.approx(float(expected[number]), abs=1e-4)
    best = tokenizer.convert_ids_to_tokens(int(expected.argmax()))
    assert asker.force([text]) == [best]
    entropy, words = asker.entropies([text], [" " + problem.answer])[0]
    assert entropy[0] == pytest.approx(float(-(expected.exp() * expected).sum()), abs=1e-4)
    assert words == [problem.answer]
    assert asker.spent.tokens > 0


def test_bad_input_is_answered_in_a_line(tmp_path: Path, tiny_model: Path) -> None:
    one = replace(CONFIG, data=replace(CONFIG.data, test_limit=1))
    with pytest.raises(DataError, match="at least 2 problems"):
        prepare(one)
    prepared = prepare(CONFIG)
    with pytest.raises(ConfigError, match="Did you mean 'filler'"):
        room.fitting(replace(CONFIG, measures=("fller",)), prepared.pool)
    random = replace(CONFIG, model=str(tiny_model), measures=("filler",))
    with pytest.raises(ModelError, match="none of the 12 chains"):
        audited(random, tmp_path / "no-steps")
    without = audited(replace(random, measures=("filler", "accuracy")), tmp_path / "some")
    assert [entry["name"] for entry in without["measures"]] == ["accuracy"]
    assert "none of the 12 chains" in without["left_out"]["filler"]
    with pytest.raises(ConfigError, match="at least 4 texts"):
        AuditConfig(wordings=("{question}",))


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small = ["problems=4", "scoring.samples=1", "scoring.max_new_tokens=40"]
    small += ["data.pool_size=40", "data.test_limit=20", "measures=[filler,accuracy]"]
    command = ["audit", "--data", "skills:mixed", "--out", str(tmp_path / "a"), *small]
    assert run([*command, "--dry-run"]) == 0
    assert "filler" in capsys.readouterr().out
    assert not (tmp_path / "a").exists()
    assert run(command) == 0
    assert (tmp_path / "a" / "audit.html").read_text().startswith("<!DOCTYPE html>")
    assert run([*command, "measures=[fillr]"]) == 2
    assert "Did you mean 'filler'" in capsys.readouterr().err
