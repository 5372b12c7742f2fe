"""Templates: worked examples, chats, stop texts; and the tokens that a chat's target ends in."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from activeselect.config import PROMPTS, PromptConfig, RunConfig, Shot, from_plain, to_plain
from activeselect.data.pool import Pool, Problem
from activeselect.data.prompts import check_texts, encode, to_text, with_examples
from activeselect.errors import ConfigError, ModelError

POOL = Pool.from_problems(
    [Problem(i, f"What is {i} + 1 ?", f"One more is {i + 1}.", str(i + 1)) for i in range(9)],
    checker="number",
)
#: As ChatML (Qwen): a special token ends each message, then comes a line break.
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
#: As Gemma's: a begin token, roles of its own, trimmed messages, and no system.
TRIMMED = (
    "{{ bos_token }}{% for m in messages %}"
    "{% if m.role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "<|im_start|>{{ 'model' if m.role == 'assistant' else m.role }}\n"
    "{{ m.content | trim }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>model\n{% endif %}"
)
#: As Llama 2's: the tokenizer's own end token, no line break.
INST = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]"
    "{% elif m.role == 'assistant' %} {{ m.content }}</s>{% endif %}{% endfor %}"
)
#: As Qwen 3's without thinking: the empty thought is written before the answer only.
THINKING = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% if m.role == 'assistant' and loop.last %}<think>\n\n</think>\n\n{% endif %}"
    "{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
#: No special token anywhere.
WORDS = (
    "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)
#: Repeats the question, and nothing of the answer as it was.
SHOUTING = "{% for m in messages %}{{ m.content | upper }}{% endfor %}"
SPECIAL = ("<s>", "</s>", "<|im_start|>", "<|im_end|>")


def tokenizer_with(template: str | None, begin: bool = True) -> Any:
    """Byte-level; by itself it puts a begin token before every text."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    built = Tokenizer(models.BPE({word: i for i, word in enumerate(alphabet)}, []))
    built.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    built.decoder = decoders.ByteLevel()
    built.add_special_tokens(list(SPECIAL))
    if begin:
        built.post_processor = processors.TemplateProcessing(
            single="<s> $A", special_tokens=[("<s>", built.token_to_id("<s>"))]
        )
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=built, bos_token="<s>", eos_token="</s>")
    tokenizer.chat_template = template
    return tokenizer


def both(template: PromptConfig, tokenizer: Any, index: int = 2) -> tuple[str, str]:
    """What is read and what is learned, special tokens included."""
    (item,) = encode(POOL, [index], tokenizer, template)
    return tokenizer.decode(item.prompt), tokenizer.decode(item.ids[item.start :])


CHAT = PROMPTS["chat"]


@pytest.mark.parametrize(
    ("template", "read", "learned"),
    [
        (
            CHATML,
            "<|im_start|>user\nWhat is 2 + 1 ?<|im_end|>\n<|im_start|>assistant\n",
            "One more is 3.<|im_end|>",
        ),
        (
            TRIMMED,
            "<s><|im_start|>user\nWhat is 2 + 1 ?<|im_end|>\n<|im_start|>model\n",
            "One more is 3.<|im_end|>",
        ),
        (INST, "<s>[INST] What is 2 + 1 ? [/INST]", " One more is 3.</s>"),
        (
            THINKING,
            "<|im_start|>user\nWhat is 2 + 1 ?<|im_end|>\n<|im_start|>assistant\n",
            "<think>\n\n</think>\n\nOne more is 3.<|im_end|>",
        ),
        (WORDS, "user: What is 2 + 1 ?\nassistant: ", "One more is 3.</s>"),
    ],
    ids=["chatml", "trimmed", "inst", "thinking", "words"],
)
def test_a_chat_is_what_its_template_writes(template: str, read: str, learned: str) -> None:
    assert both(CHAT, tokenizer_with(template)) == (read, learned)


def test_a_chat_has_a_system_message_and_worked_examples() -> None:
    chat = replace(CHAT, system="Be brief.", examples=(Shot("A?", "B."),), shots=1)
    read, learned = both(chat, tokenizer_with(CHATML))
    assert read == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nA?<|im_end|>\n"
        "<|im_start|>assistant\nB.<|im_end|>\n<|im_start|>user\nWhat is 2 + 1 ?<|im_end|>\n"
        "<|im_start|>assistant\n"
    )
    assert learned == "One more is 3.<|im_end|>"


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from([CHATML, TRIMMED, INST, THINKING, WORDS]),
    st.text("ab .\n?é日", min_size=1, max_size=12).filter(str.strip),
    st.text("ab .\n?é日", min_size=1, max_size=12).filter(str.strip),
)
def test_any_chat_splits_at_the_answer(template: str, question: str, trace: str) -> None:
    pool = Pool.from_problems([Problem(0, question, trace, "1")], checker="number")
    tokenizer = tokenizer_with(template)
    (item,) = encode(pool, [0], tokenizer, CHAT)
    learned = tokenizer.decode(item.ids[item.start : -1])
    assert learned.strip().endswith(trace.strip())
    assert question.strip() in tokenizer.decode(item.prompt)
    whole = tokenizer.apply_chat_template(
        [{"role": "user", "content": question}], tokenize=False, add_generation_prompt=True
    )
    assert tokenizer.decode(item.prompt) == whole
    ends = {tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids("<|im_end|>")}
    assert int(item.ids[-1]) in ends
    assert not ends & set(item.ids[item.start : -1].tolist())


