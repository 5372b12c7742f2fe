"""Tokens of sampled completions per second, beside ``transformers.generate`` in the same run.

Both complete the same prompts with the same model, samples, temperature and nucleus, and hold at
most the same number of tokens in the key-value cache: what is allocated, rows x columns, is looked
at after every forward pass. ``transformers`` is told beforehand how long the texts become: its
prompts are sorted and packed into batches that just fit where its completions are as long as those
of trial runs (others may exceed the memory a little: see "held"); the faster of that size and its
half is taken. We are told the limit alone. Only tokens of completions count, with the end token.

- ``skills``: the built-in model and the problems of its benchmark.
- ``gsm8k``: a small Llama with random weights that writes texts as long as GSM8K's: whether a text
  ends is a function of its newest token and its length, made so that the model's lengths, prompt
  included, are distributed like GSM8K's. To both sides it is a model like any other.
- ``--model FOLDER --data FILE``: a pretrained model of yours, in 16 bits, and the questions of a
  JSON-lines file. A third side has the same weights in 32 bits, as scoring read them under mixed
  precision before it made a copy in 16.

"of floor" is the share of the time that no implementation can avoid on this machine: each pass
reads all weights once, at the bandwidth measured here, or multiplies all tokens with them, at the
rate of a large matrix product of the same type measured here, whatever takes longer.

Each line is the median over pairs, theirs and ours by turns; the time is the processor's on one
thread, the wall's beside it.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

from activeselect.config import PromptConfig
from activeselect.data.prompts import encode
from activeselect.data.skills import base_path, build_preset
from activeselect.scoring.generate import generate, stream_keys
from activeselect.scoring.precision import in_training_precision

#: Tokens (words, groups of up to three digits, marks) of GSM8K's train set at every 5th percent:
#: of the questions, and of questions and traces together.
QUESTION = (10, 27, 31, 34, 36, 38, 40, 42, 44, 46, 48, 51, 53, 56, 59, 62, 66, 72, 79, 90, 203)
WHOLE = (46, 75, 84, 91, 97, 104, 110, 115, 122, 128, 135, 141, 148, 157, 165, 175, 185, 199, 218)
WHOLE += (246, 424)
TEMPERATURE, TOP_P = 0.8, 0.95
END, PAD = 1, 0
ROW = "{:<8} {:<13} {:>6} {:>9} {:>9} {:>9} {:>8} {:>8} {:>9} {:>16}"
HEAD = ("case", "", "rows", "tokens/s", "(wall)", "length", "held", "seconds", "of floor")
HEAD += ("ratio (min-max)",)


@dataclass(frozen=True)
class Case:
    model: Any
    prompts: list[np.ndarray]
    end: int
    pad: int
    longest: int
    top_p: float = TOP_P
    long: Any = None  # the model in 32 bits, where that is a side of its own
    read: Any = None  # the model as our scoring reads it; None: the same


def skills(prompts: int) -> Case:
    tokenizer = AutoTokenizer.from_pretrained(base_path())
    model = LlamaForCausalLM.from_pretrained(base_path()).eval()
    pool = build_preset("mixed", seed=1000, pool_size=prompts, test_size=8).pool
    items = encode(pool, range(prompts), tokenizer, PromptConfig())
    end, pad = tokenizer.eos_token_id, tokenizer.pad_token_id
    return Case(model, [item.prompt for item in items], end, pad, 48)


def gsm8k(prompts: int) -> Case:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=8192,
        hidden_size=256,
        intermediate_size=688,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=1024,
        eos_token_id=END,
        pad_token_id=PAD,
        tie_word_embeddings=False,
    )
    model = LlamaForCausalLM(config).eval()
    model.lm_head.weight.data.mul_(16)  # as sure of its next token as a trained model
    model.register_forward_hook(partial(end_like, ending_chance(), END), with_kwargs=True)
    rng = np.random.default_rng(0)
    share = np.linspace(0, 1, len(QUESTION))
    lengths = np.interp(rng.random(prompts), share, QUESTION).astype(int)
    texts = [rng.integers(2, config.vocab_size, n).astype(np.int32) for n in lengths]
    return Case(model, texts, END, PAD, 400)


def pretrained(folder: Path, data: Path, prompts: int, longest: int, device: str) -> Case:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    short, long = (
        AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval().to(device)
        for dtype in (torch.bfloat16, torch.float32)
    )
    lines = data.read_text(encoding="utf-8").splitlines()[:prompts]
    questions = [f"Question: {json.loads(line)['question']}\nAnswer:" for line in lines]
    ids = [np.array(tokenizer(question).input_ids, np.int32) for question in questions]
    end = tokenizer.eos_token_id
    pad = end if tokenizer.pad_token_id is None else tokenizer.pad_token_id
    with in_training_precision(long, "bf16-mixed") as read:
        return Case(short, ids, end, pad, longest, long=long, read=read)


@dataclass(frozen=True)
class Floor:
    """Least seconds of a forward pass on one thread of this machine.

    Attributes:
        bandwidth: bytes per second that a matrix-vector product reads.
        rate: operations per second of a large matrix product, by type.
    """

    bandwidth: float
    rate: dict[torch.dtype, float]

    def seconds(self, model: Any, rows: int, columns: int) -> float:
        """Of a pass over ``rows`` texts of ``columns`` tokens that predicts each one's next."""
        dtype = next(model.parameters()).dtype
        output = model.get_output_embeddings().weight.numel()
        body = sum(w.numel() for name, w in model.named_parameters() if "embed" not in name)
        body -= 0 if model.config.tie_word_embeddings else output
        operations = 2 * rows * (columns * body + output)
        read = (body + output) * torch.empty(0, dtype=dtype).element_size()
        return max(read / self.bandwidth, operations / self.rate[dtype])


