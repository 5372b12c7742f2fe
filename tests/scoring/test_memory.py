"""Where memory runs out, scoring goes on with halves and finds the same."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from activeselect.config import PromptConfig, ScoringConfig
from activeselect.data.answers import get_checker
from activeselect.data.pool import Pool
from activeselect.data.prompts import batches_by_tokens, encode
from activeselect.errors import ModelError
from activeselect.scoring.memory import _trim, give_back, is_out_of_memory, run_batches
from activeselect.scoring.scorer import LiveScorer

PROMPT = PromptConfig(prompt="{question} ", target="{trace}")


def narrow(lengths: list[int], memory: int, error: Callable[[], Exception]) -> Any:
    """A computation for which only ``memory`` padded tokens fit; it writes down what it did."""
    done: list[int] = []
    tried: list[int] = []

    def compute(rows: np.ndarray) -> None:
        size = len(rows) * max(lengths[i] for i in rows)
        tried.append(size)
        if size > memory:
            raise error()
        done.extend(rows.tolist())

    compute.done, compute.tried = done, tried  # type: ignore[attr-defined]
    return compute


@given(st.lists(st.integers(1, 20), max_size=40), st.integers(1, 400), st.integers(20, 400))
def test_every_row_is_computed_once_whatever_fits(
    lengths: list[int], batch_tokens: int, memory: int
) -> None:
    compute = narrow(lengths, memory, torch.OutOfMemoryError)
    batches = batches_by_tokens(lengths, batch_tokens)
    run_batches(batches, lengths, compute)
    assert sorted(compute.done) == list(range(len(lengths)))
    # an attempt fails at a size below all that failed before, so their number is a logarithm
    failed = [size for size in compute.tried if size > memory]
    assert all(later <= earlier / 2 for earlier, later in pairwise(failed))


def test_one_warning_says_what_to_set(caplog: pytest.LogCaptureFixture) -> None:
    compute = narrow([10] * 64, 40, MemoryError)
    with caplog.at_level(logging.WARNING):
        run_batches(batches_by_tokens([10] * 64, 320), [10] * 64, compute)
    assert len(caplog.messages) == 1
    assert "batch of 320 tokens" in caplog.messages[0]
    assert "scoring.batch_tokens" in caplog.messages[0]


def test_a_text_too_long_for_memory_is_an_error_that_says_what_to_do() -> None:
    with pytest.raises(ModelError, match=r"single text of 50 tokens; lower scoring.max_new_tokens"):
        run_batches([np.array([0, 1])], [50, 50], narrow([50, 50], 49, torch.OutOfMemoryError))


def test_other_errors_are_not_taken_for_a_lack_of_memory() -> None:
    with pytest.raises(RuntimeError, match="shapes differ"):
        run_batches(
            [np.arange(2)], [5, 5], narrow([5, 5], 1, lambda: RuntimeError("shapes differ"))
        )


def test_what_torch_says_without_memory_is_recognised() -> None:
    """The allocator's own error, in a process that may not have more memory."""
    code = (
        "import resource, torch\n"
        "from activeselect.scoring.memory import is_out_of_memory\n"
        "resource.setrlimit(resource.RLIMIT_AS, (2**33, 2**33))\n"
        "try:\n    torch.empty(2**34, dtype=torch.uint8)\n"
        "except RuntimeError as error:\n    assert is_out_of_memory(error), error\n"
        "else:\n    raise SystemExit('had the memory')\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
    assert is_out_of_memory(RuntimeError("MPS backend out of memory (MPS allocated: 1 GB)"))
    assert not is_out_of_memory(ValueError("out of memory"))


class Narrow(torch.nn.Module):
    """A model whose passes fail beyond some padded tokens, as on a small GPU."""

    def __init__(self, model: Any, memory: int) -> None:
        super().__init__()
        self.inner, self.memory, self.failed = model, memory, 0

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(self.inner, name)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        if kwargs.get("attention_mask", kwargs["input_ids"]).numel() > self.memory:
            self.failed += 1
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")
        return self.inner(*args, **kwargs)


def test_scores_are_the_same_with_less_memory(
    model: Any, tokenizer: Any, pool: Pool, tiny_model: Path
) -> None:
    """Completions to the token; likelihoods up to rounding, as another batch may round them."""
    items = encode(pool, np.arange(len(pool)), tokenizer, PROMPT)
    answers = [problem.answer for problem in pool]
    scorer = LiveScorer(
        tokenizer, get_checker(pool.checker), ScoringConfig(samples=3, max_new_tokens=12), seed=3
    )
    what = frozenset({"samples", "nll"})
    expected = scorer.score(model, items, answers, what=what, round=0)
    small = Narrow(model, 300)
    got = scorer.score(small, items, answers, what=what, round=0)
    assert small.failed >= 2
    np.testing.assert_array_equal(got.correct, expected.correct)
    assert got.completions == expected.completions
    np.testing.assert_allclose(got.nll_sum, expected.nll_sum, rtol=1e-5)
    np.testing.assert_array_equal(
        scorer.evaluate(small, items, answers).correct,
        scorer.evaluate(model, items, answers).correct,
    )


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads /proc")
def test_freed_memory_is_given_back() -> None:
    """Small arrays that stay between larger ones that go: the gaps are the system's again."""
    page = os.sysconf("SC_PAGE_SIZE")

    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * page

    if _trim() is None:
        pytest.skip("the C library has no malloc_trim")
    before = resident()
    held = [(b"x" * (100_000 + i), bytearray(100)) for i in range(2000)]
    kept = [small for _, small in held]
    assert resident() > before + 150_000_000
    del held
    give_back()
    assert resident() < before + 50_000_000
    assert len(kept) == 2000
