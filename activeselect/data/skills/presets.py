"""Presets: mixtures of skills, each with a pool to train on and a test set.

One real record of ``mixed``'s pool: see ``skill.py``. A preset states each group's share of pool
and test; the data has these shares up to rounding, so that they add no variance between seeds.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from activeselect.data.pool import Pool, Problem
from activeselect.data.skills.relatives import CHAINS, EASY, LONG_NOISE, SKILLS, TALES, TOLD
from activeselect.data.skills.skill import LARGEST, Skill, in_pool, in_test
from activeselect.data.skills.stories import MASTERED, NOISE, UNSEEN
from activeselect.errors import DataError, did_you_mean

CHECKER = "marker:answer :"
#: What the names of the groups of spoiled problems end in.
WRONG, COPY = " (wrong)", " (copy)"
#: Target questions of a preset, where nothing else is asked for.
TARGETS = 100
_POINTS = 2**32  # a share is drawn as one of so many points: numpy keeps this stream stable
_STALE = 2000  # repeated draws in a row after which a skill counts as exhausted


@dataclass(frozen=True)
class Preset:
    """Shares of the groups in pool and test; each adds up to 1, and a group may be in one only.

    What stands in brackets in a group's name is for the oracle and the report alone: strategies
    see neither it nor the groups that it tells apart (:func:`shown`).

    Attributes:
        mastered: groups that the base model answers before any fine-tuning.
        noise: groups that cannot be learned.
        largest: groups have sizes drawn per seed, from 1 to this many parts, so that size says
            nothing; 1: the sizes stated.
        unseen: unseen skills that a seed has, drawn from the pool's, each with its easy relative
            where the pool has that; 0: all.
        told: mastered stories that a seed has, drawn from the pool's; 0: all.
        shift: leave out half of the mastered and half of the other groups of the test, drawn per
            seed: what is asked is another mixture than what is offered.
        wrong: share of the pool whose answer is wrong, spread evenly.
        copies: share of the pool that nearly repeats another problem of it.
    """

    name: str
    summary: str
    pool_mass: Mapping[str, float]
    test_mass: Mapping[str, float]
    mastered: tuple[str, ...] = ()
    noise: tuple[str, ...] = ()
    largest: int = 1
    unseen: int = 0
    told: int = 0
    shift: bool = False
    wrong: float = 0.0
    copies: float = 0.0

    def drawn(self, seed: int) -> Preset:
        """The preset with the groups and sizes of this seed; itself where nothing is drawn.

        Example:
            >>> one, other = (get_preset("mixed-sizes").drawn(seed) for seed in (0, 1))
            >>> one == other, round(sum(one.pool_mass.values()), 9), one.drawn(7) == one
            (False, 1.0, True)
        """
        if self.largest == 1 and not self.shift:
            return self
        rng = np.random.Generator(np.random.PCG64([seed, 2]))
        names = self._groups(rng) if self.unseen else [*self.pool_mass]
        parts = {name: 1 + int(rng.integers(self.largest)) for name in names}
        pool = _weighed(self.pool_mass, parts, self.noise)
        test = _weighed(self.test_mass, parts, ())
        known = tuple(name for name in self.mastered if name in parts)
        if self.shift:
            for some in (known, [name for name in test if name not in known]):
                names = sorted(some)
                for at in _shuffle(len(names), rng)[: len(names) // 2]:
                    del test[names[at]]
            test = {name: share / sum(test.values()) for name, share in test.items()}
        return replace(
            self,
            pool_mass=pool,
            test_mass=test,
            mastered=known,
            largest=1,
            unseen=0,
            told=0,
            shift=False,
        )

    def _groups(self, rng: np.random.Generator) -> list[str]:
        """The groups of one seed, in the order of the pool's."""
        told, unseen = ([skill.name for skill in some] for some in (TOLD, UNSEEN))
        chosen = [unseen[at] for at in _shuffle(len(unseen), rng)[: self.unseen]]
        stories = [told[at] for at in _shuffle(len(told), rng)[: self.told or len(told)]]
        relatives = {skill.name for skill in EASY}
        kept = {name for name in self.pool_mass if name not in {*told, *unseen, *relatives}}
        kept.update(chosen, stories, (f"{name}-easy" for name in chosen))
        return [name for name in self.pool_mass if name in kept]


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
# The pools of the presets with drawn groups and sizes: neither the size of a group nor, with the
# chains of three steps, the length of its traces says what is worth learning.
_KINDS = _spread(1.0, (*TOLD, *CHAINS, *UNSEEN))
_KINDS_KNOWN = tuple(skill.name for skill in (*TOLD, *CHAINS))
_RELATED = _spread(1.0, (*TOLD, *EASY, *CHAINS, *UNSEEN))
_RELATED_KNOWN = (*_KINDS_KNOWN, *(skill.name for skill in EASY))
_DRAWN = 6  # parts of the largest group; the smallest has one
# Per seed: with all groups, 400 examples are a dozen of each.
_UNSEEN, _TOLD = 3, 9
# Of 1 to 6 steps: the shares of the solution lengths in a set of grade-school problems.
_TALES = dict(zip((tale.name for tale in TALES), (0.08, 0.28, 0.28, 0.19, 0.11, 0.06), strict=True))

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
        Preset(
            "mixed-sizes",
            "11 of 14 groups are mastered; groups and sizes are drawn, so that size says nothing",
            pool_mass=_KINDS,
            test_mass=_KINDS,
            mastered=_KINDS_KNOWN,
            largest=_DRAWN,
            unseen=_UNSEEN,
            told=_TOLD,
        ),
        Preset(
            "relatives",
            "as mixed-sizes, but each unseen skill has an easy relative told in its words",
            pool_mass=_RELATED,
            test_mass=_RELATED,
            mastered=_RELATED_KNOWN,
            largest=_DRAWN,
            unseen=4,
            told=5,
        ),
        Preset(
            "even-sizes",
            "as even, with sizes drawn",
            pool_mass=_spread(1.0, _SIMILAR),
            test_mass=_spread(1.0, _SIMILAR),
            largest=_DRAWN,
        ),
        Preset(
            "trap-sizes",
            "as mixed-sizes, but a quarter of the pool has answers that nobody can infer",
            pool_mass={
                **{k: 0.75 * v for k, v in _KINDS.items()},
                **_spread(0.25, (*NOISE, *LONG_NOISE)),
            },
            test_mass=_KINDS,
            mastered=_KINDS_KNOWN,
            noise=tuple(skill.name for skill in (*NOISE, *LONG_NOISE)),
            largest=_DRAWN,
            unseen=_UNSEEN,
            told=_TOLD,
        ),
        Preset(
            "steps",
            "one kind of tale of 1 to 6 steps: difficulty lies within, no group tells it",
            pool_mass=_TALES,
            test_mass=_TALES,
            mastered=tuple(tale.name for tale in TALES[:2]),
        ),
        Preset(
            "noisy",
            "as mixed-sizes, but 15% of the pool has a wrong answer, spread evenly",
            pool_mass=_KINDS,
            test_mass=_KINDS,
            mastered=_KINDS_KNOWN,
            largest=_DRAWN,
            unseen=_UNSEEN,
            told=_TOLD,
            wrong=0.15,
        ),
        Preset(
            "shift",
            "as mixed-sizes, but the test asks for half of the groups only",
            pool_mass=_KINDS,
            test_mass=_KINDS,
            mastered=_KINDS_KNOWN,
            largest=_DRAWN,
            unseen=_UNSEEN,
            told=_TOLD,
            shift=True,
        ),
        Preset(
            "duplicates",
            "as mixed-sizes, but a fifth of the pool nearly repeats another problem of it",
            pool_mass=_KINDS,
            test_mass=_KINDS,
            mastered=_KINDS_KNOWN,
            largest=_DRAWN,
            unseen=_UNSEEN,
            told=_TOLD,
            copies=0.2,
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
    preset = get_preset(name).drawn(seed)
    for what, number, least in (
        ("seed", seed, 0),
        ("pool_size", pool_size, 1),
        ("test_size", test_size, 1),
    ):
        if number < least:
            raise DataError(f"{what} must be at least {least}, got {number}.")
    for_pool, for_test = (np.random.Generator(np.random.PCG64([seed, part])) for part in (0, 1))
    spoil = partial(_spoiled, preset) if preset.wrong or preset.copies else None
    return SkillsData(
        pool=_build(preset.pool_mass, pool_size, for_pool, in_pool, spoil),
        test=_build(preset.test_mass, test_size, for_test, lambda text: in_test(text, seed)),
        preset=preset,
    )


def target_questions(data: SkillsData, seed: int, size: int = TARGETS) -> Pool:
    """Unlabelled questions in the mixture of the test; neither the pool nor any test has one.

    Each is drawn by itself, as a person would collect them: the shares of the groups are those of
    the test up to chance.

    Args:
        data: what :func:`build_preset` returned for ``seed``.
        seed: of the data.
        size: how many, no question twice.

    Raises:
        DataError: if a skill has no more questions that are not in the pool.

    Example:
        >>> data = build_preset("shift", seed=0, pool_size=200, test_size=100)
        >>> asked = target_questions(data, seed=0, size=20)
        >>> len(asked), set(asked.group_names) <= set(data.test.group_names), asked[0].answer
        (20, True, '')
    """
    rng = np.random.Generator(np.random.PCG64([seed, 3]))
    names = sorted(data.preset.test_mass)
    ends = np.cumsum([data.preset.test_mass[name] for name in names])
    taken = set(data.pool.texts("question"))
    problems = []
    for id in range(size):
        point = int(rng.integers(_POINTS)) / _POINTS * ends[-1]
        skill = SKILLS[names[int(np.searchsorted(ends, point, side="right"))]]
        fresh = _fresh(skill, rng, taken, in_pool)  # what may be in a pool is in no test
        taken.add(fresh.question)
        problems.append(replace(fresh, id=id, trace="", answer=""))
    return Pool.from_problems(problems, checker=CHECKER)


def shown(pool: Pool) -> Pool:
    """The pool in the groups that strategies may see: names without what stands in brackets.

    Example:
        >>> data = build_preset("steps", seed=0, pool_size=50, test_size=50)
        >>> data.pool.group_names[0], shown(data.pool).group_names
        ('(1 step)', ('',))
    """
    told = [name.partition("(")[0].strip() for name in pool.group_names]
    if told == list(pool.group_names):
        return pool
    names, code = np.unique(told, return_inverse=True)
    return pool.grouped(tuple(names.tolist()), code.astype(np.int32)[pool.groups])


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
    group = problem.group.removesuffix(WRONG).removesuffix(COPY)
    if group not in SKILLS:
        raise DataError(f"Unknown skill {group!r}. {did_you_mean(group, SKILLS)}")
    fresh = _fresh(SKILLS[group], rng, {problem.question}, in_pool)
    return replace(fresh, group=problem.group)


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
    spoil: Callable[[list[Problem], np.random.Generator, set[str]], list[Problem]] | None = None,
) -> Pool:
    """A pool of ``size`` distinct problems in these shares, in random order."""
    taken: set[str] = set()
    problems = []
    for name, count in _counts(mass, size).items():
        for _ in range(count):
            problems.append(_fresh(SKILLS[name], rng, taken, allowed))
            taken.add(problems[-1].question)
    shuffled = [problems[i] for i in _shuffle(len(problems), rng)]
    if spoil is not None:
        shuffled = spoil(shuffled, rng, taken)
    placed = (replace(problem, id=i) for i, problem in enumerate(shuffled))
    return Pool.from_problems(placed, checker=CHECKER)


