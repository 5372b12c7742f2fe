"""Loggers of a run's metrics: the same names to every logger, through Lightning's own classes."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import CSVLogger, MLFlowLogger, TensorBoardLogger, WandbLogger

from activeselect.errors import ConfigError, did_you_mean

PROJECT = "activeselect"


def _csv(folder: Path, version: str) -> Any:
    return CSVLogger(folder, name="logs", version=version)


def _tensorboard(folder: Path, version: str) -> Any:
    return TensorBoardLogger(folder, name="tensorboard", version=version)


def _wandb(folder: Path, version: str) -> Any:
    run = f"{folder.name}-{version}"
    return WandbLogger(project=PROJECT, name=run, group=folder.name, save_dir=folder)


def _mlflow(folder: Path, version: str) -> Any:
    # MLFLOW_TRACKING_URI decides where to, as in any program with MLflow; else a database in the
    # run folder (MLflow has given up its store of plain files)
    here = f"sqlite:///{(folder / 'mlflow.db').resolve()}"
    return MLFlowLogger(
        experiment_name=PROJECT,
        run_name=f"{folder.name}-{version}",
        tracking_uri=os.environ.get("MLFLOW_TRACKING_URI", here),
    )


#: Name -> (package that must be installed, maker); the extra is called like the logger.
_KINDS: dict[str, tuple[str | None, Callable[[Path, str], Any]]] = {
    "csv": (None, _csv),
    "tensorboard": ("tensorboard", _tensorboard),
    "wandb": ("wandb", _wandb),
    "mlflow": ("mlflow", _mlflow),
}


def checked_loggers(names: Sequence[str]) -> tuple[str, ...]:
    """The loggers of a run, CSV always among them.

    Raises:
        ConfigError: if a name is unknown, or its package is not installed.

    Example:
        >>> checked_loggers(["csv"])
        ('csv',)
    """
    for name in names:
        if name not in _KINDS:
            raise ConfigError(f"loggers: there is no '{name}'. {did_you_mean(name, _KINDS)}")
        package = _KINDS[name][0]
        if package is not None and find_spec(package) is None:
            raise ConfigError(
                f"loggers: '{name}' needs a package that is not installed; "
                f"pip install 'activeselect[{name}]', or leave it out."
            )
    return tuple(dict.fromkeys(["csv", *names]))


def make_loggers(names: Sequence[str], folder: Path, version: str) -> list[Any]:
    """Lightning's loggers for one fit.

    Args:
        names: of the loggers, as :func:`checked_loggers` returns them.
        folder: the run's.
        version: of the fit; a stage that is resumed has a new one.
    """
    return [_KINDS[name][1](folder, version) for name in names]


def close_loggers(loggers: Sequence[Any]) -> None:
    """End what would go on into the next fit: Weights & Biases has one run per process."""
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            logger.experiment.finish()
