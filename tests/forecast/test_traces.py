"""The trace format: reading, writing, and what is said about broken files."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from activeselect.errors import DataError
from activeselect.forecast.traces import (
    TRACE_VERSION,
    VERSION_KEY,
    RunTrace,
    datasets_in,
    read_traces,
    runs_of,
    write_traces,
)
from activeselect.scoring.store import count_right


@pytest.fixture
def folder(toy_traces: Path, tmp_path: Path) -> Path:
    """A copy of the toy traces that a test may damage."""
    return Path(shutil.copytree(toy_traces, tmp_path / "traces"))


def rewrite(path: Path, table: pa.Table) -> None:
    pq.write_table(table, path)


def test_real_runs_have_the_documented_shapes(shared_data: Path) -> None:
    runs = {run.name: run for run in read_traces(shared_data / "traces", "gsm8k")}
    assert len(runs) == 10
    run = runs["gsm8k_orig_3epochs_full_lr2e-05_bs128"]
    assert run.accuracy.shape == run.mean_nll.shape == (3, 7473)
    assert run.samples.min() == run.samples.max() == 50
    assert run.step.tolist() == [58, 116, 174]
    assert run.test_accuracy == pytest.approx([0.4522, 0.5296, 0.5444], abs=1e-4)
    assert (run.train_size, run.learning_rate) == (7473, 2e-5)


def test_a_row_of_a_real_run_is_read_as_it_stands(shared_data: Path) -> None:
    path = shared_data / "traces" / "math_examples.parquet"
    row = pq.read_table(path).slice(12_345, 1).to_pylist()[0]
    run = next(r for r in read_traces(path.parent, "math") if r.name == row["run"])
    where = (
        run.step.tolist().index(row["step"]),
        run.example_id.tolist().index(row["example_id"]),
    )
    assert run.mean_nll[where] == pytest.approx(row["mean_nll"])
    assert run.accuracy[where] == np.mean(row["outcomes"])


def test_written_traces_are_versioned_and_read_back(toy_traces: Path) -> None:
    metadata = pq.read_schema(toy_traces / "toy_examples.parquet").metadata
    assert metadata[VERSION_KEY] == str(TRACE_VERSION).encode()
    assert datasets_in(toy_traces) == ["toy"]
    runs = read_traces(toy_traces, "toy")
    assert [run.name for run in runs] == [f"run-{k}" for k in range(6)]
    assert all(run.accuracy.shape == (3, 80) for run in runs)


def test_row_order_does_not_matter(folder: Path, toy_runs: list[RunTrace]) -> None:
    path = folder / "toy_examples.parquet"
    table = pq.read_table(path)
    rewrite(path, table.take(np.random.default_rng(0).permutation(table.num_rows)))
    for before, after in zip(toy_runs, read_traces(folder, "toy"), strict=True):
        assert before.accuracy.tolist() == after.accuracy.tolist()
        assert before.mean_nll.tolist() == after.mean_nll.tolist()


def test_missing_rows_nulls_and_empty_outcomes_mean_not_measured(folder: Path) -> None:
    path = folder / "toy_examples.parquet"
    rows = pq.read_table(path).to_pylist()
    rows[0]["outcomes"], rows[1]["outcomes"], rows[2]["mean_nll"] = None, [], None
    rewrite(path, pa.Table.from_pylist([*rows[:3], *rows[4:]]))
    run = read_traces(folder, "toy")[0]
    assert np.isnan(run.accuracy[0, [0, 1, 3]]).all()
    assert np.isnan(run.mean_nll[0, [2, 3]]).all()
    assert run.samples[0, :4].tolist() == [0, 0, 5, 0]


def test_count_right_with_several_chunks_and_different_lengths() -> None:
    column = pa.chunked_array([[[True, False], None], [[], [True, True, True]]])
    right, total = count_right(column)
    assert (right.tolist(), total.tolist()) == ([1, 0, 0, 3], [2, 0, 0, 3])


@pytest.mark.parametrize(
    "kind", [pa.large_list(pa.bool_()), pa.list_(pa.int8()), pa.list_(pa.bool_(), 5)]
)
def test_other_writers_types_are_read(
    folder: Path, toy_runs: list[RunTrace], kind: pa.DataType
) -> None:
    path = folder / "toy_examples.parquet"
    table = pq.read_table(path)
    table = table.set_column(6, "outcomes", table["outcomes"].cast(kind))
    rewrite(path, table.set_column(0, "run", table["run"].cast(pa.large_string())))
    for before, after in zip(toy_runs, read_traces(folder, "toy"), strict=True):
        assert before.accuracy.tolist() == after.accuracy.tolist()


def test_stages_of_a_run_form_one_group(toy_traces: Path) -> None:
    examples = pq.read_table(toy_traces / "toy_examples.parquet").slice(0, 240)
    checkpoints = pq.read_table(toy_traces / "toy_checkpoints.parquet").slice(0, 3)

    def named(table: pa.Table) -> pa.Table:
        return table.set_column(0, "run", pa.array(["seed-0#stage-2"] * table.num_rows))

    assert runs_of(named(examples), named(checkpoints), "toy")[0].group == "toy/seed-0"


def test_missing_folder_dataset_and_files(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="expected a folder of traces, found nothing; make one"):
        read_traces(tmp_path / "absent", "toy")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"<dataset>_examples\.parquet, found none"):
        read_traces(tmp_path / "empty", "toy")
    with pytest.raises(DataError, match="Did you mean 'toy'"):
        read_traces(folder, "tay")
    (folder / "toy_checkpoints.parquet").unlink()
    with pytest.raises(DataError, match="expected a Parquet file, found none"):
        read_traces(folder, "toy")


@pytest.mark.parametrize("keep", [0, 3, 0.5, 0.99])
def test_cut_off_file(folder: Path, keep: float) -> None:
    path = folder / "toy_examples.parquet"
    data = path.read_bytes()
    path.write_bytes(data[: int(keep * len(data)) if keep < 1 else int(keep)])
    with pytest.raises(DataError, match="damaged or cut off"):
        read_traces(folder, "toy")


def test_missing_column_and_newer_version(folder: Path) -> None:
    path = folder / "toy_examples.parquet"
    table = pq.read_table(path)
    rewrite(path, table.drop_columns(["outcomes"]))
    with pytest.raises(DataError, match="missing outcomes"):
        read_traces(folder, "toy")
    rewrite(path, table.replace_schema_metadata({VERSION_KEY: b"7"}))
    with pytest.raises(DataError, match="expected trace version 1, found 7; update activeselect"):
        read_traces(folder, "toy")


def test_wrong_types_are_refused(folder: Path) -> None:
    path = folder / "toy_examples.parquet"
    table = pq.read_table(path)
    rewrite(path, table.set_column(6, "outcomes", table["mean_nll"]))
    with pytest.raises(DataError, match="column outcomes"):
        read_traces(folder, "toy")


def test_tables_that_do_not_fit_together(folder: Path) -> None:
    path = folder / "toy_checkpoints.parquet"
    table = pq.read_table(path)
    rewrite(path, table.slice(3))
    with pytest.raises(DataError, match="run 'run-0' is in only one of the two tables"):
        read_traces(folder, "toy")
    rewrite(path, table.slice(1))
    with pytest.raises(DataError, match="run 'run-0' has checkpoints at steps"):
        read_traces(folder, "toy")


def test_an_example_listed_twice_is_refused(folder: Path) -> None:
    path = folder / "toy_examples.parquet"
    table = pq.read_table(path)
    rewrite(path, pa.concat_tables([table, table.slice(0, 1)]))
    with pytest.raises(DataError, match="lists an example twice"):
        read_traces(folder, "toy")


@pytest.mark.parametrize("value", [1.5, -0.1])
def test_test_accuracy_outside_its_range_is_refused(folder: Path, value: float) -> None:
    path = folder / "toy_checkpoints.parquet"
    rows = pq.read_table(path).to_pylist()
    rows[0]["test_accuracy"] = value
    rewrite(path, pa.Table.from_pylist(rows))
    with pytest.raises(DataError, match=r"test accuracies in \[0, 1\]"):
        read_traces(folder, "toy")


def test_writing_keeps_only_the_columns_of_the_format(toy_traces: Path, tmp_path: Path) -> None:
    examples = pq.read_table(toy_traces / "toy_examples.parquet")
    extra = examples.append_column("note", pa.array(["x"] * examples.num_rows))
    write_traces(tmp_path, "toy", extra, pq.read_table(toy_traces / "toy_checkpoints.parquet"))
    assert pq.read_schema(tmp_path / "toy_examples.parquet").names == examples.column_names
