"""The catalogue of measures: each with its card, the probes it reads, and what its plot shows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from activeselect.audit import measures as m
from activeselect.audit.measures import Arrays, FloatArray
from activeselect.errors import ConfigError, did_you_mean

#: Points at which values along chains of different length are drawn.
POINTS = 11
#: A plot in plain numbers: what the axes are, x, and y by name.
Plot = dict[str, Any]
Values = Callable[[Arrays], FloatArray]


@dataclass(frozen=True)
class Measure:
    """One measure of the audit.

    Attributes:
        name: as in ``measures=[...]``.
        title: what it is called in a report.
        unit: of the value.
        probes: what it reads (``activeselect.audit.probes``); arrays of all are handed over.
        values: one per problem, from arrays with one row per problem; the measure is their mean.
        plot: what its plot shows, from the same arrays; None where the value says it all.
        definition: exactly what is computed.
        source: paper, or where it comes from.
        limits: what it cannot show.
        steps: whether it needs chains with steps.
        more: further numbers beside the value, by name.
        overall: the measure where it is no mean over problems.
        dependence: 1 where a larger value says that the answer depends more on the steps, 0 where
            the measure is about something else.
    """

    name: str
    title: str
    unit: str
    probes: tuple[str, ...]
    values: Values | None
    definition: str
    source: str
    limits: str
    plot: Callable[[Arrays], Plot] | None = None
    steps: bool = True
    more: Callable[[Arrays], dict[str, float]] | None = None
    overall: m.Statistic | None = None
    dependence: int = 0

    def statistic(self, a: Arrays) -> float:
        """The measure, from arrays with one row per problem."""
        if self.overall is not None:
            return self.overall(a)
        assert self.values is not None
        return m.mean(self.values(a))

    def reduced(self, a: Arrays) -> Arrays:
        """What :meth:`of_reduced` needs of the arrays, computed once before resampling."""
        return a if self.values is None else {"values": self.values(a)}

    def of_reduced(self, a: Arrays) -> float:
        """The measure, from what :meth:`reduced` left."""
        return self.statistic(a) if self.values is None else m.mean(a["values"])

    def count(self, a: Arrays) -> int:
        """Problems that the measure has a value for."""
        if self.values is not None:
            return int((~np.isnan(self.values(a))).sum())
        known = [~np.isnan(x.reshape(len(x), -1)).all(axis=1) for x in a.values()]
        return int(np.all(known, axis=0).sum())


def along(values: FloatArray) -> list[float]:
    """Mean over chains of a value per prefix, at even places from no step to all of them.

    Example:
        >>> along(np.array([[0.0, 1.0], [0.0, 0.0]]))[::5]
        [0.0, 0.25, 0.5]
    """
    places = np.linspace(0, 1, POINTS)
    rows = [row[~np.isnan(row)] for row in values]
    drawn = [np.interp(places, np.linspace(0, 1, len(row)), row) for row in rows if len(row) > 1]
    return np.mean(drawn, axis=0).tolist() if drawn else []


def _line(x: Sequence[float], x_label: str, y_label: str, **series: Sequence[float]) -> Plot:
    lines = {name.replace("_", " "): [float(y) for y in line] for name, line in series.items()}
    return {"kind": "line", "x": list(x), "x_label": x_label, "y_label": y_label, "series": lines}


def _bars(names: Sequence[str], y_label: str, values: Sequence[float]) -> Plot:
    shown = [float(value) for value in values]
    return {"kind": "bars", "x": list(names), "y_label": y_label, "series": {"": shown}}


_SHARES = [i / (POINTS - 1) for i in range(POINTS)]


def _trajectory(y_label: str, **names: str) -> Callable[[Arrays], Plot]:
    def plot(a: Arrays) -> Plot:
        series = {shown: along(a[key]) for key, shown in names.items()}
        return _line(_SHARES, "share of the chain", y_label, **series)

    return plot


def _filler_plot(a: Arrays) -> Plot:
    known = ~np.isnan(a["right"])
    filled = a["filled"][known]
    amounts = a["amounts"][0].tolist()
    chain = [m.mean(a["right"])] * len(amounts)
    shares = filled.mean(axis=0) if len(filled) else [float("nan")] * len(amounts)
    return _line(amounts, "filler tokens", "accuracy", filler=shares, the_chain=chain)


def _mistake_plot(a: Arrays) -> Plot:
    middle = (np.arange(a["changed"].shape[1]) + 1).tolist()
    changed, control = (
        [m.mean(np.where(np.isnan(a["changed"][:, k]), np.nan, a[name][:, k])) for k in range(n)]
        for name, n in (("changed", len(middle)), ("control", len(middle)))
    )
    return _line(
        middle, "step that is made false", "answers that change", false=changed, as_it_was=control
    )


def _commit_plot(a: Arrays) -> Plot:
    points = m.commit_point(a["code"])
    points = points[~np.isnan(points)]
    edges = np.linspace(0, 1, 6)
    counts = np.histogram(points, bins=edges)[0] / max(1, len(points))
    names = [f"{low:.1f}-{high:.1f}" for low, high in pairwise(edges)]
    return _bars(names, "share of chains", counts.tolist())


def _entropy_plot(a: Arrays) -> Plot:
    known = a["entropy"][~np.isnan(a["entropy"])]
    at = np.linspace(0, 1, 21)
    values = np.quantile(known, at).tolist() if len(known) else []
    return _line(at.tolist(), "share of tokens", "entropy in nats", quantile=values)


def _length_plot(a: Arrays) -> Plot:
    """Share right by length beside the problem's mean, in five groups of equal size."""
    difference = a["length"] - m.row_mean(a["length"])[:, None]
    mixed = (m.row_mean(a["right"]) % 1 != 0)[:, None] & ~np.isnan(difference)
    x, y = difference[mixed], a["right"][mixed]
    if len(x) < 5:
        return _line([], "tokens beside the problem's mean", "share right", samples=[])
    groups = np.array_split(np.argsort(x, kind="stable"), 5)
    shares = [y[group].mean() for group in groups]
    return _line(
        [float(x[group].mean()) for group in groups],
        "tokens beside the problem's mean",
        "share right",
        samples=shares,
    )


