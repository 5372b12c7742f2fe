"""Presets: declared shares, disjoint pool and test, equal data for equal seeds."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections import Counter
from functools import lru_cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from activeselect.data.pool import Pool
from activeselect.data.skills import (
    PRESETS,
    SKILLS,
    TUNING_SEED,
    SkillsData,
    build_preset,
    get_preset,
    like,
    shown,
)
from activeselect.data.skills.presets import COPY, WRONG, _counts
from activeselect.data.skills.skill import in_pool, in_test
from activeselect.errors import DataError

every_preset = pytest.mark.parametrize("name", sorted(PRESETS))


@lru_cache(maxsize=16)
def built(name: str, seed: int) -> SkillsData:
    return build_preset(name, seed, pool_size=500, test_size=250)


def questions(pool: Pool) -> set[str]:
    return set(pool.dataset["question"])


@every_preset
def test_shares_add_up_and_name_known_skills(name: str) -> None:
    preset = get_preset(name)
    for mass in (preset.pool_mass, preset.test_mass):
        assert sum(mass.values()) == pytest.approx(1.0)
        assert set(mass) <= set(SKILLS)
    assert set(preset.mastered) <= set(preset.test_mass)
    assert set(preset.noise) <= set(preset.pool_mass) - set(preset.test_mass)


@every_preset
def test_groups_have_the_declared_shares(name: str) -> None:
    data = built(name, 0)
    for pool, mass in ((data.pool, data.preset.pool_mass), (data.test, data.preset.test_mass)):
        counts = Counter(
            group.removesuffix(WRONG).removesuffix(COPY) for group in pool.dataset["group"]
        )
        if pool is data.pool and data.preset.copies:
            continue  # a copy has the group of what it copies, not of what it replaces
        assert set(counts) == set(mass)
        assert all(abs(counts[group] - mass[group] * len(pool)) < 1 for group in mass)


def test_the_presets_are_what_they_are_for() -> None:
    mixed, trap = PRESETS["mixed"], PRESETS["trap"]
    assert sum(mixed.test_mass[group] for group in mixed.mastered) == pytest.approx(0.72)
    assert dict(mixed.pool_mass) == dict(mixed.test_mass) == dict(trap.test_mass)
    assert sum(trap.pool_mass[group] for group in trap.noise) == pytest.approx(0.25)
    assert len(set(PRESETS["even"].test_mass.values())) == 1


@every_preset
def test_no_question_is_in_two_places(name: str) -> None:
    here, tuning, other = built(name, 0), built(name, TUNING_SEED), built(name, 1)
    for data in (here, tuning, other):
        assert len(questions(data.pool)) == len(data.pool)
        assert len(questions(data.test)) == len(data.test)
    tests = [questions(data.test) for data in (here, other, tuning)]
    for data in (here, tuning, other):
        assert all(questions(data.pool).isdisjoint(test) for test in tests)
    assert tests[2].isdisjoint(tests[0] | tests[1])


@every_preset
def test_a_seed_decides_everything(name: str) -> None:
    again = build_preset(name, 0, pool_size=500, test_size=250)
    assert again.pool.fingerprint == built(name, 0).pool.fingerprint
    assert again.test.fingerprint == built(name, 0).test.fingerprint
    assert built(name, 1).pool.fingerprint != built(name, 0).pool.fingerprint
    assert len(questions(built(name, 1).test) & questions(built(name, 0).test)) < 25


def test_the_data_is_the_same_on_every_platform() -> None:
    texts = []
    for name in ("even", "mixed", "trap"):
        texts += told(build_preset(name, 3, pool_size=20, test_size=20))
    assert hashlib.sha256("\n".join(texts).encode()).hexdigest()[:16] == "447dd5776e6b56ac", texts[
        0
    ]
    texts = []
    for name in sorted(set(PRESETS) - {"even", "mixed", "trap"}):
        texts += told(build_preset(name, 3, pool_size=20, test_size=20))
    assert hashlib.sha256("\n".join(texts).encode()).hexdigest()[:16] == "cbb803d5be0f85d9", texts[
        0
    ]


def told(data: SkillsData) -> list[str]:
    """Everything that a preset's pool and test hold."""
    both = (*data.pool, *data.test)
    return [repr((p.id, p.question, p.trace, p.answer, p.group)) for p in both]


