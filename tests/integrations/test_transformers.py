"""transformers' Trainer draws what the selection says, and resumes with it."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import DataCollatorForSeq2Seq, Trainer, TrainerCallback, TrainingArguments

from activeselect import ActiveSelection
from activeselect.config import PROMPTS, DataConfig, PromptConfig, ScoringConfig
from activeselect.data.load import load_data
from activeselect.data.pool import Pool
from activeselect.data.prompts import collate
from activeselect.errors import ConfigError, StoreError
from activeselect.integrations.transformers import STATE, SelectionCallback
from activeselect.selection.strategy import Selection, SelectionContext, Strategy
from activeselect.training.module import load_model

PROMPT = PromptConfig("{question} ", "{trace}")
SIZE = 24


class FirstHalf(Strategy):
    """After each round the first half alone, whatever was measured."""

    name = "first-half"
    requires: tuple[str, ...] = ("premem", "prequential")

    def select(self, context: SelectionContext, budget: int, rng: np.random.Generator) -> Selection:
        return Selection.of(context.candidates[: SIZE // 2])


class Seen(TrainerCallback):
    """Remembers the first tokens of every batch, to see what was trained on."""

    def __init__(self) -> None:
        self.batches: list[list[list[int]]] = []

    def watch(self, trainer: Any) -> None:
        step = trainer.training_step

        def note(model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
            self.batches.append(inputs["input_ids"].tolist())
            return step(model, inputs, *args, **kwargs)

        trainer.training_step = note


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="transformers|accelerate|torch")
        yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def pool() -> Pool:
    return load_data(DataConfig("skills:mixed", pool_size=SIZE, test_limit=4), seed=0).pool


def build(
    model: Path, pool: Pool, out: Path, epochs: int = 3, **arguments: Any
) -> tuple[Any, Any, Any]:
    loaded, tokenizer = load_model(str(model))
    selection = SelectionCallback(
        pool,
        tokenizer,
        strategy=FirstHalf(),
        scoring=ScoringConfig(samples=2, max_new_tokens=6),
        prompt=PROMPT,
    )
    trainer = Trainer(
        loaded,
        TrainingArguments(
            str(out),
            **{"num_train_epochs": epochs, "per_device_train_batch_size": 8} | arguments,
            learning_rate=1e-3,
            save_strategy="steps",
            save_steps=2,
            report_to="none",
            use_cpu=True,
            disable_tqdm=True,
            dataloader_pin_memory=False,
        ),
        train_dataset=selection.dataset(),
        data_collator=DataCollatorForSeq2Seq(tokenizer),
        callbacks=[selection],
    )
    selection.attach(trainer)
    return trainer, selection, loaded


def test_the_trainer_draws_what_the_strategy_chose(
    tiny_model: Path, pool: Pool, tmp_path: Path
) -> None:
    trainer, selection, _ = build(tiny_model, pool, tmp_path)
    seen = Seen()
    seen.watch(trainer)
    trainer.train()
    active = selection.selection
    texts = {tuple(row["input_ids"]): i for i, row in enumerate(trainer.train_dataset)}
    pad = active.tokenizer.pad_token_id
    order = [texts[tuple(t for t in row if t != pad)] for batch in seen.batches for row in batch]
    assert sorted(order[:SIZE]) == list(range(SIZE))
    assert set(order[SIZE:]) == set(range(SIZE // 2))
    assert active.times_seen.tolist() == np.bincount(order, minlength=SIZE).tolist()
    assert active.cost.samples_seen == 3 * SIZE
    assert np.isfinite(active.history.matrix("prequential")[0]).all()
    logged = [entry for entry in trainer.state.log_history if "score/premem" in entry]
    assert len(logged) == 3


@pytest.mark.parametrize("step", [2, 4, 6])
def test_a_resumed_trainer_goes_on_with_the_same_examples(
    tiny_model: Path, pool: Pool, tmp_path: Path, step: int
) -> None:
    """Checkpoints lie within epochs and between them; three batches make an epoch."""
    whole, selection, model = build(tiny_model, pool, tmp_path)
    first = Seen()
    first.watch(whole)
    whole.train()
    again, resumed, model_again = build(tiny_model, pool, tmp_path)
    rest = Seen()
    rest.watch(again)
    again.train(resume_from_checkpoint=str(tmp_path / f"checkpoint-{step}"))
    assert rest.batches == first.batches[step:]
    assert resumed.selection.history.matrix("premem").shape == (4, SIZE)
    np.testing.assert_array_equal(
        resumed.selection.history.matrix("premem"), selection.selection.history.matrix("premem")
    )
    for one, other in zip(model.parameters(), model_again.parameters(), strict=True):
        assert torch.equal(one, other)


def test_rows_are_what_our_own_collate_makes(tiny_model: Path, pool: Pool, tmp_path: Path) -> None:
    trainer, selection, _ = build(tiny_model, pool, tmp_path)
    active = selection.selection
    active.tokenizer.padding_side = "right"
    theirs = trainer.data_collator([trainer.train_dataset[i] for i in (3, 5)])
    ours = collate(active.encoded.take([3, 5]), active.tokenizer.pad_token_id)
    for name in ("input_ids", "attention_mask", "labels"):
        assert torch.equal(theirs[name], ours[name]), name


def test_a_train_set_of_other_rows_is_refused(tiny_model: Path, pool: Pool, tmp_path: Path) -> None:
    trainer, selection, _ = build(tiny_model, pool, tmp_path)
    trainer.train_dataset = trainer.train_dataset.select(range(5))
    with pytest.raises(ConfigError, match=r"expected the pool's 24 problems.*received 5 rows"):
        selection.attach(trainer)


def test_shuffled_rows_and_other_texts_are_refused(
    tiny_model: Path, pool: Pool, tmp_path: Path
) -> None:
    trainer, selection, _ = build(tiny_model, pool, tmp_path)
    rows = trainer.train_dataset
    trainer.train_dataset = rows.select([*range(1, SIZE), 0])
    with pytest.raises(ConfigError, match="in another order"):
        selection.attach(trainer)
    trainer.train_dataset = rows.map(lambda row: {"input_ids": [1, *row["input_ids"]]})
    with pytest.raises(ConfigError, match="formats its text in another way"):
        selection.attach(trainer)
    trainer.train_dataset = rows.to_iterable_dataset()
    with pytest.raises(ConfigError, match="a stream has no order"):
        selection.attach(trainer)
    trainer.train_dataset = rows
    selection.attach(trainer)


@pytest.mark.parametrize(
    ("arguments", "trained"),
    [
        ({"max_steps": 4}, 4 * 8),
        ({"num_train_epochs": 1.4}, 24 + 2 * 8),
        ({"per_device_train_batch_size": 10, "dataloader_drop_last": True}, 3 * 20),
        ({"per_device_train_batch_size": 4, "gradient_accumulation_steps": 4}, 3 * 24),
    ],
    ids=["max_steps", "fraction", "drop_last", "accumulation"],
)
def test_what_is_counted_is_what_was_trained(
    tiny_model: Path, pool: Pool, tmp_path: Path, arguments: dict[str, Any], trained: int
) -> None:
    trainer, selection, _ = build(tiny_model, pool, tmp_path, **arguments)
    seen = Seen()
    seen.watch(trainer)
    trainer.train()
    assert sum(map(len, seen.batches)) == trained
    active = selection.selection
    assert active.times_seen.sum() == active.cost.samples_seen == trained


def test_grouping_by_length_is_said_to_have_no_effect(
    tiny_model: Path, pool: Pool, tmp_path: Path
) -> None:
    with pytest.warns(UserWarning, match="group_by_length has no effect"):
        build(tiny_model, pool, tmp_path, train_sampling_strategy="group_by_length")


def test_training_before_attach_is_refused(tiny_model: Path, pool: Pool, tmp_path: Path) -> None:
    trainer, selection, _ = build(tiny_model, pool, tmp_path)
    selection._trainer = None
    with pytest.raises(ConfigError, match=r"selection\.attach"):
        trainer.train()


def test_a_checkpoint_without_the_selection_is_named(
    tiny_model: Path, pool: Pool, tmp_path: Path
) -> None:
    trainer, _, _ = build(tiny_model, pool, tmp_path, epochs=1)
    trainer.train()
    (tmp_path / "checkpoint-2" / STATE).unlink()
    again, _, _ = build(tiny_model, pool, tmp_path, epochs=1)
    with pytest.raises(StoreError, match="holds no state of the selection"):
        again.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))


@pytest.mark.parametrize("kind", [ActiveSelection, SelectionCallback])
def test_prompt_by_name_and_scoring_by_mapping(kind: Any, tiny_model: Path, pool: Pool) -> None:
    _, tokenizer = load_model(str(tiny_model))
    made = kind(pool, tokenizer, scoring={"samples": 2}, prompt="gsm8k")
    active = getattr(made, "selection", made)
    assert active.scoring == ScoringConfig(samples=2)
    assert active.prompt == PROMPTS["gsm8k"]
    made = kind(pool, tokenizer, prompt={"prompt": "{question} ", "target": "{trace}"})
    assert getattr(made, "selection", made).prompt == PROMPT
    with pytest.raises(ConfigError, match=r"scoring\.sample'\. Did you mean 'samples'"):
        kind(pool, tokenizer, scoring={"sample": 2})
    with pytest.raises(ConfigError, match="There is no prompt 'gsmk'"):
        kind(pool, tokenizer, prompt="gsmk")
    with pytest.raises(ConfigError, match="scoring: expected ScoringConfig or a mapping"):
        kind(pool, tokenizer, scoring=5)
