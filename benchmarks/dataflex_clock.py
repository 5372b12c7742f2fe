"""Runs one DataFlex training and writes what its parts took; called by ``overhead.py --dataflex``.

    PYTHON benchmarks/dataflex_clock.py RUN.yaml RESULT.json

PYTHON is the interpreter of an environment that has DataFlex. Its launcher reads RUN.yaml as
``dataflex-cli train`` does; the functions that train, score and select are timed, and after each
selection, off the clock, the scores and the model that they were measured with are kept.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from clock import Clock


def main(config: str, result: str) -> None:
    import torch

    torch.set_num_threads(1)
    from dataflex import launcher

    clock, passes = Clock(), []
    where = Path(result).parent

    def keep(scores: list[float], selector: Any, positions: Any, model: Any, step: int) -> None:
        folder = where / f"model-{step}"
        model.save_pretrained(folder)
        passes.append({"model": str(folder), "scores": list(map(float, scores))})

    def watch() -> None:
        from dataflex.train.selector.delta_loss_selector import DeltaLossSelector
        from dataflex.train.selector.loss_selector import LossSelector
        from dataflex.train.trainer.select_trainer import SelectTrainer

        clock.watch(SelectTrainer, "train", "train")
        clock.watch(LossSelector, "_compute_losses", "score", keep)
        clock.watch(DeltaLossSelector, "_compute_losses", "score", keep)
        clock.watch(SelectTrainer, "dataflex_next_indices", "select")

    install = launcher.patch_trainer

    def patched(train_type: str) -> None:
        install(train_type)  # only now may its classes be imported
        watch()

    launcher.patch_trainer = patched
    sys.argv = [sys.argv[0], config]
    launcher.launch()
    written = {"cpu": clock.cpu, "wall": clock.wall, "passes": passes}
    Path(result).write_text(json.dumps(written))


if __name__ == "__main__":
    main(*sys.argv[1:3])
