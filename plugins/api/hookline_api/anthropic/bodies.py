"""Request bodies of the Messages API."""

from __future__ import annotations

import json
from typing import Any

from hookline.api.bodies import RequestBody
from hookline.errors import RequestError


class Thinking(RequestBody):
    """``thinking``."""

    type: str
    budget_tokens: int | None = None


class OutputConfig(RequestBody):
    """``output_config``."""

    #: Goes to the chat template as ``reasoning_effort``.
    effort: str | None = None
    #: ``{"type": "json_schema", "schema": {...}}``.
    format: dict[str, Any] | None = None

    def schema_text(self) -> str | None:
        """The JSON schema that constrains the output, as text. Raises ``RequestError`` for other formats."""
        if self.format is None:
            return None
        schema = self.format.get("schema")
        if self.format.get("type") != "json_schema" or not isinstance(schema, (dict, bool)):
            raise RequestError(
                "output_config.format must be {'type': 'json_schema', 'schema': {...}}", param="output_config"
            )
        return json.dumps(schema)


class ConversationBody(RequestBody):
    """What messages and the counting of their tokens share. Messages, system and tools stay as they came."""

    model: str
    messages: list[dict[str, Any]]
    system: str | list[dict[str, Any]] | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: dict[str, Any] | None = None
    thinking: Thinking | None = None
    output_config: OutputConfig | None = None
    #: Taken without effect: prefixes are cached by themselves.
    cache_control: dict[str, Any] | None = None

    # Extensions.
    chat_template_kwargs: dict[str, Any] | None = None
    mm_processor_kwargs: dict[str, Any] | None = None

    @property
    def is_thinking(self) -> bool:
        """Whether the model is to think first. Raises ``RequestError`` for a type that is not known."""
        if self.thinking is None or self.thinking.type == "disabled":
            return False
        if self.thinking.type not in ("enabled", "adaptive"):
            raise RequestError(
                f"thinking.type must be 'enabled', 'adaptive' or 'disabled', not {self.thinking.type!r:.40}",
                param="thinking",
            )
        return True

    def template_kwargs(self) -> dict[str, Any]:
        """What the chat template gets besides messages and tools. Templates call the switch by two names."""
        effort = self.output_config.effort if self.output_config is not None else None
        return {
            "enable_thinking": self.is_thinking,
            "thinking": self.is_thinking,
            **({} if effort is None else {"reasoning_effort": effort}),
            **(self.chat_template_kwargs or {}),
        }


class MessagesBody(ConversationBody):
    """``/v1/messages``."""

    max_tokens: int
    stream: bool | None = None
    stop_sequences: list[str] | None = None
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    #: Taken without effect: they describe the caller, not the answer.
    metadata: dict[str, Any] | None = None
    service_tier: str | None = None

    # Extensions.
    seed: int | None = None
    priority: int = 0
    cache_salt: str = ""
    extra_key: str = ""

    def sampling_overrides(self) -> dict[str, Any]:
        """The sampling parameters that the request sets. Raises ``RequestError`` for bad ones."""
        if self.max_tokens < 1:
            raise RequestError(f"max_tokens must be an integer at least 1, not {self.max_tokens}", param="max_tokens")
        values = {
            "max_new_tokens": self.max_tokens,
            "temperature": self.temperature,
            "top_k": self.top_k,
            "top_p": self.top_p,
            "stop": self.stop_sequences,
            "seed": self.seed,
            "json_schema": self.output_config.schema_text() if self.output_config is not None else None,
        }
        return {name: value for name, value in values.items() if value is not None}

    def thinking_tokens(self) -> int | None:
        """How many tokens of thinking are allowed, if the request bounds them. Raises ``RequestError`` for a bound
        that is none."""
        if self.thinking is None or not self.is_thinking:
            return None
        budget = self.thinking.budget_tokens
        if budget is None and self.thinking.type == "adaptive":
            return None
        if budget is None or not 1 <= budget < self.max_tokens:
            raise RequestError(
                f"thinking.budget_tokens must be at least 1 and less than max_tokens ({self.max_tokens}), not {budget}",
                param="thinking",
            )
        return budget