SIZED = [name for name in sorted(PRESETS) if PRESETS[name].largest > 1]


@pytest.mark.parametrize("name", SIZED)
def test_sizes_are_drawn_per_seed_and_say_nothing_of_what_is_mastered(name: str) -> None:
    drawn = [PRESETS[name].drawn(seed) for seed in range(60)]
    assert drawn[0] == PRESETS[name].drawn(0)
    np.testing.assert_allclose([sum(p.pool_mass.values()) for p in drawn], 1)
    np.testing.assert_allclose([sum(p.test_mass.values()) for p in drawn], 1)
    sizes: dict[bool, list[float]] = {True: [], False: []}
    for preset in drawn:
        for group, size in preset.pool_mass.items():
            if group not in preset.noise:
                sizes[group in preset.mastered].append(size)
    assert max(sizes[False]) > 4 * min(sizes[False])
    if sizes[True]:
        assert 0.9 < np.mean(sizes[True]) / np.mean(sizes[False]) < 1.1
        unseen = [sum(v for g, v in p.test_mass.items() if g not in p.mastered) for p in drawn]
        assert 0.15 < np.mean(unseen) < 0.33


@pytest.mark.parametrize(
    ("name", "groups", "new"), [("mixed-sizes", 14, 3), ("noisy", 14, 3), ("relatives", 15, 4)]
)
def test_a_seed_has_some_unseen_skills_drawn_from_all(name: str, groups: int, new: int) -> None:
    drawn = [PRESETS[name].drawn(seed) for seed in range(40)]
    unseen = [frozenset(p.pool_mass) - set(p.mastered) for p in drawn]
    assert {len(p.pool_mass) for p in drawn} == {groups}
    assert {len(some) for some in unseen} == {new}
    assert len(set().union(*unseen)) == 8
    assert len(set(unseen)) > 20
    for preset, some in zip(drawn, unseen, strict=True):
        easy = {group for group in preset.pool_mass if group.endswith("-easy")}
        assert easy == ({f"{group}-easy" for group in some} if name == "relatives" else set())


def test_words_and_lengths_do_not_tell_what_is_mastered() -> None:
    from sklearn.feature_extraction.text import TfidfVectorizer

    def purity(name: str) -> float:
        data = build_preset(name, 0, pool_size=1000, test_size=20)
        groups = np.array(data.pool.dataset["group"])
        words = TfidfVectorizer(token_pattern=r"\w+", sublinear_tf=True)
        near = words.fit_transform(data.pool.dataset["question"])
        cosine = (near @ near.T).toarray() - 2 * np.eye(len(groups))
        return float(np.mean(groups[np.argsort(-cosine, axis=1)[:, :8]] == groups[:, None]))

    assert purity("mixed") > 0.97
    assert purity("relatives") < 0.9
    data = build_preset("relatives", 0, pool_size=2000, test_size=20)
    known = np.isin(data.pool.dataset["group"], data.preset.mastered)
    long = np.array([trace.count(" = ") == 3 for trace in data.pool.dataset["trace"]])
    assert long[~known].all()
    assert long[known].mean() > 0.05


def test_wrong_answers_are_spread_evenly_and_fit_no_question() -> None:
    data = build_preset("noisy", 0, pool_size=2000, test_size=200)
    wrong = [p for p in data.pool if p.group.endswith(WRONG)]
    assert len(wrong) == 300
    for problem in wrong:
        left, op, right = problem.trace.split(" . ")[-2].split()[1:4]
        result = problem.trace.rsplit(" = ", 1)[1].split()[0]
        value = {"+": int(left) + int(right), "-": int(left) - int(right),
                 "x": int(left) * int(right), "/": int(left) / int(right)}[op]  # fmt: skip
        assert value != int(result) == int(problem.answer)
        assert problem.trace.endswith(f"answer : {problem.answer}")
    share = Counter(p.group.removesuffix(WRONG) for p in wrong)
    assert all(
        abs(share[group] - 300 * part) < 4 * np.sqrt(300 * part) + 1
        for group, part in data.preset.pool_mass.items()
    )
    assert not any(group.endswith(WRONG) for group in data.test.group_names)


