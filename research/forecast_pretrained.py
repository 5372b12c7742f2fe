"""Fit the regressors that ship: ``python -m research.forecast_pretrained DIR``.

Writes ``pretrained.json``: one regressor per dataset of the folder, and ``any``, fitted on all
pooled. The scores of ``any``, which set the width of its interval, are those of forecasting each
*dataset* by a regressor that saw only the others: a run on an unknown dataset is in that position.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

import activeselect.forecast
from activeselect.cli.forecast import fit_runs, provenance
from activeselect.forecast import regressor as intervals
from activeselect.forecast.evaluate import hold_out
from activeselect.forecast.live import SHIPPED
from activeselect.forecast.traces import RunTrace, datasets_in, read_traces


def shipped_models(folder: Path) -> dict[str, Any]:
    """Return the content of ``pretrained.json`` for a trace folder."""
    runs = {name: read_traces(folder, name) for name in datasets_in(folder)}
    models: dict[str, Any] = {}
    for name, mine in runs.items():
        about = f"shipped, from the paper's Llama-3-8B runs on {name}"
        models[name] = json.loads(fit_runs(mine).to_json(provenance(mine, about)))
    everything = [run for mine in runs.values() for run in mine]
    pooled = fit_runs(everything)
    pooled.scores_ = [scores for name in runs for scores in transfer_scores(runs, name)]
    pooled.least_scale_ = 0.5  # where a value is small is not known for unknown data
    about = f"shipped for unknown data, from the paper's Llama-3-8B runs on {' and '.join(runs)}"
    models["any"] = json.loads(pooled.to_json(provenance(everything, about)))
    return {
        "source": "katiekang1998/reasoning_generalization (MIT), Kang et al., arXiv 2411.07681",
        "models": models,
    }


def transfer_scores(runs: dict[str, list[RunTrace]], judged: str) -> list[list[float]]:
    """Return the scores of one dataset's runs under a regressor fitted on the other datasets."""
    others = [run for name, mine in runs.items() if name != judged for run in mine]
    result = hold_out(others, runs[judged])
    scale = intervals.scale_of(result.forecast, in_unit_interval=True)
    score = (result.actual - result.forecast) / scale
    names = np.array(result.run)
    return [score[names == name].tolist() for name in dict.fromkeys(result.run)]


if __name__ == "__main__":
    target = Path(activeselect.forecast.__file__).with_name(SHIPPED)
    target.write_text(json.dumps(shipped_models(Path(sys.argv[1])), indent=1) + "\n", "utf-8")
