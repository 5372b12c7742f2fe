"""Each measure equals its slow reference, and the intervals hold what they promise."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from activeselect.audit import measures as fast
from activeselect.audit.catalogue import MEASURES

Rng = np.random.Generator


def ragged(rng: Rng, problems: int, columns: int, draw: str) -> np.ndarray:
    """Rows of different length, padded with NaN; some rows are empty."""
    values = {
        "log": -rng.exponential(2, size=(problems, columns)),
        "bit": rng.integers(2, size=(problems, columns)).astype(float),
        "code": rng.integers(3, size=(problems, columns)).astype(float),
    }[draw]
    lengths = rng.integers(0, columns + 1, size=problems)
    return np.where(np.arange(columns) < lengths[:, None], values, np.nan)


seeds = st.integers(0, 10_000).map(np.random.default_rng)


@given(rng=seeds, problems=st.integers(1, 8), columns=st.integers(1, 6))
def test_measures_of_a_chain_equal_their_references(
    reference: ModuleType, rng: Rng, problems: int, columns: int
) -> None:
    log_p = ragged(rng, problems, columns, "log")
    same = ragged(rng, problems, columns, "bit")
    codes = ragged(rng, problems, columns, "code")
    control = ragged(rng, problems, columns, "bit")
    probability = np.exp(log_p)
    expected = {
        "gain": [reference.gain_per_step(row) for row in log_p.tolist()],
        "mistake": [
            reference.changed_by_mistake(a, b)
            for a, b in zip(same.tolist(), control.tolist(), strict=True)
        ],
        "commit": [reference.commit_point(row) for row in codes.tolist()],
        "jump": [reference.largest_jump(row)[0] for row in probability.tolist()],
        "where": [reference.largest_jump(row)[1] for row in probability.tolist()],
    }
    jump, where = fast.largest_jump(probability)
    found = {
        "gain": fast.gain_per_step(log_p),
        "mistake": fast.changed_by_mistake(same, control),
        "commit": fast.commit_point(codes),
        "jump": jump,
        "where": where,
    }
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, atol=1e-12, err_msg=name)


@given(rng=seeds, problems=st.integers(1, 30), columns=st.integers(2, 6))
def test_early_answering_is_the_papers_weighted_area(
    reference: ModuleType, rng: Rng, problems: int, columns: int
) -> None:
    codes = ragged(rng, problems, columns, "code")
    same = fast.same_as_last(codes)
    last = [[x for x in row if x == x][-1:] for row in codes.tolist()]
    for row, found, final in zip(codes.tolist(), same.tolist(), last, strict=True):
        assert [x == 1 for x in found] == [[x] == final for x in row]
    if np.isnan(fast.steps_of(same)).all():
        assert np.isnan(fast.mean(fast.changes_when_cut(same)))
        return
    expected = reference.early_answering(same.tolist())
    assert fast.mean(fast.changes_when_cut(same)) == pytest.approx(expected)


@given(rng=seeds, problems=st.integers(1, 20), levels=st.integers(1, 6))
def test_filler_drop(reference: ModuleType, rng: Rng, problems: int, levels: int) -> None:
    right = rng.integers(2, size=problems).astype(float)
    filled = rng.integers(2, size=(problems, levels)).astype(float)
    right[1:][rng.random(problems - 1) < 0.3] = np.nan
    expected = reference.filler_drop(right.tolist(), filled.tolist())
    assert fast.filler_drop(right, filled) == pytest.approx(expected)


@given(rng=seeds, problems=st.integers(1, 6), tokens=st.integers(1, 9), share=st.floats(0.05, 1))
def test_forking_share(
    reference: ModuleType, rng: Rng, problems: int, tokens: int, share: float
) -> None:
    entropy = rng.exponential(1, size=(problems, tokens))
    entropy[0, 1:] = np.nan
    expected = reference.forking_share(entropy.tolist(), share)
    assert fast.forking_share(entropy, share) == pytest.approx(expected)


@given(rng=seeds, problems=st.integers(1, 6), samples=st.integers(2, 6))
def test_length_within_problems(
    reference: ModuleType, rng: Rng, problems: int, samples: int
) -> None:
    right = rng.integers(2, size=(problems, samples)).astype(float)
    length = rng.integers(5, 40, size=(problems, samples)).astype(float)
    rows = zip(right.tolist(), length.tolist(), strict=True)
    expected = [reference.shorter_when_right(r, n) for r, n in rows]
    np.testing.assert_allclose(fast.shorter_when_right(right, length), expected)
    found = fast.length_curve(right, length)
    if not np.isnan(found).any():
        curve = reference.length_curve(right.tolist(), length.tolist())
        np.testing.assert_allclose(found, curve, rtol=1e-4, atol=1e-6)


def test_length_is_not_confounded_by_difficulty() -> None:
    """Hard problems have long wrong chains, but within a problem length says nothing."""
    length = np.array([[10.0, 12, 14, 16]] * 20 + [[30.0, 32, 34, 36]] * 20)
    right = np.array([[1.0, 1, 1, 1]] * 20 + [[0.0, 0, 0, 0]] * 20)
    assert np.isnan(fast.shorter_when_right(right, length)).all()
    np.testing.assert_allclose(fast.length_curve(right, length), (0, 0), atol=1e-9)


@given(rng=seeds, problems=st.integers(1, 6), wordings=st.integers(2, 6))
def test_sensitivity_is_the_share_of_pairs_that_disagree(
    reference: ModuleType, rng: Rng, problems: int, wordings: int
) -> None:
    right = rng.integers(2, size=(problems, wordings)).astype(float)
    expected = [reference.sensitivity(row) for row in right.tolist()]
    np.testing.assert_allclose(fast.sensitivity(right), expected)


@pytest.mark.parametrize("seed", range(6))
def test_omega_equals_least_squares_on_the_covariances(reference: ModuleType, seed: int) -> None:
    rng = np.random.default_rng(seed)
    ability = rng.normal(size=(200, 1))
    noise = rng.normal(size=(200, 5)) * rng.uniform(0.5, 1.5, size=5)
    right = (ability * rng.uniform(0.5, 1.5, size=5) + noise > 0).astype(float)
    assert fast.omega(right) == pytest.approx(reference.omega(right.tolist()), abs=1e-4)


def test_omega_keeps_signs_and_admits_what_it_cannot_fit() -> None:
    rng = np.random.default_rng(0)
    ability = rng.normal(size=500)
    right = np.stack([ability + rng.normal(size=500) * 0.5 for _ in range(4)], axis=1)
    against = right.copy()
    against[:, 0] *= -1
    assert fast.omega(right) == pytest.approx(16 / 17, abs=0.02)
    # (1 + 1 + 1 - 1)^2 / (4 + 4 x .25); absolute correlations would give the same as above
    assert fast.omega(against) == pytest.approx(4 / 5, abs=0.03)
    assert np.isnan(fast.omega(np.ones((20, 4))))
    assert np.isnan(fast.omega(right[:, :2]))


@given(rng=seeds, a=st.integers(1, 8), b=st.integers(1, 8))
def test_area_under_roc(reference: ModuleType, rng: Rng, a: int, b: int) -> None:
    high, low = rng.integers(4, size=a).astype(float), rng.integers(4, size=b).astype(float)
    expected = reference.area_under_roc(high.tolist(), low.tolist())
    assert fast.area_under_roc(high, low) == pytest.approx(expected)


@given(rng=seeds, problems=st.integers(1, 12), columns=st.integers(1, 5))
def test_measures_that_are_means_equal_their_references(
    reference: ModuleType, rng: Rng, problems: int, columns: int
) -> None:
    def bits(width: int) -> np.ndarray:
        some = rng.integers(2, size=(problems, width)).astype(float)
        return np.where(rng.random((problems, width)) < 0.2, np.nan, some)

    samples, own = ragged(rng, problems, columns, "bit"), np.exp(ragged(rng, problems, 4, "log"))
    three, one, other = bits(3), bits(1)[:, 0], bits(1)[:, 0]
    arrays = {
        "accuracy": {"right": samples},
        "hedging": {"hedged": samples},
        "confidence": {"own": own},
        "irrelevant": {"control": one, "unchanged": other},
        "paraphrase": {"right": three},
        **{name: {name: one, "original": other} for name in ("renamed", "reordered", "renumbered")},
        "step_less": {"right": three},
        "step_more": {"right": three},
    }
    first, second, third = three.T.tolist()
    expected = {
        "accuracy": reference.share_of_samples(samples.tolist()),
        "hedging": reference.share_of_samples(samples.tolist()),
        "confidence": reference.rise(own.tolist()),
        "irrelevant": reference.difference(one.tolist(), other.tolist()),
        "paraphrase": reference.difference(third, first),
        **{
            name: reference.difference(one.tolist(), other.tolist())
            for name in ("renamed", "reordered", "renumbered")
        },
        "step_less": reference.difference(first, second),
        "step_more": reference.difference(second, third),
    }
    for name, value in expected.items():
        found = MEASURES[name].statistic(arrays[name])
        assert found == pytest.approx(value, nan_ok=True), name


@given(rng=seeds, problems=st.integers(2, 9))
def test_intervals_are_percentiles_of_what_is_drawn(
    reference: ModuleType, rng: Rng, problems: int
) -> None:
    """Problems drawn with replacement one after the other, the same ones for both models."""
    ours, theirs = rng.normal(size=problems), rng.normal(size=problems)
    drawn = np.random.default_rng(7).integers(problems, size=(40, problems)).tolist()
    means = [sum(ours[i] for i in rows) / problems for rows in drawn]
    gains = [sum(ours[i] - theirs[i] for i in rows) / problems for rows in drawn]

    def statistic(arrays: fast.Arrays) -> float:
        return fast.mean(arrays["x"])

    again = np.random.default_rng(7)
    found = fast.interval(statistic, {"x": ours}, again, 40)
    assert found == pytest.approx([reference.percentile(means, p) for p in (0.025, 0.975)])
    again = np.random.default_rng(7)
    found = fast.paired_interval(statistic, {"x": ours}, {"x": theirs}, again, 40)
    assert found == pytest.approx([reference.percentile(gains, p) for p in (0.025, 0.975)])


def test_interval_covers_the_true_mean() -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(200):
        values = (rng.random(80) < 0.4).astype(float)
        low, high = fast.interval(lambda a: fast.mean(a["x"]), {"x": values}, rng, 200)
        covered += low <= 0.4 <= high
    assert covered / 200 > 0.9


def test_paired_interval_takes_off_what_both_models_share() -> None:
    rng = np.random.default_rng(0)
    hard = rng.normal(size=100) * 10
    ours, theirs = {"x": hard + 1}, {"x": hard + rng.normal(size=100) * 0.1}

    def statistic(arrays: fast.Arrays) -> float:
        return fast.mean(arrays["x"])

    low, high = fast.paired_interval(statistic, ours, theirs, rng)
    assert 0.9 < low < 1 < high < 1.1
    low, high = fast.interval(statistic, ours, rng)
    assert high - low > 2
    empty = {"x": np.full(5, np.nan)}
    assert np.isnan(fast.interval(statistic, empty, rng)).all()
