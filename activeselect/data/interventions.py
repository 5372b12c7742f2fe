"""Interventions: what the traces of a train set are made into, to ask what traces teach.

Question and final answer stay; what stands between them changes::

    as_is            so 18 + 20 = 38 . here 38 - 14 = 24 . thus answer : 24
    swapped          now 3 x 4 = 12 . well 12 + 9 = 21 . thus answer : 24
    corrupted:0.5    so 18 + 20 = 41 . here 38 - 14 = 24 . thus answer : 24
    answer_only      thus answer : 24
    answer_first     thus answer : 24 . so 18 + 20 = 38 . here 38 - 14 = 24 . thus answer : 24
    reversed         here 38 - 14 = 24 . so 18 + 20 = 38 . thus answer : 24

``critique`` and ``backward`` add problems instead.

Results of a study with them are in ``docs/research/traces.md``.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from activeselect.data.answers import AnswerChecker, get_checker
from activeselect.data.chains import Known, make_false, split
from activeselect.data.pool import Pool, Problem
from activeselect.data.programs import turned_round
from activeselect.data.skills import vocabulary
from activeselect.errors import ConfigError, DataError, did_you_mean
from activeselect.files import read_json
from activeselect.streams import Stream

#: What stands between a failed attempt and the right one; the first that the tokenizer can write.
RETRACTIONS = (" No, that is wrong.", " but now here .")
#: How a critique is asked for, and how it begins; the first that the tokenizer can write.
CRITIQUES = (
    (
        "Please critique whether the following solution to the question is correct.\n{wrong}",
        "Conclusion: wrong.",
    ),
    ("if {wrong} then is it so ?", "but now here ."),
)
#: How a turned question is asked for, and how it ends; the first that the tokenizer can write.
TURNS = (
    (
        "Turn this question round: state its answer, and put ? for one of its numbers.",
        "Which number is ?, if the answer is known:",
    ),
    ("turns ?", "what is ? if"),
)
#: Corrupted steps, where the setting names no share.
_SHARE = 0.3


@dataclass(frozen=True)
class Material:
    """What an intervention may use.

    Attributes:
        checker: of the final answers.
        rng: source of randomness.
        wrong: wrong completions of the model, by the problem's id.
        known: what the model's tokenizer can write.
    """

    checker: AnswerChecker
    rng: np.random.Generator
    wrong: Mapping[int, Sequence[str]] = field(default_factory=dict)
    known: Known = lambda _: True


#: Makes new problems of a train set; each keeps its id, question and answer.
Intervention = Callable[[Sequence[Problem], Material], list[Problem]]


def _with_trace(problem: Problem, trace: str) -> Problem:
    return replace(problem, trace=trace.strip())


def _parts(problem: Problem, checker: AnswerChecker) -> tuple[tuple[str, ...], str]:
    """Steps of a reference trace, and its end, which states the answer."""
    chain = split(problem.trace, checker)
    steps = "".join(chain.steps)
    return chain.steps, problem.trace[len(steps) :]


def as_is(problems: Sequence[Problem], material: Material) -> list[Problem]:
    """The traces as they are."""
    return list(problems)


def answer_only(problems: Sequence[Problem], material: Material) -> list[Problem]:
    """The end alone, which states the answer: the control without any reasoning."""
    return [_with_trace(p, _parts(p, material.checker)[1]) for p in problems]


def answer_first(problems: Sequence[Problem], material: Material) -> list[Problem]:
    """The answer stated before the steps as well: none of them decides anything any more."""
    return [
        _with_trace(p, f"{end.strip()} . {p.trace}")
        for p, (_, end) in ((p, _parts(p, material.checker)) for p in problems)
    ]


def swapped(problems: Sequence[Problem], material: Material) -> list[Problem]:
    """The steps of another problem before each answer (after arXiv 2505.13775)."""
    order = material.rng.permutation(len(problems))
    other = dict(zip(order.tolist(), np.roll(order, 1).tolist(), strict=True))
    parts = [_parts(p, material.checker) for p in problems]
    return [
        _with_trace(p, "".join(parts[other[i]][0]) + parts[i][1]) for i, p in enumerate(problems)
    ]


def corrupted(
    problems: Sequence[Problem], material: Material, share: float = _SHARE
) -> list[Problem]:
    """A share of the steps made false, each by one number; the final answer is kept."""
    found = []
    for problem in problems:
        steps, end = _parts(problem, material.checker)
        written = []
        for step in steps:
            false = make_false(step, material.rng, material.known)
            use = false is not None and material.rng.random() < share
            written.append(false if use and false is not None else step)
        found.append(_with_trace(problem, "".join(written) + end))
    return found


def messy(problems: Sequence[Problem], material: Material) -> list[Problem]:
    """A failed attempt, its retraction, and the right path; as it is without a wrong sample.

    Source: stream of search, arXiv 2404.03683; journey learning, arXiv 2410.18982.

    Raises:
        DataError: if there is no wrong sample of any problem.
    """
    _need_wrong(material, "messy")
    retraction = next((text for text in RETRACTIONS if material.known(text)), RETRACTIONS[0])
    found = []
    for problem in problems:
        wrong = _wrong_steps(problem, material)
        found.append(
            problem
            if wrong is None
            else _with_trace(problem, f"{wrong.strip()}{retraction} {problem.trace}")
        )
    return found


def critique(problems: Sequence[Problem], material: Material) -> list[Problem]:
    """Each problem with a wrong sample once more: the sample is shown, its fault is the target.

    The input is the question and the sample; the target says that it is wrong and gives the right
    path (after arXiv 2501.17703). The added problems have negative ids.

    Raises:
        DataError: if there is no wrong sample of any problem.
    """
    _need_wrong(material, "critique")
    asks, verdict = _first_known(CRITIQUES, material)
    found = list(problems)
    for problem in problems:
        wrong = _wrong_steps(problem, material)
        if wrong is not None:
            question = f"{problem.question}\n{asks.format(wrong=wrong.strip())}"
            trace = f"{verdict} {problem.trace}"
            found.append(replace(problem, id=-1 - problem.id, question=question, trace=trace))
    return found


def in_reverse(problems: Sequence[Problem], material: Material) -> list[Problem]:
    """The steps of each trace in the opposite order, the answer where it was."""
    parts = [_parts(p, material.checker) for p in problems]
    return [
        _with_trace(p, " ".join(step.strip() for step in steps[::-1]) + end)
        for p, (steps, end) in zip(problems, parts, strict=True)
    ]


def backward(problems: Sequence[Problem], material: Material) -> list[Problem]:
    """Each problem twice more where it can be turned round: as question asked back, and solved.

    The question turned round states the answer and asks for one of its own numbers. It is once the
    target (from the question to the question turned round) and once the input (its target being the
    steps in reverse, each solved for what is asked), so that the train set holds the three tasks of
    RevThink, arXiv 2411.19865, in equal parts where every problem can be turned. Rules turn it
    (:func:`activeselect.data.programs.turned_round`). The added problems have negative ids.

    Raises:
        DataError: if no problem can be turned round.
    """
    asks, ending = _first_known(TURNS, material)
    found = list(problems)
    for problem in problems:
        chain = split(problem.trace, material.checker)
        turned = turned_round(problem, chain, material.rng)
        if turned is None:
            continue
        masked, trace, answer = turned
        question = f"{masked} {ending} {material.checker.render(problem.answer)}"
        asked = f"{problem.question}\n{asks}"
        found.append(replace(problem, id=-1 - 2 * problem.id, question=asked, trace=question))
        found.append(
            replace(problem, id=-2 - 2 * problem.id, question=question, trace=trace, answer=answer)
        )
    if len(found) == len(problems):
        raise DataError(
            "traces: 'backward' needs traces whose equations use the numbers of the question, so "
            "that one of these can be asked for; no trace here is of that kind."
        )
    return found


def _first_known(texts: Sequence[tuple[str, str]], material: Material) -> tuple[str, str]:
    """The first pair that the model's tokenizer can write."""
    return next((t for t in texts if material.known(" ".join(t).format(wrong=""))), texts[0])


