"""Sampling policies: their promises, and their estimates against slow or known truths."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from activeselect.scoring import trajectory
from activeselect.scoring.budget import (
    Adaptive,
    Exact,
    SamplingPolicy,
    SkipMemorized,
    gain,
    systematic_subset,
)
from activeselect.scoring.functional import pre_memorization_accuracy
from activeselect.scoring.memorizing import memorized_next
from activeselect.scoring.text_features import standardized
from activeselect.scoring.trajectory import SPREAD, Counts, beliefs, best_open
from activeselect.scoring.walk import ACCURACY, LOG_ODDS, fit_line, likeliest, move, walk
from research.sampling_replay import sample

TAU, SAMPLES = 0.1, 4


def world(seed: int, *, rounds: int = 3, size: int = 40, walk: float = 0.6):
    """Known accuracies that wander in log-odds, NLLs that fall, and many outcomes."""
    rng = np.random.default_rng(seed)
    steps = np.concatenate(
        [rng.normal(0, SPREAD, (1, size)), rng.normal(0, walk, (rounds - 1, size))]
    )
    log_odds = np.cumsum(steps, axis=0)
    accuracy = 1 / (1 + np.exp(-log_odds))
    nll = 0.4 * np.cumprod(rng.uniform(0.3, 1.0, (rounds, size)), axis=0)
    outcomes = rng.random((rounds, size, 25)) < accuracy[:, :, None]
    zero = np.zeros((rounds, size, 1), dtype=np.int64)
    return accuracy, nll, np.concatenate([zero, outcomes.cumsum(axis=2)], axis=2)


def policies(rounds: int, share: float = 0.3) -> list[SamplingPolicy]:
    return [
        Exact(SAMPLES, TAU),
        SkipMemorized(SAMPLES, TAU),
        Adaptive(SAMPLES, TAU, rounds, share),
        Adaptive(SAMPLES, TAU, rounds, share, threshold=0.6),
    ]


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 4), st.sampled_from([0.05, 0.2, 0.5, 1.0]))
def test_never_more_than_n_in_a_round_nor_than_the_share(
    seed: int, rounds: int, share: float
) -> None:
    _, nll, right = world(seed, rounds=rounds)
    for policy in policies(rounds, share):
        counts = sample(policy, right, nll, None)
        assert counts.sampled.max() <= SAMPLES
        premem = policy.premem(counts)
        assert np.all((premem >= 0) & (premem <= 1))
        if policy.name != "exact":
            assert not counts.sampled[nll < TAU].any()
        if isinstance(policy, Adaptive):
            assert counts.sampled.sum() <= share * SAMPLES * nll.size


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 10_000))
def test_exact_is_the_papers_formula(seed: int) -> None:
    _, nll, right = world(seed)
    counts = sample(Exact(SAMPLES, TAU), right, nll, None)
    assert np.all(counts.sampled == SAMPLES)
    expected = pre_memorization_accuracy(right[:, :, SAMPLES] / SAMPLES, nll, TAU)[-1]
    np.testing.assert_array_equal(Exact(SAMPLES, TAU).premem(counts), expected)


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 10_000))
def test_skipping_is_exact_where_the_best_masked_accuracy_is_0_and_where_open(seed: int) -> None:
    _, nll, right = world(seed)
    exact, skip = Exact(SAMPLES, TAU), SkipMemorized(SAMPLES, TAU)
    a = exact.premem(sample(exact, right, nll, None))
    b = skip.premem(sample(skip, right, nll, None))
    accuracy = right[:, :, SAMPLES] / SAMPLES
    same = (np.where(nll >= TAU, accuracy, 0).max(axis=0) == 0) | (nll[-1] >= TAU)
    np.testing.assert_array_equal(a[same], b[same])
    assert np.all(b >= a)


@settings(max_examples=4, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([None, 0.6]))
def test_the_order_of_the_examples_does_not_matter(seed: int, threshold: float | None) -> None:
    _, nll, right = world(seed)
    order = np.random.default_rng(seed).permutation(nll.shape[1])
    policy = Adaptive(SAMPLES, TAU, 3, 0.4, threshold=threshold)
    counts = sample(policy, right, nll, None)
    moved = sample(policy, right[:, order], nll[:, order], None)
    np.testing.assert_array_equal(moved.sampled, counts.sampled[:, order])
    np.testing.assert_allclose(policy.premem(moved), policy.premem(counts)[order], atol=1e-9)


def test_asking_is_a_pure_function_of_the_counts() -> None:
    _, nll, right = world(3)
    used = Adaptive(SAMPLES, TAU, 3, 0.4)
    counts = sample(used, right, nll, None)
    for drawn in range(3):  # a fresh policy in the middle of the last round asks for the same
        sampled = np.minimum(counts.sampled, drawn)
        sampled[:-1] = counts.sampled[:-1]
        got = np.take_along_axis(right, sampled[:, :, None], axis=2)[:, :, 0]
        middle = Counts(got, sampled, nll)
        fresh = Adaptive(SAMPLES, TAU, 3, 0.4)
        np.testing.assert_array_equal(fresh.ask(middle), used.ask(middle))


@pytest.mark.parametrize("size", [12, 150, 600])
def test_few_turns_fill_a_round(size: int) -> None:
    """Each turn reads prompts again and ends with small batches."""
    _, nll, right = world(0, rounds=1, size=size)
    policy = Adaptive(SAMPLES, 0.0, 1, share=0.4)
    asked: list[int] = []

    class Watched(Adaptive):
        def ask(self, counts: Counts) -> np.ndarray:
            wanted = policy.ask(counts)
            asked.append(int(wanted.sum()))
            return wanted

    counts = sample(Watched(SAMPLES, 0.0, 1), right, nll, None)
    assert len(asked) <= 5
    assert asked.pop() == 0
    assert counts.sampled.sum() == int(0.4 * SAMPLES * size) == sum(asked)


def test_premem_and_accuracy_of_the_same_counts_whichever_is_asked_first() -> None:
    _, nll, right = world(3)
    one, other = (Adaptive(SAMPLES, TAU, 3, share=0.4) for _ in range(2))
    counts = sample(one, right, nll, None)
    accuracy, premem = one.accuracy(counts), one.premem(counts)
    np.testing.assert_array_equal(premem, other.premem(counts))
    np.testing.assert_array_equal(accuracy, other.accuracy(counts))
    np.testing.assert_allclose(accuracy, beliefs(counts) @ ACCURACY)
    earlier = counts.before(2)
    np.testing.assert_array_equal(one.premem(earlier), Adaptive(SAMPLES, TAU, 3).premem(earlier))
    np.testing.assert_array_equal(one.premem(counts), premem)


def test_unbiased_where_the_truth_is_known_and_the_maximum_is_not() -> None:
    biases, raw = [], []
    for seed in range(4):
        accuracy, nll, right = world(seed, rounds=4, size=3000, walk=1.0)
        policy = Adaptive(SAMPLES, TAU, 4, 0.35, resolution=25)
        shown = np.random.default_rng([seed, 1]).binomial(25, accuracy) / 25  # fresh samples
        opened = nll >= TAU
        best = np.where(opened, shown, 0).max(axis=0)
        truth = np.where(opened[-1], shown[-1], best)
        biases.append(policy.premem(sample(policy, right, nll, None)).mean() - truth.mean())
        skip = SkipMemorized(SAMPLES, TAU)
        raw.append(skip.premem(sample(skip, right, nll, None)).mean() - truth.mean())
    assert abs(np.mean(biases)) < 0.005
    assert np.mean(raw) > 0.015


def test_the_best_agrees_with_paths_drawn_one_by_one() -> None:
    """Importance-weighted random paths of one example, without a grid of maxima."""
    right, sampled = np.array([[1], [3]]), np.array([[2], [4]])
    counts = Counts(right, sampled, np.array([[0.5], [0.3]]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trajectory, "fit_line", lambda x, *_: (np.full(x.shape[1], 0.1), 0.0))
        patch.setattr(trajectory, "likeliest", lambda usual, _: usual / 2)
        fast, belief = best_open(counts, TAU, 10)
        np.testing.assert_allclose(belief, beliefs(counts))
    rng = np.random.default_rng(0)
    shift = [0.1 + 0.1 * np.log(0.5 / 0.3), 0.1 + 0.1 * np.log(0.3 / 0.5)]
    start = np.exp(-0.5 * ((LOG_ODDS - shift[0]) / (SPREAD / 2)) ** 2)
    a = rng.choice(LOG_ODDS, 200_000, p=start / start.sum())
    b = np.clip(a + rng.normal(shift[1], trajectory.WALK / 2, len(a)), -6, 6)
    p, q = 1 / (1 + np.exp(-a)), 1 / (1 + np.exp(-b))
    weight = p * (1 - p) * q**3 * (1 - q)
    best = np.maximum(rng.binomial(10, p), rng.binomial(10, q)) / 10
    slow = float((weight * best).sum() / weight.sum())
    assert fast[0] == pytest.approx(slow, abs=0.01)
    assert belief[0] @ ACCURACY == pytest.approx((weight * q).sum() / weight.sum(), abs=0.01)


def test_a_step_keeps_mass_and_shifts_the_mean() -> None:
    belief = np.random.default_rng(0).dirichlet(np.ones(len(LOG_ODDS)), (5, 3))
    belief[..., :8] = belief[..., -8:] = 0.0  # far from the ends, which absorb
    belief /= belief.sum(axis=2, keepdims=True)
    shift = np.array([-0.7, 0.0, 0.26, 0.5, 1.3])
    after = move(walk(belief, 0.3), shift)
    np.testing.assert_allclose(after.sum(axis=2), 1)
    moved = np.repeat(shift[:, None], 3, 1)
    np.testing.assert_allclose((after - belief) @ LOG_ODDS, moved, atol=1e-3)
    assert np.all(move(belief, np.full(5, 99.0))[..., -1] > 1 - 1e-9)


def test_a_line_is_not_misled_by_counts_that_depend_on_outcomes() -> None:
    """Asking again after a wrong answer: the pooled share falls, the estimate must not."""
    rng = np.random.default_rng(0)
    size, sd, level = 40_000, 1.5, -1.0
    accuracy = 1 / (1 + np.exp(-rng.normal(level, sd, size)))
    first = rng.random(size) < accuracy
    sampled = np.where(first, 1, 4)
    right = first + rng.binomial(sampled - 1, accuracy)
    belief = walk((LOG_ODDS == 0).astype(float)[None, :], sd)
    weights, _ = fit_line(np.ones((size, 1)), belief, right, sampled)
    assert weights[0] == pytest.approx(level, abs=0.03)


def test_the_chance_of_memorization_follows_the_fall_of_the_nlls() -> None:
    rng = np.random.default_rng(0)
    before = np.exp(rng.normal(0.0, 0.5, 5000))
    now = before * np.exp(-rng.normal(1.3, 0.8, 5000))
    after = now * np.exp(-rng.normal(1.3, 0.8, 5000))
    none = np.zeros((2, 5000), dtype=np.int64)
    chance = memorized_next(Counts(none, none, np.stack([before, now])), TAU)
    bins = np.digitize(chance, [0.2, 0.4, 0.6, 0.8])
    for b in range(5):
        assert (after < TAU)[bins == b].mean() == pytest.approx(chance[bins == b].mean(), abs=0.06)
    missing = np.where(rng.random(5000) < 0.5, np.nan, now)
    assert not memorized_next(Counts(none[:1], none[:1], missing[None]), TAU)[
        np.isnan(missing)
    ].any()


@pytest.mark.parametrize("wide", [0.4, 1.0, 2.2])
def test_a_run_finds_its_own_walk_from_two_samples_a_round(wide: float) -> None:
    accuracy, _, _ = world(7, rounds=2, size=20_000, walk=wide)
    right = np.random.default_rng(8).binomial(2, accuracy)
    counts = Counts(right, np.full(right.shape, 2), np.full(right.shape, 0.3))
    belief, first = trajectory.advance(trajectory._unknown(20_000), counts, 0)
    _, second = trajectory.advance(belief, counts, 1)
    assert first.spread == pytest.approx(SPREAD, rel=0.1)
    assert second.walk == pytest.approx(wide, rel=0.2)


def test_nlls_that_lie_close_together_may_tell_all() -> None:
    """A slope of 20 on NLLs that differ by a tenth; a penalty on it would shrink the spread."""
    rng = np.random.default_rng(9)
    size = 4000
    log = rng.normal(0, 0.1, size)
    accuracy = 1 / (1 + np.exp(-rng.normal(20 * log, 1.5)))
    sampled = np.full((1, size), 2)
    counts = Counts(rng.binomial(2, accuracy)[None], sampled, 0.3 * np.exp(log)[None])
    belief, step = trajectory.advance(trajectory._unknown(size), counts, 0)
    assert step.spread == pytest.approx(1.5, rel=0.15)
    assert np.polyfit(log, step.shift, 1)[0] == pytest.approx(20, rel=0.1)
    assert (belief @ ACCURACY).mean() == pytest.approx(accuracy.mean(), abs=0.01)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([0.1, 1.5]))
def test_the_unit_of_the_nlls_does_not_matter(seed: int, power: float) -> None:
    counts, _ = ragged(seed)
    stretched = 0.3 * (counts.mean_nll / 0.3) ** power
    other = Counts(counts.right, counts.sampled, stretched, counts.features)
    np.testing.assert_allclose(beliefs(other), beliefs(counts), atol=1e-6)


def test_the_likeliest_is_the_top_of_a_parabola_and_the_usual_one_without_evidence() -> None:
    assert likeliest(2.0, lambda _: (np.zeros(1), 0.0)) == pytest.approx(2.0)
    for sd in (1.0, 1.3, 2.9):
        found = likeliest(2.0, lambda tried, sd=sd: (np.zeros(1), -1e6 * np.log(tried / sd) ** 2))
        assert found == pytest.approx(sd, rel=1e-3)


def test_gain_is_the_expected_fall_of_the_variance() -> None:
    rng = np.random.default_rng(1)
    belief = rng.dirichlet(np.ones(len(ACCURACY)), 3)
    value = ACCURACY**2

    def variance(weights: np.ndarray) -> float:
        return float(weights @ value**2 - (weights @ value) ** 2)

    for row, worth in zip(belief, gain(belief, value), strict=True):
        right, wrong = row * ACCURACY, row * (1 - ACCURACY)
        after = sum(part.sum() * variance(part / part.sum()) for part in (right, wrong))
        assert worth == pytest.approx(variance(row) - after)


def test_features_say_what_was_not_sampled_and_noise_says_little() -> None:
    rng = np.random.default_rng(6)
    size = 2000
    features = rng.normal(0, 1, (size, 5))
    accuracy = 1 / (1 + np.exp(-1.5 * features[:, 0]))
    sampled = np.where(np.arange(size) < 400, 2, 0)[None]
    right = rng.binomial(sampled, accuracy)
    belief, plain = (
        beliefs(Counts(right, sampled, np.full((1, size), 0.3), given)) @ ACCURACY
        for given in (features, None)
    )
    assert np.corrcoef(belief[400:], accuracy[400:])[0, 1] > 0.95
    assert np.ptp(plain[400:]) == 0
    few = sampled * (np.arange(size) < 10)  # of noise, ten samples must not make much
    noise = beliefs(Counts(few // 2, few, np.full((1, size), 0.3), features)) @ ACCURACY
    assert noise[400:].std() < 0.05


def test_a_threshold_moves_the_samples_to_it() -> None:
    _, nll, right = world(5, rounds=1, size=2000)
    nll = np.full_like(nll, 0.3)
    spent = []
    for threshold in (0.1, 0.9):
        policy = Adaptive(8, TAU, 1, 0.4, threshold=threshold)
        counts = sample(policy, right, nll, None)
        last = counts.accuracy[0]
        spent.append(counts.sampled[0][last > 0.7].mean() / counts.sampled[0][last < 0.3].mean())
    assert spent[0] < 0.8 < 1.25 < spent[1]


def ragged(seed: int, rounds: int = 4) -> tuple[Counts, np.ndarray]:
    """Examples that came in different rounds (some never), measured in all rounds since."""
    _, nll, right = world(seed, rounds=rounds)
    rng = np.random.default_rng(seed)
    came = rng.integers(0, rounds + 1, nll.shape[1])
    here = np.arange(rounds)[:, None] >= came
    sampled = rng.integers(0, SAMPLES + 1, nll.shape) * here
    got = np.take_along_axis(right, sampled[:, :, None], axis=2)[:, :, 0]
    features = rng.normal(0, 1, (nll.shape[1], 3))
    return Counts(got, sampled, np.where(here, nll, np.nan), features), came


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 3))
def test_rounds_before_anything_was_measured_change_nothing(seed: int, before: int) -> None:
    counts, _ = ragged(seed)
    none = np.zeros((before, counts.right.shape[1]), dtype=np.int64)
    padded = Counts(
        np.concatenate([none, counts.right]),
        np.concatenate([none, counts.sampled]),
        np.concatenate([none * np.nan, counts.mean_nll]),
        counts.features,
    )
    for a, b in zip(policies(5), policies(5 + before), strict=True):
        np.testing.assert_array_equal(a.premem(counts), b.premem(padded))
        np.testing.assert_array_equal(a.ask(counts), b.ask(padded))


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10_000))
def test_an_example_is_what_its_measured_rounds_say_but_for_the_shared_fits(seed: int) -> None:
    counts, came = ragged(seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trajectory, "fit_line", lambda x, *_: (np.full(x.shape[1], 0.1), 0.0))
        patch.setattr(trajectory, "likeliest", lambda usual, _: usual)
        for policy in policies(5):
            premem = policy.premem(counts)
            assert np.all(np.isnan(premem[came == len(counts.right)]))
            for i in np.flatnonzero(came < len(counts.right)):
                one = (slice(came[i], None), slice(i, i + 1))
                assert counts.features is not None
                alone = Counts(
                    counts.right[one],
                    counts.sampled[one],
                    counts.mean_nll[one],
                    counts.features[[i]],
                )
                np.testing.assert_allclose(policy.premem(alone), premem[[i]], atol=1e-12)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10_000))
def test_what_is_not_measured_in_a_round_is_neither_asked_for_nor_changed(seed: int) -> None:
    _, nll, right = world(seed, rounds=4)
    gone = np.random.default_rng(seed).random(nll.shape) < 0.3
    for policy in policies(4):
        counts = sample(policy, right, np.where(gone, np.nan, nll), None)
        assert not counts.sampled[gone].any()
        earlier, still = policy.premem(counts.before(3)), gone[-1]
        np.testing.assert_allclose(policy.premem(counts)[still], earlier[still], atol=1e-12)
        assert np.all(np.isfinite(policy.premem(counts)[counts.measured.any(axis=0)]))


def test_a_systematic_subset_is_fair() -> None:
    nll = np.random.default_rng(0).random(50)
    rng = np.random.default_rng(1)
    chosen = np.zeros(50)
    for _ in range(4000):
        subset = systematic_subset(nll, 0.3, rng)
        assert len(subset) in (15, 16) or len(subset) == 14
        chosen[subset] += 1
    np.testing.assert_allclose(chosen / 4000, 0.3, atol=0.04)
    with pytest.raises(ValueError, match=r"share must lie in \(0, 1\]"):
        systematic_subset(nll, 0.0, rng)


def test_impossible_counts_are_refused() -> None:
    one = np.ones((1, 2), dtype=np.int64)
    with pytest.raises(ValueError, match="right <= sampled"):
        Counts(2 * one, one, one * 0.5)
    with pytest.raises(ValueError, match="finite, or NaN"):
        Counts(one, one, one * np.inf)
    with pytest.raises(ValueError, match="mean_nll of every sampled example"):
        Counts(one, one, np.array([[0.5, np.nan]]))
    with pytest.raises(ValueError, match=r"features must be \[2, F\]"):
        Counts(one, one, one * 0.5, np.zeros((3, 1)))
    with pytest.raises(ValueError, match="features must be finite"):
        Counts(one, one, one * 0.5, np.full((2, 1), np.nan))
    with pytest.raises(ValueError, match="rounds, examples"):
        Counts(one, one[0], one * 0.5)


@pytest.mark.parametrize("seed", range(3))
def test_a_line_is_found_where_all_answers_are_wrong_and_rounding_does_not_move_it(
    seed: int,
) -> None:
    rng = np.random.default_rng(seed)
    nll = 5.4 * np.exp(0.0095 * rng.standard_normal((1, 18)))
    sampled = (np.arange(18) < 13).astype(np.int64)[None]
    features = standardized(rng.standard_normal((18, 5)))
    accuracy = [
        beliefs(Counts(np.zeros_like(sampled), sampled, nll * (1 + rounding), features)) @ ACCURACY
        for rounding in (0.0, 1e-7 * rng.standard_normal((1, 18)))
    ]
    assert accuracy[0].mean() < 0.08  # 13 wrong answers of 13
    np.testing.assert_allclose(*accuracy, rtol=1e-4)
