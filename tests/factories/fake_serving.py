"""The testkit's fake engine with the shipped families and parsers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI

from hookline.interfaces.parsers import FunctionCallParser, ReasoningParser
from hookline.testkit import in_process
from hookline.testkit.fake_serving import FakeServing

FAMILIES = ("native", "openai", "responses", "anthropic")


@dataclass(slots=True)
class ChatServing(FakeServing):
    """Knows the shipped formats of reasoning and tool calls."""

    reasoning_parser: str | type[ReasoningParser] | None = "think"
    function_call_parser: str | type[FunctionCallParser] | None = "qwen25"


def make_app(serving: FakeServing | None = None, **server: Any) -> FastAPI:
    """The whole application over ``serving`` with all shipped families; ``server`` sets ``config.server``."""
    return in_process.make_app(FAMILIES, serving, **server)
