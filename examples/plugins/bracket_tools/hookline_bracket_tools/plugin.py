"""Table of contents: what hookline-bracket-tools offers. Imports neither torch nor any implementation."""

from __future__ import annotations

from hookline import hookimpl
from hookline.interfaces.parsers import FunctionCallParserSpec
from hookline.interfaces.spec import PluginInfo

PLUGIN = PluginInfo(
    name="bracket-tools",
    provides=("function_call_parsers",),
    summary="calls in double brackets",
)


@hookimpl
def hookline_function_call_parsers() -> list[FunctionCallParserSpec]:
    return [
        FunctionCallParserSpec(
            name="bracket-tools",
            target="hookline_bracket_tools.parser:BracketCallParser",
            template_markers=("[[call ", "]]"),
            summary="[[call name {...}]], arguments streamed",
        )
    ]
