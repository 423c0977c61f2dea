"""Calls of a conversation, rendered by a checkpoint's own chat template, are read back.

The other formats are rendered by templates of ours, in ``test_formats``: their checkpoints are not here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from hookline.frontend.chat_template import ChatTemplates
from hookline.testkit.parser_answers import join_calls, strict_json
from tests.parsers.cases import CASE_TOOLS, LogicalCase, logical_cases
from tests.parsers.formats import parser_class
from training.template import CHECKPOINT

_USER = {"role": "user", "content": "Do it."}
_CASES = [case for case in logical_cases(["<tool_call>", "</tool_call>"]) if case.calls and not case.reasoning]


def _messages(calls: Sequence[tuple[str, Mapping[str, Any]]]) -> list[dict[str, Any]]:
    wire = [
        {"id": f"functions.{name}:{at}", "type": "function", "function": {"name": name, "arguments": arguments}}
        for at, (name, arguments) in enumerate(calls)
    ]
    return [_USER, {"role": "assistant", "content": "", "tool_calls": wire}]


def _read(parser: str, text: str) -> list[tuple[str, Any]]:
    reader = parser_class(parser)(CASE_TOOLS)
    found = join_calls([reader.feed(text), reader.finish()])
    assert not found.incomplete
    assert found.content.strip() == ""
    return [(name, strict_json(arguments)) for name, arguments in found.calls]


@pytest.mark.parametrize("case", _CASES, ids=lambda case: case.name)
def test_the_template_of_the_demo(case: LogicalCase) -> None:
    template = ChatTemplates.load(CHECKPOINT, special_tokens={}).choose(with_tools=True)
    prompt = template.render(_messages(case.calls), tools=CASE_TOOLS, add_generation_prompt=False)
    answer = prompt.rpartition("<|im_start|>assistant\n")[2].partition("<|im_end|>")[0]
    assert _read("qwen25", answer.rpartition("</think>")[2]) == case.calls
