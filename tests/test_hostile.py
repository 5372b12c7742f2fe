"""Hostile input ends in one line and exit code 2, in bounded time (docs/reliability.md)."""

from __future__ import annotations

import csv
import io
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from safetensors.torch import load_file, save_file

from activeselect.cli import run
from activeselect.config import PromptConfig, RecipeConfig, RunConfig
from activeselect.data.inputs import snapshot_model
from activeselect.data.limits import memory_limit, time_limit
from activeselect.data.pool import Pool, Problem
from activeselect.data.prompts import check_texts
from activeselect.errors import ActiveSelectError, ModelError
from activeselect.study.efficiency import analyse
from activeselect.study.resampling import CurveSet
from activeselect.study.tables import curves_csv, markdown
from activeselect.training.module import load_model, load_tokenizer
from activeselect.training.stage import Stage
from tests.study.synthetic_results import synthetic_results
from tests.support import skills, small_run


def refused(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    """The one line with which a command ends."""
    code = run(list(argv))
    error = capsys.readouterr().err
    assert code == 2, error
    assert error.startswith("activeselect: ")
    assert error.count("\n") == 1, error
    assert "Traceback" not in error
    return error


# --- settings ----------------------------------------------------------------------------------

NUMBERS = [
    "recipe.learning_rate",
    "recipe.weight_decay",
    "recipe.warmup",
    "recipe.clip",
    "recipe.lora.alpha",
    "scoring.temperature",
    "scoring.tau",
    "scoring.largest_gap",
    "scoring.share",
    "rank_timeout",
]


@pytest.mark.parametrize(
    ("name", "value"),
    [(name, ".inf") for name in NUMBERS]
    + [("recipe.clip", value) for value in ("-.inf", ".nan", "1e20")]
    + [("rank_timeout", "1e20"), ("scoring.temperature", "1e20")],
)
def test_a_number_that_is_none_is_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, name: str, value: str
) -> None:
    out = tmp_path / "run"
    assert name in refused(capsys, "train", "--out", str(out), f"{name}={value}")
    assert not out.exists()


@pytest.mark.parametrize(
    ("lines", "named"),
    [
        ("strategy: null", "strategy"),
        ("strategy: ''", "strategy"),
        ("accelerator: nope", "accelerator: expected one of auto"),
        ("forecast: on", "forecast"),
        ("seed: 100000000000", "seed"),
        ("recipe: {learning_rate: .inf}", "learning_rate"),
        ("[1, 2]", ""),
        ("a: &a [*a]", "once its aliases"),
        ("{", "no YAML"),
    ],
)
def test_a_config_that_cannot_be_meant_is_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, lines: str, named: str
) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(lines + "\n")
    out = tmp_path / "run"
    assert named in refused(capsys, "train", "--config", str(file), "--out", str(out))
    assert not out.exists()


def test_an_alias_bomb_is_refused_at_once(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "bomb.yaml"
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    for level in range(1, 10):
        lines.append(f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 9)}]")
    file.write_text("\n".join(lines) + "\n")
    started = time.perf_counter()
    error = refused(capsys, "train", "--config", str(file), "--out", str(tmp_path / "run"))
    assert "aliases" in error
    assert time.perf_counter() - started < 20  # written out it has 10^10 values


def test_off_is_off_however_yaml_reads_it(tmp_path: Path) -> None:
    assert yaml.safe_load("forecast: off") == {"forecast": False}
    assert RunConfig(forecast=False) == RunConfig(forecast="off")


@pytest.mark.parametrize(
    ("out", "reason"),
    [("", "expected a path"), ("x" * 5000, "too long"), ("a\0b", "out: expected")],
)
@pytest.mark.parametrize("command", ["train", "compare"])
def test_an_out_that_no_folder_can_have_is_refused(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    command: str,
    out: str,
    reason: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert reason in refused(capsys, command, "--out", out)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "content", ["[]", "{}", '{"schema_version": 1}', '{"schema_version": 1, "curves": 3}', "x"]
)
def test_altered_results_are_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, content: str
) -> None:
    (tmp_path / "results.json").write_text(content)
    refused(capsys, "report", str(tmp_path))


ALTERED = {
    "a word for a number": (("curves", 0, "test_accuracy"), "0.5"),
    "a percentage for a share": (("curves", 0, "test_accuracy"), 50.0),
    "NaN": (("gain", 0, "gain"), float("nan")),
    "an infinity where nothing reads it": (("computed", "seconds"), float("inf")),
    "a list for a row": (("curves", 1), []),
    "an object for a table": (("selection",), {"a": 1}),
    "a list for counts": (("selection", 0, "groups"), [1]),
    "a word for a ratio": (("efficiency", 0, "ratio"), "x"),
    "an object for a verdict": (("verdicts", 0), {"a": 1}),
    "a list for the forecast": (("forecast",), [1]),
    "a column that is gone": (("curves", 0, "strategy"), None),
    "a score that is text": (("examples", 0, "premem"), "1"),
    "true for a number": (("cost", 0, "train_s"), True),
}


