"""The table of what traces teach, from results whose differences are known."""

from __future__ import annotations

import math

import pytest

from research.traces import at_tokens, paired, table


def row(dataset: str, seed: int, budget: int, accuracy: float, tokens: int) -> dict[str, object]:
    return {
        "dataset": dataset,
        "seed": seed,
        "budget": budget,
        "test_accuracy": accuracy,
        "costs": {"tokens_trained": tokens},
        "audit": {"accuracy": accuracy, "filler": accuracy / 2, "irrelevant": None},
    }


def test_the_table_pairs_arms_by_seed_and_compares_them_at_equal_tokens() -> None:
    curves = [
        row(name, seed, budget, base + gain + 0.1 * seed, size)
        for name, gain, factor in (
            ("mixed", 0.0, 1),
            ("mixed-long", 0.05, 4),
            ("mixed-short", -0.1, 0.5),
        )
        for seed in (0, 1)
        for budget, base, size in ((100, 0.2, int(100 * factor)), (400, 0.4, int(400 * factor)))
    ]
    lines = table({"curves": curves})
    assert lines[0] == "| | mixed | long | short |"
    by_name = {line.split(" | ")[0].strip("| "): line for line in lines[2:]}
    assert "0.450 | 0.500: +0.050 (+0.050 to +0.050, 2 seeds)" in by_name["accuracy, 400"]
    # 400 tokens: the long arm's first size, and beyond what the short arm was trained on
    assert "0.300: -0.150" in by_name["accuracy, equal tokens"]
    assert "not reached" in by_name["accuracy, equal tokens"]
    assert "0.250: +0.025" in by_name["filler, 400"]
    assert not any(name.startswith("irrelevant") for name in by_name)


def test_a_difference_of_one_seed_has_no_interval() -> None:
    middle, low, high = paired({3: 0.5, 4: 0.1}, {3: 0.4})
    assert middle == pytest.approx(0.1)
    assert math.isnan(low)
    assert math.isnan(high)


def test_accuracy_beyond_the_tokens_that_were_trained_on_is_not_guessed() -> None:
    assert math.isnan(at_tokens([100, 400], [0.2, 0.6], 99))
    assert at_tokens([100, 400], [0.2, 0.6], 400) == 0.6
