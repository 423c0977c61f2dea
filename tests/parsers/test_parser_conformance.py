"""The shipped parsers pass the suites that plugin authors use."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from hookline.testkit.parser_answers import CallCase, ReasoningCase
from hookline.testkit.parsers import FunctionCallParserSuite, ReasoningParserSuite

_OPENED = "<|im_start|>assistant\n<think>\n"
_PLAIN = "<|im_start|>assistant\n"
_NOW = '<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>'
_PARIS = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Paris"}}\n</tool_call>'
_IN_PARIS = ("get_weather", {"city": "Paris"})
#: What is no call is content, word for word.
_NO_CALLS = (
    '<tool_call>\n{"name": "f", "arguments": [1]}\n</tool_call>',
    '<tool_call>\n{"name": "f", "arguments": 5}\n</tool_call>',
    '<tool_call>\n{"name": "f", "arguments": "not an object"}\n</tool_call>',
    '<tool_call>\n{"name": "f", "arguments": "{\\"a\\": 1}, {}"}\n</tool_call>',
    '<tool_call>\n{"name": "", "arguments": {}}\n</tool_call>',
    '<tool_call>\n{"name": 3, "arguments": {}}\n</tool_call>',
    '<tool_call>\n{"arguments": {}}\n</tool_call>',
    "<tool_call>\nnow()\n</tool_call>",
    "Write <tool_call> to call a tool, </tool_call> to end it.",
    # Half of a surrogate pair, in a string of which the text counts.
    '<tool_call>\n{"name": "f\\ud800", "arguments": {}}\n</tool_call>',
    '<tool_call>\n{"name": "f", "arguments": "{\\"a\\": \\"\\ud800\\"}"}\n</tool_call>',
    # Cut off by the end of the output.
    "text <tool",
    '<tool_call>\n{"name": "f", "arguments": ',
    '<tool_call><tool_call>{"name"',
)


class TestThink(ReasoningParserSuite):
    name = "think"
    opens = "<think>"
    closes = "</think>"
    opened_tail = _OPENED
    cases = (
        ReasoningCase(text="plain answer", content="plain answer"),
        ReasoningCase(text="<think>\nhm\n</think>\n\nanswer", reasoning="hm", content="answer"),
        ReasoningCase(text="\n<think>hm</think>answer\n", reasoning="hm", content="answer\n"),
        ReasoningCase(prompt_tail=_OPENED, text="hm\n</think>\n\nanswer", reasoning="hm", content="answer"),
        # The model repeats the tag that the template wrote.
        ReasoningCase(prompt_tail=_OPENED, text="<think>\nhm\n</think>\n\nanswer", reasoning="hm", content="answer"),
        # Switched off by the template: the block is closed in the prompt.
        ReasoningCase(prompt_tail=_PLAIN + "<think>\n\n</think>\n\n", text="answer", content="answer"),
        # Cut off inside the block.
        ReasoningCase(prompt_tail=_OPENED, text="still thinking", reasoning="still thinking"),
        ReasoningCase(prompt_tail=_OPENED, text="still thinking </thi", reasoning="still thinking </thi"),
        ReasoningCase(text="<think>a \n", reasoning="a"),
        ReasoningCase(prompt_tail=_OPENED, text=""),
        # A second block, and an empty one.
        ReasoningCase(text="<think>a</think>b\n<think>c</think>\nd", reasoning="a\nc", content="b\nd"),
        ReasoningCase(text="<think> \n</think>answer", content="answer"),
        # Text that only looks like a tag.
        ReasoningCase(text="abc</th", content="abc</th"),
        ReasoningCase(text="1 < 2 and <b>", content="1 < 2 and <b>"),
        ReasoningCase(text="a trailing <", content="a trailing <"),
        ReasoningCase(text="stray </think> tag", content="stray </think> tag"),
        ReasoningCase(text="  indented\n  code  ", content="  indented\n  code  "),
        ReasoningCase(text=" \n ", content=" \n "),
    )


class TestQwen25(FunctionCallParserSuite):
    name = "qwen25"
    markers = ("<tool_call>", "</tool_call>")
    cases = (
        # The four cases of every format: one call, two calls, no arguments, no arguments and then some.
        CallCase(text=_PARIS, calls=[_IN_PARIS]),
        CallCase(text=f"{_PARIS}\n{_PARIS}", calls=[_IN_PARIS, _IN_PARIS]),
        CallCase(text=_NOW, calls=[("now", {})]),
        CallCase(text=f"{_NOW}\n{_PARIS}", calls=[("now", {}), _IN_PARIS]),
        # Text around calls.
        CallCase(text="no call at all", content="no call at all"),
        CallCase(text=f"Let me see.\n{_NOW}", content="Let me see.", calls=[("now", {})]),
        CallCase(text=f"Before.\n{_NOW}\nAfter. ", content="Before.\nAfter. ", calls=[("now", {})]),
        CallCase(text=f"\n\n{_NOW}\n\n", calls=[("now", {})]),
        CallCase(text=f"A\n{_NOW}\nB\n{_NOW}\n", content="A\nB", calls=[("now", {})] * 2),
        # What the suite's own calls do not write: other orders, other keys, encoded arguments.
        CallCase(
            text='<tool_call>{"arguments": {"a": [1, {"b": null}]}, "name": "f"}</tool_call>',
            calls=[("f", {"a": [1, {"b": None}]})],
        ),
        CallCase(text='<tool_call>{"name": "f", "parameters": {"x": 1}}</tool_call>', calls=[("f", {"x": 1})]),
        CallCase(text='<tool_call>{"name": "f"}</tool_call>', calls=[("f", {})]),
        CallCase(text='<tool_call>{"name": "f", "arguments": null}</tool_call>', calls=[("f", {})]),
        CallCase(
            text='<tool_call>{"id": 7, "name": "f", "arguments": {"q": "\\u00e9"}, "x": []}</tool_call>',
            calls=[("f", {"q": "é"})],
        ),
        CallCase(text='<tool_call>{"name": "f", "arguments": "{\\"a\\": 1}"}</tool_call>', calls=[("f", {"a": 1})]),
        CallCase(text='<tool_call>{"name": "größe", "arguments": {}}</tool_call>', calls=[("größe", {})]),
        CallCase(text='<tool_call>{"name": "f", "arguments": {"s": "a\nb"}}</tool_call>', calls=[("f", {"s": "a\nb"})]),
        CallCase(
            text='<tool_call>{"name": "f", "name": "g", "arguments": {"a": 1}}</tool_call>', calls=[("f", {"a": 1})]
        ),
        # Endings.
        CallCase(text='<tool_call>\n{"name": "now", "arguments": {}\n</tool_call>', calls=[("now", {})]),
        CallCase(text=f'<tool_call>\n{{"name": "now", "arguments": {{}}}}\n{_PARIS}', calls=[("now", {}), _IN_PARIS]),
        # A call is told once its arguments begin; where they break off, the rest is content.
        CallCase(
            text='<tool_call>\n{"name": "f", "arguments": {"a": }}\n</tool_call>',
            content="}}\n</tool_call>",
            calls=[("f", {})],
            incomplete=True,
        ),
        CallCase(text='<tool_call>{"name": "f", "arguments": {"city": "Par', calls=[("f", {})], incomplete=True),
        # A function that the request does not list is the caller's to refuse.
        CallCase(text='<tool_call>{"name": "rm_rf", "arguments": {}}</tool_call>', calls=[("rm_rf", {})]),
        *(CallCase(text=text, content=text) for text in _NO_CALLS),
    )

    @classmethod
    def render(cls, name: str, arguments: Mapping[str, Any]) -> str:
        body = json.dumps({"name": name, "arguments": arguments}, ensure_ascii=len(name) % 2 == 0)
        return f"<tool_call>\n{body}\n</tool_call>"
