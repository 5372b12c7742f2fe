"""DataFlex beside us: the same model, problems, tokens and optimizer steps, in its own process."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import yaml

from activeselect.config import RecipeConfig
from activeselect.data.pool import Pool
from activeselect.errors import ActiveSelectError
from activeselect.training.module import resolve_model

SCORE_BATCH = 32
_CLOCK = Path(__file__).with_name("dataflex_clock.py")
_OFFLINE = {
    "DISABLE_VERSION_CHECK": "1",
    "HF_HUB_OFFLINE": "1",
    "OMP_NUM_THREADS": "1",
    "TQDM_DISABLE": "1",
}


def run_dataflex(
    python: str,
    selector: str,
    *,
    model: str,
    pool: Pool,
    end: str,
    recipe: RecipeConfig,
    steps: list[int],
    seed: int,
    where: Path,
) -> dict[str, Any]:
    """One run, as ``dataflex_clock.py`` writes it down.

    Args:
        python: interpreter that has DataFlex.
        selector: its name there.
        end: text of the end token, which its empty template does not add.
        steps: optimizer steps before its first selection and between the later ones.
        where: an empty folder; also of its cache, so that no earlier selection is found.

    Raises:
        ActiveSelectError: if it fails; the last lines of its output are shown.
    """
    where.mkdir(parents=True)
    shutil.copytree(resolve_model(model), where / "model")
    # an empty template and the end token in the text: token for token what we train on
    rows = [{"instruction": f"{p.question} ", "input": "", "output": p.trace + end} for p in pool]
    (where / "pool.json").write_text(json.dumps(rows))
    (where / "dataset_info.json").write_text(json.dumps({"pool": {"file_name": "pool.json"}}))
    params = {
        "cache_dir": str(where / "cache"),
        "score_batch_size": SCORE_BATCH,
        "score_num_workers": 0,
    }
    component = {"selectors": {selector: {"name": selector, "params": params}}}
    (where / "component.yaml").write_text(yaml.safe_dump(component))
    (where / "run.yaml").write_text(yaml.safe_dump(_settings(where, selector, recipe, steps, seed)))
    result = where / "result.json"
    command = [python, str(_CLOCK), str(where / "run.yaml"), str(result)]
    environment = {**os.environ, **_OFFLINE}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode or not result.exists():
        tail = " | ".join((done.stderr or done.stdout).strip().splitlines()[-3:])
        raise ActiveSelectError(
            f"DataFlex ({python}) stopped with code {done.returncode}: {tail}. Expected an "
            "environment as docs/research/performance.md describes it."
        )
    written: dict[str, Any] = json.loads(result.read_text())
    return written


def _settings(
    where: Path, selector: str, recipe: RecipeConfig, steps: list[int], seed: int
) -> dict[str, Any]:
    return {
        "model_name_or_path": str(where / "model"),
        "stage": "sft",
        "do_train": True,
        "finetuning_type": "full",
        "dataset_dir": str(where),
        "dataset": "pool",
        "template": "empty",
        "cutoff_len": 128,
        "use_cpu": True,
        "bf16": False,
        "report_to": "none",
        "train_type": "dynamic_select",
        "components_cfg_file": str(where / "component.yaml"),
        "component_name": selector,
        "warmup_step": steps[0],
        "update_step": steps[1],
        "update_times": len(steps) - 1,
        "num_train_epochs": 1,  # one stage: a warm-up and its selections
        "output_dir": str(where / "out"),
        "per_device_train_batch_size": recipe.batch_size,
        "gradient_accumulation_steps": 1,
        "learning_rate": recipe.learning_rate,
        "lr_scheduler_type": recipe.schedule,
        "weight_decay": recipe.weight_decay,
        "max_grad_norm": recipe.clip,
        "save_strategy": "no",
        "logging_steps": 10_000,
        "disable_tqdm": True,
        "preprocessing_num_workers": 1,
        "dataloader_num_workers": 0,
        "seed": seed,
    }
