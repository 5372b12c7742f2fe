"""Opened folders: frames that say what the files say, and charts in one call."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

import activeselect
from activeselect import open_run, open_study
from activeselect.cli import run as command
from activeselect.config import DataConfig, RoundsConfig, RunConfig, to_plain
from activeselect.data.load import load_data
from activeselect.data.pool import Pool
from activeselect.errors import StoreError
from activeselect.scoring.store import ScoreStore
from activeselect.study.card import push_to_hub
from activeselect.study.opened import OpenedRun, OpenedStudy
from activeselect.study.theme import spec_of, svg_text

CONFIG = RunConfig(
    data=DataConfig("skills:mixed", pool_size=40, test_limit=5),
    strategy={"name": "premem", "threshold": 0.5},
    rounds=RoundsConfig(budgets=(6, 10)),
)


@pytest.fixture(scope="module")
def pool() -> Pool:
    return load_data(CONFIG.data, seed=CONFIG.seed).pool


@pytest.fixture(scope="module")
def folder(pool: Pool, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder as a run leaves it, without the training."""
    path = tmp_path_factory.mktemp("run")
    store = ScoreStore(path / "scores", pool.fingerprint, pool_size=len(pool))
    scored = [[3, 1, 7, 20, 21, 39], [3, 1, 7, 20, 21, 39, 0, 2, 4, 5]]
    for number, index in enumerate(scored):
        accuracy = [((number + 1) * i % 5) / 4 for i in index]
        row = {"index": index, "stage": [number] * len(index), "epoch": [2] * len(index)}
        row |= {"accuracy": accuracy, "premem": [value / 2 for value in accuracy]}
        row |= {"correct": [[value > 0.5, False] for value in accuracy]}
        store.append(number, row | ({"mean_nll": [0.5] * len(index)} if number else {}))
    curve = []
    for stage, index in enumerate(scored):
        names = [pool[i].group for i in index]
        cost = {"train_s": 2.0 * (stage + 1), "score_s": 1.0, "tokens_trained": 100}
        curve.append(
            {"stage": stage, "budget": len(index), "unique_examples": len(index)}
            | {"test_accuracy": 0.4 + 0.2 * stage, "test_examples": 5, "samples_seen": 9}
            | {"forecast": {"value": 0.5, "low": 0.4, "high": 0.6} if stage else None}
            | {"groups": {name: names.count(name) for name in sorted(set(names))}, "cost": cost}
        )
    result = {"schema_version": 1, "config": to_plain(CONFIG), "curve": curve}
    result |= {"cost": curve[-1]["cost"], "pool_fingerprint": pool.fingerprint}
    (path / "result.json").write_text(json.dumps(result))
    return path


@pytest.fixture(scope="module")
def run(folder: Path) -> OpenedRun:
    return open_run(folder)


@pytest.fixture
def study(results: dict[str, Any], tmp_path: Path) -> OpenedStudy:
    (tmp_path / "results.json").write_text(json.dumps(results))
    return open_study(tmp_path)


def test_scores_hold_text_round_and_every_signal(run: OpenedRun, pool: Pool) -> None:
    scores = run.scores
    assert len(scores) == 16
    assert list(scores.columns[:4]) == ["round", "stage", "epoch", "index"]
    assert {"question", "trace", "answer", "group", "accuracy", "premem", "correct"} <= {*scores}
    for row in scores.itertuples():
        problem = pool[row.index]
        assert (row.question, row.trace) == (problem.question, problem.trace)
    assert np.isnan(scores["mean_nll"][scores["round"] == 0]).all()
    assert (scores["mean_nll"][scores["round"] == 1] == 0.5).all()


def test_rounds_are_means_over_the_scored_examples(run: OpenedRun) -> None:
    rounds = run.rounds
    assert list(rounds["scored"]) == [6, 10]
    second = run.scores[run.scores["round"] == 1]
    assert rounds["accuracy"][1] == pytest.approx(second["accuracy"].mean())
    assert list(rounds["stage"]) == [0, 1]