def measured_floor(device: str) -> Floor:
    """The best of five tries each."""

    def best(do: Callable[[], Any]) -> float:
        do()
        seconds = []
        for _ in range(5):
            started = now()
            do()
            seconds.append(now() - started)
        return min(seconds)

    matrix, vector = torch.randn(8192, 8192, device=device), torch.randn(8192, device=device)
    bandwidth = matrix.numel() * 4 / best(lambda: matrix @ vector)
    rate = {}
    for dtype in (torch.float32, torch.bfloat16):
        square = torch.randn(1024, 1024, device=device).to(dtype)
        rate[dtype] = 2 * 1024**3 / best(lambda square=square: square @ square)  # type: ignore[misc]
    return Floor(bandwidth, rate)


def ending_chance() -> torch.Tensor:
    """Chance that a text of so many tokens is whole, given that it is not shorter, ``[425]``."""
    reached = np.interp(np.arange(WHOLE[-1] + 2), WHOLE, np.linspace(0, 1, len(WHOLE)))
    return torch.from_numpy(np.diff(reached) / (1 - reached[:-1]).clip(1e-9)).clamp(max=1)


def end_like(
    chance: torch.Tensor, end: int, _: Any, args: Any, given: dict[str, Any], out: Any
) -> Any:
    """Let the model end its text now, or not: the same for the same token and length."""
    if "position_ids" not in given:  # somebody looks whether the model fills a cache
        return out
    length = given["position_ids"][:, -1].clamp(max=len(chance) - 1)
    token = given["input_ids"][:, -1]
    draw = ((token * 7919 + length * 104_729) % 65_537).double() / 65_537
    out.logits[:, -1, end] = torch.where(draw < chance[length], 1e4, -1e4)
    return out


def now() -> float:
    """Seconds of this process' processor time; of the wall clock where a GPU does the work."""
    if not torch.cuda.is_available():
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


