"""The command line as a user meets it: messages in one line, exit codes, and no traceback."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any, get_type_hints

import pytest

from activeselect.cli import prepare, run
from activeselect.cli.commands import COMMANDS
from activeselect.cli.help import explained
from activeselect.config import DataConfig, RecipeConfig, StudyConfig
from activeselect.errors import ConfigError
from activeselect.study.plan import dataset_names, plan


def outcome(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, str]:
    code = run(list(argv))
    captured = capsys.readouterr()
    return code, captured.err if code else captured.out


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["strategy=premm"], "There is no strategy 'premm'. Did you mean 'premem'?"),
        (["data.source=/nowhere/x.jsonl"], "There is no file or folder /nowhere/x.jsonl"),
        (["data.source=skills:mixd"], "Did you mean 'mixed'?"),
        (["model=/nowhere/model"], "There is no model folder '/nowhere/model'"),
        (["recipe.epoch=3"], "There is no setting 'recipe.epoch'. Did you mean 'epochs'?"),
        (["recipe.lora.rnk=3"], "There is no setting 'recipe.lora.rnk'. Did you mean 'rank'?"),
        (["recipe.lor.rank=3"], "There is no setting 'recipe.lor.rank'. Did you mean 'lora'?"),
        (["recipe.lora.targets=q_prj"], "no module is called 'q_prj'. Did you mean 'q_proj'?"),
        (["recipe.freeze=model.layer"], "called 'model.layer'. Did you mean 'model.layers'?"),
        (["prompt=gsmk"], "There is no prompt 'gsmk'. Did you mean 'gsm8k'?"),
        (["prompt.prompt=abc"], "prompt.prompt: expected a text with {question}; received 'abc'."),
        (["prompt.shots=x"], "prompt.shots: expected a whole number; received x."),
        (["prompt.shots=8000"], "prompt.shots: expected less than the 8000 labelled problems"),
        (
            ["prompt=chat"],
            "The tokenizer has no chat template; use the tokenizer of an instruction",
        ),
        (["prompt.stop=['answer :']"], "occurs inside the trace of problem"),
        (["strategi=random"], "There is no setting 'strategi'. Did you mean 'strategy'?"),
        (["recipe.learning_rate=fast"], "recipe.learning_rate: expected a number; received fast."),
        (["rounds.mode=acquire", "rounds.budgets=[-5]"], "expected positive numbers"),
        (["rounds.mode=acquire", "rounds.budgets=[9,99999]"], "the pool has 8000 problems"),
        (["data.limit=x"], "data.limit: expected a whole number"),
        (["data.on_leak=x"], "data.on_leak: expected one of 'stop', 'drop', 'keep'; received x."),
        (
            ["recipe=3"],
            "recipe: expected settings by name, or a file of them; received 3.",
        ),
        (["recipe.lora={rank:8"], "recipe.lora: expected settings by name, or a file of them"),
        ([f"strategy={'{' * 1200}{'}' * 1200}"], ""),
        (["scoring.samples=0"], "scoring.samples: expected at least 1; received 0."),
        (["forecast=gsm9k"], "Did you mean 'gsm8k'?"),
    ],
)
def test_a_mistake_in_train_is_one_line_and_exit_code_2(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, argv: list[str], message: str
) -> None:
    code, error = outcome(capsys, "train", "--out", str(tmp_path / "run"), *argv)
    assert code == 2
    assert message in error
    assert error.startswith("activeselect: ")
    assert "Traceback" not in error
    assert not (tmp_path / "run").exists()  # nothing was begun


def test_a_missing_column_names_the_columns_there_are(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "mine.jsonl"
    file.write_text('{"question": "1 + 1 ?", "steps": "2"}\n')
    argv = [f"data.source={file}", "data.question=question", "data.trace=step", "data.test=none"]
    argv += ["data.checker=number"]
    code, error = outcome(capsys, "train", "--out", str(tmp_path / "run"), *argv)
    assert code == 2
    assert "has no column 'step'" in error
    assert "Did you mean 'steps'?" in error


def test_a_single_file_is_never_its_own_test_set(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "mine.jsonl"
    file.write_text('{"question": "1 + 1 ?", "trace": "2"}\n')
    argv = [f"data.source={file}", "data.checker=number"]
    code, error = outcome(capsys, "train", "--out", str(tmp_path / "run"), *argv)
    assert code == 2
    assert "data.test=none" in error


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("recipee: {epochs: 2}\n", "There is no setting 'recipee.epochs'. Did you mean 'recipe'?"),
        ("recipe: {epochs: 0}\n", "recipe.epochs: expected at least 1; received 0."),
        ("recipe: {epochs: [\n", "bad.yaml is no YAML that can be read"),
    ],
)
def test_a_mistake_in_a_config_file(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, text: str, message: str
) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text(text)
    code, error = outcome(capsys, "compare", "--config", str(file), "--out", str(tmp_path / "x"))
    assert code == 2
    assert message in error


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("rounds: [1]", "rounds: expected settings by name in"),
        ("rounds:", "received nothing"),
        ("recipe: 3", "recipe: expected settings by name in"),  # once it was ignored
        ("recipe: {lora: [1]}", "recipe.lora: expected settings by name in"),
        ("scoring: [samples]", "such as {samples: ...}; received ['samples']"),
        ("data: [{source: 'skills:mixed'}]", "data: expected one dataset in"),
    ],
)
def test_a_section_that_holds_no_settings(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, line: str, message: str
) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(f"strategy: random\n{line}\n")
    code, error = outcome(capsys, "train", "--config", str(file), "--out", str(tmp_path / "x"))
    assert code == 2
    assert message in error
    assert error.count("\n") == 1
    if line.startswith(("recipe: 3", "scoring")):  # a search reads the same file in its own way
        file.write_text(f"data: {{source: 'skills:mixed'}}\n{line}\n")
        code, error = outcome(capsys, "tune", "--config", str(file), "--out", str(tmp_path / "x"))
        assert code == 2
        assert "expected settings by name" in error
        assert "functools" not in error


def test_an_unknown_config_name_lists_the_shipped_ones(capsys: pytest.CaptureFixture[str]) -> None:
    code, error = outcome(capsys, "compare", "--config", "quickstrat", "--out", "x")
    assert code == 2
    assert "Did you mean 'quickstart'?" in error


def test_a_baseline_that_is_not_compared_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    code, error = outcome(
        capsys, "compare", "--config", "quickstart", "--out", "x", "baseline=best"
    )
    assert code == 2
    assert "baseline: expected one of the strategies" in error


def test_strategies_as_a_table_and_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    code, table = outcome(capsys, "strategies")
    assert code == 0
    assert "premem" in table
    code, text = outcome(capsys, "strategies", "--json")
    assert {row["name"] for row in json.loads(text)} >= {"random", "premem", "oracle"}
    code, card = outcome(capsys, "strategies", "show", "premem")
    assert "Source: Kang et al." in card
    code, error = outcome(capsys, "strategies", "show", "prem")
    assert code == 2
    assert "Did you mean 'premem'?" in error


@pytest.mark.parametrize(
    ("strategy", "message"),
    [
        ("{name: mixtur, parts: []}", "Did you mean 'mixture'?"),
        ("{name: filter, by: dynamc, then: premem}", "Did you mean 'dynamic'?"),
        ("{name: filter, by: dynamic, then: {name: loss, sharpnes: 2}}", "mean 'sharpness'?"),
        ("{name: mixture, parts: [{share: 2, strategy: random}]}", "expected a share in (0, 1]"),
        ("{name: schedule, steps: {1: random}}", "expected a step 0 to begin with"),
        ("rho-loss", "reference: expected the path or hub id"),
    ],
)
def test_a_mistake_in_a_composition_is_one_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, strategy: str, message: str
) -> None:
    code, error = outcome(capsys, "train", "--out", str(tmp_path / "run"), f"strategy={strategy}")
    assert code == 2
    assert message in error
    assert len(error.strip().splitlines()) == 1
    assert not (tmp_path / "run").exists()


def test_the_list_says_what_each_strategy_requires_and_costs(
    capsys: pytest.CaptureFixture[str],
) -> None:
    _, text = outcome(capsys, "strategies", "--json")
    rows = {row["name"]: row for row in json.loads(text)}
    assert (rows["premem"]["requires"], rows["premem"]["cost"]) == (["premem"], 6)
    assert (rows["perplexity"]["requires"], rows["perplexity"]["cost"]) == (["mean_nll"], 1)
    assert (rows["rho-loss"]["requires"], rows["rho-loss"]["cost"]) == (
        ["loss", "reference_loss"],
        2,
    )
    assert (rows["random"]["requires"], rows["random"]["cost"]) == ([], 0)
    assert (rows["mixture"]["requires"], rows["mixture"]["cost"]) == (None, None)
    _, card = outcome(capsys, "strategies", "show", "rho-loss")
    assert "In a config: {name: rho-loss, reference: null, keep: 0.5}" in card
    _, card = outcome(capsys, "strategies", "show", "filter")
    assert "In a config: {name: filter, by: ..., then: ..., keep: 0.5}" in card


def test_help_and_a_typo_wait_for_no_heavy_import() -> None:
    heavy = {"torch", "sklearn", "scipy", "pyarrow", "transformers", "lightning", "datasets"}
    for words in (["--help"], ["train", "--help-all"], ["train", "modle=x"], ["forecast", "-h"]):
        code = (
            f"import sys; from activeselect.cli import run; run({words});"
            f"print(sorted({heavy} & set(sys.modules)), file=sys.stderr)"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert done.stderr.splitlines()[-1] == "[]", words


def _leaves(tree: dict[str, Any] = COMMANDS, above: str = "") -> list[tuple[str, Any]]:
    found = []
    for name, entry in tree.items():
        full = f"{above} {name}".strip()
        found += _leaves(entry, full) if isinstance(entry, dict) else [(full, entry)]
    return found


@pytest.mark.parametrize(("name", "function"), _leaves())
def test_help_fits_a_terminal_and_explains_everything(
    name: str, function: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    for word in ("--help", "--help-all"):
        code, text = outcome(capsys, *name.split(), word)
        assert code == 0
        assert max(len(line) for line in text.splitlines()) <= 80
        if word == "--help":
            assert len(text.splitlines()) <= 90
        # a name is never the end of what is said about it
        names = [line for line in text.splitlines() if re.match(r"  \S+\s*$", line)]
        after = dict(pairwise(text.splitlines()))
        assert all(re.match(r"\s{6,}\S", after[line]) for line in names), names
    for key in (key for key in get_type_hints(function) if key not in ("return", "config")):
        assert explained(function).get(key), f"{name} does not say what {key} is"


@pytest.mark.parametrize("word", ["--dry-run", "--dry_run", "dry_run=true", "--dry-run=true"])
def test_a_plan_is_printed_however_it_is_asked_for(
    word: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    argv = ["score", "--out", str(tmp_path / "scores"), "data.pool_size=40", "shard=2/4", word]
    code, text = outcome(capsys, *argv, "scoring.samples=2")
    assert code == 0
    assert "10 examples of the 40 in this pool; checkpoints: 1, 1 of them to score." in text
    assert "(20 completions as long as" in text
    assert not (tmp_path / "scores").exists()


def test_a_mapping_may_leave_out_the_space(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    argv = ["train", "--out", str(tmp_path / "run")]
    code, error = outcome(capsys, *argv, "recipe.lora={rank:0}")
    assert code == 2
    assert "recipe.lora.rank: expected at least 1; received 0." in error
    code, error = outcome(capsys, *argv, "strategy={name:premm}")
    assert "There is no strategy 'premm'." in error


@pytest.mark.parametrize("command", ["prompt show", "train"])
def test_a_config_of_another_command_is_named(
    command: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "study.yaml"
    file.write_text("strategies: {random: random}\nseeds: [1, 2]\n")
    out = ["--out", str(tmp_path / "out")] if command == "train" else []
    code, error = outcome(capsys, *command.split(), "--config", str(file), *out)
    assert code == 2
    assert "study.yaml is a config of `activeselect compare` (it sets seeds, strategies)" in error
    file.write_text("data: [{source: 'skills:mixed', name: easy}]\n")
    code, error = outcome(capsys, *command.split(), "--config", str(file), *out)
    assert "(its data is a list)" in error


def test_a_dataset_of_a_study_has_the_name_it_was_given(tmp_path: Path) -> None:
    data = [DataConfig(name="easy"), DataConfig(), DataConfig()]
    study = StudyConfig(data=tuple(data), recipe=RecipeConfig(), seeds=(0,))
    assert dataset_names(study.data) == ["easy", "mixed", "mixed-2"]
    assert {cell.dataset for cell in plan(study)} == {"easy", "mixed", "mixed-2"}
    assert {cell.config.data for cell in plan(study)} == {DataConfig()}
    with pytest.raises(ConfigError, match="a name of its own for each dataset"):
        dataset_names([DataConfig(name="a"), DataConfig(name="a")])
    with pytest.raises(ConfigError, match=r"data\.name"):
        DataConfig(name="a/b")


def test_a_shell_completes_commands_and_settings(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    _, text = outcome(capsys, "completion", "bash")
    (tmp_path / "script").write_text(text)
    ask = (
        f"source {tmp_path / 'script'}; COMP_WORDS=(activeselect $@); COMP_CWORD=$#; "
        '_activeselect; echo "${COMPREPLY[@]}"'
    )

    def completed(*words: str) -> list[str]:
        done = subprocess.run(
            ["bash", "-c", ask, "bash", *words], capture_output=True, text=True, check=True
        )
        return done.stdout.split()

    assert completed("tr") == ["train"]
    assert completed("train", "recipe.ep") == ["recipe.epochs="]
    assert completed("score", "--dry") == ["--dry-run"]
    assert "quickstart" in completed("compare", "--config", "quick")
    assert completed("forecast", "ev") == ["evaluate"]


def test_assignments_become_options_and_values_stay_values() -> None:
    assert prepare(["train", "model=a", "--out", "b=c", "recipe.epochs=2"]) == [
        "train",
        "--model=a",
        "--out",
        "b=c",
        "--recipe.epochs=2",
    ]


def test_listing_strategies_does_not_wait_for_torch() -> None:
    code = (
        "import sys; from activeselect.cli import run; run(['strategies', '--json']);"
        "sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


def test_every_shipped_config_composes(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    configs = Path(__file__).parents[1] / "configs"
    for file in sorted(configs.glob("*.yaml")):
        command = file.read_text().splitlines()[0].split()[2]
        argv = [command, "--config", file.stem, "--out", str(tmp_path), "--print_config"]
        with pytest.raises(SystemExit) as stopped:
            run(argv)
        assert stopped.value.code == 0, file
        assert "learning_rate" in capsys.readouterr().out or command == "compare"


def test_the_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    assert capsys.readouterr().out.split() == ["activeselect", version("activeselect")]


def test_without_a_terminal_a_run_says_a_line_per_epoch(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["train", "--out", str(tmp_path / "run"), "--data", "skills:mixed"]
    words += ["data.pool_size=40", "data.test_limit=4", "rounds.mode=acquire"]
    words += ["rounds.budgets=[8,12]", "recipe.epochs=2", "recipe.batch_size=4"]
    words += ["scoring.samples=1", "scoring.max_new_tokens=4", "save_model=false"]
    assert run(words) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if ", epoch " in line]
    assert len(lines) == 4
    assert re.match(r"\d\d:\d\d:\d\d stage 1 of 2, epoch 1 of 2, loss \d+\.\d{3}, scored", lines[0])
    assert "32 of 40 examples left" in lines[0]
    assert "left" not in lines[-1]
    assert run([*words, "--quiet"]) == 0
    assert capsys.readouterr().out == ""
    assert run([*words, "--json"]) == 0
    assert [e["budget"] for e in json.loads(capsys.readouterr().out)["curve"]] == [8, 12]