def test_a_fifth_nearly_repeats_another_problem() -> None:
    data = build_preset("duplicates", 0, pool_size=1000, test_size=50)
    copies = [p for p in data.pool if p.group.endswith(COPY)]
    assert len(copies) == 200
    assert len(questions(data.pool)) == 1000


def test_a_shifted_test_asks_for_half_of_the_groups() -> None:
    for seed in range(5):
        data = built("shift", seed)
        assert set(data.preset.test_mass) < set(data.preset.pool_mass)
        assert len(data.preset.test_mass) == 8
        assert len(set(data.preset.mastered) & set(data.preset.test_mass)) == 6
    assert set(built("shift", 0).preset.test_mass) != set(built("shift", 1).preset.test_mass)


def test_tales_are_as_long_as_they_say_and_tell_strategies_nothing() -> None:
    data = build_preset("steps", 0, pool_size=600, test_size=60)
    for problem in data.pool:
        assert problem.group.startswith(f"({problem.trace.count(' = ')} step")
    assert shown(data.pool).group_names == ("",)
    assert shown(data.pool).stated().group_names == data.pool.group_names
    assert shown(build_preset("mixed", 0, pool_size=50, test_size=9).pool).group_names != ("",)
    spoiled = build_preset("noisy", 0, pool_size=600, test_size=60).pool
    assert not any("(" in name for name in shown(spoiled).group_names)


def test_hard_groups_outlast_a_whole_budget() -> None:
    data = build_preset("mixed", 5)
    hard = [group for group in data.pool.dataset["group"] if group not in data.preset.mastered]
    assert len(data.pool) == 8000
    assert len(hard) > 1.5 * 1200


@every_preset
@settings(deadline=None, max_examples=12)
@given(seed=st.integers(0, 10_000))
def test_like_keeps_the_skill_and_changes_the_question(name: str, seed: int) -> None:
    data = built(name, 0)
    problem = data.pool[seed % len(data.pool)]
    fresh = like(problem, np.random.default_rng(seed))
    assert fresh.group == problem.group
    assert fresh.question != problem.question
    assert in_pool(fresh.question)
    assert fresh == like(problem, np.random.default_rng(seed))


@settings(deadline=None, max_examples=40)
@given(question=st.text(), seed=st.integers(0, 10_000))
def test_a_question_has_one_place(question: str, seed: int) -> None:
    assert in_pool(question) + in_test(question, 0) + in_test(question, TUNING_SEED) <= 1
    assert in_test(question, seed) == in_test(question, 0 if seed < TUNING_SEED else TUNING_SEED)


@settings(deadline=None, max_examples=40)
@given(parts=st.lists(st.integers(1, 50), min_size=1, max_size=9), size=st.integers(1, 3000))
def test_counts_are_whole_and_near_their_share(parts: list[int], size: int) -> None:
    mass = {f"g{i}": part / sum(parts) for i, part in enumerate(parts)}
    counts = _counts(mass, size)
    assert sum(counts.values()) == size
    assert all(abs(counts[name] - mass[name] * size) < 1 + 1e-9 for name in mass)


def test_an_unknown_preset_is_answered_with_the_nearest() -> None:
    with pytest.raises(
        DataError, match=r"'mixd'.*Did you mean 'mixed'.*even, even-sizes, mixed, mixed-sizes"
    ):
        build_preset("mixd", 0)


@pytest.mark.parametrize(
    ("argument", "text"),
    [({"seed": -1}, "seed must be at least 0, got -1"),
     ({"pool_size": 0}, "pool_size must be at least 1, got 0"),
     ({"test_size": -3}, "test_size must be at least 1, got -3")],
)  # fmt: skip
def test_numbers_out_of_range_are_refused(argument: dict[str, int], text: str) -> None:
    with pytest.raises(DataError, match=text):
        build_preset("mixed", **{"seed": 0, **argument})


def test_the_benchmark_needs_no_torch() -> None:
    code = (
        "import sys; from activeselect.data.skills import build_preset; "
        "build_preset('mixed', 0, pool_size=20, test_size=20); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
