"""Qwen25Parser: the tool calls of Qwen2.5 and Qwen3."""

from __future__ import annotations

from hookline_parsers.function_call.tagged_json import TaggedJsonParser


class Qwen25Parser(TaggedJsonParser):
    """``<tool_call>\\n{"name": "f", "arguments": {...}}\\n</tool_call>``, repeated."""

    open_tag = "<tool_call>"
    close_tag = "</tool_call>"
    arguments_keys = ("arguments", "parameters")
