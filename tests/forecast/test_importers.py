"""Import of the authors' layout and of our own run folders."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from activeselect.cli.forecast import import_traces
from activeselect.errors import DataError
from activeselect.forecast.importers import official_runs, official_tables
from activeselect.forecast.traces import read_traces

NAMES = {
    "gsm8k": "gsm8k_orig_1epochs_full_lr5e-05_bs128",
    "math": "math_orig_1epochs_full_lr5e-05_bs24",
}


@pytest.mark.parametrize("dataset", ["gsm8k", "math"])
def test_official_sample_equals_the_provided_traces(
    shared_data: Path, tmp_path: Path, dataset: str
) -> None:
    import_traces(shared_data / "traces" / "official_layout", tmp_path)
    (mine,) = read_traces(tmp_path, dataset)
    theirs = next(
        run for run in read_traces(shared_data / "traces", dataset) if run.name == NAMES[dataset]
    )
    assert mine.name == theirs.name
    for field in ("step", "epoch", "example_id", "accuracy", "samples", "test_samples"):
        assert getattr(mine, field).tolist() == getattr(theirs, field).tolist(), field
    assert mine.mean_nll == pytest.approx(theirs.mean_nll, abs=1e-6)
    assert mine.test_accuracy == pytest.approx(theirs.test_accuracy)
    assert (mine.train_size, mine.learning_rate) == (theirs.train_size, 5e-5)


def official(root: Path, steps: tuple[int, ...] = (10, 20), name: str = "gsm8k_x_lr2e-05") -> Path:
    """A run of five examples in the authors' layout."""
    rng = np.random.default_rng(0)
    run = root / "ckpts" / name
    for step in steps:
        folder = run / f"checkpoint-{step}"
        folder.mkdir(parents=True)
        np.save(folder / "train_answer_types5_seed2_temp0.8.npy", rng.integers(0, 3, (5, 5)))
        np.save(folder / "test_answer_types5_seed2_temp0.8.npy", rng.integers(0, 3, (7, 5)))
        np.save(folder / "train_perplexities.npy", 1 + rng.random(5))
    return run


def test_official_run_without_the_optional_files(tmp_path: Path) -> None:
    run = official(tmp_path, steps=(100, 20))
    assert official_runs(tmp_path) == [run]
    name, examples, checkpoints = official_tables(run)
    assert name == "gsm8k"
    assert checkpoints["step"].to_pylist() == [20, 100]
    assert checkpoints["learning_rate"].to_pylist() == [2e-5, 2e-5]
    assert examples["n_tokens"].null_count == 10
    types = np.load(run / "checkpoint-20" / "train_answer_types5_seed2_temp0.8.npy")
    assert examples["outcomes"][:5].to_pylist() == (types == 0).tolist()
    perplexity = np.load(run / "checkpoint-20" / "train_perplexities.npy")
    assert examples["mean_nll"][:5].to_pylist() == pytest.approx(np.log(perplexity), abs=1e-6)


@pytest.mark.parametrize(
    ("listed", "ids"),
    [
        ([3, 0, 4, 1, 2], [0, 1, 2, 3, 4]),
        ([30, 10, 44, 12, 2], [30, 10, 44, 12, 2]),
        ([4, 1], [4, 1]),
    ],
)
def test_positions_of_full_and_partial_runs(
    tmp_path: Path, listed: list[int], ids: list[int]
) -> None:
    run = official(tmp_path, steps=(10,))
    np.save(run / "subsample_idxs.npy", np.array(listed))
    assert official_tables(run)[1]["example_id"].to_pylist() == ids


def test_the_file_with_the_most_samples_is_read(tmp_path: Path) -> None:
    run = official(tmp_path, steps=(10,))
    np.save(run / "checkpoint-10" / "train_answer_types50_seed2_temp0.8.npy", np.zeros((5, 50)))
    assert official_tables(run)[1]["outcomes"][0].as_py() == [True] * 50


def test_untested_checkpoints_have_no_label(tmp_path: Path) -> None:
    run = official(tmp_path, steps=(10,))
    (run / "checkpoint-10" / "test_answer_types5_seed2_temp0.8.npy").unlink()
    assert official_tables(run)[2]["test_accuracy"].to_pylist() == [None]


