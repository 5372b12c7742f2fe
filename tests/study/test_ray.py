"""A study fans out over Ray workers and gives what this machine alone gives."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from activeselect.errors import ConfigError
from activeselect.study.study import side_by_side

STUDY = {
    "data": [{"source": "skills:mixed", "pool_size": 200, "test_limit": 30}],
    "strategies": {"random": "random", "premem": "premem"},
    "seeds": [0, 1],
    "rounds": {"budgets": [16, 32], "score_until": 1},
    "recipe": {"learning_rate": 1e-3, "epochs": 1, "batch_size": 8},
    "scoring": {"samples": 2, "max_new_tokens": 12},
    "workers": 2,
}


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="activeselect[ray] is absent")
def test_two_ray_workers_give_the_same_curves(tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(STUDY))
    for backend in ("loky", "ray"):
        command = [sys.executable, "-m", "activeselect", "compare", "--config", "study.yaml"]
        done = subprocess.run(
            [*command, "--out", backend, f"backend={backend}"],  # a relative folder, too
            cwd=tmp_path,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-2000:]
    curves = [(tmp_path / backend / "curves.csv").read_text() for backend in ("loky", "ray")]
    assert curves[0] == curves[1]


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.setitem(sys.modules, "ray.util.joblib", None)
    with pytest.raises(ConfigError, match=r"activeselect\[ray\]"), side_by_side("ray"):
        pass
