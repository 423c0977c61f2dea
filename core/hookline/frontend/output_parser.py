"""The output parser of one choice: the chosen reasoning parser, then the chosen function-call parser."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hookline.interfaces.api import RenderedChat
from hookline.interfaces.parsers import (
    FunctionCallDelta,
    FunctionCallParser,
    ReasoningDelta,
    ReasoningParser,
    UnknownFunctions,
)
from hookline.plugins.plan import PluginPlan


class ComposedOutputParser:
    """Feeds reasoning-free text to the function-call parser; either parser may be absent."""

    def __init__(self, reasoning: ReasoningParser | None, calls: FunctionCallParser | None) -> None:
        self._reasoning = reasoning
        self._calls = calls

    def feed(self, text: str) -> tuple[ReasoningDelta, FunctionCallDelta]:
        """Split the next piece of output."""
        split = ReasoningDelta(content=text) if self._reasoning is None else self._reasoning.feed(text)
        return ReasoningDelta(reasoning=split.reasoning), self._find_calls(split.content)

    def finish(self) -> tuple[ReasoningDelta, FunctionCallDelta]:
        """Give what the parsers held back, as one piece."""
        split = ReasoningDelta() if self._reasoning is None else self._reasoning.finish()
        found = self._find_calls(split.content)
        if self._calls is not None:
            rest = self._calls.finish()
            found = FunctionCallDelta(
                content=found.content + rest.content,
                calls=[*found.calls, *rest.calls],
                incomplete=found.incomplete or rest.incomplete,
            )
        return ReasoningDelta(reasoning=split.reasoning), found

    def _find_calls(self, content: str) -> FunctionCallDelta:
        if self._calls is None or not content:
            return FunctionCallDelta(content=content)
        return self._calls.feed(content)


def build_output_parser(
    plan: PluginPlan,
    rendered: RenderedChat,
    *,
    tools: Sequence[Mapping[str, Any]] = (),
    template_kwargs: Mapping[str, Any] | None = None,
    separate_reasoning: bool = True,
    unknown_functions: UnknownFunctions = "call",
) -> ComposedOutputParser:
    """The parsers that the plan chose, for one choice.

    Without ``tools`` text that looks like a call stays text. Without ``separate_reasoning`` reasoning
    stays part of the content, and calls are still found. Raises ``PluginError`` if a parser does not load.
    """
    reasoning: ReasoningParser | None = None
    calls: FunctionCallParser | None = None
    chosen = plan.of_kind("reasoning_parsers")
    if chosen and separate_reasoning:
        reasoning = plan.load(chosen[0])(rendered.reasoning_context(template_kwargs))
    chosen = plan.of_kind("function_call_parsers")
    if chosen and tools:
        calls = plan.load(chosen[0])(tools, unknown_functions=unknown_functions)
    return ComposedOutputParser(reasoning, calls)