def _spoiled(
    preset: Preset, problems: list[Problem], rng: np.random.Generator, taken: set[str]
) -> list[Problem]:
    """The problems, some of them replaced by near copies of others or given wrong answers."""
    size, spoiled = len(problems), list(problems)
    copies = round(preset.copies * size)
    order = _shuffle(size, rng)
    for at in order[:copies]:
        kept = problems[order[copies + int(rng.integers(size - copies))]]
        copy = _near_copy(kept, rng, taken)
        taken.add(copy.question)
        spoiled[at] = copy
    for at in order[copies : copies + round(preset.wrong * size)]:
        spoiled[at] = _with_wrong_answer(spoiled[at], rng)
    return spoiled


def _near_copy(problem: Problem, rng: np.random.Generator, taken: set[str]) -> Problem:
    """The problem with other names and items, or its likest one with other numbers."""
    skill = SKILLS[problem.group]
    words = problem.question.split()
    best: tuple[int, Problem] | None = None
    for _ in range(12):
        fresh = _fresh(skill, rng, taken, in_pool)
        own = fresh.question.split()
        same = sum(a == b for a, b in zip(own, words, strict=False)) - abs(len(own) - len(words))
        if best is None or same > best[0]:
            best = same, fresh
    assert best is not None
    return replace(best[1], group=problem.group + COPY)


