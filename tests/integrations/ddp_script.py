"""What `torchrun` starts for the tests: a Trainer with a selection, which tells what it did.

torchrun --nproc_per_node 2 ddp_script.py MODEL OUT SIZE BATCH EPOCHS
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import DataCollatorForSeq2Seq, Trainer, TrainingArguments

from activeselect import DataConfig, PromptConfig, load_data, load_model
from activeselect.errors import ActiveSelectError
from activeselect.integrations.transformers import SelectionCallback


def main() -> None:
    torch.set_num_threads(1)
    model_folder, out, size, batch, epochs, *rest = sys.argv[1:]
    other: dict[str, Any] = json.loads(rest[0]) if rest else {}
    model, tokenizer = load_model(model_folder)
    pool = load_data(DataConfig("skills:mixed", pool_size=int(size), test_limit=4), seed=0).pool
    selection = SelectionCallback(
        pool,
        tokenizer,
        strategy={"name": "loss"},
        scoring={"samples": 2, "max_new_tokens": 6, "batch_tokens": 200},
        prompt=PromptConfig("{question} ", "{trace}"),
        measure=("premem",),
    )
    trainer = Trainer(
        model,
        TrainingArguments(
            out,
            num_train_epochs=int(epochs),
            per_device_train_batch_size=int(batch),
            learning_rate=1e-3,
            lr_scheduler_type="constant",
            save_strategy="epoch",
            report_to="none",
            use_cpu=True,
            ddp_backend="gloo" if "--several" in rest else None,
            disable_tqdm=True,
            dataloader_pin_memory=False,
            **other,
        ),
        train_dataset=selection.dataset(),
        data_collator=DataCollatorForSeq2Seq(tokenizer),
        callbacks=[selection],
    )
    scored = 0
    trained: list[list[int]] = []
    score, step = selection.selection.measurer.scorer.score, trainer.training_step

    def count(model: Any, items: Any, *args: Any, **kwargs: Any) -> Any:
        nonlocal scored
        scored += len(items)
        return score(model, items, *args, **kwargs)

    def note(model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        for row in inputs["input_ids"].tolist():
            trained.append([token for token in row if token != tokenizer.pad_token_id])
        return step(model, inputs, *args, **kwargs)

    selection.selection.measurer.scorer.score = count  # type: ignore[method-assign]
    trainer.training_step = note
    try:
        selection.attach(trainer)
    except ActiveSelectError as error:
        print(f"refused: {error}")
        sys.exit(2)
    trainer.train(resume_from_checkpoint=any(Path(out).glob("checkpoint-*")))
    texts = [item.ids.tolist() for item in selection.selection.encoded.take(np.arange(len(pool)))]
    active = selection.selection
    weights = b"".join(weight.detach().numpy().tobytes() for weight in model.parameters())
    told = {
        "scored": scored,
        "trained": [texts.index(row) for row in trained],
        "times_seen": active.times_seen.tolist(),
        "index": active.sampler.selection.index.tolist(),
        "weight": active.sampler.selection.weight.tolist(),
        "loss": active.history.matrix("loss")[-1].tolist(),
        "model": hashlib.sha256(weights).hexdigest(),
        "rounds": active.round,
        "files": sorted(str(file.relative_to(out)) for file in Path(out).rglob("activeselect*")),
    }
    Path(out, f"told-{trainer.args.process_index}.json").write_text(json.dumps(told))


if __name__ == "__main__":
    main()
