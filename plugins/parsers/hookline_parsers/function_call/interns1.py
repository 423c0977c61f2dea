"""Calls of Intern-S1 and InternLM2.5."""

from __future__ import annotations

from hookline.formats.description import Block, CallFormat, JsonCall, WrittenCalls
from hookline.formats.parsers import DescribedCallParser


class InternS1Parser(DescribedCallParser):
    """``<|action_start|> <|plugin|>\\n{"name": "f", "parameters": {...}}<|action_end|>``.

    The tool sections of the chat template at https://huggingface.co/internlm/Intern-S1 and of
    https://github.com/InternLM/InternLM/blob/main/chat/chat_format.md.
    """

    form = CallFormat(
        blocks=(
            Block(
                open=("<|action_start|> <|plugin|>", "<|action_start|><|plugin|>"),
                call=JsonCall(arguments_keys=("parameters", "arguments")),
                close=("<|action_end|>",),
            ),
        ),
        written=WrittenCalls(
            call_open='<|action_start|> <|plugin|>\n{"name": "{name}", "parameters": ',
            call_close="}<|action_end|>",
            trigger="<|action_start|> <|plugin|>",
            separator="\n",
        ),
    )
