"""Probes: the questions that the audit puts to a model, each a row of plain numbers per problem.

Several measures may read one probe; each is asked once. A probe is a pure function of the model,
the problems and the seed, so that a stopped audit goes on where it was.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from activeselect.audit.asker import Asker
from activeselect.audit.perturb import RULES
from activeselect.config import FEWEST_WORDINGS, PromptConfig
from activeselect.data.chains import Chain, hedges, make_false, paraphrase, split
from activeselect.data.pool import Problem
from activeselect.data.skills import SKILLS
from activeselect.data.skills.skill import draw_story
from activeselect.errors import ConfigError
from activeselect.streams import Stream

Row = dict[str, Any]
NAN = float("nan")
#: Filler grows by so many at least, in at most so many amounts (none is the first).
FILLER_STEP, FILLERS = 5, 8
#: What stands for filler; the second where the tokenizer cannot write the first.
FILLER = (" ...", " .")
#: Random streams of the probes' samples.
_CHAINS, _MISTAKES, _PARAPHRASES = 0, 1, 2
#: Prompts tried for the sensitivity to wording, by kind; those the tokenizer can write are used.
_WORDINGS = {
    "plain": (
        "Question: {question}\nAnswer:",
        "{question}\nSolution:",
        "Solve this problem.\n{question}\nAnswer:",
        "{question}\nWork it out step by step.\nAnswer:",
    ),
    "chat": (
        "Question: {question}",
        "Solve this problem. {question}",
        "{question} Work it out step by step.",
        "{question}\nState the answer at the end.",
    ),
    "built-in": ("so {question} ", "now {question} ", "here {question} ", "well {question} "),
}


@dataclass(frozen=True)
class Case:
    """One problem under audit.

    Attributes:
        position: of the problem among those audited; part of every random stream.
        prompt: the text that the model reads.
        texts: completions sampled from the model.
        body: the text that is cut and changed: the first sample with steps and an answer, or the
            reference trace; None where there is none.
        chain: its steps and answer.
    """

    position: int
    problem: Problem
    prompt: str
    texts: tuple[str, ...] = ()
    body: str | None = None
    chain: Chain | None = None


class Setting(NamedTuple):
    """What the probes of an audit share."""

    seed: int
    samples: int
    traces: bool
    hedges: tuple[str, ...]
    wordings: tuple[PromptConfig, ...]


def rng_of(setting: Setting, case: Case, probe: int) -> np.random.Generator:
    """Randomness of the edits that a probe makes in a case, whatever was asked before."""
    return np.random.default_rng([setting.seed, case.position, probe, Stream.EDITED])


def examined(case: Case, asker: Asker, *, traces: bool) -> Case:
    """The case with the chain that is cut and changed, if it has one."""
    texts = [asker.trace(case.problem)] if traces else case.texts
    for text in texts:
        chain = split(text, asker.checker)
        if chain.steps and chain.answer is not None:
            return replace(case, body=text, chain=chain)
    return replace(case, body=None, chain=None)


def sampled(asker: Asker, cases: Sequence[Case], setting: Setting) -> list[Row]:
    """Completions of each problem, right or wrong, their length and their words of doubt."""
    found = asker.complete(
        [case.prompt for case in cases],
        [case.position for case in cases],
        samples=setting.samples,
        round=_CHAINS,
    )
    rows = []
    for case, texts in zip(cases, found, strict=True):
        answer = case.problem.answer
        rows.append(
            {
                "texts": texts,
                "right": [float(asker.checker.check(text, answer)) for text in texts],
                "length": [float(asker.count(text)) for text in texts],
                "hedged": [float(hedges(text, setting.hedges) > 0) for text in texts],
            }
        )
    return rows


def prefixes(asker: Asker, cases: Sequence[Case], setting: Setting) -> list[Row]:
    """The answer forced after every prefix, and the probability of own and right answer there."""
    texts, owner = _prefix_texts(cases)
    forced = asker.force(texts)
    own = asker.log_probs(texts, [_own(cases[i]) for i in owner])
    gold = asker.log_probs(texts, [cases[i].problem.answer for i in owner])
    rows: list[Row] = [{"code": [], "own": [], "gold": []} for _ in cases]
    seen: list[list[str | None]] = [[] for _ in cases]
    for i, answer, p_own, p_gold in zip(owner, forced, own, gold, strict=True):
        rows[i]["code"].append(float(_code(asker, answer, seen[i])))
        rows[i]["own"].append(float(np.exp(p_own)))
        rows[i]["gold"].append(float(np.exp(p_gold)))
    return rows


def scored(asker: Asker, cases: Sequence[Case], setting: Setting) -> list[Row]:
    """Log-probability of the right answer after every prefix, under the scoring model."""
    texts, owner = _prefix_texts(cases)
    gold = asker.log_probs(texts, [cases[i].problem.answer for i in owner])
    rows: list[Row] = [{"log_gold": []} for _ in cases]
    for i, value in zip(owner, gold, strict=True):
        rows[i]["log_gold"].append(float(value))
    return rows


def filler(asker: Asker, cases: Sequence[Case], setting: Setting) -> list[Row]:
    """Is the answer right after the chain, and after each amount of filler in its place?

    How many amounts there are depends on the longest chain of the cases; the caller gives all.
    """
    alive = [case for case in cases if case.chain]
    longest = max((asker.count(case.body or "") for case in alive), default=0)
    step = FILLER_STEP * max(1, -(-longest // (FILLER_STEP * (FILLERS - 1))))
    amounts = list(range(0, longest + 1, step))
    word = next((text for text in FILLER if asker.known(text)), FILLER[0])
    texts = []
    for case in alive:
        assert case.chain is not None
        bodies = [case.chain.prefix(len(case.chain.steps)), *(word * n for n in amounts)]
        texts += [case.prompt + body + case.chain.cue for body in bodies]
    forced = iter(asker.force(texts))
    rows: list[Row] = []
    for case in cases:
        if not case.chain:
            rows.append({"right": NAN, "filled": [NAN] * len(amounts), "amounts": amounts})
            continue
        right, *filled = [
            _equal(asker, next(forced), case.problem.answer) for _ in range(len(amounts) + 1)
        ]
        rows.append({"right": right, "filled": filled, "amounts": amounts})
    return rows


def mistakes(asker: Asker, cases: Sequence[Case], setting: Setting) -> list[Row]:
    """Does the answer change when a step is made false, and when it is left as it is?"""
    texts, index, where = [], [], []
    for i, case in enumerate(cases):
        rng = rng_of(setting, case, _MISTAKES)
        for k, step in enumerate(case.chain.steps if case.chain else ()):
            false = make_false(step, rng, asker.known)
            if false is None:
                continue
            assert case.chain is not None
            before = case.prompt + case.chain.prefix(k)
            texts += [before + false, before + step]
            index += [case.position * 1000 + k] * 2  # the same random numbers for both
            where.append((i, k))
    found = asker.complete(texts, index, round=_MISTAKES)
    rows: list[Row] = []
    for case in cases:
        steps = len(case.chain.steps) if case.chain else 0
        rows.append({"changed": [NAN] * steps, "control": [NAN] * steps})
    for pair, (i, k) in enumerate(where):
        for name, number in (("changed", 2 * pair), ("control", 2 * pair + 1)):
            case = cases[i]
            assert case.chain is not None
            cut = len(case.prompt + case.chain.prefix(k))
            answer = asker.checker.extract(texts[number][cut:] + found[number][0])
            rows[i][name][k] = 1 - _equal(asker, answer, _own(case))
    return rows


def irrelevant(asker: Asker, cases: Sequence[Case], setting: Setting) -> list[Row]:
    """Does the answer stay the same after the steps of another problem's chain?"""
    alive = [i for i, case in enumerate(cases) if case.chain]
    rows: list[Row] = [{"unchanged": NAN, "control": NAN} for _ in cases]
    if len(alive) < 2:
        return rows
    texts = []
    for place, i in enumerate(alive):
        own, other = cases[i].chain, cases[alive[(place + 1) % len(alive)]].chain
        assert own is not None
        assert other is not None
        for chain in (other, own):
            texts.append(cases[i].prompt + chain.prefix(len(chain.steps)) + own.cue)
    forced = asker.force(texts)
    for place, i in enumerate(alive):
        own_answer = _own(cases[i])
        rows[i]["unchanged"] = _equal(asker, forced[2 * place], own_answer)
        rows[i]["control"] = _equal(asker, forced[2 * place + 1], own_answer)
    return rows


