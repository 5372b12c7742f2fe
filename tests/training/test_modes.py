"""Ways of fine-tuning: what is trained, that equal steps are equal, and that all of it resumes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from activeselect.config import (
    LoraConfig,
    RecipeConfig,
    RoundsConfig,
    RunConfig,
    TokensConfig,
)
from activeselect.data.prompts import Encoded, collate
from activeselect.errors import ActiveSelectError, ConfigError, ModelError
from activeselect.training.adapt import adapt, trainable, weight_type
from activeselect.training.module import ReasoningModule, load_model
from activeselect.training.run import ActiveRun
from tests.support import skills, small_run

RECIPE = RecipeConfig(learning_rate=1e-2, epochs=2, batch_size=8)
LORA = LoraConfig(rank=4, alpha=8)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def config(model: Path, **changes: Any) -> RunConfig:
    small = small_run(
        model,
        data=skills(60, 6),
        rounds=RoundsConfig(mode="reweight", budgets=(20,)),
        recipe=RECIPE,
        strategy="premem",
        save_model=True,
    )
    return replace(small, **changes)


def run(model: Path, out: Path, **recipe: Any) -> Path:
    ActiveRun(config(model, recipe=replace(RECIPE, **recipe))).run(out)
    return out / "model"


def stopped_and_resumed(model: Path, out: Path, **recipe: Any) -> Path:
    def stop(samples: int, total: int, what: str) -> None:
        if samples > 24:
            raise KeyboardInterrupt

    chosen = config(model, recipe=replace(RECIPE, **recipe))
    with pytest.raises(KeyboardInterrupt):
        ActiveRun(chosen).run(out, progress=stop)
    ActiveRun(chosen).run(out)
    return out / "model"


def weights(folder: Path) -> dict[str, torch.Tensor]:
    found = [load_file(file) for file in sorted(folder.glob("*.safetensors"))]
    return {name: tensor for part in found for name, tensor in part.items()}


def furthest(a: Path, b: Path) -> float:
    """Largest difference between two models' weights."""
    left, right = weights(a), weights(b)
    assert left.keys() == right.keys()
    return max(float((left[name] - right[name]).abs().max()) for name in left)


# --- one step, however it is computed ------------------------------------------------------------


@pytest.mark.parametrize("share", [1.0, 0.3])
def test_parts_of_a_batch_make_the_same_step(
    tiny_model: Path, tmp_path: Path, share: float
) -> None:
    """Also for the last batch of an epoch, which is shorter, and for a moving schedule."""
    tokens = TokensConfig(share)
    whole = run(tiny_model, tmp_path / "whole", tokens=tokens, warmup=0.2)
    parts = run(tiny_model, tmp_path / "parts", tokens=tokens, warmup=0.2, accumulate=4)
    assert furthest(whole, tiny_model) > 1e-3
    assert furthest(whole, parts) < 2e-5


def test_gradient_checkpointing_changes_no_weight(tiny_model: Path, tmp_path: Path) -> None:
    plain = run(tiny_model, tmp_path / "plain")
    again = run(tiny_model, tmp_path / "again", gradient_checkpointing=True)
    assert furthest(plain, again) == 0


def test_some_tokens_teach_something_else(tiny_model: Path, tmp_path: Path) -> None:
    every = run(tiny_model, tmp_path / "every")
    some = run(tiny_model, tmp_path / "some", tokens=TokensConfig(0.2))
    assert furthest(every, some) > 1e-3


def test_biases_and_norms_do_not_decay(tiny_model: Path) -> None:
    model, _ = load_model(str(tiny_model))
    recipe = replace(RECIPE, weight_decay=0.1)
    optimizer = ReasoningModule(model, recipe, total_steps=1).configure_optimizers()["optimizer"]
    decays = {
        id(weight): group["weight_decay"]
        for group in optimizer.param_groups
        for weight in group["params"]
    }
    for weight in model.parameters():
        assert decays[id(weight)] == (0.1 if weight.ndim >= 2 else 0)


# --- precision -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("precision", "lora", "expected"),
    [
        ("32-true", None, torch.float32),
        ("bf16-mixed", None, torch.float32),
        ("bf16-mixed", LORA, torch.bfloat16),
        ("bf16-true", None, torch.bfloat16),
        ("64-true", None, torch.float64),
    ],
)
def test_weights_are_as_precise_as_training_needs(
    precision: str, lora: LoraConfig | None, expected: torch.dtype
) -> None:
    assert weight_type(replace(RECIPE, precision=precision, lora=lora)) == expected