def _with_wrong_answer(problem: Problem, rng: np.random.Generator) -> Problem:
    """The problem with another number in place of its last result and answer."""
    number = str(1 + (int(problem.answer) + int(rng.integers(LARGEST - 1))) % LARGEST)
    steps, last = problem.trace.rsplit(" = ", 1)
    line = last.split()  # 23 . hence answer : 23
    line[0] = line[-1] = number
    wrong = f"{steps} = {' '.join(line)}"
    return replace(problem, trace=wrong, answer=number, group=problem.group + WRONG)


def _weighed(
    mass: Mapping[str, float], parts: Mapping[str, int], noise: Sequence[str]
) -> dict[str, float]:
    """The shares times the parts drawn; noise and the rest keep their shares of the whole.

    Groups without parts are left out.
    """
    weighed = {}
    for kind in ([n for n in mass if n not in noise], [n for n in mass if n in noise]):
        whole = sum(mass[name] for name in kind)
        names = [name for name in kind if name in parts]
        total = sum(mass[name] * parts[name] for name in names)
        weighed.update({name: whole * mass[name] * parts[name] / total for name in names})
    return weighed


def _shuffle(size: int, rng: np.random.Generator) -> list[int]:
    """A permutation from ``integers`` alone, whose stream numpy keeps stable."""
    order = list(range(size))
    for i in range(size - 1, 0, -1):
        j = int(rng.integers(i + 1))
        order[i], order[j] = order[j], order[i]
    return order


def _counts(mass: Mapping[str, float], size: int) -> dict[str, int]:
    """Largest remainders, ties by name: a pool does not depend on the order of its shares."""
    exact = {name: share * size for name, share in mass.items()}
    counts = {name: int(value) for name, value in exact.items()}
    by_rest = sorted(exact, key=lambda name: (round(counts[name] - exact[name], 9), name))
    for name in by_rest[: size - sum(counts.values())]:
        counts[name] += 1
    return counts


# --- Tuned recipes and learning curves
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