@dataclass
class Run:
    """What one side did: processor and wall seconds, tokens, and the fullest cache in tokens."""

    processor: float = 0.0
    wall: float = 0.0
    tokens: int = 0
    completions: int = 0
    held: int = 0
    passes: list[tuple[int, int]] = field(default_factory=list)  # rows and columns of each


@contextmanager
def measured(case: Case) -> Iterator[Run]:
    run = Run()

    def look(_: Any, args: Any, given: dict[str, Any], out: Any) -> None:
        keys = given["past_key_values"].layers[0].keys
        one = keys.shape[1] * keys.shape[3] * keys.element_size()
        run.held = max(run.held, keys.untyped_storage().nbytes() // one)
        run.passes.append(tuple(given["input_ids"].shape))

    hook = case.model.register_forward_hook(look, with_kwargs=True)
    processor, wall = now(), time.perf_counter()
    try:
        yield run
    finally:
        run.processor, run.wall = now() - processor, time.perf_counter() - wall
        hook.remove()


def ours(case: Case, samples: int, memory: int, seed: int) -> tuple[Run, list[list[list[int]]]]:
    keys = stream_keys(np.arange(len(case.prompts)), samples, seed=seed, round=0)
    with measured(case) as run:
        rows = generate(
            case.model,
            case.prompts,
            samples=samples,
            temperature=TEMPERATURE,
            top_p=case.top_p,
            max_new_tokens=case.longest,
            keys=keys,
            end_tokens=[case.end],
            pad_token=case.pad,
            batch_tokens=memory,
        )
    lengths = [min(len(row) + 1, case.longest) for some in rows for row in some]
    run.tokens, run.completions = sum(lengths), len(lengths)
    return run, rows


def lengths_of(completions: torch.Tensor, end: int) -> list[int]:
    """Tokens up to the first end, which counts; what stands behind it may be the end token, too.

    Example:
        >>> lengths_of(torch.tensor([[5, 1, 1, 1], [5, 6, 7, 8]]), end=1)
        [2, 4]
    """
    ended = (completions == end).long()
    return (completions.shape[1] - (ended.cumsum(1) - ended).clamp(max=1).sum(1)).tolist()


def theirs(case: Case, samples: int, batches: list[list[np.ndarray]], seed: int) -> Run:
    torch.manual_seed(seed)
    lengths: list[int] = []
    with measured(case) as run:
        for prompts in batches:
            width = max(map(len, prompts))
            ids = torch.full((len(prompts), width), case.pad)
            mask = torch.zeros_like(ids)
            for row, prompt in enumerate(prompts):
                ids[row, width - len(prompt) :] = torch.from_numpy(prompt.astype(np.int64))
                mask[row, width - len(prompt) :] = 1
            out = case.model.generate(
                ids.to(case.model.device),
                attention_mask=mask.to(case.model.device),
                do_sample=True,
                num_return_sequences=samples,
                temperature=TEMPERATURE,
                top_p=case.top_p,
                top_k=0,
                max_new_tokens=case.longest,
                eos_token_id=case.end,
                pad_token_id=case.pad,
            )[:, width:]
            lengths += lengths_of(out, case.end)
    run.tokens, run.completions = sum(lengths), len(lengths)
    return run


def packed(
    case: Case, samples: int, memory: int, grown: NDArray[np.int64]
) -> list[list[np.ndarray]]:
    """Batches of prompts, the longest first, as large as texts of the lengths ``grown`` allow."""
    batches: list[list[np.ndarray]] = []
    widest = 0
    for i in np.lexsort((-grown, -np.array([len(prompt) for prompt in case.prompts]))):
        widest = max(widest, int(grown[i]))
        if not batches or (len(batches[-1]) + 1) * samples * widest > memory:
            batches.append([])
            widest = int(grown[i])
        batches[-1].append(case.prompts[i])
    return batches


def compare(name: str, case: Case, samples: int, memory: int, pairs: int, floor: Floor) -> None:
    mine = replace(case, model=case.read or case.model)
    _, found = ours(mine, samples, memory, seed=0)
    grown = np.array(
        [len(p) + max(map(len, some)) + 1 for p, some in zip(case.prompts, found, strict=True)]
    )
    held = theirs(case, samples, packed(case, samples, memory, grown)[::3], 0).held
    tried = {}
    for part in (1, 2):
        batches = packed(case, samples, int(memory * min(1, memory / held)) // part, grown)
        tried[part] = batches, theirs(case, samples, batches[::3], 0)
    batches, _ = max(tried.values(), key=lambda pair: pair[1].tokens / pair[1].processor)
    sides: dict[str, Callable[[int], Run]] = {
        "transformers": lambda seed: theirs(case, samples, batches, seed),
        "activeselect": lambda seed: ours(mine, samples, memory, seed)[0],
    }
    if case.long is not None:
        whole = replace(case, model=case.long)
        sides["in 32 bits"] = lambda seed: ours(whole, samples, memory, seed)[0]
    runs: dict[str, list[Run]] = {side: [] for side in sides}
    for seed in range(1, pairs + 1):
        for side, run in sides.items():
            runs[side].append(run(seed))
    speed = {side: [run.tokens / run.processor for run in some] for side, some in runs.items()}
    theirs_, ours_, *_ = speed.values()
    ratios = [b / a for a, b in zip(theirs_, ours_, strict=True)]
    spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})"
    if case.long is not None:
        gained = statistics.median(ours_) / statistics.median(speed["in 32 bits"])
        spread += f"; 16 bits {gained:.2f}x"
    rows = round(statistics.mean(map(len, batches)) * samples)
    for side, some in runs.items():
        model = case.long if side == "in 32 bits" else case.model
        least = [sum(floor.seconds(model, *shape) for shape in run.passes) for run in some]
        share = statistics.median(b / run.processor for b, run in zip(least, some, strict=True))
        print(
            ROW.format(
                name,
                side,
                rows if side == "transformers" else "",
                f"{statistics.median(speed[side]):,.0f}",
                f"{statistics.median(run.tokens / run.wall for run in some):,.0f}",
                f"{statistics.mean(run.tokens / run.completions for run in some):.1f}",
                f"{max(run.held for run in some):,}",
                f"{statistics.median(run.processor for run in some):.1f}",
                f"{share:.0%}",
                spread if side == "activeselect" else "",
            ),
            flush=True,
        )


