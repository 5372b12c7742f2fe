"""Three choices of 16-bit arithmetic on a CPU, each beside the plain way in the same run.

- *output layer*: logits of the last position of each text, from a slice as transformers takes it,
  and from rows that lie together (``activeselect.scoring.families.reads_whole_rows``).
- *attention*: forward and backward of packed texts, in 16 bits and in 32
  (``activeselect.training.step``).
- *adapters*: a prompt and a step of sampling with low-rank adapters read beside the weights, and
  merged into a copy (``activeselect.scoring.precision``).

The model has random weights and the sizes of SmolLM2-135M, with a few of its layers. Processor time
of one thread; medians of pairs taken by turns::

    python benchmarks/sixteen_bits.py
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional
from transformers import DynamicCache, LlamaConfig, LlamaForCausalLM

from activeselect.config import LoraConfig, RecipeConfig
from activeselect.scoring.precision import in_training_precision
from activeselect.training.adapt import adapt

WORDS, WIDTH, HEADS = 49_152, 576, 9
ROW = "{:34s} {:>12} {:>12} {:>22}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--layers", type=int, default=4, help="of the model with adapters")
    parser.add_argument("--texts", type=int, default=16, help="prompts that are read at once")
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    print(ROW.format("what", "plain, ms", "ours, ms", "ratio (least-most)"))
    for dtype in (torch.bfloat16, torch.float32):
        name = f"output layer, {str(dtype).partition('.')[2]}"
        compare(name, *output_layer(args.texts, dtype), args.pairs)
    compare("attention, forward and backward", *attention(), args.pairs)
    for name, plain, ours in adapters(args.texts, args.layers):
        compare(name, plain, ours, args.pairs)


def compare(name: str, plain: Callable[[], object], ours: Callable[[], object], pairs: int) -> None:
    """Time two ways by turns and print a line."""
    for way in (plain, ours):
        way()
    times = [(seconds(plain), seconds(ours)) for _ in range(pairs)]
    ratios = [one / other for one, other in times]
    middle = [1000 * statistics.median(some) for some in zip(*times, strict=True)]
    spread = f"{statistics.median(ratios):.1f} ({min(ratios):.1f}-{max(ratios):.1f})"
    print(ROW.format(name, f"{middle[0]:.1f}", f"{middle[1]:.1f}", spread), flush=True)


def seconds(way: Callable[[], object]) -> float:
    start = time.process_time()
    way()
    return time.process_time() - start


def output_layer(texts: int, dtype: torch.dtype) -> tuple[Callable[[], Tensor], ...]:
    hidden = torch.randn(texts, 80, WIDTH, dtype=dtype)
    weight = torch.randn(WORDS, WIDTH, dtype=dtype)
    last = hidden[:, -1:]
    return (
        lambda: functional.linear(last, weight),
        lambda: functional.linear(last.contiguous(), weight),
    )


def attention() -> tuple[Callable[[], None], ...]:
    lengths = [80, 95, 130, 110, 70, 120, 100, 90]
    shape = (1, HEADS, sum(lengths), WIDTH // HEADS)
    packed = [torch.randn(shape, dtype=torch.bfloat16, requires_grad=True) for _ in range(3)]

    def read(parts: list[Tensor]) -> None:
        texts = zip(*(torch.split(part, lengths, dim=2) for part in parts), strict=True)
        found = [functional.scaled_dot_product_attention(*some, is_causal=True) for some in texts]
        torch.cat(found, dim=2).bfloat16().sum().backward()  # type: ignore[no-untyped-call]

    return lambda: read(packed), lambda: read([part.float() for part in packed])


def adapters(
    texts: int, layers: int
) -> list[tuple[str, Callable[[], object], Callable[[], object]]]:
    config = LlamaConfig(
        vocab_size=WORDS,
        hidden_size=WIDTH,
        intermediate_size=1536,
        num_hidden_layers=layers,
        num_attention_heads=HEADS,
        num_key_value_heads=3,
        tie_word_embeddings=True,
    )
    base = LlamaForCausalLM(config).to(torch.bfloat16).eval()
    model = adapt(base, RecipeConfig(precision="bf16-true", lora=LoraConfig(rank=16))).eval()
    with in_training_precision(model, "bf16-true") as merged:
        copy = merged
    prompt, token = torch.randint(WORDS, (texts, 80)), torch.randint(WORDS, (texts, 1))

    @torch.inference_mode()
    def read(reader: LlamaForCausalLM) -> DynamicCache:
        cache = DynamicCache(config=config)
        last = torch.tensor([prompt.shape[1] - 1])
        reader(input_ids=prompt, past_key_values=cache, use_cache=True, logits_to_keep=last)
        return cache

    @torch.inference_mode()
    def step(reader: LlamaForCausalLM, cache: DynamicCache) -> None:
        reader(input_ids=token, past_key_values=cache, use_cache=True)
        cache.crop(-1)

    of_plain, of_ours = read(model), read(copy)
    return [
        ("adapters, a prompt", lambda: read(model), lambda: read(copy)),
        ("adapters, a token", lambda: step(model, of_plain), lambda: step(copy, of_ours)),
    ]


if __name__ == "__main__":
    main()
