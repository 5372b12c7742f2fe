"""Features: the reference, what missing values mean, and that the future stays out."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from activeselect.forecast.features import (
    SETTINGS,
    MaskSetting,
    dataset_premem,
    feature_matrix,
    infer_samples,
    prior_weight,
    run_scale,
    shrink_accuracy,
)
from activeselect.forecast.traces import RunTrace, read_traces

NAN = float("nan")


def tables(rounds: int, examples: int) -> st.SearchStrategy[tuple[np.ndarray, np.ndarray]]:
    shape = (rounds, examples)
    accuracy = arrays(np.int64, shape, elements=st.integers(0, 4)).map(lambda k: k / 4)
    nll = arrays(np.float64, shape, elements=st.floats(0.001, 2))
    return st.tuples(accuracy, nll)


@pytest.mark.parametrize(
    ("dataset", "name", "tau"),
    [
        ("gsm8k", "gsm8k_orig_12epochs_quarter_lr2e-05_bs128", 0.1),
        ("math", "math_orig_3epochs_full_lr5e-05_bs24", 0.183),
    ],
)
def test_premem_of_real_runs_equals_the_reference(
    shared_data: Path, reference: ModuleType, dataset: str, name: str, tau: float
) -> None:
    run = next(r for r in read_traces(shared_data / "traces", dataset) if r.name == name)
    expected = reference.dataset_premem(run.accuracy.tolist(), run.mean_nll.tolist(), tau)
    assert dataset_premem(run.accuracy, run.mean_nll, tau) == pytest.approx(expected, abs=1e-12)


@given(tables(3, 6), st.floats(0.01, 1.5))
def test_premem_equals_the_reference(
    reference: ModuleType, table: tuple[np.ndarray, np.ndarray], tau: float
) -> None:
    accuracy, nll = table
    expected = reference.dataset_premem(accuracy.tolist(), nll.tolist(), tau)
    assert dataset_premem(accuracy, nll, tau) == pytest.approx(expected, abs=1e-12)


def test_shrinkage_equals_the_reference(toy_runs: list[RunTrace], reference: ModuleType) -> None:
    run = toy_runs[2]
    for row in run.accuracy:
        expected = reference.shrunk(row.tolist(), 5)
        assert shrink_accuracy(row[None], 5)[0] == pytest.approx(expected)


def test_shrinkage_restores_the_true_spread() -> None:
    rng = np.random.default_rng(0)
    true = rng.beta(2, 3, 20_000)
    for n in (2, 4, 10):
        sampled = rng.binomial(n, true) / n
        assert sampled.var() > 1.05 * true.var()
        assert shrink_accuracy(sampled[None], n).var() == pytest.approx(true.var(), rel=0.05)


def test_shrinkage_finds_the_prior() -> None:
    rng = np.random.default_rng(1)
    sampled = rng.binomial(5, rng.beta(2, 3, 50_000)) / 5
    assert prior_weight(sampled, np.full(50_000, 5.0)) == pytest.approx(5.0, rel=0.05)


@given(tables(2, 8), st.integers(1, 60))
def test_shrinkage_keeps_the_mean_the_order_and_the_range(
    table: tuple[np.ndarray, np.ndarray], n: int
) -> None:
    accuracy, _ = table
    shrunk = shrink_accuracy(accuracy, n)
    assert shrunk.mean(axis=1) == pytest.approx(accuracy.mean(axis=1))
    assert ((shrunk >= 0) & (shrunk <= 1)).all()
    for before, after in zip(accuracy, shrunk, strict=True):
        assert (np.diff(after[np.argsort(before, kind="stable")]) >= -1e-12).all()


def test_shrinkage_of_many_samples_changes_nothing() -> None:
    accuracy = np.random.default_rng(0).random((2, 30))
    assert shrink_accuracy(accuracy, 10**7) == pytest.approx(accuracy, abs=1e-4)


def test_one_sample_per_example_and_no_spread_are_handled() -> None:
    assert shrink_accuracy([[0.0, 1.0]], 1)[0] == pytest.approx([0.1464, 0.8536], abs=1e-4)
    assert shrink_accuracy([[0.4, 0.4, 0.4]], 5)[0] == pytest.approx([0.4, 0.4, 0.4])
    assert shrink_accuracy([[1.0, 1.0]], 5).tolist() == [[1.0, 1.0]]
    assert shrink_accuracy([[0.2, NAN]], 5)[0, 0] == 0.2


@settings(max_examples=30)
@given(tables(3, 6))
def test_features_do_not_look_ahead(table: tuple[np.ndarray, np.ndarray]) -> None:
    accuracy, nll = table
    whole = feature_matrix(accuracy, nll, 4)
    assert feature_matrix(accuracy[:2], nll[:2], 4).tolist() == whole[:2].tolist()


@settings(max_examples=30)
@given(tables(2, 6), st.permutations(range(6)))
def test_features_ignore_the_order_of_examples(
    table: tuple[np.ndarray, np.ndarray], order: list[int]
) -> None:
    accuracy, nll = table
    moved = feature_matrix(accuracy[:, order], nll[:, order], 4)
    assert moved == pytest.approx(feature_matrix(accuracy, nll, 4))


@settings(max_examples=30)
@given(tables(3, 6))
def test_a_higher_threshold_never_raises_the_metric(
    table: tuple[np.ndarray, np.ndarray],
) -> None:
    values = np.stack([dataset_premem(*table, tau) for tau in (0.01, 0.1, 0.5, 1.0)])
    assert (np.diff(values, axis=0) <= 1e-12).all()


def test_columns_are_the_metric_under_their_setting(toy_runs: list[RunTrace]) -> None:
    run = toy_runs[0]
    X = feature_matrix(run.accuracy, run.mean_nll, run.samples)
    shrunk = shrink_accuracy(run.accuracy, run.samples)
    for k in (0, 40, 100, len(SETTINGS) - 1):
        tau = SETTINGS[k].tau(run_scale(run.mean_nll))
        assert X[:, k] == pytest.approx(dataset_premem(shrunk, run.mean_nll, tau))


def test_skipped_because_memorized_keeps_the_best_so_far() -> None:
    accuracy, nll = [[0.6, 0.2], [NAN, 0.4]], [[0.5, 0.5], [0.01, 0.4]]
    assert dataset_premem(accuracy, nll, 0.1) == pytest.approx([0.4, 0.5])


def test_not_visited_keeps_the_last_value_and_never_visited_does_not_count() -> None:
    accuracy, nll = [[0.6, 0.2, NAN], [NAN, 0.4, NAN]], [[0.5, 0.5, NAN], [NAN, 0.4, NAN]]
    assert dataset_premem(accuracy, nll, 0.1) == pytest.approx([0.4, 0.5])


def test_threshold_is_the_larger_of_floor_and_share() -> None:
    assert MaskSetting(0.1, 0.25).tau(2.0) == 0.5
    assert MaskSetting(0.1, 0.25).tau(0.1) == 0.1


def test_number_of_samples_is_inferred_or_asked_for() -> None:
    assert infer_samples([[0.0, 1.0]]) == 1
    assert infer_samples(np.float32([[0.2, 0.4, NAN]])) == 5
    with pytest.raises(ValueError, match="pass `samples`"):
        infer_samples([[0.1414214, 0.5772157, 0.3141593]])


def test_scale_is_that_of_the_first_scored_round() -> None:
    assert run_scale([[NAN, NAN], [0.2, NAN], [0.9, 0.9]]) == 0.2
    with pytest.raises(ValueError, match="at least one scored checkpoint"):
        run_scale([[NAN]])


def test_wrong_shapes_and_values_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\[rounds, examples\]"):
        feature_matrix([[0.5]], [[0.5, 0.5]], 2)
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        feature_matrix([[1.5]], [[0.5]], 2)
