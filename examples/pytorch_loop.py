"""Active selection in a plain PyTorch loop, with nothing but the sampler and the scorer.

    python examples/pytorch_loop.py

The strategy here is a line of numpy: examples that are answered right no more often than half the
time are drawn four times as often.
"""

import argparse

import numpy as np
import torch
from torch.utils.data import DataLoader

from activeselect import (
    ActiveSampler,
    DataConfig,
    LiveScorer,
    ScoringConfig,
    Selection,
    load_data,
    load_model,
)
from activeselect.data.answers import get_checker
from activeselect.data.prompts import EncodedSet, collate, encode
from activeselect.scoring.signals import measurements

parser = argparse.ArgumentParser()
parser.add_argument("--epochs", type=int, default=3)
options = parser.parse_args()

model, tokenizer = load_model("skills-base")  # <- your model
data = load_data(DataConfig("skills:mixed", pool_size=200), seed=0)  # <- your data
pool, everything = data.pool, np.arange(len(data.pool))

encoded = EncodedSet(encode(pool, everything, tokenizer, data.prompt))
answers = [problem.answer for problem in pool]
scorer = LiveScorer(
    tokenizer, get_checker(pool.checker), ScoringConfig(samples=2, max_new_tokens=48)
)

sampler = ActiveSampler(Selection.of(everything), seed=0)
loader = DataLoader(
    encoded,
    batch_size=16,
    sampler=sampler,
    collate_fn=lambda batch: collate(batch, tokenizer.pad_token_id),
)
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)

for epoch in range(options.epochs):
    sampler.set_epoch(epoch)
    model.train()
    for batch in loader:
        batch.pop("index")  # positions in the pool, for whoever wants them
        loss = model(**batch).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    scores = scorer.score(
        model, encoded.take(everything), answers, what=measurements(["accuracy"]), round=epoch
    )
    accuracy = scores.correct.mean(axis=1)
    sampler.selection = Selection.of(everything, np.where(accuracy > 0.5, 1.0, 4.0))
    print(f"epoch {epoch + 1}: loss {loss.item():.3f}, sampled accuracy {accuracy.mean():.3f}")
