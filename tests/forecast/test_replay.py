"""The replay on recorded outcomes, on made-up runs and on the real ones."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy.stats import zscore

from activeselect import cli
from activeselect.scoring.text_features import text_features
from research.sampling_replay import Settings, recordings, replay

REAL = Path(__file__).resolve().parents[3] / "shared" / "data" / "traces"
SIZE, ROUNDS, OUTCOMES = 120, 3, 20


@pytest.fixture(scope="module")
def traces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("traces")
    rng = np.random.default_rng(0)
    examples, checkpoints = [], []
    for run in ("a", "b"):
        accuracy, nll = rng.random(SIZE), np.full(SIZE, 0.5)
        for step in range(ROUNDS):
            nll = nll * rng.uniform(0.3, 1.0, SIZE)
            drawn = rng.random((SIZE, OUTCOMES)) < accuracy[:, None]
            examples += [
                {
                    "run": run,
                    "step": step,
                    "epoch": step + 1,
                    "example_id": i,
                    "mean_nll": float(nll[i]),
                    "n_tokens": 10 + i if run == "a" else None,
                    "outcomes": drawn[i, :5].tolist(),
                    "outcomes_50": drawn[i].tolist(),
                }
                for i in range(SIZE)
            ]
            checkpoints.append({"run": run, "dataset": "toy", "step": step, "epoch": step + 1})
    pq.write_table(pa.Table.from_pylist(examples), folder / "toy_examples.parquet")
    pq.write_table(pa.Table.from_pylist(checkpoints), folder / "toy_checkpoints.parquet")
    return folder


@pytest.fixture
def texts(tmp_path: Path) -> list[dict[str, str]]:
    """Texts of the made-up examples: traces as long as was recorded, give or take."""
    rng = np.random.default_rng(1)
    return [
        {"question": "1 " * int(rng.integers(1, 9)), "answer": "x" * (40 + 4 * i)}
        for i in range(SIZE)
    ]


def written(path: Path, rows: list[dict[str, str]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_questions_are_read_by_example_id(
    traces: Path, texts: list[dict[str, str]], tmp_path: Path
) -> None:
    file = written(tmp_path / "train.jsonl", texts)
    for run in recordings(traces, "toy", file):
        expected = text_features([t["question"] for t in texts], [t["answer"] for t in texts])
        assert run.features is not None
        np.testing.assert_array_equal(run.features, expected)
    words = ["--traces", str(traces), "--dataset", "toy", "--repeats", "2"]
    assert cli.run(["forecast", "replay", *words, "--questions", str(file)]) == 0


def test_questions_of_other_examples_are_refused(
    traces: Path, texts: list[dict[str, str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    halves = [*texts[SIZE // 2 :], *texts[: SIZE // 2]]
    cases: dict[str, list[dict[str, str]]] = {
        "do not match the recorded n_tokens": halves,
        "has 119 rows, expected one for each example id up to 119": texts[:-1],
        "line 3: expected texts in the columns question and trace (or answer), found question": [
            *texts[:2], {"question": "?"}
        ],
    }  # fmt: skip
    for message, rows in cases.items():
        file = written(tmp_path / "train.jsonl", rows)
        words = ["--traces", str(traces), "--dataset", "toy", "--questions", str(file)]
        assert cli.run(["forecast", "replay", *words]) == 2
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1


def test_lengths_are_shared_between_runs_of_a_dataset(traces: Path) -> None:
    first, second = recordings(traces, "toy")
    assert first.right.shape == (ROUNDS, SIZE, OUTCOMES)
    assert second.features is not None
    np.testing.assert_allclose(
        second.features[:, 0], zscore(np.log(11 + np.arange(SIZE))), atol=1e-12
    )


def test_exact_is_its_own_yardstick(traces: Path) -> None:
    report = replay(recordings(traces, "toy"), Settings(policy="exact", repeats=2))
    for row in report["runs"]:
        assert row["share"]["mean"] == 1
        assert row["difference"] == {"mean": 0, "low": 0, "high": 0}


def test_the_command_prints_json_or_a_table_and_keeps_to_the_share(
    traces: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["forecast", "replay", "--traces", str(traces), "--dataset", "toy", "--repeats", "2"]
    assert cli.run([*words, "--json", "--share", "0.3"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert [row["run"] for row in report["runs"]] == ["a", "b"]
    assert all(0.2 < row["share"]["mean"] <= 0.3 for row in report["runs"])
    assert cli.run([*words, "--subset", "0.5"]) == 0
    assert "Spearman" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--policy", "adaptiv"], "Did you mean 'adaptive'"),
        (["--share", "1.5"], "share: expected in (0, 1], received 1.5"),
        (["--repeats", "1"], "repeats: expected at least 2"),
        (["--dataset", "tox"], "no dataset 'tox'"),
    ],
)
def test_mistakes_are_one_line(
    traces: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    assert cli.run(["forecast", "replay", "--traces", str(traces), "--dataset", "toy", *words]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_traces_with_few_outcomes_are_refused(
    traces: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = pq.read_table(traces / "toy_examples.parquet").drop_columns(["outcomes_50"])
    pq.write_table(table, tmp_path / "toy_examples.parquet")
    words = ["forecast", "replay", "--traces", str(tmp_path), "--dataset", "toy"]
    assert cli.run(words) == 2
    assert "outcomes_50" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.skipif(not REAL.is_dir(), reason="the recorded runs are not here")
def test_the_figures_of_docs_sampling() -> None:
    texts = REAL.parent / "gsm8k" / "train.jsonl"
    report = replay(recordings(REAL, "gsm8k", texts), Settings(repeats=2))
    shown = [(row["share"], row["spearman"], row["difference"]) for row in report["runs"]]
    assert all(share["mean"] <= 0.2 for share, _, _ in shown)
    means = [spearman["mean"] for _, spearman, _ in shown]
    np.testing.assert_allclose(means, [0.870, 0.805, 0.907, 0.869], atol=0.006)
    assert all(abs(row["bias"]["mean"]) <= 0.005 for row in report["runs"])
