"""The estimator: scikit-learn's conventions, choices by held-out runs, intervals, JSON."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import LeaveOneGroupOut
from sklearn.utils.estimator_checks import check_estimator

from activeselect.errors import DataError
from activeselect.forecast.regressor import (
    CALIBRATIONS,
    MAX_LOTS,
    Errors,
    GroupSums,
    TestAccuracyRegressor,
    choose,
    drawn_half_width,
    half_width,
)


def world(runs: int, noise: float, seed: int, per_run: int = 3) -> tuple[np.ndarray, ...]:
    """Column 1 is test accuracy up to noise that a run's checkpoints share in part."""
    rng = np.random.default_rng(seed)
    y = rng.uniform(0.2, 0.8, runs * per_run)
    groups = np.repeat(np.arange(runs), per_run)
    shared = noise * rng.standard_normal(runs)[groups]
    x = y + shared + noise * rng.standard_normal(len(y))
    X = np.column_stack([rng.random(len(y)), x, rng.random(len(y))])
    return X, y, groups


def test_names_of_columns_survive_the_json() -> None:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.random((12, 2)), columns=["floor", "ratio"])
    groups = np.repeat([0, 1, 2], 4)
    model = TestAccuracyRegressor().fit(frame, frame["floor"], groups=groups)
    again = TestAccuracyRegressor.from_json(model.to_json())
    assert again.feature_names_in_.tolist() == ["floor", "ratio"]
    np.testing.assert_array_equal(again.predict(frame), model.predict(frame))
    with pytest.raises(ValueError, match="feature names should match"):
        again.predict(frame[["ratio", "floor"]])
    body = json.loads(model.to_json())
    with pytest.raises(DataError, match="feature_names_in_ is damaged"):
        TestAccuracyRegressor.from_json(json.dumps({**body, "feature_names_in_": ["floor"]}))


def test_scikit_learn_conventions() -> None:
    check_estimator(TestAccuracyRegressor(), on_skip=None)


@pytest.mark.parametrize("calibration", CALIBRATIONS)
def test_held_out_error_equals_scikit_learns(calibration: str) -> None:
    X, y, groups = world(6, 0.05, seed=3)
    sums = GroupSums.of(X, y, groups)
    ours = sums.squared_error(*sums.line(calibration, without=True))
    for column in range(X.shape[1]):
        for fit, judge in LeaveOneGroupOut().split(X, y, groups):
            x = X[:, [column]]
            if calibration == "identity":
                forecast = x[judge, 0]
            else:
                line = LinearRegression(fit_intercept=calibration == "line")
                forecast = line.fit(x[fit], y[fit]).predict(x[judge])
            expected = ((forecast - y[judge]) ** 2).sum()
            assert ours[groups[judge][0], column] == pytest.approx(expected, abs=1e-10)


def test_finds_the_column_and_stays_with_the_identity() -> None:
    X, y, groups = world(8, 0.02, seed=0)
    model = TestAccuracyRegressor().fit(X, y, groups=groups)
    assert (model.column_, model.calibration_) == (1, "identity")
    assert set(model.group_columns_) == {1}


@pytest.mark.parametrize(
    ("slope", "offset", "expected"), [(0.5, 0.0, "origin"), (0.5, 0.3, "line")]
)
def test_calibrates_where_the_identity_is_clearly_worse(
    slope: float, offset: float, expected: str
) -> None:
    X, y, groups = world(8, 0.01, seed=0)
    model = TestAccuracyRegressor().fit(X, slope * y + offset, groups=groups)
    assert model.calibration_ == expected
    assert model.slope_ == pytest.approx(slope, abs=0.05)
    assert model.intercept_ == pytest.approx(offset, abs=0.03)


def test_a_run_with_wild_labels_moves_only_its_own_held_out_scores_choice() -> None:
    X, y, groups = world(6, 0.02, seed=1)
    sums = GroupSums.of(X, y, groups)
    wild = y.copy()
    wild[groups == 2] = 0.0
    changed = GroupSums.of(X, wild, groups)
    assert choose(sums.drop(2)) == choose(changed.drop(2))


def test_forecasts_and_intervals_of_shares_stay_shares() -> None:
    X, y, groups = world(6, 0.05, seed=2)
    model = TestAccuracyRegressor().fit(X, y, groups=groups)
    extreme = np.array([[0.0, -3.0, 0.0], [0.0, 3.0, 0.0], [0.5, 0.01, 0.5]])
    low, high = model.predict_interval(extreme).T
    centre = model.predict(extreme)
    assert ((low <= centre) & (centre <= high)).all()
    assert low.min() >= 0
    assert high.max() <= 1


def test_intervals_hold_on_new_runs() -> None:
    inside = []
    for seed in range(60):
        X, y, groups = world(11, 0.03, seed=seed)
        seen = groups < 10
        model = TestAccuracyRegressor("identity").fit(X[seen], y[seen], groups=groups[seen])
        low, high = model.predict_interval(X[~seen], 0.9).T
        inside += ((low <= y[~seen]) & (y[~seen] <= high)).tolist()
    assert 0.85 <= np.mean(inside) <= 0.97


@pytest.mark.parametrize("runs", [3, 5, 10, 20])
@pytest.mark.parametrize("shared", [0.0, 0.5, 1.0, 2.0, 50.0])
def test_an_interval_holds_its_level_over_new_runs(runs: int, shared: float) -> None:
    # `shared`: the effect of a run, in standard deviations of what is a checkpoint's own
    rng = np.random.default_rng([runs, int(10 * shared)])
    inside = []
    for _ in range(400):
        sizes = rng.integers(2, 7, runs + 1)
        errors = [shared * rng.standard_normal() + rng.standard_normal(size) for size in sizes]
        half = half_width(errors[1:], 0.9)
        inside.append(np.mean(np.abs(errors[0]) <= half))
    assert 0.85 <= np.mean(inside) <= 0.95 + 2 * np.std(inside) / 20