def _wrong_steps(problem: Problem, material: Material) -> str | None:
    texts = list(material.wrong.get(problem.id, ()))
    if not texts:
        return None
    steps = split(texts[int(material.rng.integers(len(texts)))], material.checker).steps
    return "".join(steps) or None


def _need_wrong(material: Material, name: str) -> None:
    if not any(material.wrong.values()):
        raise DataError(
            f"traces: '{name}' needs wrong completions of the model, and there are none; score the "
            "data with scoring.keep_completions above 0 first, and name its folder."
        )


INTERVENTIONS: dict[str, Intervention] = {
    "as_is": as_is,
    "swapped": swapped,
    "corrupted": corrupted,
    "messy": messy,
    "critique": critique,
    "answer_only": answer_only,
    "answer_first": answer_first,
    "reversed": in_reverse,
    "backward": backward,
}


def get_intervention(name: str) -> Intervention:
    """The intervention of a setting: a name, ``corrupted:SHARE``, or a class path.

    A class path (``package.module.function``) names a function of the same form.

    Raises:
        ConfigError: if there is none of that name, or the share is no number in (0, 1].

    Example:
        >>> get_intervention("as_is") is as_is
        True
    """
    head, colon, share = name.partition(":")
    if head == "corrupted" and colon:
        try:
            value = float(share)
        except ValueError:
            value = float("nan")
        if not 0 < value <= 1:
            raise ConfigError(f"traces: expected corrupted:SHARE in (0, 1]; received '{name}'.")
        return lambda problems, material: corrupted(problems, material, value)
    if name in INTERVENTIONS:
        return INTERVENTIONS[name]
    if "." in name:
        module, _, attribute = name.rpartition(".")
        try:
            found: Intervention = getattr(importlib.import_module(module), attribute)
        except (ImportError, AttributeError) as error:
            raise ConfigError(f"traces: cannot load '{name}' ({error}).") from error
        return found
    raise ConfigError(f"traces: there is none named '{name}'. {did_you_mean(name, INTERVENTIONS)}")


