"""What a model has cost by the time it can be tested, on every axis a study can be judged on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from activeselect.files import read_json
from activeselect.study.verdicts import AXES

if TYPE_CHECKING:
    from activeselect.study.collect import FinishedRun

Row = Mapping[str, Any]
_SECONDS = ("train_s", "score_s", "select_s")
_COMPUTED = ("tokens_trained", "seconds")


def bills(curve: Sequence[Row], *, needs_rounds: bool) -> list[dict[str, float]]:
    """The bill of each model of a run.

    Selection's own cost is on it: a strategy that decides by what earlier models measured pays
    for those models, for scoring and for choosing. One that measures nothing could have trained
    on its last train set at once, and pays for that alone. Testing is on nobody's bill.

    Args:
        curve: entries of ``result.json``, one per stage.
        needs_rounds: whether the strategy or the training needs the earlier stages.

    Returns:
        One dict per entry with the axes of :data:`~activeselect.study.verdicts.AXES` that the run
        recorded.

    Example:
        >>> cost = dict(train_s=2., score_s=1., select_s=0., tokens_trained=80, tokens_generated=9)
        >>> later = dict(train_s=6., score_s=3., select_s=1., tokens_trained=240,
        ...     tokens_generated=27)
        >>> curve = [dict(unique_examples=10, samples_seen=20, cost=cost),
        ...     dict(unique_examples=20, samples_seen=60, cost=later)]
        >>> bills(curve, needs_rounds=True)[1]["tokens_total"], bills(curve, needs_rounds=False)[1]
        (267, {'unique_examples': 20, 'samples_seen': 40, 'tokens_trained': 160, \
'tokens_total': 160, 'seconds': 4.0})
    """
    totals = [_totals(entry, needs_rounds) for entry in curve]
    if needs_rounds:
        return totals
    own = [totals[0]]
    for before, now in pairwise(totals):
        own.append({axis: now[axis] - before[axis] for axis in now})
        own[-1]["unique_examples"] = now["unique_examples"]
    return own


def _totals(entry: Row, needs_rounds: bool) -> dict[str, float]:
    """Spent up to this entry, all stages together."""
    total: dict[str, float] = {name: entry[name] for name in ("unique_examples", "samples_seen")}
    cost = entry.get("cost")
    if cost is not None:
        total["tokens_trained"] = cost["tokens_trained"]
        generated = cost["tokens_generated"] if needs_rounds else 0
        total["tokens_total"] = cost["tokens_trained"] + generated
        parts = _SECONDS if needs_rounds else _SECONDS[:1]
        total["seconds"] = sum(cost[part] for part in parts)
    return total


def axes_of(rows: Sequence[Row]) -> list[str]:
    """The axes on which all of these runs have a bill."""
    return [axis for axis in AXES if all(axis in row["bill"] for row in rows)]


def computed_of(runs: Sequence[FinishedRun]) -> dict[str, float]:
    """What all runs are billed for, as if each had run alone, and what was really computed."""
    found: dict[str, float] = {"runs": len(runs), "runs_copied": 0}
    found |= {f"{what}_{side}": 0.0 for what in _COMPUTED for side in ("billed", "computed")}
    for run in runs:
        cost = run.result["cost"]
        billed = {"tokens_trained": cost["tokens_trained"]}
        billed["seconds"] = sum(cost[part] for part in (*_SECONDS, "eval_s"))
        noted, copied = run.folder / "shared.json", (run.folder / "reused.json").exists()
        found["runs_copied"] += copied
        taken = [billed] if copied else read_json(noted).values() if noted.exists() else []
        for what in _COMPUTED:
            found[f"{what}_billed"] += billed[what]
            found[f"{what}_computed"] += billed[what] - sum(stage[what] for stage in taken)
    return found


def computed_in_words(computed: Mapping[str, float]) -> list[str]:
    """The same in a sentence for the report, where anything was shared or copied.

    Example:
        >>> computed_in_words({"runs": 6, "runs_copied": 0, "tokens_trained_billed": 200,
        ...     "tokens_trained_computed": 180, "seconds_billed": 10., "seconds_computed": 8.})
        ['Every run is billed as if it had run alone. Computed were 90% of the billed training \
tokens and 80% of the seconds: what runs of one seed have in common was computed once.']
    """
    tokens, seconds = (
        computed[f"{what}_computed"] / (computed[f"{what}_billed"] or 1) for what in _COMPUTED
    )
    if tokens == 1 == seconds:
        return []
    copied = computed["runs_copied"]
    also = f", and {copied:.0f} of {computed['runs']:.0f} runs were copied" if copied else ""
    return [
        f"Every run is billed as if it had run alone. Computed were {tokens:.0%} of the billed "
        f"training tokens and {seconds:.0%} of the seconds: what runs of one seed have in common "
        f"was computed once{also}."
    ]
