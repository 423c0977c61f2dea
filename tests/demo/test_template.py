"""The chat template: it round-trips, and transformers renders it alike."""

from __future__ import annotations

from typing import Any

import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from training.draw import Draw, Split
from training.encode import Encoder
from training.items import tool_call, tool_call_text, user
from training.tasks.registry import all_tasks
from training.template import CHECKPOINT, ChatTemplate

TASKS = all_tasks()


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    loaded: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(CHECKPOINT)
    return loaded


def rendered(tokenizer: PreTrainedTokenizerBase, messages: list[dict[str, Any]], **options: Any) -> str:
    text = tokenizer.apply_chat_template(messages, tokenize=False, **options)
    assert isinstance(text, str)
    return text


@pytest.mark.parametrize("thinking", [True, False])
@pytest.mark.parametrize("name", sorted(TASKS))
def test_transformers_renders_the_prompt_as_training_does(
    tokenizer: PreTrainedTokenizerBase, name: str, thinking: bool
) -> None:
    item = TASKS[name].make(Draw("template", Split.TRAIN))
    text = rendered(tokenizer, item.messages, tools=item.tools, add_generation_prompt=True, enable_thinking=thinking)
    assert text == ChatTemplate().prompt(item, thinking=thinking)


def test_an_answer_written_back_into_the_history_is_what_the_model_wrote(tokenizer: PreTrainedTokenizerBase) -> None:
    calls = [tool_call("get_time", {"city": "Oslo"}), tool_call("set_timer", {"minutes": 5})]
    question = [user("What time is it in Oslo? Also: Set a timer for 5 minutes.")]
    prompt = rendered(tokenizer, question, add_generation_prompt=True)
    answer = {"role": "assistant", "content": "", "reasoning_content": "I call both.", "tool_calls": calls}
    whole = rendered(tokenizer, [*question, answer])
    assert whole == f"{prompt}<think>\nI call both.\n</think>\n\n{tool_call_text(calls)}<|im_end|>\n"


def test_thinking_is_on_unless_it_is_turned_off(tokenizer: PreTrainedTokenizerBase) -> None:
    question = [user("Hello")]
    on = rendered(tokenizer, question, add_generation_prompt=True)
    off = rendered(tokenizer, question, add_generation_prompt=True, enable_thinking=False)
    assert on.endswith("<|im_start|>assistant\n")
    assert off == on + "<think>\n\n</think>\n\n"


def test_thoughts_of_earlier_turns_are_dropped(tokenizer: PreTrainedTokenizerBase) -> None:
    messages = [
        user("2 + 2"),
        {"role": "assistant", "content": "<think>\n2+2=4.\n</think>\n\n2 + 2 = 4."},
        user("Thanks"),
    ]
    text = rendered(tokenizer, messages, add_generation_prompt=True)
    assert "<think>" not in text
    assert "<|im_start|>assistant\n2 + 2 = 4.<|im_end|>" in text


def test_tool_results_in_a_row_share_one_turn(tokenizer: PreTrainedTokenizerBase) -> None:
    messages = [user("Go"), {"role": "assistant", "content": "", "tool_calls": [tool_call("a", {})]}]
    messages += [{"role": "tool", "content": "1"}, {"role": "tool", "content": "2"}]
    text = rendered(tokenizer, messages, add_generation_prompt=True)
    block = "<tool_response>\n1\n</tool_response>\n<tool_response>\n2\n</tool_response>"
    assert text.endswith(f"<|im_start|>user\n{block}<|im_end|>\n<|im_start|>assistant\n")


def test_media_parts_become_placeholders(tokenizer: PreTrainedTokenizerBase) -> None:
    parts = [{"type": "image_url", "image_url": {"url": "x"}}, {"type": "video"}, {"type": "text", "text": "Hm"}]
    text = rendered(tokenizer, [{"role": "user", "content": parts}])
    assert "<|vision_start|><|image_pad|><|vision_end|><|vision_start|><|video_pad|><|vision_end|>Hm" in text


def test_arguments_may_be_json_text(tokenizer: PreTrainedTokenizerBase) -> None:
    as_text = tool_call("f", {})
    as_text["function"]["arguments"] = '{"x": 1}'
    as_mapping = tool_call("f", {"x": 1})
    texts = [
        rendered(tokenizer, [user("Go"), {"role": "assistant", "content": None, "tool_calls": [call]}])
        for call in (as_text, as_mapping)
    ]
    assert texts[0] == texts[1]


def test_digits_stand_alone_and_special_tokens_are_single() -> None:
    encoder = Encoder()
    assert encoder.tokenizer.encode("1234").tokens == ["1", "2", "3", "4"]
    for token in ("<|im_end|>", "<think>", "</tool_call>", "<|image_pad|>"):
        assert encoder.tokenizer.encode(token).tokens == [token]


@pytest.mark.parametrize("text", ["Hello, world", "naïve café 日本 🙂", "  two  spaces\n\ttab", ""])
def test_any_text_survives_the_tokenizer(tokenizer: PreTrainedTokenizerBase, text: str) -> None:
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
