"""The reasoning formats that are not ``think``: what sets them apart, and the suite that plugin authors use."""

from __future__ import annotations

import pytest

from hookline.testkit.parser_answers import ReasoningCase
from hookline.testkit.parsers import ReasoningParserSuite

_PLAIN = "<|im_start|>assistant\n"
_SECTION = "<|tool_calls_section_begin|>"


class TestOpenThink(ReasoningParserSuite):
    name = "deepseek-r1"
    opens = "<think>"
    closes = "</think>"
    opened_tail = "<｜Assistant｜><think>\n"
    cases = (
        ReasoningCase(text="hm\n</think>\n\nanswer", reasoning="hm", content="answer"),
        ReasoningCase(text="<think>\nhm\n</think>\n\nanswer", reasoning="hm", content="answer"),
        ReasoningCase(text="only reasoning so far", reasoning="only reasoning so far"),
        ReasoningCase(prompt_tail=_PLAIN + "<think>\n\n</think>\n\n", text="answer", content="answer"),
        ReasoningCase(prompt_tail=_PLAIN + "</think>", text="answer <b>", content="answer <b>"),
        ReasoningCase(text="a</think>b<think>c</think>d", reasoning="a\nc", content="bd"),
        ReasoningCase(text="half </thi", reasoning="half </thi"),
    )


@pytest.mark.slow
class TestQwen3Thinking(TestOpenThink):
    name = "qwen3-thinking"


@pytest.mark.slow
class TestStep3(TestOpenThink):
    name = "step3"


@pytest.mark.slow
class TestMinimax(TestOpenThink):
    name = "minimax"


class TestKimi(ReasoningParserSuite):
    name = "kimi"
    opens = "◁think▷"
    closes = "◁/think▷"
    cases = (
        ReasoningCase(text="◁think▷hm◁/think▷answer", reasoning="hm", content="answer"),
        ReasoningCase(text="answer <think>", content="answer <think>"),
        ReasoningCase(text="◁thi", content="◁thi"),
    )


class TestKimiK2(ReasoningParserSuite):
    name = "kimi_k2"
    opens = "<think>"
    closes = "</think>"
    opened_tail = "<|im_assistant|>assistant<|im_middle|><think>"
    cases = (
        ReasoningCase(text="<think>hm</think>answer", reasoning="hm", content="answer"),
        ReasoningCase(text="answer", content="answer"),
        ReasoningCase(text=f"<think>hm\n{_SECTION}call", reasoning="hm", content=f"{_SECTION}call"),
        ReasoningCase(text=f"<think>hm</think>{_SECTION}call", reasoning="hm", content=f"{_SECTION}call"),
    )


class TestGptOss(ReasoningParserSuite):
    name = "gpt-oss"
    markers = (
        "<|channel|>analysis<|message|>",
        "<|channel|>final<|message|>",
        "<|channel|>commentary<|message|>",
        "<|channel|>final <|constrain|>json<|message|>",
        "<|start|>assistant",
        "<|end|>",
        "<|return|>",
    )
    plain_tail = "<|start|>assistant"
    cases = (
        ReasoningCase(
            text="<|channel|>analysis<|message|>hm\nso<|end|><|start|>assistant<|channel|>final<|message|>a  b",
            reasoning="hm\nso",
            content="a  b",
        ),
        ReasoningCase(text="<|channel|>final<|message|>answer<|return|>", content="answer"),
        ReasoningCase(text="<|channel|>final <|constrain|>json<|message|>{}<|return|>", content="{}"),
        ReasoningCase(text="<|channel|>analysis<|message|>cut off", reasoning="cut off"),
        ReasoningCase(text="<|channel|>analysis<|message|>", reasoning=""),
        ReasoningCase(
            text="<|channel|>analysis<|message|>a<|end|><|start|>assistant<|channel|>commentary<|message|>b<|end|>"
            "<|start|>assistant<|channel|>analysis<|message|>c<|end|><|start|>assistant<|channel|>final<|message|>d",
            reasoning="a\nc",
            content="b\nd",
        ),
        # Calls are for the parser of calls.
        ReasoningCase(
            text="<|channel|>analysis<|message|>a<|end|>"
            "<|start|>assistant<|channel|>commentary to=functions.f <|constrain|>json<|message|>{}<|call|>",
            reasoning="a",
            content="<|start|>assistant<|channel|>commentary to=functions.f <|constrain|>json<|message|>{}<|call|>",
        ),
        ReasoningCase(
            text="<|start|>assistant to=functions.f<|channel|>commentary json<|message|>{}<|call|>",
            content="<|start|>assistant to=functions.f<|channel|>commentary json<|message|>{}<|call|>",
        ),
        # What is no header is text.
        ReasoningCase(text="plain <|end|> text", content="plain <|end|> text"),
        ReasoningCase(text="<|channel|>other<|message|>text", content="<|channel|>other<|message|>text"),
        ReasoningCase(text="<|start|>user<|message|>text", content="<|start|>user<|message|>text"),
    )