def test_a_checkpoint_in_16_bits_is_not_trained_in_16_bits(
    tiny_model: Path, tmp_path: Path
) -> None:
    model, tokenizer = load_model(str(tiny_model))
    model.to(torch.bfloat16).save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    trained = run(tmp_path / "base", tmp_path / "run", learning_rate=1e-7)
    assert {tensor.dtype for tensor in weights(trained).values()} == {torch.float32}
    assert furthest(trained, tmp_path / "base") > 0  # bfloat16 would round every step away


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_large_gradients_are_clipped(tiny_model: Path, tmp_path: Path, precision: str) -> None:
    """By Lightning, and by the module where Lightning would not; seen in Adam's first moment."""
    norms: dict[float, float] = {}

    class Look(lightning.Callback):
        def on_train_end(self, trainer: Any, pl_module: Any) -> None:
            state = trainer.optimizers[0].state.values()
            moments = torch.cat([values["exp_avg"].flatten() for values in state])
            norms[trainer.gradient_clip_val] = float(moments.norm()) * 10  # beta is 0.9

    recipe = replace(RECIPE, precision=precision, epochs=1, batch_size=8)
    batch = [Encoded(i, np.arange(3, 20 + i, dtype=np.int32), 4) for i in range(8)]
    for clip in (1e-3, 1e-2):
        trainer = lightning.Trainer(
            accelerator="cpu",
            precision=precision,  # type: ignore[arg-type]
            max_steps=1,
            gradient_clip_val=clip,
            callbacks=[Look()],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=tmp_path,
        )
        module = ReasoningModule(load_model(str(tiny_model))[0].train(), recipe, total_steps=1)
        trainer.fit(
            module, torch.utils.data.DataLoader([collate(batch, 0)], batch_size=None, num_workers=0)
        )
        assert trainer.optimizers[0].param_groups[0]["fused"]
    assert norms[1e-3] == pytest.approx(1e-3, rel=1e-2)
    assert norms[1e-2] == pytest.approx(1e-2, rel=1e-2)


@pytest.mark.parametrize("precision", ["bf16-mixed", "bf16-true"])
def test_16_bits_resume(tiny_model: Path, tmp_path: Path, precision: str) -> None:
    whole = run(tiny_model, tmp_path / "whole", precision=precision)
    parts = stopped_and_resumed(tiny_model, tmp_path / "parts", precision=precision)
    assert furthest(whole, parts) == 0


# --- adapters ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"dora": True},
        {"dropout": 0.5},
        {"targets": ("q_proj", "v_proj")},
    ],
    ids=["lora", "dora", "dropout", "targets"],
)
def test_adapters_resume_to_the_bit(
    tiny_model: Path, tmp_path: Path, changes: dict[str, Any]
) -> None:
    lora = replace(LORA, **changes)
    whole = run(tiny_model, tmp_path / "whole", lora=lora)
    parts = stopped_and_resumed(tiny_model, tmp_path / "parts", lora=lora)
    assert furthest(whole, parts) == 0
    assert not (whole / "model.safetensors").exists()
    assert all("lora_" in name for name in weights(whole))


def test_saved_adapters_and_the_merged_model_say_the_same(tiny_model: Path, tmp_path: Path) -> None:
    alone = run(tiny_model, tmp_path / "alone", lora=LORA)
    merged = run(tiny_model, tmp_path / "merged", lora=replace(LORA, save="merged"))
    assert not (merged / "adapter_config.json").exists()
    ids = torch.arange(3, 20)[None]
    with torch.no_grad():
        a, b, base = (
            load_model(str(folder))[0].eval()(ids).logits for folder in (alone, merged, tiny_model)
        )
    torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)
    assert float((a - base).abs().max()) > 1e-3


def test_only_adapters_are_in_the_checkpoint(tiny_model: Path) -> None:
    model = adapt(load_model(str(tiny_model))[0], replace(RECIPE, lora=LORA))
    module = ReasoningModule(model, RECIPE, total_steps=1)
    checkpoint = {"state_dict": module.state_dict()}
    module.on_save_checkpoint(checkpoint)
    assert checkpoint["state_dict"]
    assert all("lora_" in name for name in checkpoint["state_dict"])


def test_adapters_begin_the_same_for_the_same_seed(tiny_model: Path) -> None:
    def first(seed: int) -> torch.Tensor:
        torch.manual_seed(seed + 17)  # whatever the program drew before
        model = adapt(load_model(str(tiny_model))[0], replace(RECIPE, lora=LORA), seed=seed)
        name = next(name for name in sorted(trainable(model)) if "lora_A" in name)
        return dict(model.named_parameters())[name].detach()

    assert torch.equal(first(3), first(3))
    assert not torch.equal(first(3), first(4))


def test_a_run_continues_its_adapters(tiny_model: Path, tmp_path: Path) -> None:
    rounds = RoundsConfig(budgets=(12, 20), restart=False)
    recipe = replace(RECIPE, epochs=1, lora=LORA)
    result = ActiveRun(config(tiny_model, rounds=rounds, recipe=recipe)).run(tmp_path / "run")
    assert len(result.curve) == 2
    settings = json.loads((tmp_path / "run" / "model" / "adapter_config.json").read_text())
    assert settings["base_model_name_or_path"] == str(tiny_model.resolve())
    once = run(tiny_model, tmp_path / "once", epochs=1, lora=LORA)
    assert furthest(once, tmp_path / "run" / "model") > 1e-3


