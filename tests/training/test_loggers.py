"""Loggers: the same names everywhere, and a missing package in one line."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from activeselect.config import RoundsConfig, RunConfig, ScoringConfig
from activeselect.errors import ConfigError
from activeselect.training import loggers
from activeselect.training.loggers import checked_loggers
from activeselect.training.run import ActiveRun
from tests.support import RECIPE, skills, small_run


def small(model: Path) -> RunConfig:
    return small_run(
        model,
        data=skills(60, 10),
        rounds=RoundsConfig(budgets=(8,)),
        recipe=replace(RECIPE, epochs=1),
        scoring=ScoringConfig(samples=1, max_new_tokens=4),
        strategy="premem",
    )


def test_csv_is_always_there_and_once() -> None:
    assert checked_loggers([]) == ("csv",)
    assert checked_loggers(["csv"]) == ("csv",)


def test_an_unknown_logger_gets_the_nearest_name() -> None:
    with pytest.raises(ConfigError, match="Did you mean 'wandb'"):
        checked_loggers(["wandbb"])


@pytest.mark.parametrize("name", ["tensorboard", "wandb", "mlflow"])
def test_a_missing_package_names_the_extra(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loggers, "find_spec", lambda package: None)
    with pytest.raises(ConfigError, match=rf"pip install 'activeselect\[{name}\]'"):
        checked_loggers([name])


def test_nothing_is_begun_for_a_logger_that_cannot_be(tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        ActiveRun(small(tiny_model)).run(tmp_path / "run", loggers=["nowhere"])
    assert not (tmp_path / "run").exists()


def test_tensorboard_receives_the_names_of_the_csv(tiny_model: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    ActiveRun(small(tiny_model)).run(tmp_path / "run", loggers=["tensorboard"])
    folder = next((tmp_path / "run" / "tensorboard").glob("stage-0.*"))
    events = EventAccumulator(str(folder))
    events.Reload()
    header = (tmp_path / "run" / "metrics.csv").read_text().splitlines()[0].split(",")
    assert set(events.Tags()["scalars"]) - {"hp_metric"} == set(header) - {"stage", "step"}


def test_every_logger_is_lightnings_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    made: list[tuple[str, dict[str, Any]]] = []
    for name in ("CSVLogger", "TensorBoardLogger", "WandbLogger", "MLFlowLogger"):

        def make(*args: Any, _name: str = name, **kwargs: Any) -> str:
            made.append((_name, kwargs))
            return _name

        monkeypatch.setattr(loggers, name, make)
    names = ("csv", "tensorboard", "wandb", "mlflow")
    found = loggers.make_loggers(names, tmp_path / "run", "stage-1.0")
    assert found == ["CSVLogger", "TensorBoardLogger", "WandbLogger", "MLFlowLogger"]
    assert dict(made)["WandbLogger"]["name"] == "run-stage-1.0"
    assert dict(made)["MLFlowLogger"]["run_name"] == "run-stage-1.0"
    assert "wandb" not in sys.modules
