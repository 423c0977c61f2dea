"""Calls as JSON objects between tags: Qwen2.5, Qwen3, Hermes."""

from __future__ import annotations

from hookline.formats.description import Block, CallFormat, JsonCall, WrittenCalls
from hookline.formats.parsers import DescribedCallParser


class Qwen25Parser(DescribedCallParser):
    """``<tool_call>\\n{"name": "f", "arguments": {...}}\\n</tool_call>``, repeated.

    The chat templates at https://huggingface.co/Qwen/Qwen2.5-7B-Instruct, /Qwen/Qwen3-8B and
    /NousResearch/Hermes-3-Llama-3.1-8B, whose card calls it the Hermes format.
    """

    form = CallFormat(
        blocks=(Block(open=("<tool_call>",), call=JsonCall(), close=("</tool_call>",)),),
        written=WrittenCalls(
            call_open='<tool_call>\n{"name": "{name}", "arguments": ', call_close="}\n</tool_call>", separator="\n"
        ),
    )
