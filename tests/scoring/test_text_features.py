"""Features of texts: whatever the text is, columns that a line can be fitted on."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from activeselect.scoring.text_features import FEATURES, text_features

PAIRS = st.lists(st.tuples(st.text(), st.text()), max_size=8)


@given(PAIRS, st.randoms())
def test_any_text_gives_standardized_columns_in_any_order(pairs, random) -> None:
    features = text_features([q for q, _ in pairs], [t for _, t in pairs])
    assert features.shape == (len(pairs), len(FEATURES))
    for column in features.T:
        assert np.all(np.isfinite(column))
        if np.any(column != 0):
            assert column.mean() == pytest.approx(0, abs=1e-9)
            assert column.std() == pytest.approx(1)
    order = list(range(len(pairs)))
    random.shuffle(order)
    moved = text_features([pairs[i][0] for i in order], [pairs[i][1] for i in order])
    np.testing.assert_allclose(moved, features[order], atol=1e-9)


def test_each_column_counts_what_it_says() -> None:
    plain = ("Aa bb", "cc dd\n1")
    changed = {
        "question length": ("Aa bbb", "cc dd\n1"),
        "trace length": ("Aa bb", "cc ddd\n1"),
        "question numbers": ("Aa 1b", "cc dd\n1"),
        "trace numbers": ("Aa bb", "cc 1d\n1"),
        "trace lines": ("Aa bb", "cc\ndd\n1"),
    }
    for name, text in changed.items():
        features = text_features(*zip(plain, text, strict=True))
        assert np.flatnonzero(features[1]).tolist() == [FEATURES.index(name)], name
    one, other = ("3,000.50", "x" * 8), ("12345678", "x" * 8)  # one number each, however written
    assert not text_features(*zip(one, other, strict=True)).any()
