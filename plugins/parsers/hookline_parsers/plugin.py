"""Table of contents of hookline-parsers: what it offers. Imports neither torch nor any implementation."""

from __future__ import annotations

from hookline import hookimpl
from hookline.interfaces.parsers import FunctionCallParserSpec, ReasoningParserSpec
from hookline.interfaces.spec import PluginInfo

PLUGIN = PluginInfo(
    name="parsers",
    provides=("reasoning_parsers", "function_call_parsers"),
    summary="reasoning and tool-call formats",
)


@hookimpl
def hookline_reasoning_parsers() -> list[ReasoningParserSpec]:
    """Reasoning formats, each named for what marks it in the text."""
    return [
        ReasoningParserSpec(
            name="think",
            target="hookline_parsers.reasoning.think:ThinkParser",
            template_markers=("<think>", "</think>"),
            summary="<think>...</think>, written by the model or opened by the chat template",
        )
    ]


@hookimpl
def hookline_function_call_parsers() -> list[FunctionCallParserSpec]:
    """Tool-call formats, each named for the model family that brought it."""
    return [
        FunctionCallParserSpec(
            name="qwen25",
            target="hookline_parsers.function_call.qwen25:Qwen25Parser",
            # A template may write the quotes as \" inside a Jinja string.
            template_markers=("<tool_call>", '"name', '"arguments'),
            summary='<tool_call>{"name", "arguments"}</tool_call>, as Qwen2.5 and Qwen3 write it',
        )
    ]