def test_selections_curve_and_cost_are_those_of_the_result(run: OpenedRun) -> None:
    by_stage = run.selections.groupby("stage")[["examples", "new"]].sum()
    assert list(by_stage["examples"]) == [6, 10]
    assert list(by_stage["new"]) == [6, 4]
    assert list(run.curve["test_accuracy"]) == pytest.approx([0.4, 0.6])
    assert run.curve["forecast_value"][1] == 0.5
    assert list(run.curve["train_s"]) == [2.0, 4.0]
    assert run.cost["train_s"] == 4.0


def test_charts_of_a_run_draw(run: OpenedRun) -> None:
    for chart in (run.plot.curve(), run.plot.data_map(), run.plot.selected()):
        assert chart.to_dict(validate=True)["datasets"]
    assert ">premem  60%<" in svg_text(run.plot.curve())
    cells = spec_of(run.plot.selected())["datasets"]["cells"]
    assert sum(cell["count"] for cell in cells if cell["column"] == "10") == 4


def test_reading_leaves_no_file(folder: Path, run: OpenedRun) -> None:
    run.plot.data_map()
    assert {path.name for path in folder.iterdir()} == {"result.json", "scores"}


def test_a_run_shows_itself(run: OpenedRun) -> None:
    assert repr(run).startswith("Run('premem', 10 examples, test accuracy 0.600, ")
    html = run._repr_html_()
    assert "<table" in html
    assert "0.600" in html


def test_a_run_without_test_set_or_scores_says_what_is_missing(folder: Path) -> None:
    result = json.loads((folder / "result.json").read_text())
    for entry in result["curve"]:
        entry["test_accuracy"] = None
    bare = OpenedRun(folder / "absent", result)
    assert "not tested" in repr(bare)
    assert len(bare.scores) == 0
    with pytest.raises(StoreError, match="needs a test set"):
        bare.plot.curve()
    with pytest.raises(StoreError, match="needs scores"):
        bare.plot.data_map()
    bare.plot.selected()


