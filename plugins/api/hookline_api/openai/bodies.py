"""Request bodies of the OpenAI API, with the extension fields that SGLang and vLLM brought into use."""

from __future__ import annotations

import json
from typing import Any, ClassVar

from hookline.api.bodies import RequestBody
from hookline.errors import RequestError
from hookline_api.chat.thinking import effort_kwargs
from hookline_api.prompts import PromptField

#: Fields that go to the sampler under their own names.
_SAMPLING_FIELDS = (
    "temperature",
    "top_p",
    "n",
    "stop",
    "seed",
    "presence_penalty",
    "frequency_penalty",
    "logit_bias",
    "top_k",
    "min_p",
    "repetition_penalty",
    "stop_token_ids",
    "stop_regex",
    "ignore_eos",
    "skip_special_tokens",
    "spaces_between_special_tokens",
    "no_stop_trim",
    "regex",
    "ebnf",
    "structural_tag",
    "stream_interval",
    "max_thinking_tokens",
    "logits_processors",
)


class StreamOptions(RequestBody):
    """``stream_options``."""

    #: One more chunk with the usage at the end.
    include_usage: bool = False
    #: The usage so far in every chunk.
    continuous_usage_stats: bool = False


class ResponseFormat(RequestBody):
    """``response_format``."""

    type: str
    json_schema: dict[str, Any] | None = None


class CommonBody(RequestBody):
    """What chat and completions share. ``None`` means "not given"."""

    #: Fields with a number of output tokens; of those that mean one thing the last wins.
    _limit_fields: ClassVar[tuple[str, ...]] = ("min_tokens", "max_tokens")

    model: str | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    temperature: float | None = None
    top_p: float | None = None
    n: int | None = None
    stop: str | list[str] | None = None
    seed: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logit_bias: dict[str, float] | None = None
    max_tokens: int | None = None
    response_format: ResponseFormat | None = None
    #: Taken without effect: they describe the caller, not the answer.
    user: str | None = None
    safety_identifier: str | None = None
    metadata: dict[str, Any] | None = None

    # Extensions.
    top_k: int | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    min_tokens: int | None = None
    stop_token_ids: list[int] | None = None
    stop_regex: str | list[str] | None = None
    ignore_eos: bool | None = None
    skip_special_tokens: bool | None = None
    spaces_between_special_tokens: bool | None = None
    no_stop_trim: bool | None = None
    json_schema: str | dict[str, Any] | bool | None = None
    regex: str | None = None
    ebnf: str | None = None
    structural_tag: str | None = None
    stream_interval: int | None = None
    max_thinking_tokens: int | None = None
    logits_processors: dict[str, Any] | None = None
    rid: str | None = None
    priority: int = 0
    cache_salt: str = ""
    extra_key: str = ""

    def sampling_overrides(self) -> dict[str, Any]:
        """The sampling parameters that the request sets. Raises ``RequestError`` for conflicting ones."""
        values = {name: value for name in _SAMPLING_FIELDS if (value := getattr(self, name)) is not None}
        for name in self._limit_fields:
            limit = getattr(self, name)
            if limit is not None and limit < 0:
                # The sampler would complain of a name that this API does not have.
                raise RequestError(f"{name} must be an integer at least 0, not {limit}", param=name)
            if limit is not None:
                values["min_new_tokens" if name == "min_tokens" else "max_new_tokens"] = limit
        schemas = [
            schema for schema in (self._schema_of_format(), _schema_text(self.json_schema)) if schema is not None
        ]
        if len(schemas) > 1:
            raise RequestError("give json_schema or response_format, not both", param="json_schema")
        if schemas:
            values["json_schema"] = schemas[0]
        return values

    def check_streaming(self) -> None:
        """Raises ``RequestError`` if options of streams are set for an answer in one piece."""
        if self.stream_options is not None and not self.stream:
            raise RequestError("stream_options needs stream", param="stream_options")

    @property
    def num_choices(self) -> int:
        """Choices for one prompt."""
        return 1 if self.n is None else self.n

    def _schema_of_format(self) -> str | None:
        wish = self.response_format
        if wish is None or wish.type == "text":
            return None
        if wish.type == "json_object":
            return '{"type": "object"}'
        if wish.type != "json_schema":
            raise RequestError(
                f"response_format.type must be 'text', 'json_object' or 'json_schema', not {wish.type!r:.40}",
                param="response_format",
            )
        schema = (wish.json_schema or {}).get("schema")
        if not isinstance(schema, (dict, bool)):
            raise RequestError(
                "response_format of type 'json_schema' needs json_schema.schema, an object", param="response_format"
            )
        return json.dumps(schema)


class CompletionBody(CommonBody):
    """``/v1/completions``."""

    prompt: PromptField
    echo: bool = False
    logprobs: int | None = None
    best_of: int | None = None
    suffix: str | None = None


class ChatBody(CommonBody):
    """``/v1/chat/completions``. Messages and tools stay as they came: the chat template reads them."""

    _limit_fields: ClassVar[tuple[str, ...]] = ("min_tokens", "max_tokens", "max_completion_tokens")

    messages: list[dict[str, Any]]
    max_completion_tokens: int | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    #: Goes to the chat template, as ``chat_template_kwargs`` do; "none" turns thinking off.
    reasoning_effort: str | None = None

    # Extensions.
    chat_template_kwargs: dict[str, Any] | None = None
    add_generation_prompt: bool | None = None
    continue_final_message: bool = False
    separate_reasoning: bool = True
    #: How pictures and videos are processed: min_pixels, max_pixels, fps, num_frames.
    mm_processor_kwargs: dict[str, Any] | None = None

    def template_kwargs(self) -> dict[str, Any]:
        """What the chat template gets besides messages and tools."""
        return {**effort_kwargs(self.reasoning_effort), **(self.chat_template_kwargs or {})}


class EmbeddingBody(RequestBody):
    """``/v1/embeddings``."""

    input: PromptField
    model: str | None = None
    encoding_format: str = "float"
    dimensions: int | None = None
    user: str | None = None

    # Extensions.
    rid: str | None = None
    priority: int = 0
    cache_salt: str = ""
    extra_key: str = ""


def _schema_text(schema: str | dict[str, Any] | bool | None) -> str | None:
    return schema if schema is None or isinstance(schema, str) else json.dumps(schema)
