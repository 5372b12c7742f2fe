"""Weights over a train set that grows: what is left out is not trained on, and runs resume."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from activeselect.config import RecipeConfig, RoundsConfig, RunConfig, ScoringConfig
from activeselect.selection.strategy import Selection, SelectionContext, Strategy
from activeselect.training.callback import ActiveSelection
from activeselect.training.run import ActiveRun
from activeselect.training.selections import export
from tests.support import skills, small_run


class Odd(Strategy):
    """Leaves out the even positions once anything was measured; only these are then trained on."""

    name = "odd"
    requires = ("loss",)

    def select(self, context: SelectionContext, budget: int, rng: np.random.Generator) -> Selection:
        return Selection.of(context.candidates[:budget])

    def weigh(self, context: SelectionContext, rng: np.random.Generator) -> Selection:
        known = ~np.isnan(context.latest("loss")[context.train])
        return Selection.of(context.train[~known | (context.train % 2 == 1)])


def config(model: Path, **changes: Any) -> RunConfig:
    small = small_run(
        model,
        data=skills(60, 6),
        rounds=RoundsConfig(budgets=(16, 32)),
        recipe=RecipeConfig(learning_rate=1e-2, epochs=3, batch_size=8),
        scoring=ScoringConfig(samples=2, max_new_tokens=8),
        strategy={"class_path": f"{__file__}:Odd"},
        save_model=True,
    )
    return replace(small, **changes)


@pytest.fixture(scope="module")
def whole(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("weigh") / "run"
    ActiveRun(config(tiny_model)).run(out)
    return out


def test_what_is_left_out_is_bought_and_not_trained_on(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[tuple[int, int, np.ndarray]] = []
    trained = ActiveSelection.trained

    def spy(self: ActiveSelection, index: np.ndarray, tokens: int) -> None:
        read.append((self.measurer.stage, self.epoch, index.copy()))
        trained(self, index, tokens)

    monkeypatch.setattr(ActiveSelection, "trained", spy)
    state = ActiveRun(config(tiny_model)).run(tmp_path / "run")
    assert state is not None

    def of(stage: int, epoch: int) -> np.ndarray:
        return np.concatenate([index for s, e, index in read if (s, e) == (stage, epoch)])

    first = set(of(0, 0).tolist())
    assert len(first) == len(of(0, 0)) == 16  # nothing was measured yet
    odd = {i for i in first if i % 2}
    assert 0 < len(odd) < 16
    for epoch in (1, 2):
        assert len(of(0, epoch)) == 16  # the same number of steps
        assert set(of(0, epoch).tolist()) == odd
    # what the first stage has measured counts from the first epoch of the second
    known, new = first, set(of(1, 0).tolist()) - first
    assert new
    assert set(of(1, 0).tolist()) <= odd | new
    assert len(new) == 16
    for epoch in (1, 2):
        assert set(of(1, epoch).tolist()) == {i for i in known | new if i % 2}


def test_weights_are_on_record_and_exported(whole: Path, tmp_path: Path) -> None:
    names = {file.name for file in (whole / "selections").glob("weights-*")}
    wanted = {f"weights-{stage}-{epoch}.parquet" for stage in (0, 1) for epoch in (1, 2, 3)}
    assert names == wanted | {"weights-1-0.parquet"}
    last = pq.read_table(whole / "selections" / "weights-1-3.parquet")
    assert set(np.unique(last["index"].to_numpy() % 2)) == {1}
    export(whole, what="train", format="parquet", out=tmp_path / "train.parquet")
    rows = pq.read_table(tmp_path / "train.parquet").to_pydict()
    assert len(rows["index"]) == 32
    assert all(
        (weight > 0) == (i % 2 == 1)
        for i, weight in zip(rows["index"], rows["weight"], strict=True)
    )


def test_a_stopped_run_goes_on_with_the_same_weights(
    tiny_model: Path, whole: Path, tmp_path: Path
) -> None:
    def stop(samples: int, total: int, what: str) -> None:
        if samples > 70:
            raise KeyboardInterrupt

    out = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        ActiveRun(config(tiny_model)).run(out, progress=stop)
    ActiveRun(config(tiny_model)).run(out)
    one, other = (folder / "model" / "model.safetensors" for folder in (whole, out))
    assert one.read_bytes() == other.read_bytes()
