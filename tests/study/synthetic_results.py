"""A results.json as a real study writes it, with hostile text in the places users control."""

from __future__ import annotations

from typing import Any

import numpy as np

from activeselect.study.efficiency import analyse
from activeselect.study.resampling import CurveSet

BUDGETS = [150, 300, 600, 1200]
TRUTH = {
    "mixed": {
        "random": [0.728, 0.782, 0.866, 0.932],
        "premem": [0.728, 0.823, 0.900, 0.949],
        "oracle": [0.728, 0.854, 0.940, 0.962],
    },
    "even": {
        "random": [0.55, 0.68, 0.80, 0.89],
        "premem": [0.55, 0.68, 0.80, 0.885],
        "oracle": [0.55, 0.69, 0.80, 0.89],
    },
    "trap": {
        "random": [0.694, 0.767, 0.854, 0.906],
        "premem": [0.694, 0.732, 0.757, 0.790],
        "oracle": [0.694, 0.833, 0.928, 0.947],
    },
}
SECONDS = {"random": (50.0, 0.0, 0.01, 4.0), "premem": (51.0, 19.0, 0.3, 4.0)}
GROUPS = ["add", "subtract", "double", "ratio", "percent", "<i>trap</i>"]
HOSTILE = "</script><script>alert('q')</script> tom has 3 < 5 apples & \"2\" pears \u2028 ?"


def synthetic_results(seeds: int = 5, seed: int = 0) -> dict[str, Any]:
    """All keys of ``results.json``, from answers drawn around known curves."""
    rng = np.random.default_rng(seed)
    results: dict[str, Any] = {
        "schema_version": 2,
        "config": {
            "strategies": ["random", "premem", "oracle"],
            "seeds": list(range(seeds)),
            "budgets": BUDGETS,
            "recipe": {"lr": 0.002, "epochs": 8, "batch_size": 16},
            "note": "<b>&amp; not bold</b>",
        },
        "environment": {"python": "3.11.7", "torch": "2.13.0+cpu", "cpu": "2 cores", "commit": "-"},
        "datasets": list(TRUTH),
        **{key: [] for key in ("curves", "efficiency", "targets", "gain", "oracle_share", "cost")},
        **{
            key: []
            for key in ("selection", "data_map", "efficiency_by_cost", "examples", "verdicts")
        },
    }
    points: list[dict[str, Any]] = []
    for dataset, truth in TRUTH.items():
        curves = _answers(truth, seeds, rng)
        points += _add_curves(results, dataset, curves, rng)
        analysis = analyse(curves, "random", oracle="oracle", rng=rng)
        results["efficiency"] += [{"dataset": dataset, **row} for row in analysis.efficiency]
        results["targets"] += [{"dataset": dataset, **row} for row in analysis.targets]
        results["gain"] += [{"dataset": dataset, **row} for row in analysis.gain]
        whole = [row for row in analysis.efficiency if row["budget"] is None]
        for axis in ("unique_examples", "seconds"):
            results["efficiency_by_cost"] += [
                {"dataset": dataset, **row, "cost": axis} for row in whole
            ]
        results["oracle_share"] += [{"dataset": dataset, **row} for row in analysis.oracle_share]
        results["verdicts"] += [f"{dataset}: {sentence}" for sentence in analysis.verdicts]
        _add_cost_and_selection(results, dataset, seeds, rng)
        _add_data_map(results, dataset, rng)
    results["forecast"] = {
        "protocol": "leave one run out",
        "r2": 0.81,
        "mae": 0.021,
        "tau": 0.1,
        "n_checkpoints": len(points),
        "points": points,
        "note": None,
    }
    results["examples"] = _examples(rng)
    return results


def _answers(truth: dict[str, list[float]], seeds: int, rng: np.random.Generator) -> CurveSet:
    correct = {}
    for name, means in truth.items():
        chance = np.clip(means + 0.012 * rng.standard_normal((seeds, 4)), 0, 1)
        correct[name] = rng.random((seeds, 4, 600)) < chance[..., None]
        correct[name][:, 0] = correct["random"][:, 0]
    return CurveSet(BUDGETS, correct)


def _add_curves(
    results: dict[str, Any], dataset: str, curves: CurveSet, rng: np.random.Generator
) -> list[dict[str, Any]]:
    points = []
    for name, accuracy in curves.accuracy.items():
        for seed in range(curves.seeds):
            for i, budget in enumerate(BUDGETS):
                key = {"dataset": dataset, "strategy": name, "seed": seed, "budget": budget}
                measured = {"test_accuracy": float(accuracy[seed, i]), "test_examples": 600}
                counts = {"unique_examples": budget, "samples_seen": 8 * budget}
                costs = {"costs": {"unique_examples": budget, "seconds": 0.1 * budget}}
                results["curves"].append(key | counts | measured | costs)
                guess = float(accuracy[seed, i] + 0.025 * rng.standard_normal())
                more = {"premem": guess, "forecast": guess, "low": guess - 0.04}
                more |= {"high": guess + 0.04, "test_accuracy": measured["test_accuracy"]}
                points.append(key | more)
    return points


def _add_cost_and_selection(
    results: dict[str, Any], dataset: str, seeds: int, rng: np.random.Generator
) -> None:
    for name in TRUTH[dataset]:
        for seed in range(seeds):
            parts = zip(
                ("train_s", "score_s", "select_s", "eval_s"),
                SECONDS.get(name, SECONDS["random"]),
                strict=True,
            )
            cost = {key: float(value * rng.uniform(0.9, 1.1)) for key, value in parts}
            key = {"dataset": dataset, "strategy": name, "seed": seed}
            results["cost"].append(key | cost | {"tokens_trained": 10**6, "tokens_generated": 4})
            for budget in BUDGETS:
                tilt = [1.0] * 6 if name == "random" else [1, 1, 1, 2, 3, 4]
                count = rng.multinomial(budget, np.array(tilt) / sum(tilt)).tolist()
                groups = dict(zip(GROUPS, count, strict=True))
                results["selection"].append(key | {"budget": budget, "groups": groups})


def _add_data_map(results: dict[str, Any], dataset: str, rng: np.random.Generator) -> None:
    for stage in range(len(BUDGETS)):
        for group in GROUPS:
            key = {"dataset": dataset, "strategy": "premem", "round": stage, "stage": stage}
            score = min(1.0, 0.2 * (stage + 1) + float(rng.uniform(0, 0.2)))
            rest = {"epoch": 2, "group": group, "scored": 20.5, "seeds": 5}
            results["data_map"].append(key | rest | {"accuracy": score, "premem": score / 2})


def _examples(rng: np.random.Generator) -> list[dict[str, Any]]:
    rows = []
    for i in range(24):
        right = int(rng.integers(0, 5))
        rows.append(
            {
                "dataset": "mixed",
                "strategy": "premem" if i % 2 else "random",
                "seed": 0,
                "question": HOSTILE if i == 0 else f"ann has {i} pens and buys 7 more . how many ?",
                "trace": f"so {i} + 7 = {i + 7} . thus answer : {i + 7}",
                "answer": str(i + 7),
                "group": ("add", "percent", "ratio")[i % 3],
                "premem": right / 4,
                "history": [
                    {"round": k, "stage": k, "epoch": 2, "accuracy": right / 4, "premem": 0.0}
                    for k in range(2)
                ],
                "completions": [
                    f"now {i} + 7 = {i + 7 + (k >= right)} . so answer : {i + 7 + (k >= right)}"
                    for k in range(4)
                ],
            }
        )
    return rows
