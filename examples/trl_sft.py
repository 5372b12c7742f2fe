"""Active selection in TRL's SFTTrainer (pip install 'activeselect[trl]').

python examples/trl_sft.py --out out
"""

import argparse

from trl import SFTConfig, SFTTrainer

from activeselect import DataConfig, ScoringConfig, load_data, load_model
from activeselect.integrations.transformers import SelectionCallback

parser = argparse.ArgumentParser()
parser.add_argument("--out", default="out")
parser.add_argument("--epochs", type=int, default=2)
options = parser.parse_args()

model, tokenizer = load_model("skills-base")  # <- your model
data = load_data(DataConfig("skills:mixed", pool_size=200), seed=0)  # <- your data

selection = SelectionCallback(
    data.pool,
    tokenizer,
    strategy="premem",
    scoring=ScoringConfig(samples=2, max_new_tokens=48),
    prompt=data.prompt,
)
trainer = SFTTrainer(
    model,
    SFTConfig(
        options.out,
        num_train_epochs=options.epochs,
        per_device_train_batch_size=16,
        learning_rate=1e-3,
        logging_steps=5,
        report_to="none",
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
    ),
    train_dataset=selection.dataset(),  # tokenized already: rows stay the pool's problems
    processing_class=tokenizer,
    callbacks=[selection],
)
selection.attach(trainer)
trainer.train()

print(f"rounds scored: {selection.selection.round}")
print(f"examples in the last selection: {len(selection.selection.sampler.selection.index)} of 200")