def test_folders_that_hold_nothing_are_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="a folder without a run"):
        open_run(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(StoreError, match="a run that has not finished"):
        open_run(tmp_path)
    with pytest.raises(StoreError, match="expected the folder of a study"):
        open_study(tmp_path)


def test_frames_of_a_study(study: OpenedStudy, results: dict[str, Any]) -> None:
    assert study.datasets == ["mixed", "even", "trap"]
    curve = study.curve
    assert len(curve) == len(results["curves"])
    assert "seconds" in curve
    assert "costs" not in curve
    assert len(study.efficiency) == len(results["efficiency"])
    assert len(study.scores) == len(results["data_map"])
    assert len(study.cost) == len(results["cost"])
    counted = study.selections.groupby(["dataset", "strategy", "seed", "budget"])["examples"].sum()
    assert (counted == counted.index.get_level_values("budget")).all()
    one = study.rounds.iloc[0]
    own = study.scores[(study.scores["dataset"] == "mixed") & (study.scores["round"] == 0)]
    assert one["accuracy"] == pytest.approx(np.average(own["accuracy"], weights=own["scored"]))
    assert study.runs() == []


def test_charts_of_a_study_draw(study: OpenedStudy) -> None:
    plot = study.plot
    for draw in (plot.curve, plot.efficiency, plot.data_map, plot.selected, plot.cost):
        assert spec_of(draw())["title"].endswith(" on mixed")
    assert spec_of(plot.forecast("trap"))["title"].endswith(" on trap")
    with pytest.raises(StoreError, match="expected one of mixed, even, trap; received 'x'"):
        plot.curve("x")


def test_a_study_shows_itself(study: OpenedStudy) -> None:
    assert repr(study).startswith("Study(mixed, even, trap; random, premem, oracle; 5 seeds; ")
    assert study._repr_html_().count("<li>") == min(12, len(study.verdicts))


def test_names_are_public() -> None:
    assert {"open_run", "open_study"} <= set(activeselect.__all__)


class Hub:
    """Stands in for ``huggingface_hub.HfApi``: keeps what it is given."""

    def __init__(self) -> None:
        self.created: dict[str, Any] = {}
        self.files: dict[str, str] = {}

    def create_repo(self, repo_id: str, **settings: Any) -> None:
        self.created = {"repo_id": repo_id, **settings}

    def upload_folder(self, *, repo_id: str, folder_path: str, **_: Any) -> str:
        self.files = {file.name: file.read_text() for file in Path(folder_path).iterdir()}
        return f"https://hub/{repo_id}"


@pytest.fixture
def kept(run: OpenedRun, tmp_path: Path) -> OpenedRun:
    """The same run with a model folder, and a model that came from a folder of this machine."""
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text("{}")
    (model / "model.safetensors").write_text("weights")
    config = dict(run.result["config"]) | {"model": "/home/somebody/secret/base-model"}
    return OpenedRun(tmp_path, {**run.result, "config": config})


def test_a_card_says_data_selection_scores_and_how_to_repeat(run: OpenedRun) -> None:
    card = run.model_card()
    head, body = card.removeprefix("---\n").split("---\n", 1)
    metadata = yaml.safe_load(head)
    assert metadata["tags"] == ["activeselect", "data-selection", "premem"]
    assert metadata["model-index"][0]["results"][0]["metrics"][0]["value"] == 0.6
    for title in ("Data", "Selection", "Scores", "Cost", "How to repeat it"):
        assert f"\n## {title}\n" in body
    assert f"`{run.result['pool_fingerprint']}`" in body
    assert "| 10 | 9 | 0.600 | 5 |" in body
    last = run.scores[run.scores["round"] == 1]
    assert f"| accuracy of the samples | {last['accuracy'].mean():.3f} |" in body
    settings = yaml.safe_load(body.split("```yaml\n")[1].split("```")[0])["config"]
    assert settings["strategy"] == run.result["config"]["strategy"]
    assert settings["rounds"]["budgets"] == [6, 10]
    assert "recipe" not in settings  # as it is by default


def test_a_card_holds_no_text_of_the_data_and_no_folder_of_the_machine(kept: OpenedRun) -> None:
    card = kept.model_card()
    assert "somebody" not in card
    assert "`base-model`" in card
    for problem in kept.pool:
        assert problem.question not in card


def test_the_model_is_uploaded_with_its_card(kept: OpenedRun) -> None:
    hub = Hub()
    assert push_to_hub(kept, "me/model", api=hub) == "https://hub/me/model"
    assert hub.created["repo_id"] == "me/model"
    assert hub.created["private"] is True
    assert hub.files == {
        "config.json": "{}",
        "model.safetensors": "weights",
        "README.md": kept.model_card(),
    }


def test_without_a_model_nothing_is_uploaded(run: OpenedRun) -> None:
    hub = Hub()
    with pytest.raises(StoreError, match="save_model: true"):
        push_to_hub(run, "me/model", api=hub)
    assert hub.created == {}


def test_a_model_is_pushed_by_command_and_its_card_can_be_read_before(
    kept: OpenedRun, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = Hub()
    monkeypatch.setattr("huggingface_hub.HfApi", lambda token=None: hub)
    monkeypatch.setattr("activeselect.study.opened.open_run", lambda _: kept)
    assert command(["push", str(kept.path), "me/model", "--dry-run"]) == 0
    assert (kept.path / "model_card.md").read_text() == kept.model_card()
    assert hub.created == {}
    assert command(["push", str(kept.path), "me/model", "--public"]) == 0
    assert "Uploaded: https://hub/me/model" in capsys.readouterr().out
    assert hub.created["private"] is False
    assert command(["push", str(kept.path), "model"]) == 2
    assert "repo: expected USER/NAME" in capsys.readouterr().err

    def refuse(*_: object, **__: object) -> None:
        raise OSError("401 Client Error:\n  no token")

    monkeypatch.setattr(hub, "create_repo", refuse)
    assert command(["push", str(kept.path), "me/model"]) == 2
    error = capsys.readouterr().err
    assert "The hub did not take me/model (401 Client Error: no token)" in error