@pytest.mark.parametrize("case", ALTERED)
def test_altered_rows_of_results_are_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, case: str
) -> None:
    (*parents, last), value = ALTERED[case]
    results: Any = json.loads(json.dumps(synthetic_results(seeds=2), default=float))
    results["computed"] = {}
    place = results
    for name in parents:
        place = place[name]
    if value is None:
        del place[last]
    else:
        place[last] = value
    (tmp_path / "results.json").write_text(json.dumps(results))
    error = refused(capsys, "report", str(tmp_path))
    assert "results.json was altered: " in error
    assert str(last if isinstance(last, str) else parents[-1]) in error
    assert [file.name for file in tmp_path.iterdir()] == ["results.json"]


def test_results_with_a_flipped_digit_are_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    from activeselect.seals import Seals

    Seals(tmp_path).write_json(tmp_path / "results.json", {"schema_version": 1, "curves": [0.25]})
    text = (tmp_path / "results.json").read_text()
    (tmp_path / "results.json").write_text(text.replace("0.25", "0.75"))
    assert "results.json is damaged, or was altered" in refused(capsys, "report", str(tmp_path))


# --- models ------------------------------------------------------------------------------------


def test_weights_without_a_tensor_are_refused(tiny_model: Path, tmp_path: Path) -> None:
    model = shutil.copytree(tiny_model, tmp_path / "model")
    tensors = load_file(model / "model.safetensors")
    lost = "model.layers.1.mlp.up_proj.weight"
    del tensors[lost]
    save_file(tensors, model / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelError, match=rf"^The weights of .* lack the tensor '{lost}'"):
        load_model(str(model))


@pytest.mark.parametrize("content", ["{}", "[]", "{", '{"base_model_name_or_path": null}'])
def test_adapters_that_name_no_base_model_are_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "adapter_config.json").write_text(content)
    with pytest.raises(ActiveSelectError, match=r"adapter_config\.json (names no base|is damaged)"):
        snapshot_model(str(tmp_path))


def test_tied_weights_are_not_missed(tiny_model: Path, tmp_path: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    model, tokenizer = load_model(str(tiny_model))
    config = model.config
    config.tie_word_embeddings = True
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    assert "lm_head.weight" not in load_file(tmp_path / "model.safetensors")
    load_model(str(tmp_path))


@pytest.mark.parametrize(
    ("name", "value"), [("hidden_size", 10**7), ("vocab_size", 10**9), ("intermediate_size", 64)]
)
def test_a_config_that_the_weights_do_not_fit_is_refused_at_once(
    tiny_model: Path, tmp_path: Path, name: str, value: int
) -> None:
    model = shutil.copytree(tiny_model, tmp_path / "model")
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | {name: value}))
    started = time.perf_counter()
    with pytest.raises(ModelError, match=str(model)) as refused:
        load_model(str(model))
    assert "adapters" not in str(refused.value)
    assert time.perf_counter() - started < 20  # building it would take gigabytes


@pytest.mark.slow  # it waits for the ten seconds that a template is given
def test_a_chat_template_that_never_ends_is_stopped(tiny_model: Path) -> None:
    tokenizer = load_tokenizer(str(tiny_model))
    loop = "{% for i in range(99999) %}"
    tokenizer.chat_template = f"{loop}{loop}{{% endfor %}}{{% endfor %}}"
    pool = Pool.from_problems([Problem(0, "1 plus 1 ?", "1 and 1 make 2", "2")], checker="number")
    with pytest.raises(ModelError, match="chat template takes over 10 s"):
        check_texts(pool, PromptConfig(chat=True), tokenizer)


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="the limit is Linux's")
@pytest.mark.parametrize(
    "template",
    [
        "{{ 'a' * 100000000000 }}",
        "{{ 'a'.center(100000000000) }}",
        "{% set ns = namespace(x='a') %}{% for i in range(60) %}{% set ns.x = ns.x ~ ns.x %}"
        "{% endfor %}{{ ns.x }}",
    ],
    ids=["repeated", "padded", "doubled"],
)
def test_a_chat_template_that_asks_for_gigabytes_is_refused(
    tiny_model: Path, template: str
) -> None:
    tokenizer = load_tokenizer(str(tiny_model))
    tokenizer.chat_template = template
    pool = Pool.from_problems([Problem(0, "1 plus 1 ?", "1 and 1 make 2", "2")], checker="number")
    # on a busy machine, copying a gigabyte again and again meets the other limit first
    slow = " ~ " in template
    words = "asks for over 1 GiB|takes over 10 s" if slow else "asks for over 1 GiB"
    with pytest.raises(ModelError, match=f"chat template (?:{words})"):
        check_texts(pool, PromptConfig(chat=True), tokenizer)
    with pytest.raises(MemoryError), memory_limit(2**28):
        bytearray(2**29)
    assert len(bytearray(2**29)) == 2**29  # the limit went with its block


def test_a_chat_template_that_makes_a_book_of_a_problem_is_refused(tiny_model: Path) -> None:
    tokenizer = load_tokenizer(str(tiny_model))
    tokenizer.chat_template = "{{ messages[0]['content'] * 100000 }}"
    pool = Pool.from_problems([Problem(0, "1 plus 1 ?", "1 and 1 make 2", "2")], checker="number")
    with pytest.raises(ModelError, match="makes 1,000,000 characters of the 10 of one"):
        check_texts(pool, PromptConfig(chat=True), tokenizer)