def test_damaged_official_files(tmp_path: Path) -> None:
    run = official(tmp_path, steps=(10,))
    file = run / "checkpoint-10" / "train_perplexities.npy"
    np.save(file, np.full(4, 2.0))
    with pytest.raises(DataError, match=r"found \[5, 5\] and \[4\]"):
        official_tables(run)
    np.save(file, np.full(5, 0.5))
    with pytest.raises(DataError, match="perplexities of at least 1"):
        official_tables(run)
    file.write_bytes(file.read_bytes()[:40])
    with pytest.raises(DataError, match=r"readable \.npy array"):
        official_tables(run)
    np.save(file, np.array([{"a": 1}] * 5, dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match=r"readable \.npy array"):
        official_tables(run)
    file.unlink()
    with pytest.raises(DataError, match="expected this file, found none"):
        official_tables(run)


def run_folder(root: Path, *, finished: bool = True, columns: dict[str, Any] | None = None) -> Path:
    """A run of two stages with two rounds each, as training writes it."""
    root.mkdir(parents=True, exist_ok=True)
    (root / "scores").mkdir()
    for number, (stage, epoch) in enumerate([(0, 1), (0, 2), (1, 1), (1, 2)]):
        size = 4 + 4 * stage
        table = {
            "index": list(range(size)),
            "stage": pa.array([stage] * size, pa.int32()),
            "epoch": pa.array([epoch] * size, pa.int32()),
            "correct": [[True, False]] * (size - 1) + [None],
            "accuracy": [0.5] * (size - 1) + [None],
            "mean_nll": [0.5 / epoch] * size,
            "n_tokens": pa.array([9] * size, pa.int32()),
            **(columns or {}),
        }
        table = {name: value for name, value in table.items() if value is not None}
        pq.write_table(pa.table(table), root / "scores" / f"round-{number:05d}.parquet")
    curve = [
        {"stage": s, "round": 2 * s + 2, "budget": 4 + 4 * s, "test_accuracy": 0.3 + 0.1 * s,
         "test_examples": 50}
        for s in (0, 1)
    ]  # fmt: skip
    config = {
        "recipe": {"batch_size": 2, "learning_rate": 1e-3},
        "data": {"source": "skills:mixed"},
    }
    if finished:
        (root / "result.json").write_text(json.dumps({"config": config, "curve": curve}))
    return root


def test_stages_of_our_runs_become_runs(tmp_path: Path) -> None:
    run_folder(tmp_path / "runs" / "seed-0")
    run_folder(tmp_path / "runs" / "seed-1")
    import_traces(tmp_path / "runs", tmp_path / "traces")
    runs = read_traces(tmp_path / "traces", "skills-mixed")
    assert [run.name for run in runs] == [f"seed-{k}#stage-{s}" for k in (0, 1) for s in (0, 1)]
    assert [run.group for run in runs[:2]] == ["skills-mixed/seed-0"] * 2
    second = runs[1]
    assert second.step.tolist() == [4, 8]
    assert second.train_size == 8
    assert np.isnan(second.test_accuracy[0])
    assert second.test_accuracy[1] == pytest.approx(0.4)
    assert np.isnan(second.accuracy[:, -1]).all()
    assert (second.samples[:, :-1] == 2).all()


@pytest.mark.parametrize(
    ("accuracy", "premem", "expected", "samples"),
    [
        ([0.5, 1.0, 0.7], [0.5, 1.0, 0.7], [0.5, 1.0, np.nan], [2, 1, 0]),  # skip-memorized
        ([0.52, 0.8, 0.7], [0.52, 0.8, 0.6], [0.52, 0.8, 0.7], [10_000] * 3),  # adaptive
    ],
)
def test_what_a_sampling_policy_left_out(
    tmp_path: Path,
    accuracy: list[float],
    premem: list[float],
    expected: list[float],
    samples: list[int],
) -> None:
    """Shares of what was sampled where those are stated, and estimates where they are not."""
    counted = {"correct": [[True, False], [True], []], "sampled": pa.array([2, 1, 0], pa.int32())}
    fixed = {"index": [0, 1, 2], "mean_nll": [0.5, 0.5, 0.01], "n_tokens": None}
    folder = run_folder(tmp_path / "run")
    for stage, file in enumerate(sorted((folder / "scores").iterdir())):
        same = {"stage": [stage // 2] * 3, "epoch": [stage % 2 + 1] * 3}
        table = {**fixed, **same, **counted, "accuracy": accuracy, "premem": premem}
        table = {name: values for name, values in table.items() if values is not None}
        pq.write_table(pa.table(table), file)
    import_traces(folder, tmp_path / "traces")
    for run in read_traces(tmp_path / "traces", "skills-mixed"):
        np.testing.assert_array_equal(run.accuracy, [expected] * 2)
        np.testing.assert_array_equal(run.samples, [samples] * 2)


def test_one_run_folder_is_named_after_itself(tmp_path: Path) -> None:
    run_folder(tmp_path / "first")
    import_traces(tmp_path / "first", tmp_path / "traces")
    assert read_traces(tmp_path / "traces", "skills-mixed")[0].name == "first#stage-0"


def test_broken_run_folders(tmp_path: Path) -> None:
    unfinished = run_folder(tmp_path / "unfinished", finished=False)
    with pytest.raises(DataError, match="expected the result of a finished run"):
        import_traces(unfinished, tmp_path / "out")
    bare = run_folder(tmp_path / "bare", columns={"correct": None})
    with pytest.raises(DataError, match=r"missing correct; train with `measure:"):
        import_traces(bare, tmp_path / "out")
    cut = run_folder(tmp_path / "cut")
    file = cut / "scores" / "round-00002.parquet"
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(DataError, match="the file was cut off"):
        import_traces(cut, tmp_path / "out")
    empty = run_folder(tmp_path / "empty")
    shutil.rmtree(empty / "scores")
    (empty / "scores").mkdir()
    with pytest.raises(DataError, match="expected scored rounds"):
        import_traces(empty, tmp_path / "out")
    damaged = run_folder(tmp_path / "damaged")
    (damaged / "result.json").write_text('{"curve": 3}')
    with pytest.raises(DataError, match="it is damaged"):
        import_traces(damaged, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_nothing_to_import(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="expected a folder of runs, found none"):
        import_traces(tmp_path / "absent", tmp_path / "out")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="found neither"):
        import_traces(tmp_path / "empty", tmp_path / "out")


def test_traces_are_not_overwritten(tmp_path: Path, toy_traces: Path) -> None:
    official(tmp_path)
    with pytest.raises(DataError, match="already holds traces"):
        import_traces(tmp_path, toy_traces)
