"""Mixtures of skills: the pool that is learned from and the test that is reported on.

One real record of ``mixed``'s pool: see ``skill.py``. A preset states each group's share of pool
and test; the data has these shares up to rounding, so that they add no variance between seeds.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from activeselect.data.pool import Pool, Problem
from activeselect.data.skills.skill import Skill, in_pool, in_test
from activeselect.data.skills.stories import MASTERED, NOISE, SKILLS, UNSEEN
from activeselect.errors import DataError, did_you_mean

CHECKER = "marker:answer :"
_STALE = 2000  # repeated draws in a row after which a skill counts as exhausted


@dataclass(frozen=True)
class Preset:
    """Shares of the groups in pool and test; each adds up to 1, and a group may be in one only.

    ``mastered`` names the groups that the base model answers before any fine-tuning, ``noise``
    those that cannot be learned.
    """

    name: str
    summary: str
    pool_mass: Mapping[str, float]
    test_mass: Mapping[str, float]
    mastered: tuple[str, ...] = ()
    noise: tuple[str, ...] = ()


@dataclass(frozen=True)
class SkillsData:
    """A pool to learn from, a test that shares no question with it, and how they were mixed."""

    pool: Pool
    test: Pool
    preset: Preset


def _spread(share: float, skills: tuple[Skill, ...]) -> dict[str, float]:
    return {skill.name: share / len(skills) for skill in skills}


_MIXED = {**_spread(0.72, MASTERED), **_spread(0.28, UNSEEN)}
# In the two slowest skills one of the two stories stays at chance long after the rest is learned:
# with them, the even preset would reward spending on them.
_SIMILAR = tuple(skill for skill in UNSEEN if skill.name not in ("bags", "teams"))
_KNOWN = tuple(skill.name for skill in MASTERED)

PRESETS: Mapping[str, Preset] = {
    preset.name: preset
    for preset in (
        Preset(
            "mixed",
            "the base model already answers 72% of the test, as a pretrained model does",
            pool_mass=_MIXED,
            test_mass=_MIXED,
            mastered=_KNOWN,
        ),
        Preset(
            "even",
            "all skills are new to the base model and about equally hard: little to gain",
            pool_mass=_spread(1.0, _SIMILAR),
            test_mass=_spread(1.0, _SIMILAR),
        ),
        Preset(
            "trap",
            "as mixed, but a quarter of the pool has answers that nobody can infer",
            pool_mass={**{k: 0.75 * v for k, v in _MIXED.items()}, **_spread(0.25, NOISE)},
            test_mass=_MIXED,
            mastered=_KNOWN,
            noise=tuple(skill.name for skill in NOISE),
        ),
    )
}


def get_preset(name: str) -> Preset:
    """The preset of this name.

    Raises:
        DataError: there is none; the nearest name is suggested.
    """
    if name not in PRESETS:
        raise DataError(f"Unknown benchmark preset {name!r}. {did_you_mean(name, PRESETS)}")
    return PRESETS[name]


def build_preset(
    name: str, seed: int, *, pool_size: int = 8000, test_size: int = 1200
) -> SkillsData:
    """Draw the pool and the test of a preset; equal arguments give equal data everywhere.

    Args:
        name: a key of :data:`PRESETS`.
        seed: not negative. From :data:`TUNING_SEED` on, tests are drawn from questions that are
            in no other seed's test: choose learning rates on them, report on seeds below.
        pool_size: problems to learn from, with ids ``0..pool_size - 1``, no question twice.
        test_size: problems to report on, no question twice and none of the pool's.

    Raises:
        DataError: the preset is unknown, a number is out of range, or more problems are asked of
            a skill than it has.

    Example:
        >>> data = build_preset("mixed", seed=0, pool_size=200, test_size=100)
        >>> len(data.pool), len(data.test), data.pool.checker
        (200, 100, 'marker:answer :')
    """
    preset = get_preset(name)
    for what, number, least in (
        ("seed", seed, 0),
        ("pool_size", pool_size, 1),
        ("test_size", test_size, 1),
    ):
        if number < least:
            raise DataError(f"{what} must be at least {least}, got {number}.")
    for_pool, for_test = (np.random.Generator(np.random.PCG64([seed, part])) for part in (0, 1))
    return SkillsData(
        pool=_build(preset.pool_mass, pool_size, for_pool, in_pool),
        test=_build(preset.test_mass, test_size, for_test, lambda text: in_test(text, seed)),
        preset=preset,
    )


def like(problem: Problem, rng: np.random.Generator) -> Problem:
    """A fresh problem of the same skill, with another question, that no test set can hold.

    Raises:
        DataError: the problem's group is not a skill of the built-in benchmark.

    Example:
        >>> import numpy as np
        >>> first = build_preset("mixed", seed=0, pool_size=20, test_size=20).pool[0]
        >>> second = like(first, np.random.default_rng(0))
        >>> second.group == first.group, second.question == first.question
        (True, False)
    """
    if problem.group not in SKILLS:
        raise DataError(f"Unknown skill {problem.group!r}. {did_you_mean(problem.group, SKILLS)}")
    return _fresh(SKILLS[problem.group], rng, {problem.question}, in_pool)


def _fresh(
    skill: Skill, rng: np.random.Generator, taken: set[str], allowed: Callable[[str], bool]
) -> Problem:
    """A problem whose question is allowed and not taken."""
    for _ in range(_STALE):
        problem = skill.draw(rng)
        if problem.question not in taken and allowed(problem.question):
            return problem
    raise DataError(
        f"The skill {skill.name!r} has no more than about {len(taken)} different questions; "
        "ask for a smaller pool or test."
    )


def _build(
    mass: Mapping[str, float],
    size: int,
    rng: np.random.Generator,
    allowed: Callable[[str], bool],
) -> Pool:
    """A pool of ``size`` distinct problems in these shares, in random order."""
    taken: set[str] = set()
    problems = []
    for name, count in _counts(mass, size).items():
        for _ in range(count):
            problems.append(_fresh(SKILLS[name], rng, taken, allowed))
            taken.add(problems[-1].question)
    shuffled = [problems[i] for i in _shuffle(len(problems), rng)]
    placed = (replace(problem, id=i) for i, problem in enumerate(shuffled))
    return Pool.from_problems(placed, checker=CHECKER)


def _shuffle(size: int, rng: np.random.Generator) -> list[int]:
    """A permutation from ``integers`` alone, whose stream numpy keeps stable."""
    order = list(range(size))
    for i in range(size - 1, 0, -1):
        j = int(rng.integers(i + 1))
        order[i], order[j] = order[j], order[i]
    return order


def _counts(mass: Mapping[str, float], size: int) -> dict[str, int]:
    """Whole numbers that add up to ``size`` in these shares, by largest remainder."""
    exact = {name: share * size for name, share in mass.items()}
    counts = {name: int(value) for name, value in exact.items()}
    by_rest = sorted(exact, key=lambda name: (round(counts[name] - exact[name], 9), name))
    for name in by_rest[: size - sum(counts.values())]:
        counts[name] += 1
    return counts


# --- What was measured beforehand for a preset: the baseline's best recipe, and learning curves
#
# ``tuned/mixed.json`` holds ``recipe`` (``chosen`` and the whole grid) and ``oracle`` (accuracy per
# skill and number of examples), each with the seeds and the command that measured it.


def tuning_file(preset: str) -> Path:
    """Where the measurements of a preset are kept."""
    return Path(__file__).parent / "tuned" / f"{get_preset(preset).name}.json"


def tuning(preset: str) -> dict[str, Any]:
    """The measurements of a preset.

    Raises:
        DataError: if the preset is unknown, or nothing was measured for it.

    Example:
        >>> sorted(tuning("mixed")["recipe"]["chosen"])
        ['batch_size', 'epochs', 'learning_rate']
    """
    file = tuning_file(preset)
    if not file.is_file():
        raise DataError(
            f"The preset '{preset}' has no tuned recipe ({file}); "
            f"make it with `python -m research.benchmark_tuning recipe --preset {preset}`."
        )
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return found
