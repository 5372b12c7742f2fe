"""The commands as a user calls them: what they print, and one-line errors."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from activeselect.cli import forecast as commands
from activeselect.errors import ActiveSelectError, DataError
from activeselect.forecast.evaluate import tau_curve
from activeselect.forecast.traces import RunTrace


def test_evaluate_prints_a_table_or_json(
    toy_traces: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    commands.evaluate(toy_traces, "toy")
    table = capsys.readouterr().out
    assert "leave-one-run-out: 6 runs, 18 checkpoints" in table
    assert "train_accuracy" in table
    commands.evaluate(toy_traces, "toy", json=True)
    report = json.loads(capsys.readouterr().out)
    assert report["dataset"] == "toy"
    assert report["n_runs"] == 6


def test_evaluate_draws_the_curve(toy_traces: Path, tmp_path: Path) -> None:
    commands.evaluate(toy_traces, "toy", json=True, plot=tmp_path / "figures" / "curve.png")
    assert (tmp_path / "figures" / "curve.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(DataError, match=r"ending in .*\.png"):
        commands.evaluate(toy_traces, "toy", json=True, plot=tmp_path / "curve.txt")


def test_holdout_on_another_folder(
    toy_traces: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for kind in ("examples", "checkpoints"):
        table = pq.read_table(toy_traces / f"toy_{kind}.parquet")
        names = np.array(table["run"].to_pylist())
        other = pa.array([f"new-{name}" for name in names])
        renamed = table.set_column(0, "run", other).filter(names < "run-2")
        pq.write_table(renamed, tmp_path / f"toy_{kind}.parquet")
    commands.evaluate(toy_traces, "toy", holdout=tmp_path, json=True)
    report = json.loads(capsys.readouterr().out)
    assert (report["protocol"], report["n_runs"], report["n_checkpoints"]) == ("holdout", 2, 6)


def test_fit_and_predict(
    toy_traces: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tmp_path / "models" / "toy.json"
    commands.fit(toy_traces, model)
    facts = json.loads(model.read_text())["provenance"]
    assert facts["runs"] == [f"toy/run-{k}" for k in range(6)]
    assert facts["checkpoints"] == 18
    capsys.readouterr()
    commands.predict(toy_traces, model, json=True)
    rows = json.loads(capsys.readouterr().out)["forecasts"]
    assert len(rows) == 18
    assert all(row["low"] <= row["forecast"] <= row["high"] for row in rows)
    assert rows[0]["source"] == f"fitted on toy in {toy_traces.name} (6 runs)"
    commands.predict(toy_traces)
    assert "shipped" in capsys.readouterr().out


def test_predict_on_a_run_that_is_still_under_way(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "scores").mkdir()
    for number in range(2):
        table = {
            "index": list(range(4)),
            "stage": pa.array([0] * 4, pa.int32()),
            "epoch": pa.array([number + 1] * 4, pa.int32()),
            "correct": [[True, False, True, True]] * 4,
            "mean_nll": [0.6 - 0.1 * number] * 4,
        }
        pq.write_table(pa.table(table), tmp_path / "scores" / f"round-{number:05d}.parquet")
    commands.predict(tmp_path, json=True)
    rows = json.loads(capsys.readouterr().out)["forecasts"]
    assert [row["epoch"] for row in rows] == [1, 2]
    assert rows[1]["forecast"] == pytest.approx(0.75)
    assert rows[1]["actual"] is None


def test_errors_are_one_line_and_complete(toy_traces: Path, tmp_path: Path) -> None:
    (tmp_path / "model.json").write_text("no json")
    calls = [
        lambda: commands.evaluate(tmp_path / "absent", "toy"),
        lambda: commands.evaluate(toy_traces, "gsm8k"),
        lambda: commands.fit(tmp_path, tmp_path / "out.json"),
        lambda: commands.predict(toy_traces, tmp_path / "absent.json"),
        lambda: commands.predict(toy_traces, tmp_path / "model.json"),
        lambda: commands.predict(tmp_path / "absent"),
        lambda: commands.import_traces(tmp_path / "absent", tmp_path / "out"),
    ]
    for call in calls:
        with pytest.raises(ActiveSelectError) as caught:
            call()
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) > 30


def test_a_model_on_other_features_is_refused(toy_traces: Path, tmp_path: Path) -> None:
    model = tmp_path / "toy.json"
    commands.fit(toy_traces, model)
    body = json.loads(model.read_text())
    body["n_features_in_"] = 400
    model.write_text(json.dumps(body))
    with pytest.raises(DataError, match=r"found version 1 \(400 columns\); fit it again"):
        commands.predict(toy_traces, model)


def test_the_curve_has_its_best_near_the_chosen_tau(
    shared_data: Path,
) -> None:
    from activeselect.forecast.traces import read_traces

    curve = tau_curve(read_traces(shared_data / "traces", "gsm8k"))
    assert len(curve.tau) == len(curve.paper_line) == len(curve.forecast)
    best = curve.tau[int(np.argmax(curve.forecast))]
    assert 0.07 <= best <= 0.11
    reach = {
        name: curve.stable_range(getattr(curve, name), least=0.9)
        for name in ("paper_identity", "forecast")
    }
    assert reach["forecast"] is not None
    assert reach["paper_identity"] is not None
    low, high = reach["forecast"]
    assert high / low > 2 * reach["paper_identity"][1] / reach["paper_identity"][0]


def test_curve_on_a_small_world(toy_runs: list[RunTrace]) -> None:
    curve = tau_curve(toy_runs)
    assert curve.tau == sorted(curve.tau)
    assert curve.stable_range([0.0] * len(curve.tau), least=0.9) is None


def test_forecasting_imports_neither_torch_nor_altair() -> None:
    code = (
        "import sys; import activeselect.cli.forecast; "
        "print(sorted({'torch', 'altair', 'lightning'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
