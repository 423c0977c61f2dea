"""Request bodies of the Responses API."""

from __future__ import annotations

import json
from typing import Any

import orjson

from hookline.api.bodies import RequestBody
from hookline.errors import RequestError
from hookline_api.chat.thinking import effort_kwargs
from hookline_api.openai.logprobs import MAX_TOP_LOGPROBS

_LOGPROBS = "message.output_text.logprobs"
#: What ``include`` may hold. Reasoning comes in plain text anyway.
_INCLUDABLE = (_LOGPROBS, "reasoning.encrypted_content")
#: Fields that are kept, or told again in the response.
_ECHOED = ("input", "tools", "tool_choice", "text")
_SAMPLING_FIELDS = (
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "seed",
    "stop",
    "presence_penalty",
    "frequency_penalty",
    "repetition_penalty",
)


class Reasoning(RequestBody):
    """``reasoning``."""

    #: Goes to the chat template; "none" turns thinking off.
    effort: str | None = None


class TextOptions(RequestBody):
    """``text``."""

    format: dict[str, Any] | None = None


class StreamOptions(RequestBody):
    """``stream_options``."""

    #: Taken without effect: nothing here is padded.
    include_obfuscation: bool | None = None


class ResponsesBody(RequestBody):
    """``/v1/responses``. Items and tools stay as they came. ``None`` means "not given"."""

    input: str | list[dict[str, Any]]
    model: str | None = None
    instructions: str | None = None
    previous_response_id: str | None = None
    store: bool | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_output_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    text: TextOptions | None = None
    reasoning: Reasoning | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    include: list[str] | None = None
    top_logprobs: int | None = None
    metadata: dict[str, str] | None = None
    truncation: str | None = None
    background: bool | None = None
    conversation: Any = None
    prompt: Any = None
    #: Taken without effect: they describe the caller, or what caches itself here.
    user: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    service_tier: str | None = None

    # Extensions.
    top_k: int | None = None
    min_p: float | None = None
    seed: int | None = None
    stop: str | list[str] | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    repetition_penalty: float | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    max_thinking_tokens: int | None = None
    mm_processor_kwargs: dict[str, Any] | None = None
    priority: int = 0
    cache_salt: str = ""
    extra_key: str = ""

    def check(self) -> None:
        """Raises ``RequestError`` for what this server does not do, and for bad values."""
        if self.background:
            raise RequestError("background is not supported; leave it out and stream, or wait", param="background")
        for name, instead in (("conversation", "previous_response_id"), ("prompt", "instructions and input")):
            if getattr(self, name) is not None:
                raise RequestError(f"{name} is not supported; use {instead}", param=name)
        if self.truncation not in (None, "disabled"):
            raise RequestError(
                f"truncation must be 'disabled', not {self.truncation!r:.40}: this server drops nothing of an input",
                param="truncation",
            )
        if self.max_output_tokens is not None and self.max_output_tokens < 1:
            raise RequestError(
                f"max_output_tokens must be an integer at least 1, not {self.max_output_tokens}",
                param="max_output_tokens",
            )
        for name in self.include or ():
            if name not in _INCLUDABLE:
                raise RequestError(f"include knows {' and '.join(_INCLUDABLE)}, not {name!r:.80}", param="include")
        top = self.top_logprobs
        if top is not None and not 0 <= top <= MAX_TOP_LOGPROBS:
            raise RequestError(f"top_logprobs must be from 0 to {MAX_TOP_LOGPROBS}, not {top}", param="top_logprobs")
        if self.stream_options is not None and not self.stream:
            raise RequestError("stream_options needs stream", param="stream_options")
        for name in _ECHOED:
            try:
                orjson.dumps(getattr(self, name), default=RequestBody.model_dump)
            except TypeError as exc:
                # Python reads numbers and depths that could not be written into the answer again.
                raise RequestError(f"{name} holds what an answer cannot repeat: {exc}", param=name) from exc

    @property
    def with_logprobs(self) -> bool:
        """Whether output text comes with log-probabilities."""
        return _LOGPROBS in (self.include or ()) or bool(self.top_logprobs)

    def text_format(self) -> dict[str, Any]:
        """``text.format``, the default filled in."""
        wish = self.text.format if self.text is not None else None
        return {"type": "text"} if wish is None else wish

    def sampling_overrides(self) -> dict[str, Any]:
        """The sampling parameters that the request sets. Raises ``RequestError`` for a bad format."""
        values = {name: value for name in _SAMPLING_FIELDS if (value := getattr(self, name)) is not None}
        if self.max_output_tokens is not None:
            values["max_new_tokens"] = self.max_output_tokens
        schema = self._schema_text()
        if schema is not None:
            values["json_schema"] = schema
        return values

    @property
    def effort(self) -> str | None:
        """``reasoning.effort``."""
        return self.reasoning.effort if self.reasoning is not None else None

    def template_kwargs(self) -> dict[str, Any]:
        """What the chat template gets besides messages and tools."""
        return {**effort_kwargs(self.effort), **(self.chat_template_kwargs or {})}

    def _schema_text(self) -> str | None:
        wish = self.text_format()
        kind = wish.get("type")
        if kind == "text":
            return None
        if kind == "json_object":
            return '{"type": "object"}'
        if kind != "json_schema":
            raise RequestError(
                f"text.format.type must be 'text', 'json_object' or 'json_schema', not {kind!r:.40}", param="text"
            )
        if not isinstance(wish.get("schema"), (dict, bool)):
            raise RequestError("text.format of type 'json_schema' needs a schema, an object", param="text")
        return json.dumps(wish["schema"])