@pytest.mark.parametrize("shared", [0.5, 2.0])
def test_what_is_known_of_a_run_narrows_its_interval_and_holds(shared: float) -> None:
    rng = np.random.default_rng(int(10 * shared))
    inside, alone, known = [], [], []
    for _ in range(600):
        errors = [shared * rng.standard_normal() + rng.standard_normal(5) for _ in range(11)]
        found = Errors.of(errors[1:])
        noise = np.full(3, 0.1)
        seen = errors[0][:3] + np.sqrt(noise) * rng.standard_normal(3)
        effect, variance = found.knowing(seen, noise)
        half = found.quantile(0.9) * np.sqrt(variance)
        inside.append(np.mean(np.abs(errors[0][3:] - effect) <= half))
        known.append(half)
        alone.append(found.half_width(0.9))
    assert 0.85 <= np.mean(inside) <= 0.95
    assert np.mean(known) < np.mean(alone) * (0.99 if shared < 1 else 0.7)


def test_components_are_those_of_the_layout_that_made_them() -> None:
    rng = np.random.default_rng(0)
    errors = [0.3 * rng.standard_normal() + 0.1 * rng.standard_normal(4) for _ in range(4000)]
    found = Errors.of(errors)
    assert found.between == pytest.approx(0.09, rel=0.1)
    assert found.within == pytest.approx(0.01, rel=0.1)
    assert found.freedom == pytest.approx(4000, rel=0.2)


@given(
    share=st.floats(0, 1), examples=st.integers(1, 10_000), level=st.sampled_from([0.5, 0.9, 0.99])
)
def test_a_share_of_few_examples_is_never_a_point(
    share: float, examples: int, level: float
) -> None:
    few, many = drawn_half_width(np.array([share, share]), [examples, 4 * examples], level)
    assert few > many > 0


def test_higher_levels_give_wider_intervals() -> None:
    X, y, groups = world(8, 0.03, seed=4)
    model = TestAccuracyRegressor().fit(X, y, groups=groups)
    widths = [np.ptp(model.predict_interval(X, level), axis=1) for level in (0.5, 0.8, 0.9, 0.99)]
    for narrow, wide in itertools.pairwise(widths):
        assert (narrow <= wide).all()


def test_few_runs_widen_the_interval() -> None:
    scores = [[0.01, 0.03, 0.02]] * 5
    assert half_width(scores[:2], 0.9) > half_width(scores[:3], 0.9) > half_width(scores, 0.9)
    with pytest.raises(ValueError, match="at least 2 runs"):
        half_width(scores[:1], 0.9)


def test_every_run_weighs_the_same() -> None:
    long_and_good, bad = [0.01] * 40, [0.1] * 4
    others = [bad, bad, bad, bad]
    long, short = half_width([long_and_good, *others], 0.9), half_width([[0.01] * 4, *others], 0.9)
    assert long == pytest.approx(short)


def test_json_keeps_everything() -> None:
    X, y, groups = world(6, 0.03, seed=5)
    model = TestAccuracyRegressor().fit(X, y, groups=groups)
    text = model.to_json({"about": "a test"})
    again = TestAccuracyRegressor.from_json(text)
    assert again.predict(X).tolist() == model.predict(X).tolist()
    assert again.predict_interval(X).tolist() == model.predict_interval(X).tolist()
    assert again.provenance_ == {"about": "a test"}
    assert again.to_json({"about": "a test"}) == text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "expected a JSON model file"),
        ("[1]", "found other JSON"),
        ('{"format": "activeselect-forecast", "version": 99}', "found 99"),
        ('{"format": "activeselect-forecast", "version": 2}', "without calibration"),
    ],
)
def test_broken_models_are_refused(text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        TestAccuracyRegressor.from_json(text, Path("model.json"))


def test_tampered_values_are_refused() -> None:
    X, y, groups = world(4, 0.03, seed=6)
    body = json.loads(TestAccuracyRegressor().fit(X, y, groups=groups).to_json())
    for name, value in (("slope_", "steep"), ("column_", 77), ("scores_", [[]]), ("n_groups_", -1)):
        with pytest.raises(DataError, match=name):
            TestAccuracyRegressor.from_json(json.dumps({**body, name: value}))


def test_wrong_arguments_say_what_was_expected() -> None:
    X, y, groups = world(4, 0.03, seed=7)
    with pytest.raises(ValueError, match="calibration must be one of auto, identity"):
        TestAccuracyRegressor("spline").fit(X, y, groups=groups)
    with pytest.raises(ValueError, match="at least 2 groups"):
        TestAccuracyRegressor().fit(X, y, groups=np.zeros(len(y)))
    with pytest.raises(ValueError, match="groups must have shape"):
        TestAccuracyRegressor().fit(X, y, groups=[1, 2])
    with pytest.raises(ValueError, match="level must lie"):
        TestAccuracyRegressor().fit(X, y, groups=groups).predict_interval(X, 1.0)


def test_many_rows_without_groups_are_held_out_in_lots() -> None:
    X, y, _ = world(100, 0.03, seed=8)
    assert TestAccuracyRegressor().fit(X, y).n_groups_ == MAX_LOTS
