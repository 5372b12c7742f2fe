"""The callback in a person's own Lightning script, and what a round does."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import lightning
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from activeselect import (
    ActiveSelection,
    DataConfig,
    Pool,
    PromptConfig,
    RoundsConfig,
    ScoringConfig,
    Selection,
    SelectionContext,
    Strategy,
    load_model,
)
from activeselect.data.load import load_data
from activeselect.errors import ConfigError, StrategyError

PROMPT = PromptConfig("{question} ", "{trace}")
SCORING = ScoringConfig(samples=2, max_new_tokens=8)


class MyModule(lightning.LightningModule):
    """What a user has already: a model and a loss, nothing of ours."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def training_step(self, batch: dict[str, torch.Tensor], batch_idx: int) -> torch.Tensor:
        batch = {name: value for name, value in batch.items() if name != "index"}
        loss: torch.Tensor = self.model(**batch).loss
        return loss

    def configure_optimizers(self) -> Any:
        return torch.optim.AdamW(self.parameters(), lr=1e-3)


class FirstHalf(Strategy):
    """Remembers what it was shown, and wants the first half only."""

    name: ClassVar[str] = "first-half"
    requires: tuple[str, ...] = ("premem",)

    def __init__(self) -> None:
        self.seen: list[SelectionContext] = []

    def select(self, context: SelectionContext, budget: int, rng: np.random.Generator) -> Selection:
        self.seen.append(context)
        return Selection.of(context.candidates[: len(context.candidates) // 2])


def trainer(folder: Path, epochs: int, callback: lightning.Callback) -> lightning.Trainer:
    return lightning.Trainer(
        max_epochs=epochs,
        callbacks=[callback],
        use_distributed_sampler=False,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
    )


@pytest.fixture
def pool() -> Pool:
    return load_data(DataConfig("skills:mixed", pool_size=24, test_limit=4), seed=0).pool


def fit(tiny_model: Path, pool: Pool, folder: Path, strategy: Any, **options: Any) -> Any:
    model, tokenizer = load_model(str(tiny_model))
    model.train()
    selection = ActiveSelection(
        pool, tokenizer, strategy=strategy, scoring=SCORING, prompt=PROMPT, **options
    )
    with quiet():
        trainer(folder, 3, selection).fit(MyModule(model), selection.dataloader(batch_size=8))
    return selection


@contextmanager
def quiet() -> Iterator[None]:
    """Lightning advises more workers; a test of 24 examples has none."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        yield


def test_three_lines_in_a_script(tiny_model: Path, pool: Pool, tmp_path: Path) -> None:
    strategy = FirstHalf()
    selection = fit(tiny_model, pool, tmp_path, strategy)
    # round 1 trains on everything, the later two on what the strategy chose, as many samples
    assert selection.cost.samples_seen == 3 * 24
    assert selection.times_seen[:12].tolist() == [1 + 2 + 2] * 12
    assert selection.times_seen[12:].tolist() == [1] * 12
    assert [context.round for context in strategy.seen] == [1, 2, 3]
    assert strategy.seen[-1].history("premem").shape == (3, 24)
    assert strategy.seen[-1].reweights


def test_only_what_is_required_is_measured(tiny_model: Path, pool: Pool, tmp_path: Path) -> None:
    selection = fit(tiny_model, pool, tmp_path, "random", measure=("mean_nll",))
    assert set(selection.history.signals) == {"mean_nll"}
    assert selection.cost.tokens_generated == 0


def test_nothing_is_scored_after_score_until(tiny_model: Path, pool: Pool, tmp_path: Path) -> None:
    selection = fit(
        tiny_model, pool, tmp_path, "premem", rounds=RoundsConfig(mode="reweight", score_until=2)
    )
    assert selection.round == 2


def test_a_limited_score_looks_at_the_same_examples_every_round(
    tiny_model: Path, pool: Pool, tmp_path: Path
) -> None:
    model, tokenizer = load_model(str(tiny_model))
    scoring = ScoringConfig(samples=1, max_new_tokens=4, limit=5, keep_completions=0)
    selection = ActiveSelection(pool, tokenizer, "premem", scoring=scoring, prompt=PROMPT)
    with quiet():
        trainer(tmp_path, 3, selection).fit(MyModule(model.train()), selection.dataloader(8))
    scored = ~np.isnan(selection.history.matrix("accuracy"))
    assert scored.sum(axis=1).tolist() == [5, 5, 5]
    assert (scored == scored[0]).all()


def test_a_strategy_that_breaks_a_promise_is_named(
    tiny_model: Path, pool: Pool, tmp_path: Path
) -> None:
    class Greedy(FirstHalf):
        name: ClassVar[str] = "greedy"

        def select(
            self, context: SelectionContext, budget: int, rng: np.random.Generator
        ) -> Selection:
            return Selection.of(np.arange(1000))

    with pytest.raises(StrategyError, match="'greedy' selected 1000 examples; the budget is 24"):
        fit(tiny_model, pool, tmp_path, Greedy())


def test_a_loader_of_ones_own_is_refused(tiny_model: Path, pool: Pool, tmp_path: Path) -> None:
    model, tokenizer = load_model(str(tiny_model))
    selection = ActiveSelection(pool, tokenizer, scoring=SCORING, prompt=PROMPT)
    ours = selection.dataloader(8)
    own = DataLoader(selection.encoded, batch_size=8, shuffle=True, collate_fn=ours.collate_fn)
    with quiet(), pytest.raises(ConfigError, match=r"draws from RandomSampler.*selection\.dataloa"):
        trainer(tmp_path, 1, selection).fit(MyModule(model.train()), own)
    with quiet(), pytest.raises(ConfigError, match="expected one loader"):
        trainer(tmp_path, 1, selection).fit(MyModule(model.train()), [ours])


def test_a_batch_without_index_and_a_hidden_model_are_named(
    tiny_model: Path, pool: Pool, tmp_path: Path
) -> None:
    model, tokenizer = load_model(str(tiny_model))
    selection = ActiveSelection(pool, tokenizer, scoring=SCORING, prompt=PROMPT)
    with pytest.raises(ConfigError, match="expected a mapping with 'index'"):
        selection.on_train_batch_end(None, None, None, {"input_ids": torch.ones(1)}, 0)
    module = MyModule(model.train())
    module.inner, module.model = module.model, torch.nn.Linear(1, 1)
    with quiet(), pytest.raises(ConfigError, match="Pass model_of="):
        trainer(tmp_path, 1, selection).fit(module, selection.dataloader(8))


def test_an_argument_that_moved_is_answered_with_its_place(pool: Pool, tiny_model: Path) -> None:
    _, tokenizer = load_model(str(tiny_model))
    with pytest.raises(ConfigError, match=r"RoundsConfig.*score_every"):
        ActiveSelection(pool, tokenizer, score_every=2)
    with pytest.raises(TypeError, match="no argument 'stragety'"):
        ActiveSelection(pool, tokenizer, stragety="random")


@pytest.mark.parametrize(
    ("rounds", "message"),
    [
        (RoundsConfig(mode="reweight", evaluate_every=0.5), "Test the model in a callback"),
        (RoundsConfig(budgets=(8, 16), short_stages=True), "Set max_epochs"),
        (RoundsConfig(mode="reweight", score_last=False), "score_until to max_epochs - 1"),
    ],
)
def test_settings_that_only_a_run_can_follow_are_refused(
    tiny_model: Path, pool: Pool, rounds: RoundsConfig, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        ActiveSelection(pool, load_model(str(tiny_model))[1], rounds=rounds)
