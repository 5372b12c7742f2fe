"""Scoring under mixed precision: a copy in 16 bits that is never stale and ranks alike."""

import lightning
import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from activeselect.config import LoraConfig, PromptConfig, RecipeConfig, ScoringConfig
from activeselect.data.answers import get_checker
from activeselect.data.prompts import collate, encode
from activeselect.data.skills import build_preset
from activeselect.errors import ModelError
from activeselect.scoring.forward import target_statistics
from activeselect.scoring.generate import generate
from activeselect.scoring.guards import sampling_quality
from activeselect.scoring.precision import in_training_precision, lay_out, short_copy, short_type
from activeselect.scoring.scorer import LiveScorer
from activeselect.training.adapt import adapt
from activeselect.training.callback import ActiveSelection
from activeselect.training.module import load_model


@pytest.fixture(scope="module")
def base():
    return load_model("skills-base", torch.float32)


@pytest.fixture(scope="module")
def pool():
    return build_preset("mixed", seed=1000, pool_size=120, test_size=8).pool


@pytest.mark.parametrize("precision", [None, "32-true", "64-true", "bf16-true"])
def test_without_mixed_precision_the_model_itself_is_read(base, precision):
    with in_training_precision(base[0], precision) as reading:
        assert reading is base[0]


@pytest.mark.parametrize(("bits", "precision"), [(torch.float32, None), (torch.bfloat16, None)])
def test_adapters_are_merged_into_a_copy_that_answers_alike(bits, precision):
    pytest.importorskip("peft")
    torch.manual_seed(0)
    recipe = RecipeConfig(lora=LoraConfig(rank=4))
    model = adapt(load_model("skills-base", bits)[0], recipe).eval()
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.02)
    before = {name: weight.clone() for name, weight in model.named_parameters()}
    ids = torch.randint(3, 200, (4, 20))
    with torch.no_grad(), in_training_precision(model, precision) as reading:
        assert not any("lora_" in name for name, _ in reading.named_parameters())
        merged, beside = (each(input_ids=ids).logits.float() for each in (reading, model))
        with model.disable_adapter():
            plain = model(input_ids=ids).logits.float()
    rounding = 1e-4 if bits == torch.float32 else 0.1
    assert (merged - beside).abs().mean() < rounding < (plain - beside).abs().mean()
    for name, weight in model.named_parameters():
        assert torch.equal(weight, before[name]), name


def test_a_model_whose_weights_are_mostly_short_is_read_as_it_is():
    frozen, adapter = torch.nn.Linear(8, 8, dtype=torch.bfloat16), torch.nn.Linear(8, 2)
    assert short_type(torch.nn.Sequential(frozen, adapter), "bf16-mixed") is None
    assert short_type(torch.nn.Sequential(adapter), "16-mixed") is torch.float16


def test_the_copy_is_like_a_model_loaded_in_16_bits(base):
    copied = short_copy(base[0], torch.bfloat16)
    loaded = load_model("skills-base", torch.bfloat16)[0]
    for (name, weight), (other, expected) in zip(
        copied.named_parameters(), loaded.named_parameters(), strict=True
    ):
        assert (name, weight.dtype) == (other, expected.dtype)
        assert torch.equal(weight, expected)
    for (name, buffer), (_, expected) in zip(
        copied.named_buffers(), loaded.named_buffers(), strict=True
    ):
        assert buffer.dtype == expected.dtype, name
        assert torch.equal(buffer, expected), name
    assert copied.lm_head.weight is copied.model.embed_tokens.weight, "tied weights came apart"
    assert all(weight.dtype == torch.float32 for weight in base[0].parameters())


def test_the_copy_has_the_weights_of_now_and_shares_no_storage(base):
    model = short_copy(base[0], torch.float32)
    with in_training_precision(model, "bf16-mixed") as before:
        pass
    with torch.no_grad():
        model.model.norm.weight.mul_(2)
    with in_training_precision(model, "bf16-mixed") as after:
        assert torch.equal(after.model.norm.weight, 2 * before.model.norm.weight)
        after.model.norm.weight.data.zero_()
    assert bool(model.model.norm.weight.any())


def test_a_copy_in_the_order_of_the_cpu_says_the_same(base, pool):
    model, tokenizer = base
    plain, ordered = (short_copy(model, torch.bfloat16) for _ in range(2))
    lay_out(ordered)
    items = encode(pool, np.arange(8), tokenizer, PromptConfig())
    for item in items:
        ids = torch.tensor(item.ids)[None]
        expected, found = (m(input_ids=ids).logits.float() for m in (plain, ordered))
        torch.testing.assert_close(found, expected, atol=0.05, rtol=0.02)
    assert ordered.model.embed_tokens.weight.shape == plain.model.embed_tokens.weight.shape
    want = frozenset({"nll", "grand", "entropy"})
    given = {"batch_tokens": 256, "pad_token": 0}
    found, expected = (target_statistics(m, items, want, **given) for m in (ordered, plain))
    for name in want:
        np.testing.assert_allclose(found[name], expected[name], rtol=0.02)


