"""Launch of several processes for one run, started and connected by Lightning.

Lightning starts the processes of one machine itself (each repeats the command), or finds those that
torchrun or SLURM have started. They are connected before the run writes anything; every trainer of
the run then uses the same connection.
"""

from __future__ import annotations

import logging
import signal
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any

import lightning
import torch
from lightning.fabric.strategies.ddp import DDPStrategy as Connection
from lightning.pytorch.strategies import DDPStrategy, ModelParallelStrategy

from activeselect.config import RunConfig
from activeselect.errors import ConfigError, RankError
from activeselect.scoring.distributed import rank, world_size


def check_accelerator(name: str) -> None:
    """Refuse an accelerator that this machine does not have, before anything is loaded.

    Raises:
        ConfigError: if it is not there.
    """
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    there["gpu"] = there["cuda"] or there["mps"]
    if not there.get(name, True):
        raise ConfigError(
            f"accelerator: expected one that this machine has; received {name}, and torch finds "
            "none. Use accelerator=auto or cpu."
        )


@contextmanager
def connected(config: RunConfig) -> Iterator[None]:
    """The processes that ``config`` asks for, connected; nothing where it asks for one.

    Raises:
        RankError: if a process stopped in the block, or the processes cannot be connected.
    """
    wanted = config.devices * config.num_nodes
    if wanted == 1:
        yield
        return
    fabric = lightning.Fabric(
        accelerator=config.accelerator,
        devices=config.devices,
        num_nodes=config.num_nodes,
        strategy=Connection(timeout=timedelta(seconds=config.rank_timeout)),
    )
    try:
        with _muted("lightning.fabric", "lightning.pytorch"):
            fabric.launch()
        if world_size() != wanted:
            raise RankError(
                f"devices x num_nodes: expected {wanted} processes; found {world_size()} connected."
            )
        yield
    except RuntimeError as error:
        _stop_children(fabric)
        if not _is_loss(error):
            raise
        reason = str(error).splitlines()[0][:200]
        raise RankError(
            f"Rank {rank()} lost another process of this run ({reason}). What is finished is kept; "
            "the same command continues, with as many processes or another number."
        ) from error
    except BaseException:
        _stop_children(fabric)
        raise


def strategy_of(config: RunConfig) -> Any:
    """Lightning's strategy for a trainer."""
    ranks = config.devices * config.num_nodes
    if ranks == 1:
        return "auto"
    timeout = timedelta(seconds=config.rank_timeout)
    if config.parallel == "fsdp":
        return ModelParallelStrategy(
            data_parallel_size=ranks,
            tensor_parallel_size=1,
            save_distributed_checkpoint=False,  # one file, so that the number of ranks may change
            timeout=timeout,
        )
    return DDPStrategy(timeout=timeout)


@contextmanager
def quiet() -> Iterator[None]:
    """Mute what Lightning says about hardware and workers; it is noise for a run of minutes."""
    with _muted("lightning.pytorch"), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        warnings.filterwarnings("ignore", message=".*GPU available but not used.*")
        # what is logged is the same on all ranks
        warnings.filterwarnings("ignore", message=".*when logging on epoch level in distr.*")
        # Lightning 2.6 with torch 2.13 uses a deprecated test in its own code
        warnings.filterwarnings("ignore", message=".*isinstance.treespec, LeafSpec.*")
        yield


def _is_loss(error: RuntimeError) -> bool:
    if isinstance(error, torch.distributed.DistError):
        return True
    signs = ("gloo", "NCCL", "Connection closed by peer", "Connection reset by peer")
    return any(sign in str(error) for sign in signs)


def _stop_children(fabric: Any) -> None:
    """Processes that this one started must not wait for one that has failed."""
    for process in getattr(fabric.strategy.launcher, "procs", []):
        with suppress(OSError):
            process.send_signal(getattr(signal, "SIGKILL", signal.SIGTERM))


@contextmanager
def _muted(*names: str) -> Iterator[None]:
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