@pytest.mark.parametrize(
    ("template", "changes", "message"),
    [
        (None, {}, "The tokenizer has no chat template; use the tokenizer of an instruction-tuned"),
        (TRIMMED, {"system": "Be brief."}, r"refuses the messages \(System role not supported\)"),
        (SHOUTING, {}, "does not repeat the target as it stands"),
        ("{% nonsense %}", {}, "refuses the messages"),
    ],
)
def test_a_chat_that_cannot_be_is_an_error(
    template: str | None, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ModelError, match=message):
        both(replace(CHAT, **changes), tokenizer_with(template))


# --- plain prompts -------------------------------------------------------------------------------


def test_system_and_examples_stand_before_a_plain_prompt() -> None:
    template = PromptConfig(system="Solve.", examples=(Shot("A?", "B."), Shot("C?", "D.")))
    read, learned = both(template, tokenizer_with(None, begin=False))
    assert read == ("Solve.\n\nA?\nAnswer: B.\n\nC?\nAnswer: D.\n\nWhat is 2 + 1 ?\nAnswer:")
    assert learned == " One more is 3.</s>"
    one = replace(template, shots=1, separator="#")
    assert both(one, tokenizer_with(None, begin=False))[0] == (
        "Solve.#A?\nAnswer: B.#What is 2 + 1 ?\nAnswer:"
    )


@pytest.mark.parametrize("name", ["gsm8k", "math"])
def test_the_papers_format(name: str) -> None:
    """As ``SupervisedDataset`` in its released code, and the end token."""
    read, learned = both(PROMPTS[name], tokenizer_with(None, begin=False))
    assert read == "What is 2 + 1 ?\nAnswer:"
    assert learned == " One more is 3.\nDone.</s>"
    assert PROMPTS[name].stop == ("\nDone.",)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 8), st.integers(0, 50))
def test_drawn_examples_are_of_the_pool_and_never_the_problem_itself(shots: int, seed: int) -> None:
    template = with_examples(PromptConfig(shots=shots), POOL, seed=seed)
    assert template == with_examples(PromptConfig(shots=shots), POOL, seed=seed)
    questions = [problem.question for problem in POOL]
    for problem in POOL:
        text = to_text(problem, template)
        shown = text.prompt.split("\n\n")
        assert len(shown) == shots + 1
        assert shown[-1] == f"{problem.question}\nAnswer:"
        asked = [part.split("\nAnswer:")[0] for part in shown[:-1]]
        assert set(asked) <= set(questions) - {problem.question}
        assert len(set(asked)) == shots


def test_examples_that_are_given_are_kept() -> None:
    template = PromptConfig(examples=(Shot("A?", "B."),))
    assert with_examples(template, POOL, seed=0) is template
    assert template.shots == 1


def test_examples_must_be_drawn_before_text_is_made() -> None:
    with pytest.raises(ConfigError, match=r"not drawn yet; use .*with_examples"):
        to_text(POOL[0], PromptConfig(shots=2))
    with pytest.raises(
        ConfigError, match=r"less than the 9 labelled problems of the pool; received 9"
    ):
        with_examples(PromptConfig(shots=9), POOL, seed=0)


def test_a_stop_text_may_close_a_trace_but_not_cut_it() -> None:
    check_texts(POOL, PromptConfig(target=" {trace}\nDone.", stop=("\nDone.",)), None)
    check_texts(POOL, PromptConfig(stop=("\n\n", "Question:")), None)
    with pytest.raises(ConfigError, match=r"'is 7' occurs inside the trace of problem 6"):
        check_texts(POOL, PromptConfig(stop=("\n\n", "is 7")), None)
    with pytest.raises(ConfigError, match="occurs inside the trace of problem 0"):
        check_texts(POOL, PromptConfig(target="{trace}\nDone.", stop=(".",)), None)


# --- settings ------------------------------------------------------------------------------------


def test_a_prompt_may_be_given_by_name() -> None:
    config = RunConfig(prompt="chat")
    assert config.prompt == PromptConfig(chat=True)
    assert from_plain(RunConfig, to_plain(config)) == config
    shots = RunConfig(prompt=PromptConfig(examples=(Shot("A?", "B."),), stop=("x",)))
    assert from_plain(RunConfig, to_plain(shots)) == shots
    with pytest.raises(ConfigError, match=r"There is no prompt 'gsm'\. Did you mean 'gsm8k'"):
        RunConfig(prompt="gsm")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shots": -1}, r"prompt.shots: expected at least 0; received -1."),
        (
            {"shots": 2, "examples": (Shot("A?", "B."),)},
            "at most the number of prompt.examp",
        ),
        ({"stop": ("",)}, "prompt.stop: expected texts that are not empty"),
        ({"prompt": "Q"}, "a text with {question}"),
    ],
)
def test_impossible_prompts_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        PromptConfig(**changes)


def test_chats_ask_in_the_templates_words_by_default() -> None:
    assert (PromptConfig().prompt, PromptConfig().target) == ("{question}\nAnswer:", " {trace}")
    assert (CHAT.prompt, CHAT.target) == ("{question}", "{trace}")
    assert PromptConfig(prompt="Solve: {question}", chat=True).prompt == "Solve: {question}"


def test_ids_of_a_chat_are_those_of_the_tokenizers_own_call() -> None:
    tokenizer = tokenizer_with(TRIMMED)
    (item,) = encode(POOL, [4], tokenizer, CHAT)
    messages = [{"role": "user", "content": POOL[4].question}]
    read = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    np.testing.assert_array_equal(item.prompt, read)