def written_by_skills(text: str) -> bool:
    """Whether the tokenizer of the built-in benchmark can write a text."""
    return set(text.split()) <= set(vocabulary())


def wrong_completions(pool: Pool, folder: str) -> dict[int, list[str]]:
    """Wrong completions that a score store keeps, by problem id.

    Args:
        pool: that was scored.
        folder: of `activeselect score`, or of a run; ``scores/`` in it holds the store.

    Raises:
        DataError: if there is no store, or it belongs to another pool.
    """
    where = Path(folder) / "scores"
    files = sorted(where.glob("round-*.parquet"))
    if not files:
        raise DataError(f"data.wrong_from: {folder} holds no scores/round-*.parquet.")
    about = read_json(where / "manifest.json") if (where / "manifest.json").is_file() else {}
    if (about.get("pool") or pool.fingerprint) != pool.fingerprint:
        raise DataError(f"data.wrong_from: the scores in {folder} are of other problems.")
    checker = get_checker(pool.checker)
    found: dict[int, list[str]] = {}
    for file in files:
        if "completions" not in pq.read_schema(file).names:
            continue
        rows = pq.read_table(file, columns=["index", "completions"]).to_pylist()
        problems = pool.problems([row["index"] for row in rows])
        for problem, row in zip(problems, rows, strict=True):
            wrong = [t for t in row["completions"] or () if not checker.check(t, problem.answer)]
            found.setdefault(problem.id, []).extend(wrong)
    return found


def intervene(
    pool: Pool,
    name: str,
    *,
    seed: int,
    wrong: Mapping[int, Sequence[str]] | None = None,
    known: Known = lambda _: True,
) -> Pool:
    """A pool with its traces made into something else.

    Args:
        name: as for :func:`get_intervention`.
        seed: of what the intervention draws.
        wrong: wrong completions by problem id, for ``messy`` and ``critique``.
        known: what the model's tokenizer can write.

    Raises:
        DataError: if the intervention changed a question's answer.

    Example:
        >>> problem = Problem(0, "1 + 1 ?", "so 1 + 1 = 2 . answer : 2", "2")
        >>> pool = Pool.from_problems([problem], checker="marker:answer :")
        >>> intervene(pool, "answer_only", seed=0)[0].trace
        'answer : 2'
    """
    if name == "as_is":
        return pool
    if unlabelled := sum(not problem.trace for problem in pool):
        raise DataError(f"traces: '{name}' needs a trace of every problem; {unlabelled} have none.")
    checker = get_checker(pool.checker)
    material = Material(checker, np.random.default_rng([seed, Stream.TRACES]), wrong or {}, known)
    found = get_intervention(name)(list(pool), material)
    for problem in found:
        if not checker.check(problem.trace, problem.answer):
            raise DataError(
                f"traces: '{name}' left problem {problem.id} with a trace that does not state its "
                f"answer {problem.answer!r}."
            )
    return Pool.from_problems(found, checker=pool.checker)