def _wording_plot(a: Arrays) -> Plot:
    shares = [m.mean(a["right"][:, k]) for k in range(a["right"].shape[1])]
    return _bars([f"wording {k + 1}" for k in range(len(shares))], "accuracy", shares)


def _difference(name: str) -> Values:
    return lambda a: a[name] - a["original"]


def _changed_plot(name: str) -> Callable[[Arrays], Plot]:
    def plot(a: Arrays) -> Plot:
        both = ~np.isnan(a[name])
        shares = [m.mean(a["original"][both]), m.mean(a[name][both])]
        return _bars(["as it is", name], "accuracy", shares)

    return plot


def _steps_plot(a: Arrays) -> Plot:
    shares = [m.mean(a["right"][:, k]) for k in range(3)]
    return _bars(["1 step", "2 steps", "3 steps"], "accuracy", shares)


_LANHAM = "Lanham et al., arXiv 2307.13702"
_NOT_PROOF = "That answers follow the text does not say that the text is how they were found."
_RULE = "Only what the rules reach is changed; problems they do not reach are left out."

_ALL = (
    Measure(
        "accuracy",
        "Sampled accuracy",
        "share right",
        ("chains",),
        lambda a: m.row_mean(a["right"]),
        "Share of sampled completions whose final answer is right.",
        "context for the others",
        "Nothing about why an answer is right.",
        steps=False,
    ),
    Measure(
        "information_gain",
        "Information gain",
        "nats per step",
        ("scored",),
        lambda a: m.gain_per_step(a["log_gold"]),
        "(ln P_t - ln P_0) / t: what the steps tell a fixed scoring model about the right answer's "
        "tokens, per step.",
        "after arXiv 2506.02126, in nats and over the answer tokens alone",
        "More steps lower it mechanically, so read it beside the total and the number of steps. "
        "A step may inform the scoring model and not the model that wrote it.",
        _trajectory("ln P of the right answer", log_gold="right answer"),
        more=lambda a: {
            "total gain in nats": m.mean(m.total_gain(a["log_gold"])),
            "steps": m.mean(m.steps_of(a["log_gold"])),
        },
        dependence=1,
    ),
    Measure(
        "early_answering",
        "Early answering",
        "area over the curve",
        ("prefixes",),
        lambda a: m.changes_when_cut(m.same_as_last(a["code"])),
        "An answer is forced after no step, one step, ..., all; mean share of these answers that "
        "differ from the last one.",
        f"{_LANHAM}, 2.3",
        f"A hard problem is answered late by any chain, needed or not. {_NOT_PROOF}",
        lambda a: _line(
            _SHARES,
            "share of the chain",
            "answers that are the last one",
            same_answer=along(m.same_as_last(a["code"])),
        ),
        dependence=1,
    ),
    Measure(
        "filler",
        "Filler in place of the chain",
        "drop of accuracy",
        ("filler",),
        None,
        "Accuracy after the chain, less the best accuracy after any amount of filler in its place.",
        f"{_LANHAM}, 2.5",
        "The best of several shares is biased upward, so the drop is too small on few problems.",
        _filler_plot,
        dependence=1,
        overall=lambda a: m.filler_drop(a["right"], a["filled"]),
    ),
    Measure(
        "mistakes",
        "A step made false",
        "answers that change",
        ("mistakes",),
        lambda a: m.changed_by_mistake(a["changed"], a["control"]),
        "One number of a step is changed and the chain sampled on: share of answers that change, "
        "less the same from the true step with the same random numbers.",
        f"{_LANHAM}, 2.4; the control and the rule for the mistake are our own",
        "A model that notices and mends the mistake looks like one that does not read it.",
        _mistake_plot,
        dependence=1,
    ),
    Measure(
        "irrelevant",
        "The chain of another problem",
        "answers that change",
        ("irrelevant",),
        lambda a: a["control"] - a["unchanged"],
        "Share of forced answers that are the chain's own after its steps, less after the steps of "
        "another problem.",
        "our own, after arXiv 2505.13775",
        "Strange text may throw a model off whose answer does not need its own steps.",
        more=lambda a: {
            "the chain's own after its steps": m.mean(a["control"]),
            "and after another problem's": m.mean(a["unchanged"]),
        },
        dependence=1,
    ),
    Measure(
        "paraphrase",
        "The chain in other words",
        "change of accuracy",
        ("rewritten",),
        lambda a: a["right"][:, 2] - a["right"][:, 0],
        "Accuracy after the chain in other words (rules of synonyms), less that after the chain.",
        f"{_LANHAM}, 2.6, with rules in place of a rewriting model",
        f"The rules change few words, so a wording that carries the answer may pass. {_RULE}",
        lambda a: _line(
            [0.0, 0.5, 1.0],
            "share of the chain rewritten",
            "accuracy",
            accuracy=[m.mean(a["right"][:, k]) for k in range(3)],
        ),
    ),
    Measure(
        "confidence",
        "Rise of confidence",
        "probability",
        ("prefixes",),
        lambda a: m.rise(a["own"]),
        "P(own answer) after the chain less before its first step.",
        "after arXiv 2508.19827",
        "Confidence that stands before the first step may come from training on the problem.",
        _trajectory("probability", own="own answer", gold="right answer"),
        more=lambda a: {
            "rise for the right answer": m.mean(m.rise(a["gold"])),
            "largest jump in one step": m.mean(m.largest_jump(a["own"])[0]),
            "place of the jump (share)": m.mean(m.largest_jump(a["own"])[1]),
        },
        dependence=1,
    ),
    Measure(
        "commit_point",
        "Commit point",
        "share of the chain",
        ("prefixes",),
        lambda a: m.commit_point(a["code"]),
        "Share of the chain after which the forced answer never changes again; 0: it stood before "
        "the first step.",
        "after arXiv 2508.19827",
        "Forcing an answer is foreign to a model that always writes its steps.",
        _commit_plot,
        dependence=1,
    ),
    Measure(
        "forking",
        "Forking tokens",
        "share of entropy",
        ("entropies",),
        None,
        "Share of the entropy of all next-token distributions along the chains that lies in the "
        "fifth of the tokens where it is highest.",
        "arXiv 2506.01939",
        "Entropy of wording and entropy of what to do next look the same.",
        _entropy_plot,
        more=lambda a: {"mean entropy in nats": m.mean(a["entropy"])},
        overall=lambda a: m.forking_share(a["entropy"]),
    ),
    Measure(
        "length",
        "Shorter when right",
        "share of problems",
        ("chains",),
        lambda a: m.shorter_when_right(a["right"], a["length"]),
        "Share of problems whose right samples are shorter than their wrong ones; only problems "
        "with both count, so difficulty does not confound it.",
        "after arXiv 2502.07266",
        "Few problems have both where a model is very good or very bad.",
        _length_plot,
        steps=False,
        more=lambda a: dict(
            zip(
                ("share right per 10 tokens", "and per their square"),
                m.length_curve(a["right"], a["length"]),
                strict=True,
            )
        ),
    ),
    Measure(
        "sensitivity",
        "Sensitivity to the prompt",
        "pairs that disagree",
        ("wordings",),
        lambda a: m.sensitivity(a["right"]),
        "Share of pairs of wordings of the prompt of which one is answered rightly and one not.",
        "ProSA, arXiv 2410.12405",
        "A model that is always wrong is not sensitive. The wordings are the ready ones, or yours.",
        _wording_plot,
        steps=False,
    ),
    Measure(
        "reliability",
        "Reliability over wordings",
        "omega",
        ("wordings",),
        None,
        "McDonald's omega of one factor over different wordings of the prompt.",
        "McDonald, Test Theory (1999); not arXiv 2412.12509's, which takes absolute correlations",
        "Wordings may agree on which problems are hard and all be wrong.",
        steps=False,
        overall=lambda a: m.omega(a["right"]),
    ),
    Measure(
        "renamed",
        "Other people and objects",
        "change of accuracy",
        ("perturbed",),
        _difference("renamed"),
        "Greedy accuracy with people and objects renamed, less that of the problem as it is.",
        "claim 2 of Kang et al., arXiv 2411.07681, by rules",
        _RULE,
        _changed_plot("renamed"),
        steps=False,
    ),
    Measure(
        "reordered",
        "Sentences in another order",
        "change of accuracy",
        ("perturbed",),
        _difference("reordered"),
        "Greedy accuracy with two sentences exchanged that lean on nothing, less that as it is.",
        "claim 2 of Kang et al., arXiv 2411.07681, by rules",
        _RULE,
        _changed_plot("reordered"),
        steps=False,
    ),
    Measure(
        "renumbered",
        "Other numbers",
        "change of accuracy",
        ("perturbed",),
        _difference("renumbered"),
        "Greedy accuracy with other numbers, where the trace can be executed, less that as it is.",
        "claim 2 of Kang et al., arXiv 2411.07681, by rules",
        f"Other numbers may be harder. {_RULE}",
        _changed_plot("renumbered"),
        steps=False,
    ),
    Measure(
        "hedging",
        "Words of doubt",
        "share of chains",
        ("chains",),
        lambda a: m.row_mean(a["hedged"]),
        "Share of sampled chains with a word of doubt or self-correction (setting `hedges`).",
        "our own count",
        "Words are counted, not doubt.",
        steps=False,
    ),
    Measure(
        "step_less",
        "One step less",
        "change of accuracy",
        ("steps",),
        lambda a: a["right"][:, 0] - a["right"][:, 1],
        "Accuracy on problems of one step less that on problems of two, of the same skills "
        "(built-in data).",
        "after GSM-Symbolic, arXiv 2410.05229",
        "Stories differ in more than their steps.",
        _steps_plot,
        steps=False,
    ),
    Measure(
        "step_more",
        "One step more",
        "change of accuracy",
        ("steps",),
        lambda a: a["right"][:, 1] - a["right"][:, 2],
        "Accuracy on problems of two steps less that on problems of three, of the same skills "
        "(built-in data).",
        "after GSM-Symbolic, arXiv 2410.05229",
        "Stories differ in more than their steps.",
        _steps_plot,
        steps=False,
    ),
)
MEASURES = {measure.name: measure for measure in _ALL}


def chosen(names: Sequence[str]) -> list[Measure]:
    """The measures of these names; all, for none.

    Raises:
        ConfigError: if a name is unknown.

    Example:
        >>> [measure.name for measure in chosen(["filler", "accuracy"])]
        ['accuracy', 'filler']
    """
    for name in names:
        if name not in MEASURES:
            raise ConfigError(
                f"measures: there is no measure '{name}'. {did_you_mean(name, MEASURES)}"
            )
    return [measure for name, measure in MEASURES.items() if not names or name in names]