@pytest.mark.skipif(
    not torch.ops.mkldnn._is_mkldnn_bf16_supported(), reason="a CPU without products in bfloat16"
)
def test_the_order_of_the_cpu_takes_the_place_of_the_plain_weights(base):
    with in_training_precision(base[0], "bf16-mixed") as reading:
        layers = [part for part in reading.modules() if isinstance(part, torch.nn.Linear)]
    *inner, output = layers
    assert all(layer.weight.numel() == 0 for layer in inner)
    assert output.weight.numel() > 0, "the embedding needs its weights"
    assert all("forward" in vars(layer) for layer in layers)
    assert not any("forward" in vars(part) for part in base[0].modules())


def trained(model, items, epochs):
    """The model after some epochs of plain fine-tuning, once more after each half of them."""
    torch.manual_seed(0)
    model = short_copy(model, torch.float32).requires_grad_().train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for epoch in range(epochs):
        for rows in torch.randperm(len(items)).split(8):
            batch = collate([items[i] for i in rows], 0)
            given = {name: batch[name] for name in ("input_ids", "attention_mask", "labels")}
            model(**given).loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        if 2 * (epoch + 1) % epochs == 0:
            yield short_copy(model, torch.float32)


@pytest.mark.slow
def test_premem_ranks_as_with_32_bits(base, pool):
    """Two rounds of a fine-tuning, both read with the same random streams."""
    model, tokenizer = base
    scoring = ScoringConfig(samples=16, max_new_tokens=40, tau=0.15)
    selections = [
        ActiveSelection(pool, tokenizer, scoring=scoring, train=np.arange(64), precision=precision)
        for precision in (None, "bf16-mixed")
    ]
    items = selections[0].encoded.take(np.arange(64))
    for epoch, changed in enumerate(trained(model, items, epochs=6), start=1):
        for selection in selections:
            selection.end_epoch(changed, epoch)
    long, short = (s.history.matrix("premem")[-1][:64] for s in selections)
    assert long.std() > 0.2
    assert not np.array_equal(long, short), "nothing was rounded"
    assert spearmanr(long, short).statistic >= 0.98


def test_the_sampler_is_compared_with_the_weights_in_training(base, pool):
    model, tokenizer = base
    scorer = LiveScorer(
        tokenizer, get_checker(pool.checker), ScoringConfig(samples=2, max_new_tokens=48)
    )
    items = encode(pool, np.arange(4), tokenizer, PromptConfig())
    answers = [problem.answer for problem in pool.problems(np.arange(4))]
    ask = {"what": frozenset({"samples"}), "round": 0}
    short = short_copy(model, torch.bfloat16)
    scores = scorer.score(short, items, answers, trained=model, **ask)
    quality = sampling_quality(scores.correct, scores.truncated, scores.tally)
    assert 0 < quality["sampler_gap"] < 0.2
    stale = short_copy(model, torch.bfloat16)
    with torch.no_grad():
        stale.model.embed_tokens.weight.mul_(3)
    scores = scorer.score(stale, items, answers, trained=model, **ask)
    with pytest.raises(ModelError, match="stale"):
        sampling_quality(scores.correct, scores.truncated, scores.tally)


def test_an_engine_of_ones_own_is_held_to_its_log_probabilities(base, pool):
    model, tokenizer = base
    given: list[int] = []

    def silent(model, prompts, *, log_probs=None, **settings):
        given.append(len(prompts) * settings["samples"])
        return generate(model, prompts, **settings)

    def stale(model, prompts, *, log_probs=None, **settings):
        found = generate(model, prompts, log_probs=log_probs, **settings)
        log_probs[0][:] = [value - 1 for value in log_probs[0]]
        return found

    items = encode(pool, np.arange(4), tokenizer, PromptConfig())
    answers = [problem.answer for problem in pool.problems(np.arange(4))]
    config = ScoringConfig(samples=2, max_new_tokens=48)
    ask = {"what": frozenset({"samples"}), "round": 0}
    checker = get_checker(pool.checker)
    with pytest.raises(ModelError, match="reported 0 log-probabilities"):
        LiveScorer(tokenizer, checker, config, engine=silent).score(model, items, answers, **ask)
    assert given == [8]
    scores = LiveScorer(tokenizer, checker, config, engine=stale).score(
        model, items, answers, **ask
    )
    with pytest.raises(ModelError, match="disagree"):
        sampling_quality(scores.correct, scores.truncated, scores.tally)


def test_lightning_says_its_precision(base, pool):
    selection = ActiveSelection(pool, base[1])
    trainer = lightning.Trainer(
        precision="bf16-mixed", accelerator="cpu", logger=False, enable_checkpointing=False
    )
    selection.setup(trainer, None, "fit")
    assert selection.measurer.precision == "bf16-mixed"
    chosen = ActiveSelection(pool, base[1], precision="32-true")
    chosen.setup(trainer, None, "fit")
    assert chosen.measurer.precision == "32-true"