def endless() -> None:
    with time_limit(0.2):
        while True:
            pass


def test_a_time_limit_ends_only_its_own_block() -> None:
    for _ in range(3):
        with pytest.raises(TimeoutError):
            endless()
    with time_limit(5):
        assert sum(range(10)) == 45
    time.sleep(0.5)


# --- reports -----------------------------------------------------------------------------------

LABELS = ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "<img src=x onerror=alert(1)>", "[a](http://b)"]


@pytest.mark.parametrize("label", LABELS)
def test_a_label_is_text_in_the_table_and_on_the_page(label: str) -> None:
    rng = np.random.default_rng(0)
    answers = {name: (rng.random((3, 2, 50)) < 0.5).astype(float) for name in ("random", label)}
    analysis = analyse(CurveSet([10, 20], answers), "random", rng=rng)
    points = [
        {"dataset": "mixed", "strategy": name, "seed": s, "budget": b, "test_accuracy": 0.5}
        for name in answers
        for s in range(3)
        for b in (10, 20)
    ]
    results: dict[str, Any] = {
        "datasets": ["mixed"],
        "curves": points,
        "efficiency": [{"dataset": "mixed", **row} for row in analysis.efficiency],
        "verdicts": analysis.verdicts,
        "config": {"baseline": "random"},
    }
    shown = {row["strategy"] for row in csv.DictReader(io.StringIO(curves_csv(results)))}
    assert not any(name.startswith(("=", "+", "-", "@", "\t")) for name in shown)
    assert label in {name.removeprefix("'") for name in shown}
    page = markdown(results, analysis.verdicts[0])
    for raw in ("<img", "[a](http"):
        assert raw not in page.replace("\\<", "").replace("\\[", "")


@pytest.mark.parametrize("examples", [1, 3])
@pytest.mark.parametrize("shared", [True, False])
def test_answers_that_do_not_vary_give_no_interval(examples: int, shared: bool) -> None:
    right = np.ones((4, 2, examples))
    half = right.copy()
    half[:, 0] = 0
    curves = CurveSet([10, 20], {"random": half, "premem": right}, shared_test=shared)
    found = analyse(curves, "random", rng=np.random.default_rng(0))
    for row in [*found.efficiency, *found.targets, *found.gain]:
        ends = row["low"], row["high"]  # an open end is None
        assert None in ends or row["low"] < row["high"], row
    assert all("interval" not in text or "no interval" in text for text in found.verdicts)


def test_one_test_question_gives_no_interval() -> None:
    rng = np.random.default_rng(0)
    answers = {name: (rng.random((5, 3, 1)) < 0.5).astype(float) for name in ("random", "premem")}
    found = analyse(CurveSet([1, 2, 3], answers, shared_test=True), "random", rng=rng)
    assert all(row["low"] is None for row in found.efficiency)


# --- training ----------------------------------------------------------------------------------


def stage_with(losses: list[float | None], rate: float) -> Stage:
    stage = Stage.__new__(Stage)
    stage.losses, stage.train = losses, np.arange(8)
    stage.config = RunConfig(recipe=RecipeConfig(learning_rate=rate, batch_size=8))
    return stage


def test_a_model_that_training_made_worse_is_warned_of() -> None:
    (text,) = stage_with([2.0, 900.0], 1000.0)._warnings(0.0)
    assert "rose from 2 to 900" in text
    assert "answers 0.0% of the test problems" in text
    assert "recipe.learning_rate (1000)" in text
    for quiet in ([2.0, 1.9], [2.0, 2.1], [None, 3.0], [0.001, 0.05]):
        assert stage_with(quiet, 1e-3)._warnings(0.5) == []


def test_the_losses_of_a_fit_are_those_before_it_and_of_its_last_epoch(
    tiny_model: Path, tmp_path: Path
) -> None:
    from activeselect.config import RoundsConfig, ScoringConfig
    from activeselect.training.run import ActiveRun

    settings = small_run(
        tiny_model,
        data=skills(40, 4),
        rounds=RoundsConfig(budgets=(16,)),
        recipe=RecipeConfig(learning_rate=3.0, epochs=2, batch_size=8),
        scoring=ScoringConfig(samples=1, max_new_tokens=4),
    )
    result = ActiveRun(settings).run(tmp_path / "run")
    assert "made the model worse" in result.warnings[0]


# --- processes ---------------------------------------------------------------------------------

PARENT = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", '''
import os, time
from activeselect.study.cell import _end_with
_end_with(os.getppid())
print(os.getpid(), flush=True)
time.sleep(600)
'''])
time.sleep(600)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="kill -9")
def test_a_worker_ends_with_its_study() -> None:
    command = [sys.executable, "-c", PARENT]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert alive(child)
        parent.kill()
        parent.wait()
    deadline = time.monotonic() + 30
    while alive(child) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not alive(child), "a worker trains on as an orphan"


def alive(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"