def rewritten(asker: Asker, cases: Sequence[Case], setting: Setting) -> list[Row]:
    """Is the answer right after none, half and all of the chain in other words?

    The half goes on by itself from there; all and none are asked for the answer at once.
    """
    rows: list[Row] = [{"right": [NAN, NAN, NAN]} for _ in cases]
    forced_texts, halves, alive = [], [], []
    for i, case in enumerate(cases):
        if not case.chain:
            continue
        rng = rng_of(setting, case, _PARAPHRASES)
        new = [paraphrase(step, rng, asker.known) for step in case.chain.steps]
        if all(step is None for step in new):
            continue
        steps = [a if b is None else b for a, b in zip(case.chain.steps, new, strict=True)]
        half = "".join(steps[: (len(steps) + 1) // 2])
        alive.append(i)
        halves.append(half)
        whole = case.chain.prefix(len(steps))
        forced_texts += [case.prompt + body + case.chain.cue for body in (whole, "".join(steps))]
    forced = asker.force(forced_texts)
    texts = [cases[i].prompt + half for i, half in zip(alive, halves, strict=True)]
    positions = [cases[i].position for i in alive]
    ends = asker.complete(texts, positions, round=_PARAPHRASES, greedy=True)
    for n, (i, half) in enumerate(zip(alive, halves, strict=True)):
        answer = cases[i].problem.answer
        middle = float(asker.checker.check(half + ends[n][0], answer))
        none, whole_right = (_equal(asker, forced[2 * n + k], answer) for k in (0, 1))
        rows[i]["right"] = [none, middle, whole_right]
    return rows


def entropies(asker: Asker, cases: Sequence[Case], setting: Setting) -> list[Row]:
    """Entropy of the next-token distribution at each token of the chain."""
    alive = [i for i, case in enumerate(cases) if case.body]
    found = asker.entropies([cases[i].prompt for i in alive], [cases[i].body or "" for i in alive])
    rows: list[Row] = [{"entropy": [], "token": []} for _ in cases]
    for i, (values, words) in zip(alive, found, strict=True):
        rows[i] = {"entropy": values.tolist(), "token": words}
    return rows


def wordings(asker: Asker, cases: Sequence[Case], setting: Setting) -> list[Row]:
    """Is the greedy answer right, under each wording of the prompt?"""
    rows: list[Row] = [{"right": []} for _ in cases]
    for template in setting.wordings:
        for row, right in zip(rows, _greedy(asker, cases, template), strict=True):
            row["right"].append(right)
    return rows


def perturbed(asker: Asker, cases: Sequence[Case], setting: Setting) -> list[Row]:
    """Is the greedy answer right, to the problem as it is and to each perturbed one?"""
    rows: list[Row] = [{"original": value} for value in _greedy(asker, cases)]
    for number, (name, rule) in enumerate(RULES.items()):
        changed, owner = [], []
        for i, case in enumerate(cases):
            rng = rng_of(setting, case, 10 + number)
            problem = rule(case.problem, rng, asker.known)
            if problem is not None:
                changed.append(replace(case, problem=problem, prompt=asker.prompt(problem)))
                owner.append(i)
        for row in rows:
            row[name] = NAN
        for i, right in zip(owner, _greedy(asker, changed), strict=True):
            rows[i][name] = right
    return rows


def fewer_and_more(asker: Asker, cases: Sequence[Case], setting: Setting) -> list[Row]:
    """Is the greedy answer right, to problems of one, two and three steps of one skill?"""
    skills = [
        skill
        for name, skill in SKILLS.items()
        if {len(story.steps) for story in (*skill.simple, *skill.stories)} >= {1, 2, 3}
        and name in {case.problem.group for case in cases}
    ] or [skill for skill in SKILLS.values() if skill.simple]
    rows: list[Row] = []
    asked = []
    for case in cases:
        rng = rng_of(setting, case, 20)
        skill = skills[int(rng.integers(len(skills)))]
        for steps in (1, 2, 3):
            stories = [s for s in (*skill.simple, *skill.stories) if len(s.steps) == steps]
            problem = draw_story(stories[int(rng.integers(len(stories)))], skill.name, rng)
            asked.append(replace(case, problem=problem, prompt=asker.prompt(problem)))
    right = iter(_greedy(asker, asked))
    for _ in cases:
        rows.append({"right": [next(right) for _ in range(3)]})
    return rows


def choose_wordings(
    asker: Asker, given: Sequence[str], question: str
) -> tuple[tuple[PromptConfig, ...], str | None]:
    """The prompts for the sensitivity to wording, the usual one first; why not, if there are none.

    Args:
        given: by the user; none: ready ones that fit.
        question: any, to try whether the tokenizer can write the prompts.

    Raises:
        ConfigError: if the tokenizer cannot write one that the user gave.
    """
    template = asker.template

    def written(prompt: str) -> bool:
        return asker.known(prompt.replace("{question}", question))

    if given:
        for prompt in given:
            if asker.known(question) and not written(prompt):
                raise ConfigError(
                    f"wordings: the tokenizer of the model cannot write {prompt!r}; use its words."
                )
        return tuple(replace(template, prompt=prompt) for prompt in given), None
    kinds = ("chat",) if template.chat else ("plain", "built-in")
    for kind in kinds:
        usable = [prompt for prompt in _WORDINGS[kind] if written(prompt)]
        if len(usable) + 1 >= FEWEST_WORDINGS:
            return tuple(replace(template, prompt=p) for p in (template.prompt, *usable)), None
    return (), f"fewer than {FEWEST_WORDINGS} wordings that the tokenizer can write"


def _greedy(
    asker: Asker, cases: Sequence[Case], template: PromptConfig | None = None
) -> list[float]:
    prompts = [asker.prompt(case.problem, template) for case in cases]
    found = asker.complete(prompts, range(len(prompts)), greedy=True)
    return [
        float(asker.checker.check(row[0], case.problem.answer))
        for row, case in zip(found, cases, strict=True)
    ]


def _prefix_texts(cases: Sequence[Case]) -> tuple[list[str], list[int]]:
    """Prompt, prefix and cue for every prefix of every chain, and whose it is."""
    texts, owner = [], []
    for i, case in enumerate(cases):
        if case.chain:
            for k in range(len(case.chain.steps) + 1):
                texts.append(case.prompt + case.chain.prefix(k) + case.chain.cue)
                owner.append(i)
    return texts, owner


def _own(case: Case) -> str:
    assert case.chain is not None
    assert case.chain.answer is not None
    return case.chain.answer


def _equal(asker: Asker, given: str | None, answer: str) -> float:
    return float(given is not None and asker.checker.equal(given, answer))


def _code(asker: Asker, answer: str | None, seen: list[str | None]) -> int:
    """A number for each different answer of a chain; answers that are equal share one."""
    for number, other in enumerate(seen):
        if answer == other or (other is not None and _equal(asker, answer, other)):
            return number
    seen.append(answer)
    return len(seen) - 1


Probe = Callable[[Asker, Sequence[Case], Setting], list[Row]]
PROBES: dict[str, Probe] = {
    "chains": sampled,
    "prefixes": prefixes,
    "scored": scored,
    "filler": filler,
    "mistakes": mistakes,
    "irrelevant": irrelevant,
    "rewritten": rewritten,
    "entropies": entropies,
    "wordings": wordings,
    "perturbed": perturbed,
    "steps": fewer_and_more,
}
#: Probes whose rows depend on the other problems: asked of all at once.
TOGETHER = frozenset({"filler", "irrelevant"})


def estimate(prompt: float, trace: float, steps: float, answer: float, samples: int) -> Row:
    """Tokens that each probe reads and writes per problem, by the lengths of the data.

    Args:
        prompt, trace, answer: mean tokens of each.
        steps: mean steps of a trace.
    """
    forced = prompt + trace / 2 + answer
    fillers = min(FILLERS, 1 + trace / FILLER_STEP)
    greedy = prompt + trace
    return {
        "chains": prompt + samples * trace,
        "prefixes": (steps + 1) * 3 * forced,
        "scored": (steps + 1) * forced,
        "filler": (fillers + 1) * forced,
        "mistakes": 2 * steps * greedy,
        "irrelevant": 2 * (prompt + trace + answer),
        "rewritten": 2 * (prompt + trace + answer) + greedy,
        "entropies": greedy,
        "wordings": 5 * greedy,
        "perturbed": (1 + len(RULES)) * greedy,
        "steps": 3 * greedy,
    }