CASES: dict[str, Callable[[int], Case]] = {"skills": skills, "gsm8k": gsm8k}
PROMPTS = {"skills": 400, "gsm8k": 32}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cases", nargs="+", default=[*CASES], choices=CASES)
    parser.add_argument("--prompts", type=int, help=f"problems; default: {PROMPTS}")
    parser.add_argument("--samples", type=int, default=5, help="completions of each")
    parser.add_argument("--memory", type=int, default=8192, help="tokens in the cache")
    parser.add_argument("--top-p", type=float, default=TOP_P, help="1: nobody has to sort")
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--model", type=Path, help="folder of a pretrained model, instead")
    parser.add_argument("--data", type=Path, help="its questions: JSON lines")
    parser.add_argument("--longest", type=int, default=64, help="tokens of its completions")
    parser.add_argument("--device", default="cpu", help="where the pretrained model runs")
    args = parser.parse_args()
    torch.set_num_threads(1)
    floor = measured_floor(args.device)
    print(ROW.format(*HEAD))
    if args.model is not None:
        case = pretrained(args.model, args.data, args.prompts or 32, args.longest, args.device)
        case = replace(case, top_p=args.top_p)
        compare("model", case, args.samples, args.memory, args.pairs, floor)
        return
    for name in args.cases:
        case = CASES[name](args.prompts or PROMPTS[name])
        case = replace(case, top_p=args.top_p)
        compare(name, case, args.samples, args.memory, args.pairs, floor)


if __name__ == "__main__":
    main()
