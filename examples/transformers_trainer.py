"""Active selection in a script that uses transformers' Trainer.

    python examples/transformers_trainer.py --out out

Trains the built-in base model on 200 problems of the benchmark; put your
model and your data into the two marked lines.
"""

import argparse

from transformers import DataCollatorForSeq2Seq, Trainer, TrainingArguments

from activeselect import DataConfig, ScoringConfig, load_data, load_model
from activeselect.integrations.transformers import SelectionCallback

parser = argparse.ArgumentParser()
parser.add_argument("--out", default="out")
parser.add_argument("--epochs", type=int, default=3)
parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint in --out")
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
trainer = Trainer(
    model,
    TrainingArguments(
        options.out,
        num_train_epochs=options.epochs,
        per_device_train_batch_size=16,
        learning_rate=1e-3,
        save_strategy="epoch",
        logging_steps=5,
        report_to="none",
        use_cpu=True,
    ),
    train_dataset=selection.dataset(),
    data_collator=DataCollatorForSeq2Seq(tokenizer),
    callbacks=[selection],
)
selection.attach(trainer)
trainer.train(resume_from_checkpoint=options.resume)

print(f"rounds scored: {selection.selection.round}")
print(f"examples in the last selection: {len(selection.selection.sampler.selection.index)} of 200")
