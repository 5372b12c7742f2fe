"""Does the audit tell needed steps from idle ones? The table of ``docs/research/audit.md``.

Four models of the built-in benchmark are fine-tuned on the same problems, and only their traces
differ: ``as_is`` (the steps lead to the answer), ``swapped`` (another problem's steps),
``answer_first`` (the answer stands before the steps) and ``answer_only`` (none)::

    python -m research.audit_validation --out runs/validation --seeds [100,101]

Each measure is the area under the ROC curve over problems: the probability that a chain of the
first model scores as "needed" above one of another model. The model without steps is asked with the
reference traces, as the first one is then, too.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from activeselect.audit import audit as room
from activeselect.audit.catalogue import MEASURES, Measure
from activeselect.audit.evidence import VALIDATION
from activeselect.audit.measures import area_under_roc
from activeselect.config import (
    AuditConfig,
    DataConfig,
    RecipeConfig,
    RoundsConfig,
    RunConfig,
    ScoringConfig,
)
from activeselect.files import read_json, write_json
from activeselect.training.auditing import prepare
from activeselect.training.run import ActiveRun
from research.script import run_script

FloatArray = NDArray[np.float64]
#: Traces of the other models, and which chains are cut and changed in the comparison.
OTHERS = {"swapped": "sampled", "answer_only": "traces", "answer_first": "sampled"}
#: Models that certainly do not use the steps. The one that states its answer first could copy it;
#: whether it does is for its chains to say.
IDLE = ("swapped", "answer_only")
#: Measures of chains that have a value per problem.
NAMES = tuple(name for name, it in MEASURES.items() if it.dependence)
_RESAMPLES = 1000


def train(traces: str, seed: int, out: Path, examples: int, epochs: int) -> str:
    """A model fine-tuned on traces of one kind; trained unless it is there."""
    config = RunConfig(
        data=DataConfig("skills:mixed", pool_size=examples, test_limit=200, traces=traces),
        strategy="random",
        rounds=RoundsConfig(mode="reweight", score_every=epochs),
        recipe=RecipeConfig(epochs=epochs, batch_size=16, learning_rate=2e-3),
        scoring=ScoringConfig(samples=1, max_new_tokens=48),
        forecast="off",
        seed=seed,
    )
    folder = out / f"{traces}-{seed}"
    ActiveRun(config).run(folder)
    return str(folder)


def values(model: str, chains: str, seed: int, problems: int, out: Path) -> dict[str, FloatArray]:
    """Each measure's value per problem."""
    config = AuditConfig(
        model=model,
        scorer="skills-base",
        data=DataConfig("skills:mixed", pool_size=50, test_limit=max(problems, 200)),
        measures=("accuracy", *NAMES),
        problems=problems,
        chains=chains,  # type: ignore[arg-type]  # one of the two
        scoring=ScoringConfig(samples=1, max_new_tokens=48),
        seed=seed,
    )
    ready = prepare(config)
    running = room.Audit(config, ready.pool, ready.template, ready.model, None, ready.scorer)
    folder = out / f"audit-{Path(model).name}-{chains}"
    running.run(folder)
    found = {}
    for name in ("accuracy", *NAMES):
        measure = MEASURES[name]
        rows = room.stored(folder, "model", measure.probes)
        found[name] = per_problem(measure, rows)
    return found


def per_problem(measure: Measure, a: dict[str, FloatArray]) -> FloatArray:
    if measure.values is not None:
        return measure.values(a)
    # filler: the chain's answer is right, and none after any filler
    return a["right"] - a["filled"].max(axis=1)


def auroc(pairs: list[tuple[FloatArray, FloatArray]], rng: np.random.Generator) -> dict[str, Any]:
    """Mean over pairs of the area under the curve, problems resampled within each.

    Args:
        pairs: values of the first model and of another, on the same problems.
    """

    def mean(chosen: list[tuple[FloatArray, FloatArray]]) -> float:
        areas = [area_under_roc(a, b) for a, b in chosen]
        known = [area for area in areas if not np.isnan(area)]
        return float(np.mean(known)) if known else float("nan")

    draws = []
    for _ in range(_RESAMPLES):
        rows = [rng.integers(len(a), size=len(a)) for a, _ in pairs]
        draws.append(mean([(a[r], b[r]) for (a, b), r in zip(pairs, rows, strict=True)]))
    low, high = np.nanpercentile(draws, [2.5, 97.5])
    return {"auroc": mean(pairs), "low": float(low), "high": float(high)}


def main(
    out: Path,
    seeds: tuple[int, ...] = (100, 101),
    problems: int = 100,
    examples: int = 600,
    epochs: int = 8,
    ship: bool = False,
) -> None:
    """Train, audit, and print a Markdown table.

    Args:
        out: working folder; the same command continues what is in it.
        seeds: one set of four models each.
        problems: asked of each model.
        examples: trained on.
        epochs: of training.
        ship: write the areas beside the code, for reports to mark measures at chance.
    """
    found: dict[tuple[str, str, int], dict[str, FloatArray]] = {}
    for seed in seeds:
        for traces in ("as_is", *OTHERS):
            model = train(traces, seed, out, examples, epochs)
            kinds = sorted(set(OTHERS.values())) if traces == "as_is" else [OTHERS[traces]]
            for chains in kinds:
                found[traces, chains, seed] = values(model, chains, seed, problems, out)
                print(traces, chains, seed, flush=True)
    rng = np.random.default_rng(0)
    accuracy = {
        traces: np.mean([found[traces, chains, s]["accuracy"].mean() for s in seeds])
        for traces, chains in (("as_is", "sampled"), *OTHERS.items())
        if "accuracy" in found[traces, chains, seeds[0]]
    }
    print("\nsampled accuracy: " + ", ".join(f"{k} {v:.2f}" for k, v in accuracy.items()))
    print(f"\n| measure | idle | {' | '.join(OTHERS)} |\n|---|---|{'---|' * len(OTHERS)}")
    shipped = {}
    for name in NAMES:
        by_other = {
            other: [(found["as_is", kind, s][name], found[other, kind, s][name]) for s in seeds]
            for other, kind in OTHERS.items()
        }
        cells = [auroc(pairs, rng) for pairs in by_other.values()]
        everything = auroc([pair for other in IDLE for pair in by_other[other]], rng)
        shipped[name] = {key: round(value, 4) for key, value in everything.items()}
        shown = " | ".join(
            f"{c['auroc']:.2f} ({c['low']:.2f}-{c['high']:.2f})" for c in (everything, *cells)
        )
        print(f"| {MEASURES[name].title.lower()} | {shown} |")
    asked = f"--seeds '{json.dumps(list(seeds), separators=(',', ':'))}' --problems {problems}"
    command = f"python -m research.audit_validation --out runs/validation {asked}"
    result = {"command": command, "measures": shipped}
    write_json(out / "validation.json", result)
    if ship:
        write_json(VALIDATION, read_json(out / "validation.json"))


if __name__ == "__main__":
    run_script(main)
