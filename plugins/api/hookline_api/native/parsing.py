"""``/parse_function_call`` and ``/separate_reasoning``: the parsers that serve, applied to a text that is there."""

from __future__ import annotations

from typing import Any

from hookline.errors import RequestError
from hookline.interfaces.api import OutputParser, RenderedChat, Serving
from hookline.interfaces.parsers import FunctionCallDelta, ReasoningDelta
from hookline_api.chat.tools import read_tools
from hookline_api.native.bodies import ParseFunctionCallBody, SeparateReasoningBody


def parse_function_call(serving: Serving, body: ParseFunctionCallBody) -> dict[str, Any]:
    """The calls in a text, and the text around them. Raises ``RequestError`` for bad tools, and where no parser, or
    another one, serves."""
    _check_parser(serving, "function_call_parsers", "tool_call_parser", body.tool_call_parser)
    wish = read_tools(body.tools, "auto", None)
    parser = serving.output_parser(RenderedChat(prompt="", input_ids=[]), tools=wish.tools, separate_reasoning=False)
    found = _parsed(parser, body.text)
    calls: list[dict[str, Any]] = []
    for piece in (piece for _, rest in found for piece in rest.calls):
        if piece.name is not None:
            calls.append({"tool_index": piece.index, "name": piece.name, "parameters": piece.arguments})
        else:
            calls[piece.index]["parameters"] += piece.arguments
    return {"normal_text": "".join(rest.content for _, rest in found), "calls": calls}


def separate_reasoning(serving: Serving, body: SeparateReasoningBody) -> dict[str, Any]:
    """The reasoning in a text, and the rest. Raises ``RequestError`` where no parser, or another one, serves."""
    _check_parser(serving, "reasoning_parsers", "reasoning_parser", body.reasoning_parser)
    rendered = RenderedChat(prompt=body.prompt_tail, input_ids=[])
    parser = serving.output_parser(rendered, template_kwargs=body.chat_template_kwargs)
    found = _parsed(parser, body.text)
    return {
        "reasoning_text": "".join(first.reasoning for first, _ in found),
        "text": "".join(rest.content for _, rest in found),
    }


def _parsed(parser: OutputParser, text: str) -> list[tuple[ReasoningDelta, FunctionCallDelta]]:
    return [parser.feed(text), parser.finish()]


def _check_parser(serving: Serving, kind: str, setting: str, wanted: str | None) -> None:
    """The server loads one parser of each kind, at its start."""
    served = [spec["name"] for spec in serving.plugin_report().get("chosen", ()) if spec["kind"] == kind]
    if not served:
        raise RequestError(f"this server has no {setting}; start it with output.{setting} set to one", param=setting)
    if wanted is not None and wanted not in served:
        raise RequestError(
            f"this server's {setting} is '{served[0]}', not {wanted!r:.80}; leave {setting} out, or start a server "
            "with that one",
            param=setting,
        )
