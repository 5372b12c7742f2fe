"""Do the 95% intervals cover? Simulated studies with known truth, printed as a table.

    python tests/references/coverage.py --repeats 2000

Every simulated study has the shape of the built-in benchmark: budgets 150 to 1200 with a shared
start, paired seeds, 1200 test questions, seed noise of about 2 points per model.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import ndtri
from scipy.stats import rankdata

from activeselect.arrays import FloatArray
from activeselect.study.curves import log_ratio, mean_gain, overall_log_ratio
from activeselect.study.resampling import CurveSet, draw_resamples, interval, means, resample

BUDGETS = np.array([150.0, 300.0, 600.0, 1200.0])
NAMES = ("random", "premem", "oracle")


@dataclass(frozen=True)
class Scenario:
    """True mean curves and how single runs scatter around them."""

    name: str
    truth: tuple[tuple[float, ...], ...]
    noise: str = "normal"
    noise_sd: float = 0.02
    shared_test: bool = False
    examples: int = 1200


MIXED = ((0.728, 0.782, 0.866, 0.932), (0.728, 0.823, 0.900, 0.949), (0.728, 0.854, 0.925, 0.960))
EVEN = ((0.60, 0.70, 0.80, 0.88),) * 2 + ((0.60, 0.72, 0.825, 0.90),)
FLAT = ((0.50, 0.70, 0.72, 0.73), (0.50, 0.71, 0.73, 0.74), (0.50, 0.74, 0.76, 0.77))
SCENARIOS = (
    Scenario("mixed", MIXED),
    Scenario("even (no difference)", EVEN),
    Scenario("plateau", FLAT),
    Scenario("mixed, phase transitions", MIXED, noise="phase"),
    Scenario("mixed, one shared test set", MIXED, shared_test=True, noise_sd=0.01, examples=400),
)


def simulate(scenario: Scenario, seeds: int, rng: np.random.Generator) -> CurveSet:
    """One study: answers of every strategy, paired by seed and test example."""
    truth = np.asarray(scenario.truth)  # [K, B]
    runs = (len(NAMES), seeds, BUDGETS.size)
    if scenario.noise == "phase":  # one run in five misses a skill: skewed, mean 0
        scatter = np.where(rng.random(runs) < 0.2, -2.0, 0.5) * scenario.noise_sd
    else:
        scatter = rng.standard_normal(runs) * scenario.noise_sd
    scatter += 0.01 * rng.standard_normal((1, seeds, 1))  # an easy or hard seed for everybody
    scatter[:, :, 0] = scatter[:1, :, 0]
    cut = ndtri(np.clip(truth[:, None] + scatter, 0.001, 0.999))
    drawn_sets = 1 if scenario.shared_test else seeds
    shape = (len(NAMES), seeds, BUDGETS.size, scenario.examples)
    own = rng.standard_normal(shape, dtype=np.float32)
    own[:, :, 0] = own[:1, :, 0]  # the very same model at the first budget
    hard = rng.standard_normal((1, drawn_sets, 1, scenario.examples), dtype=np.float32)
    correct = np.sqrt(0.6) * hard + np.sqrt(0.4) * own < cut[..., None]
    answers = dict(zip(NAMES, correct, strict=True))
    return CurveSet(BUDGETS, answers, shared_test=scenario.shared_test)


def counted(
    curves: CurveSet, resamples: int, rng: np.random.Generator, *, examples: bool
) -> dict[str, FloatArray]:
    """The textbook bootstrap: seeds with replacement, then (if asked) test examples."""
    stack = np.stack([curves.correct[name] for name in NAMES])  # [K, S, B, E]
    count, size = curves.seeds, stack.shape[-1]
    drawn = np.empty((resamples, len(NAMES), BUDGETS.size))
    flat = stack.transpose(1, 3, 0, 2).reshape(count, size, -1)  # [S, E, K*B]
    for i, chosen in enumerate(rng.integers(count, size=(resamples, count))):
        if examples:
            weight = [np.bincount(rng.integers(size, size=size), minlength=size) for _ in chosen]
            total = sum(w @ flat[s] for w, s in zip(weight, chosen, strict=True)) / size
        else:
            total = sum(flat[s].mean(axis=0) for s in chosen)
        drawn[i] = np.asarray(total).reshape(len(NAMES), -1) / count
    return {name: drawn[:, k] for k, name in enumerate(NAMES)}


def widened(drawn: dict[str, FloatArray], curves: CurveSet) -> dict[str, FloatArray]:
    """The usual repair: deviations stretched by sqrt(S / (S - 1))."""
    factor = np.sqrt(curves.seeds / (curves.seeds - 1))
    point = means(curves)
    return {name: point[name] + factor * (d - point[name]) for name, d in drawn.items()}


def quantities(curve: dict[str, FloatArray]) -> dict[str, FloatArray]:
    """What is reported, in the scale in which intervals are taken, for [..., B] curves."""
    random, premem, oracle = (curve[name] for name in NAMES)
    ceiling = mean_gain(BUDGETS, oracle, random)
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.where(ceiling > 0, mean_gain(BUDGETS, premem, random) / ceiling, np.nan)
    ratio = log_ratio(BUDGETS, premem, random)
    return {
        "ratio@300": ratio[..., 1],
        "ratio@600": ratio[..., 2],
        "overall": overall_log_ratio(BUDGETS, premem, random),
        "gain": mean_gain(BUDGETS, premem, random),
        "share": share,
    }


def covers(drawn: dict[str, FloatArray], truth: dict[str, FloatArray]) -> dict[str, float]:
    """1 or 0 per quantity; NaN where the interval is refused (a share of nothing)."""
    gain_of_oracle = mean_gain(BUDGETS, drawn["oracle"], drawn["random"])
    hit = {}
    for name, values in quantities(drawn).items():
        if name == "share":
            if interval(gain_of_oracle, 0.95)[0] <= 0:
                hit[name] = np.nan
                continue
            values = values[np.isfinite(values)]
        low, high = interval(values, 0.95)
        hit[name] = float(low <= truth[name] <= high)
    return hit


def coverage(
    scenario: Scenario, seeds: int, repeats: int, resamples: int, method: str
) -> dict[str, float]:
    """Share of simulated studies whose 95% interval holds the truth, per quantity."""
    rng = np.random.default_rng([seeds, repeats])
    truth = quantities({n: np.asarray(c) for n, c in zip(NAMES, scenario.truth, strict=True)})
    hits = []
    for _ in range(repeats):
        curves = simulate(scenario, seeds, rng)
        if method == "this package":
            drawn = resample(curves, resamples, rng)
        else:
            drawn = counted(curves, min(resamples, 500), rng, examples="examples" in method)
            drawn = widened(drawn, curves) if "widened" in method else drawn
        hits.append(covers(drawn, truth))
    return {name: float(np.nanmean([hit[name] for hit in hits])) for name in hits[0]}


def simultaneous_level(draws: list[np.ndarray], level: float) -> float:
    """The alternative to Bonferroni that was rejected: read off the resampled studies.

    Each resampled study is wrong about a comparison to the degree that its draw lies in the tail;
    the level is set by the worst comparison of each (Beran, JASA 83, 1988; the minP form of
    Westfall and Young, 1993).
    """
    tails = []
    for values in draws:
        up = rankdata(values, method="average") / (len(values) + 1)
        tails.append(2 * np.minimum(up, 1 - up))
    return 1 - float(np.quantile(np.min(tails, axis=0), 1 - level))


def joint_coverage(strategies: int, seeds: int, repeats: int, resamples: int) -> dict[str, float]:
    """Share of studies in which the intervals of *all* strategies hold their truths.

    Half of the strategies are as good as the baseline, half are better.
    """
    rng = np.random.default_rng([strategies, seeds, repeats])
    base, better = np.asarray(MIXED[0]), np.asarray(MIXED[1])
    truth = np.stack([base, *(better if k % 2 else base for k in range(strategies))])
    real = [float(overall_log_ratio(BUDGETS, curve, base)) for curve in truth[1:]]
    hits: dict[str, list[bool]] = {"each alone": [], "resampled": [], "Bonferroni": []}
    for _ in range(repeats):
        scatter = 0.02 * rng.standard_normal((len(truth), seeds, BUDGETS.size))
        scatter += 0.01 * rng.standard_normal((1, seeds, 1))
        scatter[:, :, 0] = scatter[:1, :, 0]
        chance = np.clip(truth[:, None] + scatter, 0, 1)
        answers = rng.random((*chance.shape, 200)) < chance[..., None]
        answers[:, :, 0] = answers[:1, :, 0]
        drawn = resample(CurveSet(BUDGETS, dict(enumerate(answers))), resamples, rng)
        draws = [overall_log_ratio(BUDGETS, drawn[k], drawn[0]) for k in range(1, len(truth))]
        levels = (0.95, simultaneous_level(draws, 0.95), 1 - 0.05 / strategies)
        for name, level in zip(hits, levels, strict=True):
            ends = [interval(values, level) for values in draws]
            inside = [low <= r <= high for (low, high), r in zip(ends, real, strict=True)]
            hits[name].append(all(inside))
    return {name: float(np.mean(values)) for name, values in hits.items()}


def axis_coverage(noise: float, seeds: int, repeats: int, resamples: int) -> dict[str, float]:
    """Coverage on an axis of cost: measuring doubles the price, and prices vary between runs."""
    rng = np.random.default_rng([int(100 * noise), seeds, repeats])
    price = {"random": BUDGETS, "premem": 2 * BUDGETS}
    curves = [np.asarray(curve) for curve in MIXED[:2]]
    args = (price["premem"], curves[1], curves[0], price["random"])
    truth = {
        "ratio@150": float(log_ratio(*args)[0]),
        "ratio@300": float(log_ratio(*args)[1]),
        "overall": float(overall_log_ratio(*args)),
        "gain": float(mean_gain(*args)),
    }
    hits: dict[str, list[bool]] = {name: [] for name in truth}
    for _ in range(repeats):
        study = simulate(SCENARIOS[0], seeds, rng)
        correct = {name: study.correct[name] for name in price}
        pace = np.exp(noise * rng.standard_normal((2, seeds, 1)))  # a run is slow as a whole
        pace = pace * np.exp(noise / 4 * rng.standard_normal((2, seeds, BUDGETS.size)))
        spent = {name: price[name] * pace[k] for k, name in enumerate(price)}
        drawn = draw_resamples(
            CurveSet(BUDGETS, correct, cost="seconds", spent=spent), resamples, rng
        )
        costs = drawn.spent or {}
        both = (costs["premem"], drawn.accuracy["premem"], drawn.accuracy["random"])
        ratios = log_ratio(*both, costs["random"])
        values = {
            "ratio@150": ratios[:, 0],
            "ratio@300": ratios[:, 1],
            "overall": overall_log_ratio(*both, costs["random"]),
            "gain": mean_gain(*both, costs["random"]),
        }
        for name, sample in values.items():
            low, high = interval(sample, 0.95)
            hits[name].append(bool(low <= truth[name] <= high))
    return {name: float(np.mean(values)) for name, values in hits.items()}


def print_joint(repeats: int, resamples: int) -> None:
    print("| strategies | seeds | each alone | resampled | Bonferroni |\n|---|---|---|---|---|")
    for strategies in (3, 8):
        for seeds in (3, 5, 8):
            row = joint_coverage(strategies, seeds, repeats, resamples)
            cells = " | ".join(f"{value:.1%}" for value in row.values())
            print(f"| {strategies} | {seeds} | {cells} |", flush=True)


def print_axes(repeats: int, resamples: int) -> None:
    print("| prices | seeds | ratio@150 | ratio@300 | overall | gain |\n|---|---|---|---|---|---|")
    for name, noise in (("tokens (vary by 2%)", 0.02), ("seconds (vary by 15%)", 0.15)):
        for seeds in (3, 5, 8):
            row = axis_coverage(noise, seeds, repeats, resamples)
            cells = " | ".join(f"{value:.1%}" for value in row.values())
            print(f"| {name} | {seeds} | {cells} |", flush=True)


def main() -> None:
    """Print the table of docs/research/coverage.md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=2000)
    parser.add_argument("--resamples", type=int, default=1000)
    parser.add_argument("--methods", action="store_true", help="the usual bootstraps too (slow)")
    parser.add_argument("--joint", action="store_true", help="intervals for all strategies")
    parser.add_argument("--axes", action="store_true", help="budgets counted in a noisy cost")
    options = parser.parse_args()
    if options.joint:
        print_joint(options.repeats, options.resamples)
        return
    if options.axes:
        print_axes(options.repeats, options.resamples)
        return
    print_single(options)


def print_single(options: argparse.Namespace) -> None:
    methods = ["this package"]
    if options.methods:
        methods += ["count seeds", "count seeds, examples", "count seeds, examples, widened"]
    print("| study | seeds | method | ratio@300 | ratio@600 | overall | gain | share |")
    print("|---|---|---|---|---|---|---|---|")
    for scenario in SCENARIOS[:1] if options.methods else SCENARIOS:
        for seeds in (3, 5, 8):
            for method in methods:
                slow = method != "this package" and "examples" in method
                repeats = max(options.repeats // 5, 1) if slow else options.repeats
                case = replace(scenario, examples=400) if options.methods else scenario
                row = coverage(case, seeds, repeats, options.resamples, method)
                cells = " | ".join(f"{value:.1%}" for value in row.values())
                print(f"| {scenario.name} | {seeds} | {method} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