def test_trained_adapters_are_a_model_for_the_next_run(tiny_model: Path, tmp_path: Path) -> None:
    first = run(tiny_model, tmp_path / "first", lora=LORA)
    second = run(first, tmp_path / "second", lora=LORA)
    assert furthest(first, second) > 1e-3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"targets": "q_prj"}, "no module is called 'q_prj'. Did you mean 'q_proj'?"),
        ({"targets": ("v_proj", "up")}, "no module is called 'up'."),
    ],
)
def test_an_unknown_target_is_named(
    tiny_model: Path, changes: dict[str, Any], message: str
) -> None:
    recipe = replace(RECIPE, lora=replace(LORA, **changes))
    with pytest.raises(ConfigError) as caught:
        adapt(load_model(str(tiny_model))[0], recipe)
    assert message in str(caught.value)


def test_adapters_without_their_base_say_so(tiny_model: Path, tmp_path: Path) -> None:
    saved = run(tiny_model, tmp_path / "run", lora=LORA)
    file = saved / "adapter_config.json"
    settings = json.loads(file.read_text())
    file.write_text(json.dumps({**settings, "base_model_name_or_path": "/nowhere/base"}))
    with pytest.raises(ModelError, match="need their base model: There is no model folder"):
        load_model(str(saved))


def test_without_peft_the_extra_is_named(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "peft", None)
    with pytest.raises(ActiveSelectError, match=r'pip install "activeselect\[peft\]"'):
        adapt(load_model(str(tiny_model))[0], replace(RECIPE, lora=LORA))


# --- frozen layers -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("freeze", "frozen"),
    [
        (1, "model.layers.0."),
        ("model.embed_tokens", "model.embed_tokens."),
        (("*.mlp.*",), ".mlp."),
    ],
)
def test_frozen_weights_stay(tiny_model: Path, tmp_path: Path, freeze: Any, frozen: str) -> None:
    recipe = {"freeze": freeze}
    whole = run(tiny_model, tmp_path / "whole", **recipe)
    before, after = weights(tiny_model), weights(whole)
    assert any(frozen in name for name in after)
    for name, tensor in after.items():
        assert torch.equal(tensor, before[name]) == (frozen in name), name
    parts = stopped_and_resumed(tiny_model, tmp_path / "parts", **recipe)
    assert furthest(whole, parts) == 0


@pytest.mark.parametrize(
    ("freeze", "message"),
    [
        ("model.embed_token", "no parameter is called 'model.embed_token'. Did you mean 'model.e"),
        (3, "recipe.freeze: the model has 2 layers; received 3."),
        ("*", "leaves nothing to train"),
    ],
)
def test_freezing_what_is_not_there_is_an_error(
    tiny_model: Path, freeze: Any, message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        adapt(load_model(str(tiny_model))[0], replace(RECIPE, freeze=freeze))
    assert message in str(caught.value)


# --- settings ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"accumulate": 3}, "recipe.accumulate: expected a number that divides recipe.batch_size"),
        ({"precision": "bf17"}, "recipe.precision: expected one of ('32-true', "),
        ({"freeze": -1}, "recipe.freeze: expected at least 0 layers; received -1."),
        ({"freeze": 1, "lora": LORA}, "recipe.freeze: expected nothing together with recipe.lora"),
    ],
)
def test_impossible_recipes_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        replace(RECIPE, **changes)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "changes", "message"),
    [
        (LoraConfig, {"rank": 0}, "recipe.lora.rank: expected at least 1; received 0."),
        (LoraConfig, {"dropout": 1.0}, "recipe.lora.dropout: expected a share in [0, 1)"),
        (LoraConfig, {"save": "both"}, "recipe.lora.save: expected adapter or merged"),
        (LoraConfig, {"targets": ()}, "recipe.lora.targets: expected names of modules"),
        (TokensConfig, {"share": 0.0}, "recipe.tokens.share: expected a share in (0, 1]"),
    ],
)
def test_impossible_parts_of_recipes_are_refused(
    kind: Any, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        kind(**changes)
    assert message in str(caught.value)


def test_the_schedule_warms_up_and_decays() -> None:
    def rates(schedule: str) -> np.ndarray:
        recipe = replace(RECIPE, schedule=schedule, warmup=0.2)
        module = ReasoningModule(torch.nn.Linear(1, 1), recipe, total_steps=10)
        return np.array([module._rate(step) for step in range(11)])

    np.testing.assert_allclose(rates("constant"), [1 / 3, 2 / 3] + [1] * 9)
    np.testing.assert_allclose(rates("linear")[2:], np.linspace(1, 0, 9))
    np.testing.assert_allclose(
        rates("cosine")[2:], (1 + np.cos(np.linspace(0, np.pi, 9))) / 2, atol=1e-12
    )
