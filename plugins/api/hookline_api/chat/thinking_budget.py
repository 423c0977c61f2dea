"""A bound on reasoning tokens, by the logits processor ``thinking_budget`` where one is installed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hookline.interfaces.api import RenderedChat, Serving

_PROCESSOR = "thinking_budget"
#: What models write around their reasoning. The parser that serves is asked which of these it knows.
_MARKERS = (("<think>", "</think>"), ("◁think▷", "◁/think▷"))


async def thinking_budget(
    serving: Serving, max_tokens: int, template_kwargs: Mapping[str, Any]
) -> dict[str, Any] | None:
    """``logits_processors`` that end the reasoning after ``max_tokens`` tokens.

    ``None`` if nothing here can: no processor of that name, or no known marker that ends the reasoning.
    """
    if not has_thinking_budget(serving):
        return None
    for start, end in _MARKERS:
        if not _is_known(serving, start, end, template_kwargs):
            continue
        start_ids = await serving.tokenize(start, add_special_tokens=False)
        end_ids = await serving.tokenize(end, add_special_tokens=False)
        wish = {"max_tokens": max_tokens, "start_token_ids": start_ids, "end_token_ids": end_ids}
        return {_PROCESSOR: wish}
    return None


def has_thinking_budget(serving: Serving) -> bool:
    """Whether the server has the processor."""
    chosen = serving.plugin_report().get("chosen", ())
    return any(spec["kind"] == "logits_processors" and spec["name"] == _PROCESSOR for spec in chosen)


def _is_known(serving: Serving, start: str, end: str, template_kwargs: Mapping[str, Any]) -> bool:
    parser = serving.output_parser(RenderedChat(prompt="", input_ids=[]), template_kwargs=template_kwargs)
    found = [parser.feed(f"{start}a{end}b"), parser.finish()]
    reasoning = "".join(first.reasoning for first, _ in found)
    content = "".join(rest.content for _, rest in found)
    return (reasoning, content) == ("a", "b")
