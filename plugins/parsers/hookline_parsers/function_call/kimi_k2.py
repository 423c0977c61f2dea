"""Calls of Kimi K2."""

from __future__ import annotations

from hookline.formats.description import Block, CallFormat, JsonArguments, NamedCall, WrittenCalls
from hookline.formats.parsers import DescribedCallParser


class KimiK2Parser(DescribedCallParser):
    """``<|tool_calls_section_begin|><|tool_call_begin|>functions.f:0<|tool_call_argument_begin|>{...}<|tool_call_end|>``
    and more calls, then ``<|tool_calls_section_end|>``.

    https://huggingface.co/moonshotai/Kimi-K2-Instruct/blob/main/docs/tool_call_guidance.md.
    """

    form = CallFormat(
        blocks=(
            Block(
                open=("<|tool_calls_section_begin|>",),
                call=NamedCall(
                    open=("<|tool_call_begin|>",),
                    name=r"(?:functions\.)?(?P<name>[\w.\-]+?)(?::\d+)?",
                    name_end=("<|tool_call_argument_begin|>",),
                    arguments=JsonArguments(),
                    close=("<|tool_call_end|>",),
                ),
                close=("<|tool_calls_section_end|>",),
            ),
        ),
        written=WrittenCalls(
            open="<|tool_calls_section_begin|>",
            call_open="<|tool_call_begin|>functions.{name}:{index}<|tool_call_argument_begin|>",
            call_close="<|tool_call_end|>",
            close="<|tool_calls_section_end|>",
        ),
    )
